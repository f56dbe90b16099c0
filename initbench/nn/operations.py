"""What torch's functions do to a signal, by their plain names: `relu_`, `Tensor.relu` and `F.relu` are all `relu`."""

from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

from torch import Tensor


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONVOLUTIONS = _names("conv1d conv2d conv3d")
TRANSPOSED = _names("conv_transpose1d conv_transpose2d conv_transpose3d")
ADDING = _names("addmm baddbmm addbmm addmv")
PRODUCTS = ADDING | _names("matmul linalg_matmul rmatmul mm bmm mv grouped_mm")
LAYERS = CONVOLUTIONS | TRANSPOSED | _names("linear bilinear")
WEIGHTED = LAYERS | PRODUCTS | _names("einsum inner tensordot")
"""Functions that apply a weight where one of their arguments is a parameter; layers say themselves which is the weight."""

CHAINS = _names("linalg_multi_dot multi_dot chain_matmul")
"""Products of several matrices, which are traced as products of two."""

FLIPS = _names("T mT H mH t transpose swapaxes swapdims adjoint permute movedim")
"""Functions that turn a matrix round (on two dimensions there is nothing else that they could do)."""

SUMS = _names("add radd iadd sub rsub isub subtract")
SCALINGS = _names("neg negative mul rmul imul multiply div truediv rtruediv itruediv divide")
MULTIPLICATIONS = _names("mul rmul imul multiply")
PRECISIONS = _names("to float double half bfloat16 type type_as")
LAYOUT = (
    FLIPS
    | PRECISIONS
    | _names("view reshape view_as reshape_as flatten unflatten squeeze unsqueeze contiguous clone detach requires_grad positive")
)
"""Functions that change only the shape, layout or precision."""

BENT = _names(
    "relu relu6 leaky_relu prelu rrelu elu celu selu gelu silu mish tanh sigmoid expit softplus logsigmoid softsign hardtanh hardsigmoid "
    "hardswish hardshrink softshrink tanhshrink threshold erf erfc sin cos tan atan arctan sinh cosh asinh square abs absolute exp expm1 "
    "log log1p pow rpow sqrt rsqrt reciprocal clamp clip clamp_min clamp_max sign maximum minimum where"
)
"""Elementwise functions with a bend: activations."""

GATES = _names("sigmoid expit hardsigmoid softmax")
"""Functions between 0 and 1: what they give multiplies a signal and is none itself."""

COMPARISONS = _names("gt lt ge le eq ne greater less greater_equal less_equal")

POOLINGS = frozenset(
    f"{adaptive}{kind}_pool{dims}d{tail}"
    for adaptive in ("", "adaptive_")
    for kind in ("max", "avg", "lp")
    for dims in "123"
    for tail in ("", "_with_indices")
) | {"mean", "interpolate", "upsample"}
NORMALIZATIONS = _names("batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm normalize")
DROPOUTS = _names("dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout")
PASSING = POOLINGS | NORMALIZATIONS | DROPOUTS | _names("pad cat concat stack pixel_shuffle channel_shuffle roll")
"""Functions that are looked through in search of a layer's activation; they show in what lies between."""

PIECES = _names("getitem chunk split tensor_split select narrow unbind index_select expand expand_as repeat")
"""Functions that give a part or copies of a signal: looked through, and not named."""

STATISTICS = _names("mean sum")
"""Functions that, after a square or a magnitude, make a statistic of a signal (a norm written out), which is none of its activations."""
EVEN = _names("square pow abs absolute mul multiply")

FRESH = _names("zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full new_tensor")
"""Functions that take no values from their tensor."""

ENDS = _names(
    "matmul linalg_matmul rmatmul bmm mm mv einsum tensordot inner baddbmm softmax log_softmax scaled_dot_product_attention argmax sum "
    "logsumexp cumsum embedding embedding_bag"
)
"""Functions that end the search for an activation: what comes after them is not the layer's own signal any more."""


def plain_name(func: Callable[..., Any]) -> str:
    """`relu` for `Tensor.relu_`, `sub` for `Tensor.__sub__`, `T` for the property, `expit` for `special_expit` (some versions)."""
    name: str = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "get")
    return name.strip("_").removeprefix("special_")


def tensors_in(values: object) -> Iterator[Tensor]:
    """All tensors in arguments or results: tuples, lists, mappings and dataclasses are looked into."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))
    elif hasattr(values, "__dataclass_fields__"):
        yield from tensors_in(list(vars(values).values()))
    elif isinstance(values, Mapping):
        yield from tensors_in(list(values.values()))


def argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str, default: Any) -> Any:
    """An argument that may have been given by position or by name."""
    return args[position] if len(args) > position else kwargs.get(name, default)


def opened(func: Callable[..., Any]) -> Callable[..., Any]:
    """A twin of a composite Python function of torch that does not hand itself to a mode as a whole, so its inside is seen."""
    if not isinstance(func, FunctionType):
        return func
    inside = {**func.__globals__, "has_torch_function": _never}
    twin = FunctionType(func.__code__, inside, func.__name__, func.__defaults__, func.__closure__)
    twin.__kwdefaults__ = func.__kwdefaults__
    return twin


def described(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The name of a looked-through function with what changes its effect: `dropout:p=0.1`, `max_pool2d:kernel_size=2`."""
    if name not in (POOLINGS | DROPOUTS) - {"mean", "interpolate", "upsample"}:
        return name
    key = "p" if name in DROPOUTS else "output_size" if name.startswith("adaptive") else "kernel_size"
    value = argument(args, kwargs, 1, key, None)
    if isinstance(value, tuple | list):
        text = str(value[0]) if len(set(value)) == 1 else f"[{','.join(map(str, value))}]"
        return f"{name}:{key}={text}"
    return f"{name}:{key}={value}"


def _never(*_: object) -> bool:
    return False
