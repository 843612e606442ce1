"""The looks-linear start of the template: what it is to compute, and that it does what it is for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import filter_lengths, noise, pixels

from setn_lab.config import ConfigError, identity
from setn_lab.kits import KITS
from setn_lab.network.operations import ReLUConvBN
from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.search.stages import template_parameters
from setn_lab.space.setn import LARGE, SearchSpace
from setn_lab.template import looks_linear
from setn_lab.template.looks_linear import look_linear
from setn_lab.template.setn import Template

SPACE = SearchSpace(LARGE, 2)


def template_of(channels=4, repeats=1, linear=True, seed=0):
    template = Template(SPACE, channels, repeats, 3, 5, np.random.default_rng(seed))
    if linear:
        look_linear(template, np.random.default_rng(seed + 1))
    return template


@pytest.fixture
def exact(monkeypatch):
    """Nothing of the drawn weights is added."""
    monkeypatch.setattr(looks_linear, "DRAWN", 0.0)


def both(half):
    """Channels and their negatives."""
    return torch.cat([half, -half], 1)


def normalized(x):
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / variance.sqrt()


def edges_of(cell):
    """(name, operation, whether it reads an input of the cell) of all edges."""
    for states in cell.edges:
        for state, operations in enumerate(states):
            for name, operation in zip(SPACE.operations, operations, strict=True):
                yield name, operation, state < 2


def test_every_convolution_of_a_cell_begins_as_the_identity(exact):
    x = both(noise(3, 2, 6, 6).float())
    seen = set()
    for name, operation, _ in edges_of(template_of().cells[0]):
        if isinstance(operation, ReLUConvBN):
            torch.testing.assert_close(operation(x), normalized(x), rtol=0, atol=1e-3)
            seen.add(name)
    assert seen == {name for name in LARGE if "conv" in name}


def test_at_stride_2_it_begins_as_every_second_pixel(exact):
    template = template_of()
    place = next(index for index, spot in enumerate(template.plan) if spot.cell_type == 1)
    x = both(noise(3, 4, 6, 6).float())
    seen = set()
    for name, operation, strided in edges_of(template.cells[place]):
        if not isinstance(operation, ReLUConvBN) or not strided:
            continue
        expected = x[:, :, ::2, ::2]
        if name == "skip_connect":  # its second half reads one pixel further
            expected = torch.cat([expected[:, :4], x[:, 4:, 1::2, 1::2]], 1)
        torch.testing.assert_close(operation(x), normalized(expected), rtol=0, atol=1e-3)
        seen.add(name)
    assert seen == {"skip_connect", *(name for name in LARGE if "conv" in name)}


def test_a_cell_begins_to_read_the_mean_of_the_nodes_before_it(exact):
    template = template_of(repeats=3)
    cell = template.cells[2]  # after two normal ones: as many channels as each of their nodes
    nodes = [both(noise(3, 2, 5, 5, seed=seed).float()) for seed in range(2)]
    expected = normalized(torch.stack(nodes).mean(0))
    for preprocess in (cell.preprocess0, cell.preprocess1):
        torch.testing.assert_close(preprocess(torch.cat(nodes, 1)), expected, rtol=0, atol=1e-3)


def test_more_or_fewer_channels_begin_as_an_orthonormal_mixture_that_all_nodes_share(exact):
    template = template_of(channels=8)
    first, reduction = template.cells[0].preprocess1, template.cells[1].preprocess1
    for preprocess, blocks, narrow in ((first, 1, 4), (reduction, 2, 4)):
        weight = preprocess.body.weight[:, :, 0, 0].detach()
        part = weight.unflatten(1, (blocks, -1))
        assert torch.equal(part, part[:, :1].expand_as(part))
        outputs, inputs = (size // 2 for size in part[:, 0].shape)
        half = part[:outputs, 0, :inputs]
        for sign, rows, columns in (
            (1, slice(outputs, None), slice(inputs, None)),
            (-1, slice(outputs), slice(inputs, None)),
        ):
            torch.testing.assert_close(part[rows, 0, columns], sign * half)
        assert torch.linalg.matrix_rank(half) == narrow


def test_the_states_of_the_first_stage_are_mirrored_whatever_is_drawn(exact):
    template = template_of(repeats=2)
    architectures = SPACE.sample(np.random.default_rng(3), 2)
    maximum, average = (LARGE.index(name) for name in ("max_pool_3x3", "avg_pool_3x3"))
    architectures[..., :2][architectures[..., :2] == maximum] = average  # the maximum of -x is another
    before = previous = template.stem(pixels()).relu()
    for cell, architecture in zip(template.cells, architectures, strict=False):
        nodes = cell.sampled(before, previous, architecture, None)
        for node in nodes:
            one, other = node.chunk(2, 1)
            torch.testing.assert_close(one, -other, rtol=0, atol=1e-4)
        before, previous = previous, torch.cat(nodes, 1).relu()


def test_imagenets_stem_is_mirrored_and_linear_in_what_its_first_convolution_gives():
    template = Template(SPACE, 8, 1, 3, 5, np.random.default_rng(0), stem="imagenet")
    look_linear(template, np.random.default_rng(1))
    first, *rest, last = template.stem[0], template.stem[3], template.second_stem[0]
    x = first(pixels(size=32))
    for convolution in (*rest, last):
        half, negative = x.chunk(2, 1)
        torch.testing.assert_close(half, -negative)
        linear = F.conv2d(half, convolution.weight[:, : half.shape[1]], stride=2, padding=1)
        x = convolution(x.relu())  # relu(x) - relu(-x) is x
        torch.testing.assert_close(x, linear)
    half, negative = x.chunk(2, 1)
    torch.testing.assert_close(half, -negative)


def gradient_norms(template, seed):
    architectures = template.per_cell(SPACE.sample(np.random.default_rng(seed), 2))
    template.zero_grad()
    F.cross_entropy(template.sampled(pixels(16), architectures), torch.arange(16) % 5).backward()
    return [float(part.weight.grad.norm()) for part in (template.stem[0], template.classifier)]


@pytest.mark.parametrize(("linear", "grows"), [(True, False), (False, True)])
def test_gradients_do_not_grow_with_depth(linear, grows):
    template = template_of(repeats=3, linear=linear)
    ratios = [stem / classifier for stem, classifier in (gradient_norms(template, seed) for seed in range(5))]
    assert (np.median(ratios) > 4) == grows, ratios


def test_filters_are_as_long_as_drawn_ones_are_in_the_mean(exact):
    drawn, begun = template_of(linear=False), template_of()
    expected = np.sqrt(np.mean(np.square(filter_lengths(drawn))))
    np.testing.assert_allclose(filter_lengths(begun), expected, rtol=0.02)
    assert torch.equal(drawn.classifier.weight, begun.classifier.weight)


def test_a_part_of_what_was_drawn_tells_edges_apart():
    one, other = (template_of().cells[0].edges[node][1][LARGE.index("dil_conv_5x5")] for node in (0, 1))
    assert not torch.equal(one.body[0].weight, other.body[0].weight)


@pytest.mark.parametrize("channels", [1, 3])
def test_odd_channels_keep_what_was_drawn(channels, exact):
    drawn, begun = (template_of(channels, linear=linear) for linear in (False, True))
    images = pixels()
    architecture = begun.per_cell(SPACE.sample(np.random.default_rng(0), 2))
    assert bool(torch.isfinite(begun.sampled(images, architecture)).all())
    for (name, one), other in zip(drawn.named_parameters(), begun.parameters(), strict=True):
        if name == "cells.0.preprocess1.body.weight":
            assert torch.equal(one[-1], other[-1])
            assert channels == 1 or not torch.equal(one[0], other[0])


def test_the_weights_are_a_function_of_the_generators_and_stay_channels_last():
    first, same, other = (dict(template_of(seed=seed).named_parameters()) for seed in (0, 0, 1))
    for name, parameter in first.items():
        assert torch.equal(parameter, same[name])
        assert not torch.equal(parameter, other[name]), name
        assert parameter.is_contiguous(memory_format=torch.channels_last) or parameter.dim() < 4


def test_a_search_begins_with_it(tmp_path, tiny_config):
    uniform, linear = (
        prepare_search(tiny_config(tmp_path / name, template_init=name)) for name in ("uniform", "looks-linear")
    )
    expected = dict(uniform.template.state_dict())
    assert torch.equal(linear.template.stem[0].weight[:3], expected["stem.0.weight"][:3])
    assert torch.equal(linear.template.stem[0].weight[3:], -expected["stem.0.weight"][:3])
    assert torch.equal(linear.template.classifier.weight, expected["classifier.weight"])


def test_it_decides_what_a_template_is_and_older_runs_are_without_it():
    assert template_parameters(SearchConfig(template_init="looks-linear"))["template_init"] == "looks-linear"
    assert "template_init" not in identity(SearchConfig())


def test_a_space_without_it_says_so(monkeypatch):
    monkeypatch.setitem(KITS, "without", replace(KITS["small"], look_linear=None))
    with pytest.raises(ConfigError, match=r"template_init: .*looks-linear.*without"):
        SearchConfig(space="without", template_init="looks-linear")
