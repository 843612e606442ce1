"""What a step asks of a device, found without one: it runs on torch's meta device, whose tensors have no values.

There whatever needs a value on the host is an error, forward and backward, such as `item` or a mask as an index.
"""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from setn_lab.evaluator import mixture, rloo
from setn_lab.retrain import training
from setn_lab.search import steps

META = torch.device("meta")


class Transfers(TorchDispatchMode):
    """Records the copies between the host and the device: `waiting` those for which the host waits, and `queued`.

    host: what is found on the host after a copy of its shape; after others, ones.
    """

    def __init__(self, host: torch.Tensor | None = None) -> None:
        super().__init__()
        self.host = host
        self.waiting: list[str] = []
        self.queued: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device", args[0].device) != args[0].device:
            known = self.queued if kwargs.get("non_blocking") else self.waiting
            known.append(f"{tuple(args[0].shape)} to {kwargs['device']}")
            if args[0].is_meta:
                known_there = self.host is not None and self.host.shape == args[0].shape
                return self.host if known_there else torch.ones(args[0].shape, dtype=args[0].dtype)
        return func(*args, **kwargs)


@pytest.fixture
def meta_device(monkeypatch):
    """The meta device, on which autocast is not known."""
    for module in (mixture, rloo, steps, training):
        monkeypatch.setattr(module, "autocast", lambda device, precision: nullcontext())
    return META
