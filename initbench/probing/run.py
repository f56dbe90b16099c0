"""The route of a probe: question, runs, verdicts, files; the public function `probe` is here."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initbench import __version__
from initbench.errors import ConfigError, InitbenchError, StorageError
from initbench.probing import figures, tables
from initbench.probing.health import SchemeHealth
from initbench.probing.verdicts import assess
from initbench.question import catalog, plan
from initbench.question.config import ExperimentConfig, Ref
from initbench.question.request import configure
from initbench.question.user_files import own_path
from initbench.reporting.panels import Plot
from initbench.reporting.shown import Shown, as_frame
from initbench.reporting.tables import Table
from initbench.results import files, lock, provenance, store
from initbench.results.probe_run import ProbeRun, Question
from initbench.results.record import RunStatus
from initbench.studies import notebook
from initbench.studies.execution import device_of

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

PANEL = ("torch_default", "xavier", "kaiming", "lecun", "orthogonal:gain=auto", "edge_of_chaos", "gaussian_gain", "fixup")
"""What is probed when no scheme is named."""
REMEDIES = ("kaiming", "gaussian_gain", "edge_of_chaos", "xavier", "orthogonal:gain=auto", "lsuv", "deepnorm", "fixup")
"""What is tried, in this order and with one seed, where every probed scheme loses the signal; the first that keeps it is recommended."""
CLASSES = {"torchvision": 1000}
"""Outputs of a model that is built without a data set; of others `OTHERWISE`."""
OTHERWISE = 10

Told = Callable[[ProbeRun], None]


@dataclass(frozen=True, repr=False)
class Probe(Shown):
    """A question and its answer: the runs, and each scheme's health, the best first. `folder` is None where nothing was written."""

    question: Question
    runs: tuple[ProbeRun, ...]
    schemes: tuple[SchemeHealth, ...]
    folder: Path | None = None

    @property
    def best(self) -> str | None:
        """The scheme that keeps the signal best; None where none does."""
        return self.schemes[0].scheme if self.schemes and self.schemes[0].keeps else None

    @property
    def verdicts(self) -> tuple[str, ...]:
        """One sentence a scheme, the best first."""
        return tuple(f"{each.scheme}: {each.verdict}" for each in self.schemes)

    @property
    def plots(self) -> tuple[Plot, ...]:
        """What each plot shows, as data."""
        return figures.plots(self.schemes)

    @property
    def overview(self) -> tuple[str, Table]:
        """The verdict on the best scheme, and a row a scheme."""
        return f"{self.verdicts[0]}." if self.verdicts else "", tables.scheme_table(self.schemes)

    @property
    def where(self) -> Path | None:
        """The results folder, where there is one."""
        return self.folder

    def to_pandas(self, table: str = "layers") -> pd.DataFrame:
        """A row a layer, scheme and seed (`layers`), a scheme and seed (`runs`) or a part of these (`attention`, `embeddings`).

        Raises: ConfigError for another name.
        """
        texts = {
            "layers": tables.layers_csv,
            "runs": tables.runs_csv,
            "attention": tables.attention_csv,
            "embeddings": tables.embeddings_csv,
        }
        if table not in texts:
            raise ConfigError(f"There is no table '{table}' of a probe. There are: {', '.join(texts)}.")
        return as_frame(texts[table](self.runs))

    def __repr__(self) -> str:
        """Gives the verdict on the best scheme, not all numbers."""
        return f"<Probe of {len(self.schemes)} schemes: {self.overview[0]}>"

    def __str__(self) -> str:
        """The verdicts, a line each."""
        return "\n".join(self.verdicts)


def ask(
    config: ExperimentConfig,
    *,
    given: str | None = None,
    batch: int | None = None,
    classes: int | None = None,
    checkpoint: str | None = None,
    as_is: bool = False,
) -> Question:
    """The question of a probe; `given` is an input such as 3x224x224 in place of the config's data set.

    Raises: ConfigError for names that do not exist.
    """
    resolved = plan.resolve_config(config)
    if batch is not None and batch < 2:
        raise ConfigError(f"The batch is {batch}; it must have at least 2 inputs.")
    size = batch or config.probe.images
    if given is not None and batch is None:
        from initbench.training.inputs import default_batch_size

        size = default_batch_size(given)
    return Question(
        schemes=() if as_is or checkpoint else resolved.schemes,
        seeds=config.seeds[:1] if checkpoint else config.seeds,
        model=resolved.model,
        dataset=resolved.dataset if given is None else None,
        input=given,
        batch_size=size,
        classes=classes or CLASSES.get(resolved.model.name, OTHERWISE),
        init=resolved.init,
        checkpoint=checkpoint,
    )


