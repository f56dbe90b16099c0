"""Every public function; `import initbench` gives each of them as a name of its own.

`compare` and `run` go: configuration -> plan -> what is missing is run -> derived files. Nothing here prints: what happens
is told to a `Watch`. What is finished already costs neither torch nor pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from pydantic import ValidationError

from initbench.errors import ConfigError, UserCode
from initbench.exports import Export, export_folder, exported_runs, safe_names
from initbench.linting.run import lint as lint
from initbench.probing.coordinates import coordinate_check as coordinate_check
from initbench.probing.monitor import SignalMonitor as SignalMonitor
from initbench.probing.run import load_probe as load_probe
from initbench.probing.run import probe as probe
from initbench.question import catalog
from initbench.question.config import ExperimentConfig, InitRules, Ref, View, as_ref
from initbench.question.request import QuestionFields, ViewFields, as_name, execution_of, refuse_unknown, view_of
from initbench.results import lock, store
from initbench.results.record import InitReport
from initbench.studies import notebook, own
from initbench.studies.answer import Results, derive
from initbench.studies.answer import load_results as load_results
from initbench.studies.execution import Watch, carry_out
from initbench.studies.plan import check_listed, looked_at, plan_of, without_code
from initbench.studies.recommend import race_question

if TYPE_CHECKING:
    from torch import nn

    from initbench.init.checks import SchemeCheck


class ExecutionFields(TypedDict, total=False):
    """How jobs are carried out; see `initbench.question.config.Execution`."""

    engine: str
    device: str
    jobs: int | None
    output: str | None
    data_dir: str | None
    fresh: bool
    run_timeout: float | None
    ray_address: str | None


def compare(
    schemes: Sequence[str | Ref] | None = None,
    *,
    config: str | Path | None = None,
    model: object = None,
    dataset: str | None = None,
    task: str | None = None,
    data: object = None,
    loss: Callable[..., Any] | None = None,
    metric: str | tuple[Any, ...] | None = None,
    inputs: Callable[[Any], Any] | None = None,
    optimizer: Callable[..., Any] | None = None,
    seeds: int | Sequence[int] | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    settings: Sequence[str] = (),
    tune: str | None = None,
    until: str | None = None,
    max_seeds: int | None = None,
    view: View = View(),
    reference: str | None = None,
    watch: Watch | None = None,
    **execution: Unpack[ExecutionFields],
) -> Results:
    """Trains with each scheme and each seed, and says what differs: `compare(["xavier", "kaiming"], model="mlp:depth=10")`.

    `model`, `dataset` and `task` are names, as in the command line: of the catalogue, or of a file such as "./mine.py:Net". The model may
    also be a class or a function, which builds a new one for each run, or a module, of which each run has a copy.
    In place of `dataset` and `task`: `data`, a pair of what is trained on and what is evaluated on, each tensors, a dataset, a
    DataLoader, a list of batches or a function (of a seed) that makes one; `loss(outputs, targets)`, one number that can be
    differentiated, by default cross entropy for whole numbers and squared error for others; `metric`, a name or
    `("dice", function, "max")`; `inputs(batch)`, what the model is given, where the loss wants the whole batch; `optimizer(parameters)`,
    an optimizer of torch's. Every run of a seed sees the same batches.
    `settings` are texts such as "train.lr=0.1"; `tune`: a key that each scheme also gets its own best value of, such as
    "train.lr"; `until`: "decided" adds seeds, `max_seeds` at most, until every comparison is decided, in place of `seeds`;
    `view`: metric, target and margin of the verdicts; `reference`: the scheme that the others are compared with;
    `execution`: what `Execution` takes (output, device, engine, jobs, ...).
    Raises: InitbenchError with one sentence; TypeError for an unknown keyword.
    """
    means = execution_of("compare", dict(execution))
    view = view.model_copy(update={"reference": reference}) if reference is not None else view
    parts = own.Parts(model, dataset, task, data, loss, metric, inputs, optimizer, settings)
    words = QuestionFields(schemes=schemes, seeds=seeds, epochs=epochs, steps=steps, tune=tune, until=until, max_seeds=max_seeds)
    return own.answered("compare", parts, words, means, config=config, view=view, varied=(tune,), watch=watch)


def sweep(
    schemes: Sequence[str | Ref] | None = None,
    *,
    grid: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    model: object = None,
    dataset: str | None = None,
    task: str | None = None,
    data: object = None,
    loss: Callable[..., Any] | None = None,
    metric: str | tuple[Any, ...] | None = None,
    inputs: Callable[[Any], Any] | None = None,
    optimizer: Callable[..., Any] | None = None,
    seeds: int | Sequence[int] | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    settings: Sequence[str] = (),
    view: View = View(),
    reference: str | None = None,
    watch: Watch | None = None,
    **execution: Unpack[ExecutionFields],
) -> Results:
    """Compares schemes in every cell of a grid: `sweep(["xavier", "kaiming"], grid={"model.depth": [4, 16, 64]})`.

    `grid`: keys of the configuration, each with a list of values or a range such as "1e-3..1:log:7"; a key with commas,
    "model.depth,train.lr", goes with lists of values; `scheme.std` is a parameter of every scheme; `where` holds conditions that a
    cell must meet. The other arguments are those of `compare`; `results.summary.sweep` holds the cells.
    Raises: InitbenchError with one sentence; TypeError for an unknown keyword.
    """
    means = execution_of("sweep", dict(execution))
    view = view.model_copy(update={"reference": reference}) if reference is not None else view
    parts = own.Parts(model, dataset, task, data, loss, metric, inputs, optimizer, settings)
    words = QuestionFields(schemes=schemes, seeds=seeds, epochs=epochs, steps=steps, grid=grid)
    return own.answered("sweep", parts, words, means, config=config, view=view, varied=(*(grid or ()),), watch=watch)


def run(
    method: str | Ref | None = None,
    *,
    config: str | Path | None = None,
    model: object = None,
    dataset: str | None = None,
    task: str | None = None,
    data: object = None,
    loss: Callable[..., Any] | None = None,
    metric: str | tuple[Any, ...] | None = None,
    inputs: Callable[[Any], Any] | None = None,
    optimizer: Callable[..., Any] | None = None,
    seeds: int | Sequence[int] | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    settings: Sequence[str] = (),
    watch: Watch | None = None,
    **execution: Unpack[ExecutionFields],
) -> Results:
    """Trains with one scheme, one seed unless more are asked for: `run("kaiming")`; see `compare`."""
    means = execution_of("run", dict(execution))
    parts = own.Parts(model, dataset, task, data, loss, metric, inputs, optimizer, settings)
    words = QuestionFields(schemes=None if method is None else [method], seeds=seeds, epochs=epochs, steps=steps)
    return own.answered("run", parts, words, means, config=config, watch=watch)


def resume(folder: str | Path = store.LATEST, watch: Watch | None = None, **execution: Unpack[ExecutionFields]) -> Results:
    """Goes on where a command was interrupted. Raises: StorageError when the folder holds no results."""
    return carry_out(plan_of(folder, execution_of("resume", dict(execution))), watch or notebook.watch())


def report(folder: str | Path = store.LATEST, reference: str | None = None, **look: Unpack[ViewFields]) -> Results:
    """Makes the derived files of a results folder anew, `look` (metric, target, margin) as it was unless given.

    A margin is about the metric that it is given with, and sleeps while another is looked at; `margin="none"` takes it away.
    A metric that is a file is only used where it is given: a folder may be anybody's.
    Raises: StorageError when it holds no finished run, ConfigError for an unknown reference or metric.
    """
    refuse_unknown("report", look, ViewFields.__annotations__)
    with looked_at(folder) as (folder, manifest, _):
        check_listed(folder, manifest)
        given = {key: value for key, value in {"reference": reference, **look}.items() if value is not None}
        kept = manifest.view.model_dump() | given
        if "margin" in given:
            kept["margin_metric"] = kept["metric"]
        kept_view = view_of(**kept)
        shown, notes = without_code(kept_view, look.get("metric"))
        plan = plan_of(folder, view=shown)
        with lock.locked(folder):
            store.remove_leftovers(folder)
            manifest = store.known_manifest(folder) or manifest
            store.write_manifest(folder, manifest.model_copy(update={"view": kept_view, "derived_from": None}))
            results = derive(plan, keep=kept_view if notes else None)
    return replace(results, notes=(*notes, *results.notes))


def export(name: str, folder: str | Path = store.LATEST, out: str | Path | None = None, *, fresh: bool = False) -> Export:
    """Writes the runs of a results folder for another tool, a name of `initbench list exports`: `export("tensorboard")`.

    `out`: a new or empty folder, `exports/NAME` in the results folder unless given; `fresh` replaces an earlier export there.
    Nothing is sent anywhere. Raises: StorageError for folders that do not fit, NotThereError where a package is not installed.
    """
    write = catalog.load("export", as_name("export", name) or "")
    if (Path(folder) / store.PROBE).is_file():
        raise ConfigError(f"{folder} holds a probe, which trains nothing. Its tables are in {Path(folder) / 'tables'}.")
    results = load_results(folder)
    with catalog.as_recorded(results.recorded):
        runs = exported_runs(results.config, results.results, results.reported, results.summary.metrics)
    (title,) = safe_names([results.folder.absolute().name])
    place = results.folder / "exports" / safe_names([Path(name).stem])[0] if out is None else Path(out)
    with export_folder(place, fresh=fresh), UserCode(f"Cannot make the export '{name}'"):
        opened_with = write(runs, place, title)
    return Export(place, len(runs), str(opened_with))


def recommend(
    asked: str | None = None,
    schemes: Sequence[str | Ref] | None = None,
    *,
    config: str | Path | None = None,
    model: object = None,
    dataset: str | None = None,
    task: str | None = None,
    data: object = None,
    loss: Callable[..., Any] | None = None,
    metric: str | tuple[Any, ...] | None = None,
    inputs: Callable[[Any], Any] | None = None,
    optimizer: Callable[..., Any] | None = None,
    seeds: int | Sequence[int] | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    settings: Sequence[str] = (),
    tune: str | None = None,
    watch: Watch | None = None,
    **execution: Unpack[ExecutionFields],
) -> Results:
    """Finds the scheme for a config or a model, such as "./mine.py:Net": `recommend("mlp:depth=10").summary.recommendation`.

    `asked` is the name of a config or of a model, never a module: it is built anew for each run. `schemes`: those that race,
    all by default; `tune`: what they race over beside, the learning rate by default; see `compare`.
    Raises: InitbenchError with one sentence; TypeError for an unknown keyword.
    """
    means = execution_of("recommend", dict(execution))
    parts = own.Parts(model, dataset, task, data, loss, metric, inputs, optimizer, settings)
    words = QuestionFields(schemes=schemes, seeds=seeds, epochs=epochs, steps=steps, tune=tune)

    def question(config: str | Path | None, **more: Any) -> ExperimentConfig:
        return race_question(asked, config=config, **more)

    return own.answered("recommend", parts, words, means, config=config, varied=(tune or "train.lr",), watch=watch, question=question)


def check_scheme(scheme: str | Ref, model: str | Ref | None = None) -> tuple[SchemeCheck, ...]:
    """Examines a scheme of your own on the shipped models that it applies to, or on the one given.

    In a test: `assert all(check.passed for check in check_scheme("./mine.py"))`. Raises: ConfigError for what cannot be built.
    """
    from initbench.init import checks

    named = as_name("model", model)
    return checks.check_scheme(as_ref(as_name("scheme", scheme)), None if named is None else as_ref(named))


def build_model(model: str | Ref = "mlp", shape: Sequence[int] = (1, 28, 28), classes: int = 10, seed: int = 0) -> nn.Module:
    """A model of the catalogue or a file of your own, on the CPU, for inputs of one shape: `build_model("resnet:depth=8")`.

    The global random state is not used. Raises: ConfigError when there is no such model or it does not take its parameters.
    """
    from initbench.nn import build

    return build.build_model(catalog.resolve("model", as_ref(as_name("model", model))), tuple(shape), classes, seed)


def init_network(
    model: nn.Module,
    method: str | Ref = "xavier",
    exclude: str | Sequence[str] = "embedding",
    seed: int = 123,
    *,
    only: str | Sequence[str] = (),
    bias: float | None = None,
    layers: Mapping[str, str | Ref] | None = None,
    in_out: Sequence[str] = (),
    strict: bool = False,
    inputs: Any = None,
    batch: Callable[[int, int], tuple[Any, Any]] | None = None,
) -> InitReport:
    """Initializes any module in place and reports on each parameter: `init_network(model, "kaiming:mode=fan_out")`.

    `exclude`: parameters whose name contains it are left alone. `only`: globs of the parameters that are set; all others are left
    alone. `bias`: a constant for every bias instead of what the scheme says. `layers`: glob on names -> another scheme. `in_out`:
    globs of weights stored (in, out). `strict`: a parameter that nothing sets is an error. `inputs`: a batch as the model takes it,
    for execution order and what follows each layer: a tensor or numpy array (N, ...), a tuple or list of arguments in the order of
    `forward`, or a mapping of keyword arguments, such as a tokenizer gives; see `probe`; it is moved to the model's device, as are
    batches. `batch(size, index)`: (inputs, labels) for schemes that need data, inputs in any of these forms. The global random
    state is not used.
    Raises: InitbenchError for names, parameters or models that do not fit.
    """
    from initbench.init.initialize import checked_batch, initialize
    from initbench.nn.build import own_model
    from initbench.nn.inputs import as_inputs, device_of
    from initbench.nn.naming import unwrapped

    model = own_model(model)
    given = {
        "bias": "scheme" if bias is None else bias,
        "exclude": (exclude,) if isinstance(exclude, str) else exclude,
        "only": (only,) if isinstance(only, str) else only,
        "layers": layers or {},
        "in_out": (in_out,) if isinstance(in_out, str) else in_out,
        "strict": strict,
    }
    method = method if isinstance(method, Mapping) else as_name("scheme", method) or ""
    try:
        scheme, rules = as_ref(method), InitRules.model_validate(given)
    except ValidationError as error:
        problem = "; ".join(f"{details['loc'][0] if details['loc'] else 'method'}: {details['msg']}" for details in error.errors())
        raise ConfigError(f"init_network cannot use its arguments: {problem}.") from error
    device = device_of(model)
    example = None if inputs is None else as_inputs(inputs).to(device)
    batches = None if batch is None else checked_batch(batch, device)
    with unwrapped(model) as inside:
        return initialize(inside, scheme, seed=seed, rules=rules, inputs=example, batch=batches)[0]
