"""Runs on a cluster of Ray, or on the cores of this machine; made for more than one machine."""

import contextlib
import importlib.util
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from initbench.errors import ConfigError, NotThereError, no_memory, too_long
from initbench.question import catalog, user_files
from initbench.question.config import Job
from initbench.question.data_folder import data_folder
from initbench.question.plan import named_of
from initbench.results.record import RunResult, RunStatus
from initbench.workers.progress import Progress, Report, to_check
from initbench.workers.runner import Asked, Board, Runner, Seat, versions

TASK_SECONDS, MOST_RUNS = 2.0, 256
"""A task is to last so long, and holds no more runs than that: short ones go together, so that sending them costs nothing beside."""
AHEAD = 2
"""Tasks of a runner that are on their way at once; the others wait here, so that a large plan fills nobody's memory."""
LOOK_SECONDS = 0.5
"""How often is looked for progress, and for runs that take too long."""
GPU_PARTS = 10_000
"""Ray counts a GPU in so many parts; a share that is rounded up would leave the last runner without room."""
IF_MEMORY = "If memory ran out, choose a smaller model or train.batch_size, or fewer --jobs"
"""What to do about a worker that the system may have killed; Ray does not always know why."""
STARTS = 3
"""How often, for each runner, another is asked for in place of one that died as it started."""
REACH_SECONDS = 30
"""How long a cluster may take to answer."""
ROOM_SECONDS = 10.0
"""After so long without any worker it is said what is waited for."""


def execute(
    jobs: Sequence[tuple[str, Job]],
    *,
    device: str,
    data_dir: str | None,
    workers: int | None = None,
    threads: int = 1,
    report: Report | None = None,
    run_timeout: float | None = None,
    address: str | None = None,
) -> Iterator[RunResult]:
    """Runs on a cluster of Ray (`--ray-address auto` or HOST:PORT), or on the cores of this machine.

    Runners (actors of a core each, on CUDA of a share of a GPU) keep the imported torch and the data, and take a few runs at a time; on
    CUDA runs of equal shape train as one. The user's own files and data files travel to them. A runner that is lost, with its node, is
    replaced: its runs are tried once more, each alone, as is a run that found no memory. Results are written here, as with every engine.
    Where a cluster has no room it is waited for; `report` is told.
    Raises: InitbenchError for what would make a job impossible, a cluster that cannot be reached or has no GPU where CUDA is asked for,
    workers with other versions.
    """
    if device.startswith("cuda:"):
        raise ConfigError(f"Ray gives each worker its GPU: use --device cuda instead of {device}.")
    ray = _library()
    with contextlib.ExitStack() as unless_it_works:
        unless_it_works.enter_context(_connected(ray, address))
        files, data = (_files(jobs), _data(ray, jobs, data_dir)) if address else ({}, None)
        seat = Seat(device, data_dir, threads, run_timeout, versions(), None if address else str(Path.cwd()), files, data)
        crew = Crew(ray, seat, _count(ray, workers, len(jobs), seat), report)
        unless_it_works.callback(crew.close)
        crew.check(to_check(jobs))
        closing = unless_it_works.pop_all()

    def results() -> Iterator[RunResult]:
        with closing:
            yield from crew.results(deque(jobs))

    return results()


def reach(address: str | None) -> None:
    """Looks whether runs could be carried out, for a plan that is only shown: for the package, and whether anybody listens at HOST:PORT.

    Raises: NotThereError as `execute` does.
    """
    if importlib.util.find_spec("ray") is None:
        _library()
    _refuse_silent(address)


