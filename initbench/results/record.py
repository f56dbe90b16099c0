"""What a run leaves behind: status, losses, evaluations, layer statistics, initialization report; strict JSON.

Numbers that do not exist (a measurement that overflowed, a run that diverged) are null, never NaN and never invented.
"""

import math
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from initbench.question.config import Frozen, Job


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    parameters: tuple[ParameterInit, ...]
    lr_multipliers: dict[str, float] = Field(
        default_factory=dict, description="parameter name -> factor on the learning rate; absent means 1"
    )
    notes: tuple[str, ...] = ()

    @property
    def untouched(self) -> tuple[str, ...]:
        """Names of the parameters that nothing set."""
        return tuple(entry.parameter for entry in self.parameters if entry.setter is Setter.UNTOUCHED)

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
        lines += [f"learning rate x {factor:g}: {name}" for name, factor in self.lr_multipliers.items()]
        if self.untouched:
            lines.append(f"Nothing set {', '.join(self.untouched)}. Give inputs, in_out or a pattern in layers, or exclude by name.")
        return "\n".join([f"{self.scheme}: {len(self.parameters)} parameters", *lines, *self.notes])


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


class LayerStats(Frozen):
    """One weight layer at one step, measured on the fixed probe batch.

    `pre_activation_*` is the weight layer's own output; `activation_*` is the output of the activation function that
    follows it (the same tensor where none follows). Variances are over batch, units and positions together (population,
    not sample). Gradients are of each image's own loss (sum over the batch), so they do not depend on the batch size.
    """

    step: int
    layer: str
    position: int
    pre_activation_mean: Number = None
    pre_activation_variance: Number = None
    activation_mean: Number = None
    activation_variance: Number = None
    zero_fraction: Number = Field(default=None, description="share of activations that are exactly zero")
    dead_fraction: Number = Field(default=None, description="share of units whose activation is zero on the whole probe batch")
    gradient_variance: Number = Field(default=None, description="of the loss with respect to the layer's output")
    weight_variance: Number = None
    weight_gradient_norm: Number = Field(default=None, description="Euclidean norm; gradient of the mean loss")
    update_ratio: Number = Field(default=None, description="norm of the next optimizer step over norm of the weight; null at the last step")
    predicted_pre_activation_variance: Number = None
    predicted_pre_activation_variance_low: Number = None
    predicted_pre_activation_variance_high: Number = None
    predicted_gradient_variance: Number = None
    predicted_gradient_variance_low: Number = None
    predicted_gradient_variance_high: Number = None
    prediction_note: str | None = None


class Evaluation(Frozen):
    """Loss and accuracy on the whole test split after `step` optimizer steps; accuracy is a fraction."""

    step: int
    epoch: float
    test_loss: Number
    test_accuracy: Number


class RunResult(Frozen):
    """Everything one job gave. `train_losses[i]` is the batch loss of step i + 1, before its update."""

    job_id: str
    job: Job
    status: RunStatus
    reason: str | None = None
    first_bad_step: int | None = None
    parameters: int | None = Field(default=None, description="trainable parameters of the model")
    classes: int | None = None
    train_losses: tuple[float, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    layers: tuple[LayerStats, ...] = ()
    init: InitReport | None = None
    seconds: dict[str, float] = Field(default_factory=dict, description="total, data, init, train, probe, evaluate")
    provenance: dict[str, str] = Field(default_factory=dict)
