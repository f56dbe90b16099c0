"""The commands on files: `initbench data ...` and `initbench config ...`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from initbench import api
from initbench.cli import output as console
from initbench.cli.options import AnyNames, DataDir, Json, Names, Quiet, Settings, Source, Sources
from initbench.errors import ConfigError, DataError
from initbench.question import config_file
from initbench.question.data_folder import data_folder
from initbench.question.schema import schema

if TYPE_CHECKING:
    from initbench.data.manage import DataStatus

data_app = typer.Typer(help="Data files: list, get, import, verify.", no_args_is_help=True)
config_app = typer.Typer(help="Config files: show, validate, schema.", no_args_is_help=True)


@data_app.command("list")
def data_list(*, data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the datasets, and which of them are there."""
    from initbench.data import manage

    root = data_folder(data_dir)
    found = manage.list_data(root)
    _data_table(found, as_json=as_json)
    if absent := [status.name for status in found if not status.there]:
        console.hint(f"What is not there is got with: initbench data get {' '.join(absent)}")
    console.hint(f"The data folder is {root}. Choose another with --data-dir or INITBENCH_DATA.")


@data_app.command("get", epilog="Example: initbench data get mnist")
def data_get(*, names: Names, data_dir: DataDir = None, quiet: Quiet = False) -> None:
    """Download datasets; those that are there stay as they are."""
    from initbench.data import manage

    root = data_folder(data_dir)
    for name in names:
        with console.download(name, quiet=quiet) as progress:
            record = manage.get(name, root, progress)
        console.say(f"{name}: {record.train_images:,} training and {record.test_images:,} test images in {root}.")


@data_app.command("import", epilog="Example: initbench data import digits.npz --name digits")
def data_import(
    file: Annotated[Path, typer.Argument(metavar="FILE.npz", help="With x_train, y_train, x_test and y_test.")],
    name: Annotated[str | None, typer.Option("--name", help="Default: the file's name.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Copy a data file of your own into the data folder, after checking it."""
    from initbench.data import manage

    record = manage.import_file(file, data_folder(data_dir), name)
    images = f"{record.train_images:,} training and {record.test_images:,} test images, {record.classes} classes"
    console.say(f"{name or file.stem}: {images}. Use it with --dataset {name or file.stem}.")


@data_app.command("verify")
def data_verify(*, names: AnyNames = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Read every data file and compare it with what was recorded: exit code 5 when one is damaged."""
    from initbench.data import manage

    found = manage.verify(data_folder(data_dir), tuple(names or ()))
    _data_table(found, as_json=as_json)
    damaged = [status.problem for status in found if status.problem]
    if damaged:
        raise DataError("\n".join(damaged))


@config_app.command("show", epilog="Example: initbench config show mnist_mlp --set train.lr=0.1")
def config_show(source: Source, settings: Settings = None) -> None:
    """Print a config with every value that it leaves to its default."""
    console.text(config_file.dump_config(api.configure("config", source, settings=settings or ())))


@config_app.command("validate", epilog="Example: initbench config validate mine.yaml")
def config_validate(sources: Sources, settings: Settings = None) -> None:
    """Check config files and say all that is wrong with them, with file and line: exit code 2 when something is."""
    problems: list[str] = []
    for source in sources:
        try:
            api.configure("config", source, settings=settings or ())
        except ConfigError as error:
            problems.append(str(error))
        else:
            console.say(f"{config_file.locate(source)}: fine.")
    if problems:
        raise ConfigError("\n".join(problems))


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of config files, for editors."""
    console.document(schema())


def _data_table(found: "Iterable[DataStatus]", *, as_json: bool) -> None:
    if as_json:
        console.document([status.model_dump(mode="json") for status in found])
    else:
        console.data_files(found)
