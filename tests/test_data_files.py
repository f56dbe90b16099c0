"""Data files and what `initbench data` does with them."""

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from training_support import arrays

from initbench.data import files, manage
from initbench.errors import ConfigError, DataError, StorageError
from initbench.question.data_folder import data_folder


def test_the_data_folder_is_the_one_given_then_the_environment_then_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path / "env"))
    assert data_folder(tmp_path / "given") == tmp_path / "given"
    assert data_folder(None) == tmp_path / "env"
    monkeypatch.delenv("INITBENCH_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert data_folder(None) == tmp_path / "own" / "initbench"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x_train": np.zeros((20, 6, 5), np.float32)}, "x_train .* is float32. Images are uint8"),
        ({"x_train": np.zeros((20, 30), np.uint8)}, r"has shape \(20, 30\). Images are"),
        ({"x_train": np.zeros((20, 3, 6, 5), np.uint8)}, "height, width, channels"),
        ({"x_test": np.zeros((10, 7, 5), np.uint8)}, r"training images \(6, 5\) and test images \(7, 5\)"),
        ({"y_train": np.arange(19) % 3}, r"y_train .* has shape \(19,\), but there are 20 images"),
        ({"y_train": np.ones(20)}, "y_train .* is float64. Labels are whole numbers"),
        ({"y_test": np.full(10, 3)}, "labels 3 to 3. Labels are 0 to classes - 1"),
        ({"y_test": np.full(10, -1)}, "labels -1 to -1"),
        ({"y_train": np.arange(20) % 2 * 2}, "No training image of .* has label 1"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused_with_what_is_wrong(change, says):
    with pytest.raises(DataError, match=says):
        files.check_arrays({**arrays(), **change}, "mine.npz")


def test_labels_of_keras_become_a_vector_of_int64():
    given = arrays()
    given["y_train"] = given["y_train"].astype(np.uint8)[:, None]
    labels = files.check_arrays(given, "mine.npz")["y_train"]
    assert labels.shape == (20,)
    assert labels.dtype == np.int64


def test_a_missing_array_is_named(tmp_path):
    given = arrays()
    del given["y_test"]
    np.savez(tmp_path / "mine.npz", **given)
    with pytest.raises(DataError, match=r"has no y_test"):
        files.read_arrays(tmp_path / "mine.npz")


def test_an_import_is_copied_checked_and_recorded(tmp_path):
    np.savez_compressed(tmp_path / "elsewhere.npz", **arrays())
    record = manage.import_file(tmp_path / "elsewhere.npz", tmp_path / "data", "mine")
    assert record.origin == "imported"
    assert (record.train_images, record.test_images, record.classes, record.shape) == (20, 10, 3, (1, 6, 5))
    assert files.read_record(tmp_path / "data" / "mine.npz") == record
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["mine.npz", "mine.npz.json"]


def test_an_import_under_a_bad_name_is_refused(tmp_path):
    np.savez(tmp_path / "elsewhere.npz", **arrays())
    with pytest.raises(DataError, match=r"'../mine' is no name"):
        manage.import_file(tmp_path / "elsewhere.npz", tmp_path / "data", "../mine")


def test_an_import_does_not_hide_behind_the_name_of_another_dataset(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays())
    with pytest.raises(DataError, match=r"'mnist5k' is a dataset of initbench's own. Choose another name with --name"):
        manage.import_file(tmp_path / "mine.npz", tmp_path, "mnist5k")
    manage.import_file(tmp_path / "mine.npz", tmp_path, "mnist")


def test_large_images_are_mapped_not_read(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays())
    read = files.read_arrays(tmp_path / "mine.npz")
    assert isinstance(read["x_train"], np.memmap)
    assert np.array_equal(read["x_train"], arrays()["x_train"])


def test_writing_to_mapped_images_leaves_the_file_alone(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays())
    files.read_arrays(tmp_path / "mine.npz")["x_train"][:] = 0
    assert np.array_equal(np.load(tmp_path / "mine.npz")["x_train"], arrays()["x_train"])


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    for name in ("first.npz", "second.npz"):
        manage.write_file(tmp_path / name, arrays(), "imported", compressed=True)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


@pytest.mark.parametrize("cut", [0, 10, 700])
def test_a_truncated_file_is_named_when_it_is_loaded_and_when_it_is_verified(tmp_path, cut):
    manage.write_file(tmp_path / "mine.npz", arrays(), "imported")
    os.truncate(tmp_path / "mine.npz", cut)
    with pytest.raises(DataError, match=r"mine.npz is damaged"):
        files.load_file(tmp_path / "mine.npz")
    (status,) = manage.verify(tmp_path, ("mine",))
    assert "damaged" in status.problem


def test_one_changed_byte_is_found_by_verify(tmp_path):
    path = tmp_path / "mine.npz"
    manage.write_file(path, arrays(), "imported")
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (status,) = manage.verify(tmp_path, ("mine",))
    assert status.problem is not None


def test_one_changed_byte_of_a_file_that_nothing_is_recorded_of_is_found_by_its_checksum(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays(images=4000))
    content = bytearray(path.read_bytes())
    content[70_000] ^= 1
    path.write_bytes(content)
    sentence = f"{path} is damaged: the checksum of x_train.npy is wrong. Get or import it again."
    (status,) = manage.verify(tmp_path, ("mine",))
    assert status.problem == sentence
    for use in (files.load_file, lambda found: manage.import_file(found, tmp_path, "copy")):
        with pytest.raises(DataError) as told:
            use(path)
        assert str(told.value) == sentence
    assert [found.name for found in tmp_path.iterdir()] == ["mine.npz"]


def test_replaced_arrays_are_found_by_their_digest(tmp_path):
    path = tmp_path / "mine.npz"
    manage.write_file(path, arrays(), "imported")
    np.savez(path, **arrays(seed=1))
    with pytest.raises(DataError, match=r"not what was recorded when it was imported. Import it again"):
        files.load_file(path)
    (status,) = manage.verify(tmp_path, ("mine",))
    assert status.problem == f"{path} is not what was recorded. Get or import it again."


def test_a_copied_file_with_the_same_content_is_still_good(tmp_path):
    path = tmp_path / "mine.npz"
    record = manage.write_file(path, arrays(), "imported")
    os.utime(path, ns=(1, 1))
    assert files.load_file(path)[1].digest == record.digest
    assert files.read_record(path).modified_ns == 1


def test_a_file_that_was_only_found_may_be_replaced_by_hand(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays())
    first = files.load_file(path)[1]
    np.savez(path, **arrays(images=40))
    second = files.load_file(path)[1]
    assert (first.train_images, second.train_images) == (20, 40)
    assert first.origin == second.origin == "found"


def test_verify_finds_nothing_wrong_with_sound_files(tmp_path):
    manage.write_file(tmp_path / "mine.npz", arrays(), "imported")
    np.savez(tmp_path / "found.npz", **arrays())
    assert {status.name: status.problem for status in manage.verify(tmp_path)} == {"mnist5k": None, "mine": None, "found": None}


def test_verifying_what_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"'mine' is not in .*\. Bring it with: initbench data import FILE.npz"):
        manage.verify(tmp_path, ("mine",))
    with pytest.raises(DataError, match=r"initbench data get mnist"):
        manage.verify(tmp_path, ("mnist",))


