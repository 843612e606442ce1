"""The evaluator of NAS-Bench-201's space: one categorical distribution over the operations of each edge.

It is to `EdgeSpace` what `evaluator` is to the paper's space: it draws cells and gives the mixing weights of Eq. 10.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from setn_lab.edge_space import Edges, EdgeSpace
from setn_lab.evaluator import categorical, entropy, tempered


class EdgeEvaluator(nn.Module):
    """Logits alpha (1, 6, 5), one per (cell kind, edge, operation), all 0 at first."""

    def __init__(self, space: EdgeSpace) -> None:
        super().__init__()
        self.space = space
        self.alpha = nn.Parameter(torch.zeros(space.kinds, len(space.edges), len(space.operations)))

    def mixing_weights(self) -> Tensor:
        """The probabilities, with which Eq. 10 mixes the operations of each edge, differentiable: (1, 6, 5)."""
        return self.alpha.softmax(-1)

    def distributions(self) -> "EdgeDistributions":
        """The probabilities as they are now, on the host, for drawing, reading and storing."""
        return EdgeDistributions(self.space, self.mixing_weights().detach().cpu().double().numpy())


@dataclass(frozen=True)
class EdgeDistributions:
    """The evaluator's probabilities at one moment: alpha (1, 6, 5)."""

    space: EdgeSpace
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

    def tempered(self, temperature: float) -> "EdgeDistributions":
        """The distributions proportional to p^(1/temperature). Raises ValueError unless it is above 0."""
        return EdgeDistributions(self.space, tempered(self.alpha, temperature))

    def log_probability(self, architectures: Edges) -> NDArray[np.float64]:
        """The logarithm of the probability that `sample` draws this architecture; (..., 1, 6) to (...)."""
        chosen = np.take_along_axis(
            np.broadcast_to(self.alpha, (*architectures.shape, self.alpha.shape[-1])), architectures[..., None], -1
        )[..., 0]
        with np.errstate(divide="ignore"):  # a probability that has underflowed to 0 gives -inf
            return np.log(chosen).sum((-2, -1))

    def entropies(self) -> dict[str, NDArray[np.float64]]:
        """The entropy in nats of each edge's distribution: alpha (1, 6)."""
        return {"alpha": entropy(self.alpha)}

    def entropy(self) -> float:
        """The entropy in nats of an architecture: the sum over all edges."""
        return float(entropy(self.alpha).sum())

    def mixing_weights(self) -> NDArray[np.float64]:
        """The probabilities themselves: (1, 6, 5)."""
        return self.alpha

    @classmethod
    def from_record(cls, space: EdgeSpace, record: dict[str, Any]) -> "EdgeDistributions":
        """From a line of evaluator.jsonl."""
        return cls(space, np.array(record["alpha"]))

    def to_record(self) -> dict[str, Any]:
        """The probabilities as nested lists, a line of evaluator.jsonl."""
        return {"alpha": self.alpha.tolist()}
