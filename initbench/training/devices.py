"""The device a run is on, and how a process is set up for many small runs."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Literal

import torch

from initbench.errors import DeviceError
from initbench.nn.watch import thread_count, uncached_weights

KINDS = ("cpu", "cuda", "mps")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's mallopt parameters."""
KEEP_BYTES = 1 << 30
"""Freed memory that a process keeps; a training step then finds last step's pages instead of faulting new ones in."""
LARGEST_MMAP_THRESHOLD = 32 << 20
"""The largest value that glibc takes: smaller blocks come from the heap, which is kept."""


def choose_device(text: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda`, `cuda:1` or `mps` names here.

    Raises: DeviceError when it is not there.
    """
    kind, _, number = text.partition(":")
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    if kind not in KINDS or (number and (kind != "cuda" or not number.isdigit())):
        raise DeviceError(f"Unknown device '{text}'. Allowed: auto, cpu, cuda, cuda:NUMBER, mps.")
    if kind == "cuda" and int(number or 0) >= (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        raise DeviceError(f"There is no device '{text}' here. Use --device cpu, or auto to take what is there.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("There is no device 'mps' here. Use --device cpu, or auto to take what is there.")
    return torch.device(text)


def device_name(device: torch.device) -> str:
    """The device in words: `cpu`, or the name of the accelerator."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextlib.contextmanager
def small_runs(threads: int = 1) -> Iterator[None]:
    """Within: so many threads a process, denormal numbers are zero, glibc keeps freed memory, CUDA multiplies in full float32 and convolves
    in the same order each time, and no pass under a caller's autocast uses weights that have changed since.

    Every engine runs its jobs within, so that the same job with one thread gives the same bytes in each. Denormals are flushed because
    arithmetic with them is up to a hundred times slower, and a signal that has vanished that far is gone.
    """
    torch.set_flush_denormal(True)
    keep_freed_memory()
    try:
        with thread_count(threads), products("ieee"), same_convolutions(), uncached_weights():
            yield
    finally:
        torch.set_flush_denormal(False)


@contextlib.contextmanager
def products(arithmetic: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Within, CUDA multiplies float32 matrices and convolves in full precision (ieee) or with 10 bits of it (tf32).

    torch's own default is ieee for matrices and tf32 for convolutions.
    """
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = arithmetic
    try:
        yield
    finally:
        for kind, earlier in zip(kinds, before, strict=True):
            kind.fp32_precision = earlier


@contextlib.contextmanager
def same_convolutions() -> Iterator[None]:
    """Within, CUDA's convolutions add in the same order each time, so that the same run gives the same numbers."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def keep_freed_memory() -> None:
    """Tells glibc not to give freed memory back to the system at once; does nothing where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(AttributeError, OSError):
        glibc = ctypes.CDLL(None)
        glibc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
        glibc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
