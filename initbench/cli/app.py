"""The commands: read the arguments, call `api`, show what it gives with `console`."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from initbench import __version__, api
from initbench.cli import guide
from initbench.cli import output as console
from initbench.cli import smoke as gate
from initbench.cli.check_scheme import check_scheme
from initbench.cli.files import config_app, data_app
from initbench.cli.options import (
    Config,
    DataDir,
    Dataset,
    Device,
    DryRun,
    Engine,
    Epochs,
    Family,
    Folder,
    Fresh,
    Jobs,
    Json,
    ListedKind,
    Margin,
    Method,
    MetricName,
    Model,
    Name,
    Out,
    Profile,
    Quiet,
    Reference,
    Schemes,
    Seeds,
    Settings,
    Steps,
    Strict,
    Target,
    Tune,
    Verbose,
)
from initbench.cli.probe import probe
from initbench.cli.running import carry_out, run_plan
from initbench.cli.studies import recommend, report
from initbench.errors import GateFailed, InitbenchError, NotThereError, unknown_name
from initbench.question import catalog
from initbench.question.config import Execution
from initbench.question.families import PREFIX

LATEST = api.RESULTS / "latest"


class Commands(TyperGroup):
    """The command group that turns a user error into a sentence and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except InitbenchError as error:
            console.error(str(error))
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    cls=Commands,
    help="Which weight initialization should this network use, and why?\n\nTrains a model with several schemes, with the same seeds "
    "and data, and says what differs and whether it is more than chance.",
    epilog="Try: initbench compare xavier kaiming normal",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel="Run", epilog="Example: initbench recommend --model mlp:depth=10")(recommend)
app.command(rich_help_panel="Run", epilog="Example: initbench probe kaiming xavier --model mlp:depth=30")(probe)
app.command(rich_help_panel="Look", epilog="Example: initbench report results/latest --reference kaiming")(report)
app.command("check-scheme", rich_help_panel="Look", epilog="Example: initbench check-scheme ./mine.py")(check_scheme)
app.add_typer(data_app, name="data", rich_help_panel="Look")
app.add_typer(config_app, name="config", rich_help_panel="Look")


LATEST = api.RESULTS / "latest"


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        console.text(__version__)
        raise typer.Exit


