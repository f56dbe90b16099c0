"""The command `probe`: the signal through an untrained network, one's own model included."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from initbench.cli import output
from initbench.cli.heartbeat import alarm
from initbench.cli.live import probe_bar
from initbench.cli.options import (
    OUTPUT,
    TRAINING,
    WHAT,
    DataDir,
    Device,
    DisplayOptions,
    ExperimentOptions,
    Fresh,
    Jobs,
    Out,
    SchemeOptions,
    Seeds,
    flat,
    option,
)
from initbench.cli.running import FAILED_RUNS
from initbench.cli.stopping import SIGNAL_BASE, StopRequest, stopping_at_once
from initbench.errors import ConfigError, enumerated
from initbench.probing import coordinate_page, coordinates, map_run
from initbench.probing import run as probing
from initbench.question.config import ExperimentConfig, parse_ref
from initbench.question.families import all_schemes
from initbench.results.probe_run import ProbeRun
from initbench.results.record import RunStatus

EXAMPLE = "Example: initbench probe kaiming xavier --model mlp:depth=30\n\nOr: initbench probe xavier mup --coordinate-check -c text_gpt"
MOST_TABLES = 2
"""With more schemes than this their layers are shown only when asked for."""
WIDE = 130
"""Columns of a terminal on which the whole table of layers fits."""

Input = Annotated[
    str | None,
    option(
        WHAT,
        "--input",
        "SHAPE|FILE",
        "Instead of a dataset: 3x224x224 (random numbers), int:1000:128 (128 whole numbers below 1000), or a .npy, .npz, .pt file; "
        "several arrays are arguments by name.",
    ),
]
Batch = Annotated[int | None, option(WHAT, "--batch", "N", "Inputs that the signal is measured on.")]
Classes = Annotated[int | None, option(WHAT, "--classes", "N", "Outputs of a model that is built for --input.", min=1)]
Every = Annotated[bool, option(WHAT, "--all", "", "All schemes of the catalogue.")]
AsIs = Annotated[bool, option(WHAT, "--as-is", "", "Look at the weights as they are; apply no scheme.")]
Checkpoint = Annotated[str | None, option(WHAT, "--checkpoint", "FILE", "Read the weights from a .safetensors file or a state dict.")]
Map = Annotated[str | None, option(OUTPUT, "--map", "X,Y", "Draw a map over two of sigma_w, sigma_b, gain, depth, width instead.")]
Coordinates = Annotated[
    bool,
    option(
        TRAINING,
        "--coordinate-check",
        "",
        "Train the model for a few steps at several widths instead: does each layer change by as much at every width?",
    ),
]
Widths = Annotated[
    str | None, option(TRAINING, "--widths", "A,B,C", "With --coordinate-check: at least 3 widths.", show_default=coordinates.WIDTHS)
]
CheckSteps = Annotated[
    int | None,
    option(TRAINING, "--steps", "N", "With --coordinate-check: optimizer steps.", show_default=str(coordinates.STEPS)),
]
CheckTask = Annotated[str | None, option(TRAINING, "--task", "TASK", "With --coordinate-check: what is trained for.")]
Train = Annotated[bool, option(OUTPUT, "--train", "", f"With --map: train at each point, for {map_run.STEPS} steps or as a config says.")]


@flat
def probe(
    *,
    schemes: SchemeOptions,
    experiment: ExperimentOptions,
    given: Input = None,
    batch: Batch = None,
    classes: Classes = None,
    every: Every = False,
    as_is: AsIs = False,
    checkpoint: Checkpoint = None,
    seeds: Seeds = None,
    map_: Map = None,
    train: Train = False,
    coordinate_check: Coordinates = False,
    widths: Widths = None,
    steps: CheckSteps = None,
    task: CheckTask = None,
    device: Device = "auto",
    jobs: Jobs = None,
    data_dir: DataDir = None,
    out: Out = None,
    fresh: Fresh = False,
    display: DisplayOptions,
    context: typer.Context,
) -> None:
    """Follow the signal through an untrained network, layer by layer, and say which scheme keeps it."""
    named = schemes.named
    if named and every:
        raise ConfigError("--all takes every scheme; name none beside it.")
    if (named or every) and (as_is or checkpoint):
        raise ConfigError("--as-is and --checkpoint look at the weights as they are; name no scheme beside them.")
    if given and experiment.dataset:
        raise ConfigError("Give --input or --dataset, not both.")
    if train and not map_:
        raise ConfigError("--train is for maps: write --map sigma_w,sigma_b --train. To train with a scheme use: initbench run")
    if coordinate_check:
        others = {"--input": given, "--classes": classes, "--as-is": as_is, "--checkpoint": checkpoint, "--map": map_}
        _refuse_beside_check([word for word, value in others.items() if value])
    elif widths or steps is not None or task:
        raise ConfigError("--widths, --steps and --task are for --coordinate-check, which trains; write it too, or leave them out.")
    if not named and every:
        named = [str(scheme) for scheme in all_schemes()]
    elif not named and not experiment.config:
        named = [*(coordinates.SCHEMES if coordinate_check else probing.PANEL)]
    if coordinate_check:
        wide = coordinates.read_widths(widths or coordinates.WIDTHS)
        if experiment.model:  # one that cannot be built without a width is no question yet
            experiment = replace(experiment, model=str(coordinates.at_width(parse_ref(experiment.model), wide[0])))
    config = experiment.question("coordinate-check" if coordinate_check else "probe", named, data_dir, seeds=seeds, task=task)
    with _stopped_in_words():
        if coordinate_check:
            config, changed = coordinates.asked(config, wide, batch=batch, steps=steps)
            how = {"changed": changed, "device": device, "jobs": jobs, "data_dir": data_dir}
            _check_coordinates(config, wide, display, how, out=out, fresh=fresh, typed=context.obj)
            return
        if map_:
            _draw_map(config, map_, display, train=train, device=device, data_dir=data_dir, out=out, fresh=fresh, typed=context.obj)
            return
        question = probing.ask(config, given=given, batch=batch, classes=classes, checkpoint=checkpoint, as_is=as_is)
        total = max(1, len(question.schemes)) * len(question.seeds)
        with alarm("The probe has given no sign") as sign, probe_bar(total, quiet=display.quiet or display.as_json) as advance:

            def told(run: ProbeRun) -> None:
                sign()
                advance(f"{run.scheme}, seed {run.seed}")
                if display.verbose and not display.quiet:
                    _tell_run(run)

            answer = probing.carry_out(question, device=device, jobs=jobs, data_dir=data_dir, told=told)
        answer = probing.write(answer, out, fresh=fresh, typed=context.obj)
    _show(answer, display)
    if any(run.status is RunStatus.FAILED for run in answer.runs):
        raise typer.Exit(FAILED_RUNS)


@contextmanager
def _stopped_in_words() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM end the command with a sentence, at once."""
    try:
        with stopping_at_once():
            yield
    except StopRequest as stop:
        output.say("Stopped before the probe was finished; nothing is saved.")
        raise typer.Exit(SIGNAL_BASE + stop.number) from None


