"""What networks and operations cost: parameters, multiply-adds, and latency on a device.

The cost of a discrete network is that of its fixed parts (stem, preprocessing, classifier) plus that of its
operations, so a table with one entry per (cell type, edge, operation) gives the exact cost of any architecture and,
since it is linear in the mixing weights, the exact expected cost under the evaluator's distribution.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from setn_lab.compute.device import synchronize, to_device
from setn_lab.network.discrete import ImageNetNetwork, Network
from setn_lab.network.macro import Parts, Site
from setn_lab.network.macro import layout as paper_layout
from setn_lab.network.operations import Norm, affine_norm, build_operation, initialize
from setn_lab.space.genotype import Genotype
from setn_lab.space.protocol import Space


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-adds for one image (convolutions and linear layers), without the auxiliary head."""

    parameters: int
    multiply_adds: int


def cost(network: Network, image_size: int) -> Cost:
    """What the network costs for square images of that size, by torch's own counter; nothing is computed."""
    parameters = sum(value.numel() for name, value in network.named_parameters() if not name.startswith("auxiliary."))
    shape = 1, network.image_channels, image_size, image_size
    empty = copy.deepcopy(network).to("meta").eval()
    norms: list[nn.Module] = [module for module in empty.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:  # which count nothing, and take as long on the meta device as all else
        norm.forward = lambda x: x
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        empty(torch.empty(shape, device="meta"))
    return Cost(parameters, counter.get_total_flops() // 2)  # torch counts a multiply-add as two operations


MOBILE_MULTIPLY_ADDS = 600_000_000  # of ImageNet's mobile setting, at 224 x 224 pixels
MOBILE_REPEATS = 4  # N of its networks of 14 cells


def largest_channels(
    genotype: Genotype,
    repeats: int = MOBILE_REPEATS,
    multiply_adds: int = MOBILE_MULTIPLY_ADDS,
    image_size: int = 224,
    num_classes: int = 1000,
    network: type[Network] = ImageNetNetwork,
) -> int:
    """The largest C whose network of the genotype, with N = repeats, takes at most so many multiply-adds for an image.

    The defaults are ImageNet's mobile setting. Raises ValueError where not even C = 2 does.
    """

    def fits(channels: int) -> bool:
        return cost(network(genotype, channels, repeats, num_classes), image_size).multiply_adds <= multiply_adds

    low, high = 2, 4
    if not fits(low):
        raise ValueError(
            f"multiply_adds: {multiply_adds:,} given; with N = {repeats} the network of 2 channels takes more for an "
            f"image of {image_size} x {image_size}: give a lower N or more multiply-adds"
        )
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


Metric = Literal["parameters", "multiply_adds", "latency"]
Layout = Callable[[Space, int, int, int, int, int, Norm], tuple[Parts, list[Site]]]
Weights = TypeVar("Weights", NDArray[np.float64], Tensor)


@dataclass(frozen=True)
class CostTable:
    """The costs of one network size in one metric.

    operations: (cell_types, edges, |O|), an operation on an edge, summed over the cells of that type. fixed: everything
    else. Units: parameters, multiply-adds for one image (convolutions and the classifier), or seconds for a batch,
    without what it takes to add and concatenate states.
    """

    space: Space
    metric: Metric
    operations: NDArray[np.float64] | Tensor
    fixed: float

    def on(self, device: torch.device) -> "CostTable":
        """The same as float32 on that device: for mixing weights there, which otherwise it is copied to each time."""
        return replace(self, operations=to_device(torch.as_tensor(self.operations, dtype=torch.float32), device))

    def of(self, architecture: NDArray[np.int64]) -> float:
        """The cost of one architecture (cell_types, ...), for example quadruples (2, B, 4)."""
        edge = {pair: index for index, pair in enumerate(self.space.edges)}
        total = self.fixed
        for cell_type, cell in enumerate(architecture):
            for node, terms in enumerate(self.space.terms(cell)):
                costs = (self.operations[cell_type, edge[node, state], operation] for operation, state in terms)
                total += float(sum(costs))
        return total

    def of_all(self, architectures: NDArray[np.int64]) -> NDArray[np.float64]:
        """The costs (n,) of architectures (n, cell_types, ...), at least one."""
        space, table = self.space, np.asarray(self.operations)
        edge = np.zeros((space.nodes, max(state for _, state in space.edges) + 1), dtype=np.int64)
        for index, place in enumerate(space.edges):
            edge[place] = index
        total = np.full(len(architectures), self.fixed, dtype=np.float64)
        for cell_type in range(space.cell_types):
            cells = architectures[:, cell_type]
            operations, states = space.operands(cells)
            nodes = np.repeat(np.arange(space.nodes), [len(terms) for terms in space.terms(cells[0])])
            total += table[cell_type, edge[nodes, states], operations].sum(axis=-1)
        return total

    @property
    def lowest(self) -> float:
        """The lowest cost that an architecture of the space has."""
        return self.of(self.space.cheapest(np.asarray(self.operations)))

    def expected(self, weights: Weights) -> Weights:
        """The expected cost of an architecture drawn from the evaluator, given its mixing weights (types, edges, |O|).

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
    space: Space,
    channels: int,
    repeats: int,
    image_channels: int,
    image_size: int,
    num_classes: int,
    metric: Metric,
    *,
    layout: Layout = paper_layout,
    norm: Norm = affine_norm,
    device: torch.device | None = None,
    batch_size: int = 64,
) -> CostTable:
    """The table of the space's macro-structure with C = channels and N = repeats.

    layout: what the networks of the space have beside their operations. norm: makes the batch norms; those of final
    networks have parameters, those of the template none. Latency is measured on `device` with batches of `batch_size`,
    each part alone, see `latency`.
    """
    table = np.zeros((space.cell_types, len(space.edges), len(space.operations)))
    price = _pricing(metric, device or torch.device("cpu"), batch_size)
    prices: dict[tuple[str | int, ...], float] = {}
    with torch.device("meta"):  # only shapes are needed: no memory is taken and no weight drawn
        parts, sites = layout(space, channels, repeats, image_channels, image_size, num_classes, norm)
        fixed = 0.0
        for module, shape in parts:
            key: tuple[str | int, ...] = (f"{module}", *shape)  # cells of a stage are alike
            if key not in prices:
                prices[key] = price(module, shape)
            fixed += prices[key]
        for site in sites:
            for edge, (stride, side) in enumerate(site.edges):
                for index, name in enumerate(space.operations):
                    key = name, stride, site.channels, side, side
                    if key not in prices:
                        module = build_operation(name, site.channels, stride, norm)
                        prices[key] = price(module, (site.channels, side, side))
                    table[site.cell_type, edge, index] += prices[key]
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
        module(torch.empty(2, *shape))  # of two images: a batch norm refuses a single value for a channel
    return counter.get_total_flops() // 2 // 2  # torch counts a multiply-add as two operations


def _latency(module: nn.Module, shape: tuple[int, ...], device: torch.device) -> float:
    """`latency` of a module that was laid out on the meta device."""
    module = module.to_empty(device=device)
    initialize(module, np.random.default_rng(0))
    return latency(module, shape, device)


@torch.no_grad()
def latency(module: nn.Module, shape: tuple[int, ...], device: torch.device, repetitions: int = 7) -> float:
    """Seconds of one forward pass in evaluation, on that device: the median of several, after a warm-up.

    shape: of the input. The module stays in evaluation mode.
    """
    module.eval()
    x = torch.ones(shape, device=device)
    x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
    times = []
    for _ in range(repetitions + 2):
        synchronize(device)
        start = time.perf_counter()
        module(x)
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])
