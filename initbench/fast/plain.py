"""Models that consist of known modules only, whose forward pass makes the same calls each time."""

from torch import nn

KNOWN = ("torch.nn.modules.", "torchvision.", "initbench.models.", "initbench.nn.")


def is_plain(model: nn.Module) -> bool:
    """Whether all modules are torch's, torchvision's or our own, none with a forward of its instance: no user's code is run."""
    return all(type(module).__module__.startswith(KNOWN) and "forward" not in vars(module) for module in model.modules())