def _tell_run(run: ProbeRun) -> None:
    ended = f"{run.status}: {run.reason}" if run.reason else f"{run.seconds:.2f} s"
    output.hint(f"{run.scheme}, seed {run.seed}: {ended}")


def _show(answer: probing.Probe, display: DisplayOptions) -> None:
    from initbench.probing import tables as signal_tables

    if display.as_json:
        output.document(
            {
                "folder": str(answer.folder),
                "best": answer.best,
                "verdicts": {each.scheme: each.verdict for each in answer.schemes},
                "runs": [run.model_dump(mode="json") for run in answer.runs],
            }
        )
        return
    if display.quiet:
        return
    for run in answer.runs[:1]:
        if run.laws:
            drawn = signal_tables.law_table(run)
            output.table(drawn.title, drawn.columns, drawn.rows)
            output.text("")
    shown = [each for each in answer.schemes if each.layers]
    for each in shown if display.verbose or len(shown) <= MOST_TABLES else ():
        drawn = signal_tables.layer_table(each, most=signal_tables.SHOWN_ROWS, narrow=shutil.get_terminal_size().columns < WIDE)
        output.table(drawn.title, drawn.columns, drawn.rows, right=drawn.right)
        output.text("")
        parts = [signal_tables.embedding_table(each)] if each.embeddings else []
        parts += [signal_tables.attention_table(each, most=signal_tables.SHOWN_ROWS)] if each.attention else []
        for drawn in parts:
            output.table(drawn.title, drawn.columns, drawn.rows, right=drawn.right)
            output.text("")
    drawn = signal_tables.scheme_table(answer.schemes)
    output.table(drawn.title, drawn.columns, drawn.rows, right=drawn.right)
    output.text("")
    for line in signal_tables.verdict_lines(answer.schemes):
        output.sentence(line)
    for note in signal_tables.notes(answer.schemes, answer.runs):
        output.hint(note + ".")
    output.hint(f"Results: {answer.folder}. Open {answer.folder / 'report.html' if answer.folder else Path('report.html')}")


def _refuse_beside_check(words: list[str]) -> None:
    if words:
        raise ConfigError(f"--coordinate-check trains on a dataset (--dataset, --task) with schemes; leave out {enumerated(words, 'and')}.")


def _check_coordinates(config: ExperimentConfig, widths: tuple[int, ...], display: DisplayOptions, how: dict[str, Any], **to: Any) -> None:
    total = len(config.schemes) * len(config.seeds) * len(widths)
    with alarm("The coordinate check has given no sign") as sign, probe_bar(total, quiet=display.quiet or display.as_json) as advance:

        def told(name: str) -> None:
            sign()
            advance(name)

        answer = coordinates.carry_out(config, widths, told=told, **how)
    answer = coordinates.write(answer, **to)
    if display.as_json:
        output.document(coordinate_page.document(answer))
    elif not display.quiet:
        for table in (
            *(coordinate_page.layer_table(each) for each in answer.schemes if each.layers),
            coordinate_page.scheme_table(answer.schemes),
        ):
            output.table(table.title, table.columns, table.rows, right=table.right)
            output.text("")
        for line in coordinate_page.verdict_lines(answer.schemes):
            output.sentence(line)
        for note in coordinate_page.notes(answer):
            output.hint(note + ".")
        output.hint(f"Results: {answer.folder}. Open {(answer.folder or Path()) / 'report.html'}")
    if answer.failed:
        raise typer.Exit(FAILED_RUNS)


def _draw_map(config: ExperimentConfig, axes: str, display: DisplayOptions, *, train: bool, **how: Any) -> None:
    points = math.prod(len(axis.values) for axis in map_run.read_axes(axes, train=train))
    total = points * len(config.seeds) * (2 if train else 1)
    with alarm("The map has given no sign") as sign, probe_bar(total, quiet=display.quiet or display.as_json) as advance:

        def told(name: str) -> None:
            sign()
            advance(name)

        answer = map_run.draw_map(config, axes, train=train, told=told, **how)
    if display.as_json:
        output.document(answer.document())
        return
    if display.quiet:
        return
    for line in answer.sentences:
        output.sentence(line)
    if answer.folder is not None:
        output.hint(f"Results: {answer.folder}. Open {answer.folder / 'report.html'}")
