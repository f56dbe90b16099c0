"""Any classifier of torchvision's zoo by its name, without weights."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, NotThereError, unknown_name

SIZES = (32, 64, 96, 128, 160, 224, 299)
"""Image sides that are tried, in this order, for a model that cannot take images as small as the data's."""


def build(shape: tuple[int, ...], classes: int, *, name: str, resize: int | None = None, **options: Any) -> nn.Module:
    """A model of torchvision by that name: `torchvision:resnet18`; other parameters go to torchvision.

    The first convolution is made anew for the number of channels of the data. Images are enlarged to `resize` pixels a
    side; by default to the smallest size that the model can take, which is their own where it can.
    Raises: ConfigError for an unknown name or option; NotThereError where torchvision cannot be imported.

    Source: torchvision.models.
    """
    if len(shape) != 3:
        raise ConfigError(f"torchvision:{name} takes images (C, H, W), not {shape}. Use mlp or residual_mlp.")
    _check_name(name)
    own = shape[1] if shape[1] == shape[2] else max(shape[1:])
    sides = [resize] if resize is not None else [own, *(side for side in SIZES if side > own)]
    problem: Exception | None = None
    for side in sides:
        try:
            with torch.device("meta"):
                trial = _construct(name, shape[0], classes, side, options)
                trial.train()(torch.zeros(2, shape[0], side, side))
        except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError) as error:
            problem = error
            continue
        network = _construct(name, shape[0], classes, side, options)
        return network if (side, side) == tuple(shape[1:]) else Resized(network, side)
    raise ConfigError(
        f"torchvision:{name} cannot take images of {', '.join(map(str, sides))} pixels: {problem}. Try torchvision:{name}:resize=224."
    )


class Resized(nn.Module):
    """A network behind a bilinear enlargement of its images."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network = network
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, classes)."""
        larger = nn.functional.interpolate(images, size=(self.side, self.side), mode="bilinear", align_corners=False)
        return self.network(larger)  # type: ignore[no-any-return]


def _check_name(name: str) -> None:
    try:
        from torchvision import models
    except (ImportError, RuntimeError, OSError) as error:
        raise NotThereError(f"torchvision cannot be imported here: {error}. Install the torchvision that belongs to your torch.") from error
    known = models.list_models(module=models)
    if name not in known:
        raise unknown_name("torchvision model", name, known, "Its names are those of torchvision.models.list_models().")


def _construct(name: str, channels: int, classes: int, side: int, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    if name.startswith("vit_"):
        options = {"image_size": side, **options}
    if name in {"googlenet", "inception_v3"}:
        options = {"aux_logits": False, "init_weights": False, **options}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = models.get_model(name, weights=None, num_classes=classes, **options)
    except TypeError as error:
        raise ConfigError(f"torchvision:{name} does not take these parameters: {', '.join(options)} ({error}).") from error
    _set_channels(network, channels)
    assert isinstance(network, nn.Module)
    return network


def _set_channels(network: nn.Module, channels: int) -> None:
    """Makes the first convolution anew for another number of input channels."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels == channels:
                return
            new = nn.Conv2d(
                channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                module.dilation,  # type: ignore[arg-type]
                bias=module.bias is not None,
            )
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, new)
            return
