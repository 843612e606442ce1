"""Costs against published sizes, hand formulas and averages over all architectures of a small space."""

import itertools
import math

import numpy as np
import pytest
import torch
from references import multiply_adds_by_hand, parameters_by_hand, random_evaluator

from setn_lab.evaluator.setn import Evaluator
from setn_lab.network import CifarNetwork, ImageNetNetwork, cost
from setn_lab.network.costs import CostTable, cost_table, largest_channels
from setn_lab.network.macro import imagenet_layout
from setn_lab.network.nasbench201 import layout as nasbench201_layout
from setn_lab.space.nasbench201 import NASBench201Space, every
from setn_lab.space.setn import LARGE, SMALL, SearchSpace
from setn_lab.space.zoo import ZOO
from setn_lab.template.norm import BatchNorm
from setn_lab.template.setn import Template

PUBLISHED = [
    (name, size)
    for name in ("SETN", "GDAS", "DARTS_V2", "SGAS_CRI2_1")
    for size in ZOO[name].sizes
    if size.data.startswith("CIFAR")
]


@pytest.mark.parametrize(("name", "size"), PUBLISHED, ids=lambda value: value if isinstance(value, str) else "")
def test_published_networks_have_their_printed_size(name, size):
    space = SearchSpace(LARGE, 4)
    table = cost_table(space, size.channels, size.repeats, 3, 32, 10, "parameters")
    parameters = table.of(space.encode(ZOO[name].genotype))
    assert parameters == int(parameters)
    assert round(parameters / 1e6, size.digits) == size.parameters
    if size.exact is not None:
        assert parameters == size.exact


def test_one_published_size_is_exact():
    assert [name for name, size in PUBLISHED if size.exact is not None] == ["DARTS_V2"]
    assert {name for name, _ in PUBLISHED} == {"SETN", "GDAS", "DARTS_V2", "SGAS_CRI2_1"}


@pytest.mark.parametrize(("channels", "image"), [(4, 8), (3, 9)])
def test_tables_are_hand_formulas(channels, image):
    """Section 3 with N = 1 and B = 2: cells N R N R N, channels C 2C 2C 4C 4C."""
    C, classes, colours, B = channels, 7, 3, 2
    space = SearchSpace(LARGE, B)
    edges = [(node, state) for node in range(B) for state in range(2 + node)]
    tables = {
        metric: cost_table(space, C, 1, colours, image, classes, metric) for metric in ("parameters", "multiply_adds")
    }
    expected = {metric: np.zeros((2, len(edges), len(LARGE))) for metric in tables}
    half, quarter = math.ceil(image / 2), math.ceil(image / 4)
    cells = [  # kind, channels, side of the previous input, side of the nodes
        (0, C, image, image),
        (1, 2 * C, image, half),
        (0, 2 * C, half, half),
        (1, 4 * C, half, quarter),
        (0, 4 * C, quarter, quarter),
    ]
    for kind, width, entrance, side in cells:
        for index, (_, state) in enumerate(edges):
            stride, size = (2, entrance) if kind == 1 and state < 2 else (1, side)
            for number, name in enumerate(LARGE):
                parameters = parameters_by_hand(name, width, stride)
                multiply_adds = multiply_adds_by_hand(name, width, stride, size)
                expected["parameters"][kind, index, number] += parameters
                expected["multiply_adds"][kind, index, number] += multiply_adds
    for metric, table in tables.items():
        np.testing.assert_array_equal(table.operations, expected[metric])

    stem = 3 * C * colours * 9
    inputs = [  # of each cell: channels of the two states it preprocesses, and their side afterwards
        (3 * C, 3 * C, C, image),
        (3 * C, B * C, 2 * C, image),
        (B * C, B * 2 * C, 2 * C, half),
        (B * 2 * C, B * 2 * C, 4 * C, half),
        (B * 2 * C, B * 4 * C, 4 * C, quarter),
    ]
    features = B * 4 * C
    parameters = stem + 2 * 3 * C + features * classes + classes
    multiply_adds = stem * image**2 + features * classes
    for before, previous, width, side in inputs:
        parameters += (before + previous) * width + 2 * 2 * width
        multiply_adds += (before + previous) * width * side**2
    assert tables["parameters"].fixed == parameters
    assert tables["multiply_adds"].fixed == multiply_adds


