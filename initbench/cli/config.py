"""The commands `initbench config ...`: show and validate config files, and their schema."""

import typer

from initbench.cli import output
from initbench.cli.once import Group, Once
from initbench.cli.options import Settings, Source, Sources
from initbench.errors import ConfigError
from initbench.question import config_file
from initbench.question.request import configure
from initbench.question.schema import schema

config_app = typer.Typer(cls=Group, help="Config files: show, validate, schema.", no_args_is_help=True)


@config_app.command("show", cls=Once, epilog="Example: initbench config show mnist_mlp --set train.lr=0.1")
def config_show(source: Source, settings: Settings = None) -> None:
    """Print a config with every value that it leaves to its default."""
    output.text(config_file.dump_config(configure("config", source, settings=settings or ())))


@config_app.command("validate", cls=Once, epilog="Example: initbench config validate mine.yaml")
def config_validate(sources: Sources, settings: Settings = None) -> None:
    """Check config files and say all that is wrong with them, with file and line: exit code 2 when something is."""
    problems: list[str] = []
    for source in sources:
        try:
            configure("config", source, settings=settings or ())
        except ConfigError as error:
            problems.append(str(error))
        else:
            output.say(f"{config_file.locate(source)}: fine.")
    if problems:
        raise ConfigError("\n".join(problems))


@config_app.command("schema", cls=Once)
def config_schema() -> None:
    """Print the JSON schema of config files, for editors."""
    output.document(schema())
