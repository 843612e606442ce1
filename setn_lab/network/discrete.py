"""The discrete networks of a Genotype, for CIFAR and for ImageNet (section 5.2).

The conventions are those of DARTS, whose sizes these networks have: batch norms are affine and keep running averages,
a cell's inputs are preprocessed, an auxiliary classifier stands after two thirds of the cells.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setn_lab.compute.streams import generator
from setn_lab.network.macro import CellPlan, edge_stride, imagenet_stem, plan, preprocessing, stem
from setn_lab.network.operations import ReLUConvBN, affine_norm, build_operation, initialize
from setn_lab.space.genotype import Cell as CellGenotype
from setn_lab.space.genotype import Genotype


class Outputs(NamedTuple):
    """Logits (b, classes), and those of the auxiliary head in training; None without one and in evaluation."""

    logits: Tensor
    auxiliary: Tensor | None


class NetworkCell(nn.Module):
    """One discrete cell: its inputs' preprocessing and two operations a node."""

    edges: Any  # nested ModuleLists, whose elements type checkers cannot know

    def __init__(self, nodes: CellGenotype, concat: tuple[int, ...], cell: CellPlan) -> None:
        super().__init__()
        self.preprocess0, self.preprocess1 = preprocessing(cell, affine_norm)
        self.sources = [[state for _, state in node] for node in nodes]
        self.concat = concat
        self.edges = nn.ModuleList(
            nn.ModuleList(
                build_operation(name, cell.channels, edge_stride(cell.cell_type, state)) for name, state in node
            )
            for node in nodes
        )

    def forward(self, before: Tensor, previous: Tensor, drop_path: Tensor | None) -> Tensor:
        """(b, concatenated * C, h, w); `before` and `previous` after their ReLU.

        drop_path (B, 2, b): the path dropout of the two operations of each node, a factor a sample; None is none. The
        identity is never dropped.
        """
        states = [self.preprocess0.from_relu(before), self.preprocess1.from_relu(previous)]
        if drop_path is not None:
            drop_path = drop_path.to(states[0].dtype)  # float32 would raise the states' precision
        active: dict[int, Tensor] = {}  # relu of the states that operations start with
        for node, (sources, operations) in enumerate(zip(self.sources, self.edges, strict=True)):
            terms = []
            for side, (state, operation) in enumerate(zip(sources, operations, strict=True)):
                if type(operation) is ReLUConvBN:
                    if state not in active:
                        active[state] = F.relu(states[state])
                    term = operation.from_relu(active[state])
                else:
                    term = operation(states[state])
                if drop_path is not None and not isinstance(operation, nn.Identity):
                    term = term * drop_path[node, side, :, None, None, None]
                terms.append(term)
            states.append(terms[0] + terms[1])
        return torch.cat([states[state] for state in self.concat], dim=1)


class AuxiliaryHead(nn.Module):
    """A second classifier on the features after two thirds of the cells: it trains the lower cells (Szegedy et al.)."""

    def __init__(self, channels: int, num_classes: int, pool_stride: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.AvgPool2d(5, pool_stride, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            affine_norm(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 768, 2, bias=False),
            affine_norm(768),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, active: Tensor) -> Tensor:
        """Logits (b, classes) from (b, channels, h, w) after its ReLU, h and w at least 8 (CIFAR) or 7 (ImageNet)."""
        return self.classifier(self.features(active).mean((2, 3)))


class Network(nn.Module, ABC):
    """What both networks share: 3 N + 2 cells, mean, classifier, auxiliary head; C = channels, N = repeats.

    image_channels: 1 for grey images. rng: draws the weights; the same ones each time by default.
    """

    cells: Any  # a ModuleList of NetworkCells
    pool_stride: int  # of the auxiliary head

    def __init__(
        self,
        genotype: Genotype,
        channels: int,
        repeats: int,
        num_classes: int,
        auxiliary: bool = False,
        image_channels: int = 3,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.genotype, self.image_channels = genotype, image_channels
        concatenated = len(genotype.normal_concat), len(genotype.reduce_concat)
        self.plan = self._plan(channels, repeats, concatenated)
        self.place = 2 * len(self.plan) // 3  # the cell whose output the auxiliary head reads
        outputs = [cell.channels * concatenated[cell.cell_type] for cell in self.plan]
        parts = [(nodes, concat) for _, nodes, concat in genotype.cells]
        with torch.device("meta"):  # modules are laid out without drawing weights from the global generator
            self.cells = nn.ModuleList(NetworkCell(*parts[cell.cell_type], cell) for cell in self.plan)
            self.auxiliary = AuxiliaryHead(outputs[self.place], num_classes, self.pool_stride) if auxiliary else None
            self.classifier = nn.Linear(outputs[-1], num_classes)
            self._make_stem(image_channels, channels)
        self.to_empty(device="cpu")
        initialize(self, rng or generator(0, "network weights"))
        self.to(memory_format=torch.channels_last)

    @abstractmethod
    def _plan(self, channels: int, repeats: int, concatenated: tuple[int, int]) -> list[CellPlan]:
        """Where each cell stands."""

    @abstractmethod
    def _make_stem(self, image_channels: int, channels: int) -> None:
        """What makes the first cell's inputs of the images."""

    @abstractmethod
    def inputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The first cell's two inputs, after their ReLU."""

    def forward(self, images: Tensor, drop_path: Tensor | None = None) -> Outputs:
        """images: (b, c, h, w), normalised. drop_path: path dropout factors (cells, B, 2, b), or None."""
        before, previous = self.inputs(images)
        auxiliary = None
        for index, cell in enumerate(self.cells):
            output = cell(before, previous, None if drop_path is None else drop_path[index])
            if index < len(self.cells) - 1:
                before, previous = previous, output.relu_()  # the next two cells, and the head, read it after a ReLU
            if index == self.place and self.auxiliary is not None and self.training:
                auxiliary = self.auxiliary(output)
        return Outputs(self.classifier(output.mean((2, 3))), auxiliary)

    @property
    def paths(self) -> tuple[int, int, int]:
        """The shape of path dropout's factors without the batch: (cells, B, 2)."""
        return len(self.cells), max(len(cell.edges) for cell in self.cells), 2


class CifarNetwork(Network):
    """A 3x3 stem to 3 C channels, then the cells."""

    pool_stride = 3

    def _plan(self, channels: int, repeats: int, concatenated: tuple[int, int]) -> list[CellPlan]:
        return plan(channels, repeats, concatenated)

    def _make_stem(self, image_channels: int, channels: int) -> None:
        self.stem = stem(image_channels, channels, affine_norm)

    def inputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The stem's output twice."""
        output = self.stem(images).relu_()
        return output, output


class ImageNetNetwork(Network):
    """Three 3x3 convolutions of stride 2 (to C//2, C, C), then the cells.

    The first cell reads the results of the second and the third convolution, so it stands as after a reduction.
    """

    pool_stride = 2

    def _plan(self, channels: int, repeats: int, concatenated: tuple[int, int]) -> list[CellPlan]:
        return plan(channels, repeats, concatenated, (channels, channels), after_reduction=True)

    def _make_stem(self, image_channels: int, channels: int) -> None:
        self.stem, self.second_stem = imagenet_stem(image_channels, channels, affine_norm)

    def inputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """A quarter and an eighth of the images' resolution."""
        before = self.stem(images).relu_()
        return before, self.second_stem(before).relu_()
