"""The coordinate check: whether the layers of a network change by as much at every width, in the first steps of training."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initbench.errors import ConfigError, InitbenchError, enumerated
from initbench.probing import coordinate_page
from initbench.probing.coordinate_verdicts import FEWEST, SchemeGrowth, judge
from initbench.probing.run import folder_hash, prepare_folder
from initbench.question import catalog, config_file, plan
from initbench.question.config import ExperimentConfig, Job, Ref, axis_values, parse_ref
from initbench.question.given import is_given, word_of
from initbench.question.request import QuestionFields, configure
from initbench.reporting.panels import Plot
from initbench.reporting.shown import Shown, as_frame
from initbench.reporting.tables import Table
from initbench.results import lock, provenance, store
from initbench.results.coordinates import WidthRun
from initbench.results.record import RunStatus
from initbench.statistics.estimates import counted
from initbench.studies import notebook, own
from initbench.studies.execution import device_of

if TYPE_CHECKING:
    import pandas as pd

Told = Callable[[str], None]
"""Who hears of each network that is trained."""
WIDTHS, STEPS = "64,128,256,512", 10
"""What is tried when nobody says."""
SCHEMES = ("kaiming", "mup")
"""What is compared when nobody names a scheme: the standard parametrization, and the one that is made for this."""


@dataclass(frozen=True, repr=False)
class Check(Shown):
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

    @property
    def verdicts(self) -> tuple[str, ...]:
        """One sentence a scheme, in the order of the question."""
        return coordinate_page.verdict_lines(self.schemes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: how it was trained, and what a slope is."""
        return coordinate_page.notes(self)

    @property
    def plots(self) -> tuple[Plot, ...]:
        """What each plot shows, as data: the change over the width (`change`), and its slope over the steps (`slope`)."""
        return coordinate_page.plots(self.schemes)

    @property
    def overview(self) -> tuple[str, Table]:
        """The verdicts, and a row a scheme."""
        return " ".join(self.verdicts), coordinate_page.scheme_table(self.schemes)

    @property
    def where(self) -> Path | None:
        """The results folder, where there is one."""
        return self.folder

    def to_pandas(self, table: str = "slopes") -> pd.DataFrame:
        """A row a layer and step with slope, interval and verdict (`slopes`), a width and seed too (`coordinates`), a network (`runs`).

        Raises: ConfigError for another name.
        """
        tables: dict[str, Callable[[], str]] = {
            "slopes": lambda: coordinate_page.slopes_csv(self.schemes),
            "coordinates": lambda: coordinate_page.coordinates_csv(self.runs),
            "runs": lambda: coordinate_page.runs_csv(self.runs),
        }
        if table not in tables:
            raise ConfigError(f"There is no table '{table}' of a coordinate check. There are: {', '.join(tables)}.")
        return as_frame(tables[table]())

    def __repr__(self) -> str:
        """Gives the verdicts, not all numbers."""
        return f"<Coordinate check of {self.model.shown}: {' '.join(self.verdicts)}>"

    def __str__(self) -> str:
        """The verdicts, a line each."""
        return "\n".join(self.verdicts)


