"""The commands `initbench data ...`: which data files are there, get, import and verify them."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from initbench.cli import output
from initbench.cli.once import Group, Once
from initbench.cli.options import AnyNames, DataDir, Json, Names, Quiet, argument, option
from initbench.errors import DataError
from initbench.question.data_folder import data_folder

if TYPE_CHECKING:
    from initbench.data.manage import DataStatus

data_app = typer.Typer(cls=Group, help="Data files: list, get, import, verify.", no_args_is_help=True)


@data_app.command("list", cls=Once)
def data_list(*, data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the datasets, and which of them are there."""
    from initbench.data import manage

    root = data_folder(data_dir)
    statuses = manage.list_data(root)
    _show(statuses, as_json=as_json)
    if absent := [status.name for status in statuses if not status.there]:
        output.hint(f"What is not there is got with: initbench data get {' '.join(absent)}")
    output.hint(f"The data folder is {root}. Choose another with --data-dir or INITBENCH_DATA.")


@data_app.command("get", cls=Once, epilog="Example: initbench data get mnist")
def data_get(*, names: Names, data_dir: DataDir = None, quiet: Quiet = False) -> None:
    """Download datasets; those that are there stay as they are."""
    from initbench.data import manage

    root = data_folder(data_dir)
    for name in names:
        with output.download(name, quiet=quiet) as progress:
            record = manage.get(name, root, progress)
        output.say(f"{name}: {record.train_images:,} training and {record.test_images:,} test images in {root}.")


@data_app.command("import", cls=Once, epilog="Example: initbench data import digits.npz --name digits")
def data_import(
    file: Annotated[Path, argument("FILE.npz", "With x_train, y_train, x_test and y_test.")],
    name: Annotated[str | None, option(None, "--name", "NAME", "What it is called from then on. Default: the file's name.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Copy a data file of your own into the data folder, after checking it."""
    from initbench.data import manage

    record = manage.import_file(file, data_folder(data_dir), name)
    images = f"{record.train_images:,} training and {record.test_images:,} test images, {record.classes} classes"
    output.say(f"{name or file.stem}: {images}. Use it with --dataset {name or file.stem}.")


@data_app.command("verify", cls=Once)
def data_verify(*, names: AnyNames = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Read every data file and compare it with what was recorded: exit code 5 when one is damaged."""
    from initbench.data import manage

    statuses = manage.verify(data_folder(data_dir), tuple(names or ()))
    _show(statuses, as_json=as_json)
    damaged = [status.problem for status in statuses if status.problem]
    if damaged:
        raise DataError("\n".join(damaged))


def _show(statuses: "Iterable[DataStatus]", *, as_json: bool) -> None:
    if as_json:
        output.document([status.model_dump(mode="json") for status in statuses])
    else:
        output.data_files(statuses)
