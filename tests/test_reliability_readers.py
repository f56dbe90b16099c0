"""Files and numbers that are not what they claim: each gives a sentence, at once and without filling the memory, and runs no code."""

import io
import os
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from initbench.data import files
from initbench.data.files import DataRecord, doubted, load_file
from initbench.errors import ConfigError, DataError
from initbench.question.config import parse_ref, parse_value

DIGITS = "9" * 5000
SECONDS, MEGABYTES = 30, 1024
"""How long a command may take here at most (on a busy machine; alone it is 5), and how much it may take beyond what torch does."""


def arrays(**changed):
    images = np.arange(40 * 256, dtype=np.uint64).reshape(40, 16, 16).astype(np.uint8)
    labels = np.arange(40) % 3
    return {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels} | changed


def saved(path, **changed):
    np.savez(path, **arrays(**changed))
    return path


def with_header(path, header, data=b"", *, packed=zipfile.ZIP_STORED):
    """A data file whose x_train has this text as its header."""
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, values in arrays().items():
            if name == "x_train":
                text = header.encode("latin1") + b"\n"
                archive.writestr("x_train.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data)
            else:
                member = io.BytesIO()
                np.save(member, values)
                archive.writestr(f"{name}.npy", member.getvalue())
    return path


def header(shape, dtype="'|u1'"):
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}"


class Opens:
    """Code that would run if a pickle were read."""

    def __reduce__(self):
        return os.system, ("touch was_run",)


def labels_with(value):
    return np.array([value, *[0, 1, 2] * 13], dtype=np.int64)


