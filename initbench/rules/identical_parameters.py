"""The rule `identical_parameters`."""

from collections.abc import Iterator

from initbench.linting.builds import digests_of, tensors_of
from initbench.linting.finding import Finding, Severity
from initbench.linting.subject import Subject

FAMILY = "state"
CODE = "IB103"
FEWEST = 8
"""Fewer numbers may be alike by chance or on purpose."""


def check(subject: Subject) -> Iterator[Finding]:
    """Two parameters that are not tied hold the very same random numbers, as layers cloned by `deepcopy` do.

    Measured: a digest of the numbers of every trained parameter that is not the same for every seed; of a model that cannot be built
    again, of those whose numbers look drawn. So identities, tables and the frozen target of a momentum encoder are left out.
    Expected: each parameter has numbers of its own.
    Remedy:
        layers = nn.ModuleList(Block(dim) for _ in range(depth))      # built one by one, not copied

    Source: torch's nn.TransformerEncoder clones its layer: its documentation says that all layers start with the same
    parameters, and to initialize them after creation (pytorch issue 72253).
    """
    tensors, digests = tensors_of(subject.model), digests_of(subject.model)
    same: dict[str, list[str]] = {}
    for name, parameter in subject.parameters.first.items():
        values = tensors.get(name)
        if parameter.requires_grad and values is not None and name in digests and values.numel() >= FEWEST and name in subject.drawn:
            same.setdefault(f"{digests[name]} {tuple(values.shape)}", []).append(name)
    order = {name: place for place, name in enumerate(subject.parameters.first)}
    by_times: dict[int, list[str]] = {}
    for names in same.values():
        if len(names) > 1:
            by_times.setdefault(len(names), []).extend(names)
    for times, names in by_times.items():
        numbers = sum(tensors[name].numel() for name in names)
        yield Finding(
            severity=Severity.WARNING if any(tensors[name].dim() > 1 for name in names) else Severity.INFO,
            parameters=tuple(sorted(names, key=order.__getitem__)),
            message=f"the same random numbers in {times} parameters that are not tied",
            measured=f"{len(names)} parameters, {times} of each kind, have equal digests",
            effect=f"of their {numbers} numbers {numbers // times} are different ones: the {times} begin as one, and differ later only "
            "through what reaches them",
        )
