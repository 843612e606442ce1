"""Categorical distributions along the last axis of an array: drawing, log-probability, tempering, entropy."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from setn_lab.compute.device import to_device


def categorical(p: NDArray[np.float64], rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """`count` draws from each distribution along the last axis, by inverting its cumulative sum."""
    bounds = np.cumsum(p, axis=-1)
    point = rng.random((count, *p.shape[:-1], 1)) * bounds[..., -1:]
    return (point >= bounds).sum(-1)


def log_probability(logits: Tensor, drawn: NDArray[np.int64]) -> Tensor:
    """The logarithm of the softmax of logits (..., n) at each of the draws (count, ...), differentiable: (count, ...).

    A logit may be -inf where nothing was drawn.
    """
    chosen = torch.from_numpy(np.arange(logits.shape[-1]) == drawn[..., None])
    logarithms = logits.log_softmax(-1)
    # not gathered: on CUDA the gradients of equal draws would add up in any order
    return torch.where(to_device(chosen, logits.device), logarithms, torch.zeros_like(logarithms)).sum(-1)


def tempered(p: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """p^(1/temperature), normalised along the last axis. Raises ValueError for a temperature that is not above 0."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: {temperature} given; a finite number above 0 is allowed")
    with np.errstate(divide="ignore"):  # a probability of 0 stays 0
        logits = np.log(p) / temperature
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The entropy in nats of each distribution along the last axis."""
    return -np.sum(p * np.log(p, out=np.zeros_like(p), where=p > 0), axis=-1)
