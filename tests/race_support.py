"""Studies without training: every job that is asked for gets a made-up result at once."""

import random
from collections.abc import Callable

from initbench.question import plan
from initbench.question.config import ExperimentConfig, Job, TrainConfig, UntilConfig, View, parse_ref
from initbench.results.record import Evaluation, RunResult, RunStatus
from initbench.studies.kinds import study_of


def question(*schemes: str, seeds: int = 8, **more) -> ExperimentConfig:
    found = {"train": TrainConfig(steps=16, lr=0.1), "tune": "train.lr", **more}
    return plan.resolve_config(ExperimentConfig(schemes=tuple(parse_ref(name) for name in schemes), seeds=tuple(range(seeds)), **found))


def made_up(job: Job, loss: float | None, status: RunStatus = RunStatus.COMPLETED) -> RunResult:
    """A run with this final loss; None: it diverged."""
    if loss is None:
        status = RunStatus.DIVERGED
    steps = 10 if job.train.steps is None else job.train.steps
    ends = () if loss is None else (Evaluation(step=steps, epoch=steps / 4, test_loss=loss, test_accuracy=max(0.1, 1 - loss)),)
    return RunResult(
        job_id=plan.job_id(job),
        job=job,
        status=status,
        reason="made up" if status is not RunStatus.COMPLETED else None,
        first_bad_step=1 if loss is None else None,
        classes=10,
        train_losses=(2.3,) * steps if loss is not None else (),
        evaluations=ends if status is RunStatus.COMPLETED else (),
    )


def carried_out(command: str, config: ExperimentConfig, loss_of: Callable[[Job], float | None]) -> tuple[dict[str, RunResult], int]:
    """All results of a question, and how many times its plan grew."""
    done: dict[str, RunResult] = {}
    rounds = 0
    while missing := [job for job in study_of(command, config).jobs(config, done) if plan.job_id(job) not in done]:
        done |= {plan.job_id(job): made_up(job, loss_of(job)) for job in missing}
        rounds += 1
        assert rounds < 40
    return done, rounds


def summary_of(command: str, config: ExperimentConfig, loss_of: Callable[[Job], float | None], view: View | None = None):
    done, _ = carried_out(command, config, loss_of)
    return study_of(command, config).summarize(config, done, view or View())


def asked(*schemes: str, seeds: int = 64, **more) -> ExperimentConfig:
    """A question with seeds that are added one at a time until it is decided."""
    return question(*schemes, seeds=seeds, tune=None, until=UntilConfig(each=1, **more))


def apart(gap: float, spread: float = 0.05) -> Callable[[Job], float]:
    """Losses of which the first scheme's are lower by `gap`, with noise that is the same for the same seed."""

    def loss(job: Job) -> float:
        noise = random.Random(f"{job.scheme} {job.seed}").gauss(0, spread)
        return 0.4 + noise + gap * (str(job.scheme) != "kaiming")

    return loss
