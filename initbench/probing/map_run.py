"""Trainability maps: two axes, a signal or an accuracy measured at each point, and what theory draws over it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from initbench.errors import ConfigError, suggestion
from initbench.probing.map_data import SPACED, Axis, Map, Point
from initbench.probing.run import prepare_folder
from initbench.question import catalog, config_file, plan
from initbench.question.config import USUAL_TASK, ExperimentConfig, Job, Ref
from initbench.results import lock, provenance, store
from initbench.results.record import RunResult, RunStatus
from initbench.statistics.inference import median
from initbench.statistics.known_metrics import find_metric
from initbench.studies.execution import device_of

Told = Callable[[str], None]
"""Who hears of each point and run that is done."""
AXES = ("sigma_w", "sigma_b", "gain", "depth", "width")
POINTS = {False: 25, True: 9}
"""Points along an axis, measured or trained, when nobody says."""
RANGES = {"sigma_w": (0.5, 3.0), "gain": (0.5, 3.0), "sigma_b": (0.0, 1.0), "depth": (2, 60), "width": (8, 512)}
"""Where the axes go when nobody says."""
FEWER = {"depth": 12, "width": 10}
"""Points along axes that need a model each."""
STEPS = 100
"""Training steps of each point of a map with `--train`."""
MODEL = Ref(name="mlp", params={"depth": 20, "width": 128, "activation": "tanh"})
"""The model of a map when nobody says: deep, and with a phase diagram that has an edge."""
MOST = 2500


def read_axes(text: str, *, train: bool) -> tuple[Axis, Axis]:
    """Two axes from `sigma_w,sigma_b` or `sigma_w=0.5:3:25,depth=2:100:10`.

    Raises: ConfigError for names and ranges that cannot be used.
    """
    parts = text.split(",")
    if len(parts) != 2:
        raise ConfigError(f"A map has two axes, not {len(parts)}. Write --map sigma_w,sigma_b or --map depth,gain.")
    first, second = (_axis(part.strip(), train=train) for part in parts)
    if {first.name, second.name} <= {"sigma_w", "gain"}:
        raise ConfigError("The axes sigma_w and gain are the same one. Write --map sigma_w,sigma_b or --map depth,gain.")
    if first.name == second.name:
        raise ConfigError(f"Both axes are {first.name}. Write --map sigma_w,sigma_b or --map depth,gain.")
    if len(first.values) * len(second.values) > MOST:
        raise ConfigError(f"The map has {len(first.values) * len(second.values):,} points; at most {MOST:,} can be drawn.")
    return first, second


def _axis(text: str, *, train: bool) -> Axis:
    name, _, extent = text.partition("=")
    if name not in AXES:
        raise ConfigError(f"Unknown axis '{name}'.{suggestion(name, AXES)} Allowed: {', '.join(AXES)}.")
    low, high = RANGES[name]
    count = min(FEWER.get(name, POINTS[train]), POINTS[train])
    if extent:
        match = re.fullmatch(r"([\d.]+):([\d.]+)(?::(\d+))?", extent)
        try:
            low, high = (float(match[1]), float(match[2])) if match else (1.0, 0.0)
        except ValueError:
            low, high = 1.0, 0.0
        count = int(match[3]) if match and match[3] else count
    if not low < high or count < 2 or (name in SPACED and low < 1):
        raise ConfigError(f"Cannot read the range of '{text}'. Write NAME=LOW:HIGH or NAME=LOW:HIGH:COUNT, such as sigma_w=0.5:3:25.")
    if name not in SPACED:
        return Axis(name, tuple(round(low + (high - low) * index / (count - 1), 6) for index in range(count)))
    spaced = (round(low * (high / low) ** (index / (count - 1))) for index in range(count))
    return Axis(name, tuple(float(value) for value in dict.fromkeys(spaced)))


def draw_map(
    config: ExperimentConfig,
    axes: str,
    *,
    train: bool = False,
    device: str = "auto",
    data_dir: str | None = None,
    out: str | None = None,
    fresh: bool = False,
    told: Told | None = None,
    typed: str = "",
) -> Map:
    """Measures (or trains) every point of a map and draws it into a results folder; trained points that are there are kept.

    `told` hears of every point that is measured, once a seed, and of every run that is trained; `typed`: the command line that asked.
    Raises: InitbenchError for axes, models or data that cannot be used, and for a folder that another command works in.
    """
    from initbench.probing import map_page

    x, y = read_axes(axes, train=train)
    if config.task.name != USUAL_TASK:
        raise ConfigError(
            f"A map is of the classification of images, and the task here is '{config.task.shown}'. With another task a grid is trained by "
            "a sweep, such as: initbench sweep sigma --grid scheme.sigma_w=1,1.4,2 --grid scheme.sigma_b=0,0.1"
        )
    base = catalog.resolve("model", MODEL if config.model == ExperimentConfig.model_fields["model"].default else config.model)
    config = config.model_copy(update={"model": base, "dataset": catalog.resolve("dataset", config.dataset)})
    asked = {"config": config.model_dump(mode="json", exclude={"schemes"}), "axes": [vars(x), vars(y)], "train": train}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(out) if out else store.RESULTS / f"map-{x.name}-{y.name}-{base.name}-{digest[:8]}".replace("/", "_").replace(":", "_")
    with lock.locked(folder):
        prepare_folder(folder, digest, "map", fresh=fresh, typed=typed)
        measured = _measured(config, x, y, train=train, device=device_of(device), data_dir=data_dir, folder=folder, told=told)
        map_ = Map(**{**vars(measured), "sentences": map_page.sentences(measured), "folder": folder})
        command = shlex.join(["initbench", "probe", "-c", "config.yaml", "--map", axes, *["--train"] * train])
        map_page.write(folder, map_, config_file.dump_config(config), command, provenance.environment(), typed)
        if folder.parent == store.RESULTS:
            store.link_latest(folder, store.LATEST_PROBE)
    return map_


def _measured(
    config: ExperimentConfig, x: Axis, y: Axis, *, train: bool, device: str, data_dir: str | None, folder: Path, told: Told | None
) -> Map:
    from initbench.training.scan import scan

    places = [{x.name: a, y.name: b} for b in y.values for a in x.values]
    refs = [_model(config.model, place) for place in places]
    models = list(dict.fromkeys(refs))
    for ref in models:
        catalog.resolve("model", ref)
    points = [(models.index(ref), _sigma_w(place), place.get("sigma_b", 0.0)) for ref, place in zip(refs, places, strict=True)]
    scanned, activation = scan(config, models, points, device=device, data_dir=data_dir, told=told)
    runs = _trained(config, refs, points, device=device, data_dir=data_dir, folder=folder, told=told) if train else [[] for _ in points]
    return Map(
        x=x,
        y=y,
        model=config.model,
        activation=activation,
        depth=scanned[0].layers,
        width=int(config.model.params.get("width", 256)),
        trained=train,
        split="held-out" if config.train.holdout else "test",
        points=tuple(
            Point(place[x.name], place[y.name], each.decades, each.correlation, *_outcome(run))
            for place, each, run in zip(places, scanned, runs, strict=True)
        ),
    )


def _model(base: Ref, place: dict[str, float]) -> Ref:
    changes = {name: int(value) for name, value in place.items() if name in SPACED}
    return Ref(name=base.name, params={**base.params, **changes}) if changes else base


def _sigma_w(place: dict[str, float]) -> float:
    """The gain of a point; where no axis says it, that of kaiming."""
    return place.get("sigma_w", place.get("gain", math.sqrt(2)))


def _trained(
    config: ExperimentConfig,
    refs: list[Ref],
    points: list[tuple[int, float, float]],
    *,
    device: str,
    data_dir: str | None,
    folder: Path,
    told: Told | None,
) -> list[list[RunResult]]:
    """The runs of each point, one a seed; those that are in the folder are not run again."""
    wanted = [
        [_job(config, ref, sigma_w, sigma_b, seed) for seed in config.seeds]
        for ref, (_, sigma_w, sigma_b) in zip(refs, points, strict=True)
    ]
    named = {plan.job_id(job): job for each in wanted for job in each}
    done = {result.job_id: result for result in store.read_results(folder, named) if store.is_done(result)}
    missing = [(name, job) for name, job in named.items() if name not in done]
    if missing:
        execute = catalog.load("engine", "processes" if device == "cpu" and provenance.cores() > 1 else "stacked")
        for result in execute(missing, device=device, data_dir=data_dir, workers=None, report=None):
            store.write_result(folder, result)
            done[result.job_id] = result
            if told:
                told(f"{result.job.model.shown}, {result.job.scheme}, seed {result.job.seed}")
    return [[done[plan.job_id(job)] for job in each if plan.job_id(job) in done] for each in wanted]


def _job(config: ExperimentConfig, model: Ref, sigma_w: float, sigma_b: float, seed: int) -> Job:
    scheme = catalog.resolve("scheme", Ref(name="sigma", params={"sigma_w": sigma_w, "sigma_b": sigma_b}))
    budget = config.train.model_copy(update={"epochs": None, "steps": STEPS, "evaluate_every_steps": None})
    train = budget if config.train == type(config.train)() else config.train
    return Job(scheme=scheme, seed=seed, model=model, dataset=config.dataset, init=config.init, train=train, probe=config.probe)


def _outcome(runs: list[RunResult]) -> tuple[float | None, str]:
    """The median accuracy of a point over its seeds and how its runs ended; a run that diverged is below every number."""
    if not runs:
        return None, ""
    worst = next((run.status for run in runs if run.status is not RunStatus.COMPLETED), RunStatus.COMPLETED)
    middle = median([find_metric("final_test_accuracy").ranked(run) for run in runs])
    return (middle if math.isfinite(middle) else None), str(worst)
