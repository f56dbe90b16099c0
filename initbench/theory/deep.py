"""The prediction of a very deep plain network in one sweep: fluctuations are followed to first order in their logarithms.

Between layers a replica's log length obeys x' = slope x + noise, with the slope and the noise of `units.py` at the
infinite-width line; so all noise is drawn at once and a layer costs a few additions. It agrees with the replicas of
`forward.py` where those stay near the line in log space, which is where a 95 % band says anything.
"""

from dataclasses import dataclass, fields, replace
from math import acos, log, sqrt

import numpy as np

from initbench.theory import backward, forward
from initbench.theory.activations import Activation, activation
from initbench.theory.functions import Array
from initbench.theory.network import InputStats, LayerSpec
from initbench.theory.signal import Measured, TheorySignal
from initbench.theory.units import NOISES, SMALLEST, UnitStatistics, unit_table

NEAR_Q, NEAR_ANGLE = 0.02, 0.02
"""Layers whose log q and arccos c differ by less share their statistics."""
DEPTH = 150
"""Nodes from which a plain network is predicted this way."""


@dataclass(frozen=True)
class Place:
    """A weight layer on the infinite-width line: its length, correlations, and what its activation does there.

    `alone` (2, 2): the noise that each input makes by itself (`UnitStatistics.alone`).
    """

    q: float
    c: float
    c_mean: float
    c_class: float
    stretch: float
    bend: float
    passed: float
    statistics: UnitStatistics | None
    alone: Array


def deep_prediction(
    specs: tuple[LayerSpec, ...], activations: tuple[str | Activation, ...], inputs: InputStats, replicas: int, random: np.random.Generator
) -> tuple[list[Measured], list[Measured]]:
    """Pre-activation and gradient variances of each layer; each layer but the last is followed by its activation."""
    places = _line(specs, activations, inputs)
    units = np.array([spec.units for spec in specs], dtype=np.float64)
    tied = np.array(
        [forward.tied(spec) + forward.steady(spec, 1 - place.passed, place.c) for spec, place in zip(specs, places, strict=True)]
    )
    factors = np.stack([np.eye(NOISES) if place.statistics is None else place.statistics.factor[0] for place in places])
    factors[:, :, 0] *= np.sqrt(np.maximum(1 - tied, 0.0))[:, None]
    factors /= np.sqrt(units)[:, None, None]
    variance = np.square(factors).sum(axis=2)
    drawn = np.matmul(random.standard_normal((len(specs), replicas, NOISES)), factors.transpose(0, 2, 1))
    alone = np.stack([place.alone for place in places]) / np.sqrt(units)[:, None, None]
    variance[:, [1, 3]] += np.square(alone).sum(axis=2)
    drawn[:, :, [1, 3]] += np.matmul(random.standard_normal((len(specs), replicas, 2)), alone.transpose(0, 2, 1))
    logarithm = variance * (1 + 0.6 * np.minimum(variance, 1.0))
    noise = drawn * np.sqrt(logarithm / np.maximum(variance, 1e-300))[:, None] - logarithm[:, None] / 2
    lengths = np.zeros((len(specs), replicas))
    for index, place in enumerate(places[:-1]):
        lengths[index + 1] = places[index + 1].passed * (place.stretch * lengths[index] + noise[index, :, 1])
    measured = [
        _measured(place, lengths[index], noise[index, :, 0], int(units[index]), random.standard_normal(replicas))
        for index, place in enumerate(places)
    ]
    return measured, _back(specs, places, lengths, noise[:, :, 3], inputs, random)


@dataclass(frozen=True)
class _Known:
    """Statistics that layers near (log q, c) share; `statistics` is at c, c_mean and c_class."""

    name: str | Activation
    bias_mean: float
    q: float
    c: tuple[float, float, float]
    statistics: UnitStatistics
    at_c: UnitStatistics
    stretch: float
    bend: float
    alone: Array

    def near(self, name: str | Activation, bias_mean: float, q: float, c: float) -> bool:
        """Whether a layer is near enough."""
        angles = [acos(min(1.0, max(0.0, value))) for value in (c, self.c[0])]
        same = self.name == name and self.bias_mean == bias_mean
        return same and abs(log(q / self.q)) < NEAR_Q and abs(angles[0] - angles[1]) < NEAR_ANGLE

    def second(self, q: float) -> float:
        """E[phi^2] at q."""
        return float(self.statistics.second[0].item() * (q / self.q) ** self.stretch)

    def pairs(self, c: tuple[float, float, float]) -> tuple[float, float, float]:
        """The three correlations after the activation: to first order in how far c is from where they are known."""
        rate = self.statistics.slope_pair * self.statistics.slope * self.q / self.statistics.second
        first, second, third = np.clip(self.statistics.pair + rate * (np.array(c) - np.array(self.c)), 0.0, 1.0).tolist()
        return first, second, third


