"""One job from beginning to end, in whatever process an engine chose for it; and what can be checked before any starts."""

import contextlib
import inspect
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import nn

from initbench.data.files import doubted
from initbench.data.splits import DataSplits
from initbench.errors import (
    ConfigError,
    DataError,
    DoesNotApply,
    InitbenchError,
    UserCode,
    a_or_an,
    is_out_of_memory,
    no_memory,
    reason_of,
    said_by,
)
from initbench.init.contract import Need
from initbench.init.initialize import build_scheme, initialize
from initbench.measure.predict import filled, predictions
from initbench.nn.build import Wanted, build_model, check_output
from initbench.nn.inputs import Inputs, called, described
from initbench.question import catalog
from initbench.question.config import USUAL_TASK, Job, Ref
from initbench.question.data_folder import data_folder
from initbench.question.given import is_given
from initbench.results.provenance import BATCHES, NOT_RESTORED, OF_BATCHES, environment
from initbench.results.record import RunResult, RunStatus, ScoreOf
from initbench.tasks import Task, supervised
from initbench.training.batches import DeviceData, memory_format, to_device
from initbench.training.devices import choose_device, device_name
from initbench.training.evaluate import summed
from initbench.training.keeper import Keeper
from initbench.training.limit import TooLong, limited
from initbench.training.loaded import LoadedData, count_of, loaded
from initbench.training.loop import Ready, Stepped, Stopwatch, Trained, train, within
from initbench.training.optimizer import check_optimizer
from initbench.training.state import as_before, spoiled

T = TypeVar("T")

TRACE_IMAGES = 8
"""Images that a model is traced and checked with."""
DATA_SETS_KEPT = 2
"""Data sets that a process keeps for the next job."""


@dataclass(frozen=True)
class Failure:
    """Why an attempt did not give what it was to give."""

    status: RunStatus
    reason: str
    out_of_memory: bool = False
    too_long: bool = False


def run_job(
    job: Job,
    job_id: str,
    *,
    device: str,
    data_dir: str | None,
    report: Stepped | None = None,
    seconds: float | None = None,
    keep_in: str | None = None,
) -> RunResult:
    """Runs a job and says how it ended; never raises. What a user's code prints goes to stderr.

    `report` is called now and then with (steps done, steps in all). After so many `seconds` the run fails. A long run is saved now and then
    in the folder `keep_in`, and goes on with what is there.
    """
    watch, start = Stopwatch(), time.perf_counter()
    report = within(seconds, report or (lambda _done, _total: None))

    def run() -> RunResult:
        with limited(seconds):
            ready = prepare(job, device=device, data_dir=data_dir, watch=watch)
            trained = train(ready, watch=watch, stepped=report, keeper=keeper_of([(job_id, ready)], keep_in))
            return completed(job_id, ready, trained)

    result = attempt(run, device, job.seed)
    if isinstance(result, Failure):
        result = failed(job_id, job, result)
    return with_seconds(told_of_process(result), {**watch.seconds, "total": time.perf_counter() - start})


def keeper_of(members: Sequence[tuple[str, Ready]], keep_in: str | None) -> Keeper:
    """Who saves these runs while they are under way."""
    data = members[0][1].data
    own = is_given(members[0][1].job.train.optimizer.name)  # whose state nobody knows
    folder = None if keep_in is None or own else Path(keep_in)
    return Keeper(folder, tuple(job_id for job_id, _ in members), f"{device_name(data.device)}, data {data.digest}")


def attempt(action: Callable[[], T], device: str, seed: int = 0) -> T | Failure:
    """What the action gives, or how it failed; only Ctrl-C is raised. What a user's code prints within goes to stderr.

    Whatever that code changes for the code after it is put back (`as_before`).
    """
    try:
        with as_before(seed), contextlib.redirect_stdout(sys.stderr):
            return action()
    except KeyboardInterrupt:
        raise
    except DoesNotApply as error:
        return Failure(RunStatus.SKIPPED, said_by(error))
    except InitbenchError as error:
        return Failure(RunStatus.FAILED, said_by(error), too_long=isinstance(error, TooLong))
    except BaseException as error:  # noqa: BLE001 - any bug in a user's model or scheme becomes this run's result
        return Failure(RunStatus.FAILED, _reason(error, device), out_of_memory=is_out_of_memory(error))


