"""Keeps what a user's code changes from the runs after it: settings of torch and of the process, patched layers, forked children."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional, init

OWNERS: tuple[Any, ...] = (
    torch, nn, functional, init, torch.Tensor, nn.Module, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d,
    nn.LayerNorm, nn.GroupNorm, nn.ReLU, nn.Tanh, nn.GELU, nn.Dropout, nn.Embedding, nn.MultiheadAttention, nn.Sequential, nn.Parameter,
)  # fmt: skip
"""Modules and classes whose functions models and initbench use; those that a run replaces are put back."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Within, anything may be changed; afterwards the settings are what they were, and patched functions of torch those of before.

    A process that a user's code has forked, and that comes back from there, ends here: it would go on as a second one of us.
    """
    process, settings = os.getpid(), [(put, get()) for get, put in _settings()]
    functions = [(owner, dict(vars(owner))) for owner in OWNERS]
    getters = [get for get, _ in _settings()]
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(1)
        for owner, before in functions:
            _put_functions(owner, before)
        for get, (put, before) in zip(getters, settings, strict=True):
            if _now(get) != before:
                put(before)


def _settings() -> Iterator[tuple[Callable[[], Any], Callable[[Any], object]]]:
    """How each setting is read, and how it is put back."""
    yield torch.get_default_dtype, torch.set_default_dtype
    yield torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)
    yield torch.is_grad_enabled, torch.set_grad_enabled
    yield torch.get_num_threads, torch.set_num_threads
    yield torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly
    yield _deterministic, lambda wanted: torch.use_deterministic_algorithms(wanted[0], warn_only=wanted[1])
    for name in ("benchmark", "deterministic"):
        yield lambda name=name: getattr(torch.backends.cudnn, name), lambda value, name=name: setattr(torch.backends.cudnn, name, value)  # type: ignore[misc]
    yield os.getcwd, os.chdir
    yield lambda: dict(os.environ), _put_environment
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            yield lambda number=number: signal.getsignal(number), lambda handler, number=number: signal.signal(number, handler)  # type: ignore[misc]


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _now(get: Callable[[], Any]) -> Any:
    """The setting; None where it cannot be read any more, as of a working folder that was removed."""
    try:
        return get()
    except OSError:
        return None


def _put_environment(before: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(before)


def _put_functions(owner: Any, before: dict[str, Any]) -> None:
    now = vars(owner)
    for name, value in before.items():
        if now.get(name) is not value and not name.startswith("__"):
            setattr(owner, name, value)
