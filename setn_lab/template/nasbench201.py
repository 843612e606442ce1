"""The template network of NAS-Bench-201's space: its macro-structure with every operation on every edge."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setn_lab.network.nasbench201 import STAGES, Reduction, stem
from setn_lab.network.operations import initialize
from setn_lab.space.nasbench201 import NASBench201Space
from setn_lab.template.cell import Cache, Cell, cached
from setn_lab.template.norm import BatchNorm


class NASBench201Template(nn.Module):
    """The weight-sharing network of this space; arguments and weights as in `template.setn.Template`."""

    cells: Any  # ModuleLists, of Cells and of Reductions
    reductions: Any

    def __init__(
        self,
        space: NASBench201Space,
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
            self.stem = stem(image_channels, channels, BatchNorm)
            self.cells = nn.ModuleList(Cell(space, width, lambda state: 1) for width in widths for _ in range(repeats))
            self.reductions = nn.ModuleList(Reduction(width, BatchNorm) for width, _ in pairwise(widths))
            self.norm = BatchNorm(widths[-1])
            self.classifier = nn.Linear(widths[-1], num_classes)
        self.to_empty(device="cpu")
        initialize(self, rng)
        self.to(memory_format=torch.channels_last)

    def sampled(
        self, images: Tensor, architectures: np.ndarray, drop_path: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Logits (b, classes) of one architecture per cell (Eq. 1): architectures (cells, 6).

        drop_path: factors (cells, 3, 3, b), or None. cache: as in `Template.sampled`, for the
        results on the first cell's input.
        """
        x = cached(cache, lambda module, images: module(images), self.stem, images)
        for index, cell in enumerate(self.cells):
            own_drop_path = None if drop_path is None else drop_path[index]
            states = cell.sampled_states([x], architectures[index], own_drop_path, [cache] if index == 0 else [])
            x = self._between(index, states[-1])
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
