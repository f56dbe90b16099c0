"""What a caller in Python gives in place of names: a model, data, a loss, a metric, an optimizer; each gets a name for the question."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from initbench.errors import ConfigError, UserCode, a_or_an
from initbench.question import given
from initbench.question.config import Execution, ExperimentConfig, Ref, View
from initbench.question.request import QuestionFields, configure
from initbench.studies import notebook
from initbench.studies.answer import Results
from initbench.studies.execution import Watch, carry_out
from initbench.studies.plan import make_plan

OF_OURS = ("lr", "momentum", "nesterov", "betas", "weight_decay", "schedule", "warmup_steps", "optimizer")
"""Keys of training that an optimizer of somebody's own does not listen to."""


@dataclass(frozen=True)
class Parts:
    """What a call has been given of a problem: names, or objects in their place, and the settings beside them."""

    model: object = None
    dataset: object = None
    task: object = None
    data: object = None
    loss: object = None
    metric: object = None
    inputs: object = None
    optimizer: object = None
    settings: Sequence[str] = ()


@dataclass
class Lent:
    """The objects of a call by their names, and the words that the question has in their place."""

    objects: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=dict)
    metric: str | None = None
    settings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def seen(self, view: View) -> View:
        """How the results are looked at: a metric that is named is what the verdicts are about."""
        return view if self.metric is None else view.model_copy(update={"metric": self.metric})

    def noted(self, results: Results) -> Results:
        """The results, with what is to be said of the objects."""
        return replace(results, notes=(*self.notes, *results.notes)) if self.notes else results

    def add(self, what: str, word: str, digest: str, value: Any) -> str:
        """Lends an object in the place of a name."""
        name = given.name_of(word, digest)
        self.objects[name] = value
        self.words[what] = name
        return name


def answered(
    command: str,
    parts: Parts,
    words: QuestionFields,
    means: Execution,
    *,
    config: str | Path | None = None,
    view: View = View(),
    varied: Sequence[str | None] = (),
    watch: Watch | None = None,
    question: Callable[..., ExperimentConfig] | None = None,
) -> Results:
    """The answer to a command that trains, of parts that may be objects; `varied` are keys that get several values.

    `question` makes the question of what a config file, settings and words say, as `configure` does unless given.
    Raises: InitbenchError with one sentence.
    """
    with lent(parts, varied) as found:
        view = found.seen(view)
        asked = (question or partial(configure, command, view=view))(
            config, settings=found.settings, data_dir=means.data_dir, **{**words, **found.words}
        )
        return found.noted(carry_out(make_plan(command, asked, means, view), watch or notebook.watch()))


@contextmanager
def lent(parts: Parts, varied: Sequence[str | None] = ()) -> Iterator[Lent]:
    """Within it what is no name has one, and can be had by it; `varied` are keys that get several values.

    Raises: ConfigError for what cannot be used.
    """
    metric = parts.metric
    found = Lent(settings=list(parts.settings), metric=metric if isinstance(metric, str) else None)
    for what, value in (("model", parts.model), ("dataset", parts.dataset), ("task", parts.task)):
        if value is not None and (what != "model" or isinstance(value, str | Ref | Path)):
            found.words[what] = _name(what, value)
    if parts.model is not None and "model" not in found.words:
        _lend_model(found, parts.model)
    if parts.data is not None:
        _lend_data(found, parts.data)
    if parts.loss is not None or parts.inputs is not None or isinstance(metric, tuple | list):
        _lend_task(found, parts.loss, metric, parts.inputs)
    elif parts.data is not None:
        found.words.setdefault("task", "supervised")
    if parts.optimizer is not None:
        keys = [key for each in (*varied, *parts.settings) for key in (each or "").split(",")]
        told = [key for key in keys if key.partition("=")[0].split(".")[-1].strip() in OF_OURS]
        if told:
            raise ConfigError(f"{told[0]} is of initbench's own optimizers, and `optimizer` sets its own. Leave one of the two out.")
        _lend_optimizer(found, parts.optimizer)
    with given.lent(found.objects):
        yield found


