"""The evaluator of NAS-Bench-201's space: one categorical distribution over the operations of each edge.

It is to `NASBench201Space` what `evaluator.setn` is to the paper's space: it draws cells and gives the mixing weights
of Eq. 10.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from setn_lab.evaluator.categorical import categorical, entropy, log_probability, tempered
from setn_lab.figures.panels import Panel, mixing_panel
from setn_lab.space.names import edge_names, label
from setn_lab.space.nasbench201 import Edges, NASBench201Space


class NASBench201Evaluator(nn.Module):
    """Logits alpha (1, 6, 5), one per (cell type, edge, operation), all 0 at first."""

    def __init__(self, space: NASBench201Space) -> None:
        super().__init__()
        self.space = space
        self.alpha = nn.Parameter(torch.zeros(space.cell_types, len(space.edges), len(space.operations)))

    def mixing_weights(self) -> Tensor:
        """The probabilities, with which Eq. 10 mixes the operations of each edge, differentiable: (1, 6, 5)."""
        return self.alpha.softmax(-1)

    def draw_log_probability(self, drawn: Edges) -> Tensor:
        """The logarithm of the probability of each draw, differentiable; (n, 1, 6) to (n,)."""
        return log_probability(self.alpha, drawn).sum((1, 2))

    def distributions(self) -> "NASBench201Distributions":
        """The probabilities as they are now, on the host, for drawing, reading and storing."""
        return NASBench201Distributions(self.space, self.mixing_weights().detach().cpu().double().numpy())


@dataclass(frozen=True)
class NASBench201Distributions:
    """The evaluator's probabilities at one moment: alpha (1, 6, 5)."""

    space: NASBench201Space
    alpha: NDArray[np.float64]

    def sample(self, rng: np.random.Generator, count: int) -> Edges:
        """`count` architectures (count, 1, 6), drawn independently."""
        return categorical(self.alpha, rng, count)

    def argmax(self) -> Edges:
        """The most probable architecture (1, 6): T = 1."""
        return self.alpha.argmax(-1)

    def most_likely(self) -> Edges:
        """The same: each architecture has one encoding."""
        return self.argmax()

    def tempered(self, temperature: float) -> "NASBench201Distributions":
        """The distributions proportional to p^(1/temperature). Raises ValueError unless it is above 0."""
        return NASBench201Distributions(self.space, tempered(self.alpha, temperature))

    def node_log_probability(self, architectures: Edges) -> NDArray[np.float64]:
        """The logarithm of the probability that `sample` draws each node as it is; (..., 1, 6) to (..., 1, 3)."""
        logarithms = self._edge_log_probability(architectures)
        nodes = np.array([node for node, _ in self.space.edges])
        return np.stack([logarithms[..., nodes == node].sum(-1) for node in range(self.space.nodes)], axis=-1)

    def log_probability(self, architectures: Edges) -> NDArray[np.float64]:
        """The logarithm of the probability that `sample` draws this architecture; (..., 1, 6) to (...)."""
        return self._edge_log_probability(architectures).sum((-2, -1))

    def _edge_log_probability(self, architectures: Edges) -> NDArray[np.float64]:
        alpha = np.broadcast_to(self.alpha, (*architectures.shape, self.alpha.shape[-1]))
        with np.errstate(divide="ignore"):  # a probability that has underflowed to 0 gives -inf
            return np.log(np.take_along_axis(alpha, architectures[..., None], -1)[..., 0])

    def entropies(self) -> dict[str, NDArray[np.float64]]:
        """The entropy in nats of each edge's distribution: alpha (1, 6)."""
        return {"alpha": entropy(self.alpha)}

    def choices(self) -> dict[str, NDArray[np.int64]]:
        """How many choices each edge has: alpha (6,)."""
        return {"alpha": np.full(len(self.space.edges), len(self.space.operations))}

    def entropy(self) -> float:
        """The entropy in nats of an architecture: the sum over all edges."""
        return float(entropy(self.alpha).sum())

    def mixing_weights(self) -> NDArray[np.float64]:
        """The probabilities themselves: (1, 6, 5)."""
        return self.alpha

    def panels(self, cell_type: int) -> list[list[Panel]]:
        """The probabilities of each edge's operations."""
        title = "probabilities, the mixing weights of Eq. 10"
        return [[mixing_panel(self.space, self.alpha[..., cell_type, :, :], title)]]

    def preferences(self, cell_type: int) -> list[dict[str, Any]]:
        """A row an edge: its most probable operation, and the entropy."""
        rows = []
        for edge, name in enumerate(edge_names(self.space)):
            p = self.alpha[cell_type, edge]
            operation = f"{label(self.space.operations[p.argmax()])} ({p.max():.0%})"
            rows.append({"edge": name, "operation": operation, "entropy [nats]": float(entropy(p))})
        return rows

    @classmethod
    def from_record(cls, space: NASBench201Space, record: dict[str, Any]) -> "NASBench201Distributions":
        """From a line of evaluator.jsonl."""
        return cls(space, np.array(record["alpha"]))

    def to_record(self) -> dict[str, Any]:
        """The probabilities as nested lists, a line of evaluator.jsonl."""
        return {"alpha": self.alpha.tolist()}
