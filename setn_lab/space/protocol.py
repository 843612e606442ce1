"""What training, scoring and the studies ask of a search space."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Space(Protocol):
    """What training, scoring and the studies ask of a search space; `setn.SearchSpace` and
    `nasbench201.NASBench201Space` are two.

    A cell has `inputs(0)` inputs and then `nodes` nodes, each of which sums operations on earlier states. An
    architecture is an integer array (cell_types, ...), one part for each type of cell.
    """

    @property
    def operations(self) -> tuple[str, ...]:
        """Their names, in the order that indexes them."""

    @property
    def nodes(self) -> int:
        """How many nodes a cell has beside its inputs."""

    @property
    def cell_types(self) -> int:
        """How many types of cells: normal and reduction, or one."""

    @property
    def cell_names(self) -> tuple[str, ...]:
        """What the types of cells are called."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """What a cell's inputs are called."""

    @property
    def slots(self) -> int:
        """How many operations a node sums at most."""

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Every (node, state it can read), node by node."""

    def inputs(self, node: int) -> int:
        """The number of states that node `node` can read."""

    def sample(self, rng: np.random.Generator, *shape: int) -> NDArray[np.int64]:
        """Cells drawn uniformly: (*shape, ...)."""

    def connected(self, rng: np.random.Generator, *shape: int) -> NDArray[np.int64]:
        """Cells drawn uniformly among those in which every node has an operation other than none: (*shape, ...)."""

    def fair(self, rng: np.random.Generator, *shape: int) -> NDArray[np.int64]:
        """|O| cells that use each operation of their edges once: (|O|, *shape, ...)."""

    def canonical(self, architectures: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same architectures with one encoding each."""

    def mutate(self, rng: np.random.Generator, architecture: NDArray[np.int64]) -> NDArray[np.int64]:
        """A different architecture (cell_types, ...), canonical, that differs at one place of one cell.

        The place is drawn uniformly, then what stands there instead. Asked for by `candidate_source` evolution alone.
        """

    def terms(self, cell: NDArray[np.int64]) -> list[list[tuple[int, int]]]:
        """For each node of a cell, the (operation, state) pairs that it sums."""

    def operands(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The operations and the states of all that cells (..., one cell's part) sum: (..., terms) each.

        In the order of `terms`, of which every cell has as many.
        """

    def cheapest(self, costs: NDArray[np.float64]) -> NDArray[np.int64]:
        """The architecture (cell_types, ...) of the lowest sum, given what operations cost: (cell_types, edges, |O|).

        Asked for where candidates have caps alone.
        """

    def count_architectures(self) -> int:
        """How many distinct architectures there are."""

    def genotype(self, architecture: NDArray[np.int64]) -> Any:
        """The genotype of an architecture (cell_types, ...)."""

    def encode(self, genotype: Any) -> NDArray[np.int64]:
        """The architecture of a genotype. Raises GenotypeError where it lies outside this space."""

    def read(self, text: str) -> Any:
        """The genotype that a journal's line holds. Raises GenotypeError."""

    def write(self, genotype: Any) -> str:
        """The genotype as a journal's line holds it."""
