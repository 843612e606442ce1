"""The macro-structure that templates and final networks share (section 3, and DARTS before it).

Stem, N normal cells, a reduction cell, N normal cells, a reduction cell, N normal cells, mean over the image, linear
classifier. Channels double at each reduction.
"""

from dataclasses import dataclass

from torch import nn

from setn_lab import ops
from setn_lab.batch_norm import BatchNorm
from setn_lab.space import INPUTS, Space

NORMAL, REDUCE = 0, 1  # the index of a cell's kind in quadruples, mixing weights and genotypes
STEM_MULTIPLIER = 3


@dataclass(frozen=True)
class CellPlan:
    """Where one cell stands: its kind, its channels, and those of its two inputs."""

    kind: int
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
    kinds = ([NORMAL] * repeats + [REDUCE]) * 2 + [NORMAL] * repeats
    before, previous = inputs or (STEM_MULTIPLIER * channels, STEM_MULTIPLIER * channels)
    cells = []
    for kind in kinds:
        channels *= 2 if kind == REDUCE else 1
        cells.append(CellPlan(kind, channels, before, previous, after_reduction))
        before, previous, after_reduction = previous, concatenated[kind] * channels, kind == REDUCE
    return cells


def edge_stride(kind: int, state: int) -> int:
    """In a reduction cell only the edges from its two inputs have stride 2."""
    return 2 if kind == REDUCE and state < INPUTS else 1


def stem(image_channels: int, channels: int, affine: bool) -> nn.Sequential:
    """A 3x3 convolution to 3 C channels and a batch norm."""
    return nn.Sequential(
        nn.Conv2d(image_channels, STEM_MULTIPLIER * channels, 3, padding=1, bias=False),
        BatchNorm(STEM_MULTIPLIER * channels, affine),
    )


def preprocessing(cell: CellPlan, affine: bool) -> tuple[ops.Convolution, ops.Convolution]:
    """What brings a cell's two inputs to its channels, and the first one to its resolution."""
    first = ops.factorized_reduction if cell.after_reduction else ops.pointwise_conv
    return (
        first(cell.before_previous, cell.channels, affine),
        ops.pointwise_conv(cell.previous, cell.channels, affine),
    )


@dataclass(frozen=True)
class Site:
    """A cell of a network, for its costs: its kind, its channels, and the (stride, side of the image) of each edge."""

    kind: int
    channels: int
    edges: list[tuple[int, int]]


Parts = list[tuple[nn.Module, tuple[int, ...]]]  # modules, each with the shape of its input, without the batch


def layout(
    space: Space, channels: int, repeats: int, image_channels: int, image_size: int, num_classes: int, affine: bool
) -> tuple[Parts, list[Site]]:
    """What a network of the space has beside its operations, and where the operations stand."""
    cells = plan(channels, repeats, (space.nodes, space.nodes))
    features = space.nodes * cells[-1].channels
    parts: Parts = [
        (stem(image_channels, channels, affine), (image_channels, image_size, image_size)),
        (nn.Linear(features, num_classes), (features,)),
    ]
    sites = []
    side = before = image_size  # of the cell's two inputs; the one before may still be twice as large
    for cell in cells:
        first, second = preprocessing(cell, affine)
        parts += [(first, (cell.before_previous, before, before)), (second, (cell.previous, side, side))]
        half = -(-side // edge_stride(cell.kind, 0))
        edges = [(edge_stride(cell.kind, state), side if state < INPUTS else half) for _, state in space.edges]
        sites.append(Site(cell.kind, cell.channels, edges))
        before, side = side, half
    return parts, sites