NASTY = {
    "one label of 10^8": lambda path: saved(path, y_train=labels_with(10**8)),
    "one label of 10^18": lambda path: saved(path, y_train=labels_with(10**18)),
    "labels below zero": lambda path: saved(path, y_train=labels_with(-1)),
    "a claim of 100 GB": lambda path: with_header(path, header("(100000000, 32, 32)"), b"0" * 100),
    "a claim beyond all numbers": lambda path: with_header(path, header(f"({10**30},)"), b"0" * 100),
    "a size below zero": lambda path: with_header(path, header("(-1, 4, 4)"), b"0" * 100),
    "a header that is cut": lambda path: with_header(path, "{'descr': '|u1',", b"0" * 100),
    "a header that is code": lambda path: with_header(path, "__import__('os').system('touch was_run')", b"0" * 100),
    "a header of 60,000 letters": lambda path: with_header(path, "(" * 30_000 + ")" * 30_000),
    "texts of a million letters": lambda path: with_header(path, header("(40,)", "'<U1000000'"), b"0" * 100),
    "a record type": lambda path: with_header(path, header("(3,)", "[('a', '<i4')]"), b"0" * 12),
    "pickled objects": lambda path: saved(path, y_train=np.array([Opens()] * 40, dtype=object)),
    "a small file that unpacks to 1.5 GB": lambda path: with_header(
        path, header("(1500000000,)"), bytes(1_500_000_000), packed=zipfile.ZIP_DEFLATED
    ),
    "nothing": lambda path: path.write_bytes(b""),
    "no zip file": lambda path: path.write_bytes(b"hello" * 100),
    "half a file": lambda path: path.write_bytes(saved(path).read_bytes()[:-200]),
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes and devices in folders")
@pytest.mark.parametrize("what", NASTY)
def test_a_data_file_that_is_none_is_refused_in_a_sentence(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.npz"
    NASTY[what](path)
    with pytest.raises(DataError) as refused:
        load_file(path)
    assert "mine.npz" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "was_run").exists()


def test_the_absent_label_is_named(tmp_path):
    with pytest.raises(DataError, match="has label 1"):
        load_file(saved(tmp_path / "mine.npz", y_train=np.array([0, 2] * 20), y_test=np.zeros(40, int)))


def test_a_record_that_is_a_pipe_is_passed_over(tmp_path):
    path = saved(tmp_path / "mine.npz")
    os.mkfifo(files.record_path(path))
    assert load_file(path)[1].classes == 3


@pytest.mark.parametrize("origin", ["found", "imported"])
def test_data_that_changed_though_their_time_did_not_are_found_before_a_study(tmp_path, origin):
    path = saved(tmp_path / "mine.npz")
    record = load_file(path)[1]
    files.write_record(path, record.model_copy(update={"origin": origin}))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        content[archive.getinfo("x_train.npy").header_offset + 600] ^= 1
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    load_file(path)
    with doubted(), pytest.raises(DataError, match="other content than was recorded"):
        load_file(path)


def test_a_file_as_it_was_recorded_passes(tmp_path):
    path = saved(tmp_path / "mine.npz")
    record = load_file(path)[1]
    with doubted():
        assert load_file(path)[1] == record == DataRecord.model_validate_json(files.record_path(path).read_bytes())


@pytest.mark.parametrize("text", [DIGITS, "-" + DIGITS, DIGITS + ".5", "1e" + DIGITS, "٣"])
def test_digits_without_end_are_no_number(text):
    assert parse_value(text) == text


def test_a_number_keeps_a_hundred_digits():
    assert parse_value("9" * 100) == 10**100 - 1


def commands():
    """Command lines that are refused, with their exit codes."""
    yield ["compare", "kaiming", "xavier", "--margin", "inf", "--dry-run"], 2
    yield ["compare", "kaiming", "xavier", "--margin", DIGITS, "--dry-run"], 2
    yield ["compare", "kaiming", "xavier", "--target", "nan", "--dry-run"], 2
    yield ["compare", "kaiming", "xavier", "--seeds", DIGITS, "--dry-run"], 2
    yield ["compare", "kaiming", "xavier", "--seeds", "1000000000", "--dry-run"], 2
    yield ["run", "--method", f"normal:std={DIGITS}", "--dry-run"], 2
    yield ["run", "--method", "kaiming", "--set", f"train.lr={DIGITS}", "--dry-run"], 2
    yield ["run", "--method", "kaiming", "--model", "mlp:depth=1000000000", "--dry-run"], 2
    yield ["run", "--method", "kaiming", "--run-timeout", "nan", "--dry-run"], 2
    yield ["run", "--method", "k" * 50_000, "--dry-run"], 2
    yield ["run", "--method", "kaiming", "--out", "k" * 300, "--dry-run"], 5
    yield ["show", DIGITS], 2
    yield ["compare", "-c", "digits.yaml", "--dry-run"], 2
    yield ["compare", "-c", "nested.yaml", "--dry-run"], 2
    yield ["compare", "-c", "large.yaml", "--dry-run"], 2
    yield ["compare", "-c", "pipe.yaml", "--dry-run"], 2
    yield ["compare", "-c", "nul.yaml", "--dry-run"], 2
    yield ["report", "/dev/zero"], 5
    yield ["data", "import", "/dev/zero"], 5
    yield ["check-scheme", "./pipe.py"], 2
    yield ["probe", "--model", "./pipe.py:Net", "--input", "3x4"], 2


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "digits.yaml").write_text(f"schemes: [kaiming]\nseeds: {DIGITS}\n")
    (tmp_path / "nested.yaml").write_text("model: " + "{a: " * 3000 + "1" + "}" * 3000)
    (tmp_path / "large.yaml").write_text("schemes: [kaiming]\n" + "# and so on\n" * 200_000)
    (tmp_path / "nul.yaml").write_bytes(b"schemes: [kai\0ming]")
    os.mkfifo(tmp_path / "pipe.yaml")
    os.mkfifo(tmp_path / "pipe.py")
    monkeypatch.chdir(tmp_path)


MEASURED = (
    "import re, sys; from initbench.__main__ import main\n"
    "try: main()\n"
    "finally: print('peak', int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) >> 10, file=sys.stderr)"
)


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="pipes, and memory as Linux counts it")
@pytest.mark.parametrize(("words", "code"), list(commands()), ids=lambda given: " ".join(given)[:60] if isinstance(given, list) else "")
def test_a_command_that_cannot_be_meant_gets_a_sentence(words, code, folder):
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
    )
    said, _, peak = ran.stderr.rpartition("peak ")
    assert ran.returncode == code, said
    assert said.strip()
    assert "Traceback" not in said
    assert len(said) < 6000
    assert int(peak) < MEGABYTES


def test_a_reference_with_digits_without_end_is_text():
    assert parse_ref(f"normal:std={DIGITS}").params == {"std": DIGITS}
    with pytest.raises(ConfigError):
        parse_ref("normal:std=1,=2")
