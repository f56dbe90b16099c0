"""From the name of a scheme to an initialized model: what the worker and `init_network` both call."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, DoesNotApply, InitbenchError, UserCode, a_or_an
from initbench.init.contract import InitContext, Layerwise, Need, Scheme
from initbench.nn.inputs import Inputs, as_inputs
from initbench.nn.layers import WeightLayer, explain, weight_layers
from initbench.nn.naming import parameters_of, refuse_unused, refuse_without_storage
from initbench.nn.watch import thread_count, uncached_weights
from initbench.question import catalog
from initbench.question.config import InitRules, Ref, TrainConfig
from initbench.results.record import InitReport

Batch = Callable[[int, int], tuple[Inputs, Tensor]]


def initialize(
    model: nn.Module,
    scheme: Ref,
    *,
    seed: int,
    rules: InitRules = InitRules(),
    inputs: Inputs | None = None,
    batch: Batch | None = None,
    train: TrainConfig | None = None,
) -> tuple[InitReport, tuple[WeightLayer, ...]]:
    """Initializes `model` in place; gives the report and the weight layers (in execution order, where `inputs` are given).

    It runs on one thread, as sums and decompositions differ from one number of threads to another.
    `inputs` is a batch as the model takes it; what then still cannot be told about a layer is in the report's notes.
    `batch(size, index)` gives training batches to schemes that need data.
    Raises: ConfigError for names, parameters and patterns that cannot be used; DoesNotApply, with the model unchanged,
    where the scheme does not suit it.
    """
    parameters = parameters_of(model)
    refuse_without_storage(parameters.first)
    for where, patterns in (("init.in_out", rules.in_out), ("init.only", rules.only)):
        for pattern in patterns:
            refuse_unused(pattern, where, list(parameters.by_name))

    def find_layers() -> tuple[WeightLayer, ...]:
        return weight_layers(model, inputs, rules.in_out)

    explained = explain(model, inputs, rules.in_out)
    chosen = build_scheme(scheme)
    context = InitContext(
        seed=seed,
        rules=rules,
        layers=explained.layers,
        overrides=tuple((pattern, _layerwise(pattern, ref)) for pattern, ref in rules.layers.items()),
        batch=batch,
        train=train,
        inputs=inputs,
        find_layers=find_layers,
    )
    refuse_missing(chosen, context)
    with thread_count(1), uncached_weights():
        report = chosen.apply(model, context)
    if not isinstance(report, InitReport):
        raise ConfigError(f"apply() of the scheme '{scheme.name}' gives {a_or_an(type(report).__name__)}. It must return an InitReport.")
    doubts = explained.notes if inputs is not None else explained.guesses
    report = report.model_copy(update={"scheme": str(catalog.resolve("scheme", scheme)), "notes": (*report.notes, *doubts)})
    return report, find_layers() if Need.HOOKS in chosen.needs else context.layers


def checked_batch(batch: object, device: torch.device) -> Batch:
    """A user's `batch(size, index)`, with what it gives in the form that schemes take, on a device.

    Raises: ConfigError for what is no such function.
    """
    if not callable(batch):
        raise ConfigError(f"`batch` is {a_or_an(type(batch).__name__)}. It must be a function: batch(size, index) gives (inputs, labels).")

    def checked(size: int, index: int) -> tuple[Inputs, Tensor]:
        given = batch(size, index)
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise ConfigError(
                f"batch({size}, {index}) gives {a_or_an(type(given).__name__)}. It must give a pair: inputs and their labels."
            )
        labels = given[1] if isinstance(given[1], torch.Tensor) else torch.as_tensor(given[1], device="cpu")
        return as_inputs(given[0]).to(device), labels.to(device)

    return checked


def build_scheme(ref: Ref) -> Scheme:
    """The scheme behind a reference, its parameters checked.

    Raises: ConfigError for an unknown name or parameter, or where the function behind it does not give a scheme.
    """
    resolved = catalog.resolve("scheme", ref)
    build = catalog.load("scheme", ref.name)
    try:
        with UserCode(f"The scheme '{ref}' cannot be built"):
            made = build(**resolved.params)
    except InitbenchError as error:
        raise type(error)(f"The scheme '{resolved.name}': {error}") from error
    if not isinstance(made, Scheme):
        raise ConfigError(
            f"The scheme '{ref.name}' gives {a_or_an(type(made).__name__)}. Its build() must return a Layerwise or another Scheme."
        )
    return made


def refuse_missing(scheme: Scheme, context: InitContext) -> None:
    """Raises: DoesNotApply where the scheme needs data and the context has none."""
    wanted = scheme.needs & {Need.DATA, Need.LABELS}
    if wanted and context.batch is None:
        raise DoesNotApply(
            f"'{scheme.name}' needs {' and '.join(sorted(wanted))}, and there is none. Give training batches, or use run or compare."
        )


def _layerwise(pattern: str, ref: Ref) -> Layerwise:
    scheme = build_scheme(ref)
    if not isinstance(scheme, Layerwise):
        raise ConfigError(
            f"init.layers gives '{pattern}' to '{ref.name}', which works on whole models. "
            "Patterns take schemes that draw each weight on its own."
        )
    return scheme
