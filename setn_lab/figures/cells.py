"""Pictures of cells: a Genotype becomes a graphviz.Digraph in the style of the paper's Figure 3.

`draw` and `difference` only write down the graph, in which every position is given; `style.render` makes a picture.
"""

from collections import Counter
from typing import NamedTuple

import graphviz

from setn_lab.figures.looks import TITLES
from setn_lab.figures.sheets import PAGE, SUBSCRIPT, SYMBOL, Arrow, Layout, Node, Sketch, sheet_of
from setn_lab.figures.style import MARK_WEIGHTS, MARKS, operation_line
from setn_lab.space.genotype import INPUTS, Cell, Genotype
from setn_lab.space.names import label

CONCATENATION = {"color": "#A0A0A0", "arrowsize": "0.4", "penwidth": "0.6"}
GREY = "#404040"


def draw(
    genotype: Genotype,
    caption: str | None = None,
    beside: Genotype | None = None,
    layout: Layout = "LR",
    width: float = PAGE,
    only: str | None = None,
) -> graphviz.Digraph:
    """The normal and the reduction cell as one Digraph that is not rendered.

    c_{k-2} and c_{k-1} are states 0 and 1; node i (0 .. B-1) is state i + 2 and sums its two incoming edges,
    each of which is one (operation, state) pair and carries the operation's name. Grey edges lead to c_k, the
    concatenation; a node that is not concatenated has none. `caption` stands below both cells. For a drawing that
    stands beside another one's, lines that `beside` has too are grey, and those that it lacks thick.

    layout: LR from left to right or TB top-down, see `sheets.sheet_of`. width: in inches; no text is smaller than 6
    points. only: "normal" or "reduce" for one cell alone. Raises ValueError for another of these.
    """
    others = [None, None] if beside is None else [(cell, concat) for _, cell, concat in beside.cells]
    sketches = {}
    for (name, cell, concat), other in zip(genotype.cells, others, strict=True):
        common: Counter[Line] | None = None
        if other is not None:
            common = Counter(line for line in compare(*other, cell, concat)[0] if line.mark == "kept")
        sketches[name] = _sketch(name, cell, concat, common)
    if only is not None and only not in sketches:
        raise ValueError(f"only: {only!r} given; allowed are {', '.join(sketches)} and None")
    shown = [sketch for name, sketch in sketches.items() if only in (None, name)]
    return sheet_of("genotype", [shown], layout, width, [] if caption is None else [(caption, GREY)])


def _sketch(name: str, cell: Cell, concat: tuple[int, ...], common: "Counter[Line] | None") -> Sketch:
    """`common`: the lines that are to be grey, while all others are thick; None where no line is."""
    arrows = []
    for number, node in enumerate(cell):
        for slot, (operation, origin) in enumerate(node):
            mark = None
            if common is not None:
                shared = Line("kept", number, operation, origin)
                mark = "kept" if common[shared] > 0 else "added"
                common[shared] -= 1
            line, weight = operation_line(operation, mark)
            head = INPUTS + number
            arrows.append(Arrow(origin, head, f"{name}_{head}_{slot}", label(operation), line, weight))
    nodes = [_node(name, number, str(number)) for number in range(len(cell))]
    output = INPUTS + len(cell)
    arrows += [Arrow(state, output, "", "", CONCATENATION) for state in sorted(concat)]
    return Sketch(name, TITLES[name], _inputs(name), nodes, _output(name), arrows)


def _inputs(name: str) -> list[Node]:
    return [
        Node(f"{name}_{state}", _subscripted(index), f"c{index}", {"fillcolor": "#D9EAD3"})
        for state, index in enumerate(("k-2", "k-1"))
    ]


def _node(name: str, number: int, text: str, **look: str) -> Node:
    return Node(f"{name}_{INPUTS + number}", text, text, {"fillcolor": "#DCE9F5"} | look)


def _output(name: str) -> Node:
    return Node(f"{name}_output", _subscripted("k"), "ck", {"fillcolor": "#FFF2CC"})


def _subscripted(index: str) -> str:
    symbol = f'<FONT POINT-SIZE="{SYMBOL:g}"><I>c</I></FONT>'
    return f'<{symbol}<SUB><FONT POINT-SIZE="{SUBSCRIPT:g}">{index}</FONT></SUB>>'


class Line(NamedTuple):
    """One line of a diff, from state `origin` into a node or, with no operation, into the concatenation.

    mark: "kept", "removed" or "added". node: 0 .. B-1, or None for the concatenation.
    """

    mark: str
    node: int | None
    operation: str | None
    origin: int


