"""The search space of NAS-Bench-201: each node of a cell sums one operation on every earlier state.

State 0 is the cell's input; the nodes 0, 1 and 2 are states 1, 2 and 3, and the last one is the output: six edges with
five operations, so 5^6 = 15,625 cells, one of which a network repeats. The text form, which the benchmark's tables
use, lists the edges node by node: |op~0|+|op~0|op~1|+|op~0|op~1|op~2|. This module imports neither torch nor
matplotlib.
"""

import itertools
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from setn_lab.space import texts
from setn_lab.space.genotype import GenotypeError

OPERATIONS_201 = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NODES = 3
EDGES = tuple((node, state) for node in range(NODES) for state in range(node + 1))
_TEXT = re.compile(
    "[+]".join("[|]" + "".join(rf"([a-z0-9_]+)~{state}[|]" for state in range(node + 1)) for node in range(NODES))
)


Edges = NDArray[np.int64]


@dataclass(frozen=True)
class NASBench201Genotype:
    """One cell: the operation of each edge, in the order of EDGES. Raises GenotypeError for an unknown operation.

    Two are equal where they give the same text; `isomorphism_class` says whether they are the same network.
    """

    operations: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the operations."""
        if len(self.operations) != len(EDGES):
            raise GenotypeError(f"{len(self.operations)} operations given; this cell has {len(EDGES)} edges")
        for name in self.operations:
            if name not in OPERATIONS_201:
                raise GenotypeError(f"unknown operation {name!r}; allowed are {', '.join(OPERATIONS_201)}")

    @classmethod
    def from_text(cls, text: str) -> "NASBench201Genotype":
        """Read the benchmark's text form. Raises GenotypeError, also for a normal and a reduction cell."""
        match = _TEXT.fullmatch(texts.without_mark(text))
        if match is None:
            texts.refuse_cells(text)
            raise GenotypeError(f"{text[:200]!r} given; the form {texts.EDGES} is needed")
        return cls(match.groups())

    def to_text(self) -> str:
        """The benchmark's text form."""
        parts: dict[int, str] = {}
        for (node, state), name in zip(EDGES, self.operations, strict=True):
            parts[node] = parts.get(node, "|") + f"{name}~{state}|"
        return "+".join(parts.values())

    def to_json(self) -> str:
        """The text form as JSON."""
        return json.dumps(self.to_text())

    @classmethod
    def from_json(cls, text: str) -> "NASBench201Genotype":
        """Read what `to_json` writes. Raises GenotypeError, also for a normal and a reduction cell."""
        texts.refuse_cells(text)
        try:
            return cls.from_text(str(json.loads(text)))
        except json.JSONDecodeError as error:
            raise GenotypeError(f"this is not JSON: {error}") from error

    @property
    def array(self) -> Edges:
        """The operations' numbers (6,)."""
        return np.array([OPERATIONS_201.index(name) for name in self.operations])