def failed(job_id: str, job: Job, failure: Failure) -> RunResult:
    """The result of a run that gave nothing."""
    return RunResult(job_id=job_id, job=job, status=failure.status, reason=failure.reason)


def told_of_process(result: RunResult) -> RunResult:
    """The result, with a note where this process is no longer as it was before its runs."""
    if not spoiled():
        return result
    return result.model_copy(update={"provenance": {**result.provenance, NOT_RESTORED: ", ".join(spoiled())}})


def prepare(job: Job, *, device: str, data_dir: str | None, watch: Stopwatch) -> Ready:
    """Loads the data, builds the model and initializes it. Raises: whatever goes wrong there."""
    where = choose_device(device)
    with watch.part("data"):
        data = load_data(job.dataset, data_folder(data_dir), where, job.train.holdout, job.task)
        data.check_batch_size(job.train.batch_size)
    if job.task.name != USUAL_TASK and Need.LABELS in build_scheme(job.scheme).needs:
        raise DoesNotApply(
            f"{job.scheme} takes gradients of the cross entropy with classes, which the task '{job.task.shown}' does not have."
        )
    with watch.part("init"):
        model = _build(job, data)
        layout = memory_format(model, where)
        init, layers = initialize(
            model,
            job.scheme,
            seed=job.seed,
            rules=job.init,
            inputs=data.probe_batch(TRACE_IMAGES, layout)[0],
            batch=data.scheme_batches(job.seed, layout),
            train=job.train,
        )
    with watch.part("probe"):
        inputs, targets = data.probe_batch(job.probe.images, layout)
        expected = predictions(
            model,
            layers,
            init,
            inputs,
            targets if job.task.name == USUAL_TASK else None,
            data.classes if isinstance(data, DeviceData) else 0,
        )
    return Ready(job, data, model, layers, init, expected)


def completed(job_id: str, ready: Ready, trained: Trained, how: Mapping[str, str] = MappingProxyType({})) -> RunResult:
    """The result of a run that was trained; `how` is added to its provenance."""
    where = {"device": device_name(ready.data.device), "threads": str(torch.get_num_threads()), "data": ready.data.digest}
    if trained.seen is not None:
        train, own = ready.job.train, isinstance(ready.data, LoadedData) and ready.data.train.rows is None
        size = "of the loader" if own else train.rows
        where[BATCHES] = f"{trained.seen:08x} of {len(trained.losses)} steps, batch size {size}, holdout {train.holdout or 0:g}"
    where |= {OF_BATCHES: "gradients are of the loss of the batch, times its examples"} if ready.data.task.losses is None else {}
    return RunResult(
        job_id=job_id,
        job=ready.job,
        status=RunStatus.COMPLETED if trained.first_bad_step is None else RunStatus.DIVERGED,
        reason=trained.reason,
        first_bad_step=trained.first_bad_step,
        parameters=_count(ready.model),
        classes=ready.data.classes if isinstance(ready.data, DeviceData) else None,
        chance_loss=ready.data.chance,
        score=_score_of(ready.data.task),
        train_losses=trained.losses,
        evaluations=trained.evaluations,
        layers=filled(trained.stats, ready.expected),
        init=ready.init,
        provenance={**environment(), **where, **how},
    )


def _score_of(task: Task) -> ScoreOf | None:
    return None if task.score is None else task.score.described()


def with_seconds(result: RunResult, seconds: Mapping[str, float]) -> RunResult:
    """The result with the time that its parts took."""
    return result.model_copy(update={"seconds": {part: round(spent, 4) for part, spent in seconds.items()}})


