"""What holds on a GPU: the CPU's numbers, the same bits each time, no waiting, resume, searches side by side.

Skipped where there is none. `SETN_LAB_TEST_DEVICE=cpu pytest -m cuda` tries what these tests do on the CPU, where most
of them compare it with itself.
"""

import os
import signal
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from conftest import search_outcome
from references import TINY, StopError, run_search

from setn_lab.compute.device import ShortMemoryError
from setn_lab.compute.distributed import ALONE
from setn_lab.retrain import training
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import prepare_retraining
from setn_lab.search.config import SearchConfig
from setn_lab.search.scoring import evaluate
from setn_lab.search.setup import prepare_search
from setn_lab.search.steps import Trainer

DEVICE = os.environ.get("SETN_LAB_TEST_DEVICE", "cuda")
ON_CUDA = DEVICE.startswith("cuda")
SMALL = {**TINY, "channels": 4, "nodes": 4}
# What may differ from float32 on the CPU, as a share of the whole, in losses and in gradients. Batch norms over few
# pixels enlarge what bfloat16 rounds: on the CPU its gradients differ by up to 0.44 in these tests, a wrong one by 1.
BOUNDS = {"float32": (1e-4, 1e-4), "bfloat16": (0.1, 0.7)}

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(ON_CUDA and not torch.cuda.is_available(), reason="needs CUDA"),
]
precisions = pytest.mark.parametrize("precision", BOUNDS)
spaces = pytest.mark.parametrize("space", ["small", "large", "nasbench201"])


@pytest.fixture(autouse=True)
def as_before():
    """Other tests find the process as it was."""
    yield
    torch.use_deterministic_algorithms(False)


def pair(precision, **values):
    """The trainers of the same search: in float32 on the CPU, and in that precision on the device."""
    config = SearchConfig(**{**SMALL, **values})
    there = replace(config, precision=precision, device=DEVICE)
    return Trainer(prepare_search(config)), Trainer(prepare_search(there))


def together(tensors):
    """All values in one vector, on the CPU."""
    return torch.cat([tensor.detach().cpu().double().flatten() for tensor in tensors])


def check_near(here, there, bound):
    """The difference is at most that share of the whole."""
    here, there = together(here), together(there)
    assert here.shape == there.shape
    assert (here - there).norm() <= bound * here.norm()


def gradients(module):
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


@precisions
@spaces
@pytest.mark.parametrize("strategy", ["setn", "setn-non"])
def test_a_weight_step_gives_the_cpus_numbers(precision, space, strategy):
    here, there = pair(precision, space=space, strategy=strategy)
    outcomes = [trainer.weight_step(0) for trainer in (here, there)]
    check_near(outcomes[0][:1], outcomes[1][:1], BOUNDS[precision][0])
    check_near(gradients(here.search.template), gradients(there.search.template), BOUNDS[precision][1])
    check_near(here.search.template.parameters(), there.search.template.parameters(), BOUNDS[precision][0])


@precisions
@spaces
@pytest.mark.parametrize("evaluator_gradient", ["mixture", "rloo"])
def test_an_evaluators_step_gives_the_cpus_numbers(precision, space, evaluator_gradient):
    here, there = pair(precision, space=space, evaluator_gradient=evaluator_gradient, cost_weight=0.1)
    outcomes = [trainer.evaluator_step(0) for trainer in (here, there)]
    check_near(outcomes[0][:1], outcomes[1][:1], BOUNDS[precision][0])
    check_near(gradients(here.search.evaluator), gradients(there.search.evaluator), BOUNDS[precision][1])


@precisions
@spaces
@pytest.mark.parametrize("batch_norm", ["batch", "recalibrated"])
def test_scoring_gives_the_cpus_losses(precision, space, batch_norm):
    here, there = pair(precision, space=space, batch_norm=batch_norm)
    drawn = list(here.search.evaluator.distributions().sample(np.random.default_rng(0), 8))
    losses = [torch.tensor(evaluate(trainer.search, drawn))[:, 0] for trainer in (here, there)]
    check_near([losses[0]], [losses[1]], BOUNDS[precision][0])


def retraining(device, precision):
    values = {"dataset": "digits", "channels": 4, "repeats": 1, "auxiliary_weight": 0.0, "crop_padding": 1, "cutout": 2}
    sizes = {"batch_size": 16, "limit_train": 32, "limit_test": 32, "flip": False}
    return prepare_retraining(RetrainConfig(**values, **sizes, device=device, precision=precision))


