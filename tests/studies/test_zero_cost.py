"""Zero-cost predictors against their papers' formulas, worked out by hand on small networks."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from setn_lab.kits import KITS
from setn_lab.studies.zero_cost import ZERO_COST, Untrained, grad_norm, jacob_cov, nwot, synflow


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def perceptron(*sizes: int, seed: int = 1) -> nn.Sequential:
    layers = [nn.Linear(before, after) for before, after in itertools.pairwise(sizes)]
    rng = torch.Generator().manual_seed(seed)
    for layer in layers:
        layer.weight.data = torch.randn(layer.weight.shape, generator=rng)
        layer.bias.data = torch.randn(layer.bias.shape, generator=rng)
    return nn.Sequential(*itertools.chain(*((layer, nn.ReLU()) for layer in layers[:-1])), layers[-1])


def test_the_gradient_norm_of_a_linear_classifier(images):
    network, labels = perceptron(3, 4), torch.arange(5) % 4
    probabilities = network(images).softmax(1).detach()
    gradient = (probabilities - torch.eye(4)[labels]).T @ images / 5
    assert grad_norm(network, images, labels) == pytest.approx(float(gradient.norm()), rel=1e-5)


def test_the_gradient_norm_adds_the_layers_norms(images):
    network, labels = perceptron(3, 6, 4), torch.arange(5) % 4
    nn.functional.cross_entropy(network(images), labels).backward()
    norms = [float(network[index].weight.grad.norm()) for index in (0, 2)]
    assert grad_norm(network, images, labels) == pytest.approx(sum(norms), rel=1e-5)


def test_synflow_adds_up_all_paths(images):
    network = perceptron(3, 6, 2, 4)
    first, second, third = (network[index].weight.detach().abs().double().numpy() for index in (0, 2, 4))
    flow = sum(
        third[out, b] * second[b, a] * first[a, i]
        for i, a, b, out in itertools.product(range(3), range(6), range(2), range(4))
    )
    before = [parameter.clone() for parameter in network.parameters()]
    assert synflow(network, images, torch.arange(5)) == pytest.approx(np.log(3 * flow), rel=1e-6)  # each layer gives R
    assert all(torch.equal(now, then) for now, then in zip(network.parameters(), before, strict=True))


def test_synflow_passes_batch_norms_by(images):
    pixels = images[:, :, None, None].expand(5, 3, 4, 4)
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    normed = nn.Sequential(plain[0], nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), plain[3])
    labels = torch.arange(5)
    assert synflow(normed, pixels, labels) == synflow(plain, pixels, labels)
    assert torch.equal(normed[1].running_mean, torch.zeros(4))  # as it was
    normed(pixels)
    assert not torch.equal(normed[1].running_mean, torch.zeros(4))  # it works on


def test_nwot_counts_what_is_switched_alike(images):
    network = perceptron(3, 6, 2, 4)
    first = network[0](images).relu()
    codes = torch.cat([first > 0, network[2](first) > 0], 1).tolist()
    kernel = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in codes] for one in codes]
    assert nwot(network, images, torch.arange(5)) == pytest.approx(np.log(abs(np.linalg.det(kernel))), rel=1e-9)
    twice = torch.cat([images[:1], images])
    assert nwot(network, twice, torch.arange(6)) == -np.inf


def test_jacob_cov_correlates_the_gradients_of_images(images):
    network = perceptron(3, 6, 4).double()
    images = images.double()
    gradients = np.empty((5, 3))
    for image, place in itertools.product(range(5), range(3)):
        moved = images.clone().repeat(2, 1, 1)
        moved[0, image, place] += 1e-6
        moved[1, image, place] -= 1e-6
        gradients[image, place] = float((network(moved[0]) - network(moved[1])).detach().sum()) / 2e-6
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(gradients))
    expected = -sum(np.log(max(v, 0) + 1e-5) + 1 / (max(v, 0) + 1e-5) for v in eigenvalues)
    assert jacob_cov(network, images, torch.arange(5)) == pytest.approx(expected, rel=1e-2)  # 1 / k magnifies
    assert np.isnan(jacob_cov(perceptron(1, 4), images[:, :1].float(), torch.arange(5)))


@pytest.mark.parametrize("space", ["small", "nasbench201"])
def test_an_architecture_of_a_template_is_a_network(space):
    kit = KITS[space]
    own = kit.space(4)
    template = kit.template(own, 4, 1, 3, 10, np.random.default_rng(0))
    before = {name: value.clone() for name, value in template.state_dict().items()}
    pixels = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scores = []
    for architecture in kit.evaluator(own).distributions().sample(np.random.default_rng(0), 3):
        path = Untrained(template, architecture)
        torch.testing.assert_close(path(pixels), template.sampled(pixels, template.per_cell(architecture)))
        scores.append([score(path, pixels, torch.arange(6)) for score in ZERO_COST.values()])
        assert scores[-1] == [score(path, pixels, torch.arange(6)) for score in ZERO_COST.values()]  # nothing is left
    assert np.isfinite(scores).all()
    assert len(np.unique(scores, axis=0)) == 3
    for name, value in template.state_dict().items():
        assert torch.equal(value, before[name])
        assert template.get_parameter(name).grad is None or name not in dict(template.named_parameters())
