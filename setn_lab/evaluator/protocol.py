"""What training, scoring and the inspectors ask of an evaluator and of its distributions."""

from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from setn_lab.figures.panels import Panel
from setn_lab.space.protocol import Space


class DistributionsProtocol(Protocol):
    """An evaluator's probabilities at one moment, on the host. Further dimensions may stand before all arrays.

    A frozen dataclass of `space` and arrays, which are named as in `to_record`: the inspectors stack the records of all
    epochs. `from_record(space, record)` of the class is the inverse of `to_record`.
    """

    @property
    def space(self) -> Space:
        """The search space."""

    def sample(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """`count` architectures, drawn independently: (count, cell types, ...)."""

    def argmax(self) -> NDArray[np.int64]:
        """The architecture of the most probable choices: T = 1."""

    def most_likely(self) -> NDArray[np.int64]:
        """The most probable architecture, where several encodings of one add up."""

    def tempered(self, temperature: float) -> Self:
        """Proportional to p^(1/temperature). Raises ValueError unless it is above 0."""

    def node_log_probability(self, architectures: NDArray[np.int64]) -> NDArray[np.float64]:
        """The logarithm of the probability that `sample` draws each node as it is: (..., cell types, B)."""

    def log_probability(self, architectures: NDArray[np.int64]) -> NDArray[np.float64]:
        """The logarithm of the probability that `sample` draws the architecture: (...)."""

    def entropies(self) -> dict[str, NDArray[np.float64]]:
        """The entropy in nats of each distribution by name: (cell types, how many)."""

    def choices(self) -> dict[str, NDArray[np.int64]]:
        """How many choices each distribution has: (how many)."""

    def entropy(self) -> float:
        """The entropy in nats of an architecture."""

    def mixing_weights(self) -> NDArray[np.float64]:
        """The weight of each operation on each edge in Eq. 10: (cell types, edges, |O|)."""

    def panels(self, cell_type: int) -> list[list[Panel]]:
        """What there is to see of one cell type, in rows."""

    def preferences(self, cell_type: int) -> list[dict[str, Any]]:
        """The most probable choices of one cell type and how sure they are, a row each by column."""

    def to_record(self) -> dict[str, Any]:
        """The probabilities as nested lists, a line of evaluator.jsonl."""


class EvaluatorProtocol(Protocol):
    """A torch module whose parameters are the paper's alpha."""

    def mixing_weights(self) -> Tensor:
        """As `DistributionsProtocol.mixing_weights`, differentiable."""

    def draw_log_probability(self, drawn: NDArray[np.int64]) -> Tensor:
        """The logarithm of the probability of each of `sample`'s draws, as encoded, differentiable: (count,).

        Asked for by `evaluator_gradient` rloo and `candidate_source` refit alone.
        """

    def distributions(self) -> DistributionsProtocol:
        """The probabilities as they are now."""
