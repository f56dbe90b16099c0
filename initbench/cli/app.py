"""The command line, put together: each command is a file of this folder."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from initbench import __version__
from initbench.cli import (
    check_scheme,
    compare,
    doctor,
    export,
    lint,
    list,
    output,
    plot,
    probe,
    recommend,
    report,
    resume,
    run,
    show,
    smoke,
    sweep,
    table,
)
from initbench.cli.config import config_app
from initbench.cli.data import data_app
from initbench.cli.once import Group, Once
from initbench.errors import InitbenchError, NotThereError, StorageError, is_out_of_memory

RUN, LOOK = "Run", "Look"
"""The titles of the commands in the help."""


class Commands(Group):
    """The command group that turns a user error into a sentence and its exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Reads the command line and carries it out; what the system refuses (a full disk, a folder that is gone) is a sentence too."""
        try:
            Path.cwd()
        except FileNotFoundError:
            output.error("The working folder is gone. Change to one that is there.")
            sys.exit(StorageError.exit_code)
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            what = f"Cannot use {error.filename}" if error.filename else "Cannot print what there is to say"
            output.error(f"{what}: {error.strerror or error}.")
            sys.exit(StorageError.exit_code)

    def make_context(self, info_name: str | None, args: Any, *more: Any, **extra: Any) -> Any:
        """A context that knows the command line as it was typed; its commands find it as `obj`."""
        extra["obj"] = shlex.join(["initbench", *args])
        return super().make_context(info_name, args, *more, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except InitbenchError as error:
            output.error(str(error))
            raise typer.Exit(error.exit_code) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            output.error("There is not enough memory for this. Choose a smaller model, batch or number of runs at once (--jobs).")
            raise typer.Exit(NotThereError.exit_code) from None


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
app.command(cls=Once, rich_help_panel=RUN, epilog=recommend.EXAMPLE)(recommend.recommend)
app.command(cls=Once, rich_help_panel=RUN, epilog=probe.EXAMPLE)(probe.probe)
app.command(cls=Once, rich_help_panel=RUN, epilog=lint.EXAMPLE)(lint.lint)
app.command(cls=Once, rich_help_panel=LOOK, epilog=report.EXAMPLE)(report.report)
app.command(cls=Once, rich_help_panel=LOOK, epilog=plot.EXAMPLE)(plot.plot)
app.command(cls=Once, rich_help_panel=LOOK, epilog=table.EXAMPLE)(table.table)
app.command(cls=Once, rich_help_panel=LOOK, epilog=export.EXAMPLE)(export.export)
app.command("check-scheme", cls=Once, rich_help_panel=LOOK, epilog=check_scheme.EXAMPLE)(check_scheme.check_scheme)
app.command(cls=Once, rich_help_panel=RUN, epilog=run.EXAMPLE)(run.run)
app.command(cls=Once, rich_help_panel=RUN, epilog=compare.EXAMPLE)(compare.compare)
app.command(cls=Once, rich_help_panel=RUN, epilog=sweep.EXAMPLE)(sweep.sweep)
app.command(cls=Once, rich_help_panel=RUN, epilog=resume.EXAMPLE)(resume.resume)
app.command(cls=Once, rich_help_panel=RUN, epilog=smoke.EXAMPLE)(smoke.smoke)
app.command("list", cls=Once, rich_help_panel=LOOK, help=list.HELP, epilog=list.EXAMPLE)(list.list_)
app.command(cls=Once, rich_help_panel=LOOK, help=show.HELP, epilog=show.EXAMPLE)(show.show)
app.command(cls=Once, rich_help_panel=LOOK, epilog=doctor.EXAMPLE)(doctor.doctor)
app.add_typer(data_app, name="data", rich_help_panel=LOOK)
app.add_typer(config_app, name="config", rich_help_panel=LOOK)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        output.text(__version__)
        raise typer.Exit


@app.callback()
def _common(
    *,
    _version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_print_version, help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    """Nothing is done before a command but printing the version."""
