"""Pictures of cells: a Genotype becomes a graphviz.Digraph in the style of the paper's Figure 3.

`draw` and `difference` only write down the graph. `render` lays it out with the `dot` binary or, where there is
none, with the Graphviz that pygraphviz's wheels carry; `show` raises for want of neither: a notebook always runs.
"""

import html
from collections import Counter
from typing import Any, NamedTuple

import graphviz

from setn_lab.genotype import INPUTS, Cell, Genotype

FORMATS = ("svg", "pdf", "png")
TITLES = {"normal": "normal cell", "reduce": "reduction cell"}
# Colours after Okabe and Ito, which colour-blind readers can tell apart, darkened where text would be pale.
FAMILIES = {
    "pooling": "#D55E00",
    "skip": "#595959",
    "separable": "#0072B2",
    "dilated": "#00805E",
    "dense": "#A8478A",
    "none": "#8C8C8C",
}
# What a diff says of a line: its sign, and how it and the box it leads to are drawn.
MARKS = {
    "kept": ("", {"color": "#757575", "penwidth": "1.1"}),
    "removed": ("− ", {"color": "#B84300", "penwidth": "1.6", "style": "dashed"}),
    "added": ("+ ", {"color": "#0072B2", "penwidth": "2.8", "style": "solid"}),
}
MARK_FONTS = {"kept": "Helvetica", "removed": "Helvetica-Oblique", "added": "Helvetica-Bold"}
PNG_DPI = "200"  # Graphviz's own 96 dots an inch are too coarse to read on a screen
NOTEBOOK_SIZE = "10,20"  # inches at most; graphviz scales down to it


class RenderError(RuntimeError):
    """Nothing that can lay out a graph is installed; the message says what to install."""


def label(operation: str) -> str:
    """An operation's name to read: "sep conv 5x5" for sep_conv_5x5; "1x3 & 3x1 conv", as in Section 3."""
    dense = {"conv_3x1_1x3": "1x3 & 3x1 conv", "conv_7x1_1x7": "1x7 & 7x1 conv"}
    dense |= {f"nor_conv_{size}": f"conv {size}" for size in ("1x1", "3x3")}
    return dense.get(operation) or operation.replace("_connect", "").replace("_", " ")


def family(operation: str) -> str:
    """The family of an operation, a key of FAMILIES, which gives its colour."""
    kinds = {"skip": "skip", "sep": "separable", "dil": "dilated", "none": "none"} | dict.fromkeys(
        ("conv", "nor"), "dense"
    )
    return kinds.get(operation.split("_")[0], "pooling")


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


def caption(name: str, parameters: int, multiply_adds: int, channels: int, repeats: int) -> str:
    """A line for below a figure: "SETN: 4.6 M parameters, 597 M multiply-adds (C = 36, N = 6)"."""
    sizes = f"{_count(parameters)} parameters, {_count(multiply_adds)} multiply-adds"
    return f"{name}: {sizes} (C = {channels}, N = {repeats})"


def _count(number: int) -> str:
    """A number as papers print it: 4.6 M, 597 M, 34.2 k."""
    for unit, sign in ((1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * unit:  # 999,700 is 1.0 M, not 1000 k
            return f"{number / unit:.1f}{sign}" if number < 99.95 * unit else f"{number / unit:.0f}{sign}"
    return str(number)


def sheet(name: str) -> graphviz.Digraph:
    """An empty drawing with what all figures share: white ground, margins, rounded boxes, one typeface."""
    graph = graphviz.Digraph(name)
    graph.attr(bgcolor="white", fontname="Helvetica", pad="0.15", margin="0", nodesep="0.3", ranksep="0.45")
    graph.attr(remincross="false")  # a second pass over all clusters would swap c_{k-2} and c_{k-1} in some cells
    graph.attr("node", fontname="Helvetica", shape="box", style="filled,rounded", color="#404040")
    graph.attr("edge", arrowsize="0.7")
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
            kind = family(operation)
            style = "dashed" if kind in ("skip", "none") else "solid"
            line, font = {"color": FAMILIES[kind], "penwidth": "1.6", "style": style}, "Helvetica"
            if common is not None:
                shared = Line("kept", number, operation, origin)
                mark = "kept" if common[shared] > 0 else "added"
                common[shared] -= 1
                line |= MARKS["kept"][1] if mark == "kept" else {"penwidth": MARKS["added"][1]["penwidth"]}
                font = MARK_FONTS[mark]
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


def draw_line(
    graph: graphviz.Digraph, tail: str, head: str, slot: int, text: str, line: dict[str, str], font: str = "Helvetica"
) -> None:
    """The `slot`-th line that enters `head`, through its text.

    Graphviz would write an edge's label beside it, where it could belong to a neighbour as well. Here the
    text interrupts its own line: a box of bare text, through which no other line runs.
    """
    bare = {"shape": "plaintext", "style": "", "width": "0", "height": "0", "margin": "0.05,0.01"}
    box = f"{head}_{slot}"
    graph.node(box, text, fontsize="12", fontcolor=line["color"], fontname=font, **bare)
    graph.edge(tail, box, arrowhead="none", **line)
    graph.edge(box, head, **line)


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


def render(digraph: graphviz.Digraph, format: str = "svg") -> bytes:
    """The picture as the bytes of an SVG, PDF or PNG file.

    Raises ValueError for another format and RenderError when neither `dot` nor pygraphviz is installed.
    """
    if format not in FORMATS:
        raise ValueError(f"format: {format!r} given; allowed are {', '.join(FORMATS)}")
    if format == "png":
        digraph = digraph.copy()
        digraph.attr(dpi=PNG_DPI)
    try:
        return digraph.pipe(format=format, quiet=True)
    except graphviz.ExecutableNotFound:
        return _render_in_process(digraph.source, format)


def _render_in_process(source: str, format: str) -> bytes:
    try:
        import pygraphviz
    except ImportError as error:
        raise RenderError(
            "no Graphviz was found. Install its `dot` program (`conda install graphviz` or `apt-get install "
            "graphviz`), or a wheel that carries it (`pip install 'pygraphviz>=2'`). Until then "
            "`digraph.source` holds the DOT text, which any Graphviz viewer draws."
        ) from error
    with pygraphviz.AGraph(string=source) as graph:
        return graph.draw(format=format, prog="dot")


def show(digraph: graphviz.Digraph) -> Any:
    """What a notebook displays: an IPython SVG of the picture, else Markdown with a hint and the DOT text."""
    from IPython.display import SVG, Markdown

    fitted = digraph.copy()
    fitted.attr(size=NOTEBOOK_SIZE)  # JupyterLab would cut off what is wider than its cell
    try:
        return SVG(data=render(fitted, "svg").decode())
    except RenderError as error:
        return Markdown(f"The cell is not drawn: {error}\n\n```dot\n{digraph.source}```\n")
