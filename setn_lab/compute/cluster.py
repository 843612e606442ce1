"""Workers of a Ray cluster: actors, which Ray starts anew where one died."""

import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from setn_lab.compute.workers import WorkerError, Workers
from setn_lab.config import ConfigError


@contextmanager
def session(workers: Workers) -> Iterator[Any]:
    """Ray's module, connected to the workers' cluster, where there is room for them. Raises what `spread` raises."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"cluster: {workers.address!r} given, but Ray is not installed: pip install 'setn_lab[cluster]', or give "
            "None for workers of this machine"
        ) from error
    ours = not ray.is_initialized()
    try:
        if ours:
            _join(ray, str(workers.address))
        workers.check_room(sum(_room(node["Resources"], workers) for node in ray.nodes() if node["Alive"]))
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _join(ray: Any, address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as of Ray 2.60; versions before warn of it
    try:
        if address != "auto":  # Ray itself would try for two minutes and then end this process
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'cluster: {address!r} given, but no Ray cluster is reached there ({error}); give "host:port" '
            "of a running one (RAY_AUTH_MODE=token in the environment if it wants a token), "
            '"auto" on one of its machines (`ray start --head` starts it), or None for this machine alone'
        ) from error


def _room(node: dict[str, float], workers: Workers) -> int:
    places = int(node.get("CPU", 0) / workers.threads)
    if workers.gpus:  # Ray gives no worker parts of several GPUs
        gpus = int(node.get("GPU", 0))
        places = min(places, gpus * workers.per_gpu if workers.gpus < 1 else int(gpus / workers.gpus))
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


def distribute(ray: Any, workers: Workers, job: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """`spread.spread` over a cluster."""
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
                raise workers.died(index) from error
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