def carry_out(
    question: Question, *, device: str = "auto", jobs: int | None = None, data_dir: str | None = None, told: Told | None = None
) -> Probe:
    """Probes every scheme with every seed and says what it means; nothing is written.

    Raises: InitbenchError where the model cannot be built or run, or where the only scheme failed.
    """
    from initbench.training.untrained import Prober
    from initbench.workers.probe_pool import probe_all

    prober = Prober(question, device=device_of(device), data_dir=data_dir)
    runs = []
    for run in probe_all(prober, jobs):
        runs.append(run)
        if told is not None:
            told(run)
    return _judged(question, prober, tuple(runs))


def _judged(question: Question, prober: Any, runs: tuple[ProbeRun, ...]) -> Probe:
    bad = {run.scheme: run for run in runs if run.status is RunStatus.FAILED}
    if len(bad) == len({run.scheme for run in runs}):
        raise InitbenchError(f"No scheme could be probed. {next(iter(bad.values())).reason}")
    schemes = assess(runs)
    spare: list[ProbeRun] = []
    if any(each.forward or each.back for each in schemes) and not any(each.keeps for each in schemes):
        for name in REMEDIES:
            if name not in {run.scheme for run in runs}:
                spare.append(next(prober.run(Ref(name=name))))
                if any(each.keeps for each in assess(spare)):
                    break
    return Probe(question, runs, assess(runs, spare))


