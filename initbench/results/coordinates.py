"""What a coordinate check leaves behind: for each network of a width, how large its layers' outputs are while it is trained, and their
change since the first step; strict JSON like `results`.
"""

from pydantic import Field

from initbench.question.config import Frozen
from initbench.results.record import Number, RunStatus, Said


class LayerSizes(Frozen):
    """One layer, or the model's output: mean absolute numbers on a fixed batch, after 0, 1, ... steps; null where they are not finite."""

    layer: str
    outputs: tuple[Number, ...] = Field(description="of its output")
    changes: tuple[Number, ...] = Field(description="of its output minus that before the first step; the first is 0")


class WidthRun(Frozen):
    """What one scheme, one width and one seed gave; `losses` are those of the training batches, up to the first that is not finite."""

    scheme: str
    width: int
    seed: int
    status: RunStatus
    reason: Said | None = None
    first_bad_step: int | None = None
    layers: tuple[LayerSizes, ...] = ()
    losses: tuple[Number, ...] = ()
    device: str = ""
    notes: tuple[Said, ...] = ()

    @property
    def finite_until(self) -> int:
        """The last step up to which every number is there; 0 where none was taken, or one is missing at once."""
        rows = [(*layer.outputs, None) for layer in self.layers] + [(*layer.changes, None) for layer in self.layers]
        return min((row.index(None) for row in rows), default=1) - 1
