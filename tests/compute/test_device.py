"""What a device is made ready with, as far as this shows without one."""

import os

import pytest
import torch
from references import TINY

from setn_lab.compute import device
from setn_lab.config import ConfigError, digest, identity
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import prepare_retraining
from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import prepare_search

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def settings():
    """(TF32 in matrix products, in convolutions, deterministic, cuDNN's own, its search for kernels)."""
    backends = torch.backends
    rounding = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
    order = torch.are_deterministic_algorithms_enabled(), backends.cudnn.deterministic, backends.cudnn.benchmark
    return *rounding, *order


@pytest.fixture
def as_before(monkeypatch):
    """Without the settings of a GPU, as a process starts; taken back afterwards."""
    monkeypatch.delenv(CUBLAS, raising=False)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    matmul, conv, deterministic, order, search = settings()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, conv
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = order, search


@pytest.fixture
def cuda(as_before, monkeypatch):
    """Every device that is asked for is CUDA's, of which only the name is used."""
    monkeypatch.setattr(device, "choose_device", torch.device)


@pytest.mark.parametrize(("precision", "rounding"), [("float32", False), ("tf32", True), ("bfloat16", False)])
@pytest.mark.parametrize("deterministic", [True, False])
def test_cuda_rounds_and_orders_as_asked_whatever_was_asked_before(cuda, precision, rounding, deterministic):
    device.ready_device("cuda", "tf32", not deterministic)
    assert device.ready_device("cuda:1", precision, deterministic) == torch.device("cuda", 1)
    assert settings() == (rounding, rounding, deterministic, deterministic, not deterministic)
    assert not torch.utils.deterministic.fill_uninitialized_memory
    newer = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    assert [name == "tf32" for name in newer] == [rounding, rounding]


@pytest.mark.parametrize("given", [None, ":16:8"])
def test_cublas_gets_a_workspace_that_keeps_its_order(cuda, monkeypatch, given):
    device.ready_device("cuda", "float32", False)
    assert CUBLAS not in os.environ
    if given:
        monkeypatch.setenv(CUBLAS, given)
    device.ready_device("cuda", "float32", True)
    assert os.environ[CUBLAS] == (given or ":4096:8")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_the_cpu_needs_no_setting(as_before, precision, deterministic):
    before = settings()
    assert device.ready_device("cpu", precision, deterministic).type == "cpu"
    assert settings() == before
    assert CUBLAS not in os.environ


@pytest.mark.parametrize(
    "prepare",
    [
        lambda: prepare_search(SearchConfig(**TINY, precision="tf32")),
        lambda: prepare_retraining(RetrainConfig(dataset="digits", device="cpu", precision="tf32")),
    ],
)
def test_tf32_is_refused_where_there_is_none(prepare):
    with pytest.raises(ConfigError, match=r"precision.*tf32.*CUDA"):
        prepare()


@pytest.mark.parametrize("cls", [SearchConfig, RetrainConfig])
def test_a_run_is_the_same_whichever_order_its_kernels_add_in(cls):
    one, other = (cls(dataset="digits", deterministic=value) for value in (True, False))
    assert digest(one) == digest(other)
    assert "precision" in identity(one)
