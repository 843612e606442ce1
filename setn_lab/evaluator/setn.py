"""The evaluator: for each node of each cell type, the distributions f, g (inputs) and h (pairs of operations).

It says how probable each architecture is (Eq. 4-9), draws architectures, and gives the mixing weights with which
the template computes Eq. 10. `alpha`, the paper's name for its parameters, is {f, g, h}.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from setn_lab.evaluator.categorical import categorical, entropy, log_probability, tempered
from setn_lab.figures.panels import Panel, mixing_panel
from setn_lab.space.names import label, state_name
from setn_lab.space.setn import Quadruples, SearchSpace, pair_index, pair_operations

CELL_TYPES = 2  # normal and reduction cell
Array = TypeVar("Array", NDArray[Any], Tensor)


class Evaluator(nn.Module):
    """Logits f, g: (2, B, B+1), one per (cell type, node, state); h: (2, B, |O|(|O|+1)/2). All start at 0.

    A node reads fewer than B+1 states, except for the last one: its logits beyond them are masked, have
    probability 0 and receive no gradient.
    """

    readable: Tensor
    edges: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        states = space.inputs(space.nodes - 1)
        self.f = nn.Parameter(torch.zeros(CELL_TYPES, space.nodes, states))
        self.g = nn.Parameter(torch.zeros(CELL_TYPES, space.nodes, states))
        self.h = nn.Parameter(torch.zeros(CELL_TYPES, space.nodes, space.pairs))
        limits = torch.tensor([space.inputs(node) for node in range(space.nodes)])
        self.register_buffer("readable", torch.arange(states) < limits[:, None], persistent=False)
        for name, constant in zip(("edges", "first", "second"), _structure(space), strict=True):
            self.register_buffer(name, torch.from_numpy(constant), persistent=False)

    def probabilities(self) -> tuple[Tensor, Tensor, Tensor]:
        """The softmax-normalised f, g (Eq. 4) and h (Eq. 7), differentiable; shapes as the logits'."""
        f, g = (logits.softmax(-1) for logits in self._input_logits())
        return f, g, self.h.softmax(-1)

    def mixing_weights(self) -> Tensor:
        """The weights of `mix` as they are now, differentiable: (2, edges, |O|)."""
        f, g, h = self.probabilities()
        return mix(f, g, h, self.edges, self.first.to(h.dtype), self.second.to(h.dtype))

    def draw_log_probability(self, drawn: Quadruples) -> Tensor:
        """The logarithm of the probability of each draw of t, u and r, differentiable; (n, 2, B, 4) to (n,).

        Of the draw as it is, where `Distributions.log_probability` adds both encodings of an architecture.
        """
        r1, r2, t, u = np.moveaxis(drawn, -1, 0)
        f, g = self._input_logits()
        terms = [log_probability(*of) for of in ((f, t), (g, u), (self.h, pair_index(r1, r2)))]
        return torch.stack(terms).sum((0, 2, 3))

    def _input_logits(self) -> list[Tensor]:
        """f and g, -inf for states that a node does not read."""
        return [logits.masked_fill(~self.readable, -math.inf) for logits in (self.f, self.g)]

    def distributions(self) -> "Distributions":
        """The probabilities as they are now, on the host, for drawing, reading and storing."""
        probabilities = [p.detach() for p in self.probabilities()]
        together = torch.cat([p.flatten() for p in probabilities]).cpu().double()  # the only wait for the device
        parts = together.split([p.numel() for p in probabilities])
        f, g, h = (part.view(p.shape).numpy() for part, p in zip(parts, probabilities, strict=True))
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
        t, u, r = (categorical(p, rng, count) for p in (self.f, self.g, self.h))  # Eq. 5 and Eq. 7
        return np.stack([*pair_operations(r), t, u], axis=-1)  # Eq. 8

    def argmax(self) -> Quadruples:
        """The quadruples (2, B, 4) with the most probable f, g and h: the paper's T = 1."""
        t, u, r = (p.argmax(-1) for p in (self.f, self.g, self.h))
        return np.stack([*pair_operations(r), t, u], axis=-1)

    def most_likely(self) -> Quadruples:
        """The canonical quadruples (2, B, 4) of the most probable architecture, found by trying every node's choices.

        Not always `argmax`: one operation twice on two different inputs has two encodings, whose probabilities add.
        """
        cells = np.empty((CELL_TYPES, self.space.nodes, 4), dtype=np.int64)
        r = np.arange(self.space.pairs)
        for node in range(self.space.nodes):
            states = np.arange(self.space.inputs(node))
            choices = np.stack([grid.ravel() for grid in np.meshgrid(r, states, states, indexing="ij")])
            every = np.stack([*pair_operations(choices[0]), *choices[1:]], axis=-1)  # (choices, 4)
            filled = np.zeros((len(every), CELL_TYPES, self.space.nodes, 4), dtype=np.int64)
            filled[:, :, node] = every[:, None]
            best = self.node_log_probability(filled)[:, :, node].argmax(0)
            cells[:, node] = every[best]
        return self.space.canonical(cells)

    def tempered(self, temperature: float) -> "Distributions":
        """The distributions proportional to p^(1/temperature): sharper below 1, as they are at 1, flatter above.

        Raises ValueError for a temperature that is not above 0.
        """
        return Distributions(self.space, *(tempered(p, temperature) for p in (self.f, self.g, self.h)))

    def node_log_probability(self, quadruples: Quadruples) -> NDArray[np.float64]:
        """The logarithm of the probability that `sample` draws each node as it is; (..., 2, B, 4) to (..., 2, B).

        The same operation twice on two different inputs has two encodings; both count.
        """
        r1, r2, t, u = np.moveaxis(self.space.canonical(quadruples), -1, 0)
        cell_type, node = np.arange(CELL_TYPES)[:, None], np.arange(self.space.nodes)
        inputs = self.f[cell_type, node, t] * self.g[cell_type, node, u]
        swapped = self.f[cell_type, node, u] * self.g[cell_type, node, t]
        inputs = inputs + np.where((r1 == r2) & (t != u), swapped, 0)
        with np.errstate(divide="ignore"):  # a probability that has underflowed to 0 gives -inf
            return np.log(self.h[cell_type, node, pair_index(r1, r2)] * inputs)

    def log_probability(self, quadruples: Quadruples) -> NDArray[np.float64]:
        """The logarithm of the probability that `sample` draws this architecture; (..., 2, B, 4) to (...)."""
        return self.node_log_probability(quadruples).sum((-2, -1))

    def entropies(self) -> dict[str, NDArray[np.float64]]:
        """The entropy in nats of each distribution: f, g and h, each (2, B)."""
        return {name: entropy(p) for name, p in (("f", self.f), ("g", self.g), ("h", self.h))}

    def choices(self) -> dict[str, NDArray[np.int64]]:
        """How many choices each distribution has: f, g and h, each (B,)."""
        inputs = np.array([self.space.inputs(node) for node in range(self.space.nodes)])
        return {"f": inputs, "g": inputs, "h": np.full(self.space.nodes, self.space.pairs)}

    def entropy(self) -> float:
        """The entropy in nats of the quadruples of one architecture: the sum over all f, g and h."""
        return float(sum(values.sum() for values in self.entropies().values()))

    def mixing_weights(self) -> NDArray[np.float64]:
        """The weights of `mix`, (2, edges, |O|)."""
        return mix(self.f, self.g, self.h, *_structure(self.space))

    def panels(self, cell_type: int) -> list[list[Panel]]:
        """f, g and the mixing weights of one cell type, then h of each node as the triangle of r1 and r2 <= r1."""
        space = self.space
        nodes = [f"node {node}" for node in range(space.nodes)]
        states = [state_name(space, state) for state in range(space.inputs(space.nodes - 1))]
        operations = [label(name) for name in space.operations]
        inputs = [
            Panel(
                f"${name}$: input of $r_{slot}$, by node [%]",
                nodes,
                states,
                _percent(p[..., cell_type, :, :]),
                "{:.0f}%",
            )
            for slot, (name, p) in enumerate((("f", self.f), ("g", self.g)), 1)
        ]
        weights = self.mixing_weights()[..., cell_type, :, :]
        mixing = mixing_panel(space, weights, "mixing weights of Eq. 10, by edge")
        triangles = np.full((*self.h.shape[:-3], space.nodes, len(operations), len(operations)), np.nan)
        triangles[(..., *pair_operations(np.arange(space.pairs)))] = 100 * self.h[..., cell_type, :, :]
        pairs = [
            Panel(f"$h$ of node {node} [%]", operations, operations, values, "{:.1f}%", "$r_1$", "$r_2$")
            for node, values in enumerate(np.moveaxis(triangles, -3, 0))
        ]
        return [[*inputs, mixing], pairs]

    def preferences(self, cell_type: int) -> list[dict[str, Any]]:
        """A row a node: its most probable input of r1 (f) and of r2 (g), its pair of operations (h), the entropies."""
        space, entropies = self.space, self.entropies()
        pairs = [" + ".join(label(space.operations[r]) for r in pair) for pair in _pairs(space)]
        rows = []
        for node in range(space.nodes):
            f, g, h = (p[cell_type, node] for p in (self.f, self.g, self.h))
            row = {
                "node": node,
                "input of r1": f"{state_name(space, int(f.argmax()), False)} ({f.max():.0%})",
                "input of r2": f"{state_name(space, int(g.argmax()), False)} ({g.max():.0%})",
                "operations r1 + r2": f"{pairs[h.argmax()]} ({h.max():.1%})",
            }
            rows.append(
                row | {f"entropy of {name} [nats]": values[cell_type, node] for name, values in entropies.items()}
            )
        return rows

    @classmethod
    def from_record(cls, space: SearchSpace, record: dict[str, Any]) -> "Distributions":
        """From a line of evaluator.jsonl."""
        return cls(space, *(np.array(record[name]) for name in ("f", "g", "h")))

    def to_record(self) -> dict[str, Any]:
        """The probabilities as nested lists, a line of evaluator.jsonl."""
        return {"f": self.f.tolist(), "g": self.g.tolist(), "h": self.h.tolist()}


