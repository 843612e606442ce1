"""Several processes that train one network, as `torchrun` starts them; one process is the simplest case of it."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from setn_lab.config import ConfigError


class LostProcessError(RuntimeError):
    """Another process of the job has ended, so that this one cannot go on."""


class Shard(NamedTuple):
    """The part of each batch that this process takes: the rank-th of `processes` equal ones."""

    rank: int
    processes: int

    def of(self, batch: Tensor) -> Tensor:
        """This process's part of a batch along its first dimension."""
        return batch.tensor_split(self.processes)[self.rank]

    def parts(self, count: int) -> range:
        """The numbers of this process's among `count` parts: as many as the others have, a single one in the first."""
        begin, end = (-(-count * rank // self.processes) for rank in (self.rank, self.rank + 1))
        return range(begin, end)


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

    def device(self, name: str, device: torch.device) -> torch.device:
        """This process's own, on CUDA that of its number; `device` is what the parameter `device`, `name`, stands for.

        Raises ConfigError for a device that several processes cannot have.
        """
        count = self.share.processes
        if count == 1:
            return device
        if device.type == "mps" or (device.type == "cuda" and name not in ("auto", "cuda")):
            raise ConfigError(
                f"device: {name!r} given for {count} processes; 'cuda', of which each process takes one, or 'cpu' is "
                "allowed"
            )
        return torch.device("cuda", self.local) if device.type == "cuda" else device

    def sum(self, values: Tensor) -> Tensor:
        """The sum of the processes' values, in each of them."""
        if self.share.processes > 1:
            with _together():
                dist.all_reduce(values)
        return values

    def add(self, like: Sequence[Tensor], parts: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
        """Add up lists of tensors, each of the shapes of `like`, over this process's parts and those of all others.

        None is nothing to add, and the sum of nothing. Parts are added in their order, whichever process had them, so
        that the bits of a sum depend on the parts alone. The device is not waited for.
        """
        if self.share.processes == 1:
            return [_sum([term for term in terms if term is not None]) for terms in zip(*parts, strict=True)]
        parts = parts or [[None] * len(like)]
        used = torch.tensor([any(part[i] is not None for part in parts) for i in range(len(like))], dtype=torch.uint8)
        with _together():
            dist.all_reduce(used, dist.ReduceOp.MAX)  # on the host, which must know what there is no gradient of
        chosen = [i for i, is_used in enumerate(used.tolist()) if is_used]
        own = torch.stack([torch.cat([_filled(part[i], like[i]).flatten() for i in chosen]) for part in parts])
        every = own.new_empty(self.share.processes * len(own), own.shape[1])
        with _together():
            dist.all_gather_into_tensor(every, own)
        total = _sum(list(every))
        assert total is not None
        sums: list[Tensor | None] = [None] * len(like)
        for i, values in zip(chosen, total.split([like[i].numel() for i in chosen]), strict=True):
            sums[i] = torch.empty_like(like[i], requires_grad=False).copy_(values.view_as(like[i]))
        return sums

    def of_first(self, value: Any) -> Any:
        """What the first process gives, in all of them: tensors, numbers and texts in dicts and tuples.

        The tensors of the others are on the CPU.
        """
        if self.share.processes == 1:
            return value
        buffer = io.BytesIO()
        if self.first:
            torch.save(value, buffer)
        content = [buffer.getvalue()]
        with _together():
            dist.broadcast_object_list(content, src=0)
        return value if self.first else torch.load(io.BytesIO(content[0]), map_location="cpu", weights_only=True)

    def align(self, network: nn.Module) -> None:
        """Give all processes the buffers of the first, such as its running averages."""
        if self.share.processes > 1:
            with _together():
                for buffer in network.buffers():
                    dist.broadcast(buffer, src=0)

    def gather(self, names: list[str]) -> list[str]:
        """The names that any process has, in each of them, sorted."""
        if self.share.processes == 1:
            return sorted(set(names))
        lists: list[list[str]] = [[] for _ in range(self.share.processes)]
        with _together():
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
            with _together():
                dist.barrier()


ALONE = ProcessGroup(Shard(0, 1))


def _sum(terms: list[Tensor]) -> Tensor | None:
    """One after the other, in their order."""
    if not terms:
        return None
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _filled(tensor: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like, requires_grad=False) if tensor is None else tensor


@contextmanager
def _together() -> Iterator[None]:
    """What the processes do together. Raises LostProcessError where one of them is no longer there."""
    try:
        yield
    except RuntimeError as error:  # torch's own speaks of sockets
        raise LostProcessError(
            "another process of this job has ended, so this one ends too: what that one said stands beside this "
            f"({str(error).splitlines()[0]})"
        ) from error


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """Join the job that `torchrun` started, or be one process alone; leaves it at the end.

    device: the config's; NCCL connects processes on CUDA, gloo all others, and what lies on the host.
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
        dist.init_process_group("cpu:gloo,cuda:nccl", device_id=torch.device("cuda", local))
    else:
        dist.init_process_group("gloo")
    yield ProcessGroup(Shard(dist.get_rank(), dist.get_world_size()), local)
    dist.destroy_process_group()  # not after an error: the others may be waiting, and torchrun ends them
