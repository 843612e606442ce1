"""The baselines of the benchmarks compute what the library computes, and the limits count what is done."""

from dataclasses import replace

import field
import limits
import numpy as np
import pytest
import racing
import torch
import torch.nn.functional as F

from setn_lab.data.batches import Normalization
from setn_lab.data.images import ImageSet
from setn_lab.evaluator.setn import Evaluator
from setn_lab.search.config import SearchConfig
from setn_lab.search.scoring import evaluate
from setn_lab.search.setup import prepare_search
from setn_lab.space.setn import LARGE, SearchSpace
from setn_lab.template.setn import Template


def networks() -> tuple[Template, field.Network, Evaluator, field.Alphas]:
    """Both networks with the same weights, in float64, and both evaluators with the same logits."""
    space = SearchSpace(LARGE, 3)
    template = Template(space, 4, 1, 3, 10, np.random.default_rng(0)).double()
    network = field.Network(LARGE, 4, 1, nodes=3).double()
    evaluator, alphas = Evaluator(space).double(), field.Alphas(len(LARGE), nodes=3).double()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for ours, theirs in zip(template.parameters(), network.parameters(), strict=True):
            theirs.copy_(ours)
        for ours, theirs in zip(evaluator.parameters(), alphas.parameters(), strict=True):
            theirs.copy_(torch.randn(ours.shape, generator=rng, dtype=torch.float64))
            ours.copy_(theirs)
    return template, network, evaluator, alphas


def test_the_mixed_step_of_the_field_is_ours():
    template, network, evaluator, alphas = networks()
    images = torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(6)
    torch.testing.assert_close(alphas(), evaluator.mixing_weights())
    ours, theirs = template.mixed(images, evaluator.mixing_weights()), network(images, alphas())
    torch.testing.assert_close(theirs, ours)
    F.cross_entropy(ours, labels).backward()
    F.cross_entropy(theirs, labels).backward()
    for one, other in zip(
        (*evaluator.parameters(), *template.parameters()), (*alphas.parameters(), *network.parameters()), strict=True
    ):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-6, atol=1e-10)


def test_the_sampled_step_of_the_field_is_ours():
    template, network, _, _ = networks()
    images = torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rng = np.random.default_rng(0)
    for _ in range(5):
        quadruples = template.space.sample(rng, len(template.plan))
        torch.testing.assert_close(network.sampled(images, quadruples.tolist()), template.sampled(images, quadruples))


def test_the_field_scores_a_candidate_as_we_do():
    config = SearchConfig(dataset="digits", channels=4, repeats=1, limit_valid=64, scoring_batch_size=32)
    search = prepare_search(config)
    colour = ImageSet(search.valid.images.expand(-1, -1, -1, 3).contiguous(), search.valid.labels, ("0", "1"))
    template = Template(search.space, 4, 1, 3, 10, np.random.default_rng(0))
    network = field.Network(search.space.operations, 4, 1)
    with torch.no_grad():
        for ours, theirs in zip(template.parameters(), network.parameters(), strict=True):
            theirs.copy_(ours)
    normalization = Normalization.of(colour)
    changed = {"template": template, "valid": colour, "normalization": normalization}
    search = replace(search, **changed)
    architecture = search.space.sample(np.random.default_rng(0), 2)
    mean, std = normalization.mean.tolist(), normalization.std.tolist()
    images = field.Images(colour.images, colour.labels, mean, std, training=False)
    theirs = field.score(network, images, template.per_cell(architecture).tolist(), 32)
    assert theirs == pytest.approx(evaluate(search, [architecture])[0], rel=1e-4)


def test_training_images_of_the_field_are_windows_of_the_padded_image():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(1, 256, (2, 32, 32, 3), dtype=np.uint8))
    transformed = field.Images(images, torch.tensor([3, 4]), [0.0] * 3, [1.0] * 3, training=True)
    padded = F.pad(images[0], (0, 0, 4, 4, 4, 4)).permute(2, 0, 1)
    windows = padded.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4).reshape(81, 3, 32, 32)
    torch.manual_seed(0)
    for _ in range(10):
        pixels, label = transformed[0]
        pixels = (pixels * 255).round().to(torch.uint8)
        assert label == 3
        assert ((windows == pixels).flatten(1).all(1) | (windows.flip(3) == pixels).flatten(1).all(1)).any()


def test_work_of_known_steps():
    machine = limits.Machine(products=1.0, copies=1.0)  # so that seconds are FLOPs and bytes
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 3, 3)
    needed = limits.needs(lambda: F.conv2d(x, weight, padding=1), machine)
    assert needed["products"] == 2 * (2 * 5 * 8 * 8) * (3 * 3 * 3)
    assert needed["copies"] == 4 * (x.numel() + weight.numel() + 2 * 5 * 8 * 8)
    assert limits.needs(lambda: x.permute(1, 0, 2, 3)[1:].detach(), machine) == {"products": 0, "copies": 0}
    assert limits.needs(lambda: x.index_select(0, torch.tensor([1])), machine)["copies"] == 2 * 4 * x[0].numel()


def test_resampling_counts_what_racing_saves_and_loses():
    rng = np.random.default_rng(0)
    table = (rng.exponential(size=400) + 0.3 * rng.normal(size=(30, 400)) + 0.2 * np.arange(30)[:, None]).astype(
        np.float32
    )
    outcome = racing.resample(table, [40] * 10, resamplings=10)
    assert outcome.found == 1.0
    assert outcome.given_up == 0.0
    assert 2 < outcome.ratio < 10
    assert outcome.range[0] <= outcome.ratio <= outcome.range[1]
    alone = racing.resample(table[:1], [40] * 10, resamplings=3)  # one candidate is scored on everything
    assert alone.ratio == 1.0