@precisions
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_retraining_gives_the_cpus_numbers(precision, layout):
    found = []
    for device, rounding in (("cpu", "float32"), (DEVICE, precision)):
        setup = retraining(device, rounding)
        network = setup.network(0).to(memory_format=layout)
        optimizer = torch.optim.SGD(network.parameters(), 0.025)
        drop_path = training._path_dropout(setup, ALONE, network.paths, 0, 0, 0.2)
        batch = next(setup.source.train(0, range(1), ALONE.share))
        outcome = training._step(setup, network, optimizer, batch, drop_path)
        tested, _ = training._test(setup, ALONE, network)
        found.append((outcome[:1], gradients(network), [torch.tensor(tested["test_loss"])]))
    loss, gradient = BOUNDS[precision]
    for here, there, bound in zip(*found, (loss, gradient, loss), strict=True):
        check_near(here, there, bound)


@contextmanager
def waits(allowed):
    """Fails unless the host waits for the device so often within."""
    if not ON_CUDA:
        yield
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn" if allowed else "error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found = [str(one.message) for one in caught if "called a synchronizing" in str(one.message)]
    assert len(found) == allowed


@precisions
@pytest.mark.parametrize(
    "values",
    [{}, {"evaluator_gradient": "rloo"}, {"cost_weight": 0.5, "weight_averaging": 0.9}, {"space": "nasbench201"}],
)
def test_a_step_does_not_wait_for_the_device(precision, values):
    _, trainer = pair(precision, **values)
    for step in range(2):  # kernels are chosen and loaded, memory is taken
        trainer.weight_step(step)
        trainer.evaluator_step(step)
    for step in range(2, 10):  # the batches of eight steps are made in one of them
        with waits(0):
            trainer.weight_step(step)
        with waits(1 if values.get("evaluator_gradient") == "rloo" else 0):
            trainer.evaluator_step(step)


@pytest.mark.parametrize("batch_norm", ["batch", "recalibrated"])
def test_a_batch_of_scoring_does_not_wait_for_the_device(batch_norm):
    _, trainer = pair("float32", batch_norm=batch_norm, scoring_batch_size=8)
    drawn = list(trainer.search.evaluator.distributions().sample(np.random.default_rng(0), 3))
    evaluate(trainer.search, drawn)
    with waits(1):  # for all scores together
        evaluate(trainer.search, drawn)


def config_of(folder, **values):
    return SearchConfig(**{**SMALL, "device": DEVICE, "run_dir": str(folder), **values})


SEARCHES = [
    {},
    {"strategy": "setn-non"},
    {"evaluator_gradient": "rloo", "precision": "bfloat16", "weight_averaging": 0.9},
    {"space": "nasbench201", "precision": "tf32" if ON_CUDA else "float32"},
]


@pytest.mark.parametrize("values", SEARCHES)
def test_two_runs_and_one_that_was_broken_off_have_the_same_bits(tmp_path, values):
    def stop(progress):
        if progress.done == 5:
            raise StopError

    one, other = (search_outcome(run_search(config_of(tmp_path / name, **values))) for name in ("one", "other"))
    assert one == other
    with pytest.raises(StopError):
        run_search(config_of(tmp_path / "broken", **values), stop)
    assert search_outcome(run_search(config_of(tmp_path / "broken", **values))) == one


def search_alone(values, killed=False):
    """A search in a process of its own, which ends in its second epoch when it is to be killed."""
    torch.set_num_threads(1)

    def observe(progress):
        if killed and progress.done == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    run_search(SearchConfig(**values), observe)


def values_of(folder, **values):
    return {**SMALL, "device": DEVICE, "run_dir": str(folder), **values}


def test_a_killed_search_goes_on_with_the_same_bits(tmp_path):
    for killed in (True, False):
        process = get_context("spawn").Process(target=search_alone, args=(values_of(tmp_path / "killed"), killed))
        process.start()
        process.join()
        assert process.exitcode == (-signal.SIGKILL if killed else 0)
    assert search_outcome(tmp_path / "killed") == search_outcome(run_search(config_of(tmp_path / "whole")))


def test_searches_side_by_side_give_what_each_gives_alone(tmp_path):
    searches = [{"seed": 1}, {"seed": 2, "strategy": "setn-lr"}, {"seed": 3, "evaluator_gradient": "rloo"}]
    beside = [values_of(tmp_path / f"beside-{number}", **values) for number, values in enumerate(searches)]
    with ProcessPoolExecutor(len(searches), get_context("spawn")) as pool:
        list(pool.map(search_alone, beside))
    for number, values in enumerate(searches):
        alone = run_search(config_of(tmp_path / f"alone-{number}", **values))
        assert search_outcome(tmp_path / f"beside-{number}") == search_outcome(alone)


@pytest.mark.skipif(not ON_CUDA, reason="needs CUDA: the memory of a GPU can be limited")
def test_short_memory_names_the_parameter_and_the_run_goes_on(tmp_path):
    values = {"channels": 64, "batch_size": 256, "limit_train": 512, "limit_valid": 512, "epochs": 1}
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.25 * 2**30 / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(ShortMemoryError, match="batch_size"):
            run_search(config_of(tmp_path, **values))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (run_search(config_of(tmp_path, **values)) / "genotype.json").exists()
