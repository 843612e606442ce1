"""The looks-linear start of NAS-Bench-201's template: what it is to compute."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import filter_lengths, noise, pixels

from setn_lab.network.operations import ReLUConvBN
from setn_lab.search.setup import prepare_search
from setn_lab.space.nasbench201 import NASBench201Space
from setn_lab.template import looks_linear
from setn_lab.template.looks_linear import look_linear_nasbench201
from setn_lab.template.nasbench201 import NASBench201Template

SPACE = NASBench201Space()


def template_of(channels=4, linear=True, seed=0):
    template = NASBench201Template(SPACE, channels, 1, 3, 5, np.random.default_rng(seed))
    if linear:
        look_linear_nasbench201(template, np.random.default_rng(seed + 1))
    return template


@pytest.fixture
def exact(monkeypatch):
    """Nothing of the drawn weights is added."""
    monkeypatch.setattr(looks_linear, "DRAWN", 0.0)


def mirrored(*shape):
    """An image whose second half of channels is the negative of the first."""
    half = noise(*shape).float()
    return torch.cat([half, -half], 1)


def normalized(x):
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / variance.sqrt()


def test_every_convolution_of_a_cell_begins_as_the_identity(exact):
    x = mirrored(3, 4, 6, 6)
    convolutions = [part for part in template_of().cells[1].edges.modules() if isinstance(part, ReLUConvBN)]
    assert len(convolutions) == 2 * len(SPACE.edges)
    for operation in convolutions:
        torch.testing.assert_close(operation(x), normalized(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("index", [0, 1])
def test_both_ways_through_a_reduction_begin_as_one_mixture_of_all_channels(exact, index):
    channels = 4 * 2**index
    reduction = template_of().reductions[index]
    x = mirrored(3, channels // 2, 6, 6)
    mixture = reduction.shortcut[1].weight[:, :, 0, 0].detach()
    assert torch.linalg.matrix_rank(mixture) == channels // 2
    torch.testing.assert_close(reduction.shortcut(x), _mixed(mixture, F.avg_pool2d(x, 2)), rtol=0, atol=1e-5)
    expected = normalized(_mixed(mixture, x[:, :, ::2, ::2]))
    torch.testing.assert_close(reduction.second(reduction.first(x)), expected, rtol=0, atol=1e-3)


def _mixed(mixture, x):
    return torch.einsum("oi,bihw->bohw", mixture, x)


def test_states_of_all_stages_are_mirrored_whatever_is_drawn(exact):
    template = template_of()
    architectures = SPACE.connected(np.random.default_rng(3), 3)
    x = template.stem(pixels())
    for index, (cell, architecture) in enumerate(zip(template.cells, architectures, strict=True)):
        states = cell.sampled_states([x], architecture)
        for state in states:
            one, other = state.chunk(2, 1)
            assert one.abs().max() > 0.1
            torch.testing.assert_close(one, -other, rtol=0, atol=1e-4)
        x = template.reductions[index](states[-1]) if index < 2 else states[-1]


def test_filters_are_as_long_as_drawn_ones_are_in_the_mean(exact):
    drawn, begun = template_of(linear=False), template_of()
    expected = np.sqrt(np.mean(np.square(filter_lengths(drawn))))
    np.testing.assert_allclose(filter_lengths(begun), expected, rtol=0.05)
    assert torch.equal(drawn.classifier.weight, begun.classifier.weight)


def test_a_part_of_what_was_drawn_tells_edges_apart():
    edges = template_of().cells[0].edges
    one, other = (edges[node][0][SPACE.operations.index("nor_conv_3x3")] for node in (0, 1))
    assert not torch.equal(one.body.weight, other.body.weight)


@pytest.mark.parametrize("channels", [1, 3])
def test_odd_channels_do_no_harm(channels):
    template = template_of(channels)
    architecture = template.per_cell(SPACE.connected(np.random.default_rng(0), 1))
    assert bool(torch.isfinite(template.sampled(pixels(), architecture)).all())


def test_a_search_begins_with_it(tmp_path, tiny_config):
    uniform, linear = (
        prepare_search(tiny_config(tmp_path / name, space="nasbench201", nodes=4, template_init=name)).template
        for name in ("uniform", "looks-linear")
    )
    half = uniform.stem[0].weight[: len(uniform.stem[0].weight) // 2]
    assert torch.equal(linear.stem[0].weight, torch.cat([half, -half]))
    assert torch.equal(linear.classifier.weight, uniform.classifier.weight)
    assert not torch.equal(linear.reductions[0].first.body.weight, uniform.reductions[0].first.body.weight)