def test_cost_of_an_architecture_is_the_sum_of_its_parts():
    space = SearchSpace(SMALL, 3)
    table = cost_table(space, 2, 1, 3, 8, 10, "parameters")
    architecture = space.sample(np.random.default_rng(0), 2)
    total = table.fixed
    for kind in range(2):
        for node in range(3):
            r1, r2, t, u = architecture[kind, node]
            total += table.operations[kind, sum(range(2, 2 + node)) + t, r1]
            total += table.operations[kind, sum(range(2, 2 + node)) + u, r2]
    assert table.of(architecture) == total
    assert table.of(space.canonical(architecture[..., [1, 0, 3, 2]])) == total


@pytest.mark.parametrize("metric", ["parameters", "multiply_adds"])
def test_expected_cost_is_the_average_over_all_architectures(metric):
    space = SearchSpace(("skip_connect", "sep_conv_3x3", "conv_3x1_1x3"), 1)
    evaluator = random_evaluator(space).double()
    table = cost_table(space, 3, 1, 3, 8, 10, metric)
    f, g, h = (p.detach().numpy() for p in evaluator.probabilities())
    pairs = [(r1, r2) for r1 in range(3) for r2 in range(r1 + 1)]
    cells = [
        [
            ((r1, r2, t, u), h[kind, 0, r] * f[kind, 0, t] * g[kind, 0, u])
            for r, (r1, r2) in enumerate(pairs)
            for t in range(2)
            for u in range(2)
        ]
        for kind in range(2)
    ]
    average = weight = 0.0
    for (normal, p), (reduce, q) in itertools.product(*cells):
        average += p * q * table.of(np.array([[normal], [reduce]]))
        weight += p * q
    assert weight == pytest.approx(1)
    assert table.expected(evaluator.distributions().mixing_weights()) == pytest.approx(average, rel=1e-10)
    assert table.expected(evaluator.mixing_weights()).item() == pytest.approx(average, rel=1e-10)