def _known(name: str | Activation, bias_mean: float, q: float, c: tuple[float, float, float], samples: int) -> _Known:
    table = unit_table(activation(name), bias_mean)
    statistics = table.at(np.full(3, q), np.array(c))
    seconds, slopes = table.lengths(q * np.exp([-0.01, 0.01]))
    stretch, bend = (log(pair[1].item() / pair[0].item()) / 0.02 for pair in (seconds, slopes))
    at_c = UnitStatistics(**{key.name: getattr(statistics, key.name)[:1] for key in fields(UnitStatistics)})
    return _Known(name, bias_mean, q, c, statistics, at_c, stretch, bend, at_c.alone(samples)[0])


def _line(specs: tuple[LayerSpec, ...], activations: tuple[str | Activation, ...], inputs: InputStats) -> list[Place]:
    """The infinite-width line; images of different lengths are followed as one of the mean length after the first layer."""
    m = float(inputs.squares.mean())
    c = (min(1.0, inputs.correlation), inputs.mean_correlation, max(inputs.class_correlation, inputs.mean_correlation))
    places: list[Place] = []
    known: _Known | None = None
    for index, spec in enumerate(specs):
        through = spec.std**2 * spec.fan_in * m
        q = max(through + spec.bias_std**2, SMALLEST)
        share = through / q
        c = (share * c[0] + 1 - share, share * c[1] + 1 - share, share * c[2] + 1 - share)
        if index == len(specs) - 1:
            places.append(Place(q, *c, 1.0, 0.0, share, None, np.zeros((2, 2))))
            break
        if known is None or not known.near(activations[index], spec.bias_mean, q, c[0]):
            known = _known(activations[index], spec.bias_mean, q, c, inputs.samples)
        places.append(Place(q, *c, known.stretch, known.bend, share, known.at_c, known.alone))
        if index == 0:
            at_images = unit_table(activation(known.name), spec.bias_mean).lengths(np.maximum(inputs.squares * q / m, SMALLEST))[0]
            m = float(at_images.mean())
        else:
            m = known.second(q)
        pair, mean, of_class = known.pairs(c)
        unit = known.at_c
        apart = unit.apart.item() * (1 - forward.tied(spec) * unit.linear.item() ** 2) / spec.units
        itself = (1 - min(1.0, (pair / max(c[0], 1e-9)) ** 2)) / inputs.samples
        c = (sqrt(min(1.0, pair**2 + apart + itself)), mean, of_class)
    return places


def _measured(place: Place, length: Array, noise: Array, units: int, center: Array) -> Measured:
    line = place.q * (1 - max(0.0, place.c_mean) / units)
    spread = 1 - place.c + place.c * np.exp(noise) - max(0.0, place.c_mean) * np.square(center) / units
    return Measured(line, place.q * np.exp(length) * spread)


def _back(
    specs: tuple[LayerSpec, ...], places: list[Place], lengths: Array, bends: Array, inputs: InputStats, random: np.random.Generator
) -> list[Measured]:
    last, replicas = places[-1], lengths.shape[1]
    ones = np.ones((replicas, 1))
    logits = TheorySignal(
        np.array([last.q]), ones * np.exp(lengths[-1])[:, None], np.full(replicas, last.c), last.c_mean, last.c_class, specs[-1].units
    )
    gradient = backward.of_logits(replace(logits, gaussian=True, samples=inputs.samples), inputs.class_shares, random)
    line, log_ratio, rho, along = gradient.line, np.log(gradient.ratio[:, 0]), float(np.median(gradient.rho)), gradient.along
    measured = [Measured(line, line * np.exp(log_ratio))]
    mixed = random.standard_normal((len(specs), replicas))
    for index in range(len(specs) - 2, -1, -1):
        spec, place, after = specs[index], places[index], specs[index + 1]
        unit = place.statistics
        assert unit is not None
        tied = min(1.0, after.fan_in / after.units) if after.law in forward.ORTHOGONAL else 0.0
        slope = unit.slope.item()
        line *= after.std**2 * after.units * slope
        flat = backward.UNIFORM * gradient.peaked if after.law == "uniform" and index == len(specs) - 2 else 0.0
        spread = backward.mixing_variance(np.array([max(rho**2 - flat, 0.0)]), gradient.alone, unit.slope_square, unit.slope_alone, tied)
        variance = 2 * spread.item() / spec.units
        logarithm = variance * (1 + 0.6 * min(variance, 1.0))
        along = along * places[index + 1].passed
        meeting = np.log(np.maximum(1 + (unit.meet.item() - tied) * (along - 1) / spec.units, 0.1))
        log_ratio = log_ratio + place.bend * lengths[index] + bends[index] + mixed[index] * sqrt(logarithm) - logarithm / 2 + meeting
        pair = unit.slope_pair.item()
        itself = (1 - pair**2) * gradient.alone
        apart = (unit.slope_square.item() - tied * pair**2) * (1 - rho**2) / spec.units
        rho = sqrt(min(1.0, (rho * pair) ** 2 + itself + apart))
        along = along * np.exp(-meeting) * unit.turn.item() + max(unit.stretch.item() - unit.turn.item(), 0.0)
        measured.append(Measured(line, line * np.exp(log_ratio)))
    return measured[::-1]