@app.callback()
def _common(
    *,
    _version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_print_version, help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    """Nothing is done before a command but printing the version."""


@app.command(rich_help_panel="Run", epilog="Example: initbench run --method kaiming --model mlp:depth=10 --epochs 2")
def run(
    *,
    schemes: Schemes = None,
    method: Method = None,
    config: Config = None,
    settings: Settings = None,
    model: Model = None,
    dataset: Dataset = None,
    seeds: Seeds = None,
    strict: Strict = False,
    epochs: Epochs = None,
    steps: Steps = None,
    device: Device = "auto",
    engine: Engine = "auto",
    jobs: Jobs = None,
    data_dir: DataDir = None,
    dry_run: DryRun = False,
    profile: Profile = False,
    out: Out = None,
    fresh: Fresh = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train with one scheme and look at what happens, layer by layer."""
    asked = _options(schemes, method, model=model, dataset=dataset, seeds=seeds, epochs=epochs, steps=steps, strict=strict or None)
    question = api.configure("run", config, settings=settings or (), asked=asked, data_dir=data_dir)
    means = Execution(engine=engine, device=device, jobs=jobs, output=out, data_dir=data_dir, fresh=fresh)
    carry_out(api.make_plan("run", question, means), dry_run=dry_run, profile=profile, as_json=as_json, quiet=quiet, verbose=verbose)


@app.command(
    rich_help_panel="Run",
    epilog="Example: initbench compare xavier kaiming normal --seeds 4\n\nOr: initbench compare --family residual -c cifar10_resnet",
)
def compare(
    *,
    schemes: Schemes = None,
    method: Method = None,
    family: Family = None,
    config: Config = None,
    settings: Settings = None,
    model: Model = None,
    dataset: Dataset = None,
    seeds: Seeds = None,
    reference: Reference = None,
    metric: MetricName = None,
    target: Target = None,
    margin: Margin = None,
    tune: Tune = None,
    strict: Strict = False,
    epochs: Epochs = None,
    steps: Steps = None,
    device: Device = "auto",
    engine: Engine = "auto",
    jobs: Jobs = None,
    data_dir: DataDir = None,
    dry_run: DryRun = False,
    profile: Profile = False,
    out: Out = None,
    fresh: Fresh = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train with several schemes and the same seeds, and say what differs."""
    words = {"model": model, "dataset": dataset, "seeds": seeds, "epochs": epochs, "steps": steps, "strict": strict or None}
    asked = _options(schemes, [*(method or ()), *(PREFIX + name for name in family or ())], tune=tune, **words)
    view = api.view_of(reference, metric=metric, target=target, margin=margin)
    question = api.configure("compare", config, settings=settings or (), asked=asked, data_dir=data_dir)
    means = Execution(engine=engine, device=device, jobs=jobs, output=out, data_dir=data_dir, fresh=fresh)
    carry_out(
        api.make_plan("compare", question, means, view), dry_run=dry_run, profile=profile, as_json=as_json, quiet=quiet, verbose=verbose
    )


@app.command(rich_help_panel="Run", epilog="Example: initbench resume results/latest")
def resume(
    *,
    folder: Folder = LATEST,
    device: Device = "auto",
    engine: Engine = "auto",
    jobs: Jobs = None,
    data_dir: DataDir = None,
    dry_run: DryRun = False,
    profile: Profile = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Go on where a run or a comparison was stopped; failed runs are tried again."""
    steps = api.plan_of(folder, Execution(engine=engine, device=device, jobs=jobs, data_dir=data_dir))
    carry_out(steps, dry_run=dry_run, profile=profile, as_json=as_json, quiet=quiet, verbose=verbose)


@app.command(rich_help_panel="Run", epilog="Example: initbench smoke --json")
def smoke(
    *,
    device: Device = "auto",
    engine: Engine = "auto",
    jobs: Jobs = None,
    out: Out = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check in seconds that initialization does what it must: a gate for CI, exit code 4 when it does not."""
    steps = gate.smoke_plan(Execution(engine=engine, device=device, jobs=jobs, output=out))
    results = run_plan(steps, quiet=quiet, verbose=verbose)
    missed = gate.missed_gates(results)
    if as_json:
        console.document({**api.document(results), "missed": missed})
    elif not quiet:
        console.outcome(results.summary, quiet=False)
    if missed:
        raise GateFailed("\n".join(missed))
    if not quiet:
        console.say("The smoke benchmark passed.")


@app.command("list", rich_help_panel="Look", epilog="Example: initbench list schemes")
def list_(*, kind: ListedKind = None, as_json: Json = False) -> None:
    """List schemes, models, datasets, engines, metrics and configs, a line each."""
    if kind is not None and kind not in guide.LISTED:
        raise unknown_name("kind", kind, guide.LISTED, f"Allowed: {', '.join(guide.LISTED)}.")
    found = {name: guide.listed(name) for name in ([kind] if kind else guide.LISTED)}
    if as_json:
        console.document({name: [line._asdict() for line in lines] for name, lines in found.items()})
        return
    for name, lines in found.items():
        console.listing(name, lines)


@app.command(rich_help_panel="Look", epilog="Example: initbench show kaiming")
def show(name: Name) -> None:
    """Show a scheme, model, dataset, engine, metric or config: formula, parameters, source, how to use it."""
    for found in guide.shown(name):
        if isinstance(found, catalog.Entry):
            console.entry_page(found, guide.page(found), guide.command(found), guide.example(found))
        else:
            console.text(found.read_text(encoding="utf-8"))


@app.command(rich_help_panel="Look", epilog="Example: initbench doctor --json")
def doctor(*, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Check what is installed and what works here: exit code 5 when something that is needed does not."""
    checks = guide.doctor(data_dir)
    if as_json:
        console.document([asdict(check) for check in checks])
    else:
        console.checks(checks)
    broken = [check.what for check in checks if check.state == "broken"]
    if broken:
        raise NotThereError(f"Does not work: {', '.join(broken)}. The remedies are above.")


def _options(schemes: list[str] | None, method: list[str] | None, **more: Any) -> dict[str, tuple[str, Any]]:
    return api.options([*(schemes or ()), *(method or ())] or None, **more, dashes="--")