def load_probe(folder: str | Path = store.LATEST_PROBE) -> Probe:
    """The probe of a results folder. Raises: StorageError when it holds none, or one that is damaged."""
    path = Path(folder) / store.PROBE
    try:
        answer = json.loads(files.read_bytes(path))
        runs = tuple(ProbeRun.model_validate(run) for run in answer["runs"])
        return Probe(Question.model_validate(answer["question"]), runs, assess(runs), Path(folder))
    except FileNotFoundError:
        raise StorageError(f"{folder} holds no probe: {store.PROBE} is missing.") from None
    except files.UnusableFile as error:
        raise StorageError(f"{path} {error}. Probe anew with --fresh.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StorageError(f"{path} is not as it was written. Probe anew with --fresh.") from None


def write(probe: Probe, out: str | None = None, *, fresh: bool = False, typed: str = "") -> Probe:
    """Writes the results folder of a probe: runs, tables, plots, summary, page; `typed`: the command line that asked, if one did.

    Raises: StorageError when it cannot be written.
    """
    digest = question_hash(probe.question)
    folder = Path(out) if out else store.RESULTS / _name(probe.question, digest)
    with lock.locked(folder):
        _write(probe, folder, digest, fresh=fresh, typed=typed)
    return Probe(probe.question, probe.runs, probe.schemes, folder)


def _write(probe: Probe, folder: Path, digest: str, *, fresh: bool, typed: str) -> None:
    from initbench.probing import page as signal_page

    prepare_folder(folder, digest, "probe", fresh=fresh, typed=typed)
    answer = {
        "question": probe.question.model_dump(mode="json"),
        "verdicts": {each.scheme: each.verdict for each in probe.schemes},
        "best": probe.best,
        "runs": [run.model_dump(mode="json") for run in probe.runs],
    }
    store.write_text(folder / store.PROBE, json.dumps(answer, allow_nan=False, ensure_ascii=False) + "\n")
    files = {"layers": tables.layers_csv(probe.runs), "runs": tables.runs_csv(probe.runs)}
    if any(run.attention for run in probe.runs):
        files["attention"] = tables.attention_csv(probe.runs)
    if any(run.embeddings for run in probe.runs):
        files["embeddings"] = tables.embeddings_csv(probe.runs)
    devices = sorted({run.device for run in probe.runs if run.device})
    made = {**provenance.environment(), "device": ", ".join(devices)}
    signal_page.write(
        folder,
        signal_page.subject_of(probe.question),
        probe.runs,
        probe.schemes,
        made,
        overview=tables.scheme_table(probe.schemes),
        plots=probe.plots,
        tables=files,
        explored={each.scheme: [run for run in probe.runs if run.scheme == each.scheme] for each in probe.schemes if each.layers},
        typed=typed,
    )
    if folder.parent == store.RESULTS:
        store.link_latest(folder, store.LATEST_PROBE)


def prepare_folder(folder: Path, digest: str, command: str, *, fresh: bool, typed: str) -> None:
    """Makes sure that a folder is free for this question or holds it, and writes its manifest; `fresh` removes what is there."""
    store.check_folder(folder, digest, fresh=fresh)
    store.check_writable(folder)
    earlier = store.known_manifest(folder)
    if fresh:
        store.clear(folder)
    store.remove_leftovers(folder)
    manifest = store.Manifest(
        initbench=__version__,
        command=command,
        typed=typed,
        config_hash=digest,
        jobs=(),
        started=store.now(),
        derived={} if fresh or earlier is None else earlier.derived,
        provenance=provenance.environment(),
    )
    store.write_manifest(folder, manifest)


def question_hash(question: Question) -> str:
    """16 hexadecimal digits of the question and of the user's files that it names. Raises: StorageError for a file that cannot be read."""
    named = [own_path(name) for name in (question.input, question.checkpoint) if name]
    try:
        digests: list[str | None] = []
        with contextlib.suppress(ConfigError):  # the class of a module that was given is no name of the catalogue
            digests.append(catalog.user_digest("model", question.model.name))
        digests += [catalog.user_digest("scheme", ref.name) for ref in question.schemes]
        digests += [hashlib.sha256(path.read_bytes()).hexdigest() for path in named if path.is_file()]
    except OSError as error:
        raise StorageError(f"Cannot read {error.filename}: {error.strerror}.") from error
    files = [digest for digest in digests if digest is not None]
    return folder_hash([question.model_dump(mode="json"), files])


def folder_hash(content: object) -> str:
    """16 hexadecimal digits of what a folder's results are about, as JSON holds it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _name(question: Question, digest: str) -> str:
    words = plan.folder_words(question.model.name, Path(question.given).stem if question.input else question.given)
    return f"probe-{words}-{digest[:8]}"


def probe(
    model: nn.Module | str,
    schemes: Sequence[str | Ref] | None = None,
    *,
    inputs: Any = None,
    labels: Any = None,
    dataset: str | None = None,
    seeds: int | Sequence[int] | None = None,
    as_is: bool = False,
    checkpoint: str | None = None,
    output: str | None = None,
    device: str | None = None,
    data_dir: str | None = None,
) -> Probe:
    """Follows the signal through an untrained network: `probe(model, inputs=batch)`, `probe("mlp:depth=30", ["kaiming"])`.

    `model`: a module, afterwards as it was to the bit, or a name. `inputs`: a batch of N >= 2 inputs as the model takes
    it, or a text such as "3x224x224" or "int:1000:128"; without any, examples of `dataset`. A batch is a tensor or numpy
    array (N, ...); a tuple or list of arguments in the order of `forward`; or a mapping of keyword arguments, such as a
    tokenizer gives. Where `forward` takes one argument and not these, it is given the whole tuple, list or mapping.
    Entries may be nested; what is no tensor is passed on.
    `labels`: whole numbers (N,), for the cross entropy of logits (N, classes). The model may give a tensor, or
    tensors in tuples, lists, dicts and dataclasses: see docs/probe.md. `schemes`: those of `PANEL` unless some are named.
    `as_is`: the weights are looked at as they are, `checkpoint` reads them from a file first. `output`: a results folder.
    `device`: where it is computed; unless given, where the module is, and on the CPU for a name.
    Raises: InitbenchError with one sentence.
    """
    from initbench.nn.build import own_model
    from initbench.nn.inputs import as_inputs, shape_words
    from initbench.training.inputs import Given, as_labels, refuse_not_finite
    from initbench.training.untrained import Prober

    own = None if isinstance(model, str | Ref) else own_model(model, ", or a name such as 'mlp:depth=30'")
    config = configure("probe", schemes=schemes or PANEL, model=None if own is not None else str(model), dataset=dataset, seeds=seeds)
    if inputs is None or isinstance(inputs, str):
        if labels is not None:
            raise ConfigError("There are labels, and no batch that they belong to. Give the batch as `inputs`.")
        batch, question = None, ask(config, given=inputs, checkpoint=checkpoint, as_is=as_is)
    else:
        given = as_inputs(inputs)
        if len(given) < 2:
            raise ConfigError(f"The batch has {len(given)} {'input' if len(given) == 1 else 'inputs'}. Give at least 2.")
        refuse_not_finite(given)
        question = ask(config, given=shape_words(given), batch=len(given), checkpoint=checkpoint, as_is=as_is)
        batch = Given(given, None if labels is None else as_labels(labels, len(given)), question.classes)
    if own is not None:
        question = question.model_copy(update={"model": Ref(name=type(own).__name__)})
    prober = Prober(question, device=device, data_dir=data_dir, model=own, batch=batch)
    line = notebook.line(len(prober.schemes) * len(question.seeds), "probe")
    runs: list[ProbeRun] = []
    for scheme in prober.schemes:
        for run in prober.run(scheme):
            runs.append(run)
            if line is not None:
                line.move(len(runs))
    if line is not None:
        line.move(line.total)
    judged = _judged(question, prober, tuple(runs))
    return judged if output is None else write(judged, output)
