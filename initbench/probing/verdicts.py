"""How well each scheme keeps the signal of an untrained network: numbers, a rank, and one verdict a scheme in words."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from initbench.probing.health import HEALTHY_DECADES, KEPT_DECADES, UNDERFLOW, LayerHealth, SchemeHealth, inside, inside_bands
from initbench.results.probe_record import ProbedLayer, ProbeRun
from initbench.results.record import RunStatus
from initbench.statistics.inference import median

NOTHING_DECADES = 6.0
"""A millionth of a variance counts as nothing."""
ALIKE = 0.999
"""Two inputs of this correlation are one to the network."""
UNTRUSTWORTHY_LOSS = 2.0
"""A first loss of so many times ln(classes) is worth a word."""
NEARLY_ALL = 0.9
"""A layer is dead when this share of its units is."""
STRAYING = 0.25
"""From this relative standard deviation on it is said how far theory expects single networks to stray."""
PACE = 1.05
"""A signal that is lost at a slower pace is lost by something else."""
HALF_BAND = 1.96
"""Standard deviations of half a 95 % band."""


def assess(runs: Iterable[ProbeRun], others: Iterable[ProbeRun] = ()) -> tuple[SchemeHealth, ...]:
    """Every scheme, the one that keeps the signal best first; `others` were only probed to have something to recommend."""
    found = sorted((_assessed(name, list(group)) for name, group in _by_scheme(runs)), key=_rank)
    spare = sorted((_assessed(name, list(group)) for name, group in _by_scheme(others)), key=_rank)
    return tuple(_with_verdict(each, [*found, *spare]) for each in found)


def _by_scheme(runs: Iterable[ProbeRun]) -> Iterable[tuple[str, Iterable[ProbeRun]]]:
    runs = list(runs)
    order = {name: index for index, name in enumerate(dict.fromkeys(run.scheme for run in runs))}
    return groupby(sorted(runs, key=lambda run: order[run.scheme]), key=lambda run: run.scheme)


def _rank(found: SchemeHealth) -> tuple[bool, float, float]:
    loss = math.inf if found.first_loss is None or found.chance_loss is None else abs(found.first_loss - found.chance_loss)
    return found.status is not RunStatus.COMPLETED, round(found.decades, 3), loss


def _assessed(scheme: str, runs: list[ProbeRun]) -> SchemeHealth:
    done = [run for run in runs if run.status is RunStatus.COMPLETED]
    if not done:
        return SchemeHealth(scheme, runs[0].status, runs[0].reason, 0)
    layers = tuple(_layer([run.layers[index] for run in done]) for index in range(len(done[0].layers)))
    forward, backward = _ways(layers)
    return SchemeHealth(
        scheme=scheme,
        status=RunStatus.COMPLETED,
        reason=None,
        seeds=len(done),
        layers=layers,
        activations=_ratio(forward),
        gradients=_ratio(backward),
        decades=max(_farthest(forward), _farthest(backward)),
        leaves_at=_leaves(forward) or _leaves(backward),
        first_loss=_middle(run.first_loss for run in done),
        chance_loss=done[0].chance_loss,
        output_std=_middle(run.output_std for run in done),
    )


Way = list[tuple[str, float | None]]
"""Layers and their signal, in the order in which it goes."""


def _ways(layers: Sequence[LayerHealth]) -> tuple[Way, Way]:
    """The signal's way forward and back through the hidden layers, without branches that begin at zero: it goes around them.

    The way back is empty where there is no loss, and where the last layer begins at zero, as the heads of Fixup do on purpose.
    """
    hidden = layers[:-1] if len(layers) > 2 else layers
    forward: Way = [(layer.layer, layer.activation_variance) for layer in hidden]
    backward: Way = [(layer.layer, layer.gradient_energy) for layer in reversed(hidden)]
    if all(value is None for _, value in backward) or _head_begins_at_zero(layers):
        backward = []
    ways = [[each for each in way if each[1] != 0] if way and way[-1][1] else way for way in (forward, backward)]
    return ways[0], ways[1]


def _head_begins_at_zero(layers: Sequence[LayerHealth]) -> bool:
    *hidden, last = layers
    alone = bool(last.gradient_energy) and all(layer.gradient_energy == 0 for layer in hidden)
    return alone and bool(hidden) and last.pre_activation_variance == 0 and bool(hidden[-1].activation_variance)


def _layer(each: Sequence[ProbedLayer]) -> LayerHealth:
    def middle(value: Callable[[ProbedLayer], float | None]) -> float | None:
        return _middle(value(layer) for layer in each)

    verdicts = [inside for layer in each for inside in inside_bands(layer)]
    return LayerHealth(
        layer=each[0].layer,
        pre_activation_variance=middle(lambda layer: layer.pre_activation_variance),
        activation_variance=middle(lambda layer: layer.activation_variance),
        zero_fraction=middle(lambda layer: layer.zero_fraction),
        dead_fraction=middle(lambda layer: layer.dead_fraction),
        gradient_variance=middle(lambda layer: layer.gradient_variance),
        gradient_energy=middle(lambda layer: layer.gradient_energy),
        correlation=middle(lambda layer: layer.correlation),
        jacobian_mean=middle(lambda layer: layer.jacobian_mean),
        jacobian_max=middle(lambda layer: layer.jacobian_max),
        jacobian_min=middle(lambda layer: layer.jacobian_min),
        condition=middle(lambda layer: layer.condition),
        expected=each[0],
        outside=verdicts.count(False),
        bands=len(verdicts),
    )


def _middle(values: Iterable[float | None]) -> float | None:
    found = [math.inf if value is None else value for value in values]
    middle = median(found)
    return middle if math.isfinite(middle) else None


def _ratio(path: Sequence[tuple[str, float | None]]) -> float | None:
    if not path:
        return None
    first, last = path[0][1], path[-1][1]
    return last / first if first and last and math.isfinite(last / first) else None


def _strays(path: Sequence[tuple[str, float | None]]) -> list[tuple[str, float]]:
    """For each layer how many powers of ten its variance is away from where the signal entered."""
    entered = path[0][1] if path else None
    return [(layer, math.inf if not value or not entered else abs(math.log10(value) - math.log10(entered))) for layer, value in path]


def _farthest(path: Sequence[tuple[str, float | None]]) -> float:
    return max((away for _, away in _strays(path)), default=0.0)


def _leaves(path: Sequence[tuple[str, float | None]]) -> str | None:
    return next((layer for layer, away in _strays(path) if away > HEALTHY_DECADES), None)


def _with_verdict(found: SchemeHealth, every: Sequence[SchemeHealth]) -> SchemeHealth:
    if found.status is RunStatus.SKIPPED:
        return _saying(found, f"does not apply: {(found.reason or '').rstrip('.')}")
    if found.status is not RunStatus.COMPLETED:
        return _saying(found, f"failed: {(found.reason or '').rstrip('.')}")
    best = next((other for other in every if other.keeps and other.scheme != found.scheme), None)
    words = _signal_words(found)
    kept = "it" if words.startswith("the signal") else "them"
    remedy = [f"{best.scheme} would keep {kept}"] if best is not None and not found.keeps else []
    return _saying(found, "; ".join([words, *remedy, *_asides(found)]))


def _saying(found: SchemeHealth, sentence: str) -> SchemeHealth:
    return SchemeHealth(**{**vars(found), "verdict": sentence})


def _signal_words(found: SchemeHealth) -> str:
    hidden = found.layers[:-1] if len(found.layers) > 2 else found.layers
    steps = len(hidden) - 1
    gone = _gone(found.layers)
    if gone:
        return gone
    forward, backward = _decades(found.activations), _decades(found.gradients)
    if found.keeps or steps < 1:
        ratios = (("activations", found.activations), ("gradients", found.gradients))
        parts = [f"{what} {_times(ratio)}" for what, ratio in ratios if ratio]
        return "keeps the signal" + (f": {', '.join(parts)} from end to end" if parts else "")
    what, decades, to = (
        ("gradients", backward, "the first one") if abs(backward) >= abs(forward) - 0.5 else ("activations", forward, "the last one")
    )
    if abs(decades) <= KEPT_DECADES:
        return f"the signal leaves its range on the way, {10**found.decades:.3g}x, and comes back"
    factor = 10 ** (abs(decades) / steps)
    verb = "shrink" if decades < 0 else "grow"
    layers = math.ceil(NOTHING_DECADES / math.log10(factor))
    pace = f"{what} {verb} {factor:.{1 if factor >= 1.95 else 2}f}x a layer"
    if layers > steps:
        return f"{pace}, {_large(10 ** abs(decades))}x in all"
    end = f"nothing reaches {to}" if decades < 0 else "they are a million times as large"
    return f"{pace}: after {layers} layers {end}"


def _gone(layers: Sequence[LayerHealth]) -> str | None:
    """Where a signal is zero or overflows, in words."""
    for what, path in zip(("activations", "gradients"), _ways(layers), strict=True):
        for index, (layer, value) in enumerate(path):
            if not value:
                end = "overflow" if value is None else f"are {'constant' if what == 'activations' else 'zero'}"
                return f"{what} {_pace_until([before or 0.0 for _, before in path[:index]])}{end} at {layer}"
    return None


def _pace_until(before: Sequence[float]) -> str:
    """How fast a signal went to where it ends, in words that go before how it ends; nothing where that is no matter of pace."""
    if len(before) < 2:
        return ""
    factor = (before[-1] / before[0]) ** (1 / (len(before) - 1))
    faster = max(factor, 1 / factor)
    return f"{'grow' if factor > 1 else 'shrink'} {faster:.{1 if faster >= 1.95 else 2}f}x a layer until they " if faster >= PACE else ""


def _straying(found: SchemeHealth) -> str | None:
    """How far networks of this width stray at the last hidden layer, where that is far; None where these stray even farther."""
    last = found.layers[-2] if len(found.layers) > 2 else found.layers[-1]
    low, high = last.expected.predicted_pre_activation_variance_low, last.expected.predicted_pre_activation_variance_high
    if low is None or high is None or low < UNDERFLOW or not inside(last.pre_activation_variance, low, high):
        return None
    deviation = math.log(high / low) / (2 * HALF_BAND)
    if deviation < STRAYING:
        return None
    far = f"some {deviation:.0%}" if deviation < 1 else f"a factor of {_large(math.exp(deviation))}"
    return f"single networks of this width stray by {far} at {last.layer}, as theory expects"


def _asides(found: SchemeHealth) -> list[str]:
    parts = [straying] if (straying := _straying(found)) else []
    if _head_begins_at_zero(found.layers):
        parts.append(f"{found.layers[-1].layer} begins at zero and alone learns at first")
    shut = sum(layer.gradient_energy == 0 for layer in found.layers[:-1])
    if shut and found.layers[0].gradient_energy:
        parts.append(f"{shut} layers in branches that begin at zero get no gradient at first")
    if found.leaves_at is not None and len(found.layers) > 2:
        parts.append(f"the signal leaves the healthy range at {found.leaves_at}")
    hidden = found.layers[:-1] if len(found.layers) > 2 else found.layers
    alike = next((layer for layer in hidden if layer.correlation is not None and layer.correlation > ALIKE), None)
    if alike is not None:
        parts.append(f"from {alike.layer} on all inputs look alike (correlation above {ALIKE})")
    dead = next((layer for layer in hidden if layer.dead_fraction is not None and layer.dead_fraction > NEARLY_ALL), None)
    if dead is not None and dead.dead_fraction is not None:
        parts.append(f"{dead.dead_fraction:.0%} of the units of {dead.layer} are dead")
    if found.first_loss is not None and found.chance_loss and found.first_loss > UNTRUSTWORTHY_LOSS * found.chance_loss:
        parts.append(f"the first loss is {_large(found.first_loss)}, where equal logits give {found.chance_loss:.2f}")
    return parts


def _decades(ratio: float | None) -> float:
    return math.log10(ratio) if ratio else 0.0


def _times(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 100 else f"{_large(ratio)}x"


def _large(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.0f}" if 100 <= value < 1e6 else f"{value:.3g}"
