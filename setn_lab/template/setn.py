"""The template network of the paper's space: every candidate, its weights shared by all of them (section 4.1).

Weights belong to one (cell, node, input, operation). Two ways through them:
- `Template.sampled` (Eq. 1) follows one architecture and touches only what it uses;
- `Template.mixed` (Eq. 10) weighs every operation on every input by the evaluator's probabilities.

The macro-structure is that of the discrete network for CIFAR, or with its stem that for ImageNet, see `network.macro`.
"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from setn_lab.network.macro import CellPlan, edge_stride, imagenet_stem, plan, preprocessing
from setn_lab.network.macro import stem as cifar_stem
from setn_lab.network.operations import ReLUConvBN, initialize
from setn_lab.space.genotype import INPUTS
from setn_lab.space.protocol import Space
from setn_lab.space.setn import SearchSpace
from setn_lab.template.cell import Cache, Cell, ConcatReLU, cached, pooled
from setn_lab.template.norm import BatchNorm


class TemplateCell(Cell):
    """A cell of the paper's space: two inputs, brought to its size, and all nodes as its output."""

    def __init__(self, space: Space, spot: CellPlan) -> None:
        super().__init__(space, spot.channels, lambda state: edge_stride(spot.cell_type, state))
        edges = self._modules.pop("edges")
        self.preprocess0, self.preprocess1 = preprocessing(spot, BatchNorm)
        self.edges = edges  # last: the order of a cell's parts is that in which its weights are drawn

    def sampled(
        self,
        before: Tensor,
        previous: Tensor,
        quadruples: np.ndarray,
        drop_path: Tensor | None,
        caches: tuple[Cache | None, Cache | None] = (None, None),
    ) -> list[Tensor]:
        """The nodes by Eq. 1: quadruples (B, 4), from `before` and `previous` after their ReLU, which have `caches`.

        drop_path: (B, 2, b).
        """
        inputs = [
            cached(caches[0], ReLUConvBN.from_relu, self.preprocess0, before),
            cached(caches[1], ReLUConvBN.from_relu, self.preprocess1, previous),
        ]
        return self.sampled_states(inputs, quadruples, drop_path, caches)[INPUTS:]

    def mixed(self, before: Tensor, previous: Tensor, weights: Tensor) -> list[Tensor]:
        """The nodes by Eq. 10 with `weights` (edges, |O|), see `evaluator.setn.mix`; from the same."""
        inputs = [self.preprocess0.from_relu(before), self.preprocess1.from_relu(previous)]
        return self.mixed_states(inputs, weights)[INPUTS:]


class Template(nn.Module):
    """The weight-sharing network of the paper's space, for images of `image_channels` and `num_classes` classes.

    head: what comes before the classifier, the mean over the image alone or after a batch norm and a ReLU, as in the
    template that the authors released. stem: as of the final network of that name; the first cell then reads what
    `inputs` says.

    Weights are filled from `rng` alone. They are kept channels-last, the layout in which depthwise convolutions
    are fast on every device.
    """

    cells: Any  # a ModuleList of TemplateCells
    second_stem: nn.Sequential | None

    def __init__(
        self,
        space: SearchSpace,
        channels: int,
        repeats: int,
        image_channels: int,
        num_classes: int,
        rng: np.random.Generator,
        head: Literal["norm", "mean"] = "norm",
        stem: Literal["cifar", "imagenet"] = "cifar",
    ) -> None:
        super().__init__()
        self.space = space
        with torch.device("meta"):  # modules are laid out without drawing weights from the global generator
            concatenated = space.nodes, space.nodes
            if stem == "imagenet":
                self.plan = plan(channels, repeats, concatenated, (channels, channels), after_reduction=True)
                self.stem, self.second_stem = imagenet_stem(image_channels, channels, BatchNorm)
            else:
                self.plan = plan(channels, repeats, concatenated)
                self.stem, self.second_stem = cifar_stem(image_channels, channels, BatchNorm), None
            self.cells = nn.ModuleList(TemplateCell(space, spot) for spot in self.plan)
            features = space.nodes * self.plan[-1].channels
            self.norm = BatchNorm(features) if head == "norm" else None
            self.classifier = nn.Linear(features, num_classes)
        self.to_empty(device="cpu")
        initialize(self, rng)
        self.to(memory_format=torch.channels_last)

    def inputs(self, images: Tensor, cache: Cache | None = None) -> tuple[Tensor, Tensor]:
        """The first cell's two inputs, after their ReLU: the stem's output twice.

        With ImageNet's stem a quarter and an eighth of the images' resolution.
        """
        before = cached(cache, _stem, self.stem, images)
        return before, before if self.second_stem is None else cached(cache, _stem, self.second_stem, before)

    def sampled(
        self, images: Tensor, quadruples: np.ndarray, drop_path: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Logits (b, classes) of one architecture per cell (Eq. 1).

        images: (b, c, h, w), normalised. quadruples: (cells, B, 4), one architecture for each cell of the
        network. drop_path: factors (cells, B, 2, b), or None. cache: an empty dictionary, to be passed again
        with the next architectures on the same images, which takes up the results on the stem's output (the first
        cell's two inputs and the second's first one): they are the same for all, up to the order of sums. For use
        without gradients and without `drop_path`.
        """
        before, previous = self.inputs(images, cache)
        for index, cell in enumerate(self.cells):
            of_stem = INPUTS - index  # so many of the cell's inputs are the stem's output
            nodes = cell.sampled(
                before,
                previous,
                quadruples[index],
                None if drop_path is None else drop_path[index],
                (cache if of_stem > 0 else None, cache if of_stem > 1 else None),
            )
            if index < len(self.cells) - 1:
                before, previous = previous, ConcatReLU.apply(*nodes)  # the next two cells read it after a ReLU
        return self.classifier(pooled(nodes, self.norm))

    def mixed(self, images: Tensor, weights: Tensor) -> Tensor:
        """Logits (b, classes) with every operation weighed (Eq. 10).

        images: (b, c, h, w), normalised. weights: (2, edges, |O|), normal cells first.
        """
        before, previous = self.inputs(images)
        for index, (spot, cell) in enumerate(zip(self.plan, self.cells, strict=True)):
            nodes = cell.mixed(before, previous, weights[spot.cell_type])
            if index < len(self.cells) - 1:
                before, previous = previous, ConcatReLU.apply(*nodes)
        return self.classifier(pooled(nodes, self.norm))

    def per_cell(self, quadruples: np.ndarray) -> np.ndarray:
        """One architecture (2, B, 4), a normal and a reduction cell, as the (cells, B, 4) that `sampled` takes."""
        return quadruples[[spot.cell_type for spot in self.plan]]


def _stem(module: nn.Module, images: Tensor) -> Tensor:
    return module(images).relu_()
