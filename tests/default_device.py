"""Another default device for what the package makes, while the tests' own tensors stay on the CPU.

What a user's `torch.set_default_device("cuda")` does to initbench shows where there is no GPU, too: with `meta`, a tensor that the package
makes without naming a device has no numbers, and whatever it then meets fails. Modules are as torch's are: who builds one without
`build_model` gets it on the default device.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

PACKAGE = str(Path(__file__).parent.parent / "initbench")
MODELS = (str(Path(PACKAGE) / "models"), str(Path(PACKAGE) / "nn" / "blocks.py"))
"""What makes modules for whoever asks."""
TORCH = str(Path(torch.__file__).parent)


class DefaultDevice(TorchFunctionMode):
    """Within, a tensor made by the package without a device is on `device`."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = torch.device(device)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Gives the device to whatever makes a tensor."""
        kwargs = kwargs or {}
        if func in _device_constructors() and kwargs.get("device") is None and _asked_by_the_package():
            kwargs = {**kwargs, "device": self.device}
        return func(*args, **kwargs)


def _asked_by_the_package() -> bool:
    """Whether the first caller outside of torch, and of modes that hand calls on, is a file of the package."""
    frame = sys._getframe(2)
    while frame is not None and (frame.f_code.co_filename.startswith((TORCH, "<")) or frame.f_code.co_name == "__torch_function__"):
        frame = frame.f_back
    file = "" if frame is None else frame.f_code.co_filename
    builds = frame is not None and isinstance(frame.f_locals.get("self"), nn.Module) and frame.f_code.co_name == "__init__"
    return file.startswith(PACKAGE) and not file.startswith(MODELS) and not builds
