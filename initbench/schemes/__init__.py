"""The schemes: a file here with `build(*, ...) -> Scheme` is the scheme of its name; the contract is `initbench.init.contract`."""

from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise, Need, Scheme

__all__ = ["InitContext", "Law", "Layerwise", "Need", "Scheme"]
