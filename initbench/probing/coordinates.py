"""The coordinate check: whether the layers of a network change by as much at every width, in the first steps of training."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from initbench.errors import ConfigError, InitbenchError, enumerated
from initbench.probing import coordinate_page
from initbench.probing.coordinate_verdicts import FEWEST, SchemeGrowth, judge
from initbench.probing.run import folder_hash, prepare_folder
from initbench.question import catalog, config_file, plan
from initbench.question.config import ExperimentConfig, Job, Ref, axis_values
from initbench.results import lock, provenance, store
from initbench.results.coordinates import WidthRun
from initbench.results.record import RunStatus
from initbench.statistics.estimates import counted
from initbench.studies.execution import device_of

Told = Callable[[str], None]
"""Who hears of each network that is trained."""
WIDTHS, STEPS = "64,128,256,512", 10
"""What is tried when nobody says."""
SCHEMES = ("kaiming", "mup")
"""What is compared when nobody names a scheme: the standard parametrization, and the one that is made for this."""


@dataclass(frozen=True)
class Check:
    """A finished check; `config` is as it was trained, at the first width, `changed` says what was not as a config file has it."""

    config: ExperimentConfig
    widths: tuple[int, ...]
    runs: tuple[WidthRun, ...]
    schemes: tuple[SchemeGrowth, ...]
    changed: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def model(self) -> Ref:
        """The model without a width."""
        return _with(self.config.model)

    @property
    def failed(self) -> bool:
        """Whether a scheme could not be measured."""
        return any(each.status is RunStatus.FAILED for each in self.schemes)


def read_widths(text: str) -> tuple[int, ...]:
    """Widths from `64,128,256` or `64..512:log:4`, in rising order. Raises: ConfigError for fewer than three, or what is no width."""
    try:
        values = axis_values("widths", text, whole=True)
    except ValueError as error:
        raise ConfigError(f"Cannot read --widths {text}: {error}.") from error
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"--widths holds '{value}', which is no width. Write whole numbers from 1, such as --widths {WIDTHS}.")
    widths = tuple(sorted(set(values)))
    if len(widths) < FEWEST:
        raise ConfigError(
            f"--widths {text} has {len(widths)} {'width' if len(widths) == 1 else 'different widths'}; a slope that can be judged needs at "
            f"least {FEWEST}, such as --widths {WIDTHS}."
        )
    return widths


def asked(
    config: ExperimentConfig, widths: Sequence[int], *, batch: int | None = None, steps: int | None = None
) -> tuple[ExperimentConfig, tuple[str, ...]]:
    """The question as it is trained: a few steps at one learning rate; and what differs from a config file's training, in words.

    Raises: ConfigError for no steps, a batch of one, a model without a width, and names that do not exist.
    """
    config = plan.resolve_config(_at_width(config, widths[0]))
    steps = STEPS if steps is None else steps
    if steps < 1:
        raise ConfigError(f"--steps is {steps}; a change can be measured after at least 1 step.")
    if batch is not None and batch < 2:
        raise ConfigError(f"The batch is {batch}; it must have at least 2 inputs.")
    train = config.train
    changed = [f"The {train.schedule} schedule of the learning rate was left out"] * (train.schedule != "constant")
    changed += [f"The warm-up of {counted(train.warmup_steps, 'step')} was left out"] * (train.warmup_steps > 0)
    fixed = {"epochs": None, "steps": steps, "schedule": "constant", "warmup_steps": 0, "evaluate_every_steps": None, "holdout": 0.0}
    probe = config.probe.model_copy(update={"every_steps": 1} | ({} if batch is None else {"batch_size": batch}))
    return config.model_copy(update={"train": train.model_copy(update=fixed), "probe": probe}), tuple(changed)


def at_width(model: Ref, width: int) -> Ref:
    """The model with this width. Raises: ConfigError where it takes none."""
    entry, _ = catalog.find("model", model.name)
    if entry.open_parameters or any(parameter.name == "width" for parameter in entry.parameters):
        return _with(model, width=width)
    has = ", ".join(parameter.name for parameter in entry.parameters) or "none"
    with_width = [each.name for each in catalog.entries("model") if any(parameter.name == "width" for parameter in each.parameters)]
    raise ConfigError(
        f"The model '{model.name}' takes no width, and a coordinate check builds it at several: give it a parameter `width` "
        f"(it has: {has}), or take one of {enumerated(with_width, 'or')}."
    )


def carry_out(
    config: ExperimentConfig,
    widths: Sequence[int],
    *,
    changed: tuple[str, ...] = (),
    device: str = "auto",
    jobs: int | None = None,
    data_dir: str | None = None,
    told: Told | None = None,
) -> Check:
    """Trains a network of each scheme, width and seed and judges the slopes; nothing is written. `config`: as `asked` gives it.

    Raises: InitbenchError where a model cannot be built at one of the widths, or where the only scheme failed.
    """
    from initbench.training.coordinates import run_width
    from initbench.training.devices import choose_device, small_runs
    from initbench.training.job import check
    from initbench.workers.probe_pool import on_all_cores

    where = device_of(device)
    networks = [(width, job) for width in widths for job in plan.make_jobs(_at_width(config, width))]
    with small_runs():
        for _, job in networks:
            if job.seed == config.seeds[0]:
                check(job, device=where, data_dir=data_dir)

    def run(network: tuple[int, Job]) -> Iterator[WidthRun]:
        width, job = network
        yield run_width(job, width, device=where, data_dir=data_dir)

    networks.sort(key=lambda network: -network[0])
    runs = []
    for each in on_all_cores(run, networks, choose_device(where), jobs, parts=len(networks)):
        runs.append(each)
        if told is not None:
            told(f"{each.scheme}, width {each.width}, seed {each.seed}")
    names = [str(scheme) for scheme in config.schemes]
    runs.sort(key=lambda run: (names.index(run.scheme), run.width, config.seeds.index(run.seed)))
    schemes = judge(runs, config.train.steps or 0)
    if all(each.status is RunStatus.FAILED for each in schemes):
        raise InitbenchError(f"No scheme could be checked. {schemes[0].reason}")
    return Check(config, tuple(widths), tuple(runs), schemes, changed)


def _at_width(config: ExperimentConfig, width: int) -> ExperimentConfig:
    return config.model_copy(update={"model": at_width(config.model, width)})


def _with(model: Ref, **changed: int) -> Ref:
    """The model with another width, or without one."""
    return Ref(name=model.name, params={key: value for key, value in model.params.items() if key != "width"} | changed)


def write(check: Check, out: str | None = None, *, fresh: bool = False, typed: str = "") -> Check:
    """Writes the results folder of a check. Raises: StorageError when it cannot be written."""
    config = check.config
    digest = folder_hash([plan.config_hash(config), list(check.widths)])
    folder = Path(out) if out else store.RESULTS / f"coordinates-{plan.folder_words(config.model.name)}-{digest[:8]}"
    words = ["initbench", "probe", "-c", "config.yaml", "--coordinate-check", "--widths", ",".join(map(str, check.widths))]
    command = shlex.join([*words, "--steps", str(config.train.steps)])
    check = replace(check, folder=folder)
    with lock.locked(folder):
        prepare_folder(folder, digest, "coordinate-check", fresh=fresh, typed=typed)
        made = {**provenance.environment(), "device": ", ".join(sorted({run.device for run in check.runs if run.device}))}
        coordinate_page.write(folder, check, config_file.dump_config(config), command, made, typed)
        if folder.parent == store.RESULTS:
            store.link_latest(folder, store.LATEST_PROBE)
    return check
