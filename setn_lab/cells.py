"""Pictures of cells: a Genotype becomes a graphviz.Digraph in the style of the paper's Figure 3.

`draw` only writes down the graph. `render` lays it out with the `dot` binary or, where there is none, with
the Graphviz that pygraphviz's wheels carry; `show` raises for want of neither: a notebook always runs.
"""

from typing import Any

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
PNG_DPI = "200"  # Graphviz's own 96 dots an inch are too coarse to read on a screen
NOTEBOOK_SIZE = "10,20"  # inches at most; graphviz scales down to it


class RenderError(RuntimeError):
    """Nothing that can lay out a graph is installed; the message says what to install."""


def label(operation: str) -> str:
    """An operation's name to read: "sep conv 5x5" for sep_conv_5x5; "1x3 & 3x1 conv", as in Section 3."""
    dense = {"conv_3x1_1x3": "1x3 & 3x1 conv", "conv_7x1_1x7": "1x7 & 7x1 conv"}
    return dense.get(operation) or operation.replace("_connect", "").replace("_", " ")


def family(operation: str) -> str:
    """The family of an operation, a key of FAMILIES, which gives its colour."""
    kinds = {"skip": "skip", "sep": "separable", "dil": "dilated", "conv": "dense", "none": "none"}
    return kinds.get(operation.split("_")[0], "pooling")


def draw(genotype: Genotype, caption: str | None = None) -> graphviz.Digraph:
    """The normal and the reduction cell, top-down and side by side, as one Digraph that is not rendered.

    c_{k-2} and c_{k-1} are states 0 and 1; node i (0 .. B-1) is state i + 2 and sums its two incoming edges,
    each of which is one (operation, state) pair and carries the operation's name. Grey edges lead to c_k, the
    concatenation; a node that is not concatenated has none. `caption` stands below both cells.
    """
    graph = graphviz.Digraph("genotype")
    graph.attr(bgcolor="white", fontname="Helvetica", pad="0.15", margin="0", nodesep="0.2", ranksep="0.45")
    graph.attr(remincross="false")  # a second pass over all clusters would swap c_{k-2} and c_{k-1} in some cells
    graph.attr("node", fontname="Helvetica", shape="box", style="filled,rounded", color="#404040")
    graph.attr("edge", arrowsize="0.7")
    if caption is not None:
        graph.attr(label=graphviz.escape(caption), labelloc="b")
    for name, cell, concat in genotype.cells:
        with graph.subgraph(name=f"cluster_{name}") as cluster:
            cluster.attr(label=TITLES[name], labelloc="t", pencolor="none", margin="12", fontsize="16")
            _draw_cell(cluster, name, cell, concat)
    return graph


def _draw_cell(graph: graphviz.Digraph, name: str, cell: Cell, concat: tuple[int, ...]) -> None:
    boxes = [f"{name}_{state}" for state in range(INPUTS + len(cell))]
    with graph.subgraph(name=f"{name}_inputs") as top:
        top.attr(rank="same")
        for box, index in zip(boxes[:INPUTS], ("k-2", "k-1"), strict=True):
            top.node(box, f"<<I>c</I><SUB>{index}</SUB>>", fillcolor="#D9EAD3")
        top.edge(boxes[0], boxes[1], style="invis")  # keeps c_{k-2} on the left
    for number, node in enumerate(cell):
        box = boxes[INPUTS + number]
        graph.node(box, str(number), fillcolor="#DCE9F5", width="0.5", height="0.4")
        for slot, (operation, origin) in enumerate(node):
            _draw_edge(graph, boxes[origin], box, slot, operation)
    output = f"{name}_output"
    graph.node(output, "<<I>c</I><SUB>k</SUB>>", fillcolor="#FFF2CC")
    for state in sorted(concat):
        graph.edge(boxes[state], output, color="#A0A0A0", arrowsize="0.5")


def _draw_edge(graph: graphviz.Digraph, tail: str, head: str, slot: int, operation: str) -> None:
    """One (operation, state) pair, the `slot`-th of its node: a line from `tail` to `head` through its name.

    Graphviz would write an edge's label beside it, where it could belong to a neighbour as well. Here the
    name interrupts its own line: a box of bare text, through which no other line runs.
    """
    kind = family(operation)
    colour = FAMILIES[kind]
    line = {"color": colour, "penwidth": "1.6", "style": "dashed" if kind in ("skip", "none") else "solid"}
    bare = {"shape": "plaintext", "style": "", "width": "0", "height": "0", "margin": "0.05,0.01"}
    text = f"{head}_{slot}"
    graph.node(text, label(operation), fontsize="12", fontcolor=colour, **bare)
    graph.edge(tail, text, arrowhead="none", **line)
    graph.edge(text, head, **line)


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
