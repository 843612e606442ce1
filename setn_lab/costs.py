"""What operations cost: parameters, multiply-adds, and latency on a device.

The cost of a discrete network is that of its fixed parts (stem, preprocessing, classifier) plus that of its
operations, so a table with one entry per (cell kind, edge, operation) gives the exact cost of any architecture and,
since it is linear in the mixing weights, the exact expected cost under the evaluator's distribution.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from setn_lab import ops
from setn_lab.macro import edge_stride, plan, preprocessing, stem
from setn_lab.space import INPUTS, Quadruples, SearchSpace

Metric = Literal["parameters", "multiply_adds", "latency"]
Weights = TypeVar("Weights", NDArray[np.float64], Tensor)


@dataclass(frozen=True)
class CostTable:
    """The costs of one network size in one metric.

    operations: (2, edges, |O|), an operation on an edge, summed over the cells of that kind. fixed: everything
    else. Units: parameters, multiply-adds for one image (convolutions and the classifier), or seconds for a batch.
    """

    space: SearchSpace
    metric: Metric
    operations: NDArray[np.float64]
    fixed: float

    def of(self, quadruples: Quadruples) -> float:
        """The cost of one architecture, quadruples (2, B, 4)."""
        edge = {pair: index for index, pair in enumerate(self.space.edges)}
        total = self.fixed
        for kind, cell in enumerate(quadruples.tolist()):
            for node, (r1, r2, t, u) in enumerate(cell):
                total += self.operations[kind, edge[node, t], r1] + self.operations[kind, edge[node, u], r2]
        return float(total)

    def expected(self, weights: Weights) -> Weights:
        """The expected cost of an architecture drawn from the evaluator, given its mixing weights (2, edges, |O|).

        Exact: the weight of an operation on an edge is how often a drawn node uses it, and costs add. A tensor
        of weights gives a differentiable scalar.
        """
        if isinstance(weights, Tensor):
            table = torch.as_tensor(self.operations, dtype=weights.dtype, device=weights.device)
            return self.fixed + (weights * table).sum()
        return self.fixed + (weights * self.operations).sum()

    def everything(self) -> float:
        """The cost of the template: every operation on every edge once."""
        return float(self.fixed + self.operations.sum())


def cost_table(
    space: SearchSpace,
    channels: int,
    repeats: int,
    image_channels: int,
    image_size: int,
    num_classes: int,
    metric: Metric,
    *,
    affine: bool = True,
    device: torch.device | None = None,
    batch_size: int = 64,
) -> CostTable:
    """The table of the CIFAR macro-structure with C = channels and N = repeats.

    affine: whether batch norms have parameters, as in final networks; the template's have none. Latency is
    measured on `device` with batches of `batch_size`: forward only, the median of several runs, operations only.
    """
    cells = plan(channels, repeats, (space.nodes, space.nodes))
    table = np.zeros((2, len(space.edges), len(space.operations)))
    price = _pricing(metric, device or torch.device("cpu"), batch_size)
    fixed, known = 0.0, {}
    with torch.device("meta"):  # only shapes are needed: no memory is taken and no weight drawn
        if metric != "latency":
            fixed += price(stem(image_channels, channels, affine), (image_channels, image_size, image_size))
            features = space.nodes * cells[-1].channels
            fixed += price(nn.Linear(features, num_classes), (features,))
        side = before = image_size  # of the cell's two inputs; the one before may still be twice as large
        for cell in cells:
            if metric != "latency":
                first, second = preprocessing(cell, affine)
                fixed += price(first, (cell.before_previous, before, before))
                fixed += price(second, (cell.previous, side, side))
            half = -(-side // edge_stride(cell.kind, 0))
            for edge, (_, state) in enumerate(space.edges):
                entrance = side if state < INPUTS else half
                for index, name in enumerate(space.operations):
                    key = name, cell.channels, edge_stride(cell.kind, state), entrance
                    if key not in known:
                        module = ops.build(name, cell.channels, key[2], affine)
                        known[key] = price(module, (cell.channels, entrance, entrance))
                    table[cell.kind, edge, index] += known[key]
            before, side = side, half
    return CostTable(space, metric, table, fixed)


def _pricing(metric: Metric, device: torch.device, batch_size: int) -> Callable[[nn.Module, tuple[int, ...]], float]:
    """The function that measures a module (laid out on the meta device) for one input of the given shape."""
    if metric == "parameters":
        return lambda module, shape: sum(parameter.numel() for parameter in module.parameters())
    if metric == "multiply_adds":
        return _multiply_adds
    return lambda module, shape: _latency(module, (batch_size, *shape), device)


def _multiply_adds(module: nn.Module, shape: tuple[int, ...]) -> float:
    with FlopCounterMode(display=False) as counter:
        module(torch.empty(1, *shape))
    return counter.get_total_flops() // 2  # torch counts a multiply-add as two operations


def _latency(module: nn.Module, shape: tuple[int, ...], device: torch.device, repetitions: int = 7) -> float:
    """Seconds of one forward pass: the median of several, after a warm-up."""
    module = module.to_empty(device=device)
    ops.initialize(module, np.random.default_rng(0))
    x = torch.ones(shape, device=device).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.no_grad():
        for _ in range(repetitions + 2):
            synchronize(device)
            start = time.perf_counter()
            module(x)
            synchronize(device)
            times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
