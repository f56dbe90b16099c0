"""A network as a tree: its modules with their parameters, shapes and fans, and where each stands on the way of the signal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from initbench.results.record import InitReport, LayerStats, ParameterInit, Place

ROLES = {
    Place.PATH: "",
    Place.BRANCH: "in a residual branch",
    Place.BRANCH_END: "end of a residual branch",
    Place.NORMED_END: "end of a residual branch, held by a norm",
    Place.SHORTCUT: "shortcut",
    Place.ASIDE: "beside the residual stream",
    Place.HEAD: "head",
}


@dataclass
class Module:
    """A module: the last part of its name, its own parameters in words, its role, and those within it."""

    name: str
    role: str = ""
    own: list[str] = field(default_factory=list)
    numbers: int = 0
    """Of all parameters in it, those within its modules counted."""
    within: dict[str, "Module"] = field(default_factory=dict)


def network(report: InitReport, layers: Sequence[LayerStats]) -> Module:
    """The tree of the modules that have parameters; `layers`: those that were measured, which say what each is."""
    roles = {stats.layer: ROLES[stats.place] for stats in layers if stats.place is not None}
    root = Module("")
    for entry in report.parameters:
        words, size = entry.parameter.split("."), math.prod(entry.shape)
        module = root
        module.numbers += size
        for depth, word in enumerate(words[:-1], 1):
            module = module.within.setdefault(word, Module(word, _role(roles, words[:depth])))
            module.numbers += size
        module.own.append(_parameter(words[-1], entry))
    return root


def _role(roles: Mapping[str, str], words: Sequence[str]) -> str:
    return roles.get(".".join(words), "")


def _parameter(name: str, entry: ParameterInit) -> str:
    """For example `weight 256 x 784, fan in 784, fan out 256`."""
    said = [f"{name} {' x '.join(map(str, entry.shape)) or 'scalar'}"]
    if len(entry.shape) > 1 and entry.fan_in is not None:
        said.append(f"fan in {entry.fan_in:,}")
        said += [f"fan out {entry.fan_out:,}"] if entry.fan_out is not None else []
    return ", ".join(said)
