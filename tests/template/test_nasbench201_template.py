"""Template and evaluator of NAS-Bench-201's space, through the machinery that both spaces share."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import pixels, randomized
from torch import nn

from setn_lab.config import ConfigError, completed, identity
from setn_lab.evaluator.nasbench201 import NASBench201Distributions, NASBench201Evaluator
from setn_lab.kits import KITS
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run
from setn_lab.search.candidates import search_candidates
from setn_lab.search.config import SearchConfig
from setn_lab.search.scoring import evaluate
from setn_lab.search.setup import prepare_search
from setn_lab.search.steps import Trainer
from setn_lab.search.training import train
from setn_lab.space import nasbench201
from setn_lab.space.nasbench201 import EDGES, OPERATIONS_201, NASBench201Genotype, NASBench201Space
from setn_lab.template.nasbench201 import NASBench201Template

SPACE = NASBench201Space()


def template(channels=4, repeats=2):
    return NASBench201Template(SPACE, channels, repeats, 3, 5, np.random.default_rng(0))


def written_out(network, images, combine):
    """The network with its cells as loops: combine(cell, modules of an edge, edge, state) is what an edge gives."""
    x = network.stem(images)
    for index, cell in enumerate(network.cells):
        states = [x]
        for node in range(3):
            terms = [
                combine(index, cell.edges[node][state], edge, states[state])
                for edge, (head, state) in enumerate(EDGES)
                if head == node
            ]
            states.append(torch.stack(terms).sum(0))
        x = states[-1]
        if index in (1, 3):  # two cells a stage
            block = network.reductions[index // 2]
            inner = block.second(block.first(x))
            x = F.conv2d(F.avg_pool2d(x, 2, 2), block.shortcut[1].weight) + inner
    return network.classifier(F.relu(network.norm(x)).mean((2, 3)))


def test_the_head_is_the_one_that_it_always_had():
    config = SearchConfig(space="nasbench201")
    assert config.template_head == completed(SearchConfig, {"space": "nasbench201"})["template_head"] == "norm"
    assert "template_head" not in identity(config)
    with pytest.raises(ConfigError, match="template_head: 'mean' given; 'norm' is allowed for nasbench201"):
        SearchConfig(space="nasbench201", template_head="mean")


def test_sampled_is_the_network_written_out():
    network, drawn = template(), SPACE.sample(np.random.default_rng(2), 6)
    drawn[0] = 0  # a cell of nothing
    expected = written_out(network, pixels(6), lambda cell, modules, edge, state: modules[drawn[cell, edge]](state))
    torch.testing.assert_close(network.sampled(pixels(6), drawn), expected)


def test_sides_that_halve_to_no_whole_number_are_rounded_up():
    network, drawn = template(channels=2, repeats=1), np.full((3, 6), 3)
    macs = []

    def count(module, arguments, result):
        macs.append(result[0].numel() * module.weight[0].numel())

    hooks = [one.register_forward_hook(count) for one in network.modules() if isinstance(one, (nn.Conv2d, nn.Linear))]
    assert network.sampled(pixels(6, 7), drawn).shape == (6, 5)
    for hook in hooks:
        hook.remove()
    assert KITS["nasbench201"].cost_table(SPACE, 2, 1, 3, 7, 5, "multiply_adds").of(drawn[:1]) == sum(macs)


def test_mixed_is_the_network_written_out():
    network, evaluator = template().double(), NASBench201Evaluator(SPACE).double()
    randomized(evaluator)
    images = pixels(6).double()

    def combine(cell, modules, edge, state):
        weights = evaluator.alpha[0, edge].softmax(0)
        return sum(weight * module(state) for weight, module in zip(weights, modules, strict=True))

    expected = written_out(network, images, combine)
    (slow,) = torch.autograd.grad(F.cross_entropy(expected, torch.arange(6) % 5), evaluator.alpha)
    logits = network.mixed(images, evaluator.mixing_weights())
    (fast,) = torch.autograd.grad(F.cross_entropy(logits, torch.arange(6) % 5), evaluator.alpha)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(fast, slow)


def test_a_decided_evaluator_mixes_what_is_sampled():
    network, cell = template(), SPACE.sample(np.random.default_rng(3), 1)
    weights = F.one_hot(torch.from_numpy(cell), 5).float()
    torch.testing.assert_close(network.mixed(pixels(6), weights), network.sampled(pixels(6), network.per_cell(cell)))


@torch.no_grad()
def test_what_is_known_of_the_first_cell_changes_nothing():
    network, known = template(), {}
    for cell in SPACE.sample(np.random.default_rng(4), 5, 1):
        architecture = network.per_cell(cell)
        expected = network.sampled(pixels(6), architecture)
        assert torch.equal(network.sampled(pixels(6), architecture, cache=known), expected)
    assert len(known) > 4


def test_what_is_remembered_changes_nothing():
    network, known = template().double(), {}
    images = pixels(6).double().contiguous(memory_format=torch.channels_last)
    same = [np.full((len(network.cells), 6), OPERATIONS_201.index(name)) for name in ("skip_connect", "none")]
    for architecture in [*same, *SPACE.sample(np.random.default_rng(6), 12, len(network.cells))]:
        expected = network.sampled(images, architecture).detach()
        with torch.no_grad():
            for memory in (None, known, known):
                torch.testing.assert_close(network.sampled(images, architecture, cache=memory), expected)
    assert len(known) > 10


def test_path_dropout_drops_all_but_the_identity():
    network, drawn = template(repeats=1), np.full((3, 6), OPERATIONS_201.index("skip_connect"))
    keep = torch.zeros(3, 3, 3, 6)
    assert torch.equal(network.sampled(pixels(6), drawn, keep), network.sampled(pixels(6), drawn))
    drawn[:, 0] = OPERATIONS_201.index("nor_conv_3x3")
    assert not torch.equal(network.sampled(pixels(6), drawn, keep), network.sampled(pixels(6), drawn))


def test_the_evaluator_draws_by_its_probabilities():
    rng = np.random.default_rng(0)
    distributions = NASBench201Distributions(SPACE, rng.dirichlet(np.ones(5), (1, 6)))
    every = nasbench201.every()[:, None]
    chance = np.exp(distributions.log_probability(every))
    expected = [np.prod([distributions.alpha[0, edge, o] for edge, o in enumerate(one[0])]) for one in every[::500]]
    np.testing.assert_allclose(chance[::500], expected)
    assert chance.sum() == pytest.approx(1)
    np.testing.assert_array_equal(distributions.argmax(), every[chance.argmax()])
    assert distributions.entropy() == pytest.approx(-(chance * np.log(chance)).sum())
    drawn = distributions.sample(rng, 5000)
    assert drawn.shape == (5000, 1, 6)
    shares = np.stack([np.bincount(drawn[:, 0, edge], minlength=5) for edge in range(6)]) / 5000
    assert np.abs(shares - distributions.alpha[0]).max() < 0.035
    powers = distributions.alpha**2
    np.testing.assert_allclose(distributions.tempered(0.5).alpha, powers / powers.sum(-1, keepdims=True))
    again = NASBench201Distributions.from_record(SPACE, json.loads(json.dumps(distributions.to_record())))
    np.testing.assert_array_equal(again.alpha, distributions.alpha)


def test_a_fresh_evaluator_is_uniform():
    distributions = NASBench201Evaluator(SPACE).distributions()
    np.testing.assert_allclose(distributions.alpha, 0.2)
    assert distributions.entropy() == pytest.approx(6 * np.log(5))


def test_the_costs_are_those_of_the_benchmark():
    """The largest cell has 1.531546 M parameters and 220.12 M multiply-adds there; others are counted by hand."""
    sizes = {}
    for metric in ("parameters", "multiply_adds"):
        table = KITS["nasbench201"].cost_table(SPACE, 16, 5, 3, 32, 10, metric)
        sizes[metric] = [table.of(SPACE.encode(NASBench201Genotype((name,) * 6))) for name in OPERATIONS_201]
        weights = NASBench201Evaluator(SPACE).distributions().mixing_weights()
        drawn = SPACE.sample(np.random.default_rng(0), 400, 1)
        values = np.array([table.of(one) for one in drawn])
        assert abs(values.mean() - table.expected(weights)) < 4 * values.std() / 20
    assert sizes["parameters"][3] == 1_531_546
    assert round(sizes["multiply_adds"][3] / 1e6, 2) == 220.12
    by_hand = sum(5 * 6 * (9 * C * C + 2 * C) for C in (16, 32, 64))
    assert sizes["parameters"][3] - sizes["parameters"][0] == by_hand
    assert sizes["parameters"][1] == sizes["parameters"][4] == sizes["parameters"][0]


@pytest.fixture
def config(tiny_config):
    return lambda folder, **values: tiny_config(folder, space="nasbench201", nodes=4, **values)


@pytest.mark.parametrize("strategy", ["setn", "setn-lr", "setn-non"])
@pytest.mark.parametrize("sampling", ["uniform", "fair", "connected"])
def test_an_interrupted_search_ends_as_one_in_one_go(tmp_path, config, outcome, strategy, sampling):
    class HaltError(Exception):
        pass

    def stop(progress):
        if progress.phase == "train" and progress.record and progress.record["epoch"] == 2:
            raise HaltError

    folders = []
    for name, observers in (("whole", [None]), ("parts", [stop, None])):
        given = config(tmp_path / name, strategy=strategy, sampling=sampling)
        folders.append(tmp_path / name)
        for observe in observers:
            with Run.open(given, "search") as run:
                search = prepare_search(given, run)
                try:
                    train(search, run, *([observe] if observe else []))
                except HaltError:
                    continue
                winner = search_candidates(search, run)
    assert outcome(folders[0]) == outcome(folders[1])
    lines = read_journal(folders[0] / "candidates.jsonl")
    assert NASBench201Genotype.from_json((folders[0] / "genotype.json").read_text(encoding="utf-8")) == winner.genotype
    best = min(lines, key=lambda one: one["loss"])
    assert NASBench201Genotype.from_text(best["genotype"]) == winner.genotype
    ((loss, accuracy),) = evaluate(search, [SPACE.encode(winner.genotype)])
    assert (loss, accuracy) == pytest.approx((best["loss"], best["accuracy"]))


@pytest.mark.parametrize("space", ["nasbench201", "small"])
def test_a_fair_step_adds_the_gradients_of_its_round(tmp_path, tiny_config, space):
    given = tiny_config(tmp_path / "run", space=space, nodes=4, sampling="fair", path_dropout=0.25)
    search = prepare_search(given)
    trainer = Trainer(search)
    round_ = trainer.architectures(5)
    assert len(round_) == len(search.space.operations)
    images, labels = trainer.batch(search.train, "train", 5)
    losses = [
        F.cross_entropy(search.template.sampled(images, one, trainer.path_dropout(5, len(images), part)), labels)
        for part, one in enumerate(round_)
    ]
    parameters = list(search.template.parameters())
    expected = torch.autograd.grad(sum(losses), parameters, allow_unused=True)
    mean = float(sum(losses).detach() / len(losses))
    assert float(trainer.weight_step(5)[0]) == pytest.approx(mean, rel=1e-5)
    total = torch.sqrt(sum((one**2).sum() for one in expected if one is not None))
    scale = min(1.0, given.gradient_clip / float(total))
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, scale * gradient, rtol=1e-3, atol=1e-6)
    parts = [trainer.path_dropout(5, 16, part) for part in range(3)]
    assert not torch.equal(parts[0], parts[1])


def test_a_cell_of_another_number_of_nodes_is_refused():
    with pytest.raises(ConfigError, match=r"nodes: 5 given; 4 is allowed for nasbench201"):
        SearchConfig(space="nasbench201", nodes=5)
