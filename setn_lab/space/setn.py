"""The search space: operations, architectures, genotypes, uniform sampling (Eq. 2-3) and exact counts.

A cell has two inputs, state 0 (the output of the cell before the previous one) and state 1 (the output of the
previous cell), and B nodes, which are states 2 .. B+1. A node is a quadruple (r1, r2, t, u): operation r1 is
applied to state t, operation r2 to state u, and the two results are summed (Eq. 1). Eq. 8 keeps r2 <= r1, so
that the unordered pairs of operations are numbered by one index r.

Architectures in bulk are integer arrays of quadruples, shape (..., B, 4); one architecture that is to be kept,
compared, drawn or built is a `Genotype`. This module imports neither torch nor matplotlib.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from setn_lab.space.genotype import INPUTS, OPERATIONS, Genotype, GenotypeError

SMALL = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "conv_3x1_1x3")
LARGE = (*SMALL, "dil_conv_3x3", "dil_conv_5x5")
OPERATION_SETS = {"small": SMALL, "large": LARGE}
Quadruples = NDArray[np.int64]


@dataclass(frozen=True)
class SearchSpace:
    """All cells of `nodes` nodes (B) over the `operations` (O), in the order that indexes them.

    Raises GenotypeError for an unknown or repeated operation, or fewer than one node.
    """

    operations: tuple[str, ...] = SMALL
    nodes: int = 4
    cell_types: ClassVar[int] = 2  # normal and reduction cell
    cell_names: ClassVar[tuple[str, ...]] = ("normal cell", "reduction cell")
    input_names: ClassVar[tuple[str, ...]] = ("c_{k-2}", "c_{k-1}")
    slots: ClassVar[int] = 2  # operations that a node sums, at most

    def __post_init__(self) -> None:
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown or not self.operations or len(set(self.operations)) < len(self.operations):
            raise GenotypeError(
                f"operations: {self.operations!r} given; a tuple of different names among {OPERATIONS} is allowed"
            )
        if self.nodes < 1:
            raise GenotypeError(f"nodes: {self.nodes!r} given; an integer of at least 1 is allowed")

    @property
    def pairs(self) -> int:
        """The number of unordered pairs of operations, |O|(|O|+1)/2."""
        return len(self.operations) * (len(self.operations) + 1) // 2

    def inputs(self, node: int) -> int:
        """The number of states that node `node` (0 .. B-1) can read: |I| of that node."""
        return INPUTS + node

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Every (node, state it can read), node by node: 2 + 3 + ... of them, 14 for B = 4."""
        return tuple((node, state) for node in range(self.nodes) for state in range(self.inputs(node)))

    def sample(self, rng: np.random.Generator, *shape: int) -> Quadruples:
        """Architectures drawn uniformly (Eq. 2-3): quadruples of shape (*shape, B, 4).

        Both inputs are uniform over the node's states, with replacement; the pair of operations is uniform
        over the |O|(|O|+1)/2 ordered pairs.
        """
        sizes = np.array([self.inputs(node) for node in range(self.nodes)])
        states = rng.integers(0, sizes[:, None], size=(*shape, self.nodes, 2))  # Eq. 2
        r = rng.integers(0, self.pairs, size=(*shape, self.nodes))  # Eq. 3
        return np.concatenate([np.stack(pair_operations(r), axis=-1), states], axis=-1)

    def connected(self, rng: np.random.Generator, *shape: int) -> Quadruples:
        """The same as `sample`: no operation of this space is none."""
        return self.sample(rng, *shape)

    def fair(self, rng: np.random.Generator, *shape: int) -> Quadruples:
        """|O| architectures (|O|, *shape, B, 4) on the same uniformly drawn inputs, each operation once on each input.

        The order of the operations is drawn for each input on its own (FairNAS).
        """
        states = self.sample(rng, *shape)[..., 2:]
        rounds = (len(self.operations), *shape, self.nodes, 2)
        column = np.arange(len(self.operations)).reshape(-1, *[1] * (len(shape) + 2))
        operations = rng.permuted(np.broadcast_to(column, rounds), axis=0)
        return np.concatenate([operations, np.broadcast_to(states, rounds)], axis=-1)

    def canonical(self, quadruples: Quadruples) -> Quadruples:
        """The same architectures with one encoding each: r2 <= r1, and t <= u where r1 = r2."""
        r1, r2, t, u = np.moveaxis(quadruples, -1, 0)
        swap = (r2 > r1) | ((r1 == r2) & (t > u))
        return np.where(swap[..., None], np.stack([r2, r1, u, t], axis=-1), quadruples)

    def mutate(self, rng: np.random.Generator, quadruples: Quadruples) -> Quadruples:
        """A canonical architecture (2, B, 4) that has one other operation or one other input.

        The place is drawn uniformly among the operations and inputs of all nodes of both cells, then another value
        uniformly. One of a node's two terms is another then, so the architecture is never the same.
        """
        first = 2 if len(self.operations) == 1 else 0  # a single operation cannot change
        cell_type, node, part = rng.integers((0, 0, first), (self.cell_types, self.nodes, 4))
        choices = len(self.operations) if part < 2 else self.inputs(node)
        mutated = quadruples.copy()
        mutated[cell_type, node, part] += rng.integers(1, choices)
        mutated[cell_type, node, part] %= choices
        return self.canonical(mutated)

    def genotype(self, quadruples: Quadruples) -> Genotype:
        """The Genotype of one architecture: quadruples (2, B, 4), normal cell first."""
        normal, reduce = (
            tuple(
                ((self.operations[r1], int(t)), (self.operations[r2], int(u)))
                for r1, r2, t, u in cell  # Eq. 6 and Eq. 9
            )
            for cell in self.canonical(quadruples)
        )
        concat = tuple(range(INPUTS, INPUTS + self.nodes))
        return Genotype(normal=normal, normal_concat=concat, reduce=reduce, reduce_concat=concat)

    def encode(self, genotype: Genotype) -> Quadruples:
        """The canonical quadruples (2, B, 4) of a Genotype of this space; the inverse of `genotype`.

        Raises GenotypeError where the genotype lies outside this space.
        """
        everything = tuple(range(INPUTS, INPUTS + self.nodes))
        cells = []
        for name, cell, concat in genotype.cells:
            if len(cell) != self.nodes or tuple(sorted(concat)) != everything:
                raise GenotypeError(
                    f"{name}: {len(cell)} nodes and concatenation {concat} given; this search space has "
                    f"{self.nodes} nodes, all of them concatenated"
                )
            rows = []
            for number, node in enumerate(cell):
                for operation, _ in node:
                    if operation not in self.operations:
                        raise GenotypeError(
                            f"{name}, node {number + INPUTS}: operation {operation!r} is not in this search "
                            f"space; allowed are {', '.join(self.operations)}"
                        )
                (first, t), (second, u) = node
                rows.append((self.operations.index(first), self.operations.index(second), t, u))
            cells.append(rows)
        return self.canonical(np.array(cells, dtype=np.int64))

    def terms(self, cell: Quadruples) -> list[list[tuple[int, int]]]:
        """For each node of a cell (B, 4), the (operation, state) pairs that it sums."""
        return [[(r1, t), (r2, u)] for r1, r2, t, u in cell.tolist()]

    def operands(self, cells: Quadruples) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The operations and the states of all that cells (..., B, 4) sum: (..., 2 B) each."""
        shape = *cells.shape[:-2], -1
        return cells[..., :2].reshape(shape), cells[..., 2:].reshape(shape)

    def cheapest(self, costs: NDArray[np.float64]) -> Quadruples:
        """The architecture (2, B, 4) of the lowest sum, given what operations cost: (2, edges, |O|).

        Nodes do not depend on each other: each sums its cheapest operation on its cheapest state twice.
        """
        size, heads = len(self.operations), np.array([node for node, _ in self.edges])
        rows = []
        for cell in costs:
            lowest = [int(cell[heads == node].argmin()) for node in range(self.nodes)]
            rows.append([(place % size, place % size, place // size, place // size) for place in lowest])
        return np.array(rows, dtype=np.int64)

    def read(self, text: str) -> Genotype:
        """The genotype that a journal's line holds. Raises GenotypeError."""
        return Genotype.from_darts(text)

    def write(self, genotype: Genotype) -> str:
        """The genotype as a journal's line holds it."""
        return genotype.to_darts()

    def count_encodings(self) -> int:
        """How many encodings Eq. 2-3 can draw, for the normal and the reduction cell together."""
        return self._both_cells(lambda inputs: self.pairs * inputs**2)

    def count_architectures(self) -> int:
        """How many distinct architectures there are among them.

        Two different operations leave both inputs free; the same operation twice leaves an unordered pair of
        inputs, whose two orders are two encodings of one architecture.
        """
        size = len(self.operations)
        return self._both_cells(lambda inputs: size * (size - 1) // 2 * inputs**2 + size * inputs * (inputs + 1) // 2)

    def count_paper(self) -> int:
        """Section 3's formula: two different inputs, unordered, and two operations, ordered."""
        return self._both_cells(lambda inputs: inputs * (inputs - 1) // 2 * len(self.operations) ** 2)

    def _both_cells(self, per_node: Callable[[int], int]) -> int:
        total = 1
        for node in range(self.nodes):
            total *= per_node(self.inputs(node))
        return total**2


def pair_index(r1: NDArray[np.int64] | int, r2: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """The index r of the pair of operations r2 <= r1 (Eq. 8 solved for r), all counted from 0."""
    return np.asarray(r1) * (np.asarray(r1) + 1) // 2 + np.asarray(r2)


def pair_operations(r: NDArray[np.int64] | int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(r1, r2) of the pair index r (Eq. 8), all counted from 0.

    The paper counts from 1: r1 is the least n with 1 + 2 + ... + n >= r. From 0 that is the greatest r1 with
    r1(r1+1)/2 <= r, found in a table of triangular numbers, since a square root would have to be rounded.
    """
    r = np.asarray(r)
    triangular = np.cumsum(np.arange(int(r.max(initial=0)) + 2))
    r1 = np.searchsorted(triangular, r, side="right") - 1
    return r1, r - triangular[r1]
