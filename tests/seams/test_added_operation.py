"""An operation that is registered from outside works everywhere; what a fast pass does not know takes the plain one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setn_lab import kits
from setn_lab.compute.spread import spread
from setn_lab.compute.workers import Workers
from setn_lab.figures import cells, looks
from setn_lab.kits import KITS, Extensions, register_operation
from setn_lab.network import CifarNetwork, cost, operations
from setn_lab.network.costs import cost_table
from setn_lab.network.operations import Pool, ReLUConvBN, build_operation, initialize
from setn_lab.space import Genotype, genotype
from setn_lab.space.setn import SMALL, SearchSpace
from setn_lab.template.setn import Template


class Gate(nn.Module):
    """x * sigmoid(conv(x)), halved where the stride is 2: no ReLU in front, a bias, weights of its own."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * self.conv(x).sigmoid()


class Negative(nn.Module):
    """-x, halved: an operation without weights, and no identity."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return -x[:, :, :: self.stride, :: self.stride]


def odd_chain(channels, stride, norm):
    """ReLU, conv with bias, ReLU without a norm, dilated and strided conv, norm."""
    body = nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride, padding=2, dilation=2, groups=channels, bias=False),
    )
    return ReLUConvBN(body, channels, norm)


class Doubled(ReLUConvBN):
    """Overrides what a fast pass would go around."""

    def from_relu(self, active, factor=None):
        return 2 * super().from_relu(active, factor)


class Tripled(ReLUConvBN):
    def forward(self, x):
        return 3 * super().forward(x)


class Buffered(nn.Module):
    """No parameter, but numbers of its own on each edge."""

    def __init__(self, channels, stride):
        super().__init__()
        self.stride = stride
        self.register_buffer("factor", torch.empty(channels, 1, 1))

    def initialize(self, rng):
        self.factor.copy_(torch.from_numpy(rng.random(self.factor.shape)))

    def forward(self, x):
        return x[:, :, :: self.stride, :: self.stride] * self.factor


class WidePool(Pool):
    """5x5 in place of 3x3."""

    def forward(self, x):
        return F.avg_pool2d(x, 5, self.stride, padding=2)


def conv3(channels, stride):
    return nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)


MINE = {
    "doubled": lambda channels, stride, norm: Doubled(conv3(channels, stride), channels, norm),
    "tripled": lambda channels, stride, norm: Tripled(conv3(channels, stride), channels, norm),
    "buffered": lambda channels, stride, norm: Buffered(channels, stride),
    "wide_pool": lambda channels, stride, norm: WidePool("avg", stride),
    "gate": lambda channels, stride, norm: nn.Sequential(Gate(channels, stride), norm(channels)),
    "negative": lambda channels, stride, norm: Negative(stride),
    "odd_chain": odd_chain,
}


@pytest.fixture(autouse=True)
def registered():
    """The three operations, which are gone afterwards."""
    before = list(genotype.OPERATIONS)
    for name, factory in MINE.items():
        register_operation(name, factory, "#117733")
    yield
    for name in MINE:
        del operations.FACTORIES[name], looks.LOOKS[name]
    genotype.OPERATIONS[:] = before


SPACE = lambda: SearchSpace((*SMALL[2:4], *MINE), 3)  # noqa: E731, names are known once they are registered


def template(space, channels=3):
    return Template(space, channels, 1, 3, 5, np.random.default_rng(0)).double()


def images(size=8):
    return torch.randn(4, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def literal(network, weigh):
    """The logits of a template whose nodes are `weigh(cell number, cell type, node, states)`."""

    def logits(x):
        before = previous = network.stem(x)
        for number, (spot, cell) in enumerate(zip(network.plan, network.cells, strict=True)):
            states = [cell.preprocess0(before), cell.preprocess1(previous)]
            for node in range(network.space.nodes):
                states.append(weigh(number, spot.cell_type, node, states))
            before, previous = previous, torch.cat(states[2:], 1)
        return network.classifier(network.norm(previous).relu().mean((2, 3)))

    return logits


@pytest.mark.parametrize("size", [8, 7])
def test_eq_1_and_eq_10_are_literal_sums(size):
    space, x = SPACE(), images(size)
    network = template(space)
    drawn = space.sample(np.random.default_rng(2), len(network.cells))

    def sampled(number, cell_type, node, states):
        r1, r2, t, u = drawn[number, node]
        edges = network.cells[number].edges[node]
        return edges[t][r1](states[t]) + edges[u][r2](states[u])

    torch.testing.assert_close(network.sampled(x, drawn), literal(network, sampled)(x))
    with torch.no_grad():  # the lazy norms of scoring, with a cache
        cache = {}
        for _ in range(2):
            torch.testing.assert_close(network.sampled(x, drawn, cache=cache), literal(network, sampled)(x))

    weights = torch.rand(2, len(space.edges), len(space.operations), dtype=torch.float64)

    def mixed(number, cell_type, node, states):
        return sum(
            weights[cell_type, space.edges.index((node, state)), index] * operation(states[state])
            for state, edge in enumerate(network.cells[number].edges[node])
            for index, operation in enumerate(edge)
        )

    torch.testing.assert_close(network.mixed(x, weights), literal(network, mixed)(x))


def test_costs_and_final_networks():
    space, channels = SPACE(), 4
    encoded = space.sample(np.random.default_rng(5), 2)
    found = space.genotype(encoded)
    network = CifarNetwork(found, channels, 1, 10)
    counted = sum(parameter.numel() for parameter in network.parameters())
    assert cost_table(space, channels, 1, 3, 8, 10, "parameters").of(encoded) == counted
    assert cost(network, 8).parameters == counted
    assert cost_table(space, channels, 1, 3, 8, 10, "multiply_adds").of(encoded) == cost(network, 8).multiply_adds
    assert network(images().float()).logits.shape == (4, 10)


def test_texts_and_drawings():
    space = SPACE()
    found = space.genotype(space.sample(np.random.default_rng(6), 2))
    assert any(name in found.to_darts() for name in MINE)
    assert Genotype.from_json(found.to_json()) == Genotype.from_darts(found.to_darts()) == found
    assert space.genotype(space.encode(found)) == found
    nodes = ((("gate", 0), ("skip_connect", 1)),)
    source = cells.draw(Genotype(nodes, (2,), nodes, (2,))).source
    assert "gate" in source
    assert "#117733" in source


def test_a_search_finds_cells_with_it(tmp_path, tiny, monkeypatch):
    from dataclasses import replace

    from setn_lab.runs import Run
    from setn_lab.search import SearchConfig, prepare_search, train
    from setn_lab.search.candidates import search_candidates

    row = replace(KITS["small"], space=lambda nodes: SearchSpace(tuple(MINE), nodes))
    monkeypatch.setitem(kits.KITS, "mine", row)
    config = SearchConfig(**{**tiny, "space": "mine", "run_dir": str(tmp_path / "run"), "epochs": 1})
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        train(search, run)
        winner = search_candidates(search, run).genotype
    used = {operation for _, cell, _ in winner.cells for node in cell for operation, _ in node}
    assert used <= set(MINE)


def built(state, name):
    """A task of a worker: how many parameters an operation has there, which builds it by its name."""
    state.register()
    return sum(parameter.numel() for parameter in build_operation(name, 4, 1).parameters())


def test_workers_have_it_too():
    results = dict(spread(Workers(2), lambda given: given, Extensions.here(), built, ["gate", "odd_chain"]))
    here = [sum(part.numel() for part in build_operation(name, 4, 1).parameters()) for name in ("gate", "odd_chain")]
    assert [results[0], results[1]] == here


def test_a_pool_of_another_mode_is_refused():
    with pytest.raises(ValueError, match="mode: 'median'"):
        Pool("median", 1)


def test_what_is_not_known_raises():
    with pytest.raises(ValueError, match=r"'wave'.*register_operation"):
        looks.look("wave")
    with pytest.raises(KeyError, match="wave"):
        build_operation("wave", 4, 1)
    with pytest.raises(ValueError, match="'gate' given"):
        register_operation("gate", MINE["gate"], "#000000")
    with pytest.raises(ValueError, match="'a b' given"):
        register_operation("a b", MINE["gate"], "#000000")


class Scale(nn.Module):
    """A parameter of its own, which initialize cannot know."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.empty(3))


class Filled(Scale):
    def initialize(self, rng: np.random.Generator) -> None:
        with torch.no_grad():
            self.factor.copy_(torch.from_numpy(rng.random(3)))


def test_parameters_that_nothing_fills_are_refused():
    with pytest.raises(TypeError, match=r"Scale .*initialize\(rng\)"):
        initialize(nn.Sequential(nn.Conv2d(3, 3, 1), Scale()), np.random.default_rng(0))
    filled = Filled()
    initialize(filled, np.random.default_rng(0))
    np.testing.assert_allclose(filled.factor.detach(), np.random.default_rng(0).random(3), rtol=1e-6)
