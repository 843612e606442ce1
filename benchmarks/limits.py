"""How near a step is to what the machine can do: its operations and bytes against measured peak rates."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


@dataclass(frozen=True)
class Machine:
    """Measured peaks: matrix products in FLOP/s (a multiplication and an addition are two), copies in bytes/s."""

    products: float
    copies: float

    @classmethod
    def measure(cls) -> "Machine":
        """float32 products of 2048 x 2048 matrices, and copies of 256 MiB (read and written bytes counted)."""
        a, b = torch.randn(2048, 2048), torch.randn(2**26)
        c, d = torch.empty_like(a), torch.empty_like(b)
        return cls(
            products=2 * 2048**3 / _median(lambda: torch.mm(a, a, out=c)),
            copies=2 * b.numel() * b.element_size() / _median(lambda: d.copy_(b)),
        )


def _median(run: Callable[[], Any], repetitions: int = 9) -> float:
    seconds = []
    for _ in range(repetitions + 2):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


class _Work(TorchDispatchMode):
    """Adds up FLOPs, by torch's formulas, and the bytes that kernels read and write; views move nothing."""

    flops = moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        if func.overloadpacket in (aten.index_select, aten.index):
            self.moved += 2 * result.numel() * result.element_size()  # what is not selected is not read
        elif not func.is_view and "empty" not in str(func) and "detach" not in str(func):
            for value in (*args, *kwargs.values(), *(result if isinstance(result, tuple) else [result])):
                for tensor in value if isinstance(value, list | tuple) else [value]:
                    if isinstance(tensor, Tensor):
                        self.moved += tensor.numel() * tensor.element_size()
        return result


def needs(step: Callable[[], Any], machine: Machine, times: int = 1) -> dict[str, float]:
    """The seconds that a step needs at least, if the machine does nothing but its products, or its copies.

    The mean over so many steps, where they differ.
    """
    with _Work() as work:
        for _ in range(times):
            step()
    return {"products": work.flops / machine.products / times, "copies": work.moved / machine.copies / times}
