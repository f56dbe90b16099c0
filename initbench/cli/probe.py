"""The command `probe`: the signal through an untrained network, one's own model included."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from initbench import api
from initbench.cli import output as console
from initbench.cli.options import (
    OUTPUT,
    WHAT,
    Config,
    DataDir,
    Dataset,
    Device,
    Fresh,
    Jobs,
    Json,
    Method,
    Model,
    Out,
    Quiet,
    Schemes,
    Seeds,
    Settings,
    Verbose,
)
from initbench.errors import ConfigError
from initbench.probing import run as probing
from initbench.question.config import ExperimentConfig
from initbench.results.probe_record import ProbeRun
from initbench.results.record import RunStatus

FAILED = 3
"""The exit code where some schemes failed and others did not."""
MOST_TABLES = 2
"""With more schemes than this their layers are shown only when asked for."""

WIDE = 130
"""Columns of a terminal on which the whole table of layers fits."""

Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="SHAPE|FILE",
        help="Instead of a dataset: 3x224x224 (random numbers), int:1000:128 (128 whole numbers below 1000), or a .npy, .npz, .pt file.",
        rich_help_panel=WHAT,
    ),
]
Batch = Annotated[int | None, typer.Option("--batch", metavar="N", help="Inputs that the signal is measured on.", rich_help_panel=WHAT)]
Classes = Annotated[
    int | None, typer.Option("--classes", min=1, metavar="N", help="Outputs of a model that is built for --input.", rich_help_panel=WHAT)
]
Every = Annotated[bool, typer.Option("--all", metavar="", help="All schemes of the catalogue.", rich_help_panel=WHAT)]
AsIs = Annotated[bool, typer.Option("--as-is", metavar="", help="Look at the weights as they are; apply no scheme.", rich_help_panel=WHAT)]
Checkpoint = Annotated[
    str | None,
    typer.Option("--checkpoint", metavar="FILE", help="Read the weights from a .safetensors file or a state dict.", rich_help_panel=WHAT),
]
Map = Annotated[
    str | None,
    typer.Option(
        "--map", metavar="X,Y", help="Draw a map over two of sigma_w, sigma_b, gain, depth, width instead.", rich_help_panel=OUTPUT
    ),
]
Train = Annotated[
    bool, typer.Option("--train", metavar="", help="With --map: train at each point for a few epochs.", rich_help_panel=OUTPUT)
]


def probe(
    *,
    schemes: Schemes = None,
    method: Method = None,
    config: Config = None,
    settings: Settings = None,
    model: Model = None,
    dataset: Dataset = None,
    given: Input = None,
    batch: Batch = None,
    classes: Classes = None,
    every: Every = False,
    as_is: AsIs = False,
    checkpoint: Checkpoint = None,
    seeds: Seeds = None,
    map_: Map = None,
    train: Train = False,
    device: Device = "auto",
    jobs: Jobs = None,
    data_dir: DataDir = None,
    out: Out = None,
    fresh: Fresh = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Follow the signal through an untrained network, layer by layer, and say which scheme keeps it."""
    _refuse_contradictions(schemes, method, every=every, as_is=as_is, checkpoint=checkpoint, given=given, dataset=dataset)
    if train and not map_:
        raise ConfigError("--train is for maps: write --map sigma_w,sigma_b --train. To train with a scheme use: initbench run")
    names = [*(schemes or ()), *(method or ())] or (_all() if every else None if config else list(probing.PANEL))
    asked = api.options(names, model=model, dataset=dataset, seeds=seeds, dashes="--")
    experiment = api.configure("probe", config, settings=settings or (), asked=asked, data_dir=data_dir)
    if map_:
        _draw_map(experiment, map_, train=train, device=device, data_dir=data_dir, out=out, fresh=fresh, as_json=as_json, quiet=quiet)
        return
    question = probing.ask(experiment, given=given, batch=batch, classes=classes, checkpoint=checkpoint, as_is=as_is)
    told = None if quiet else _line if verbose else None
    answer = probing.carry_out(question, device=device, jobs=jobs, data_dir=data_dir, told=told)
    answer = probing.write(answer, out, fresh=fresh)
    _show(answer, as_json=as_json, quiet=quiet, verbose=verbose)
    if any(run.status is RunStatus.FAILED for run in answer.runs):
        raise typer.Exit(FAILED)


def _refuse_contradictions(
    schemes: Any, method: Any, *, every: bool, as_is: bool, checkpoint: str | None, given: Any, dataset: Any
) -> None:
    named = schemes or method
    if named and every:
        raise ConfigError("--all takes every scheme; name none beside it.")
    if (named or every) and (as_is or checkpoint):
        raise ConfigError("--as-is and --checkpoint look at the weights as they are; name no scheme beside them.")
    if given and dataset:
        raise ConfigError("Give --input or --dataset, not both.")


def _all() -> list[str]:
    from initbench.question.families import all_schemes

    return [str(scheme) for scheme in all_schemes()]


def _line(run: ProbeRun) -> None:
    ended = f"{run.status}: {run.reason}" if run.reason else f"{run.seconds:.2f} s"
    console.hint(f"{run.scheme}, seed {run.seed}: {ended}")


def _show(answer: probing.Probe, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    from initbench.probing import tables as signal_tables

    if as_json:
        console.document(
            {
                "folder": str(answer.folder),
                "best": answer.best,
                "verdicts": {each.scheme: each.verdict for each in answer.schemes},
                "runs": [run.model_dump(mode="json") for run in answer.runs],
            }
        )
        return
    for run in answer.runs[:1]:
        if run.laws:
            drawn = signal_tables.law_table(run)
            console.table(drawn.title, drawn.columns, drawn.rows)
            console.text("")
    shown = [each for each in answer.schemes if each.layers]
    for each in shown if verbose or len(shown) <= MOST_TABLES else ():
        drawn = signal_tables.layer_table(each, most=signal_tables.SHOWN_ROWS, narrow=shutil.get_terminal_size().columns < WIDE)
        console.table(drawn.title, drawn.columns, drawn.rows, right=drawn.right)
        console.text("")
    drawn = signal_tables.scheme_table(answer.schemes)
    console.table(drawn.title, drawn.columns, drawn.rows, right=drawn.right)
    console.text("")
    for line in signal_tables.verdict_lines(answer.schemes):
        console.text(line)
    if not quiet:
        for note in signal_tables.notes(answer.schemes, answer.runs):
            console.hint(note + ".")
        console.hint(f"Results: {answer.folder}. Open {answer.folder / 'report.html' if answer.folder else Path('report.html')}")


def _draw_map(experiment: ExperimentConfig, axes: str, *, train: bool, as_json: bool, quiet: bool, **means: Any) -> None:
    from initbench.probing import map_run as mapping

    found = mapping.draw_map(experiment, axes, train=train, **means)
    if as_json:
        console.document(found.document())
        return
    for line in found.sentences:
        console.text(line)
    if not quiet and found.folder is not None:
        console.hint(f"Results: {found.folder}. Open {found.folder / 'report.html'}")
