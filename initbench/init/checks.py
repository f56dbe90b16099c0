"""What every scheme owes, examined on shipped models: for the schemes of this package and for those that users write."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, DoesNotApply
from initbench.init.contract import Need, Scheme
from initbench.init.initialize import build_scheme, initialize
from initbench.nn.build import build_model
from initbench.nn.naming import parameters_of
from initbench.nn.seeds import derived_seed, generator
from initbench.question.config import InitRules, Ref, parse_ref
from initbench.results.record import InitReport, ParameterInit, Setter

MODELS = (
    "mlp:depth=2,width=96",
    "mlp:depth=2,width=96,activation=tanh",
    "mlp:depth=2,width=96,activation=sin",
    "cnn",
    "residual_mlp:norm=none",
    "resnet:depth=8,norm=none",
    "resnet:depth=8",
    "vit:depth=2,width=64,norm=none",
    "vit:depth=2,width=64",
    "vit:depth=2,width=64,norm=post",
)
"""Plain, convolutional and residual networks and transformers, with norm and without."""
SHAPE, CLASSES, IMAGES = (1, 8, 8), 5, 128
MOST_MODELS = 3
"""So many of the models that a scheme applies to are examined; one where each start is itself a training."""
CRASHES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError, ArithmeticError)
"""What a scheme may fail with beside an error of ours."""
SIGMAS = 5.5
"""Deviations of an estimate beyond which it is no chance: about one in thirty million."""
ROUNDING = 1e-5
"""Relative difference that float32 explains."""
PLAIN = {"normal", "uniform", "trunc_normal", "orthogonal", "constant"}
FEWEST, FEWEST_OF_OTHERS = 32, 5000
"""Below so many values nothing is said, of a plain law or of another (which may have rare large values)."""
SEEDS = 4
LAYER_KINDS: tuple[Callable[[], nn.Module], ...] = (
    lambda: nn.Linear(128, 24),
    lambda: nn.Linear(24, 128),
    lambda: nn.Conv1d(16, 48, 5),
    lambda: nn.Conv2d(32, 16, 3, dilation=2),
    lambda: nn.Conv3d(8, 24, 3),
    lambda: nn.Conv2d(32, 64, 3, groups=4),
    lambda: nn.Conv2d(128, 256, 3, groups=128),
    lambda: nn.ConvTranspose2d(32, 16, 3),
    lambda: nn.ConvTranspose2d(32, 16, 4, stride=2, groups=2),
    lambda: nn.MultiheadAttention(48, 4),
    lambda: nn.MultiheadAttention(48, 4, kdim=24, vdim=24, add_bias_kv=True),
    lambda: nn.LSTM(24, 40),
    lambda: nn.LSTM(24, 40, proj_size=16),
    lambda: nn.GRU(40, 24),
    lambda: nn.Bilinear(8, 12, 24),
    lambda: nn.Linear(1, 1),
    lambda: nn.Linear(0, 3),
    lambda: nn.Linear(3, 0),
)
"""Layers of every kind, wide to narrow and narrow to wide, and shapes in which a formula may divide by zero."""


@dataclass(frozen=True)
class SchemeCheck:
    """One thing that a scheme owes: whether it holds, and a sentence on what was found."""

    what: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Start:
    """A model that was initialized, and the report."""

    model: nn.Module
    report: InitReport

    @property
    def values(self) -> dict[str, Tensor]:
        """Every parameter by name."""
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}


@dataclass(frozen=True)
class Case:
    """A scheme on a model: each `start` takes a new model."""

    scheme: Ref
    made: Scheme
    model: Ref

    def new(self) -> nn.Module:
        """The model as it is built."""
        return build_model(self.model, SHAPE, CLASSES)

    @cached_property
    def first(self) -> Start:
        """The model as the scheme starts it with seed 0."""
        return self.start()

    @cached_property
    def second(self) -> Start:
        """The same with seed 1."""
        return self.start(1)

    def start(self, seed: int = 0, *, model: nn.Module | None = None, rules: InitRules = InitRules()) -> Start:
        """A new model (or the one given), initialized. Raises: DoesNotApply."""
        model = self.new() if model is None else model
        kind = next(model.parameters()).dtype
        images = torch.randn(IMAGES, *SHAPE, generator=generator(0, "check"), dtype=torch.float32, device="cpu").to(kind)

        def batch(size: int, index: int) -> tuple[Tensor, Tensor]:
            chosen = torch.arange(size, device="cpu") + 7 * index
            return images[chosen % IMAGES], chosen % CLASSES

        report, _ = initialize(model, self.scheme, seed=seed, rules=rules, inputs=images[:2], batch=batch)
        return Start(model, report)


def check_scheme(scheme: Ref, model: Ref | None = None) -> tuple[SchemeCheck, ...]:
    """Everything that a scheme owes, examined on the shipped models that it applies to, or on the one given.

    Raises: ConfigError for a name or parameter that does not exist and for a file that gives no scheme; DoesNotApply for
    a given model that the scheme refuses.
    """
    made = build_scheme(scheme)
    cases: list[Case] = []
    refused: list[str] = []
    for ref in (model,) if model else map(parse_ref, MODELS):
        case = Case(scheme, made, ref)
        trial = case.new()
        before = {name: value.clone() for name, value in trial.state_dict().items()}
        try:
            case.start(model=trial)
        except DoesNotApply as error:
            if model:
                raise
            if not _same(before, dict(trial.state_dict())):
                refused.append(f"{ref} was changed before it was refused")
            elif not str(error).strip().endswith("."):
                refused.append(f"the reason to refuse {ref} is no sentence: '{error}'")
        except CRASHES as error:
            return (SchemeCheck("runs", passed=False, found=f"On {ref} it ends with {_told(error)}"),)
        else:
            cases.append(case)
    if not cases:
        said = f"It applies to none of {', '.join(MODELS)}. Name a model that it is for, with --model."
        return (SchemeCheck("runs", passed=False, found=said),)
    return tuple(_examined(cases[: 1 if Need.GRADIENTS in made.needs else MOST_MODELS], refused, len(MODELS) - len(cases)))


def _examined(cases: list[Case], refused: list[str], count: int) -> Iterator[SchemeCheck]:
    models = ", ".join(str(case.model) for case in cases)
    yield SchemeCheck("runs", passed=True, found=f"Examined on {models}.")
    fine = f"Refuses {count} of {len(MODELS)} shipped models with a sentence, and leaves them as they were."
    said = f"{refused[0].removesuffix('.')}." if refused else fine if count else "It refuses no shipped model."
    yield SchemeCheck("refusal", passed=not refused, found=said)
    for name, examine in CHECKS.items():
        faults: list[str] = []
        try:
            for case in cases:
                wrong = examine(case)
                faults += [f"{case.model}: {wrong}"] if wrong else []
        except (*CRASHES, ConfigError, DoesNotApply) as error:
            faults.append(f"It ends with {_told(error)}")
        yield SchemeCheck(name, not faults, faults[0] if faults else HOLDS[name])


def _law(case: Case) -> str | None:
    learns = Need.GRADIENTS in case.made.needs
    starts = [case.first] if learns else [case.first, case.second, case.start(2), case.start(3)]
    return deviation([(start.report, start.values) for start in starts])


def _report(case: Case) -> str | None:
    start = case.first
    entries = start.report.parameters
    names = list(parameters_of(start.model).first)
    if missing := [name for name in names if name not in {entry.parameter for entry in entries}]:
        return f"the report does not name {', '.join(missing[:3])}."
    if [entry.parameter for entry in entries] != names:
        return "the report does not follow the model's own order."
    if start.report.untouched:
        return f"nothing sets {', '.join(start.report.untouched[:3])}."
    if lawless := [entry.parameter for entry in entries if entry.setter is Setter.SCHEME and entry.law is None]:
        return f"it gives no law for {', '.join(lawless[:3])}: return Law(name, std) from the function that fills."
    if InitReport.model_validate_json(start.report.model_dump_json()) != start.report:
        return "the report is not the same after JSON."
    for entry in entries:
        values = start.values[entry.parameter].double()
        mean, std = values.mean().item(), values.std(correction=0).item()
        if entry.shape != tuple(values.shape) or not _near(entry.mean, mean) or not _near(entry.std, std):
            return f"of {entry.parameter} the report says mean {entry.mean}, std {entry.std}, and there it is {mean:.6g}, {std:.6g}."
    return None


def _determinism(case: Case) -> str | None:
    first, threads = case.first, torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        again = case.start()
    finally:
        torch.set_num_threads(threads)
    if not _same(first.values, again.values):
        return f"the same seed gives other values of {_first_difference(first.values, again.values)} on another number of threads."
    return None if again.report == first.report else "the same seed gives another report."


def _global_generator(case: Case) -> str | None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(0, "check"))
        state = torch.get_rng_state()
        again = case.start()
        moved = not torch.equal(state, torch.get_rng_state())
    if moved:
        return "it draws from torch's global generator."
    return None if _same(case.first.values, again.values) else "its values depend on torch's global generator."


def _other_layers(case: Case) -> str | None:
    if case.made.needs & {Need.DATA, Need.GRADIENTS}:
        return None
    whole = case.first
    left = next(entry.parameter for entry in whole.report.parameters if entry.setter is Setter.SCHEME and len(entry.shape) > 1)
    part = case.start(rules=InitRules(exclude=("embedding", left))).values
    kept = {name: value for name, value in whole.values.items() if name != left}
    return None if _same(kept, {name: part[name] for name in kept}) else f"other weights change when {left} is left out."


def _distinct(case: Case) -> str | None:
    start = case.first
    drawn = [entry.parameter for entry in start.report.parameters if entry.law and entry.std and len(entry.shape) > 1]
    if _same(start.values, case.second.values):
        return None
    weights = {name: start.values[name].flatten() for name in drawn}
    for index, first in enumerate(drawn):
        for second in drawn[index + 1 :]:
            one, other = weights[first], weights[second]
            count = min(len(one), len(other), 64)
            if count > 8 and torch.allclose(one[:count] / one[:count].norm(), other[:count] / other[:count].norm(), atol=1e-6):
                return f"{first} and {second} hold the same values."
    return None


def _precision(case: Case) -> str | None:
    exact, known = case.first.values, dict(case.new().named_parameters())
    for kind in (torch.bfloat16, torch.float16):
        rounded = case.start(model=case.new().to(kind))
        for name, value in rounded.values.items():
            if value.dtype != kind and name in known:
                return f"{name} is no longer {kind} afterwards."
            if not value.isfinite().all():
                return f"{name} is not finite in {kind}."
        if not case.made.needs & {Need.DATA, Need.GRADIENTS}:
            kept = {name for name in exact if "embedding" not in name}
            wrong = [name for name in kept if not torch.allclose(rounded.values[name].float(), exact[name], rtol=0.02, atol=1e-3)]
            if wrong:
                return f"{wrong[0]} in {kind} is not what it is in float32, rounded."
    return None


def _frame(case: Case) -> str | None:
    model = case.new()
    layer = next(name for name, parameter in model.named_parameters() if parameter.dim() > 1)
    frozen = dict(model.named_parameters())[layer].requires_grad_(False)  # noqa: FBT003 - torch's own
    before, kept = {name: (value.shape, value.dtype, value.requires_grad) for name, value in model.named_parameters()}, frozen.clone()
    start = case.start(model=model)
    after = {name: (value.shape, value.dtype, value.requires_grad) for name, value in start.model.named_parameters()}
    for name, frame in before.items():
        if after.get(name) != frame:
            return f"{name} has another shape, type or requires_grad afterwards."
    added = [name for name in after if name not in before]
    if added and Need.HOOKS not in case.made.needs:
        return f"it adds the parameter {added[0]} without saying that it needs {Need.HOOKS}."
    if not torch.equal(kept, start.values[layer]):
        return f"it changes {layer}, which is frozen."
    with torch.no_grad():
        output = start.model.eval()(torch.randn(4, *SHAPE, generator=generator(1, "check"), dtype=torch.float32, device="cpu"))
    return None if output.isfinite().all() else "the network gives numbers that are not finite."


CHECKS: dict[str, Callable[[Case], str | None]] = {
    "law": _law,
    "layer kinds": lambda case: on_layer_kinds(lambda module, seed: initialize(module, case.scheme, seed=seed)[0]),
    "report": _report,
    "determinism": _determinism,
    "global generator": _global_generator,
    "other layers": _other_layers,
    "distinct": _distinct,
    "precision": _precision,
    "frame": _frame,
}
HOLDS = {
    "law": "Mean and spread of every parameter are those that the report promises.",
    "layer kinds": "Convolutions, groups, transposed, attention, gates and empty shapes too, where they are not refused.",
    "report": "The report names every parameter, with what is there.",
    "determinism": "The same seed gives the same bytes, on one thread and on two.",
    "global generator": "torch's global generator is neither read nor moved.",
    "other layers": "A weight does not change when another is left out.",
    "distinct": "No two weights hold the same values.",
    "precision": "bfloat16 and float16 get the same values, rounded.",
    "frame": "Shapes, types and requires_grad stay; what is frozen is left alone; the network runs.",
}
"""What is said where a check found nothing."""


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _first_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> str:
    return next((name for name in first if name not in second or not torch.equal(first[name], second[name])), "some parameter")


def _near(told: float | None, there: float) -> bool:
    return told is not None and abs(told - there) <= 1e-4 * abs(there) + 1e-6


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()).removesuffix('.')}."


def deviation(starts: Sequence[tuple[InitReport, Mapping[str, Tensor]]]) -> str | None:
    """What is wrong with the first parameter whose values, of all starts together, do not fit the promise; else None.

    The sum of squares around the promised mean over the promised variance is n on average, and its variance is n (k - 1)
    with k the kurtosis, 2 n for normal values (chi-square); k is taken from the values, so any law can be promised.
    """
    for index, entry in enumerate(starts[0][0].parameters):
        entries = [report.parameters[index] for report, _ in starts]
        wrong = _wrong(entries, [values[entry.parameter] for _, values in starts])
        if wrong:
            return f"{entry.parameter}: {wrong}"
    return None


def on_layer_kinds(start: Callable[[nn.Module, int], InitReport]) -> str | None:
    """What is wrong on the first kind of layer that does not get what is promised; None where all do, or are refused.

    `start` initializes a module with a seed and gives the report.
    """
    for make in LAYER_KINDS:
        starts = []
        for seed in range(SEEDS):
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch's about empty tensors
                module = make()
            try:
                report = start(module, seed)
            except DoesNotApply:
                break
            except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
                return f"{_called(module)}: it ends with {type(error).__name__}: {' '.join(str(error).split())[:200].removesuffix('.')}."
            starts.append((report, {name: parameter.detach() for name, parameter in module.named_parameters()}))
        wrong = deviation(starts) if starts else None
        if wrong:
            return f"{_called(module)}: {wrong}"
    return None


def _called(module: nn.Module) -> str:
    parts = [part for part in module.modules() if not list(part.children())] if isinstance(module, nn.Sequential) else [module]
    return " ".join(str(parts[0]).split()) if parts else type(module).__name__


def _wrong(entries: Sequence[ParameterInit], tensors: Sequence[Tensor]) -> str | None:
    scaled = []
    for entry, tensor in zip(entries, tensors, strict=True):
        if entry.target_mean is None or entry.target_std is None or tensor.is_complex():
            return None
        values = tensor.double().flatten() - entry.target_mean
        if entry.target_std == 0:
            if values.numel() and values.abs().max() > ROUNDING * max(1e-3, abs(entry.target_mean)):
                return f"the law is the constant {entry.target_mean:.6g}, and there are other values."
            continue
        scaled.append(values / entry.target_std)
    count = sum(values.numel() for values in scaled)
    if count < (FEWEST if entries[0].law in PLAIN else FEWEST_OF_OTHERS):
        return None
    z = torch.cat(scaled)
    square, mean = z.square().mean().item(), z.mean().item()
    kurtosis = z.pow(4).mean().item() / square**2 if square > 0 else 1.0
    entry = entries[0]
    if abs(square - 1) > SIGMAS * math.sqrt(max(0.0, kurtosis - 1) / count) * max(1.0, square) + ROUNDING:
        measured = entry.target_std * math.sqrt(square) if entry.target_std else 0.0
        return f"std {entry.target_std:.5g} is promised, and over {count:,} values it is {measured:.5g}."
    if abs(mean) > SIGMAS / math.sqrt(count) + ROUNDING:
        measured = (entry.target_mean or 0.0) + mean * (entry.target_std or 0.0)
        return f"mean {entry.target_mean:.5g} is promised, and over {count:,} values it is {measured:.5g}."
    return None
