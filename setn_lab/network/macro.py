"""The macro-structure that templates and final networks share (section 3, and DARTS before it).

Stem, N normal cells, a reduction cell, N normal cells, a reduction cell, N normal cells, mean over the image, linear
classifier. Channels double at each reduction.
"""

from dataclasses import dataclass

from torch import nn

from setn_lab.network.operations import Norm, ReLUConvBN, factorized_reduction, pointwise_conv
from setn_lab.space.genotype import INPUTS
from setn_lab.space.protocol import Space

NORMAL, REDUCE = 0, 1  # the index of a cell type in quadruples, mixing weights and genotypes


STEM_MULTIPLIER = 3


@dataclass(frozen=True)
class CellPlan:
    """Where one cell stands: its type, its channels, and those of its two inputs."""

    cell_type: int
    channels: int
    before_previous: int
    previous: int
    after_reduction: bool  # the input before the previous one then has twice the resolution


def plan(
    channels: int,
    repeats: int,
    concatenated: tuple[int, int],
    inputs: tuple[int, int] | None = None,
    after_reduction: bool = False,
) -> list[CellPlan]:
    """The cells of a network: 3 N normal ones, and a reduction after each third but the last.

    concatenated: the number of nodes that a normal and a reduction cell concatenate. inputs: the channels of the first
    cell's two inputs, by default the CIFAR stem's 3 C; after_reduction: whether the first of them has twice the
    resolution of the second.
    """
    cell_types = ([NORMAL] * repeats + [REDUCE]) * 2 + [NORMAL] * repeats
    before, previous = inputs or (STEM_MULTIPLIER * channels, STEM_MULTIPLIER * channels)
    cells = []
    for cell_type in cell_types:
        channels *= 2 if cell_type == REDUCE else 1
        cells.append(CellPlan(cell_type, channels, before, previous, after_reduction))
        before, previous, after_reduction = previous, concatenated[cell_type] * channels, cell_type == REDUCE
    return cells


def edge_stride(cell_type: int, state: int) -> int:
    """In a reduction cell only the edges from its two inputs have stride 2."""
    return 2 if cell_type == REDUCE and state < INPUTS else 1


def stem(image_channels: int, channels: int, norm: Norm) -> nn.Sequential:
    """A 3x3 convolution to 3 C channels and a batch norm."""
    return nn.Sequential(
        nn.Conv2d(image_channels, STEM_MULTIPLIER * channels, 3, padding=1, bias=False),
        norm(STEM_MULTIPLIER * channels),
    )


def imagenet_stem(image_channels: int, channels: int, norm: Norm) -> tuple[nn.Sequential, nn.Sequential]:
    """Three 3x3 convolutions of stride 2, each with a batch norm: the first two, to C//2 and C, and the third, to C."""
    half = channels // 2
    first = *_halving(image_channels, half, norm), nn.ReLU(inplace=True), *_halving(half, channels, norm)
    return nn.Sequential(*first), nn.Sequential(*_halving(channels, channels, norm))


def _halving(inputs: int, outputs: int, norm: Norm) -> tuple[nn.Conv2d, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), norm(outputs)


def preprocessing(cell: CellPlan, norm: Norm) -> tuple[ReLUConvBN, ReLUConvBN]:
    """What brings a cell's two inputs to its channels, and the first one to its resolution."""
    first = factorized_reduction if cell.after_reduction else pointwise_conv
    return (
        first(cell.before_previous, cell.channels, norm),
        pointwise_conv(cell.previous, cell.channels, norm),
    )


@dataclass(frozen=True)
class Site:
    """A cell of a network, for its costs: its type, its channels, and the (stride, side of the image) of each edge."""

    cell_type: int
    channels: int
    edges: list[tuple[int, int]]


Parts = list[tuple[nn.Module, tuple[int, ...]]]  # modules, each with the shape of its input, without the batch


def layout(
    space: Space, channels: int, repeats: int, image_channels: int, image_size: int, num_classes: int, norm: Norm
) -> tuple[Parts, list[Site]]:
    """What a network of the space has beside its operations, and where the operations stand."""
    cells = plan(channels, repeats, (space.nodes, space.nodes))
    parts: Parts = [(stem(image_channels, channels, norm), (image_channels, image_size, image_size))]
    return _with_cells(space, cells, parts, (image_size, image_size), num_classes, norm)


def imagenet_layout(
    space: Space, channels: int, repeats: int, image_channels: int, image_size: int, num_classes: int, norm: Norm
) -> tuple[Parts, list[Site]]:
    """The same of the network for ImageNet, whose first cell reads a quarter and an eighth of the image's side."""
    cells = plan(channels, repeats, (space.nodes, space.nodes), (channels, channels), after_reduction=True)
    first, second = imagenet_stem(image_channels, channels, norm)
    quarter = -(-image_size // 4)
    parts: Parts = [
        (first, (image_channels, image_size, image_size)),
        (second, (channels, quarter, quarter)),
    ]
    return _with_cells(space, cells, parts, (quarter, -(-quarter // 2)), num_classes, norm)


def _with_cells(
    space: Space, cells: list[CellPlan], parts: Parts, sides: tuple[int, int], num_classes: int, norm: Norm
) -> tuple[Parts, list[Site]]:
    """A stem's parts and those of the cells and the classifier. sides: of the first cell's two inputs."""
    features = space.nodes * cells[-1].channels
    parts = [*parts, (nn.Linear(features, num_classes), (features,))]
    sites = []
    before, side = sides  # the one before may still be twice as large
    for cell in cells:
        first, second = preprocessing(cell, norm)
        parts += [(first, (cell.before_previous, before, before)), (second, (cell.previous, side, side))]
        half = -(-side // edge_stride(cell.cell_type, 0))
        edges = [(edge_stride(cell.cell_type, state), side if state < INPUTS else half) for _, state in space.edges]
        sites.append(Site(cell.cell_type, cell.channels, edges))
        before, side = side, half
    return parts, sites
