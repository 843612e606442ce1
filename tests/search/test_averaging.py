"""The average of the template's weights: what it is, who reads it, and that it is resumed."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from references import TINY, StopError, randomized, run_search

from setn_lab.config import ConfigError, digest
from setn_lab.runs.checkpoint import load_latest
from setn_lab.search.config import SearchConfig
from setn_lab.search.estimate import estimate
from setn_lab.search.scoring import evaluate
from setn_lab.search.setup import prepare_search
from setn_lab.search.steps import Trainer


def trainer_of(**changes):
    return Trainer(prepare_search(SearchConfig(**{**TINY, **changes})))


def weights_of(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(("decay", "changes"), [(0.5, {}), (0.9, {"space": "nasbench201", "nodes": 4}), (0.999, {})])
def test_it_is_the_weighted_mean_of_the_weights_after_each_step(decay, changes):
    trainer = trainer_of(weight_averaging=decay, weight_lr=0.2, **changes)
    history = []
    for step in range(6):
        trainer.weight_step(step)
        history.append(weights_of(trainer.search.template))
        weights = [decay**age for age in reversed(range(len(history)))]
        for name, value in trainer.search.average.state_dict().items():
            terms = [weight * now[name].double() for weight, now in zip(weights, history, strict=True)]
            torch.testing.assert_close(value.double(), sum(terms) / sum(weights), rtol=1e-5, atol=1e-6)
    assert not same(weights_of(trainer.search.average), history[-1])


def test_a_short_memory_is_the_last_weights():
    trainer = trainer_of(weight_averaging=1e-12)
    for step in range(2):
        trainer.weight_step(step)
        for name, value in trainer.search.average.state_dict().items():
            torch.testing.assert_close(value, trainer.search.template.state_dict()[name])


def test_weight_steps_do_not_read_it():
    plain, averaged = trainer_of(), trainer_of(weight_averaging=0.9)
    for step in range(4):
        assert torch.equal(plain.weight_step(step), averaged.weight_step(step))
    assert same(weights_of(plain.search.template), weights_of(averaged.search.template))
    assert all(parameter.grad is None for parameter in averaged.search.average.parameters())


def test_without_it_there_is_none():
    trainer = trainer_of()
    assert trainer.search.average is None
    assert trainer.search.scored_template is trainer.search.template
    assert "average" not in trainer.state()
    assert digest(trainer.search.config) == digest(replace(trainer.search.config, weight_averaging=0.0))
    assert digest(trainer.search.config) != digest(replace(trainer.search.config, weight_averaging=0.9))


@pytest.mark.parametrize("batch_norm", ["batch", "recalibrated"])
def test_candidates_are_scored_with_it(batch_norm):
    trainer = trainer_of(weight_averaging=0.9, weight_lr=0.2, batch_norm=batch_norm)
    for step in range(4):
        trainer.weight_step(step)
    search = trainer.search
    architectures = search.evaluator.distributions().sample(np.random.default_rng(0), 3)
    expected = evaluate(replace(search, template=copy.deepcopy(search.average), average=None), architectures)
    by_last_weights = evaluate(replace(search, average=None), architectures)
    randomized(search.template)
    assert evaluate(search, architectures) == expected != by_last_weights
    moved = search.to(torch.device("cpu", 0))
    assert moved.average is not search.average
    assert evaluate(moved, architectures) == expected


@pytest.mark.parametrize("gradient", ["mixture", "rloo"])
def test_the_evaluator_learns_from_it(gradient):
    trainers = [trainer_of(weight_averaging=0.9, weight_lr=0.2, evaluator_gradient=gradient) for _ in range(2)]
    plain = trainer_of(weight_lr=0.2, evaluator_gradient=gradient)
    outcomes = []
    for trainer in (*trainers, plain):
        for step in range(4):
            trainer.weight_step(step)
        if trainer is trainers[1]:
            randomized(trainer.search.template)
        outcomes.append(trainer.evaluator_step(0))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])
    one, other, last = (weights_of(trainer.search.evaluator) for trainer in (*trainers, plain))
    assert same(one, other)
    assert not same(one, last)


def test_interrupted_and_run_again_it_is_the_uninterrupted_run(tmp_path, tiny_config, outcome):
    whole, again = (tiny_config(tmp_path / name, weight_averaging=0.9) for name in ("whole", "again"))

    def stop(progress):
        if progress.done == 5:
            raise StopError

    run_search(whole)
    with pytest.raises(StopError):
        run_search(again, stop)
    run_search(again)
    whole = outcome(tmp_path / "whole")
    assert outcome(tmp_path / "again") == whole
    assert whole["average"] != whole["template"]
    state = load_latest(tmp_path / "whole" / "checkpoints")[1]
    assert state["average"].keys() == state["template"].keys()


def test_the_estimate_works_on_a_copy_of_it():
    search = prepare_search(SearchConfig(**TINY, weight_averaging=0.9))
    before = weights_of(search.average)
    estimate(search, repetitions=1)
    assert same(weights_of(search.average), before)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_that_is_none(decay):
    with pytest.raises(ConfigError, match=rf"weight_averaging: {decay} .*at least 0 and below 1"):
        SearchConfig(weight_averaging=decay)
