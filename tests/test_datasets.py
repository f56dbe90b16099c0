"""What each dataset gives."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from training_support import arrays

from initbench.data import files, manage
from initbench.datasets import cifar10, fashion_mnist, mnist5k, npz, synthetic
from initbench.errors import ConfigError, DataError
from initbench.question import catalog


def test_mnist5k_holds_the_same_number_of_images_of_each_class(tmp_path):
    data = mnist5k.load(tmp_path)
    assert data.y_train.bincount().tolist() == [400] * 10
    assert data.y_test.bincount().tolist() == [100] * 10
    assert data.x_train.shape == (4000, 1, 28, 28)
    assert data.x_train.dtype == torch.uint8
    assert data.y_train.dtype == torch.int64


def test_mnist5k_begins_with_the_first_labels_of_mnist(tmp_path):
    data = mnist5k.load(tmp_path)
    assert data.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_the_embedded_file_has_the_recorded_digest():
    path = Path(mnist5k.__file__).with_suffix(".npz")
    content = np.load(path)
    total = hashlib.sha256()
    for key in ("x_train", "y_train", "x_test", "y_test"):
        total.update(f"{key} {content[key].dtype.str} {content[key].shape}\n".encode() + content[key].tobytes())
    assert files.read_record(path).digest == total.hexdigest() == "3bd9f1e5501cf8e05e921a388c1571c510911ea283242c6793996e264e4a422e"


def test_the_embedded_images_are_few_enough_and_their_licence_is_beside_them():
    path = Path(mnist5k.__file__).with_suffix(".npz")
    assert path.stat().st_size < 900_000
    licence = path.with_name("mnist5k.LICENSE.md").read_text()
    assert all(word in licence for word in ("CC BY-SA 3.0", "LeCun", "Cortes", "Burges"))


def test_normalization_is_of_the_training_split_alone(tmp_path):
    data = mnist5k.load(tmp_path)
    images = data.x_train.double() / 255
    assert data.mean == pytest.approx([images.mean().item()], rel=1e-12)
    assert data.std == pytest.approx([images.std(correction=0).item()], rel=1e-9)


def test_colour_images_become_channels_first_and_are_normalized_by_channel(tmp_path):
    given = arrays((6, 5, 3))
    manage.write_file(tmp_path / "cifar10.npz", given, "imported")
    data = cifar10.load(tmp_path)
    assert data.shape == (3, 6, 5)
    assert torch.equal(data.x_train[4, :, 2, 1], torch.from_numpy(given["x_train"][4, 2, 1]))
    assert data.mean == pytest.approx((given["x_train"] / 255).mean((0, 1, 2)).tolist(), rel=1e-12)
    assert data.std == pytest.approx((given["x_train"] / 255).std((0, 1, 2)).tolist(), rel=1e-12)


@pytest.mark.parametrize("name", ["fashion-mnist", "fashion_mnist"])
def test_fashion_mnist_is_found_under_both_spellings(tmp_path, name):
    np.savez(tmp_path / f"{name}.npz", **arrays())
    assert fashion_mnist.load(tmp_path).classes == 3


def test_data_that_are_not_there_say_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"'cifar10' is not in .* Run: initbench data get cifar10"):
        cifar10.load(tmp_path)


def test_a_file_put_there_by_hand_is_a_dataset_by_name_and_by_path(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays())
    by_name, by_path = npz.load(tmp_path, file="mine"), npz.load(Path("/nowhere"), file=str(tmp_path / "mine.npz"))
    assert by_name.name == by_path.name == "mine"
    assert by_name.digest == by_path.digest
    assert torch.equal(by_name.x_train, by_path.x_train)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_how_a_file_is_packed_changes_neither_content_nor_digest(tmp_path, save):
    given = arrays()
    save(tmp_path / "mine.npz", **given)
    data = npz.load(tmp_path, file="mine")
    assert np.array_equal(data.x_train.numpy()[:, 0], given["x_train"])
    assert data.digest == files.digest_of(given)


def test_synthetic_images_depend_on_the_seed_alone(tmp_path):
    first, again, other = (synthetic.load(tmp_path, n=50, test=20, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.x_train, again.x_train)
    assert not torch.equal(first.x_train, other.x_train)
    assert first.digest != other.digest


def test_synthetic_images_have_the_shape_and_classes_that_were_asked_for(tmp_path):
    data = synthetic.load(tmp_path, n=60, test=30, classes=4, shape=[3, 7, 9])
    assert data.x_train.shape == (60, 3, 7, 9)
    assert sorted(set(data.y_train.tolist())) == [0, 1, 2, 3]
    assert len(data.mean) == 3


def test_synthetic_classes_are_told_apart_by_the_nearest_mean(tmp_path):
    data = synthetic.load(tmp_path, n=200, test=100, noise=1.0)
    means = torch.stack([data.x_train[data.y_train == label].float().mean(0) for label in range(10)])
    nearest = torch.cdist(data.x_test.float().flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == data.y_test).float().mean() > 0.95


@pytest.mark.parametrize("wrong", [{"classes": 1}, {"shape": [8, 8]}, {"n": 5}, {"noise": -1}])
def test_synthetic_data_that_cannot_be_made_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=r"cannot be made"):
        synthetic.load(tmp_path, **wrong)


def test_every_dataset_file_is_in_the_catalogue_and_nothing_else_is():
    names = {entry.name for entry in catalog.entries("dataset")}
    assert names == {
        "mnist5k",
        "mnist",
        "fashion_mnist",
        "cifar10",
        "npz",
        "synthetic",
        "text",
        "text274k",
        "shapes",
        "waves",
        "coordinates",
    }
