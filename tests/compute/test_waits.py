"""The host does not wait for the device within a step, shown without one: see waits.py."""

import dataclasses

import numpy as np
import pytest
import torch
from references import TINY
from waits import META, Transfers, meta_device

from setn_lab.compute.distributed import ALONE
from setn_lab.network.discrete import CifarNetwork
from setn_lab.retrain import training
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import prepare_retraining
from setn_lab.search.config import SearchConfig
from setn_lab.search.scoring import evaluate
from setn_lab.search.setup import prepare_search
from setn_lab.search.steps import Trainer
from setn_lab.space.zoo import ZOO
from setn_lab.template.norm import BatchNorm

__all__ = ["meta_device"]
SEARCHES = [
    {},
    {"space": "nasbench201", "nodes": 4},
    {"strategy": "setn-non"},
    {"sampling": "fair", "weight_averaging": 0.9},
    {"cost_weight": 0.5},
]
NODES = {"small": {}, "nasbench201": {"nodes": 4}}


def search_of(**values):
    return prepare_search(SearchConfig(**{**TINY, "nodes": 1, **values}))


def drawn(search, count=3):
    """So many architectures, of a cell of each type."""
    return list(search.evaluator.distributions().sample(np.random.default_rng(0), count))


@pytest.mark.parametrize("values", SEARCHES)
def test_a_step_waits_for_nothing_and_copies_its_draws_alone(meta_device, values):
    trainer = Trainer(search_of(**values).to(META))
    for step in range(2):
        with Transfers() as weights:
            trainer.weight_step(step)
        with Transfers() as evaluator:
            trainer.evaluator_step(step)
        assert weights.waiting == evaluator.waiting == []
        dropout = 0 if values.get("strategy") == "setn-non" else len(trainer.architectures(step))
        batches = 2 if step % 8 == 0 else 0  # the order of eight batches, and the draws of their augmentation
        costs = 1 if step == 0 and "cost_weight" in values else 0
        assert (len(weights.queued), len(evaluator.queued)) == (batches + dropout, batches + costs)


@pytest.mark.parametrize("space", ["small", "nasbench201"])
def test_a_step_of_drawn_losses_waits_once(meta_device, space):
    search = search_of(evaluator_gradient="rloo", cost_weight=0.5, space=space, **NODES[space])
    evaluator = search.evaluator
    known = torch.cat([p.detach().flatten() for p in evaluator.probabilities()]) if space == "small" else None
    trainer = Trainer(search.to(META))
    for step in range(2):
        with Transfers(known) as transfers:
            trainer.evaluator_step(step)
        assert len(transfers.waiting) == 1


@pytest.mark.parametrize("batch_norm", ["batch", "recalibrated"])
@pytest.mark.parametrize("space", ["small", "nasbench201"])
def test_scoring_waits_once_for_its_results(meta_device, batch_norm, space):
    search = search_of(batch_norm=batch_norm, space=space, **NODES[space], scoring_batch_size=8)
    architectures, search = drawn(search), search.to(META)
    with Transfers() as transfers:
        evaluate(search, architectures)
    assert transfers.waiting == ["(3, 2) to cpu"]


def test_a_step_of_retraining_waits_for_nothing(meta_device):
    values = {"dataset": "digits", "channels": 2, "repeats": 1, "auxiliary_weight": 0.0, "crop_padding": 1, "cutout": 2}
    setup = prepare_retraining(RetrainConfig(**values, batch_size=16, limit_train=32, flip=False, device="cpu"))
    setup = dataclasses.replace(setup, device=META, source=setup.source.to(META))
    network = setup.network(0)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    with Transfers() as transfers:
        for step, batch in enumerate(setup.source.train(0, range(2), ALONE.share)):
            drop_path = training._path_dropout(setup, ALONE, network.paths, 0, step, 0.2)
            training._step(setup, network, optimizer, batch, drop_path)
    assert transfers.waiting == []


def test_a_recalibrated_norm_waits_for_nothing(meta_device):
    """torch's own count of the batches lies on the device, and its average without momentum reads it."""
    norm = BatchNorm(3)
    norm.collect(META)
    for _ in range(3):
        norm(torch.empty(2, 3, 4, 4, device=META))
    assert norm.momentum == 1 / 3


def test_path_dropout_keeps_the_precision_of_the_states():
    """A factor of float32 would make float32 of all that follows in a network of bfloat16."""
    search = search_of(path_dropout=0.5)
    template, seen = search.template, []
    cell = template.cells[0]
    inputs = [torch.randn(16, 2, 4, 4, dtype=torch.bfloat16) for _ in range(2)]
    factors = Trainer(search).path_dropout(0, 16)
    for architecture in search.space.sample(np.random.default_rng(0), 20):
        with torch.autocast("cpu", torch.bfloat16):
            seen += [state.dtype for state in cell.sampled_states(inputs, architecture, factors[0])]
    assert set(seen) == {torch.bfloat16}


def test_path_dropout_keeps_the_precision_of_a_final_network():
    network = CifarNetwork(ZOO["SETN"].genotype, 2, 1, 10, image_channels=1)
    seen = []
    for cell in network.cells:
        cell.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    factors = torch.full((*network.paths, 4), 2.0)
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(4, 1, 8, 8), factors)
    assert set(seen) == {torch.bfloat16}
