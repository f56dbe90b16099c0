"""The words of the command line: every option is the same word, with the same help and completion, in every command.

Options that several commands share are groups, the dataclasses below: a command takes a group as one parameter, and `flat`
gives typer the options in it.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer

from initbench.cli.guide import LISTED
from initbench.errors import ConfigError, enumerated
from initbench.question import catalog, config_file, families
from initbench.question.catalog import KINDS, Kind
from initbench.question.config import Execution, ExperimentConfig
from initbench.question.request import configure

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


def _everything(incomplete: str) -> list[str]:
    names = [name for name, _ in _names(*KINDS)(incomplete)]
    return names + _configs(incomplete)


WHAT, TRAINING, HOW, OUTPUT = "What to compare", "Training", "How to run it", "Output"
"""The titles of the options in the help."""


def option(panel: str | None, words: str, metavar: str, purpose: str, complete: Callable[[str], Any] | None = None, **more: Any) -> Any:
    """An option for `Annotated`: under which title, its words, what stands for its value, and how a shell completes that."""
    return typer.Option(*words.split(), metavar=metavar, help=purpose, autocompletion=complete, rich_help_panel=panel, **more)


def argument(metavar: str, purpose: str, complete: Callable[[str], Any] | None = None) -> Any:
    """An argument for `Annotated`, as `option` makes an option."""
    return typer.Argument(metavar=metavar, help=purpose, autocompletion=complete)


Schemes = Annotated[list[str] | None, argument("SCHEME", "Schemes, such as kaiming:mode=fan_out; all: every scheme.", _names("scheme"))]
Method = Annotated[list[str] | None, option(WHAT, "-m --method", "SCHEME", "A scheme; may be repeated.", _names("scheme"))]
Family = Annotated[
    list[str] | None, option(WHAT, "--family", "FAMILY", "All schemes of a family, such as residual; may be repeated.", _families)
]
Config = Annotated[str | None, option(WHAT, "-c --config", "FILE", "A config file, or the name of a shipped one.", _configs)]
Settings = Annotated[list[str] | None, option(WHAT, "--set", "A.B=C", "Overrides a value, such as train.lr=0.1; may be repeated.")]
Model = Annotated[str | None, option(WHAT, "--model", "MODEL", "Such as mlp:depth=30,width=128.", _names("model"))]
Dataset = Annotated[str | None, option(WHAT, "--dataset", "DATASET", "Such as mnist.", _names("dataset"))]
Task = Annotated[str | None, option(WHAT, "--task", "TASK", "What is trained for, such as language.", _names("task"))]
Seeds = Annotated[str | None, option(WHAT, "--seeds", "N|LIST", "8 means the seeds 0 to 7; 0,3,5 means these.")]
Until = Annotated[str | None, option(WHAT, "--until", "decided", "Add seeds until every comparison is decided, instead of --seeds.")]
MaxSeeds = Annotated[int | None, option(WHAT, "--max-seeds", "N", "With --until: seeds at most.", show_default="64")]
Reference = Annotated[str | None, option(WHAT, "--reference", "SCHEME", "The scheme that the others are compared with.", _names("scheme"))]
MetricName = Annotated[
    str | None, option(WHAT, "--metric", "METRIC", "What the verdicts are about.", _names("metric"), show_default="test accuracy")
]
Target = Annotated[float | None, option(WHAT, "--target", "ACCURACY", "Also the steps to a test accuracy, such as 0.95.")]
Margin = Annotated[
    str | None, option(WHAT, "--margin", "SIZE|none", "Differences of the metric below this count as none, such as 0.5 points.")
]
Strict = Annotated[bool, option(WHAT, "--strict", "", "A parameter that nothing initializes is an error.")]
Tune = Annotated[str | None, option(TRAINING, "--tune", "KEY[=A,B]", "Also each scheme at its own best value of a key, such as train.lr.")]
Grid = Annotated[
    list[str] | None, option(WHAT, "--grid", "KEY=VALUES", "An axis: 4,16,64 or 4..8 or 1e-3..1:log:7, of any key; may be repeated.")
]
Where = Annotated[list[str] | None, option(WHAT, "--where", "CONDITION", "Cells to keep, such as 'model.depth * model.width <= 4096'.")]
Epochs = Annotated[int | None, option(TRAINING, "--epochs", "N", "Passes over the training data.")]
Steps = Annotated[int | None, option(TRAINING, "--steps", "N", "Optimizer steps, instead of epochs.")]
Device = Annotated[str, option(HOW, "--device", "|".join(DEVICES), "Where to train.", _devices)]
Engine = Annotated[str, option(HOW, "--engine", "ENGINE", "auto, or see: initbench list engines.", _names("engine"))]
Jobs = Annotated[int | None, option(HOW, "-j --jobs", "N", "Runs at once, a core each. Default: all cores; fewer runs share them.", min=1)]
RayAddress = Annotated[str | None, option(HOW, "--ray-address", "auto|HOST:PORT", "A cluster of Ray to run on.")]
RunTimeout = Annotated[
    float | None, option(HOW, "--run-timeout", "SECONDS", "A run that takes longer is ended and has failed.", show_default="off")
]
DataDir = Annotated[str | None, option(HOW, "--data-dir", "DIR", "The folder of data files.", envvar="INITBENCH_DATA")]
Profile = Annotated[bool, option(HOW, "--profile", "", "Say at the end where the time went.")]
DryRun = Annotated[bool, option(HOW, "--dry-run", "", "Only say what would be done.")]
Out = Annotated[str | None, option(OUTPUT, "-o --out", "DIR", "The results folder. Default: results/NAME, by what is asked.")]
MergeOut = Annotated[str | None, option(OUTPUT, "-o --out", "DIR", "Where merged results go.")]
Fresh = Annotated[bool, option(OUTPUT, "--fresh", "", "Run everything again, in place of what is there.")]
Json = Annotated[bool, option(OUTPUT, "--json", "", "Print one JSON document.")]
Quiet = Annotated[bool, option(OUTPUT, "-q --quiet", "", "Say nothing but what went wrong.")]
Verbose = Annotated[bool, option(OUTPUT, "-v --verbose", "", "Say more, such as a line for each run.")]
Against = Annotated[
    str | None, option(None, "--against", "reference", "Compare with published figures: `reference`, or the name or file of one.")
]
Folder = Annotated[Path, argument("FOLDER", "A results folder.")]
Folders = Annotated[list[Path] | None, argument("FOLDER", "Results folders; several are merged into --out.")]
ConfigOrModel = Annotated[str | None, argument("CONFIG|MODEL", "A config, or a model such as ./mine.py:Net or mlp:depth=10.", _everything)]
Name = Annotated[str, argument("NAME", f"A {enumerated([*KINDS, 'config'], 'or')}.", _everything)]
ExportName = Annotated[str, argument("FORMAT", "tensorboard, parquet, wandb, mlflow, or your own ./mine.py.", _names("export"))]
ListedKind = Annotated[str | None, argument("KIND", f"{enumerated(LISTED, 'or')}.", _kinds)]
Names = Annotated[list[str], argument("NAME", "Datasets, such as mnist.", _names("dataset"))]
AnyNames = Annotated[list[str] | None, argument("NAME", "Datasets. Default: all.", _names("dataset"))]
Source = Annotated[str, argument("FILE", "A config file, or the name of a shipped one.", _configs)]
Sources = Annotated[list[str], argument("FILE", "Config files, or names of shipped ones.", _configs)]


@dataclass(frozen=True)
class SchemeOptions:
    """Which schemes; each may be an argument or an option."""

    schemes: Schemes = None
    method: Method = None

    @property
    def named(self) -> list[str]:
        """All that are named."""
        return [*(self.schemes or ()), *(self.method or ())]


@dataclass(frozen=True)
class ExperimentOptions:
    """What is asked about: a config and what replaces values in it."""

    config: Config = None
    settings: Settings = None
    model: Model = None
    dataset: Dataset = None

    def question(self, command: str, schemes: list[str] | None, data_dir: str | None, **more: Any) -> ExperimentConfig:
        """The question of a command; `more` as `configure` takes it. Raises: ConfigError with every problem at once."""
        words = asdict(self) | more
        config, settings = words.pop("config"), words.pop("settings")
        return configure(command, config, settings=settings or (), data_dir=data_dir, dashes="--", schemes=schemes or None, **words)


@dataclass(frozen=True)
class TrainingOptions(ExperimentOptions):
    """What is asked about, and how long which seeds are trained."""

    task: Task = None
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
    run_timeout: RunTimeout = None
    ray_address: RayAddress = None

    @property
    def execution(self) -> Execution:
        """These options as the means of a plan; what the command has no option for is the default."""
        if self.run_timeout is not None and not 0 < self.run_timeout < math.inf:
            raise ConfigError(f"--run-timeout is {self.run_timeout:g}; it must be a number of seconds above 0, or left out.")
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
