"""Pictures of cells: a Genotype becomes a graphviz.Digraph in the style of the paper's Figure 3.

`draw` and `difference` only write down the graph; `style.render` lays it out.
"""

import html
from collections import Counter
from typing import Any, NamedTuple

import graphviz

from setn_lab.figures.looks import TITLES
from setn_lab.figures.style import MARK_FONTS, MARKS, draw_line, operation_line, sheet
from setn_lab.space.genotype import INPUTS, Cell, Genotype
from setn_lab.space.names import label


def draw(genotype: Genotype, caption: str | None = None, beside: Genotype | None = None) -> graphviz.Digraph:
    """The normal and the reduction cell, top-down and side by side, as one Digraph that is not rendered.

    c_{k-2} and c_{k-1} are states 0 and 1; node i (0 .. B-1) is state i + 2 and sums its two incoming edges,
    each of which is one (operation, state) pair and carries the operation's name. Grey edges lead to c_k, the
    concatenation; a node that is not concatenated has none. `caption` stands below both cells. For a drawing that
    stands beside another one's, lines that `beside` has too are grey, and those that it lacks thick.
    """
    graph = sheet("genotype")
    if caption is not None:
        graph.attr(label=graphviz.escape(caption), labelloc="b")
    others = [None, None] if beside is None else [(cell, concat) for _, cell, concat in beside.cells]
    for (name, cell, concat), other in zip(genotype.cells, others, strict=True):
        common: Counter[Line] = Counter()
        if other is not None:
            common.update(line for line in compare(*other, cell, concat)[0] if line.mark == "kept")
        with _cell_cluster(graph, name) as cluster:
            _draw_cell(cluster, name, cell, concat, None if other is None else common)
    return graph


def _cell_cluster(graph: graphviz.Digraph, name: str) -> Any:
    """A context manager: the part of the drawing that is the normal or the reduction cell."""
    attributes = {"label": TITLES[name], "labelloc": "t", "pencolor": "none", "margin": "12", "fontsize": "16"}
    return graph.subgraph(name=f"cluster_{name}", graph_attr=attributes)


def _draw_cell(
    graph: graphviz.Digraph, name: str, cell: Cell, concat: tuple[int, ...], common: "Counter[Line] | None"
) -> None:
    """`common`: the lines that are to be grey, while all others are thick; None where no line is."""
    boxes = _draw_inputs(graph, name)
    for number, node in enumerate(cell):
        boxes.append(_draw_node(graph, name, number, str(number)))
        for slot, (operation, origin) in enumerate(node):
            mark = None
            if common is not None:
                shared = Line("kept", number, operation, origin)
                mark = "kept" if common[shared] > 0 else "added"
                common[shared] -= 1
            line, font = operation_line(operation, mark)
            draw_line(graph, boxes[origin], boxes[-1], slot, label(operation), line, font)
    output = _draw_output(graph, name)
    for state in sorted(concat):
        graph.edge(boxes[state], output, color="#A0A0A0", arrowsize="0.5")


def _draw_inputs(graph: graphviz.Digraph, name: str) -> list[str]:
    boxes = [f"{name}_{state}" for state in range(INPUTS)]
    with graph.subgraph(name=f"{name}_inputs") as top:
        top.attr(rank="same")
        for box, index in zip(boxes, ("k-2", "k-1"), strict=True):
            top.node(box, f"<<I>c</I><SUB>{index}</SUB>>", fillcolor="#D9EAD3")
        top.edge(boxes[0], boxes[1], style="invis")  # keeps c_{k-2} on the left
    return boxes


def _draw_node(graph: graphviz.Digraph, name: str, number: int, text: str, **look: str) -> str:
    box = f"{name}_{INPUTS + number}"
    graph.node(box, text, **{"fillcolor": "#DCE9F5", "width": "0.5", "height": "0.4"} | look)
    return box


def _draw_output(graph: graphviz.Digraph, name: str) -> str:
    output = f"{name}_output"
    graph.node(output, "<<I>c</I><SUB>k</SUB>>", fillcolor="#FFF2CC")
    return output


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


def difference(old: Genotype, new: Genotype, captions: tuple[str, str] = ("old", "new")) -> graphviz.Digraph:
    """What changed from `old` to `new`, as one merged drawing of both that is not rendered.

    Lines of both are grey; those of `old` alone are dashed, orange, and carry a minus before the operation's name;
    those of `new` alone are thick, blue, and carry a plus. Nodes and concatenations that only one of them has are
    marked alike. Merged and not side by side, since Graphviz would lay out two drawings differently, and the eye
    would have to find each node twice: here what replaced what meets at one node. Genotypes that are equal, as
    architectures, give a grey drawing that says so. `captions` names the two below the drawing.
    """
    graph = sheet("difference")
    operations: Counter[str] = Counter()
    concatenations: Counter[str] = Counter()
    for (name, old_cell, old_concat), (_, new_cell, new_concat) in zip(old.cells, new.cells, strict=True):
        lines, ends = compare(old_cell, old_concat, new_cell, new_concat)
        operations.update(line.mark for line in lines)
        concatenations.update(line.mark for line in ends)
        with _cell_cluster(graph, name) as cluster:
            _draw_difference(cluster, name, (len(old_cell), len(new_cell)), lines, ends)
    graph.attr(label=_legend(captions, operations, concatenations, old == new), labelloc="b")
    return graph


def _draw_difference(
    graph: graphviz.Digraph, name: str, nodes: tuple[int, int], lines: list[Line], ends: list[Line]
) -> None:
    boxes = _draw_inputs(graph, name)
    for number in range(max(nodes)):
        mark = "kept" if number < min(nodes) else "removed" if number < nodes[0] else "added"
        sign, line = MARKS[mark]
        look = (
            {} if mark == "kept" else {**line, "style": f"filled,rounded,{line['style']}", "fontcolor": line["color"]}
        )
        boxes.append(_draw_node(graph, name, number, f"{sign}{number}", **look))
    output = _draw_output(graph, name)
    slots: Counter[str] = Counter()
    for mark, node, operation, origin in [*sorted(lines, key=lambda line: (line.node, line.origin)), *ends]:
        head = output if node is None else boxes[INPUTS + node]
        sign, line = MARKS[mark]
        if operation is None and mark == "kept":
            graph.edge(boxes[origin], head, color="#A0A0A0", arrowsize="0.5")
            continue
        text = f"{sign}{label(operation) if operation else 'concat'}"
        draw_line(graph, boxes[origin], head, slots[head], text, line, MARK_FONTS[mark])
        slots[head] += 1


def _legend(captions: tuple[str, str], operations: Counter[str], concatenations: Counter[str], equal: bool) -> str:
    """The rows below a diff, as one of Graphviz's HTML labels."""
    old, new = (html.escape(name) for name in captions)
    if equal:
        return f"<{old} and {new} are the same architecture: nothing changed>"
    texts = {"removed": f"only in {old}, dashed", "added": f"only in {new}, thick", "kept": "in both, grey"}
    rows = []
    for mark, text in texts.items():
        sign, line = MARKS[mark]
        counted = _plural(operations[mark], "operation")
        if mark != "kept" and concatenations[mark]:
            counted += f", {_plural(concatenations[mark], 'concatenation')}"
        rows.append(f'<TR><TD ALIGN="LEFT"><FONT COLOR="{line["color"]}">{sign}{text}: {counted}</FONT></TD></TR>')
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="2">{"".join(rows)}</TABLE>>'


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
