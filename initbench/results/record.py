"""What a run leaves behind: status, losses, evaluations, layer statistics, initialization report; strict JSON.

Numbers that do not exist (a measurement that overflowed, a run that diverged) are null, never NaN and never invented.
"""

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from html import escape
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, create_model

from initbench.errors import LONGEST, printable
from initbench.quantities import BY_NAME, OF_EVERY_RUN, Quantity
from initbench.question.config import Frozen, Job
from initbench.results.columns import InColumns

if TYPE_CHECKING:
    import pandas as pd


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Said = Annotated[str, BeforeValidator(lambda value: printable(value, 2 * LONGEST) if isinstance(value, str) else value)]
"""What somebody's code said, in one line without control characters."""
Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A finite float, or None where there is none; infinities and NaN become None on the way in."""


class RunStatus(StrEnum):
    """How a run ended; each one is a result and shows in every table."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    FAILED = "failed"
    SKIPPED = "skipped"


class Setter(StrEnum):
    """Who decided the value of a parameter."""

    SCHEME = "scheme"
    RULE = "rule"
    KEPT = "kept"
    EXCLUDED = "excluded"
    FROZEN = "frozen"
    UNTOUCHED = "untouched"


class ParameterInit(Frozen):
    """One parameter after initialization: who set it, what was promised and what was measured."""

    parameter: str
    shape: tuple[int, ...]
    setter: Setter
    by: str = Field(description="the scheme or rule in words, such as `kaiming` or `bias rule` or `norm keeps 1 and 0`")
    law: str | None = Field(default=None, description="normal, uniform, trunc_normal, orthogonal, constant, ...")
    fan_in: int | None = None
    fan_out: int | None = None
    target_mean: Number = None
    target_std: Number = None
    mean: Number = None
    std: Number = None


