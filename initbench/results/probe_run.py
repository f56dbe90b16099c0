"""What a probe asks and what it finds: a signal through an untrained network, layer by layer; strict JSON like `results`."""

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field, computed_field, model_validator

from initbench.quantities import OF_PROBES
from initbench.question.config import Frozen, InitRules, Ref, RefField
from initbench.results.record import InitReport, LayerStats, Number, RunStatus, Said, with_quantities


class Question(Frozen):
    """Everything that changes what a probe finds: schemes and seeds, the model, what it is given."""

    schemes: tuple[RefField, ...] = Field(description="empty: the weights are looked at as they are")
    seeds: tuple[int, ...] = Field(min_length=1)
    model: RefField
    dataset: RefField | None = Field(default=None, description="the images that are given to the model; None where `input` is")
    input: str | None = Field(default=None, description="3x224x224 (normal numbers), int:1000:128 (whole numbers below 1000) or a file")
    batch_size: int = Field(default=256, ge=2)
    classes: int = Field(default=10, ge=1, description="what a builder is told, where no dataset says it")
    init: InitRules = InitRules()
    checkpoint: str | None = None

    @property
    def as_is(self) -> bool:
        """Whether the weights are looked at as they are."""
        return not self.schemes

    @property
    def given(self) -> str:
        """What the model is given, in words."""
        return str(self.dataset) if self.dataset is not None else self.input or "the given batch"


if TYPE_CHECKING:
    _ProbedLayer = LayerStats
else:
    _ProbedLayer = with_quantities("_ProbedLayer", LayerStats, OF_PROBES)


class ProbedLayer(_ProbedLayer):
    """One weight layer at initialization, with what only a probe measures."""

    @property
    def condition(self) -> float | None:
        """Largest over smallest singular value; infinite where the smallest is zero."""
        if self.jacobian_max is None or self.jacobian_min is None or not self.jacobian_max:
            return None
        return self.jacobian_max / self.jacobian_min if self.jacobian_min else math.inf

    @property
    def gradient_energy(self) -> float | None:
        """The squared length of one input's gradient: what backpropagation keeps where layers differ in size; None for no number."""
        return None if self.gradient_variance is None else self.gradient_variance * max(1, self.size)


class LayerLaw(Frozen):
    """What the numbers of one weight look like: their shape, their scale, and the known schemes that draw just so."""

    layer: str
    parameter: str
    shape: tuple[int, ...]
    mean: Number
    std: Number
    law: str = Field(description="normal, uniform, trunc_normal, orthogonal, constant, zero or none")
    schemes: tuple[str, ...] = Field(default=(), description="known schemes with this law and scale; the best known first")
    description: str = Field(description="the law and its scale, in words")
    drawn_by: str = Field(default="", description="the schemes in words, or what the numbers look like where no law is known")

    @model_validator(mode="before")
    @classmethod
    def _without_words(cls, given: Any) -> Any:
        """What is written includes the words; what is read does without them."""
        return {key: value for key, value in given.items() if key != "words"} if isinstance(given, dict) else given

    @computed_field  # type: ignore[prop-decorator]
    @property
    def words(self) -> str:
        """All of it in words."""
        return f"{self.description}: {self.drawn_by}" if self.drawn_by else self.description


class AttentionLayer(Frozen):
    """One attention at initialization: what its softmax over keys does, and how far apart the tokens are that come to it."""

    module: str
    keys: int
    entropy: Number = Field(description="of the weights over that of equal ones, the mean: 1 looks at all keys alike, 0 at one")
    largest: Number = Field(description="the largest weight, the mean")
    apart: Number = Field(
        default=None, description="the share of the tokens' squared length that is not common to all of an input: 0 is a collapse"
    )


class EmbeddingLayer(Frozen):
    """One embedding at initialization, which no scheme sets unless it is told to."""

    module: str
    rows: int
    width: int
    variance: Number = Field(description="of the numbers that it gives for the batch")


class ProbeRun(Frozen):
    """What one scheme and one seed gave."""

    scheme: str
    seed: int
    status: RunStatus
    reason: Said | None = None
    layers: tuple[ProbedLayer, ...] = ()
    attention: tuple[AttentionLayer, ...] = ()
    embeddings: tuple[EmbeddingLayer, ...] = ()
    laws: tuple[LayerLaw, ...] = ()
    init: InitReport | None = None
    left_alone: dict[str, str] = Field(
        default_factory=dict, description="weight layers that the scheme did not set, each with why: excluded by name, or frozen"
    )
    objective: str = Field(default="", description="what gradients are of, in words")
    first_loss: Number = None
    chance_loss: Number = Field(default=None, description="ln(classes): the loss of equal logits")
    output_std: Number = Field(default=None, description="of the outputs over the batch: the logits' scale")
    parameters: int | None = None
    device: str = Field(default="", description="what computed it: cpu, or the name of the accelerator")
    seconds: float = 0.0
    notes: tuple[Said, ...] = Field(default=(), description="what could not be told about the layers, and what the scheme says of itself")


def as_is_name(question: Question) -> str:
    """What stands in the place of a scheme where there is none."""
    return f"checkpoint {question.checkpoint}" if question.checkpoint else "as it is"


def scheme_name(scheme: Ref | None, question: Question) -> str:
    """The name that a run goes by."""
    return as_is_name(question) if scheme is None else str(scheme)
