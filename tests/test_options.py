"""Groups of options as parameters of a command."""

import inspect

import pytest
import typer

from initbench.cli import options
from initbench.cli.app import app
from initbench.cli.options import DisplayOptions, ExecutionOptions, Model, TrainingOptions, WorkerOptions, flat
from initbench.question.config import Execution


def test_a_group_is_given_to_typer_option_by_option_and_to_the_command_whole():
    given = []

    @flat
    def command(*, model: Model = "mlp", display: DisplayOptions) -> None:
        """What it does."""
        given.append((model, display))

    assert list(inspect.signature(command).parameters) == ["model", "as_json", "quiet", "verbose"]
    assert inspect.signature(command).parameters["quiet"].annotation is options.Quiet
    assert command.__doc__ == "What it does."
    command(model="cnn", as_json=False, quiet=True, verbose=False)
    assert given == [("cnn", DisplayOptions(quiet=True))]


def test_the_means_of_a_plan_are_those_that_a_command_has_options_for():
    assert WorkerOptions(jobs=2).execution == Execution(jobs=2)
    wanted = ExecutionOptions(device="cpu", engine="serial", data_dir="data", output="out", fresh=True)
    assert wanted.execution == Execution(device="cpu", engine="serial", data_dir="data", output="out", fresh=True)


def test_a_question_is_what_the_options_say(tmp_path):
    training = TrainingOptions(settings=["train.lr=0.5"], model="mlp:depth=2", seeds="0,3", steps=7)
    question = training.question("compare", ["xavier", "kaiming"], str(tmp_path), strict=True)
    assert (question.train.lr, str(question.model), question.seeds, question.train.steps) == (0.5, "mlp:depth=2", (0, 3), 7)
    assert question.init.strict


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda command: command.callback.__name__)
def test_no_command_has_two_options_of_one_name(command):
    words = [
        word
        for each in inspect.signature(command.callback).parameters.values()
        if each.annotation is not typer.Context
        for word in each.annotation.__metadata__[0].param_decls or ()
    ]
    assert len(words) == len(set(words))