def _name(what: str, value: object) -> str:
    if isinstance(value, str | Ref | Path):
        return str(value)
    raise ConfigError(
        f"The {what} is {a_or_an(type(value).__name__)}. Give a name, a file such as './mine.py'"
        + ("; batches of your own go into data=(training, test)." if what == "dataset" else "; a loss of your own goes into loss=.")
    )


def _lend_model(found: Lent, model: object) -> None:
    from torch import nn

    from initbench.training.fingerprint import digest_of

    if isinstance(model, nn.Module):
        with UserCode(f"The model {type(model).__name__} cannot be copied, and each run needs its own; give the function that builds it"):
            kept = copy.deepcopy(model)
        found.add("model", type(model).__name__, digest_of(kept), lambda: copy.deepcopy(kept))
        found.notes.append(f"Each run has a copy of the module {type(model).__name__} as it was given.")
        return
    if not callable(model):
        raise ConfigError(f"The model is {a_or_an(type(model).__name__)}. Give a name, a module, its class, or a function that builds it.")
    found.add("model", given.word_of(model, "model"), digest_of(model), model)


def _lend_data(found: Lent, data: object) -> None:
    from initbench.training.fingerprint import digest_of
    from initbench.training.sources import pair_of, source_of

    if "dataset" in found.words:
        raise ConfigError("Both `dataset` and `data` are given. Leave out one of the two.")
    training, _ = pair_of(data, "")
    found.add("dataset", _word_of_data(training), digest_of(data), lambda: data)
    if source_of(training, "training").rows is None:
        sizes = [getattr(each, "batch_size", None) for each in (training, getattr(training, "batch_sampler", None))]
        _set_batch_size(found, next((size for size in sizes if isinstance(size, int)), None))


def _word_of_data(training: object) -> str:
    """The class of somebody's own data set, or of a loader's."""
    kind = type(getattr(training, "dataset", training))
    return "own_data" if kind.__module__.partition(".")[0] in {"builtins", "torch", "numpy"} else kind.__name__


def _set_batch_size(found: Lent, size: int | None) -> None:
    """The question says how large the loader's batches are, as far as it does. Raises: ConfigError where a setting says another size."""
    key = "train.batch_size"
    asked = next((value.strip() for name, _, value in (each.partition("=") for each in found.settings) if name.strip() == key), None)
    if asked is None:
        found.settings.append(f"{key}={'null' if size is None else size}")
    elif asked != ("null" if size is None else str(size)):
        has = "batches of its own" if size is None else f"batches of {size}"
        raise ConfigError(f"{key} is {asked}, and what is trained on has {has}. Leave out the setting.")


def _lend_task(found: Lent, loss: object, metric: object, inputs: object) -> None:
    from initbench.tasks import Task, as_score, supervised
    from initbench.training.fingerprint import digest_of

    if "task" in found.words:
        raise ConfigError("Both `task` and `loss`, `metric` or `inputs` are given. A task has them in it; leave out one of the two.")
    for what, value in (("loss", loss), ("inputs", inputs)):
        if value is not None and not callable(value):
            raise ConfigError(f"`{what}` is {a_or_an(type(value).__name__)}. It must be a function.")
    score = None if metric is None or isinstance(metric, str) else as_score(metric)
    usual = supervised.build() if loss is None else Task(loss=loss)  # type: ignore[arg-type]
    if loss is None and inputs is not None:
        raise ConfigError("`inputs` says what the model is given of a batch; give `loss`, too, a function of the output and the batch.")

    def build() -> Task:
        return replace(usual, score=score, inputs=inputs)  # type: ignore[arg-type]

    word = "supervised" if loss is None else given.word_of(loss, "loss")
    found.add("task", word, digest_of([loss, metric, inputs]), build)


def _lend_optimizer(found: Lent, optimizer: object) -> None:
    from initbench.training.fingerprint import digest_of

    if not callable(optimizer):
        raise ConfigError(
            f"The optimizer is {a_or_an(type(optimizer).__name__)}. Give a function of the parameters, such as "
            "lambda parameters: torch.optim.AdamW(parameters, lr=1e-3); names go into settings=['train.optimizer=adamw']."
        )
    word = given.name_of(given.word_of(optimizer, "optimizer"), digest_of(optimizer))
    found.settings.append(f"train.optimizer={word}")
    found.objects[word] = optimizer
