"""Which worker processes share independent tasks, and what may become of them."""

from dataclasses import dataclass

from setn_lab.config import ConfigError


class WorkerError(RuntimeError):
    """A task had its worker die each time that it was tried, or a worker did not start."""


@dataclass(frozen=True)
class Workers:
    """Where tasks run. On the CPU, the last bits of results may depend on `threads`, but never on `count`.

    Raises ConfigError for parts of several GPUs.
    """

    count: int = 1  # worker processes; 1 without an address: this process itself
    address: str | None = None  # of a running Ray cluster, "auto" or "host:port"; None: this machine, without Ray
    threads: int = 1  # CPU threads of each worker; 0, for this process alone: as many as torch takes
    gpus: float = 0.0  # of a GPU for each worker, below 1 or whole; fractions share one, and 0 hides them from it
    retries: int = 3  # how often a task is given to a worker again after its worker died

    @property
    def here(self) -> bool:
        """Whether the tasks run in this process."""
        return self.count == 1 and self.address is None

    def __post_init__(self) -> None:
        if self.gpus > 1 and self.gpus % 1:
            raise ConfigError(f"worker_gpus: {self.gpus:g} given; a number below 1 or a whole one is allowed")

    @property
    def per_gpu(self) -> int:
        """How many workers share a GPU; 1 where each has one or several."""
        return int(1 / self.gpus) if 0 < self.gpus < 1 else 1

    def check_room(self, room: int) -> None:
        """Raise ConfigError unless there is room for all of the workers: the others would be waited for forever."""
        if room < self.count:
            raise ConfigError(
                f"workers: {self.count} given, each with {self.threads} CPU threads and {self.gpus:g} GPUs, "
                f"but there is room for {room}; give at most that many, or less to each"
            )

    def died(self, task: int) -> WorkerError:
        """The error for a task that no worker outlives."""
        return WorkerError(
            f"task {task}: its worker died each of the {self.retries + 1} times that it was tried, for want of memory "
            "or by a crash; give fewer workers or more memory, or 1 worker to see the crash"
        )


HERE = Workers(threads=0)
