"""What a run finds as the run before it did: settings of torch and of the process, random states, torch's own functions.

A user's scheme, model or optimizer may change any of it. `as_before` puts it back after each run and looks whether that worked; what
cannot be put back is in `spoiled()`: a worker process is then replaced, and the run says so.
"""

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as global_hooks

from initbench.nn.seeds import derived_seed, random_states, seed_generators, set_random_states

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGCHLD")
"""The signals whose handlers are put back."""
HOOKS = [table for name, table in vars(global_hooks).items() if name.startswith("_global_") and isinstance(table, dict)]
"""Torch's tables of hooks that every module calls."""


class Setting(NamedTuple):
    """Something that any code can change for all code after it, and how it is read and written."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]


def _attribute(name: str, owner: object, attribute: str) -> Setting:
    return Setting(name, lambda: getattr(owner, attribute), lambda value: setattr(owner, attribute, value))


def _default_device() -> torch.device | None:
    return getattr(getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None), "device", None)


def _leave_modes(count: int) -> None:
    while torch._C._len_torch_function_stack() > count:
        torch._C._pop_torch_function_stack()


def _autocast() -> tuple[Any, ...]:
    return torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()


def _set_autocast(value: tuple[Any, ...]) -> None:
    torch.set_autocast_enabled("cpu", value[0])
    torch.set_autocast_dtype("cpu", value[1])
    torch.set_autocast_cache_enabled(value[2])


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _sdpa() -> tuple[bool, ...]:
    cuda = torch.backends.cuda
    return cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()  # type: ignore[no-untyped-call]


def _set_sdpa(value: tuple[bool, ...]) -> None:
    cuda = torch.backends.cuda
    for enable, on in zip((cuda.enable_flash_sdp, cuda.enable_mem_efficient_sdp, cuda.enable_math_sdp), value, strict=True):
        enable(on)


def _denormals_are_zero() -> bool:
    return bool((torch.full((), 1e-30, dtype=torch.float32, device="cpu") * 1e-12) == 0)


def _set_hooks(value: list[dict[Any, Any]]) -> None:
    for table, entries in zip(HOOKS, value, strict=True):
        table.clear()
        table.update(entries)


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - a text, and None where it is gone
    except OSError:
        return None


def _set_environment(value: dict[str, str]) -> None:
    for name in os.environ.keys() - value.keys():
        del os.environ[name]
    os.environ.update(value)


def _set_filters(value: list[Any]) -> None:
    warnings.filters[:] = value  # type: ignore[index]
    getattr(warnings, "_filters_mutated", lambda: None)()


def _limits() -> dict[int, tuple[int, int]]:
    with contextlib.suppress(ImportError):
        import resource

        numbers = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
        return {number: resource.getrlimit(number) for number in numbers}
    return {}


def _set_limits(value: dict[int, tuple[int, int]]) -> None:
    import resource

    for number, limit in value.items():
        if resource.getrlimit(number) != limit:
            resource.setrlimit(number, limit)


def _handlers() -> dict[int, Any]:
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    return {number: handler for number in numbers if (handler := signal.getsignal(number)) is not None}


def _set_handlers(value: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in value.items():
            signal.signal(number, handler)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _streams() -> tuple[Any, ...]:
    return sys.stdin, sys.stdout, sys.stderr


def _set_streams(value: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = value


SETTINGS = (
    Setting("the default device", _default_device, torch.set_default_device),
    Setting("torch's function modes", torch._C._len_torch_function_stack, _leave_modes),
    Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("whether gradients are computed", torch.is_grad_enabled, torch._C._set_grad_enabled),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    Setting("deterministic algorithms", _deterministic, lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1])),
    Setting("autocast", _autocast, _set_autocast),
    Setting("the kernels of attention", _sdpa, _set_sdpa),
    Setting("how denormal numbers are treated", _denormals_are_zero, torch.set_flush_denormal),
    _attribute("cudnn", torch.backends.cudnn, "enabled"),
    _attribute("cudnn.benchmark", torch.backends.cudnn, "benchmark"),
    _attribute("cudnn.deterministic", torch.backends.cudnn, "deterministic"),
    Setting("oneDNN", torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
    _attribute("the precision of products", torch.backends.cuda.matmul, "fp32_precision"),
    _attribute("the precision of convolutions", torch.backends.cudnn.conv, "fp32_precision"),  # type: ignore[attr-defined]
    _attribute("the precision of products on the CPU", torch.backends.mkldnn.matmul, "fp32_precision"),  # type: ignore[attr-defined]
    Setting("hooks of all modules", lambda: [dict(table) for table in HOOKS], _set_hooks),
    Setting("numpy's treatment of errors", np.geterr, lambda value: np.seterr(**value)),
    Setting("the working folder", _folder, lambda value: os.chdir(value) if value else None),
    Setting("the environment", lambda: dict(os.environ), _set_environment),
    Setting("filters of warnings", lambda: list(warnings.filters), _set_filters),
    Setting("resource limits", _limits, _set_limits),
    Setting("handlers of signals", _handlers, _set_handlers),
    Setting("the umask", _umask, os.umask),
    Setting("stdin, stdout or stderr", _streams, _set_streams),
    Setting("the depth of recursion", sys.getrecursionlimit, sys.setrecursionlimit),
)


class _Patchable(NamedTuple):
    """A module or class of torch, with what is in it."""

    owner: Any
    entries: dict[str, Any]

    def changed(self) -> list[str]:
        """What is another thing now, or gone; of a class also what was added (Python's own notes, such as `__annotations__`, aside)."""
        now = vars(self.owner)
        names = [name for name, entry in self.entries.items() if now.get(name) is not entry]
        if isinstance(self.owner, type) and len(now) > len(self.entries):
            added = now.keys() - self.entries.keys()
            names += [name for name in added if callable(now[name]) or not name.startswith("__")]
        return names

    def restore(self) -> None:
        """Puts everything back that can be."""
        for name in self.changed():
            with contextlib.suppress(AttributeError, TypeError):
                if name in self.entries:
                    setattr(self.owner, name, self.entries[name])
                else:
                    delattr(self.owner, name)


def _torch_as_it_is() -> list[_Patchable]:
    """Torch's functions and classes as they are before a run; who embeds this package may have patched them before, and keeps that."""
    modules: list[ModuleType] = [torch, nn, nn.functional, nn.init, torch.autograd, torch.optim]
    classes = {entry for owner in (nn, torch.optim) for entry in vars(owner).values() if isinstance(entry, type)}
    found = [_Patchable(owner, {name: entry for name, entry in vars(owner).items() if callable(entry)}) for owner in modules]
    ours = sorted(classes | {torch.Tensor, nn.Parameter, nn.Module}, key=lambda owner: owner.__qualname__)
    return found + [_Patchable(owner, dict(vars(owner))) for owner in ours]


class _Process:
    """What there is once in a process: what could not be put back, and the run under way."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lost: dict[str, None] = {}
        self.depth = 0
        self.leave = os._exit


_process: _Process | None = None


def spoiled() -> tuple[str, ...]:
    """What runs in this process have changed and could not be put back, in words."""
    return tuple(_process.lost) if _process is not None else ()


def end_if_copy() -> None:
    """Ends this process if it is a copy that a run's code made with `os.fork()` and that went on as if it were the run."""
    if _process is not None and _process.depth and os.getpid() != _process.pid:
        _process.leave(0)


@contextlib.contextmanager
def as_before(seed: int = 0) -> Iterator[None]:
    """Around a run: it begins with random states of its own seed, and afterwards settings, random states and torch are as before.

    Within, `os._exit` raises SystemExit. A copy of the process that comes back (`os.fork()` in a forward) is ended at the
    end of its step, or here.
    """
    global _process
    if _process is None or (_process.pid != os.getpid() and not _process.depth):
        _process = _Process()
    here = _process
    if here.depth and here.pid == os.getpid():
        yield
        return
    kept = _torch_as_it_is()
    before = [setting.read() for setting in SETTINGS]
    drawn = random_states()
    here.depth = 1
    os._exit = _exit_of(here)  # type: ignore[assignment]
    seed_generators(*(derived_seed(seed, purpose) for purpose in ("python", "numpy", "torch")))
    try:
        yield
    finally:
        end_if_copy()
        here.depth = 0
        os._exit = here.leave
        _restore(here, before, kept)
        set_random_states(drawn)


def _exit_of(here: _Process) -> Callable[[int], NoReturn]:
    def leave(status: int) -> NoReturn:
        if os.getpid() == here.pid:
            raise SystemExit(f"os._exit({status})")
        here.leave(status)

    return leave


def _restore(here: _Process, before: list[Any], kept: list[_Patchable]) -> None:
    for setting, value in zip(SETTINGS, before, strict=True):
        if setting.read() == value:
            continue
        with contextlib.suppress(Exception):
            setting.write(value)
        if setting.read() != value:
            here.lost[setting.name] = None
    for place in kept:
        if place.changed():
            place.restore()
            here.lost.update({f"{place.owner.__name__}.{name}": None for name in place.changed()})
