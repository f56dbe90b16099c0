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

    Measured: the row `padding_idx` of every nn.Embedding and nn.EmbeddingBag.
    Expected: zero, as their own reset_parameters leaves it. Drawing the whole weight anew overwrites it.
    Remedy:
        nn.init.normal_(embedding.weight, std=0.02)
        with torch.no_grad():
            embedding.weight[embedding.padding_idx].zero_()

    Source: the documentation of torch.nn.Embedding: the vector at padding_idx defaults to all zeros and is not updated.
    """
    sizes: dict[str, tuple[float, float]] = {}
    for name, module in modules_of(subject.model):
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None and not module.weight.is_meta:
            row = module.weight.detach()[module.padding_idx].double()
            if row.any():
                parameter = (
                    subject.parameters.names[id(module.weight)][0] if id(module.weight) in subject.parameters.names else f"{name}.weight"
                )
                sizes[parameter] = row.norm().item(), module.weight.detach().double().norm(dim=1).median().item()
    for names in alike(sizes):
        length, usual = sizes[names[0]]
        yield Finding(
            severity=Severity.WARNING,
            parameters=names,
            message="the padding row is not zero",
            measured=f"length {length:.3g}, other rows {usual:.3g}",
            effect="padding adds a random vector at every padded place, which training never changes",
            fix=f"with torch.no_grad():\n    model.{names[0]}[padding_idx].zero_()",
        )