def check(job: Job, *, device: str, data_dir: str | None) -> int:
    """Finds what would make a job impossible before any is started; gives the number of trainable parameters.

    Raises: InitbenchError for a device or data that are not there, a batch larger than the data, and a model, scheme or
    rule that cannot be built or does not fit. A scheme that does not apply is no error: its runs are skipped.
    """
    try:
        with as_before(job.seed), contextlib.redirect_stdout(sys.stderr), doubted():
            return _check(job, choose_device(device), data_folder(data_dir))
    except InitbenchError as error:
        error.job = job
        raise
    except (MemoryError, RuntimeError) as error:  # only a lack of memory passes `UserCode` as it is
        if not is_out_of_memory(error):
            raise
        raise ConfigError(f"The model '{job.model.shown}' with its data is {_reason(error, device)}.") from error


def _check(job: Job, where: torch.device, root: Path) -> int:
    data = load_data(job.dataset, root, where, job.train.holdout, job.task)
    data.check_batch_size(job.train.batch_size)
    if job.train.augment and data.pixels is None:
        raise ConfigError(f"train.augment moves and flips images, and {data.name} has none. Leave it out.")
    model = _build(job, data)
    if is_given(job.model.name):
        refuse_shared(model, _build(job, data), job.model)
    inputs, targets = data.probe_batch(TRACE_IMAGES, memory_format(model, where))
    if isinstance(inputs, torch.Tensor) and data.task.output is not None:
        check_output(model, job.model, inputs, _wanted(data, data.task.output(targets, data.classes)))
    else:
        check_loss(model, job, data, inputs, targets)
    scheme = build_scheme(job.scheme)
    check_optimizer(job.train, model)
    stand_in = Ref(name="zeros") if scheme.needs & {Need.DATA, Need.LABELS, Need.GRADIENTS} else job.scheme
    with contextlib.suppress(DoesNotApply), UserCode(f"The scheme '{job.scheme}' cannot initialize the model '{job.model.shown}'"):
        _, layers = initialize(model, stand_in, seed=job.seed, rules=job.init, inputs=inputs, train=job.train)
        if not layers:
            raise ConfigError(f"The model '{job.model.shown}' has no weight layer, so there is nothing to initialize.")
    if not (count := _count(model)):
        raise ConfigError(f"The model '{job.model.shown}' has no trainable parameter: requires_grad is false for each.")
    return count


def refuse_shared(model: nn.Module, other: nn.Module, ref: Ref) -> None:
    """Raises: ConfigError for a function whose modules have parameters in common, which runs would train one after the other."""
    held = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) in held for parameter in other.parameters()):
        raise ConfigError(
            f"The function of the model '{ref.shown}' gives the same parameters each time it is called, so runs would not be independent. "
            "Have it build a new module, or give the module itself, of which each run gets a copy."
        )


def check_loss(model: nn.Module, job: Job, data: DeviceData | LoadedData, inputs: Inputs, targets: object) -> None:
    """Takes the loss of a batch, and the score where there is one; of batches that are loaded, their length is looked at too.

    Raises: ConfigError for a model that does not take the batch, for a loss that is no finite number that can be differentiated, and
    for epochs that nobody knows the length of.
    """
    task, train = data.task, job.train
    if train.steps is None and data.steps_per_epoch(train.rows) is None:
        raise ConfigError(
            f"Nobody knows how many batches an epoch of {data.name} has: its training data have no length. Say how many steps."
        )
    mode = model.training
    try:
        with UserCode(f"The model '{job.model.shown}' does not take {described(model, inputs)} of {data.name}"):
            outputs = called(model.train(), inputs)
        with UserCode(f"The loss of the task '{job.task.shown}' does not take what the model '{job.model.shown}' gives"):
            loss: object = task.mean_loss(outputs, targets)
        if isinstance(data, LoadedData) and supervised.is_loss_of(task):
            supervised.refuse_outside(outputs, targets, data.labels)
        problem = None
        if not isinstance(loss, torch.Tensor):
            problem = f"gives {a_or_an(type(loss).__name__)}; it must give a tensor"
        elif loss.dim():
            problem = f"gives shape {tuple(loss.shape)}; it must give one number, such as their mean"
        elif not loss.requires_grad:
            problem = "cannot be differentiated: no parameter of the model takes part in it, or it is detached"
        elif not loss.isfinite():
            problem = f"is {loss.item():g} before the first step, with the model as it is built; look at the data and the loss"
        if problem is not None:
            raise ConfigError(f"The loss of the task '{job.task.shown}' {problem}.")
        if task.score is not None:
            with UserCode(f"The metric '{task.score.name}' cannot be computed"), torch.no_grad():
                summed(task.score, outputs, targets, count_of(inputs, targets))
    finally:
        model.train(mode)


