"""Published figures that initbench can check: what a paper says, and what the runs of a folder say beside it."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, ValidationError

from initbench.errors import ConfigError, unknown_name
from initbench.question import config_file
from initbench.question.config import ExperimentConfig, Frozen
from initbench.results.record import Number
from initbench.statistics.findings import Summary
from initbench.studies.answer import Results
from initbench.studies.merge import MAY_DIFFER, differences

SHARE = "trained_share"
"""The one figure that is no metric: the share of seeds that trained."""
ANY = "reference"
"""The word for every shipped reference that asks what the folder asks."""


class PublishedFigure(Frozen):
    """One published figure: of which scheme and metric, in words, and the range in which a measured one agrees with it."""

    what: str
    scheme: str
    metric: str
    published: str = Field(description="as the source says it")
    low: float
    high: float


class Published(Frozen):
    """Figures of one source, and the shipped config whose runs they are compared with."""

    title: str
    source: str
    config: str
    note: str = ""
    figures: tuple[PublishedFigure, ...] = Field(min_length=1)


class Agreement(StrEnum):
    """What a measured figure says about a published one."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_MEASURED = "not measured"


class Replication(Frozen):
    """A published figure beside the measured one; `here` with its 95 % interval where there is one."""

    title: str
    source: str
    figure: PublishedFigure
    here: Number = None
    here_low: Number = None
    here_high: Number = None
    n: int = 0
    agreement: Agreement


def shipped() -> dict[str, Path]:
    """The references that come with initbench, by name."""
    package = Path(__file__).parent.parent
    folders = (package / "reference", package.parent / "results" / "reference")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def read(path: Path) -> Published:
    """A file of published figures. Raises: ConfigError when it is none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return Published.model_validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, YAMLError, ValidationError) as error:
        raise ConfigError(f"{path} holds no published figures: {str(error).splitlines()[0]}.") from error


def against(results: Results, name: str) -> tuple[Replication, ...]:
    """The published figures beside those of a folder; `name` is `reference`, a shipped name or a file.

    Raises: ConfigError when the folder asks another question, with each key that differs.
    """
    if name == ANY:
        every = [read(path) for path in shipped().values()]
        chosen = [published for published in every if not _unlike(results.config, published)]
        if not chosen:
            commands = "; ".join(dict.fromkeys(f"initbench compare -c {published.config}" for published in every))
            raise ConfigError(f"No published figures are about the question of {results.folder}. There are some for: {commands}.")
        return tuple(line for published in chosen for line in compare(results.summary, published))
    if not Path(name).is_file() and name not in shipped():
        raise unknown_name("reference", name, shipped(), f"Shipped: {', '.join(shipped())}.")
    published = read(Path(name) if Path(name).is_file() else shipped()[name])
    unlike = _unlike(results.config, published)
    if unlike:
        raise ConfigError(f"{results.folder} does not ask what '{name}' is about: {unlike}. Use: initbench compare -c {published.config}")
    return compare(results.summary, published)


def compare(summary: Summary, published: Published) -> tuple[Replication, ...]:
    """Each published figure beside the measured one: they agree when the measured interval meets the published range."""
    return tuple(_replication(summary, published, figure) for figure in published.figures)


def _replication(summary: Summary, published: Published, figure: PublishedFigure) -> Replication:
    here, low, high, n = _measured(summary, figure)
    if n == 0 or here is None:
        agreement = Agreement.NOT_MEASURED
    else:
        meets = (here if low is None else low) <= figure.high and (here if high is None else high) >= figure.low
        agreement = Agreement.AGREES if meets else Agreement.DIFFERS
    return Replication(
        title=published.title, source=published.source, figure=figure, here=here, here_low=low, here_high=high, n=n, agreement=agreement
    )


def _measured(summary: Summary, figure: PublishedFigure) -> tuple[float | None, float | None, float | None, int]:
    of_scheme = next((scheme for scheme in summary.schemes if scheme.scheme == figure.scheme), None)
    if of_scheme is None:
        return None, None, None, 0
    if figure.metric == SHARE:
        share = of_scheme.trained_share
        return share.value, share.low, share.high, share.n
    estimate = next((each for each in of_scheme.estimates if each.metric == figure.metric), None)
    return (None, None, None, 0) if estimate is None else (estimate.value, estimate.low, estimate.high, estimate.n)


def _unlike(config: ExperimentConfig, published: Published) -> str:
    wanted = config_file.load_config(published.config)
    return "; ".join(
        f"{key} is {one if one is not None else 'not given'}, there {two if two is not None else 'not given'}"
        for key, one, two in differences(config, wanted, MAY_DIFFER)
    )
