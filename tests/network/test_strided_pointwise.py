"""1x1 convolutions of stride 2 of channels-last images, against float64: torch's own way is wrong for few channels."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from setn_lab.network.discrete import CifarNetwork, ImageNetNetwork
from setn_lab.network.operations import FACTORIES, StridedPointwise, build_operation
from setn_lab.space.setn import LARGE, SMALL, SearchSpace
from setn_lab.space.zoo import ZOO
from setn_lab.template.setn import Template

# In a process of its own: the processor's instructions are chosen at its start, and a fault would end it.
COMPARE = """
import itertools
import torch
from setn_lab.network.operations import FactorizedReduce, StridedPointwise

rng = torch.Generator().manual_seed(0)
for threads, channels in itertools.product((1, 2), range(1, 25)):
    torch.set_num_threads(threads)
    for side in (8, 9, 16, 32, 48, 64):
        for make in (StridedPointwise, FactorizedReduce):
            module = make(channels, max(channels, 2))
            exact = make(channels, max(channels, 2)).double()
            exact.load_state_dict(module.state_dict())
            x = torch.randn(2, channels, side, side, generator=rng)
            near = x.clone(memory_format=torch.channels_last).requires_grad_(True)
            far = x.double().requires_grad_(True)
            out = module.to(memory_format=torch.channels_last)(near)
            wanted = exact(far)
            weights = torch.randn(out.shape, generator=rng)
            (out * weights).sum().backward()
            (wanted * weights.double()).sum().backward()
            where = f"{make.__name__}, {channels} channels, side {side}, {threads} threads"
            torch.testing.assert_close(out.double(), wanted, rtol=1e-4, atol=1e-4, msg=where)
            torch.testing.assert_close(near.grad.double(), far.grad, rtol=1e-4, atol=1e-4, msg=where)
            for got, ours in zip(module.parameters(), exact.parameters(), strict=True):
                torch.testing.assert_close(got.grad.double(), ours.grad, rtol=1e-3, atol=2e-3, msg=where)
"""


@pytest.mark.parametrize("instructions", ["", "AVX2"])
def test_results_and_gradients_are_right_for_few_channels(instructions):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if instructions:
        environment["ONEDNN_MAX_CPU_ISA"] = instructions
    subprocess.run([sys.executable, "-c", COMPARE], check=True, env=environment)


def test_a_strided_one_is_what_torch_would_compute():
    for channels in (1, 3, 16, 24):
        ours = StridedPointwise(channels, 5)
        x = torch.randn(3, channels, 9, 9, generator=torch.Generator().manual_seed(channels))
        assert torch.equal(ours(x), nn.functional.conv2d(x[:, :, ::2, ::2], ours.weight))
        plain = nn.functional.conv2d(x.double(), ours.weight.double(), stride=2)
        torch.testing.assert_close(ours(x).double(), plain, rtol=1e-5, atol=1e-6)


def everything():
    genotype = ZOO["DARTS_V2"].genotype
    rng = np.random.default_rng(0)
    yield CifarNetwork(genotype, 4, 1, 10, True, 3, rng)
    yield ImageNetNetwork(genotype, 8, 1, 10, True, 3, rng)
    for operations in (SMALL, LARGE):
        yield Template(SearchSpace(operations, 4), 4, 1, 3, 10, rng)
    for name in FACTORIES:
        yield build_operation(name, 4, 2)


def test_no_network_has_torchs_own():
    for network in everything():
        for part in network.modules():
            if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.stride != (1, 1):
                assert type(part) is StridedPointwise
