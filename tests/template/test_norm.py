"""Batch normalization over merged statistics, against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from references import noise

from setn_lab.template import norm
from setn_lab.template.norm import EPSILON, BatchNorm, NodeSum, Scaled, add_up, gradients, moments, normalize, suits

SIZES = [(5, 3, 4, 6), (3, 16, 8, 8), (2, 4, 3, 7), (4, 5, 6, 1), (2, 7, 1, 32), (3, 40, 2, 4), (2, 130, 2, 2)]


pytestmark = pytest.mark.usefixtures("merged")


def uneven(size, seed=0, dtype=torch.float64):
    """Another mean and another deviation in each channel."""
    x = noise(*size, seed=seed)
    offset = torch.linspace(-2, 3, size[1], dtype=torch.float64)[:, None, None]
    return (x * offset.abs().add(0.1) + offset).to(dtype).contiguous(memory_format=torch.channels_last)


def reference(x, factor=1.0):
    """Normalized by the definition, value by value of a channel."""
    columns = x.permute(1, 0, 2, 3).flatten(1)
    mean, variance = columns.mean(1), columns.var(1, correction=0)
    return factor * (x - mean[:, None, None]) / (variance + EPSILON).sqrt()[:, None, None]


@pytest.mark.parametrize("size", SIZES)
def test_moments_are_those_of_each_channel(size):
    x = uneven(size)
    assert suits(x)
    columns = x.permute(1, 0, 2, 3).flatten(1)
    mean, inv_std = moments(x)
    torch.testing.assert_close(mean, columns.mean(1))
    torch.testing.assert_close(inv_std, (columns.var(1, correction=0) + EPSILON).rsqrt())


def test_moments_are_as_exact_as_torchs_own_far_from_zero():
    x = uneven((8, 16, 32, 32), dtype=torch.float32) * 0.01 + 30
    exact = (x.double().var((0, 2, 3), correction=0) + EPSILON).rsqrt()
    theirs = torch.native_batch_norm(x, None, None, None, None, True, 0.0, EPSILON)[2]
    error, their_error = ((inv_std.double() / exact - 1).abs().max() for inv_std in (moments(x)[1], theirs))
    assert error <= 2 * their_error + 1e-6


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overwrite", [False, True])
def test_normalizes_in_place_or_leaves_its_input(size, overwrite):
    x, factor = uneven(size), torch.tensor(-0.7, dtype=torch.float64)
    for given, scale in ((None, 1.0), (factor, -0.7)):
        copy = x.clone(memory_format=torch.preserve_format)
        result, mean, inv_std = normalize(copy, given, overwrite)
        torch.testing.assert_close(result, reference(x, scale))
        assert result.is_contiguous(memory_format=torch.channels_last)
        assert (result.data_ptr() == copy.data_ptr()) == overwrite
        assert overwrite or torch.equal(copy, x)
        torch.testing.assert_close((mean, inv_std), moments(x))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [None, 0.3])
def test_gradients_are_autograds(size, factor):
    x, scale = uneven(size), None if factor is None else torch.tensor(factor, dtype=torch.float64)
    weights = torch.ones(size[1], dtype=torch.float64) * (1 if factor is None else factor)
    leaf, weights = x.clone().requires_grad_(True), weights.requires_grad_(True)
    incoming = uneven(size, seed=1)
    F.batch_norm(leaf, None, None, weights, None, True, 0.0, EPSILON).backward(incoming)
    _, mean, inv_std = normalize(x, scale)
    of_x, products = gradients(incoming, x, scale, mean, inv_std)
    torch.testing.assert_close(of_x, leaf.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(products, weights.grad, rtol=1e-9, atol=1e-12)
    nothing, alone = gradients(incoming, x, scale, mean, inv_std, through=False)
    assert nothing is None
    assert torch.equal(alone, products)


@pytest.mark.parametrize("large", [0, 2**40])
def test_a_nodes_sum_is_that_of_its_terms(large, monkeypatch):
    monkeypatch.setattr(norm, "LEAST", large)
    terms = [uneven((3, 8, 4, 4), seed) for seed in range(4)]
    copies = [term.clone(memory_format=torch.preserve_format) for term in terms]
    factors = torch.tensor([0.5, -1.5, 0.25, 2.0], dtype=torch.float64)
    for order in ((0, 1, 2, 3), (2, 0, 3, 1), (1, 3)):
        node, expected = NodeSum(), torch.zeros(1, dtype=torch.float64)
        for place in order:
            if place % 2:
                node.add(terms[place], factors[place])
                expected = expected + factors[place] * terms[place]
            else:
                torch.testing.assert_close(node.add_normalized(terms[place], factors[place]), moments(terms[place]))
                expected = expected + reference(terms[place], factors[place])
        torch.testing.assert_close(node.result(), expected)
    assert all(map(torch.equal, terms, copies))


def test_a_total_overwrites_nothing_but_a_spare_tensor():
    x, y, z = (uneven((3, 8, 4, 4), seed) for seed in range(3))
    norm = BatchNorm(8)
    for spare in (False, True):
        copies = [part.clone(memory_format=torch.preserve_format) for part in (x, y, z)]
        first, second = norm.scaled(copies[0]), norm.scaled(copies[1])
        assert isinstance(second, Scaled)
        result = add_up([first, copies[2], second._replace(spare=spare)])
        torch.testing.assert_close(result, reference(x) + z + reference(y))
        assert torch.equal(copies[0], x)
        assert torch.equal(copies[2], z)
        assert (result.data_ptr() == copies[1].data_ptr()) == spare
        assert spare or torch.equal(copies[1], y)
    assert torch.equal(add_up([x, z]), x + z)
    assert add_up([x]) is x


def test_left_to_torch_is_what_the_merging_is_not_for():
    x = uneven((3, 8, 4, 4))
    assert not suits(x.contiguous())
    assert not suits(x.bfloat16())
    assert not suits(x[:1, :, :1, :1].contiguous(memory_format=torch.channels_last))
    assert not suits(x[:, :4])
    module = BatchNorm(8)
    module.collect(x.device)
    with torch.no_grad():
        assert not isinstance(module.double().scaled(x), Scaled)


def test_a_norm_overwrites_its_input_only_where_it_may_and_no_gradient_is_needed():
    x = uneven((3, 8, 4, 4))
    for overwrite in (False, True):
        norm, copy = BatchNorm(8, overwrite), x.clone(memory_format=torch.preserve_format)
        torch.testing.assert_close(norm(copy), reference(x))
        assert torch.equal(copy, x)
        with torch.no_grad():
            torch.testing.assert_close(norm(copy), reference(x))
        assert torch.equal(copy, x) != overwrite
