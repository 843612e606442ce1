"""The look of all drawings, and how one is rendered.

`render` lays out a graph with the `dot` binary or, where there is none, with the Graphviz that pygraphviz's wheels
carry; `show` raises for want of neither: a notebook always runs.
"""

from typing import Any

import graphviz

from setn_lab.extras import needs
from setn_lab.figures.looks import look

FORMATS = ("svg", "pdf", "png")
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


def sheet(name: str) -> graphviz.Digraph:
    """An empty drawing with what all figures share: white ground, margins, rounded boxes, one typeface."""
    graph = graphviz.Digraph(name)
    graph.attr(bgcolor="white", fontname="Helvetica", pad="0.15", margin="0", nodesep="0.3", ranksep="0.45")
    graph.attr(remincross="false")  # a second pass over all clusters would swap c_{k-2} and c_{k-1} in some cells
    graph.attr("node", fontname="Helvetica", shape="box", style="filled,rounded", color="#404040")
    graph.attr("edge", arrowsize="0.7")
    return graph


def operation_line(operation: str, mark: str | None = None) -> tuple[dict[str, str], str]:
    """How the line of an operation is drawn, and in which font its name is written.

    mark: beside another drawing, "kept" for a line that both have, grey, and "added" for one that it lacks, thick.
    """
    own = look(operation)
    line = {"color": own.colour, "penwidth": "1.6", "style": "dashed" if own.dashed else "solid"}
    if mark is None:
        return line, "Helvetica"
    return line | (MARKS[mark][1] if mark == "kept" else {"penwidth": MARKS[mark][1]["penwidth"]}), MARK_FONTS[mark]


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
            "graphviz`), or a wheel that carries it (`pip install 'pygraphviz>=2'`, which is in "
            "'setn_lab[notebooks]'). Until then `digraph.source` holds the DOT text, which any Graphviz viewer draws."
        ) from error
    with pygraphviz.AGraph(string=source) as graph:
        return graph.draw(format=format, prog="dot")


def show(digraph: graphviz.Digraph) -> Any:
    """What a notebook displays: an IPython SVG of the picture, else Markdown with a hint and the DOT text."""
    with needs("notebooks", "a drawing in a notebook"):
        from IPython.display import SVG, Markdown
    fitted = digraph.copy()
    fitted.attr(size=NOTEBOOK_SIZE)  # JupyterLab would cut off what is wider than its cell
    try:
        return SVG(data=render(fitted, "svg").decode())
    except RenderError as error:
        return Markdown(f"The cell is not drawn: {error}\n\n```dot\n{digraph.source}```\n")