def test_expected_cost_of_a_sure_evaluator_is_the_cost_of_its_architecture():
    space = SearchSpace(SMALL, 3)
    evaluator = random_evaluator(space).double()
    for parameter in evaluator.parameters():
        parameter.data.mul_(1e4)
    table = cost_table(space, 2, 1, 3, 8, 10, "parameters")
    distributions = evaluator.distributions()
    assert table.expected(distributions.mixing_weights()) == pytest.approx(table.of(distributions.argmax()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_expected_cost_is_differentiable(dtype):
    space = SearchSpace(SMALL, 2)
    evaluator = random_evaluator(space).to(dtype)
    table = cost_table(space, 2, 1, 3, 8, 10, "parameters")
    cost = table.expected(evaluator.mixing_weights())
    assert cost.shape == ()
    assert cost.dtype == dtype
    cost.backward()
    assert all(bool((parameter.grad != 0).any()) for parameter in evaluator.parameters())
    if dtype == torch.float64:
        place, change = (1, 1, 4), 1e-5
        slope = evaluator.h.grad[place].item()
        values = []
        for sign in (1, -1):
            evaluator.h.data[place] += sign * change
            values.append(table.expected(evaluator.mixing_weights()).item())
            evaluator.h.data[place] -= sign * change
        assert slope == pytest.approx((values[0] - values[1]) / (2 * change), rel=1e-5)


def test_everything_is_the_template():
    for operations, nodes, channels, repeats in ((SMALL, 2, 2, 1), (LARGE, 1, 3, 2)):
        space = SearchSpace(operations, nodes)
        template = Template(space, channels, repeats, 1, 10, np.random.default_rng(0))
        table = cost_table(space, channels, repeats, 1, 8, 10, "parameters", norm=BatchNorm)
        assert table.everything() == sum(parameter.numel() for parameter in template.parameters())


def test_tables_draw_nothing_from_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for metric in ("parameters", "multiply_adds", "latency"):
        cost_table(SearchSpace(("skip_connect", "sep_conv_3x3"), 1), 2, 1, 3, 8, 10, metric, batch_size=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_latency_is_positive_and_finite():
    space = SearchSpace(("skip_connect", "sep_conv_3x3", "max_pool_3x3"), 1)
    table = cost_table(space, 2, 1, 1, 8, 10, "latency", batch_size=2)
    assert table.operations.shape == (2, 2, 3)
    assert bool(np.isfinite(table.operations).all())
    assert bool((table.operations > 0).all())
    assert table.fixed > 0
    assert 0 < table.expected(Evaluator(space).distributions().mixing_weights()) < math.inf


@pytest.mark.parametrize("image_size", [32, 37])
def test_the_table_of_the_imagenet_network_is_what_the_network_costs(image_size):
    space = SearchSpace(LARGE, 2)
    tables = [
        cost_table(space, 5, 1, 1, image_size, 7, metric, layout=imagenet_layout)
        for metric in ("parameters", "multiply_adds")
    ]
    for architecture in space.sample(np.random.default_rng(0), 3, 2):
        network = ImageNetNetwork(space.genotype(architecture), 5, 1, 7, image_channels=1)
        found = cost(network, image_size)
        assert [table.of(architecture) for table in tables] == [found.parameters, found.multiply_adds]


def test_many_architectures_cost_what_each_costs():
    for space, layout in ((SearchSpace(SMALL, 3), {}), (NASBench201Space(), {"layout": nasbench201_layout})):
        table = cost_table(space, 2, 1, 3, 8, 10, "parameters", **layout)
        architectures = space.sample(np.random.default_rng(0), 20, space.cell_types)
        assert table.of_all(architectures).tolist() == [table.of(one) for one in architectures]
        assert len(set(table.of_all(architectures))) > 5


@pytest.mark.parametrize("seed", range(5))
def test_no_architecture_is_cheaper_than_the_cheapest(seed):
    rng = np.random.default_rng(seed)
    cells = SearchSpace(("skip_connect", "sep_conv_3x3", "conv_3x1_1x3"), 1)
    pairs = [(a, b) for a in range(3) for b in range(a + 1)]
    nodes = [(*pair, t, u) for pair in pairs for t in range(2) for u in range(2)]
    spaces = (
        (cells, np.array(list(itertools.product([[node] for node in nodes], repeat=2)))),
        (NASBench201Space(), every()[:, None]),
    )
    for space, architectures in spaces:
        shape = space.cell_types, len(space.edges), len(space.operations)
        table = CostTable(space, "parameters", rng.exponential(size=shape), 0.5)
        assert table.lowest == pytest.approx(table.of_all(architectures).min())


@pytest.mark.parametrize(("limit", "repeats"), [(600_000, 1), (1_000_000, 2)])
@pytest.mark.parametrize("network", [CifarNetwork, ImageNetNetwork])
def test_the_largest_network_fits_and_the_next_does_not(limit, repeats, network):
    genotype = ZOO["SETN"].genotype
    size = {"image_size": 16, "num_classes": 3, "network": network}
    if network is ImageNetNetwork:
        size["image_size"] = 32
    found = largest_channels(genotype, repeats, limit, **size)
    networks = [network(genotype, channels, repeats, 3) for channels in (found, found + 1)]
    takes = [cost(one, size["image_size"]).multiply_adds for one in networks]
    assert takes[0] <= limit < takes[1]
    with pytest.raises(ValueError, match="multiply_adds: 9 given"):
        largest_channels(genotype, repeats, 9, **size)
