"""The mixed pass with constant weights against the plain one, `Template.mixed`, through autograd."""

import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import noise, random_evaluator

from setn_lab.evaluator.setn import Evaluator
from setn_lab.space.setn import LARGE, SMALL, SearchSpace
from setn_lab.template.frozen import FrozenMixing, chain_of
from setn_lab.template.norm import NodeSum
from setn_lab.template.operations import template_operation
from setn_lab.template.setn import Template


def make(space: SearchSpace, channels: int = 3, repeats: int = 1, dtype: torch.dtype = torch.float64):
    """A template without gradients and an evaluator with uneven distributions."""
    template = Template(space, channels, repeats, 3, 10, np.random.default_rng(0)).to(dtype).requires_grad_(False)
    return template, random_evaluator(space).to(dtype)


def batch(size: int = 8, count: int = 5, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    images = noise(count, 3, size, size).to(dtype)
    return images.contiguous(memory_format=torch.channels_last), torch.arange(count) % 10


def outcome(forward, evaluator: Evaluator, images: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """The logits and the gradients of f, g and h."""
    evaluator.zero_grad()
    logits = forward(images, evaluator.mixing_weights())
    F.cross_entropy(logits.float() if logits.dtype == torch.bfloat16 else logits, labels).backward()
    return [logits.detach(), *[parameter.grad.clone() for parameter in evaluator.parameters()]]


@pytest.mark.parametrize(
    ("space", "channels", "size"),
    [
        (SearchSpace(SMALL, 4), 3, 8),
        (SearchSpace(LARGE, 4), 4, 8),
        (SearchSpace(LARGE, 2), 3, 7),  # odd sides are padded where the resolution is halved
        (SearchSpace(("skip_connect", "max_pool_3x3"), 3), 2, 8),  # hardly any weights
        (SearchSpace(("sep_conv_5x5",), 1), 2, 6),
    ],
)
def test_logits_and_gradients_are_those_of_the_plain_pass(space, channels, size):
    template, evaluator = make(space, channels)
    images, labels = batch(size)
    plain = outcome(template.mixed, evaluator, images, labels)
    fast = outcome(FrozenMixing(template), evaluator, images, labels)
    for expected, got in zip(plain, fast, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-12)


def test_gradient_passes_through_a_cell_to_both_inputs():
    """With a trainable stem all states need gradients, which the first cells otherwise do not."""
    template, evaluator = make(SearchSpace(SMALL, 3), repeats=2)
    images, labels = batch()
    gradients = []
    for forward in (template.mixed, FrozenMixing(template)):
        leaf = images.clone().requires_grad_(True)
        outcome(forward, evaluator, leaf, labels)
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-8, atol=1e-12)


def test_the_weights_get_no_gradient():
    template, evaluator = make(SearchSpace(SMALL, 2))
    outcome(FrozenMixing(template), evaluator, *batch())
    assert all(parameter.grad is None for parameter in template.parameters())


def test_a_second_backward_pass_says_that_there_is_none():
    template, evaluator = make(SearchSpace(SMALL, 2))
    logits = FrozenMixing(template)(batch()[0], evaluator.mixing_weights())
    logits.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass"):
        logits.sum().backward()


def test_bfloat16_is_as_near_to_the_truth_as_the_plain_pass():
    template, evaluator = make(SearchSpace(SMALL, 4), channels=8, dtype=torch.float32)
    images, labels = batch(16, 32, dtype=torch.float32)
    truth = outcome(template.mixed, evaluator, images, labels)
    with torch.autocast("cpu", torch.bfloat16):
        plain = outcome(template.mixed, evaluator, images, labels)
        fast = outcome(FrozenMixing(template), evaluator, images, labels)
    for expected, coarse, got in zip(truth, plain, fast, strict=True):
        assert (got - expected).norm() < 1.5 * (coarse - expected).norm() + 0.02 * expected.norm()


def test_follows_the_weights_as_they_are_trained():
    """The operations are looked up once; their weights must be those of the moment."""
    template, evaluator = make(SearchSpace(SMALL, 2))
    images, labels = batch()
    fast = FrozenMixing(template)
    before = outcome(fast, evaluator, images, labels)[0]
    template.load_state_dict(Template(template.space, 3, 1, 3, 10, np.random.default_rng(9)).state_dict())
    after = outcome(fast, evaluator, images, labels)[0]
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, outcome(template.mixed, evaluator, images, labels)[0], rtol=1e-8, atol=1e-12)


def test_keeps_less_than_autograd():
    """Bytes that lie in the graph between the passes, per operation: three tensors, not five."""
    operation = template_operation("sep_conv_3x3", 4, 1).requires_grad_(False)
    kept: set[int] = set()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 4 and tensor.shape[0] == 6:
            kept.add(tensor.data_ptr())
        return tensor

    x = torch.randn(6, 4, 8, 8)
    factor = torch.tensor(0.5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        operation.from_relu(x.requires_grad_(True).relu(), factor)
    tape = chain_of(operation).forward(x.relu(), factor, NodeSum())
    ours = {part.data_ptr() for entry in tape for part in entry if isinstance(part, torch.Tensor) and part.dim() == 4}
    assert len(ours) == 3 < len(kept)


@pytest.mark.parametrize("size", [6, 8])
def test_gradients_over_merged_statistics_are_those_of_the_plain_pass(size, merged):
    template, evaluator = make(SearchSpace(LARGE, 3), channels=4)
    images, labels = batch(size)
    plain = outcome(template.mixed, evaluator, images, labels)
    merged.clear()
    for expected, got in zip(plain, outcome(FrozenMixing(template), evaluator, images, labels), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-12)
    assert len(merged) > 100


@pytest.mark.parametrize("backward", [True, False])
def test_what_a_pass_keeps_is_freed_with_its_result(backward):
    """Nothing that is kept for the backward pass may hold the result: such a cycle is never freed."""
    template, evaluator = make(SearchSpace(SMALL, 2))
    frozen = FrozenMixing(template).cells[0]
    inputs = [torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(2)]
    nodes = frozen(inputs, evaluator.mixing_weights()[0])[len(inputs) :]
    if backward:
        sum(node.sum() for node in nodes).backward()
    graph = weakref.ref(nodes[0].grad_fn)
    del nodes
    assert graph() is None