@dataclass(frozen=True)
class NASBench201Space:
    """All cells with one operation on each edge; architectures are arrays (..., 1, 6), one type of cell."""

    operations: ClassVar[tuple[str, ...]] = OPERATIONS_201
    nodes: ClassVar[int] = NODES
    cell_types: ClassVar[int] = 1
    cell_names: ClassVar[tuple[str, ...]] = ("cell",)
    input_names: ClassVar[tuple[str, ...]] = ("input",)
    slots: ClassVar[int] = NODES
    edges: ClassVar[tuple[tuple[int, int], ...]] = EDGES

    def inputs(self, node: int) -> int:
        """The number of states that node `node` (0 .. 2) reads: all earlier ones."""
        return node + 1

    def sample(self, rng: np.random.Generator, *shape: int) -> Edges:
        """Cells drawn uniformly: (*shape, 6)."""
        return rng.integers(len(OPERATIONS_201), size=(*shape, len(EDGES)))

    def connected(self, rng: np.random.Generator, *shape: int) -> Edges:
        """Cells (*shape, 6) drawn uniformly among those in which every node has an operation other than none."""
        cells = self.sample(rng, *shape)
        while (starved := _starved(cells)).any():
            cells[starved] = self.sample(rng, int(starved.sum()))
        return cells

    def fair(self, rng: np.random.Generator, *shape: int) -> Edges:
        """Five cells (5, *shape, 6) that use each operation once on each edge, in an order drawn for each (FairNAS)."""
        cells = (len(OPERATIONS_201), *shape, len(EDGES))
        column = np.arange(len(OPERATIONS_201)).reshape(-1, *[1] * (len(shape) + 1))
        return rng.permuted(np.broadcast_to(column, cells), axis=0)

    def canonical(self, architectures: Edges) -> Edges:
        """The same: each cell has one encoding. Isomorphic cells are different rows of the benchmark's table."""
        return architectures

    def mutate(self, rng: np.random.Generator, architecture: Edges) -> Edges:
        """An architecture (1, 6) that has one other operation: its edge is drawn uniformly, then the operation."""
        edge = rng.integers(len(EDGES))
        mutated = architecture.copy()
        mutated[0, edge] = (mutated[0, edge] + rng.integers(1, len(OPERATIONS_201))) % len(OPERATIONS_201)
        return mutated

    def terms(self, cell: Edges) -> list[list[tuple[int, int]]]:
        """For each node of a cell (6,), the (operation, state) pairs that it sums."""
        sums: list[list[tuple[int, int]]] = [[] for _ in range(NODES)]
        for (node, state), operation in zip(EDGES, cell.tolist(), strict=True):
            sums[node].append((operation, state))
        return sums

    def operands(self, cells: Edges) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The operations and the states of all that cells (..., 6) sum: (..., 6) each."""
        return cells, np.broadcast_to(np.array([state for _, state in EDGES]), cells.shape)

    def cheapest(self, costs: NDArray[np.float64]) -> Edges:
        """The cell (1, 6) of the lowest sum, given what operations cost: (1, 6, 5)."""
        return costs.argmin(axis=-1)

    def count_architectures(self) -> int:
        """5^6."""
        return len(OPERATIONS_201) ** len(EDGES)

    def genotype(self, architecture: Edges) -> NASBench201Genotype:
        """The genotype of one architecture (1, 6)."""
        return NASBench201Genotype(tuple(OPERATIONS_201[index] for index in architecture.reshape(len(EDGES))))

    def encode(self, genotype: NASBench201Genotype) -> Edges:
        """The architecture (1, 6) of a genotype; the inverse of `genotype`."""
        return genotype.array[None]

    def read(self, text: str) -> NASBench201Genotype:
        """The genotype that a journal's line holds. Raises GenotypeError."""
        return NASBench201Genotype.from_text(text)

    def write(self, genotype: NASBench201Genotype) -> str:
        """The genotype as a journal's line holds it."""
        return genotype.to_text()


def _starved(cells: Edges) -> NDArray[np.bool_]:
    """Whether a node of each cell (..., 6) sums nothing but zeros: (...)."""
    nothing = cells == OPERATIONS_201.index("none")
    heads = np.array([node for node, _ in EDGES])
    return np.any([nothing[..., heads == node].all(-1) for node in range(NODES)], axis=0)


def number(architectures: Edges) -> NDArray[np.int64]:
    """Architectures (..., 6) as numbers 0 .. 15,624: the operations are the digits, the first edge's the highest."""
    return architectures @ (len(OPERATIONS_201) ** np.arange(len(EDGES))[::-1])


def every() -> Edges:
    """All architectures (15625, 6), in the order of `number`."""
    return np.array(list(itertools.product(range(len(OPERATIONS_201)), repeat=len(EDGES))))


Terms = tuple[object, ...]


@cache
def isomorphism_class(genotype: NASBench201Genotype) -> Terms:
    """What isomorphic cells share and others do not: those that are the same network, with weights on its edges.

    A cell is written as a sum of terms: what zero gives is left out, a skip connection adds its input's own terms, and
    the order of a sum does not matter. Convolution and pooling of nothing are nothing. A convolution that two sums read
    is one term, two convolutions of the same input are two, and it does not matter which is which.
    """
    terms = _terms(genotype)
    weights = sorted(_convolutions(terms))
    orders = itertools.permutations(range(len(weights)))
    forms = (_renamed(terms, dict(zip(weights, order, strict=True))) for order in orders)
    return min(forms, key=repr)


def _terms(genotype: NASBench201Genotype) -> Terms:
    """The output as terms: "input", or (operation, edge whose weights it has, terms of its input)."""
    states: list[Terms] = [("input",)]
    for node in range(NODES):
        total: list[object] = []
        for edge, ((head, state), operation) in enumerate(zip(EDGES, genotype.operations, strict=True)):
            if head != node or operation == "none" or not states[state]:
                continue
            weights = edge if "conv" in operation else None
            total += states[state] if operation == "skip_connect" else [(operation, weights, states[state])]
        states.append(tuple(total))
    return states[-1]


def _convolutions(terms: Any) -> set[int]:
    found: set[int] = set()
    for term in terms:
        if term != "input":
            found |= _convolutions(term[2]) | ({term[1]} - {None})
    return found


def _renamed(terms: Any, names: dict[int, int]) -> Terms:
    """The terms with other numbers for their weights, in order."""
    renamed = (term if term == "input" else (term[0], names.get(term[1]), _renamed(term[2], names)) for term in terms)
    return tuple(sorted(renamed, key=repr))
