"""A genotype: one normal and one reduction cell, compared as architectures, with JSON and DARTS text forms."""

import ast
import difflib
import json
from dataclasses import dataclass
from typing import Any

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

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
INPUTS = 2  # the outputs of the two previous cells: states 0 and 1; node i is state i + 2
Edge = tuple[str, int]  # (operation, the state it reads)
Node = tuple[Edge, Edge]
Cell = tuple[Node, ...]


class GenotypeError(ValueError):
    """A genotype, or the text of one, that describes no cell; the message says what is wrong and where."""


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
        """Read what `to_json` writes. Raises GenotypeError."""
        try:
            fields = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
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
        """Read a DARTS text, flat or nested by node, with lists, tuples or ranges.

        The text is parsed and never evaluated. Raises GenotypeError.
        """
        try:
            call = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise GenotypeError(f"this is not a DARTS genotype: {error}") from error
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
            raise GenotypeError("this is not a DARTS genotype: the text must be one call Genotype(normal=..., ...)")
        if call.args:
            raise GenotypeError(f"a DARTS genotype names its fields: {', '.join(FIELDS)}; one without a name given")
        try:
            return _from_fields(_once([(str(word.arg), _literal(word.value)) for word in call.keywords]))
        except RecursionError as error:
            raise GenotypeError("this is not a DARTS genotype: it is nested too deeply") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of fields that each occur once."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise GenotypeError(f"each field may be given once; {', '.join(names)} given")
    return dict(pairs)


def _literal(node: ast.expr) -> Any:
    """The value of a literal, or of list(...), tuple(...) and range(...) over literals; nothing is evaluated."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        arguments = [_literal(argument) for argument in node.args]
        if node.func.id == "range" and 1 <= len(arguments) <= 3 and all(type(a) is int for a in arguments):
            if any(abs(argument) > 1000 for argument in arguments):  # before a list of that length is made
                raise GenotypeError(f"range{tuple(arguments)!s:.80}: a cell has fewer than 1000 states")
            return list(range(*arguments)) if 0 not in arguments[2:] else []
        if node.func.id in ("list", "tuple") and len(arguments) == 1:
            return arguments[0]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(element) for element in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise GenotypeError(f"{ast.unparse(node)[:80]}: only names in quotes, numbers, lists and ranges") from error


def _from_fields(fields: Any) -> Genotype:
    if not isinstance(fields, dict) or set(fields) != set(FIELDS):
        given = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
        raise GenotypeError(f"the fields {', '.join(FIELDS)} are needed, each once; {given} given")
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