def _library() -> Any:
    """Ray itself, which is asked to report nothing to its makers, and to leave the GPUs of actors without one as they are."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        how = "It is in the extra 'ray': pip install '.[ray]' in a clone of initbench"
        raise NotThereError(f"The engine 'ray' needs the package ray, which is not installed. {how}") from None
    return ray


def _keeps_token() -> bool:
    """Whether this user has a token for clusters of Ray and does not show it, as Ray does unasked for `auto` alone."""
    if "RAY_AUTH_MODE" in os.environ:
        return False
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    with contextlib.suppress(OSError, RuntimeError):
        return bool(os.environ.get("RAY_AUTH_TOKEN")) or (Path(named) if named else Path.home() / ".ray" / "auth_token").is_file()
    return False


@contextlib.contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Within: a connection, to a cluster on this machine where no address is given. One that the process has already is used, and stays."""
    if ray.is_initialized():
        yield
        return
    _refuse_silent(address)
    quiet = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": False}
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, **quiet)  # a cluster that happens to run here is used where it is named
        else:
            os.environ.setdefault("RAY_gcs_server_request_timeout_seconds", str(REACH_SECONDS))
            ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:  # it differs from version to version
        where = f"at '{address}'" if address else "on this machine"
        shown = "If it is guarded by the token that is here, set RAY_AUTH_MODE=token"
        how = shown if _keeps_token() else "Start one with: ray start --head"
        raise NotThereError(f"No cluster of Ray can be reached {where}: {_first_line(error).rstrip('.')}. {how}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _last_started() -> str:
    """What Ray takes for `auto`: the address in its variable, or that of the cluster that was started here last, which may be gone."""
    folder = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"  # as Ray itself looks for it
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return os.environ.get("RAY_ADDRESS") or (folder / "ray_current_cluster").read_text(encoding="utf-8").strip()
    return ""


def _refuse_silent(address: str | None) -> None:
    """Raises: NotThereError where nobody listens at HOST:PORT, or at what `auto` stands for; Ray itself would try for minutes."""
    host, _, port = (_last_started() if address == "auto" else address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NotThereError(f"No cluster of Ray can be reached at '{address}': {reason}. Start one with: ray start --head") from None


def _count(ray: Any, workers: int | None, runs: int, seat: Seat) -> int:
    """How many runners: as asked for, else one for each `threads` cores, on CUDA one a GPU."""
    there = ray.cluster_resources()
    slots = int(there.get("GPU", 0)) if seat.device == "cuda" else int(there.get("CPU", 1)) // seat.threads
    return max(1, min(workers or slots, runs))


def _share(ray: Any, seat: Seat, count: int) -> dict[str, float]:
    """What one of `count` runners asks of the cluster, in the words of Ray: cores, or the part of a GPU with which all of them fit.

    No more cores than the largest machine has: there a run's threads take turns. Raises: NotThereError where CUDA is asked for and no
    machine has a GPU.
    """
    if seat.device != "cuda":
        largest = max((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
        return {"num_cpus": min(seat.threads, largest or seat.threads), "num_gpus": 0}
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if not gpus:
        raise NotThereError("No machine of the cluster has a GPU, as --device cuda asks for. Add one to the cluster, or use --device cpu.")
    on_a_gpu = -(-count // gpus)
    return {"num_cpus": 0, "num_gpus": GPU_PARTS // on_a_gpu / GPU_PARTS}


def _files(jobs: Sequence[tuple[str, Job]]) -> dict[str, bytes]:
    """The user's own files that the jobs name, and what these import, by their path below the working folder."""
    here, found = Path.cwd(), dict[str, bytes]()
    for kind, name in sorted({(kind, ref.name) for _, job in jobs for kind, ref in named_of(job)}):
        path = catalog.user_file(kind, name)
        for source in (path, *user_files.sources(path)) if path is not None else ():
            with contextlib.suppress(ValueError):
                found[source.resolve().relative_to(here.resolve()).as_posix()] = source.read_bytes()
    return found


def _data(ray: Any, jobs: Sequence[tuple[str, Job]], data_dir: str | None) -> dict[str, Any]:
    """The data files that the jobs may read, each once in the store of the cluster, by name."""
    named = {str(word) for _, job in jobs for word in (job.dataset.name, *job.dataset.params.values())}
    every = sorted(data_folder(data_dir).glob("*.npz*"))
    files = [path for path in every if path.name.partition(".npz")[0].replace("-", "_") in named]
    return {path.name: ray.put(path.read_bytes()) for path in files}


@dataclass
class Portion:
    """Runs that were given to a runner together, and when they were."""

    jobs: list[Asked]
    begun: float = field(default_factory=time.monotonic)


class Crew:
    """The runners of one call of `execute`, what each is at, and what waits."""

    def __init__(self, ray: Any, seat: Seat, count: int, report: Report | None = None) -> None:
        self.ray, self.seat, self.report = ray, seat, report
        self.share = _share(ray, seat, count)
        self.board = ray.remote(Board).options(num_cpus=0).remote()
        self.runners: list[Any] = []
        self.starting: dict[Any, Any] = {}
        """Runners that are asked for, by the answer that says that they are there: a cluster gives them room when it has some."""
        self.starts_left = STARTS * count
        for _ in range(count):
            self._start()
        self.tasks: dict[Any, tuple[Any, Portion]] = {}
        self.tried: set[str] = set()
        """Runs whose first try is lost."""
        self.alone_since: float | None = time.monotonic()
        """Since when there is no runner, until that is said."""
        self.seconds_a_run = TASK_SECONDS

    def _start(self) -> None:
        runner = self.ray.remote(Runner).options(**self.share, max_restarts=0).remote(self.seat, self.board)
        self.starting[runner.problem.remote()] = runner

    def _started(self, answer: Any) -> None:
        """A runner is there, or another is asked for in its place. Raises: InitbenchError where it is no use, or none can start."""
        runner = self.starting.pop(answer)
        try:
            problem = self.ray.get(answer)
        except self.ray.exceptions.RayError as error:
            self.starts_left -= 1
            if self.starts_left < 0:
                raise NotThereError(f"Workers of Ray cannot start: {_first_line(error)}") from None
            self._start()
            return
        if problem is not None:
            raise problem
        self.runners.append(runner)

    def check(self, jobs: Sequence[Job]) -> None:
        """Has the jobs checked by the runners that are there first. Raises: InitbenchError, the first that is found."""
        while not self.runners:
            self._say_what_is_awaited()
            self.ray.wait(list(self.starting), timeout=LOOK_SECONDS)
            for answer in self.ray.wait(list(self.starting), num_returns=len(self.starting), timeout=LOOK_SECONDS)[0]:
                self._started(answer)
        asked = {self.runners[number % len(self.runners)].check.remote(job): job for number, job in enumerate(jobs)}
        for answer, job in asked.items():
            try:
                error = self.ray.get(answer, timeout=self.seat.limit)
            except self.ray.exceptions.GetTimeoutError:
                what = f"The model '{job.model.shown}' with the scheme '{job.scheme}'"
                raise ConfigError(f"{what} could not be checked: {too_long(self.seat.limit)}.") from None
            except self.ray.exceptions.RayError as failure:
                raise NotThereError(f"A worker of Ray could not check the job: {_first_line(failure)}") from None
            if error is not None:
                raise error

    def _say_what_is_awaited(self) -> None:
        """Tells, once for each time that no runner is left, what each asks for and what the cluster has free."""
        if self.runners:
            self.alone_since = time.monotonic()
        elif self.alone_since is not None and time.monotonic() - self.alone_since > ROOM_SECONDS:
            self.alone_since = None
            free, there = self.ray.available_resources(), self.ray.cluster_resources()
            kind, part = ("GPU", self.share["num_gpus"]) if self.share["num_gpus"] else ("CPU", self.share["num_cpus"])
            has = f"{free.get(kind, 0):g} of {there.get(kind, 0):g} {kind} are free"
            note = f"Waiting for the cluster of Ray to start a worker: each asks for {part:g} {kind} of one machine, and {has}."
            if self.report is not None:
                self.report(Progress("", 0, 0, note))

    def results(self, queue: "deque[Asked]") -> Iterator[RunResult]:
        """Each result as it comes."""
        while queue or self.tasks:
            self._hand_out(queue)
            self._say_what_is_awaited()
            ready, _ = self.ray.wait([*self.tasks, *self.starting], timeout=LOOK_SECONDS)
            for answer in ready:
                if answer in self.starting:
                    self._started(answer)
                elif answer in self.tasks:  # not those of a runner that was lost a moment ago
                    yield from self._read(answer, queue)
            if not ready and self.report is not None:
                for sign in self._signs():
                    self.report(sign)
            if self.seat.limit is not None:
                yield from self._ended(queue, self.seat.limit)

    def _hand_out(self, queue: "deque[Asked]") -> None:
        busy = [runner for runner, _ in self.tasks.values()]
        for ahead in range(AHEAD):
            for runner in self.runners:
                if queue and sum(runner is each for each in busy) <= ahead:
                    share = -(-len(queue) // (2 * len(self.runners)))  # towards the end smaller tasks, so that all end together
                    size = max(1, min(MOST_RUNS, share, int(TASK_SECONDS / max(1e-6, self.seconds_a_run))))
                    task = Portion(self._next(queue, size))
                    self.tasks[runner.run.remote(task.jobs)] = (runner, task)
                    busy.append(runner)

    def _next(self, queue: "deque[Asked]", size: int) -> list[Asked]:
        """So many runs at most; one that is tried again is alone, so that it takes no other with it."""
        taken = [queue.popleft()]
        while len(taken) < size and queue and not self.tried & {taken[0][0], queue[0][0]}:
            taken.append(queue.popleft())
        return taken

    def _read(self, answer: Any, queue: "deque[Asked]") -> Iterator[RunResult]:
        runner, task = self.tasks.pop(answer)
        try:
            results, seconds = self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:  # the runner is there, and cannot run these
            yield from (_failed(asked, _first_line(error.cause)) for asked in task.jobs)
            return
        except self.ray.exceptions.RayError as error:
            self.tasks[answer] = (runner, task)
            yield from self._lost(runner, queue, _first_line(error))
            return
        self.seconds_a_run = seconds / len(task.jobs)
        given = dict(task.jobs)
        for result in map(RunResult.model_validate_json, results):  # in any order
            if result.reason == no_memory(self.seat.device) and result.job_id not in self.tried:
                self.tried.add(result.job_id)
                queue.append((result.job_id, given[result.job_id]))  # when others have ended there may be more
            else:
                yield result

    def _lost(self, runner: Any, queue: "deque[Asked]", reason: str) -> Iterator[RunResult]:
        """A runner is gone: the runs that it was at go to others, one by one, and have failed if that was the second try.

        What it had not begun just goes back; Ray may tell of that first.
        """
        answer = min((answer for answer, (own, _) in self.tasks.items() if own is runner), key=lambda each: self.tasks[each][1].begun)
        _, task = self.tasks.pop(answer)
        self._replace(runner, queue)
        for name, job in reversed(task.jobs):
            if name in self.tried:
                yield _failed((name, job), f"its worker of Ray was lost, as in a first try ({reason.rstrip('.')}). {IF_MEMORY}")
            else:
                self.tried.add(name)
                queue.appendleft((name, job))

    def _ended(self, queue: "deque[Asked]", limit: float) -> Iterator[RunResult]:
        """Kills runners whose task takes longer than its runs may together; of several runs each is then tried alone."""
        for answer, (runner, task) in list(self.tasks.items()):
            first = all(task.begun <= other.begun for own, other in self.tasks.values() if own is runner)
            if first and time.monotonic() - task.begun > limit * len(task.jobs) + REACH_SECONDS:
                self.tasks.pop(answer)
                self._replace(runner, queue)
                if len(task.jobs) == 1:
                    yield _failed(task.jobs[0], too_long(limit))
                else:
                    queue.extendleft(reversed(task.jobs))

    def _replace(self, runner: Any, queue: "deque[Asked]") -> None:
        """Asks for another runner in the place of one that is gone or no use; what that had not begun goes back."""
        self._kill(runner)  # one that only cannot be reached would keep its core
        for answer, (own, task) in list(self.tasks.items()):
            if own is runner:
                self.tasks.pop(answer)
                queue.extendleft(reversed(task.jobs))
        if runner in self.runners:
            self.runners.remove(runner)
            self._start()
        self.seconds_a_run = TASK_SECONDS

    def _signs(self) -> list[Progress]:
        with contextlib.suppress(self.ray.exceptions.RayError):
            found: list[Progress] = self.ray.get(self.board.read.remote(), timeout=LOOK_SECONDS)
            return found
        return []

    def _kill(self, actor: Any) -> None:
        with contextlib.suppress(RuntimeError, ValueError, self.ray.exceptions.RayError):
            self.ray.kill(actor)

    def close(self) -> None:
        """Ends every runner, whatever it is at; nothing else of the cluster."""
        for actor in (*self.runners, *self.starting.values(), self.board):
            self._kill(actor)


def _failed(asked: Asked, reason: str) -> RunResult:
    name, job = asked
    return RunResult(job_id=name, job=job, status=RunStatus.FAILED, reason=reason)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
