"""How near a step is to what the machine can do: its operations and bytes against measured peak rates."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


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


class _Bytes(TorchDispatchMode):
    """Adds up the bytes of all tensors that kernels read and write; views move nothing."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in str(func) and "detach" not in str(func):
            for value in (*args, *(kwargs or {}).values(), *(result if isinstance(result, tuple) else [result])):
                for tensor in value if isinstance(value, list | tuple) else [value]:
                    if isinstance(tensor, Tensor):
                        self.total += tensor.numel() * tensor.element_size()
        return result


def work(step: Callable[[], Any]) -> tuple[float, float]:
    """The FLOPs of a step (products and convolutions, by torch's counter) and the bytes its kernels read and write."""
    with FlopCounterMode(display=False) as flops:
        step()
    with _Bytes() as moved:
        step()
    return flops.get_total_flops(), moved.total


def limit_fraction(step: Callable[[], Any], seconds: float, machine: Machine) -> tuple[float, str]:
    """The share of the tighter limit that a step reaches, and which limit that is."""
    flops, moved = work(step)
    needs = {"products": flops / machine.products, "copies": moved / machine.copies}
    tighter = max(needs, key=needs.__getitem__)
    return needs[tighter] / seconds, tighter