def mix(f: Array, g: Array, h: Array, edges: Array, first: Array, second: Array) -> Array:
    """The factor of operation o on input t in Eq. 10: (..., 2, edges, |O|), edges as in `SearchSpace.edges`.

    Eq. 10 sums over pairs r, and within them over t and u, so it factorizes: operation o reads state t with the
    weight p1(o) f(t) + p2(o) g(t), where p1(o) is the sum of h(r) over the pairs with r1 = o, and p2(o) that over
    the pairs with r2 = o. The weights of a node sum to 2.

    edges: the node and the state of each edge, (2, edges). A mask of them would make the host wait for the device.
    """
    p1, p2 = h @ first, h @ second  # (2, B, |O|)
    weights = f[..., :, None] * p1[..., None, :] + g[..., :, None] * p2[..., None, :]
    return weights[..., edges[0], edges[1], :]


def _percent(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities in percent; one of exactly 0 is a choice that the node lacks, since softmax gives none: NaN."""
    return np.where(p == 0, np.nan, 100 * p)


def _pairs(space: SearchSpace) -> list[tuple[int, int]]:
    r1, r2 = pair_operations(np.arange(space.pairs))
    return list(zip(r1.tolist(), r2.tolist(), strict=True))


def _structure(space: SearchSpace) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The edges (2, edges), node and state, and which pairs have r1 = o and r2 = o, each (pairs, |O|)."""
    r1, r2 = pair_operations(np.arange(space.pairs))
    one_hot = np.eye(len(space.operations), dtype=np.float32)
    return np.array(space.edges).T.copy(), one_hot[r1], one_hot[r2]
