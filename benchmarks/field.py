"""The baselines: a search as the field's public code writes it (DARTS and its successors), independent of setn_lab.

Every operation is a module that starts with its own ReLU; a mixed edge calls them one after the other and sums the
weighted results; tensors are in torch's default, contiguous layout; gradients are computed for all weights; images
are transformed one by one by torchvision in a DataLoader. The operations, the sizes and the macro-structure are those
of the template, so that with the same weights the results are the same (tests/test_benchmarks.py).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)


def conv(inputs: int, outputs: int, kernel, stride=1, padding=0, dilation=1, groups=1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)


class ReLUConvBN(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.ReLU(), conv(inputs, outputs, 1), norm(outputs))


class FactorizedReduce(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = conv(inputs, outputs // 2, 1, stride=2)
        self.conv_2 = conv(inputs, outputs - outputs // 2, 1, stride=2)
        self.bn = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


class SepConv(nn.Sequential):
    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(
            nn.ReLU(),
            conv(channels, channels, kernel, stride, kernel // 2, groups=channels),
            conv(channels, channels, 1),
            norm(channels),
            nn.ReLU(),
            conv(channels, channels, kernel, 1, kernel // 2, groups=channels),
            conv(channels, channels, 1),
            norm(channels),
        )


class DilConv(nn.Sequential):
    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(
            nn.ReLU(),
            conv(channels, channels, kernel, stride, kernel - 1, dilation=2, groups=channels),
            conv(channels, channels, 1),
            norm(channels),
        )


class RowColumnConv(nn.Sequential):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(
            nn.ReLU(),
            conv(channels, channels, (1, 3), (1, stride), (0, 1)),
            conv(channels, channels, (3, 1), (stride, 1), (1, 0)),
            norm(channels),
        )


OPS = {
    "max_pool_3x3": lambda channels, stride: nn.Sequential(nn.MaxPool2d(3, stride, padding=1), norm(channels)),
    "avg_pool_3x3": lambda channels, stride: nn.Sequential(
        nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm(channels)
    ),
    "skip_connect": lambda channels, stride: nn.Identity() if stride == 1 else FactorizedReduce(channels, channels),
    "sep_conv_3x3": lambda channels, stride: SepConv(channels, 3, stride),
    "sep_conv_5x5": lambda channels, stride: SepConv(channels, 5, stride),
    "conv_3x1_1x3": lambda channels, stride: RowColumnConv(channels, stride),
    "dil_conv_3x3": lambda channels, stride: DilConv(channels, 3, stride),
    "dil_conv_5x5": lambda channels, stride: DilConv(channels, 5, stride),
}


class MixedOp(nn.Module):
    def __init__(self, names: Sequence[str], channels: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList(OPS[name](channels, stride) for name in names)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops, strict=True))


class Cell(nn.Module):
    def __init__(self, names, nodes, before, previous, channels, reduction, reduction_before) -> None:
        super().__init__()
        self.nodes = nodes
        self.preprocess0 = (FactorizedReduce if reduction_before else ReLUConvBN)(before, channels)
        self.preprocess1 = ReLUConvBN(previous, channels)
        self._ops = nn.ModuleList(
            MixedOp(names, channels, 2 if reduction and j < 2 else 1) for i in range(nodes) for j in range(2 + i)
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        offset = 0
        for _ in range(self.nodes):
            s = sum(self._ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states))
            offset += len(states)
            states.append(s)
        return torch.cat(states[2:], dim=1)

    def sampled(self, s0: Tensor, s1: Tensor, choices: list[list[int]]) -> Tensor:
        """One architecture: per node the two operations and the two inputs, (r1, r2, t, u)."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        offset = 0
        for r1, r2, t, u in choices:
            states.append(self._ops[offset + t]._ops[r1](states[t]) + self._ops[offset + u]._ops[r2](states[u]))
            offset += len(states) - 1
        return torch.cat(states[2:], dim=1)


class Network(nn.Module):
    def __init__(self, names: Sequence[str], channels: int, repeats: int, nodes: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 3 * channels, 3, padding=1), norm(3 * channels))
        self.reductions = [False] * repeats + [True] + [False] * repeats + [True] + [False] * repeats
        self.cells = nn.ModuleList()
        before = previous = 3 * channels
        reduction_before = False
        for reduction in self.reductions:
            channels *= 2 if reduction else 1
            self.cells.append(Cell(names, nodes, before, previous, channels, reduction, reduction_before))
            before, previous, reduction_before = previous, nodes * channels, reduction
        self.norm, self.relu = norm(previous), nn.ReLU()
        self.classifier = nn.Linear(previous, classes)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Every operation, weights (2, edges, operations)."""
        s0 = s1 = self.stem(x)
        for reduction, cell in zip(self.reductions, self.cells, strict=True):
            s0, s1 = s1, cell(s0, s1, weights[int(reduction)])
        return self.classifier(self.relu(self.norm(s1)).mean((2, 3)))

    def sampled(self, x: Tensor, choices: list[list[list[int]]]) -> Tensor:
        """One architecture a cell."""
        s0 = s1 = self.stem(x)
        for cell, chosen in zip(self.cells, choices, strict=True):
            s0, s1 = s1, cell.sampled(s0, s1, chosen)
        return self.classifier(self.relu(self.norm(s1)).mean((2, 3)))


class Alphas(nn.Module):
    """f, g and h, and the weights of Eq. 10 from them, summed up pair by pair."""

    def __init__(self, operations: int, nodes: int = 4) -> None:
        super().__init__()
        self.pairs = [(i, j) for i in range(operations) for j in range(i + 1)]
        self.operations, self.nodes = operations, nodes
        self.f = nn.Parameter(torch.zeros(2, nodes, nodes + 1))
        self.g = nn.Parameter(torch.zeros(2, nodes, nodes + 1))
        self.h = nn.Parameter(torch.zeros(2, nodes, len(self.pairs)))

    def forward(self) -> Tensor:
        kinds = []
        for kind in range(2):
            edges = []
            for node in range(self.nodes):
                f, g = (p[kind, node, : node + 2].softmax(0) for p in (self.f, self.g))
                h = self.h[kind, node].softmax(0)
                for t in range(node + 2):
                    row = [torch.zeros(()) for _ in range(self.operations)]
                    for weight, (r1, r2) in zip(h, self.pairs, strict=True):
                        row[r1] = row[r1] + weight * f[t]
                        row[r2] = row[r2] + weight * g[t]
                    edges.append(torch.stack(row))
            kinds.append(torch.stack(edges))
        return torch.stack(kinds)


class Images(Dataset):
    """Images (n, h, w, 3) uint8 and labels, transformed one by one, as torchvision's CIFAR10 does it."""

    def __init__(self, images: Tensor, labels: Tensor, mean: list[float], std: list[float], training: bool) -> None:
        self.images, self.labels = images.numpy(), labels.tolist()
        augmentation = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if training else []
        self.transform = transforms.Compose([*augmentation, transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def training_batches(dataset: Images, batch_size: int):
    """Batches without end."""
    while True:
        yield from DataLoader(dataset, batch_size, shuffle=True, drop_last=True)


def score(network: Network, dataset: Images, choices: list[list[list[int]]], batch_size: int) -> tuple[float, float]:
    """Mean loss and accuracy of one architecture on all images."""
    loss = correct = 0.0
    with torch.no_grad():
        for images, labels in DataLoader(dataset, batch_size):
            logits = network.sampled(images, choices)
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(1) == labels).sum().item()
    return loss / len(dataset), correct / len(dataset)
