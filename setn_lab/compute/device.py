"""The device: its choice, its memory, its precision, and what it takes to wait for it or not to wait."""

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from setn_lab.config import ConfigError

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None  # type: ignore[assignment]


class ShortMemoryError(RuntimeError):
    """The device or the machine has too little memory; the message names the parameter to lower."""


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA, else MPS, else CPU. Raises ConfigError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device: {name!r} given, which this machine cannot use ({reason}); auto, cpu, cuda, cuda:N or mps is "
            "allowed: write auto to take what there is"
        ) from error
    return device


def ready_device(name: str, precision: str, deterministic: bool) -> torch.device:
    """The device of that name, `choose_device`, and this process made ready to compute on it. Raises ConfigError.

    On CUDA matrix products and convolutions of float32 are rounded to TF32 where `precision` is tf32, and nowhere else;
    with `deterministic` every kernel adds in the same order each time, and torch refuses an operation that has none
    which does. Both hold for the whole process. On the CPU results are the same each time anyway.
    """
    device = choose_device(name)
    if device.type == "cpu":
        keep_freed_blocks()
    if device.type != "cuda":
        if precision == "tf32":
            raise ConfigError(
                f"precision: 'tf32' given for the device {device.type!r}, which does not round to it; it is allowed on "
                "CUDA alone: give 'float32' or 'bfloat16'"
            )
        return device
    with warnings.catch_warnings():
        # torch 2.9 advises its newer `fp32_precision`, after which these two can be read no more in the same process
        warnings.simplefilter("ignore", UserWarning)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it as it begins
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # all is written first
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, not deterministic
    return device


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak so far: of the device on CUDA, else of this process; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def explain_out_of_memory(parameter: str) -> Iterator[None]:
    """Turn running out of memory into an error that names the parameter to lower. Raises ShortMemoryError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
        if not short:
            raise
        raise ShortMemoryError(
            f"memory is short: lower {parameter} (or channels). What was done so far is kept in the run folder. "
            f"({(str(error).splitlines() or [type(error).__name__])[0]})"
        ) from error


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The precision of forward passes: bfloat16 or, also for tf32, which `ready_device` sets, float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy without waiting: from pageable memory even a `non_blocking` copy to CUDA may block."""
    if tensor.device == device:
        return tensor
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_blocks() -> bool:
    """Tell glibc's malloc to keep what is freed; False where there is no glibc.

    Each tensor of a step on the CPU is a new block of some megabytes. By default glibc gives such blocks back to the
    kernel as soon as they are free, which then clears every page of the next one, at every operation. Holds for the
    whole process, whose size stays at its peak; calling it again changes nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
