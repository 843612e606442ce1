"""The two steps of Algorithm 1 against steps written by hand, and what a step may change."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import TINY, randomized

from setn_lab.compute.streams import generator
from setn_lab.data.batches import Augmentation, Normalization, augment, normalize_images
from setn_lab.runs.run import Run
from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.search.steps import Trainer, learning_rate, one_shot
from setn_lab.search.training import train

SMALL = {**TINY, "limit_train": 64, "limit_valid": 64, "epochs": 2, "flip": True}


def trainer_of(**changes):
    """A trainer whose evaluator is not uniform, so that f, g and h matter from the first step."""
    trainer = Trainer(prepare_search(SearchConfig(**{**SMALL, "nodes": 2, **changes})))
    randomized(trainer.search.evaluator, seed=0)
    return trainer


def weights_of(module):
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def batch_by_hand(search, part, stream, step):
    """The images of a step: the `step`-th slice of a permutation, augmented and normalized."""
    config = search.config
    pass_number, number = divmod(step, len(part) // config.batch_size)
    order = generator(config.seed, f"{stream} order", pass_number).permutation(len(part))
    chosen = torch.from_numpy(order[number * config.batch_size : (number + 1) * config.batch_size])
    pixels = augment(
        part.images[chosen],
        Normalization.of(search.train),
        Augmentation(config.crop_padding, config.flip, config.cutout),
        generator(config.seed, f"{stream} augmentation", step),
    )
    return pixels, part.labels[chosen]


def test_batches_are_those_of_their_steps_in_any_order():
    """They are made several steps at once, which must not show, nor may the streams disturb each other."""
    trainer = trainer_of()
    for step in (0, 1, 7, 8, 3, 17, 16, 2):
        for stream, part in (("train", trainer.search.train), ("valid", trainer.search.valid)):
            images, labels = trainer.batch(part, stream, step)
            expected, expected_labels = batch_by_hand(trainer.search, part, stream, step)
            assert torch.equal(images, expected)
            assert torch.equal(labels, expected_labels)
            assert images.is_contiguous(memory_format=torch.channels_last)


def clipped(gradients, limit):
    norm = math.sqrt(sum(float((gradient.double() ** 2).sum()) for gradient in gradients if gradient is not None))
    return [None if g is None else g * min(1.0, limit / norm) for g in gradients]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strategy": "setn-lr"},
        {"strategy": "setn-non"},
        {"path_dropout": 0.0, "flip": False, "crop_padding": 0},
        {"gradient_clip": 0.3, "path_dropout": 0.5},
        {"cutout": 3, "weight_lr": 0.2, "weight_momentum": 0.0, "weight_decay": 0.1},
    ],
    ids=str,
)
def test_weight_steps_are_steps_written_by_hand(changes, monkeypatch):
    trainer = trainer_of(**changes)
    search, config = trainer.search, trainer.search.config
    for module in (search.template, search.evaluator):
        module.double()  # in float32 another order of sums can turn a maximum or a ReLU, and with it the gradient
    batch = trainer.batch
    monkeypatch.setattr(trainer, "batch", lambda *of: (batch(*of)[0].double(), batch(*of)[1]))
    template = copy.deepcopy(search.template)
    mixing = search.evaluator.mixing_weights().detach()
    velocity = {name: None for name, _ in template.named_parameters()}
    evaluator = weights_of(search.evaluator)
    norms = []
    for step in range(3):
        images, labels = batch_by_hand(search, search.train, "train", step)
        images = images.double()
        if config.strategy == "setn-non":
            logits = template.mixed(images, mixing)
        else:
            logits = template.sampled(images, trainer.architecture(step), trainer.path_dropout(step, len(images)))
        loss = -torch.log_softmax(logits, 1)[torch.arange(len(labels)), labels].mean()
        names, parameters = zip(*template.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        norms.append(math.sqrt(sum(float((g**2).sum()) for g in gradients if g is not None)))
        rate = config.weight_lr * 0.5 * (1 + math.cos(math.pi * step / (config.epochs * (64 // 16))))
        with torch.no_grad():
            for name, parameter, gradient in zip(
                names, parameters, clipped(gradients, config.gradient_clip), strict=True
            ):
                if gradient is None:
                    continue
                gradient = gradient + config.weight_decay * parameter
                old = velocity[name]
                velocity[name] = gradient if old is None else config.weight_momentum * old + gradient
                parameter -= rate * velocity[name]
        outcome = trainer.weight_step(step)
        accuracy = (logits.argmax(1) == labels).float().mean()
        torch.testing.assert_close(outcome, torch.stack([loss.detach(), accuracy]).float())
        for name, parameter in search.template.named_parameters():
            torch.testing.assert_close(parameter, template.get_parameter(name), rtol=1e-4, atol=1e-6)
    assert all(torch.equal(value, evaluator[name]) for name, value in search.evaluator.named_parameters())
    if config.gradient_clip < 1:
        assert min(norms) > config.gradient_clip, "the limit was not reached, so clipping was not tested"


def test_weights_that_are_not_sampled_keep_every_bit():
    """Neither decay nor momentum of an earlier step moves them."""
    trainer = trainer_of(weight_decay=0.1)
    template = trainer.search.template
    ever = False
    for step in range(6):
        before = weights_of(template)
        trainer.weight_step(step)
        used = {
            f"cells.{c}.edges.{node}.{state}.{r}."
            for c, cell in enumerate(trainer.architecture(step).tolist())
            for node, (r1, r2, t, u) in enumerate(cell)
            for r, state in ((r1, t), (r2, u))
        }
        for name, parameter in template.named_parameters():
            if ".edges." in name and not any(name.startswith(prefix) for prefix in used):
                assert torch.equal(parameter, before[name]), name
                ever = ever or bool(trainer.weight_optimizer.state.get(parameter))
            elif name.startswith(("classifier.", "cells.4.edges.")):  # of other cells, what later ones may not read
                assert not torch.equal(parameter, before[name]), name
    assert ever, "no weight with momentum was left out, so that was not tested"


@pytest.mark.parametrize("changes", [{}, {"cost_weight": 2.0}, {"gradient_clip": 0.01}], ids=str)
def test_evaluator_step_is_a_step_on_the_validation_loss(changes):
    trainer = trainer_of(**changes)
    search, config = trainer.search, trainer.search.config
    trainer.weight_step(0)  # leaves gradients on the template, and momentum
    template_before = weights_of(search.template)
    velocity_before = {p: s["momentum_buffer"].clone() for p, s in trainer.weight_optimizer.state.items() if s}
    gradients_before = {
        name: None if p.grad is None else p.grad.clone() for name, p in search.template.named_parameters()
    }
    evaluator = copy.deepcopy(search.evaluator)
    template = copy.deepcopy(search.template).requires_grad_(True)
    images, labels = batch_by_hand(search, search.valid, "valid", 5)
    mixing = evaluator.mixing_weights()
    loss = F.cross_entropy(template.mixed(images, mixing), labels)
    objective = loss
    if config.cost_weight:
        objective = loss + config.cost_weight * search.cost.expected(mixing)
    gradients = clipped(torch.autograd.grad(objective, list(evaluator.parameters())), config.gradient_clip)

    outcome = trainer.evaluator_step(5)
    torch.testing.assert_close(outcome[0], loss.detach())
    for (name, parameter), gradient in zip(search.evaluator.named_parameters(), gradients, strict=True):
        assert bool((gradient != 0).any())
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)
        start = evaluator.get_parameter(name).detach()
        decayed = gradient + config.evaluator_weight_decay * start
        # Adam's first step: both moments, corrected for their bias, are the gradient and its square
        expected = start - config.evaluator_lr * decayed / (decayed.abs() + 1e-8)
        certain = decayed.abs() > 1e-5  # a gradient of rounding errors has no sign to compare
        assert float(certain.float().mean()) > 0.3
        torch.testing.assert_close(parameter.detach()[certain], expected[certain], rtol=1e-4, atol=1e-5)
    for name, parameter in search.template.named_parameters():
        assert torch.equal(parameter, template_before[name])
        left, before = parameter.grad, gradients_before[name]
        assert (left is None) == (before is None)
        assert before is None or torch.equal(left, before)
    assert all(torch.equal(trainer.weight_optimizer.state[p]["momentum_buffer"], v) for p, v in velocity_before.items())


def test_first_evaluator_step_leaves_no_gradient_on_the_template():
    trainer = trainer_of()
    trainer.evaluator_step(0)
    assert all(parameter.grad is None for parameter in trainer.search.template.parameters())
    assert all(parameter.grad is not None for parameter in trainer.search.evaluator.parameters())


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_path_dropout_has_two_values_and_mean_one(rate):
    trainer = trainer_of(path_dropout=rate)
    factors = torch.stack([trainer.path_dropout(step, 500) for step in range(4)])
    assert factors.shape == (4, 5, 2, 2, 500)
    assert factors.dtype == torch.float32
    values = factors.unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / (1 - rate)]))
    error = math.sqrt(rate / (1 - rate) / factors.numel())  # of the mean of a scaled Bernoulli variable
    assert abs(factors.double().mean().item() - 1) < 5 * error
    halves = factors.flatten(1).bool()
    assert not torch.equal(halves[0], halves[1])
    assert torch.equal(trainer.path_dropout(2, 500), factors[2])


def test_no_path_dropout_is_none():
    assert trainer_of(path_dropout=0.0).path_dropout(0, 16) is None


def test_setn_lr_shares_an_architecture_within_a_kind_of_cell():
    shared, own = trainer_of(strategy="setn-lr", repeats=2), trainer_of(strategy="setn", repeats=2)
    kinds = "NNRNNRNN"
    alike = {True: 0, False: 0}
    for step in range(20):
        for trainer in (shared, own):
            drawn = trainer.architecture(step)
            assert drawn.shape == (8, 2, 4)
            assert np.array_equal(drawn, trainer.architecture(step))
            for a in range(8):
                for b in range(a):
                    equal = np.array_equal(drawn[a], drawn[b])
                    if trainer is shared and kinds[a] == kinds[b]:
                        assert equal
                    else:
                        alike[trainer is shared] += equal
    assert alike[True] < 20  # a normal and a reduction cell: 240 couples, equal by chance alone
    assert alike[False] < 20
    steps = [own.architecture(step).tobytes() for step in range(20)]
    assert len(set(steps)) == 20


def test_every_architecture_is_equally_likely_in_training():
    trainer = trainer_of(nodes=1)
    counts = np.zeros((6, 6))
    for step in range(600):
        for r1, r2, _, _ in trainer.architecture(step)[:, 0].tolist():
            counts[r1, r2] += 1
    lower = counts[np.tril_indices(6)]
    assert counts.sum() == lower.sum() == 3000
    expected = 3000 / 21
    assert ((lower - expected) ** 2 / expected).sum() < 50  # chi-square of 20 degrees: p about 2e-4


def test_cosine_rate():
    config = SearchConfig(**SMALL)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[0] == config.weight_lr
    assert rates[50] == pytest.approx(config.weight_lr / 2)
    assert 0 < rates[99] < 0.001 * config.weight_lr
    assert all(a > b for a, b in itertools.pairwise(rates))
    for step in range(100):
        expected = config.weight_lr * math.cos(math.pi * step / 200) ** 2
        assert rates[step] == pytest.approx(expected, rel=1e-9)
    for end in (0.01, config.weight_lr):
        raised = [learning_rate(SearchConfig(**SMALL, weight_lr_end=end), step, 100) for step in range(101)]
        share = (config.weight_lr - end) / config.weight_lr  # of the annealed rate, above the end
        assert raised == pytest.approx([end + share * rate for rate in [*rates, 0]])
    trainer = trainer_of()
    assert trainer.search.steps == 4
    for step in (0, 7):
        trainer.weight_step(step)
        assert [group["lr"] for group in trainer.weight_optimizer.param_groups] == [learning_rate(config, step, 8)]


@pytest.mark.parametrize("strategy", ["setn", "setn-lr", "setn-non"])
def test_same_step_from_the_same_state_is_the_same_to_the_bit(strategy):
    trainers = [trainer_of(strategy=strategy) for _ in range(2)]
    for step in range(2):
        torch.manual_seed(step)  # the global generator plays no part
        outcomes = []
        for trainer in trainers:
            outcomes.append([trainer.weight_step(step), trainer.evaluator_step(step)])
            torch.rand(3)
        assert all(map(torch.equal, *outcomes))
    third = trainer_of(strategy=strategy)
    third.load_state(copy.deepcopy(trainers[0].state()))
    outcomes = [[trainer.weight_step(6), trainer.evaluator_step(6)] for trainer in (*trainers, third)]
    for trainer, outcome in zip((trainers[1], third), outcomes[1:], strict=True):
        assert all(map(torch.equal, outcomes[0], outcome))
        for module in ("template", "evaluator"):
            ones, others = (weights_of(getattr(one.search, module)) for one in (trainers[0], trainer))
            assert all(torch.equal(value, others[name]) for name, value in ones.items())


def test_cost_penalty_lowers_the_expected_cost():
    trainers = [trainer_of(cost_weight=weight, evaluator_lr=0.05) for weight in (100.0, 1e-6)]
    costs = []
    for trainer in trainers:
        expected = []
        for step in range(12):
            expected.append(trainer.search.cost.expected(trainer.search.evaluator.mixing_weights()).item())
            trainer.evaluator_step(step)
        costs.append(expected)
    penalized, free = costs
    assert penalized[0] == free[0]
    assert all(a > b for a, b in itertools.pairwise(penalized))
    assert penalized[-1] < free[-1] - 0.05


@pytest.mark.parametrize("metric", ["parameters", "multiply_adds"])
def test_cost_is_relative_to_uniform_architectures(metric):
    search = prepare_search(SearchConfig(**SMALL, cost_weight=1.0, cost_metric=metric))
    assert search.cost.expected(search.evaluator.mixing_weights()).item() == pytest.approx(1, rel=1e-5)
    costs = [search.cost.of(one) for one in search.space.sample(np.random.default_rng(0), 2000, 2)]
    assert np.mean(costs) == pytest.approx(1, abs=5 * np.std(costs) / math.sqrt(2000))
    assert prepare_search(SearchConfig(**SMALL)).cost is None


def test_training_does_the_steps_in_turn(tmp_path):
    """Algorithm 1: weights, evaluator, weights, ...; the evaluator joins at `evaluator_start`."""
    config = SearchConfig(**SMALL, evaluator_start=1, run_dir=str(tmp_path / "run"))
    search, trainer = prepare_search(config), Trainer(prepare_search(config))
    with Run.open(config, "search") as run:
        metrics = train(search, run)
    assert len(metrics) == 2
    for step in range(8):
        trainer.weight_step(step)
        if step >= 4:
            trainer.evaluator_step(step)
    for module in ("template", "evaluator"):
        ones, others = (weights_of(getattr(one, module)) for one in (search, trainer.search))
        assert all(torch.equal(value, others[name]) for name, value in ones.items())


def test_bfloat16_steps_stay_near_float32():
    full, half = (trainer_of(precision=precision) for precision in ("float32", "bfloat16"))
    for step in range(2):
        for name in ("weight_step", "evaluator_step"):
            one, other = (getattr(trainer, name)(step)[0].item() for trainer in (full, half))
            assert one != other
            assert other == pytest.approx(one, rel=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in half.search.template.parameters())
    quadruples = full.search.space.sample(np.random.default_rng(0), 5)
    images = normalize_images(half.search.valid.images[:4], half.search.normalization)
    assert one_shot(half.search, images, quadruples).dtype == torch.float32