def read_widths(text: str, word: str = "--widths ") -> tuple[int, ...]:
    """Widths from `64,128,256` or `64..512:log:4`, in rising order; `word` is what comes before them where the user says them.

    Raises: ConfigError for fewer than three, or what is no width.
    """
    try:
        values = axis_values("widths", text, whole=True)
    except ValueError as error:
        raise ConfigError(f"Cannot read {word}{text}: {error}.") from error
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{word}{text} holds '{value}', which is no width. Write whole numbers from 1, such as {word}{WIDTHS}.")
    widths = tuple(sorted(set(values)))
    if len(widths) < FEWEST:
        raise ConfigError(
            f"{word}{text} has {len(widths)} {'width' if len(widths) == 1 else 'different widths'}; a slope that can be judged needs at "
            f"least {FEWEST}, such as {word}{WIDTHS}."
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
        f"The model '{model.shown}' takes no width, and a coordinate check builds it at several: give it a parameter `width` "
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
        sizes = {width: check(job, device=where, data_dir=data_dir) for width, job in networks if job.seed == config.seeds[0]}
    if len(set(sizes.values())) == 1:
        raise ConfigError(f"The model '{config.model.shown}' has {sizes[widths[0]]:,} parameters at every width. It must use its `width`.")

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
    objects = any(is_given(ref.name) for ref in (config.model, config.dataset, config.task, config.train.optimizer))
    command = None if objects else shlex.join([*words, "--steps", str(config.train.steps)])
    check = replace(check, folder=folder)
    with lock.locked(folder):
        prepare_folder(folder, digest, "coordinate-check", fresh=fresh, typed=typed)
        made = {**provenance.environment(), "device": ", ".join(sorted({run.device for run in check.runs if run.device}))}
        coordinate_page.write(folder, check, config_file.dump_config(config), command, made, typed)
        if folder.parent == store.RESULTS:
            store.link_latest(folder, store.LATEST_PROBE)
    return check


def coordinate_check(
    model: object = None,
    schemes: Sequence[str | Ref] | None = None,
    *,
    widths: str | Sequence[int] = WIDTHS,
    steps: int | None = None,
    config: str | Path | None = None,
    dataset: str | None = None,
    task: str | None = None,
    data: object = None,
    loss: Callable[..., Any] | None = None,
    inputs: Callable[[Any], Any] | None = None,
    optimizer: Callable[..., Any] | None = None,
    seeds: int | Sequence[int] | None = None,
    settings: Sequence[str] = (),
    batch: int | None = None,
    output: str | None = None,
    device: str = "auto",
    jobs: int | None = None,
    data_dir: str | None = None,
) -> Check:
    """Whether each layer changes by as much at every width in the first steps: `coordinate_check(Net, ["kaiming", "mup"], data=data)`.

    `model`: a name with a parameter `width`, or a function or class that is called with a width and builds a network of it, whose
    layers have the same names at each. `widths`: at least 3; `steps`: 10 unless given, at a constant learning rate. `dataset`,
    `task`, `data`, `loss`, `inputs`, `optimizer` and `settings` as in `compare`. `batch`: inputs that changes are measured on.
    `output`: a results folder; without it nothing is written. Raises: InitbenchError with one sentence.
    """
    wide = read_widths(widths if isinstance(widths, str) else ",".join(map(str, widths)), "widths=")
    named = QuestionFields(schemes=schemes if schemes or config else SCHEMES, seeds=seeds)
    parts = own.Parts(_of_width(model), dataset, task, data, loss, None, inputs, optimizer, settings)
    with own.lent(parts) as lent:
        words = {**named, **lent.words}
        if isinstance(name := words.get("model"), str):
            words["model"] = str(at_width(parse_ref(name), wide[0]))
        question = configure("coordinate-check", config, settings=lent.settings, data_dir=data_dir, **words)
        question, changed = asked(question, wide, batch=batch, steps=steps)
        line = notebook.line(len(question.schemes) * len(question.seeds) * len(wide), "network")
        done = iter(range(1, 1 + (line.total if line else 0)))

        def told(_name: str) -> None:
            if line is not None:
                line.move(next(done))

        found = carry_out(question, wide, changed=changed, device=device, jobs=jobs, data_dir=data_dir, told=told)
        return found if output is None else write(found, output)


def _of_width(model: object) -> object:
    """The model, a function of one argument as one of `width`. Raises: ConfigError for a module, which has one width."""
    from torch import nn

    if isinstance(model, nn.Module):
        raise ConfigError("The model is a module, which has one width. Give its class, or a function of the width that builds it.")
    if model is None or isinstance(model, str | Ref | Path) or not callable(model):
        return model
    parameters: list[inspect.Parameter] = []
    with suppress(TypeError, ValueError):
        parameters = list(inspect.signature(model).parameters.values())
    if any(each.name == "width" or each.kind is each.VAR_KEYWORD for each in parameters):
        return model
    needed = [each for each in parameters if each.default is each.empty and each.kind is not each.VAR_POSITIONAL]
    if len(needed) != 1 or needed[0].kind is inspect.Parameter.KEYWORD_ONLY:
        has = enumerated([each.name for each in parameters], "and") if parameters else "none"
        raise ConfigError(
            f"The function of the model takes no width (it has: {has}). Give one that does, such as lambda width: Net(width)."
        )
    build = model

    def of_width(width: int) -> Any:
        return build(width)

    of_width.__name__ = word_of(model, "model")
    return of_width
