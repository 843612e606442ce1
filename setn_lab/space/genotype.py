"""A genotype: one normal and one reduction cell, compared as architectures, with JSON and DARTS text forms."""

import difflib
import json
from dataclasses import dataclass
from typing import Any

from setn_lab.space import texts
from setn_lab.space.texts import FIELDS, GenotypeError

# Every operation name of the DARTS family, and what `kits.register_operation` adds. The order is the one in which a
# pair of operations is kept.
OPERATIONS = [
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "conv_3x1_1x3",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sep_conv_7x7",
    "conv_7x1_1x7",
    "none",
]

INPUTS = 2  # the outputs of the two previous cells: states 0 and 1; node i is state i + 2
Edge = tuple[str, int]  # (operation, the state it reads)
Node = tuple[Edge, Edge]
Cell = tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Genotype:
    """A normal and a reduction cell.

    `normal` and `reduce` hold a node per entry: two (operation, state) pairs whose results are summed. States 0
    and 1 are the outputs of the cell before the previous one and of the previous one; node i is state i + 2.
    `normal_concat` and `reduce_concat` are the states that the cell's output concatenates. Two genotypes are
    equal when they are the same architecture: the order within a node's pair does not matter.

    Raises GenotypeError for an unknown operation, a state that is not computed yet, or a bad concatenation.
    """

    normal: Cell
    normal_concat: tuple[int, ...]
    reduce: Cell
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in FIELDS:  # lists, as JSON gives them, become tuples: a genotype is a key of dictionaries
            object.__setattr__(self, name, _tuples(getattr(self, name)))
        for name, cell, concat in self.cells:
            _check_cell(name, cell)
            _check_concat(name, concat, len(cell))

    @property
    def cells(self) -> tuple[tuple[str, Cell, tuple[int, ...]], ...]:
        """(name, nodes, concatenated states) of the normal and of the reduction cell."""
        return ("normal", self.normal, self.normal_concat), ("reduce", self.reduce, self.reduce_concat)

    def canonical(self) -> "Genotype":
        """The same architecture written in one way: pairs in the order of Eq. 8, equal operations by state."""
        (_, normal, normal_concat), (_, reduce, reduce_concat) = self.cells
        return Genotype(
            tuple(map(_order, normal)),
            tuple(sorted(normal_concat)),
            tuple(map(_order, reduce)),
            tuple(sorted(reduce_concat)),
        )

    def _key(self) -> tuple[Any, ...]:
        one = self.canonical()
        return one.normal, one.normal_concat, one.reduce, one.reduce_concat

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Genotype) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def to_json(self) -> str:
        """One line of JSON with the four fields; nodes are lists of [operation, state]."""
        return json.dumps({name: getattr(self, name) for name in FIELDS})

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Read what `to_json` writes, or such a dictionary as Python prints it, whose quotes are single.

        Raises GenotypeError, also for a cell of NAS-Bench-201.
        """
        if not isinstance(text, str):
            raise GenotypeError(f"{text!r} given; a text is allowed")
        text = texts.without_mark(text)
        texts.refuse_201(text)
        try:
            fields = json.loads(text, object_pairs_hook=texts.once)
        except (ValueError, RecursionError) as error:
            if not text.startswith("{") or isinstance(error, GenotypeError):
                raise GenotypeError(f"this is not JSON: {error}") from error
            try:
                fields = texts.read_dictionary(text)
            except GenotypeError:  # what is wrong with it as JSON says more
                raise GenotypeError(f"this is not JSON: {error}") from error
        return _from_fields(fields)

    def to_darts(self) -> str:
        """The text that DARTS prints: Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[...], ...)."""
        flat = {
            name: [edge for node in getattr(self, name) for edge in node]
            if not name.endswith("concat")
            else list(getattr(self, name))
            for name in FIELDS
        }
        return f"Genotype({', '.join(f'{name}={value!r}' for name, value in flat.items())})"

    @classmethod
    def from_darts(cls, text: str) -> "Genotype":
        """Read the one genotype in a text as DARTS, SETN's authors and logs write it, see `texts`.

        Nodes may be nested or flat, numbers and ranges those of Python or numpy. The text is parsed and never
        evaluated. Raises GenotypeError, also for a cell of NAS-Bench-201. Warns of what is passed over.
        """
        text = texts.without_mark(text)
        texts.refuse_201(text)
        return _from_fields(texts.read_call(text))


def _from_fields(fields: Any) -> Genotype:
    if not isinstance(fields, dict):
        raise GenotypeError(f"the fields {', '.join(FIELDS)} are needed, each once; {type(fields).__name__} given")
    fields = texts.plain_cells(fields)
    cells = {}
    for name in ("normal", "reduce"):
        cell = _tuples(fields[name])
        if isinstance(cell, tuple) and cell and all(_is_edge(entry) for entry in cell):
            if len(cell) % 2:
                raise GenotypeError(f"{name}: {len(cell)} (operation, state) pairs given; each node takes two")
            cell = tuple(zip(cell[::2], cell[1::2], strict=True))  # flat, as DARTS prints it
        cells[name] = cell
    return Genotype(cells["normal"], fields["normal_concat"], cells["reduce"], fields["reduce_concat"])


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple | range) else value


def _is_edge(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def _check_cell(name: str, cell: Any) -> None:
    if not isinstance(cell, tuple) or not cell:
        raise GenotypeError(f"{name}: {cell!r} given; at least one node is needed")
    for number, node in enumerate(cell):
        where = f"{name}, node {number + INPUTS}"
        if not isinstance(node, tuple) or len(node) != 2 or not all(_is_edge(edge) for edge in node):
            raise GenotypeError(f"{where}: {node!r} given; two pairs (operation, state) are needed")
        for operation, state in node:
            if operation not in OPERATIONS:
                near = difflib.get_close_matches(operation, OPERATIONS, 1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise GenotypeError(
                    f"{where}: unknown operation {operation!r}{hint}; allowed are {', '.join(OPERATIONS)}"
                )
            if not 0 <= state < number + INPUTS:
                raise GenotypeError(
                    f"{where}: {operation} reads state {state}; this node can read 0 .. {number + INPUTS - 1}"
                )


def _check_concat(name: str, concat: Any, nodes: int) -> None:
    allowed = range(INPUTS, INPUTS + nodes)
    valid = isinstance(concat, tuple) and concat and all(type(state) is int for state in concat)
    if not valid or len(set(concat)) < len(concat) or not set(concat) <= set(allowed):
        raise GenotypeError(
            f"{name}_concat: {concat!r} given; different states among {allowed.start} .. {allowed.stop - 1} are "
            "allowed, at least one"
        )


def _order(node: Node) -> Node:
    first, second = sorted(node, key=lambda edge: (-OPERATIONS.index(edge[0]), edge[1]))
    return first, second
