"""The commands `recommend` and `report`."""

from initbench import api
from initbench.cli import output as console
from initbench.cli.options import (
    Against,
    Asked,
    Config,
    DataDir,
    Dataset,
    Device,
    DryRun,
    Engine,
    Epochs,
    Folders,
    Fresh,
    Jobs,
    Json,
    Margin,
    MergeOut,
    Method,
    MetricName,
    Model,
    Out,
    Quiet,
    Reference,
    Seeds,
    Settings,
    Steps,
    Target,
    Tune,
    Verbose,
)
from initbench.cli.output import count_text
from initbench.cli.running import carry_out, show
from initbench.errors import ConfigError, GateFailed
from initbench.question.config import Execution
from initbench.studies.published import Agreement
from initbench.studies.recommend import race_question


def recommend(
    *,
    asked: Asked = None,
    method: Method = None,
    config: Config = None,
    settings: Settings = None,
    model: Model = None,
    dataset: Dataset = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    steps: Steps = None,
    tune: Tune = None,
    device: Device = "auto",
    engine: Engine = "auto",
    jobs: Jobs = None,
    data_dir: DataDir = None,
    dry_run: DryRun = False,
    out: Out = None,
    fresh: Fresh = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find the scheme for a config or a model: a probe of all schemes, then a race over schemes and learning rates."""
    if asked is not None and (config is not None or model is not None):
        raise ConfigError(f"'{asked}' is a config or a model: give either it or --config and --model.")
    question = race_question(
        asked,
        method,
        config=config,
        settings=settings or (),
        model=model,
        dataset=dataset,
        seeds=seeds,
        epochs=epochs,
        steps=steps,
        tune=tune,
        data_dir=data_dir,
        dashes="--",
    )
    means = Execution(engine=engine, device=device, jobs=jobs, output=out, data_dir=data_dir, fresh=fresh)
    carry_out(api.make_plan("recommend", question, means), dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)


def report(
    *,
    folders: Folders = None,
    reference: Reference = None,
    metric: MetricName = None,
    target: Target = None,
    margin: Margin = None,
    against: Against = None,
    out: MergeOut = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make the tables, plots and the report of a results folder anew; merge folders; compare with published figures."""
    named = folders or [api.RESULTS / "latest"]
    if len(named) > 1 and out is None:
        raise ConfigError(f"{len(named)} folders are merged into a new one: name it with --out.")
    if len(named) == 1 and out is not None:
        raise ConfigError("--out is for merging: name two results folders or more.")
    if against is not None:
        found = [line for folder in named for line in api.against_reference(folder, against)]
        if as_json:
            console.document([line.model_dump(mode="json") for line in found])
        else:
            console.published(found)
        differing = [line for line in found if line.agreement is Agreement.DIFFERS]
        if differing:
            first = differing[0].figure
            raise GateFailed(
                f"{len(differing)} of {count_text(len(found), 'figure')} of {against} do not agree, first: {first.what} of {first.scheme}."
            )
        return
    if len(named) > 1:
        folder = api.merge(named, str(out))
    else:
        (folder,) = named
    show(api.report(folder, reference, metric=metric, target=target, margin=margin), as_json=as_json, quiet=quiet)
