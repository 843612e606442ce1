"""Several processes that train one network, as `torchrun` starts them; one process is the simplest case of it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from setn_lab.config import ConfigError


class Shard(NamedTuple):
    """The part of each batch that this process takes: the rank-th of `processes` equal ones."""

    rank: int
    processes: int

    def of(self, batch: Tensor) -> Tensor:
        """This process's part of a batch along its first dimension."""
        return batch.tensor_split(self.processes)[self.rank]


Made = TypeVar("Made")


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those of its job; `local` is its number on this machine."""

    share: Shard
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes the run folder."""
        return self.share.rank == 0

    def wrap(self, network: nn.Module, synchronized: bool) -> nn.Module:
        """The network with gradients averaged over the processes, by PyTorch's own DistributedDataParallel."""
        if self.share.processes == 1:
            return network
        if synchronized:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        device = next(network.parameters()).device
        # static: the same weights are used in each step; some by none, such as those of a node that nothing reads
        return DistributedDataParallel(network, [device] if device.type == "cuda" else None, static_graph=True)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of the processes' values, in each of them."""
        if self.share.processes > 1:
            dist.all_reduce(values)
        return values

    def align(self, network: nn.Module) -> None:
        """Give all processes the buffers of the first, such as its running averages."""
        if self.share.processes > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)

    def gather(self, names: list[str]) -> list[str]:
        """The names that any process has, in each of them, sorted."""
        if self.share.processes == 1:
            return sorted(set(names))
        lists: list[list[str]] = [[] for _ in range(self.share.processes)]
        dist.all_gather_object(lists, names)
        return sorted({name for names in lists for name in names})

    def agree(self, number: int) -> bool:
        """Whether all processes have the same number."""
        return len(self.gather([str(number)])) == 1

    def first_here(self, make: Callable[[], Made]) -> Made:
        """make() in all processes, in the first one of this machine before the others: it may fill a cache."""
        if self.local > 0:
            self.wait()
        made = make()
        if self.local == 0:
            self.wait()
        return made

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.share.processes > 1:
            dist.barrier()


ALONE = ProcessGroup(Shard(0, 1))


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """Join the job that `torchrun` started, or be one process alone; leaves it at the end.

    device: the config's; NCCL connects processes on CUDA, gloo all others.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    local = int(os.environ["LOCAL_RANK"])
    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"--nproc-per-node: more processes than this machine's {torch.cuda.device_count()} CUDA devices; "
                "give at most one for each"
            )
        torch.cuda.set_device(local)
        dist.init_process_group("nccl", device_id=torch.device("cuda", local))
    else:
        dist.init_process_group("gloo")
    yield ProcessGroup(Shard(dist.get_rank(), dist.get_world_size()), local)
    dist.destroy_process_group()  # not after an error: the others may be waiting, and torchrun ends them
