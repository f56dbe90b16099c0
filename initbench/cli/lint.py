"""The command `lint`: what is wrong with how a model is initialized; nothing is trained."""

from typing import Annotated

import typer

from initbench.cli import output
from initbench.cli.options import WHAT, Json, argument, option
from initbench.errors import ConfigError
from initbench.linting import formats, run
from initbench.linting.finding import Severity

EXAMPLE = "Example: initbench lint ./net.py:Net --input 3x224x224"
FOUND = 4
"""The exit code where something was found that is at least as bad as --fail-on."""


def lint(
    model: Annotated[str | None, argument("MODEL", "A class or function in a file, ./net.py:Net, or the name of a model.")] = None,
    *,
    given: Annotated[
        str | None,
        option(
            WHAT, "--input", "SHAPE|FILE", "3x224x224 (random numbers), int:50257:64 (64 numbers below 50257), or a .npy, .npz, .pt file."
        ),
    ] = None,
    batch: Annotated[int | None, option(WHAT, "--batch", "N", "Inputs of the batch.", min=2)] = None,
    classes: Annotated[int | None, option(WHAT, "--classes", "N", "Outputs of a model whose builder asks for them.", min=1)] = None,
    checkpoint: Annotated[str | None, option(WHAT, "--checkpoint", "FILE", "What the model should hold: rule IB109 compares.")] = None,
    select: Annotated[list[str] | None, option(WHAT, "--select", "CODE", "Only these rules: IB302, IB3, a name.")] = None,
    ignore: Annotated[list[str] | None, option(WHAT, "--ignore", "CODE", "Not these rules.")] = None,
    explain: Annotated[str | None, option(WHAT, "--explain", "CODE", "Say all about a rule, and look at nothing.")] = None,
    fail_on: Annotated[Severity, option(WHAT, "--fail-on", "SEVERITY", "Leave with exit code 4 from this severity on.")] = Severity.ERROR,
    as_json: Json = False,
) -> None:
    """Look at a model as it starts, and say which parameters are initialized wrongly, with what effect, and how to mend it."""
    if explain is not None:
        output.text(run.explained(explain))
        return
    if model is None:
        raise ConfigError("There is no model to look at. Write initbench lint ./net.py:Net --input 3x224x224")
    report = run.lint(
        model,
        inputs=given,
        checkpoint=checkpoint,
        batch=batch,
        classes=classes,
        select=_split(select),
        ignore=_split(ignore),
    )
    if as_json:
        output.document(
            {
                "model": report.model,
                "findings": [finding.model_dump(mode="json") for finding in report.findings],
                "not_told": [each.model_dump(mode="json") for each in report.not_told],
                "checked": list(report.checked),
            }
        )
    else:
        if report.findings:
            output.text(formats.as_text(report.findings))
            output.text("")
        output.text(formats.conclusion(report))
        by_reason: dict[str, list[str]] = {}
        for each in report.not_told:
            by_reason.setdefault(each.reason, []).append(each.code)
        for reason, codes in by_reason.items():
            output.hint(f"Not told by {', '.join(codes)}: {reason}.")
    if report.of(fail_on):
        raise typer.Exit(FOUND)


def _split(given: list[str] | None) -> list[str]:
    return [code for text in given or () for code in text.split(",") if code]
