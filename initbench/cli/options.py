"""The words of the command line: every option is the same word, with the same help and completion, in every command.

Options that several commands share are groups, the dataclasses below: a command takes a group as one parameter, and `flat`
gives typer the options in it.
"""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer

from initbench.cli.guide import LISTED
from initbench.errors import enumerated
from initbench.question import catalog, config_file, families
from initbench.question.catalog import KINDS, Kind
from initbench.question.config import Execution, ExperimentConfig
from initbench.question.request import configure, options
from initbench.statistics.metrics import metrics

BRIEF = 60
"""Characters of a description that a shell shows beside a completion."""
DEVICES = ("auto", "cpu", "cuda", "mps")
"""What --device takes; `cuda:1` as well."""


def _names(*kinds: Kind) -> Callable[[str], list[tuple[str, str]]]:
    """Completes the names and aliases of the catalogue, without importing what they name."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        names = [
            (name, _brief(entry.summary)) for kind in kinds for entry in catalog.entries(kind) for name in (entry.name, *entry.aliases)
        ]
        return [pair for pair in names if pair[0].startswith(incomplete)]

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
    return [kind for kind in LISTED if kind.startswith(incomplete)]


def _metrics(incomplete: str) -> list[str]:
    return [metric.name for metric in metrics(target=1.0) if metric.name.startswith(incomplete)]


def _everything(incomplete: str) -> list[str]:
    names = [name for name, _ in _names(*KINDS)(incomplete)]
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
        autocompletion=_metrics,
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
Name = Annotated[str, typer.Argument(metavar="NAME", help=f"A {enumerated([*KINDS, 'config'], 'or')}.", autocompletion=_everything)]
ListedKind = Annotated[str | None, typer.Argument(metavar="KIND", help=f"{enumerated(LISTED, 'or')}.", autocompletion=_kinds)]
Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Datasets, such as mnist.", autocompletion=_names("dataset"))]
AnyNames = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Datasets. Default: all.", autocompletion=_names("dataset"))]
Source = Annotated[str, typer.Argument(metavar="FILE", help="A config file, or the name of a shipped one.", autocompletion=_configs)]
Sources = Annotated[list[str], typer.Argument(metavar="FILE", help="Config files, or names of shipped ones.", autocompletion=_configs)]


@dataclass(frozen=True)
class ExperimentOptions:
    """What is asked about: a config and what replaces values in it."""

    config: Config = None
    settings: Settings = None
    model: Model = None
    dataset: Dataset = None

    def question(self, command: str, schemes: list[str] | None, data_dir: str | None, **more: Any) -> ExperimentConfig:
        """The question of a command; `more` as `options` takes it. Raises: ConfigError with every problem at once."""
        words = asdict(self) | more
        config, settings = words.pop("config"), words.pop("settings")
        asked = options(schemes or None, **words, dashes="--")
        return configure(command, config, settings=settings or (), asked=asked, data_dir=data_dir)


@dataclass(frozen=True)
class TrainingOptions(ExperimentOptions):
    """What is asked about, and how long which seeds are trained."""

    seeds: Seeds = None
    epochs: Epochs = None
    steps: Steps = None


@dataclass(frozen=True)
class ViewOptions:
    """What the verdicts are about."""

    reference: Reference = None
    metric: MetricName = None
    target: Target = None
    margin: Margin = None


@dataclass(frozen=True)
class WorkerOptions:
    """Who trains, and how many runs at once."""

    device: Device = "auto"
    engine: Engine = "auto"
    jobs: Jobs = None

    @property
    def execution(self) -> Execution:
        """These options as the means of a plan; what the command has no option for is the default."""
        return Execution(**{name: getattr(self, name) for name in Execution.model_fields if hasattr(self, name)})


@dataclass(frozen=True)
class RunOptions(WorkerOptions):
    """How runs of a results folder are carried out."""

    data_dir: DataDir = None
    dry_run: DryRun = False


@dataclass(frozen=True)
class ExecutionOptions(RunOptions):
    """How runs are carried out, and where the results go."""

    output: Out = None
    fresh: Fresh = False


@dataclass(frozen=True)
class DisplayOptions:
    """What is printed."""

    as_json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose groups of options are parameters of their own, as typer reads them."""
    own = inspect.signature(command).parameters.values()
    groups: dict[str, Any] = {parameter.name: parameter.annotation for parameter in own if is_dataclass(parameter.annotation)}
    parameters: list[inspect.Parameter] = []
    for parameter in own:
        within = fields(groups[parameter.name]) if parameter.name in groups else ()
        parameters += [parameter.replace(name=option.name, default=option.default, annotation=option.type) for option in within] or [
            parameter
        ]

    @wraps(command)
    def flattened(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{option.name: given.pop(option.name) for option in fields(group)})
        command(**given)

    flattened.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return flattened
