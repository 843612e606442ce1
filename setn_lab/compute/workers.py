"""Independent tasks over worker processes: this process alone, or several of this machine or of a cluster with Ray."""

import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from setn_lab.config import ConfigError

Shared = TypeVar("Shared")
State = TypeVar("State")
Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerError(RuntimeError):
    """A task had its worker die each time that it was tried, or a worker did not start."""


@dataclass(frozen=True)
class Workers:
    """Where tasks run. On the CPU, the last bits of results may depend on `threads`, but never on `count`."""

    count: int = 1  # worker processes; 1 without an address: this process itself, and no Ray
    address: str | None = None  # of a running Ray cluster, "auto" or "host:port"; None: this machine, nothing to start
    threads: int = 1  # CPU threads of each worker; 0, for this process alone: as many as torch takes
    gpus: float = 0.0  # of a GPU for each worker, below 1 or whole; fractions share one, and 0 hides them from it
    retries: int = 3  # how often a task is given to a worker again after its worker died

    @property
    def here(self) -> bool:
        """Whether the tasks run in this process."""
        return self.count == 1 and self.address is None


HERE = Workers(threads=0)


def spread(
    workers: Workers,
    setup: Callable[[Shared], State],
    shared: Shared,
    work: Callable[[State, Task], Result],
    tasks: Sequence[Task],
) -> Generator[tuple[int, Result], None, None]:
    """Yield (index of the task, result) as they finish, each task once.

    setup(shared) is called once in each worker, and in one that takes the place of a worker that died.
    work(state, task): the result, the same whatever the worker did before; it is called again where a worker died.
    With Ray, both are functions that the workers can import. `shared`, tasks and results are pickled: tensors of a GPU
    need one in each worker, and NumPy arrays cannot be written to where they arrive. A session of Ray that this process
    has open is used, whatever the address, and left open. At the end, after `close` or an error no worker is left.

    Raises what setup or work raises; WorkerError when a task's worker died more than `retries` times, or one did not
    start; ConfigError when Ray is missing, the address is not reached or there is no room for the workers.
    """
    if not tasks:
        return
    if not workers.here:
        with session(workers) as ray:
            yield from _distribute(ray, workers, (setup, work, shared), tasks)
        return
    with _threads(workers.threads):
        state = setup(shared)
    for index, task in enumerate(tasks):
        with _threads(workers.threads):
            result = work(state, task)
        yield index, result


def in_order(results: Iterator[tuple[int, Result]]) -> Generator[Result, None, None]:
    """The results in the order of their tasks; holds back those that finish early."""
    early: dict[int, Result] = {}
    expected = 0
    for index, result in results:
        early[index] = result
        while expected in early:
            yield early.pop(expected)
            expected += 1


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def session(workers: Workers) -> Iterator[Any]:
    """A session of Ray that has room for the workers, for every `spread` within: to start one takes seconds.

    Gives Ray's module; None, with nothing started, for workers in this process. Raises what `spread` raises for Ray.
    """
    if workers.here:
        yield None
        return
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"workers: {workers.count} given, cluster {workers.address!r}, but Ray is not installed; "
            "install the extra: pip install 'setn_lab[cluster]', or give 1 worker and no address"
        ) from error
    ours = not ray.is_initialized()
    try:
        if ours:
            _open(ray, workers)
        room = sum(_room(node["Resources"], workers) for node in ray.nodes() if node["Alive"])
        if room < workers.count:  # the others would be waited for forever
            raise ConfigError(
                f"workers: {workers.count} given, each with {workers.threads} CPU threads and {workers.gpus:g} GPUs, "
                f"but there is room for {room}; give at most that many, or less to each"
            )
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _open(ray: Any, workers: Workers) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as of Ray 2.60; versions before warn of it
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if workers.address is None:
        threads = workers.count * workers.threads  # as the user says, whatever the machine has
        try:
            ray.init("local", num_cpus=threads, include_dashboard=False, **quiet)
        except Exception as error:  # Ray has no type for it
            raise WorkerError(
                f"Ray did not start on this machine, as happens where others keep its processors busy: {error} "
                "Try again when they are free, or give 1 worker"
            ) from error
        return
    try:
        if workers.address != "auto":  # Ray itself would try for two minutes and then end this process
            host, _, port = workers.address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(workers.address, **quiet)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'cluster: {workers.address!r} given, but no Ray cluster is reached there ({error}); give "host:port" '
            "of a running one (RAY_AUTH_MODE=token in the environment if it wants a token), "
            '"auto" on one of its machines (`ray start --head` starts it), or None for this machine alone'
        ) from error


def _room(node: dict[str, float], workers: Workers) -> int:
    places = int(node.get("CPU", 0) / workers.threads)
    if workers.gpus:  # Ray gives no worker parts of several GPUs
        gpus = int(node.get("GPU", 0))
        places = min(places, gpus * int(1 / workers.gpus) if workers.gpus < 1 else int(gpus / workers.gpus))
    return places


class _Worker:
    """What a worker process of Ray holds; Ray makes it anew after a death."""

    def __init__(self, workers: Workers) -> None:
        torch.set_num_threads(workers.threads)
        if not workers.gpus:  # Ray 2.45 hides them, 2.60 does not
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._ready = False

    def run(self, job: list[Any], task: Any) -> Any:
        if not self._ready:  # not in the constructor, where Ray makes a text of an error and repeats a death forever
            import ray

            setup, self._work, shared = ray.get(job[0])
            self._state = setup(shared)
            self._ready = True
        return self._work(self._state, task)


def _distribute(ray: Any, workers: Workers, job: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    again = {"max_restarts": -1, "max_task_retries": workers.retries}
    actor = ray.remote(num_cpus=workers.threads, num_gpus=workers.gpus, **again)(_Worker)
    stored = [ray.put(job)]  # once for all workers; in a list Ray hands on the reference
    team = [actor.remote(workers) for _ in range(min(workers.count, len(tasks)))]
    left = deque(enumerate(tasks))
    # what is awaited, of whom; one task for each, so that none waits behind a slow one or for a worker not yet placed
    awaited: dict[Any, tuple[Any, int | None]] = {worker.__ray_ready__.remote(): (worker, None) for worker in team}
    try:
        unfinished = len(tasks)
        while unfinished:
            (done,), _ = ray.wait(list(awaited), num_returns=1)
            worker, index = awaited.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
                if index is None:
                    raise WorkerError(f"a worker did not start; setn_lab is needed on all machines: {error}") from error
                raise WorkerError(
                    f"task {index}: its worker died each of the {workers.retries + 1} times that it was tried, for "
                    "want of memory or by a crash; give fewer workers or more memory, or 1 worker to see the crash"
                ) from error
            if left:
                following, task = left.popleft()
                awaited[worker.run.remote(stored, task)] = worker, following
            else:
                ray.kill(worker)
            if index is not None:
                unfinished -= 1
                yield index, result
    finally:
        for worker in team:
            ray.kill(worker)
