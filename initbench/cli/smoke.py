"""The command `smoke`: what the smoke benchmark runs, and what it demands; or a gate for a model of one's own, against a baseline."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from initbench.cli import output
from initbench.cli.options import OUTPUT, WHAT, DisplayOptions, Fresh, Method, Out, TrainingOptions, WorkerOptions, flat, option
from initbench.cli.running import document, run_plan
from initbench.errors import ConfigError, GateFailed, StorageError
from initbench.question.config import Execution, ExperimentConfig, View
from initbench.question.request import configure
from initbench.results import files, store
from initbench.results.record import RunStatus
from initbench.statistics import gate
from initbench.studies.answer import Results
from initbench.studies.plan import Plan, make_plan

EXAMPLE = "Example: initbench smoke --json\n\nOr: initbench smoke --model ./mine.py:Net --method kaiming --baseline smoke.json"

GATE_SCHEME = "kaiming"
"""The scheme that `smoke` watches: the only one of its config that keeps the signal through twenty ReLU layers."""
GATE_ACCURACY = 0.70
"""The mean test accuracy that it must reach; it reached 0.82 to 0.83 in each of three seeds when this was set."""
GATE_MARGIN = 0.30
"""How far it must be above every other scheme: xavier was at 0.14 to 0.23, normal diverges."""

SAID = {
    gate.Verdict.PASS: "The gate passed.",
    gate.Verdict.INCONCLUSIVE: "The gate is inconclusive: it is shown neither that something is worse nor that nothing is.",
}
BaselineFile = Annotated[
    Path | None, option(WHAT, "--baseline", "FILE", "Compare with what was there when this file was written, instead of fixed figures.")
]
Bless = Annotated[bool, option(WHAT, "--bless", "", "Write --baseline FILE anew, with what is there now.")]
Allow = Annotated[float, option(WHAT, "--allow", "POINTS", "Points of accuracy that may be lost against the baseline.")]
JUnit = Annotated[Path | None, option(OUTPUT, "--junit", "FILE", "Also write the checks as JUnit XML.")]
MarkdownFile = Annotated[Path | None, option(OUTPUT, "--markdown", "FILE", "Also write the checks in Markdown.")]


@flat
def smoke(
    *,
    method: Method = None,
    training: TrainingOptions,
    baseline: BaselineFile = None,
    bless: Bless = False,
    allow: Allow = 100 * gate.ALLOWED_LOSS,
    workers: WorkerOptions,
    out: Out = None,
    fresh: Fresh = False,
    junit: JUnit = None,
    markdown: MarkdownFile = None,
    display: DisplayOptions,
) -> None:
    """Check in seconds that initialization does what it must: a gate for CI, exit code 4 when it does not.

    With --baseline, of your own model too (docs/gate.md).
    """
    execution = workers.execution.model_copy(update={"output": out, "fresh": fresh})
    if baseline is not None:
        _against_baseline(training, method, baseline, execution, display, bless=bless, allow=allow, junit=junit, markdown=markdown)
        return
    if bless or junit or markdown or method or any(value is not None for value in asdict(training).values()):
        raise ConfigError("Without a baseline `smoke` runs its own config and takes none of these options. Name a file: --baseline FILE.")
    plan = smoke_plan(execution)
    results = run_plan(plan, display)
    missed = missed_gates(results)
    if display.as_json:
        output.document({**document(results), "missed": missed})
    elif not display.quiet:
        output.outcome(results.summary)
    if missed:
        raise GateFailed("\n".join(missed))
    if not display.quiet:
        output.say("The smoke benchmark passed.")


def _against_baseline(
    training: TrainingOptions,
    method: list[str] | None,
    path: Path,
    execution: Execution,
    display: DisplayOptions,
    *,
    bless: bool,
    allow: float,
    junit: Path | None,
    markdown: Path | None,
) -> None:
    if not 0 <= allow <= 100:
        raise ConfigError(f"--allow is {allow:g}; it must be from 0 to 100 points of accuracy.")
    own = bool(training.config or training.model or training.dataset or method)
    asked = training if own else TrainingOptions(**{**asdict(training), "config": "smoke"})
    named = method or (["kaiming"] if own and training.config is None else None)
    question = asked.question("smoke", named, None, seeds=asked.seeds or gate.SEEDS)
    before = None if bless and not path.exists() else gate.read(path)
    if before is not None and not bless:
        gate.refuse_another_question(path, before, question)
    results = run_plan(smoke_plan(execution, question), display)
    now = gate.baseline_of(question, results.results)
    found = gate.checks(before, now, allow / 100) if before is not None and before.schemes.keys() == now.schemes.keys() else ()
    verdict = gate.verdict_of(found)
    title = f"{question.model} on {question.dataset}"
    if display.as_json:
        output.document({"verdict": verdict, "blessed": bless, "checks": [each.model_dump(mode="json") for each in found]})
    elif not display.quiet and found:
        from initbench.reporting.gate import table

        shown = table(found)
        output.table("", shown.columns, shown.rows)
    if bless:
        gate.write(path, now)
        output.say(f"Wrote {path}." if before is None else f"Wrote {path} anew; against the one before it: {verdict.value}.")
        return
    _publish(found, verdict, title, junit, markdown)
    if verdict is gate.Verdict.FAIL:
        raise GateFailed("\n".join(f"{each.scheme}, {each.rule}: {each.found}." for each in found if each.verdict is verdict))
    if not display.quiet:
        output.say(SAID[verdict])


def _publish(found: tuple[gate.Check, ...], verdict: gate.Verdict, title: str, junit: Path | None, markdown: Path | None) -> None:
    """Where CI looks for it: files, the summary of a job on GitHub, and its annotations."""
    from initbench.reporting import gate as reports

    content = reports.summary(found, verdict, title)
    if junit is not None:
        files.write_bytes(junit, reports.junit(found, title))
    if markdown is not None:
        files.write_text(markdown, content)
    if place := os.environ.get("GITHUB_STEP_SUMMARY"):
        with store.refused(f"write {place}"), Path(place).open("a", encoding="utf-8") as summary:
            summary.write(content)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in reports.annotations(found):
            output.annotation(line)


def smoke_plan(execution: Execution = Execution(), question: ExperimentConfig | None = None) -> Plan:
    """The runs of the smoke benchmark: the shipped config `smoke` or another question, always anew, since it is the code that is tested.

    What is replaced is what `smoke` made; anything else in the folder only where the execution is `fresh`. Raises: StorageError.
    """
    view = View(reference=GATE_SCHEME) if question is None else View()
    question = question or configure("smoke", "smoke")
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
