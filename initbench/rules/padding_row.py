"""The rule `padding_row`."""

from collections.abc import Iterator

from torch import nn

from initbench.linting.finding import Finding, Severity, alike
from initbench.linting.subject import Subject
from initbench.nn.naming import modules_of

FAMILY = "state"
CODE = "IB111"


def check(subject: Subject) -> Iterator[Finding]:
    """The row of an embedding that stands for padding is not zero, and never will be: it gets no gradient.

    Measured: the row `padding_idx` of every nn.Embedding and nn.EmbeddingBag. A weight that is tied to a head is worth knowing only:
    the head trains the row.
    Expected: zero, as their own reset_parameters leaves it. Drawing the whole weight anew overwrites it.
    Remedy:
        nn.init.normal_(embedding.weight, std=0.02)
        with torch.no_grad():
            embedding.weight[embedding.padding_idx].zero_()

    Source: the documentation of torch.nn.Embedding: the vector at padding_idx defaults to all zeros and is not updated.
    """
    sizes: dict[tuple[bool, int], dict[str, tuple[float, float]]] = {}
    for _, module in modules_of(subject.model):
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag) or module.padding_idx is None or module.weight.is_meta:
            continue
        known = subject.parameters.names.get(id(module.weight))
        weight = module.weight.detach()
        if known and weight[module.padding_idx].any():
            row = weight[module.padding_idx].double().norm().item()
            sizes.setdefault((len(known) > 1, module.padding_idx), {})[known[0]] = row, weight.norm(dim=1).median().item()
    for (tied, place), found in sizes.items():
        for names in alike(found):
            row, usual = found[names[0]]
            yield Finding(
                severity=Severity.INFO if tied else Severity.WARNING,
                parameters=names,
                message="the padding row is not zero",
                measured=f"row {place} has the length {row:.3g}, the median of all rows is {usual:.3g}",
                effect=f"padding begins as a random vector of {row / usual:.2g} times the usual length, "
                + ("which the tied head trains" if tied else "which training never changes")
                if usual
                else "padding is the only row that is not zero",
            )
