"""The command `smoke`: what the smoke benchmark runs, and what it demands."""

from initbench.cli import output
from initbench.cli.options import DisplayOptions, Fresh, Out, WorkerOptions, flat
from initbench.cli.running import document, run_plan
from initbench.errors import GateFailed, StorageError
from initbench.question.config import Execution, View
from initbench.question.request import configure
from initbench.results import store
from initbench.results.record import RunStatus
from initbench.studies.answer import Results
from initbench.studies.plan import Plan, make_plan

EXAMPLE = "Example: initbench smoke --json"

GATE_SCHEME = "kaiming"
"""The scheme that `smoke` watches: the only one of its config that keeps the signal through twenty ReLU layers."""
GATE_ACCURACY = 0.70
"""The mean test accuracy that it must reach; it reached 0.82 to 0.83 in each of three seeds when this was set."""
GATE_MARGIN = 0.30
"""How far it must be above every other scheme: xavier was at 0.14 to 0.23, normal diverges."""


@flat
def smoke(*, workers: WorkerOptions, out: Out = None, fresh: Fresh = False, display: DisplayOptions) -> None:
    """Check in seconds that initialization does what it must: a gate for CI, exit code 4 when it does not."""
    plan = smoke_plan(workers.execution.model_copy(update={"output": out, "fresh": fresh}))
    results = run_plan(plan, display)
    missed = missed_gates(results)
    if display.as_json:
        output.document({**document(results), "missed": missed})
    elif not display.quiet:
        output.outcome(results.summary, quiet=False)
    if missed:
        raise GateFailed("\n".join(missed))
    if not display.quiet:
        output.say("The smoke benchmark passed.")


def smoke_plan(execution: Execution = Execution()) -> Plan:
    """The runs of the smoke benchmark: the shipped config `smoke`, always anew, since it is the code that is tested.

    What is replaced is what `smoke` made; anything else in the folder only where the execution is `fresh`. Raises: StorageError.
    """
    question, view = configure("smoke", "smoke"), View(reference=GATE_SCHEME)
    if not execution.fresh:
        folder = make_plan("smoke", question, execution, view).folder
        manifest = store.known_manifest(folder)
        if manifest is not None and manifest.command != "smoke":
            raise StorageError(
                f"{folder} holds the results of `{manifest.command}`. Choose another folder with --out, or replace them with --fresh."
            )
    return make_plan("smoke", question, execution.model_copy(update={"fresh": True}), view)


def missed_gates(results: Results) -> list[str]:
    """What the smoke benchmark demands and did not find, a sentence each."""
    missed = [
        f"{result.job.scheme}, seed {result.job.seed}, failed: {result.reason}"
        for result in results.results
        if result.status is RunStatus.FAILED
    ]
    accuracy = {str(scheme): _mean_accuracy(results, str(scheme)) for scheme in results.config.schemes}
    reached = accuracy.pop(GATE_SCHEME)
    if reached < GATE_ACCURACY:
        missed.append(f"{GATE_SCHEME} reaches a mean test accuracy of {reached:.1%}; it must reach {GATE_ACCURACY:.0%}.")
    missed += [
        f"{GATE_SCHEME} ({reached:.1%}) must be {100 * GATE_MARGIN:g} points of accuracy above {scheme} ({other:.1%})."
        for scheme, other in accuracy.items()
        if reached - other < GATE_MARGIN
    ]
    return missed


def _mean_accuracy(results: Results, scheme: str) -> float:
    """The mean last test accuracy of a scheme; a run without one counts as 0."""
    runs = [result for result in results.results if str(result.job.scheme) == scheme]
    last = [result.evaluations[-1].test_accuracy or 0.0 if result.evaluations else 0.0 for result in runs]
    return sum(last) / len(last)
