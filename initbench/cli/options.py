"""The words of the command line: every option is the same word, with the same help and completion, in every command."""

from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Annotated

import typer

from initbench.question import catalog, config_file, families
from initbench.question.catalog import FOLDERS, Kind

BRIEF = 60
"""Characters of a description that a shell shows beside a completion."""
DEVICES = ("auto", "cpu", "cuda", "mps")
"""What --device takes; `cuda:1` as well."""


def _names(*kinds: Kind) -> Callable[[str], list[tuple[str, str]]]:
    """Completes the names and aliases of the catalogue, without importing what they name."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        found = [
            (name, _brief(entry.summary)) for kind in kinds for entry in catalog.entries(kind) for name in (entry.name, *entry.aliases)
        ]
        return [pair for pair in found if pair[0].startswith(incomplete)]

    return complete


def _brief(summary: str) -> str:
    """What fits a line of every shell: a description that is broken would be offered as one more name."""
    return shorten(summary, BRIEF, placeholder=" ...")


def _devices(incomplete: str) -> list[str]:
    return [device for device in DEVICES if device.startswith(incomplete)]


def _families(incomplete: str) -> list[str]:
    return [family for family in families.families() if family.startswith(incomplete)]


def _configs(incomplete: str) -> list[str]:
    return [name for name in config_file.shipped() if name.startswith(incomplete)]


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in (*FOLDERS.values(), "configs") if kind.startswith(incomplete)]


def _everything(incomplete: str) -> list[str]:
    names = [name for name, _ in _names(*FOLDERS)(incomplete)]
    return names + _configs(incomplete)


WHAT, TRAINING, HOW, OUTPUT = "What to compare", "Training", "How to run it", "Output"

Schemes = Annotated[
    list[str] | None,
    typer.Argument(metavar="SCHEME", help="Schemes, such as kaiming:mode=fan_out; all: every scheme.", autocompletion=_names("scheme")),
]
Method = Annotated[
    list[str] | None,
    typer.Option(
        "-m", "--method", metavar="SCHEME", help="A scheme; may be repeated.", autocompletion=_names("scheme"), rich_help_panel=WHAT
    ),
]
Family = Annotated[
    list[str] | None,
    typer.Option(
        "--family",
        metavar="FAMILY",
        help="All schemes of a family, such as residual; may be repeated.",
        autocompletion=_families,
        rich_help_panel=WHAT,
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "-c", "--config", metavar="FILE", help="A config file, or the name of a shipped one.", autocompletion=_configs, rich_help_panel=WHAT
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Overrides a value, such as train.lr=0.1; may be repeated.", rich_help_panel=WHAT),
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Such as mlp:depth=30,width=128.", autocompletion=_names("model"), rich_help_panel=WHAT),
]
Dataset = Annotated[
    str | None, typer.Option("--dataset", metavar="DATASET", help="Such as mnist.", autocompletion=_names("dataset"), rich_help_panel=WHAT)
]
Seeds = Annotated[
    str | None, typer.Option("--seeds", metavar="N|LIST", help="8 means the seeds 0 to 7; 0,3,5 means these.", rich_help_panel=WHAT)
]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="SCHEME",
        help="The scheme that the others are compared with.",
        autocompletion=_names("scheme"),
        rich_help_panel=WHAT,
    ),
]
MetricName = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="METRIC",
        help="What the verdicts are about.",
        autocompletion=_names("metric"),
        show_default="test accuracy",
        rich_help_panel=WHAT,
    ),
]
Target = Annotated[
    float | None,
    typer.Option("--target", metavar="ACCURACY", help="Also the steps to a test accuracy, such as 0.95.", rich_help_panel=WHAT),
]
Margin = Annotated[
    float | None,
    typer.Option("--margin", metavar="SIZE", help="A difference that does not matter, such as 0.5 points.", rich_help_panel=WHAT),
]
Tune = Annotated[
    str | None,
    typer.Option(
        "--tune", metavar="KEY[=A,B]", help="Also each scheme at its own best value of a key, such as train.lr.", rich_help_panel=TRAINING
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", metavar="", help="A parameter that nothing initializes is an error.", rich_help_panel=WHAT)
]
Epochs = Annotated[int | None, typer.Option("--epochs", metavar="N", help="Passes over the training data.", rich_help_panel=TRAINING)]
Steps = Annotated[int | None, typer.Option("--steps", metavar="N", help="Optimizer steps, instead of epochs.", rich_help_panel=TRAINING)]
Device = Annotated[
    str, typer.Option("--device", metavar="|".join(DEVICES), help="Where to train.", autocompletion=_devices, rich_help_panel=HOW)
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine", metavar="ENGINE", help="auto, or see: initbench list engines.", autocompletion=_names("engine"), rich_help_panel=HOW
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "-j",
        "--jobs",
        min=1,
        metavar="N",
        help="Runs at once, a core each. Default: all cores; fewer runs share them.",
        rich_help_panel=HOW,
    ),
]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", envvar="INITBENCH_DATA", help="The folder of data files.", rich_help_panel=HOW)
]
Profile = Annotated[bool, typer.Option("--profile", metavar="", help="Say at the end where the time went.", rich_help_panel=HOW)]
DryRun = Annotated[bool, typer.Option("--dry-run", metavar="", help="Only say what would be done.", rich_help_panel=HOW)]
Out = Annotated[
    str | None,
    typer.Option("-o", "--out", metavar="DIR", help="The results folder. Default: results/NAME, by what is asked.", rich_help_panel=OUTPUT),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", metavar="", help="Run everything again, in place of what is there.", rich_help_panel=OUTPUT)
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON document.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", metavar="", help="Say only what went wrong.", rich_help_panel=OUTPUT)]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", metavar="", help="Say more, such as a line for each run.", rich_help_panel=OUTPUT)
]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A results folder.")]
Folders = Annotated[list[Path] | None, typer.Argument(metavar="FOLDER", help="Results folders; several are merged into --out.")]
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="reference", help="Compare with published figures: `reference`, or the name or file of one."),
]
MergeOut = Annotated[str | None, typer.Option("-o", "--out", metavar="DIR", help="Where merged results go.", rich_help_panel=OUTPUT)]
Asked = Annotated[
    str | None,
    typer.Argument(metavar="CONFIG|MODEL", help="A config, or a model such as ./mine.py:Net or mlp:depth=10.", autocompletion=_everything),
]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A scheme, model, dataset, engine, metric or config.", autocompletion=_everything)
]
ListedKind = Annotated[
    str | None, typer.Argument(metavar="KIND", help="schemes, models, datasets, engines, metrics or configs.", autocompletion=_kinds)
]
Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Datasets, such as mnist.", autocompletion=_names("dataset"))]
AnyNames = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Datasets. Default: all.", autocompletion=_names("dataset"))]
Source = Annotated[str, typer.Argument(metavar="FILE", help="A config file, or the name of a shipped one.", autocompletion=_configs)]
Sources = Annotated[list[str], typer.Argument(metavar="FILE", help="Config files, or names of shipped ones.", autocompletion=_configs)]
