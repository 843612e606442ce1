"""The evaluator: for each node of each cell kind, the distributions f, g (inputs) and h (pairs of operations).

It says how probable each architecture is (Eq. 4-9), draws architectures, and gives the mixing weights with which
the template computes Eq. 10. `alpha`, the paper's name for its parameters, is {f, g, h}.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from setn_lab.space import Quadruples, SearchSpace, pair_index, pair_operations

KINDS = 2  # normal and reduction cell


class Evaluator(nn.Module):
    """Logits f, g: (2, B, B+1), one per (cell kind, node, state); h: (2, B, |O|(|O|+1)/2). All start at 0.

    A node reads fewer than B+1 states, except for the last one: its logits beyond them are masked, have
    probability 0 and receive no gradient.
    """

    readable: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        states = space.inputs(space.nodes - 1)
        self.f = nn.Parameter(torch.zeros(KINDS, space.nodes, states))
        self.g = nn.Parameter(torch.zeros(KINDS, space.nodes, states))
        self.h = nn.Parameter(torch.zeros(KINDS, space.nodes, space.pairs))
        limits = torch.tensor([space.inputs(node) for node in range(space.nodes)])
        self.register_buffer("readable", torch.arange(states) < limits[:, None], persistent=False)
        r1, r2 = pair_operations(np.arange(space.pairs))
        one_hot = torch.eye(len(space.operations))
        self.register_buffer("first", one_hot[torch.from_numpy(r1)], persistent=False)  # (pairs, |O|): r1 = o
        self.register_buffer("second", one_hot[torch.from_numpy(r2)], persistent=False)

    def probabilities(self) -> tuple[Tensor, Tensor, Tensor]:
        """The softmax-normalised f, g (Eq. 4) and h (Eq. 7), differentiable; shapes as the logits'."""
        f, g = (logits.masked_fill(~self.readable, -math.inf).softmax(-1) for logits in (self.f, self.g))
        return f, g, self.h.softmax(-1)

    def mixing_weights(self) -> Tensor:
        """The factor of operation o on input t in Eq. 10: (2, edges, |O|), edges as in `SearchSpace.edges`.

        Eq. 10 sums over pairs r, and within them over t and u, so it factorizes: operation o reads state t with
        the weight p1(o) f(t) + p2(o) g(t), where p1(o) is the sum of h(r) over the pairs with r1 = o, and p2(o)
        that over the pairs with r2 = o. The weights of a node sum to 2.
        """
        f, g, h = self.probabilities()
        p1, p2 = h @ self.first.to(h.dtype), h @ self.second.to(h.dtype)  # (2, B, |O|)
        weights = f[..., :, None] * p1[..., None, :] + g[..., :, None] * p2[..., None, :]
        return weights[:, self.readable]

    def distributions(self) -> "Distributions":
        """The probabilities as they are now, on the host, for drawing, reading and storing."""
        f, g, h = (p.detach().cpu().double().numpy() for p in self.probabilities())
        return Distributions(self.space, f, g, h)


@dataclass(frozen=True)
class Distributions:
    """The evaluator's probabilities at one moment: f, g (2, B, B+1) and h (2, B, |O|(|O|+1)/2)."""

    space: SearchSpace
    f: NDArray[np.float64]
    g: NDArray[np.float64]
    h: NDArray[np.float64]

    def sample(self, rng: np.random.Generator, count: int) -> Quadruples:
        """`count` architectures (count, 2, B, 4), drawn independently by Eq. 5-9."""
        t, u, r = (_categorical(p, rng, count) for p in (self.f, self.g, self.h))  # Eq. 5 and Eq. 7
        return np.stack([*pair_operations(r), t, u], axis=-1)  # Eq. 8

    def argmax(self) -> Quadruples:
        """The quadruples (2, B, 4) with the most probable f, g and h: the paper's T = 1."""
        t, u, r = (p.argmax(-1) for p in (self.f, self.g, self.h))
        return np.stack([*pair_operations(r), t, u], axis=-1)

    def node_log_probability(self, quadruples: Quadruples) -> NDArray[np.float64]:
        """The logarithm of the probability that `sample` draws each node as it is; (..., 2, B, 4) to (..., 2, B).

        The same operation twice on two different inputs has two encodings; both count.
        """
        r1, r2, t, u = np.moveaxis(self.space.canonical(quadruples), -1, 0)
        kind, node = np.arange(KINDS)[:, None], np.arange(self.space.nodes)
        inputs = self.f[kind, node, t] * self.g[kind, node, u]
        swapped = self.f[kind, node, u] * self.g[kind, node, t]
        inputs = inputs + np.where((r1 == r2) & (t != u), swapped, 0)
        with np.errstate(divide="ignore"):  # a probability that has underflowed to 0 gives -inf
            return np.log(self.h[kind, node, pair_index(r1, r2)] * inputs)

    def log_probability(self, quadruples: Quadruples) -> NDArray[np.float64]:
        """The logarithm of the probability that `sample` draws this architecture; (..., 2, B, 4) to (...)."""
        return self.node_log_probability(quadruples).sum((-2, -1))

    def entropies(self) -> dict[str, NDArray[np.float64]]:
        """The entropy in nats of each distribution: f, g and h, each (2, B)."""
        return {name: _entropy(p) for name, p in (("f", self.f), ("g", self.g), ("h", self.h))}

    def entropy(self) -> float:
        """The entropy in nats of the quadruples of one architecture: the sum over all f, g and h."""
        return float(sum(values.sum() for values in self.entropies().values()))

    def mixing_weights(self) -> NDArray[np.float64]:
        """The marginal weights of Eq. 10, (2, edges, |O|); see `Evaluator.mixing_weights`."""
        r1, r2 = pair_operations(np.arange(self.space.pairs))
        one_hot = np.eye(len(self.space.operations))
        p1, p2 = self.h @ one_hot[r1], self.h @ one_hot[r2]
        weights = self.f[..., :, None] * p1[..., None, :] + self.g[..., :, None] * p2[..., None, :]
        return np.stack([weights[:, node, state] for node, state in self.space.edges], axis=1)

    @classmethod
    def from_record(cls, space: SearchSpace, record: dict[str, Any]) -> "Distributions":
        """From a line of evaluator.jsonl."""
        return cls(space, *(np.array(record[name]) for name in ("f", "g", "h")))

    def to_record(self) -> dict[str, Any]:
        """The probabilities as nested lists, a line of evaluator.jsonl."""
        return {"f": self.f.tolist(), "g": self.g.tolist(), "h": self.h.tolist()}


def _categorical(p: NDArray[np.float64], rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """`count` draws from each distribution along the last axis, by inverting its cumulative sum."""
    bounds = np.cumsum(p, axis=-1)
    point = rng.random((count, *p.shape[:-1], 1)) * bounds[..., -1:]
    return (point >= bounds).sum(-1)


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return -np.sum(p * np.log(p, out=np.zeros_like(p), where=p > 0), axis=-1)