def test_the_list_names_what_is_there_and_what_can_be_got(tmp_path):
    np.savez(tmp_path / "fashion-mnist.npz", **arrays())
    np.savez(tmp_path / "mine.npz", **arrays())
    there = {status.name: status.there for status in manage.list_data(tmp_path)}
    assert there == {"mnist5k": True, "mnist": False, "fashion_mnist": True, "cifar10": False, "mine": True}


class Downloaded:
    """Stands for torchvision's MNIST: reports 100 bytes and gives small arrays."""

    def __init__(self, root, train, download):
        from torchvision.datasets import utils

        with utils.tqdm(total=100, unit="B", unit_scale=True) as meter:
            meter.update(60)
            meter.update(40)
        part = "train" if train else "test"
        self.data, self.targets = arrays()[f"x_{part}"], arrays()[f"y_{part}"].tolist()


@pytest.fixture
def torchvision(monkeypatch):
    """A torchvision without a network."""
    package, datasets, utils = (types.ModuleType(name) for name in ("torchvision", "torchvision.datasets", "torchvision.datasets.utils"))
    package.datasets, datasets.utils, datasets.MNIST, utils.tqdm = datasets, utils, Downloaded, "its own bar"
    for module in (package, datasets, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return package


def test_what_was_sent_in_the_place_of_a_data_set_is_not_kept(tmp_path, torchvision):
    with pytest.raises(DataError, match="downloaded as mnist is another data set"):
        manage.get("mnist", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_download_is_kept_as_one_file_with_its_record_and_reports_bytes(tmp_path, torchvision, monkeypatch):
    monkeypatch.setitem(manage.DIGESTS, "mnist", files.digest_of(files.check_arrays(arrays(), "mnist")))
    told = []
    record = manage.get("mnist", tmp_path, lambda done, total: told.append((done, total)))
    assert record.origin == "downloaded"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mnist.npz", "mnist.npz.json"]
    assert told[:2] == [(60, manage.DOWNLOAD_BYTES["mnist"]), (100, manage.DOWNLOAD_BYTES["mnist"])]
    assert torchvision.datasets.utils.tqdm == "its own bar"


def test_what_is_there_is_not_downloaded_again(tmp_path):
    manage.write_file(tmp_path / "mnist.npz", arrays(), "imported")
    assert manage.get("mnist", tmp_path).origin == "imported"


def test_a_download_that_fails_is_one_sentence_and_leaves_nothing(tmp_path, torchvision):
    def fail(**_):
        raise RuntimeError("Error downloading:\nTried one mirror, got:\nno route to host\n")

    torchvision.datasets.MNIST = fail
    with pytest.raises(DataError, match=r"Cannot download mnist: .*no route to host. Put mnist.npz into the data folder") as error:
        manage.get("mnist", tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_sentence_is_short(tmp_path, torchvision):
    def fail(**_):
        mirrors = (f"Tried https://{name}/mnist/, got:\n<urlopen error [Errno -2] Name or service not known>\n" for name in "ab")
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\n" + "".join(mirrors))

    torchvision.datasets.MNIST = fail
    with pytest.raises(DataError, match=r"^Cannot download mnist: Name or service not known\. Put mnist\.npz into"):
        manage.get("mnist", tmp_path)


def test_a_broken_torchvision_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match=r"torchvision does not work here"):
        manage.get("cifar10", tmp_path)


def test_an_unknown_download_gets_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match=r"Did you mean 'cifar10'"):
        manage.get("cifar", tmp_path)


def test_a_data_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    np.savez(tmp_path / "mine.npz", **arrays())
    with pytest.raises(StorageError, match=r"Cannot write .*mine.npz"):
        manage.import_file(tmp_path / "mine.npz", tmp_path / "file" / "data")


@pytest.mark.heavy
def test_looking_after_data_files_needs_no_torch():
    code = "import sys; from initbench.data import manage; assert not {'torch', 'torchvision', 'pandas', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
