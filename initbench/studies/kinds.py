"""Which kind of question a command and its configuration ask."""

from initbench.question.config import ExperimentConfig
from initbench.studies import compare, recommend, sweep, tune, until
from initbench.studies.study import Study

STUDIES: tuple[Study, ...] = (recommend, sweep, tune, until, compare)
"""The first that is asked is the one: `compare` is what remains."""


def study_of(command: str, config: ExperimentConfig) -> Study:
    """The kind of question that a command, or the manifest of a results folder, asks with a configuration."""
    return next(study for study in STUDIES if study.is_asked(command, config))