class InitReport(Frozen):
    """Every parameter of a model after initialization, in the model's own order."""

    scheme: str
    parameters: Annotated[Sequence[ParameterInit], InColumns()]
    lr_multipliers: dict[str, float] = Field(
        default_factory=dict, description="parameter name -> factor on the learning rate; absent means 1"
    )
    notes: tuple[Said, ...] = ()

    @property
    def untouched(self) -> tuple[str, ...]:
        """Names of the parameters that nothing set."""
        return tuple(entry.parameter for entry in self.parameters if entry.setter is Setter.UNTOUCHED)

    def to_pandas(self) -> "pd.DataFrame":
        """A row a parameter, with the columns of init.csv (docs/results.md)."""
        import pandas as pd

        columns = [*ParameterInit.model_fields, "lr_multiplier"]
        rows = [
            {**dict(entry), "shape": "x".join(map(str, entry.shape)), "lr_multiplier": self.lr_multipliers.get(entry.parameter, 1.0)}
            for entry in self.parameters
        ]
        return pd.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        """What a notebook shows: a row a parameter, what it should be and what it is."""
        title, *notes = [f"{self.scheme}: {len(self.parameters)} parameters", *self.remarks]
        shown = self.to_pandas()[["parameter", "shape", "by", "law", "target_std", "std", "mean"]]
        table = shown.to_html(index=False, na_rep="", border=0, float_format=lambda value: f"{value:.4g}")
        return f"<p><strong>{escape(title)}</strong></p>{table}{''.join(f'<p>{escape(note)}</p>' for note in notes)}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said beside the table: learning rates of their own, what nothing set, notes of the scheme."""
        rates = [f"learning rate x {factor:g}: {name}" for name, factor in self.lr_multipliers.items()]
        unset = f"Nothing set {', '.join(self.untouched)}. Give inputs, in_out or a pattern in layers, or exclude by name."
        return (*rates, *([unset] if self.untouched else []), *self.notes)

    def __str__(self) -> str:
        """A table for people: a line a parameter, what it should be and what it is."""
        rows = [("parameter", "shape", "set by", "law", "std", "measured", "mean")]
        rows += [
            (
                entry.parameter,
                "x".join(map(str, entry.shape)) or "scalar",
                entry.by,
                entry.law or "",
                _short(entry.target_std),
                _short(entry.std),
                _short(entry.mean),
            )
            for entry in self.parameters
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([f"{self.scheme}: {len(self.parameters)} parameters", *lines, *self.remarks])


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


class _LayerAtStep(Frozen):
    step: int
    layer: str
    position: int


def with_quantities(name: str, base: type[Frozen], quantities: Iterable[Quantity]) -> type[Frozen]:
    """A record with a field for each quantity: a number, or null."""
    fields: Any = {each.name: (Number, Field(default=None, description=each.meaning)) for each in quantities}
    return create_model(name, __base__=base, **fields)


if TYPE_CHECKING:

    class _MeasuredLayer(_LayerAtStep):
        def __getattr__(self, quantity: str) -> float | None: ...

else:
    _MeasuredLayer = with_quantities("_MeasuredLayer", _LayerAtStep, OF_EVERY_RUN)


class Prediction(NamedTuple):
    """What theory expects of a quantity: its value at infinite width, and the ends of the 95 % band for one network of this width."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


PREDICTED = {
    "pre_activation_variance": (
        "predicted_pre_activation_variance",
        "predicted_pre_activation_variance_low",
        "predicted_pre_activation_variance_high",
    ),
    "gradient_variance": ("predicted_gradient_variance", "predicted_gradient_variance_low", "predicted_gradient_variance_high"),
}
"""The quantities that theory predicts, with the fields that hold the prediction and the ends of its band."""


class Place(StrEnum):
    """Where a layer stands on the way of the signal, as far as a pass has shown it."""

    PATH = "path"
    BRANCH = "branch"
    BRANCH_END = "branch end"
    """The last layer of a residual branch, with which the residual stream behind it is kept."""
    NORMED_END = "normed branch end"
    """The same where norms hold what a block adds or passes on at its size."""
    SHORTCUT = "shortcut"
    ASIDE = "aside"
    """Outside of residual blocks, with another scale than the residual stream: its output is normalized first, or only gates another
    signal, or it is behind an average over all positions, or in front of the first norm of a post-norm stack."""
    HEAD = "head"


class LayerStats(_MeasuredLayer):
    """One weight layer at one step, measured on the fixed probe batch; the room `quantities` says what is measured.

    `pre_activation_*` is the weight layer's own output; `activation_*` is the output of the activation function that
    follows it (the same tensor where none follows). Variances are over batch, units and positions together (population,
    not sample). Gradients are of each image's own loss (sum over the batch), so they do not depend on the batch size.
    A null that `overflowed` names was no finite number; any other was not measured, for the reason in `not_measured`.
    """

    predicted_pre_activation_variance: Number = None
    predicted_pre_activation_variance_low: Number = None
    predicted_pre_activation_variance_high: Number = None
    predicted_gradient_variance: Number = None
    predicted_gradient_variance_low: Number = None
    predicted_gradient_variance_high: Number = None
    prediction_note: str | None = None
    size: int = Field(default=0, description="numbers that the layer gives for one input; 0 where that is not known")
    place: Place | None = Field(default=None, description="None in files from before it was written")
    overflowed: tuple[str, ...] | None = Field(
        default=None, description="the quantities that were no finite number; None in files from before that was written"
    )
    not_measured: str | None = None

    def value(self, quantity: str) -> float | None:
        """A quantity in its three states: a finite number, infinite where it overflowed, None where it was not measured."""
        return in_three_states(getattr(self, quantity), quantity, self.overflowed)

    def prediction(self, quantity: str) -> Prediction:
        """What theory expects of a quantity; three times None where it says nothing."""
        return Prediction(*(getattr(self, field) for field in PREDICTED.get(quantity, ())))


def in_three_states(value: float | None, quantity: str, overflowed: tuple[str, ...] | None) -> float | None:
    """A finite number as it is; of a null, infinity where it overflowed and None where it was not measured.

    A record that does not say what overflowed has a null for both, which is then an overflow unless layers may lack the quantity.
    """
    if value is not None:
        return value
    known = BY_NAME.get(quantity)
    lacks = (known is not None and known.optional) if overflowed is None else quantity not in overflowed
    return None if lacks else math.inf


class Evaluation(Frozen):
    """Loss and accuracy on the whole test split after `step` optimizer steps; accuracy is a fraction, None where the task has none.

    `test_score` is the task's own figure, such as dice, which `RunResult.score` describes.
    """

    step: int
    epoch: float
    test_loss: Number
    test_accuracy: Number
    test_score: Number = None


class ScoreOf(Frozen):
    """A figure of a task with a name of its own: which values are the better ones, and what lies outside of all; None: no bound."""

    name: str
    better: Literal["higher", "lower"]
    low: Number = None
    high: Number = None


class RunResult(Frozen):
    """Everything one job gave. `train_losses[i]` is the batch loss of step i + 1, before its update."""

    job_id: str
    job: Job
    status: RunStatus
    reason: Said | None = None
    first_bad_step: int | None = None
    parameters: int | None = Field(default=None, description="trainable parameters of the model")
    classes: int | None = None
    chance_loss: Number = Field(
        default=None, description="the test loss of guessing; None where accuracy says whether a run has trained, or nobody knows it"
    )
    score: ScoreOf | None = Field(default=None, description="the task's own figure, where it has one")
    train_losses: tuple[float, ...] = ()
    evaluations: Annotated[Sequence[Evaluation], InColumns()] = ()
    layers: Annotated[Sequence[LayerStats], InColumns()] = ()
    init: InitReport | None = None
    seconds: dict[str, float] = Field(default_factory=dict, description="total, data, init, train, probe, evaluate")
    provenance: dict[str, str] = Field(default_factory=dict)
