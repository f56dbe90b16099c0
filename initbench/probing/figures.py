"""What the plots of a probe show, as data for `draw`: each quantity through the layers, with the prediction behind it."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from initbench.probing.health import LayerHealth, SchemeHealth
from initbench.quantities import BY_NAME, QUANTITIES, Figure, Quantity
from initbench.reporting.figures import name_ticks, not_measured, stands_apart, stream_ends
from initbench.reporting.panels import STREAM, Band, Curve, Panel, Plot, Points, in_rows
from initbench.reporting.roles import layer_roles
from initbench.results.record import PREDICTED, Place, RunStatus

ENTERING = "activation_variance"
"""The quantity in whose plot embeddings stand, too."""
MOST_SHOWN = 18
"""Schemes in one plot: as many as there are different lines; the best and the worst are shown."""


def plots(schemes: Sequence[SchemeHealth]) -> tuple[Plot, ...]:
    """All plots of a probe, those with a prediction first and shares last; those without anything to show are left out."""
    done = [each for each in schemes if each.status is RunStatus.COMPLETED and len(each.layers) > 1]
    shown = done if len(done) <= MOST_SHOWN else [*done[: MOST_SHOWN // 2], *done[-MOST_SHOWN // 2 :]]
    half = MOST_SHOWN // 2
    notes = () if shown == done else (f"The {half} best and the {half} worst of {len(done)} schemes",)
    drawn = [(quantity, quantity.probe_plot) for quantity in QUANTITIES if quantity.probe_plot is not None]
    drawn.sort(key=lambda pair: (pair[0].name not in PREDICTED, pair[0].unit == "share"))
    made = (_plot(quantity, figure, shown, notes) for quantity, figure in drawn)
    return tuple(plot for plot in made if any(panel.lines for panel in plot.panels))


def _plot(quantity: Quantity, figure: Figure, schemes: Sequence[SchemeHealth], notes: tuple[str, ...]) -> Plot:
    roles = layer_roles(layer.layer for scheme in schemes for layer in scheme.layers)
    names = tuple(scheme.scheme for scheme in schemes)
    entering = [_embeddings(figure, schemes)] if quantity.name == ENTERING and any(scheme.embeddings for scheme in schemes) else []
    if not roles:
        title = "weight layers" if entering else ""
        return Plot(figure.name, figure.title, ((_panel(title, quantity, figure, schemes, notes, None), *entering),), names)
    rows = in_rows([*(_panel(name, quantity, figure, schemes, notes, role) for name, role in roles.items()), *entering])
    if quantity.stream and (ends := stream_ends(layer for scheme in schemes for layer in scheme.layers)):
        stream = _panel(STREAM, BY_NAME[quantity.stream], figure, schemes, notes, ends)
        rows = ((replace(stream, x_label="residual block", head=None),), *rows)
    return Plot(figure.name, figure.title, rows, names, parts=True)


def _embeddings(figure: Figure, schemes: Sequence[SchemeHealth]) -> Panel:
    """The variance of what each embedding gives, which enters the network in front of all layers."""
    names = dict.fromkeys(each.module for scheme in schemes for each in scheme.embeddings)
    places = {name: float(place) for place, name in enumerate(names, 1)}
    lines = [
        Curve(scheme.scheme, tuple((places[each.module], each.variance) for each in scheme.embeddings), named=True)
        for scheme in schemes
        if scheme.embeddings
    ]
    ticks = name_ticks({place: re.sub(r"[._]embeddings?$", "", name) for name, place in places.items()}, None)
    notes = ("What enters the network; schemes leave embeddings as they are unless they are told to set them",)
    return Panel("embeddings", "embedding", figure.label, tuple(lines), scale="log", notes=notes, ticks=ticks)


def _panel(
    title: str,
    quantity: Quantity,
    figure: Figure,
    schemes: Sequence[SchemeHealth],
    notes: tuple[str, ...],
    only: tuple[str, ...] | None,
) -> Panel:
    """The quantity through the layers, or through `only` those."""
    lines: list[Curve] = []
    bands: list[Band] = []
    names: dict[float, str] = {}
    head: float | None = None
    seen: list[LayerHealth] = []
    for scheme in schemes:
        layers = [layer for layer in scheme.layers if only is None or layer.layer in only]
        layers = layers[:-1] if quantity.hidden and layers and layers[-1] is scheme.layers[-1] else layers
        placed = [(float(place), layer) for place, layer in enumerate(layers, 1)]
        names |= {place: layer.layer for place, layer in placed}
        seen += layers
        head = max((place for place, layer in placed if layer.place is Place.HEAD and stands_apart(placed, only)), default=head)
        points = _points(quantity, placed)
        if any(y is not None for _, y in points):
            lines.append(Curve(scheme.scheme, points[::-1] if quantity.backward else points, named=True))
        predictions = [(place, layer.expected.prediction(quantity.name)) for place, layer in placed]
        theory = tuple((x, expected.value) for x, expected in predictions if expected.value is not None)
        lines += [Curve(scheme.scheme, theory, "theory")] if theory else []
        limits = tuple((x, low, high) for x, (low, high) in _limits(quantity, placed) if low is not None and high is not None)
        bands += [Band(scheme.scheme, limits)] if limits else []
    predicted = "Dashed line and band: what theory predicts for one network of this width (95 %)"
    how = figure.note or predicted * bool(bands)
    missing = not_measured(seen, quantity) or (("nothing was measured",) if not lines else ())
    what = "weight layer" if only is None else "layer of this kind"
    return Panel(
        title,
        f"{what}, from the output back to the input" if quantity.backward else what,
        figure.label,
        tuple(lines),
        tuple(bands),
        scale="log" if quantity.unit == "number" else "percent",
        layers="backward" if quantity.backward else "forward",
        head=head,
        notes=(*notes, *([how] if how else []), *missing),
        ticks=name_ticks(names, None if only is None else title),
    )


def _points(quantity: Quantity, placed: Sequence[tuple[float, LayerHealth]]) -> Points:
    """The quantity at each layer that was measured; None where it overflowed, which only a logarithm shows."""
    measured = [(place, value) for place, layer in placed if (value := layer.value(quantity.name)) is not None]
    return tuple((x, y if math.isfinite(y) else None) for x, y in measured if quantity.unit == "number" or math.isfinite(y))


def _limits(quantity: Quantity, placed: Sequence[tuple[float, LayerHealth]]) -> list[tuple[float, tuple[float | None, float | None]]]:
    """At each layer the lowest and the highest value: measured ones where there are, else the predicted band."""
    if quantity.spread is not None:
        low, high = quantity.spread
        return [(place, (getattr(layer, low), getattr(layer, high))) for place, layer in placed]
    return [(place, layer.expected.prediction(quantity.name)[1:]) for place, layer in placed]
