"""Workers on this machine: each the one process of an executor of its own, so that its death touches no other."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import torch

from setn_lab.compute.workers import WorkerError, Workers

Job = tuple[Any, Any, Any]  # setup, work and what is shared


def distribute(workers: Workers, job: Job, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """`spread.spread` over processes of this machine."""
    content = _pack(job)
    left = deque((index, 0) for index in range(len(tasks)))  # tasks, and how many workers died of each
    team: list[_Worker] = []
    # what is awaited, of whom; the first is that a worker has started
    awaited: dict[Future[Any], tuple[_Worker, int | None, int]] = {}

    def start(gpus: str) -> None:
        team.append(_Worker(content, workers.threads, gpus))
        awaited[team[-1].started] = team[-1], None, 0

    try:
        for gpus in _gpus(workers)[: len(tasks)]:
            start(gpus)
        unfinished = len(tasks)
        while unfinished:
            done = next(iter(wait(awaited, return_when=FIRST_COMPLETED).done))
            worker, index, deaths = awaited.pop(done)
            try:
                result = done.result()
            except BrokenProcessPool as error:
                if index is None:
                    raise WorkerError(
                        "a worker did not start: its own message says why, or memory is short. A script that starts "
                        "workers needs `if __name__ == '__main__':` around what it does"
                    ) from error
                if deaths == workers.retries:
                    raise workers.died(index) from error
                left.appendleft((index, deaths + 1))
                worker.end()
                start(worker.gpus)
                continue
            if left:
                following, deaths = left.popleft()
                awaited[worker.submit(tasks[following])] = worker, following, deaths
            else:
                worker.end()
            if index is not None:
                unfinished -= 1
                yield index, pickle.loads(result)
    finally:
        for worker in team:
            worker.end()


def _gpus(workers: Workers) -> list[str]:
    """For each worker the GPUs that it sees, as CUDA_VISIBLE_DEVICES has them. Raises ConfigError."""
    if not workers.gpus:
        return [""] * workers.count
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    count = torch.cuda.device_count()
    visible = names[:count] if len(names) >= count and names[0] else [str(number) for number in range(count)]
    if workers.gpus < 1:
        places = [name for name in visible for _ in range(workers.per_gpu)]
    else:
        each = int(workers.gpus)
        places = [",".join(visible[start : start + each]) for start in range(0, count - each + 1, each)]
    workers.check_room(len(places))
    return places[: workers.count]


def _pack(value: Any) -> bytes:
    """Pickled here, with tensors by value: torch would hand them over through memory that ends with the worker.

    By cloudpickle, which also takes functions of a notebook, such as those of operations and spaces that a user added.
    """
    return cloudpickle.dumps(value)


class _Worker:
    """A process that ends when it is told to, or when this process ends."""

    def __init__(self, job: bytes, threads: int, gpus: str) -> None:
        self.gpus = gpus
        context = multiprocessing.get_context("spawn")  # forked, it would hold this one's locks and no GPU
        leash_end, self._leash = context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(1, context, _begin, (leash_end, threads, gpus))
        self.started = self._executor.submit(_receive, job)
        leash_end.close()

    def submit(self, task: Any) -> Future[bytes]:
        try:
            return self._executor.submit(_work, _pack(task))
        except BrokenProcessPool as error:  # it died since it was last heard of
            future: Future[bytes] = Future()
            future.set_exception(error)
            return future

    def end(self) -> None:
        """End the process now, whatever it does; nothing where it has ended."""
        with suppress(OSError):
            self._leash.send(None)
        self._leash.close()
        self._executor.shutdown()


# What follows runs in the worker.

_job = b""
_ready: tuple[Any, Any] | None = None  # work, and what setup gave


def _begin(leash: Connection, threads: int, gpus: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that started this one, which ends it
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    torch.set_num_threads(threads)


def _end_with(leash: Connection) -> None:
    try:
        leash.recv()
    finally:
        os._exit(1)


def _receive(job: bytes) -> None:
    global _job
    _job = job


def _work(task: bytes) -> bytes:
    global _job, _ready
    if _ready is None:
        setup, work, shared = pickle.loads(_job)
        _job, _ready = b"", (work, setup(shared))
    work, state = _ready
    return _pack(work(state, pickle.loads(task)))