def _wanted(data: DeviceData | LoadedData, shape: tuple[int, ...]) -> Wanted:
    task = data.task
    if task.name == USUAL_TASK:
        return Wanted(data.name, shape, f"{data.classes} classes")
    inputs = "examples" if data.pixels is None else "images"
    return Wanted(data.name, shape, f"the task '{task.name}', which wants {task.gives}", task.gives, inputs)


@lru_cache(maxsize=DATA_SETS_KEPT)
def load_data(
    ref: Ref, root: Path, device: torch.device, holdout: float = 0.0, task: Ref = Ref(name=USUAL_TASK)
) -> DeviceData | LoadedData:
    """The data set as the examples of a task on the device, kept for the next job; `forget_data` lets go. `holdout`: see `held_out`.

    Raises: DataError for data that are missing or damaged, ConfigError for parameters that cannot be used.
    """
    _, implied = catalog.find("dataset", ref.name)
    built = build_task(task)
    if ref == task:
        if built.data is None:
            raise ConfigError(f"The task '{task.shown}' brings no data along. Give it data=(training, test), or name some: --dataset NAME.")
        data = built.data
    else:
        with UserCode(f"The dataset '{ref.shown}' cannot be loaded"):
            function = catalog.load("dataset", ref.name)
            data = function(*([root] if _takes_root(function) else []), **implied, **ref.params)
    whole: DeviceData | LoadedData
    if isinstance(data, DataSplits):
        whole = to_device(data, built, device)
    elif isinstance(data, tuple | list | Mapping):
        if built.output is not None:
            raise ConfigError(
                f"The dataset '{ref.shown}' gives batches, and the task '{task.shown}' takes {built.takes}. "
                "Name another: --task supervised."
            )
        whole = loaded(data, ref.shown, built, device)
    else:
        raise DataError(
            f"The dataset '{ref.shown}' gives {a_or_an(type(data).__name__)}. Its load(root) must return DataSplits, or a pair "
            "(training, test) of batches."
        )
    return whole.held_out(holdout) if holdout else whole


def _takes_root(function: Callable[..., object]) -> bool:
    """Whether a function of the user's asks for the folder of the data, as shipped ones do."""
    try:
        return "root" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def build_task(ref: Ref) -> Task:
    """The task that a reference names. Raises: ConfigError where it is none, or does not take its parameters."""
    _, implied = catalog.find("task", ref.name)
    with UserCode(f"The task '{ref.shown}' cannot be built"):
        task = catalog.load("task", ref.name)(**implied, **ref.params)
    if not isinstance(task, Task):
        raise ConfigError(f"The task '{ref.shown}' gives {a_or_an(type(task).__name__)}. Its build() must return an initbench.tasks.Task.")
    if task.score is not None and any(task.score.name == entry.name for entry in catalog.entries("metric")):
        raise ConfigError(
            f"The metric of the task '{ref.shown}' is called '{task.score.name}', as one of initbench's is. Choose another name."
        )
    return replace(task, name=ref.name)


def forget_data() -> None:
    """Frees the data sets that this process keeps."""
    load_data.cache_clear()


def _build(job: Job, data: DeviceData | LoadedData) -> nn.Module:
    example = data.probe_batch(1, torch.contiguous_format)[0] if isinstance(data, LoadedData) else None
    model = build_model(job.model, data.shape, lambda: data.classes, job.seed, example=example).to(data.device)
    return model.to(memory_format=memory_format(model, data.device))


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _reason(error: BaseException, device: str) -> str:
    """One line for people: what went wrong, and in which line of the user's own code."""
    if is_out_of_memory(error):
        return no_memory(device)
    return reason_of(error)
