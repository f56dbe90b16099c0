"""The command `lint`: what is wrong with how a model is initialized; nothing is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from initbench.cli import output
from initbench.cli.options import OUTPUT, WHAT, Json, argument, option
from initbench.errors import ConfigError, unknown_name
from initbench.linting import formats, run, settings
from initbench.linting.finding import Severity
from initbench.question.user_files import own_path
from initbench.results.store import write_text

EXAMPLE = (
    "Example: initbench lint ./net.py:Net --input 3x224x224\n\nOr: initbench lint package.module:factory --input int:50257:64\n\n"
    "Or: initbench lint --explain IB302"
)
FOUND = 4
"""The exit code where something was found that is at least as bad as --fail-on."""

Given = Annotated[
    str | None,
    option(WHAT, "--input", "SHAPE|FILE", "3x224x224 (random numbers), int:50257:64 (64 numbers below 50257), or a .npy, .npz, .pt file."),
]
Batch = Annotated[int | None, option(WHAT, "--batch", "N", "Inputs of the batch.", min=2)]
Classes = Annotated[int | None, option(WHAT, "--classes", "N", "Outputs of a model whose builder asks for them.", min=1)]
Checkpoint = Annotated[str | None, option(WHAT, "--checkpoint", "FILE", "What the model should hold: rule IB109 compares.")]
Select = Annotated[list[str] | None, option(WHAT, "--select", "CODE", "Only these rules: IB302, IB3, a name; may be repeated.")]
Ignore = Annotated[list[str] | None, option(WHAT, "--ignore", "CODE", "Not these rules; may be repeated.")]
Explain = Annotated[str | None, option(WHAT, "--explain", "CODE", "Say all about a rule, and look at nothing.")]
FailOn = Annotated[
    str | None, option(OUTPUT, "--fail-on", "SEVERITY", "Exit code 4 from it on: error, warning, info.", show_default="error")
]
Format = Annotated[
    str | None, option(OUTPUT, "--format", "FORMAT", "text, json, github, sarif or junit; --json is json.", show_default="text")
]
Out = Annotated[Path | None, option(OUTPUT, "-o --out", "FILE", "Write it there instead of printing it.")]
Fix = Annotated[str | None, option(OUTPUT, "--fix", "KIND", "Write initialize(model) that clears the findings: torch or initbench.")]
Fresh = Annotated[bool, option(OUTPUT, "--fresh", "", "With --fix: replace a file that is there.")]
Baseline = Annotated[Path | None, option(OUTPUT, "--baseline", "FILE", "Tell only what this file does not know.")]
WriteBaseline = Annotated[Path | None, option(OUTPUT, "--write-baseline", "FILE", "Write down what is found now as known.")]


def lint(
    model: Annotated[str | None, argument("MODEL", "A class or function in a file, ./net.py:Net, or the name of a model.")] = None,
    *,
    given: Given = None,
    batch: Batch = None,
    classes: Classes = None,
    checkpoint: Checkpoint = None,
    select: Select = None,
    ignore: Ignore = None,
    explain: Explain = None,
    fail_on: FailOn = None,
    form: Format = None,
    as_json: Json = False,
    out: Out = None,
    fix: Fix = None,
    fresh: Fresh = False,
    baseline: Baseline = None,
    write_baseline: WriteBaseline = None,
) -> None:
    """Look at a model as it starts, and say which parameters are initialized wrongly, with what effect, and how to mend it."""
    if explain is not None:
        output.text(run.explained(explain))
        return
    if model is None:
        raise ConfigError("There is no model to look at. Write initbench lint ./net.py:Net --input 3x224x224")
    if as_json and form not in {None, "json"}:
        raise ConfigError(f"There are two formats: --json and --format {form}. Leave one of them out.")
    form = form or ("json" if as_json else "text")
    for what, word, allowed in (("format", form, formats.FORMATS), ("severity", fail_on or "error", list(Severity))):
        if word not in allowed:
            raise unknown_name(what, word, allowed, f"Allowed: {', '.join(allowed)}.")
    if fix is not None:
        _refuse(fix, out, fresh=fresh)
    asked = settings.project_settings()
    report = run.lint(
        model,
        inputs=given,
        checkpoint=checkpoint,
        batch=batch,
        classes=classes,
        select=_split(select) or asked.select,
        ignore=(*_split(ignore), *asked.ignore),
    )
    report = settings.without_exceptions(report, asked.exceptions)
    if write_baseline is not None:
        settings.write_baseline(report, write_baseline)
        output.hint(f"{len(report.findings)} findings are known in {write_baseline} from now on.")
        return
    known = baseline or (own_path(asked.baseline) if asked.baseline else None)
    report = _known(report, known)
    if fix is not None:
        report = _fixed(report, fix, out, lambda found: _known(settings.without_exceptions(found, asked.exceptions), known))
        if report.of(fail_on or asked.fail_on):
            raise typer.Exit(FOUND)
        return
    text = formats.FORMATS[form](report)
    if out is not None:
        write_text(out, text)
        output.hint(f"{formats.conclusion(report)}. Written to {out}.")
    else:
        output.text(text.rstrip("\n"))
    if report.of(fail_on or asked.fail_on):
        raise typer.Exit(FOUND)


def _known(report: run.LintReport, baseline: Path | None) -> run.LintReport:
    return report if baseline is None else settings.beyond_baseline(report, baseline)


def _refuse(kind: str, out: Path | None, *, fresh: bool) -> None:
    if kind not in run.FIXES:
        raise unknown_name("kind of fix", kind, run.FIXES, f"Allowed: {', '.join(run.FIXES)}.")
    if out is not None and out.exists() and not fresh:
        raise ConfigError(f"{out} is there already. Name another file, or add --fresh to replace it.")


def _fixed(report: run.LintReport, kind: str, out: Path | None, told: Callable[[run.LintReport], run.LintReport]) -> run.LintReport:
    """Writes the code that clears the findings and says what it does; gives what is found when it has been applied."""
    from initbench.linting.mending import fix

    made = fix(report, kind, told)
    if made.code and out is not None:
        write_text(out, made.code)
        output.hint(f"Written to {out}.")
    elif made.code:
        output.text(made.code.rstrip("\n"))
    else:
        output.hint("There is nothing that initialize(model) could clear: no code is written.")
    for text in filter(None, (made.told(), f"Afterwards: {formats.whole_text(made.after).rstrip()}")):
        output.say(text)
    return made.after


def _split(given: list[str] | None) -> tuple[str, ...]:
    return tuple(code for text in given or () for code in text.split(",") if code)