def compare(
    old: Cell, old_concat: tuple[int, ...], new: Cell, new_concat: tuple[int, ...]
) -> tuple[list[Line], list[Line]]:
    """The lines of two cells, those into nodes and those into the concatenation, each marked.

    Node i of the one is compared with node i of the other; the order within a node's pair does not matter, and a
    pair of two equal edges counts twice.
    """
    before, after = (
        Counter((number, operation, origin) for number, node in enumerate(cell) for operation, origin in node)
        for cell in (old, new)
    )
    parts = {"kept": before & after, "removed": before - after, "added": after - before}
    lines = [Line(mark, *edge) for mark, part in parts.items() for edge in part.elements()]
    concats = {state: (state in old_concat, state in new_concat) for state in {*old_concat, *new_concat}}
    marks = {(True, True): "kept", (True, False): "removed", (False, True): "added"}
    return lines, [Line(marks[where], None, None, state) for state, where in sorted(concats.items())]


def difference(
    old: Genotype,
    new: Genotype,
    captions: tuple[str, str] = ("old", "new"),
    layout: Layout = "LR",
    width: float = PAGE,
) -> graphviz.Digraph:
    """What changed from `old` to `new`, as a drawing of both beside each other that is not rendered.

    Equal nodes stand at equal places. Lines of both are grey; those of `old` alone are dashed, orange, and carry a
    minus before the operation's name; those of `new` alone are thick, blue, and carry a plus. Nodes and concatenations
    that only one of them has are marked alike. Genotypes that are equal, as architectures, give a grey drawing that
    says so. `captions` names the two. layout, width: as in `draw`.
    """
    operations: Counter[str] = Counter()
    concatenations: Counter[str] = Counter()
    rows = []
    for (name, old_cell, old_concat), (_, new_cell, new_concat) in zip(old.cells, new.cells, strict=True):
        lines, ends = compare(old_cell, old_concat, new_cell, new_concat)
        operations.update(line.mark for line in lines)
        concatenations.update(line.mark for line in ends)
        sides = (("old", "removed", old_cell, new_cell), ("new", "added", new_cell, old_cell))
        row = []
        for (side, mark, cell, other), caption in zip(sides, captions, strict=True):
            own = [line for line in (*lines, *ends) if line.mark in ("kept", mark)]
            row.append(_marked(f"{side}_{name}", f"{caption}: {TITLES[name]}", len(cell), len(other), mark, own))
        rows.append(row)
    return sheet_of("difference", rows, layout, width, _legend(captions, operations, concatenations, old == new))


def _marked(name: str, title: str, nodes: int, others: int, mark: str, lines: "list[Line]") -> Sketch:
    """A cell of so many nodes beside one of `others`; `mark`: of what it alone has."""
    boxes = []
    for number in range(nodes):
        sign, line = MARKS["kept" if number < others else mark]
        look = {**line, "style": f"filled,rounded,{line['style']}", "fontcolor": line["color"]}
        boxes.append(_node(name, number, f"{sign}{number}", **(look if number >= others else {})))
    arrows = []
    slots: Counter[int] = Counter()
    for line_mark, node, operation, origin in sorted(
        lines, key=lambda line: (line.node is None, line.node, line.origin)
    ):
        head = INPUTS + (nodes if node is None else node)
        sign, line = MARKS[line_mark]
        if operation is None and line_mark == "kept":
            arrows.append(Arrow(origin, head, "", "", CONCATENATION))
            continue
        text = f"{sign}{label(operation) if operation else 'concat'}"
        box = f"{name}_{'output' if node is None else head}_{slots[head]}"
        arrows.append(Arrow(origin, head, box, text, line, MARK_WEIGHTS[line_mark]))
        slots[head] += 1
    return Sketch(name, title, _inputs(name), boxes, _output(name), arrows)


def _legend(
    captions: tuple[str, str], operations: Counter[str], concatenations: Counter[str], equal: bool
) -> list[tuple[str, str]]:
    """The lines below a difference, with their colours."""
    old, new = captions
    if equal:
        return [(f"{old} and {new} are the same architecture: nothing changed", GREY)]
    texts = {"removed": f"only in {old}, dashed", "added": f"only in {new}, thick", "kept": "in both, grey"}
    rows = []
    for mark, text in texts.items():
        sign, line = MARKS[mark]
        counted = _plural(operations[mark], "operation")
        if mark != "kept" and concatenations[mark]:
            counted += f", {_plural(concatenations[mark], 'concatenation')}"
        rows.append((f"{sign}{text}: {counted}", line["color"]))
    return rows


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
