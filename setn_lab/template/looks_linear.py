"""Looks-linear initialization of the template (Balduzzi et al. 2017, "The Shattered Gradients Problem").

In a deep network of batch norms and ReLUs whose weights are drawn independently, gradients grow on the way back and
become noise, and here each drawn architecture makes other features of an image: the weights behind them learn nothing
from one step to the next. So the second half of all channels begins as the negative of the first. A convolution that
reads both halves after a ReLU has relu(x) - relu(-x) = x. Each operation begins as the identity or what is left of it
at stride 2, pools as they are, and a cell's input as the mean of the nodes that it reads: whatever is drawn, the
features mean the same. A tenth of the weights as they were drawn is added, so that edges differ. In NAS-Bench-201's
space nodes are sums, which need nothing of their own: they stay mirrored, and differ by scale and smoothing alone.

An odd channel, which has no other half, and modules that are not the library's own keep what was drawn.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from setn_lab.network.operations import FactorizedReduce, ReLUConvBN
from setn_lab.template.nasbench201 import NASBench201Template
from setn_lab.template.setn import Template

DRAWN = 0.1  # the part of the drawn weights that is added
LENGTH = 3**-0.5  # of a filter, the root mean square of that of drawn ones


def look_linear(template: Template, rng: np.random.Generator) -> None:
    """Change the drawn weights of a template of the paper's space in place; those of its classifier stay.

    rng: where a cell has other channels than what it reads, their first mixture is drawn from it, orthonormal.
    """
    _mirror(template.stem)
    if template.second_stem is not None:
        _mirror(template.second_stem, mirrored=True)
    for index, (spot, cell) in enumerate(zip(template.plan, template.cells, strict=True)):
        for preprocess, channels, source in (
            (cell.preprocess0, spot.before_previous, index - 2),
            (cell.preprocess1, spot.previous, index - 1),
        ):
            blocks = 1 if source < 0 else template.space.nodes  # the stem's output, or the nodes of that cell
            _fill(preprocess.body, _orthonormal(spot.channels // 2, channels // blocks // 2, rng), blocks)
        _fill_operations(cell.edges)


def look_linear_nasbench201(template: NASBench201Template, rng: np.random.Generator) -> None:
    """The same for a template of NAS-Bench-201's space.

    rng: both ways through a reduction begin as one orthonormal mixture, which is drawn from it.
    """
    _mirror(template.stem)
    for cell in template.cells:
        _fill_operations(cell.edges)
    for reduction in template.reductions:
        channels = reduction.first.body.in_channels
        mixture = _orthonormal(channels, channels // 2, rng)
        _fill(reduction.first.body, mixture, 1)
        _fill(reduction.second.body, np.eye(channels), 1)
        _fill(reduction.shortcut, mixture, 1)


@torch.no_grad()
def _mirror(stem: nn.Sequential, mirrored: bool = False) -> None:
    """Let the second half of each convolution's channels be the negative of the first, whatever is drawn for them.

    mirrored: whether the stem reads both halves of what is mirrored, after a ReLU, as its later convolutions do.
    """
    for module in stem:
        if not isinstance(module, nn.Conv2d):
            continue
        outputs, inputs = (size // 2 for size in module.weight.shape[:2])
        if mirrored:
            module.weight[:, inputs : 2 * inputs] = -module.weight[:, :inputs]
        module.weight[outputs : 2 * outputs] = -module.weight[:outputs]
        mirrored = True


def _fill_operations(edges: nn.Module) -> None:
    """Make the operations with weights begin as the identity."""
    for operation in edges.modules():
        if type(operation) is ReLUConvBN:
            channels: Any = operation.norm.num_features
            _fill(operation.body, np.eye(channels // 2), 1)


def _fill(body: nn.Module, half: NDArray[np.float64], blocks: int) -> None:
    """Make what reads channels, after a ReLU or not, begin as the linear map `half` of their first half, and of the
    second.

    blocks: nodes side by side in the input, each of which has two halves; the map is of their mean.
    """
    if isinstance(body, FactorizedReduce):
        matrix = _mirrored(half, body.even.out_channels + body.odd.out_channels, body.even.in_channels, blocks)
        _begin(body.even, matrix[: body.even.out_channels])
        _begin(body.odd, matrix[body.even.out_channels :])
        return
    for module in body.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if module.groups == module.in_channels == module.out_channels:
            _begin(module, np.ones((module.out_channels, 1)))
        elif module.groups == 1:
            _begin(module, _mirrored(half, module.out_channels, module.in_channels, blocks))


def _mirrored(half: NDArray[np.float64], outputs: int, inputs: int, blocks: int) -> NDArray[np.float64]:
    """The matrix (outputs, inputs) that makes (half x, -half x) of blocks (relu(x), relu(-x)); odd channels get 0.

    Without a ReLU, of (x, -x), it makes twice as much, which the batch norm that follows takes back.
    """
    both = np.block([[half, -half], [-half, half]])
    block = np.zeros((outputs, inputs // blocks))
    block[: both.shape[0], : both.shape[1]] = both
    return np.tile(block, blocks)


def _orthonormal(outputs: int, inputs: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The identity; where the sizes differ, a drawn (outputs, inputs) of orthonormal rows or columns."""
    if outputs == inputs:
        return np.eye(outputs)
    columns = np.linalg.qr(rng.normal(size=(max(outputs, inputs), min(outputs, inputs))))[0]
    return columns if outputs > inputs else columns.T


@torch.no_grad()
def _begin(convolution: nn.Conv2d, matrix: NDArray[np.float64]) -> None:
    """Let the filters' middle pixels begin as the matrix (outputs, inputs of a group), all filters of one length.

    It decides how fast the weights before a batch norm turn. A filter without any entry keeps what was drawn.
    """
    drawn = convolution.weight
    middle = torch.zeros_like(drawn)
    middle[:, :, drawn.shape[2] // 2, drawn.shape[3] // 2] = torch.from_numpy(matrix).to(drawn)
    length = middle.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    drawn.copy_(torch.where(length > 0, middle * LENGTH / length.clamp_min(1e-12) + DRAWN * drawn, drawn))
