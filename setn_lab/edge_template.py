"""The template network of NAS-Bench-201's space: its macro-structure with every operation on every edge.

Stem, N cells of C channels, a residual block that halves the image and doubles the channels, N cells, another block,
N cells, batch norm, ReLU, mean over the image, linear classifier. The benchmark has C = 16 and N = 5.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setn_lab import ops
from setn_lab.batch_norm import BatchNorm
from setn_lab.edge_space import EdgeSpace
from setn_lab.macro import Parts, Site
from setn_lab.space import Space
from setn_lab.template import Operations, Results, recall

STAGES = 3


class Reduction(nn.Module):
    """The residual block between two stages: C channels in, 2 C out, half the side."""

    def __init__(self, channels: int, affine: bool) -> None:
        super().__init__()
        self.first = ops.normal_conv(channels, 2 * channels, 3, 2, affine)
        self.second = ops.normal_conv(2 * channels, 2 * channels, 3, 1, affine)
        pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)  # an odd side is rounded up, as by `first`
        self.shortcut = nn.Sequential(pool, nn.Conv2d(channels, 2 * channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, h, w) to (b, 2 C, ceil(h/2), ceil(w/2))."""
        return self.shortcut(x) + self.second(self.first(x))


class EdgeTemplate(nn.Module):
    """The weight-sharing network, for images of `image_channels` and `num_classes` classes; see `template.Template`."""

    cells: Any  # a ModuleList of Operations

    def __init__(
        self,
        space: EdgeSpace,
        channels: int,
        repeats: int,
        image_channels: int,
        num_classes: int,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        self.space, self.repeats = space, repeats
        widths = [channels * 2**stage for stage in range(STAGES)]
        with torch.device("meta"):
            self.stem = _stem(image_channels, channels, affine=False)
            self.cells = nn.ModuleList(
                Operations(space, width, lambda state: 1) for width in widths for _ in range(repeats)
            )
            self.reductions = nn.ModuleList(Reduction(width, affine=False) for width, _ in pairwise(widths))
            self.norm = BatchNorm(widths[-1], affine=False)
            self.classifier = nn.Linear(widths[-1], num_classes)
        self.to_empty(device="cpu")
        ops.initialize(self, rng)
        self.to(memory_format=torch.channels_last)

    def sampled(
        self, images: Tensor, architectures: np.ndarray, keep: Tensor | None = None, known: Results | None = None
    ) -> Tensor:
        """Logits (b, classes) of one architecture per cell (Eq. 1): architectures (cells, 6), keep (cells, 3, 3, b).

        known: as in `Template.sampled`; it takes up the results on the first cell's input.
        """
        x = recall(known, lambda module, images: module(images), self.stem, images)
        for index, cell in enumerate(self.cells):
            shared = [known] if index == 0 else []
            x = cell.sampled_states([x], architectures[index], None if keep is None else keep[index], shared)[-1]
            x = self._between(index, x)
        return self._head(x)

    def mixed(self, images: Tensor, weights: Tensor) -> Tensor:
        """Logits (b, classes) with every operation weighed (Eq. 10): weights (1, 6, 5)."""
        x = self.stem(images)
        for index, cell in enumerate(self.cells):
            x = self._between(index, cell.mixed_states([x], weights[0])[-1])
        return self._head(x)

    def per_cell(self, architecture: np.ndarray) -> np.ndarray:
        """One architecture (1, 6) as the (cells, 6) that `sampled` takes."""
        return np.repeat(architecture, len(self.cells), axis=0)

    def _between(self, index: int, x: Tensor) -> Tensor:
        """What follows a cell: the block that ends its stage, if it is the last one of it."""
        stage, place = divmod(index, self.repeats)
        return self.reductions[stage](x) if place + 1 == self.repeats and stage < STAGES - 1 else x

    def _head(self, x: Tensor) -> Tensor:
        return self.classifier(F.relu(self.norm(x)).mean((2, 3)))


def layout(
    space: Space, channels: int, repeats: int, image_channels: int, image_size: int, num_classes: int, affine: bool
) -> tuple[Parts, list[Site]]:
    """What a network of the benchmark has beside its operations, and where the operations stand; as `macro.layout`."""
    parts: Parts = [(_stem(image_channels, channels, affine), (image_channels, image_size, image_size))]
    sites = []
    side = image_size
    for stage in range(STAGES):
        sites += [Site(0, channels, [(1, side)] * len(space.edges))] * repeats
        if stage < STAGES - 1:
            parts.append((Reduction(channels, affine), (channels, side, side)))
            channels, side = 2 * channels, -(-side // 2)
    parts += [
        (BatchNorm(channels, affine), (channels, side, side)),
        (nn.Linear(channels, num_classes), (channels,)),
    ]
    return parts, sites


def _stem(image_channels: int, channels: int, affine: bool) -> nn.Sequential:
    convolution = nn.Conv2d(image_channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, BatchNorm(channels, affine))
