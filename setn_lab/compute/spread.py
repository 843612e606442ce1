"""Independent tasks spread over workers: this process alone, other processes of this machine, or a Ray cluster."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from setn_lab.compute import cluster, processes
from setn_lab.compute.workers import Workers

Shared = TypeVar("Shared")
State = TypeVar("State")
Task = TypeVar("Task")
Result = TypeVar("Result")


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
    For other processes both are functions that can be imported there; `shared`, tasks and results are pickled, tensors
    of a GPU need one in each worker, and NumPy arrays from Ray cannot be written to. A session of Ray that this process
    has open is used for any address, and left open. At the end, after `close`, an error or the death of this process no
    worker is left.

    Raises what setup or work raises; WorkerError when a task's worker died more than `retries` times, or one did not
    start; ConfigError when Ray is missing, the address is not reached or there is no room for the workers.
    """
    if not tasks:
        return
    if workers.address is not None:
        with cluster.session(workers) as ray:
            yield from cluster.distribute(ray, workers, (setup, work, shared), tasks)
        return
    if not workers.here:
        yield from processes.distribute(workers, (setup, work, shared), tasks)
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
def session(workers: Workers) -> Iterator[None]:
    """Stay connected to the workers' cluster for every `spread` within: to join it takes seconds.

    Nothing is started for workers of this machine. Raises what `spread` raises for Ray.
    """
    if workers.address is None:
        yield
        return
    with cluster.session(workers):
        yield


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
