"""The look of all drawings, and how one is rendered.

`render` works with the `dot` binary or, where there is none, with the Graphviz that pygraphviz's wheels carry; `show`
raises for want of neither: a notebook always runs.

A PDF carries the fonts that it uses. An SVG has its texts as texts, which a browser sets in a font of its own, or as
outlines, which look the same everywhere: Graphviz embeds no font in an SVG.
"""

import html
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import graphviz

from setn_lab.extras import needs
from setn_lab.figures.looks import look

FORMATS = ("svg", "pdf", "png")
# What a comparison says of a line: its sign, and how it and the box it leads to are drawn.
MARKS = {
    "kept": ("", {"color": "#757575", "penwidth": "0.7", "style": "solid"}),
    "removed": ("− ", {"color": "#B84300", "penwidth": "1.1", "style": "dashed"}),
    "added": ("+ ", {"color": "#0072B2", "penwidth": "2.2", "style": "solid"}),
}
MARK_WEIGHTS = {"kept": "", "removed": "i", "added": "b"}  # of their texts

FONTS = "Helvetica,Arial,Liberation Sans,Nimbus Sans,DejaVu Sans"  # the first that is there; all but the last are alike
MARGIN = 4.0  # points
PNG_DPI = "300"  # Graphviz's own 96 dots an inch are too coarse for print
ENLARGED = 1.5  # how much larger than in print a drawing is shown on a screen
WIDEST = 720.0  # points that a drawing takes in a notebook at most: what is wider than its cell would be cut off


class RenderError(RuntimeError):
    """Nothing that can lay out a graph is installed; the message says what to install."""


def sheet(name: str) -> graphviz.Digraph:
    """An empty drawing with what all figures share: white ground, margins, rounded boxes, one typeface."""
    graph = graphviz.Digraph(name)
    graph.attr(bgcolor="white", fontname=FONTS, pad="0.15", margin="0", nodesep="0.3", ranksep="0.45")
    graph.attr("node", fontname=FONTS, shape="box", style="filled,rounded", color="#404040")
    graph.attr("edge", arrowsize="0.7", fontname=FONTS)
    return graph


def fixed_sheet(name: str) -> graphviz.Digraph:
    """The same for a drawing whose every position is given in points, which Graphviz takes as it is."""
    graph = graphviz.Digraph(name, engine=FIXED)
    graph.attr(bgcolor="white", fontname=FONTS, pad="0", margin="0", splines="true")
    graph.attr("node", fontname=FONTS, shape="box", style="filled,rounded", color="#404040", fontsize="7", margin="0")
    graph.attr("node", penwidth="0.7")
    graph.attr("edge", arrowsize="0.5")
    return graph


FIXED = "neato"  # the layout program that can leave positions alone


def operation_line(operation: str, mark: str | None = None) -> tuple[dict[str, str], str]:
    """How the line of an operation is drawn, and the weight of its name, see `plain`.

    mark: beside another drawing, "kept" for a line that both have, grey, and "added" for one that it lacks, thick.
    """
    own = look(operation)
    line = {"color": own.colour, "penwidth": f"{own.width:g}", "style": own.style}
    if mark is None:
        return line, ""
    return line | (MARKS[mark][1] if mark == "kept" else {"penwidth": MARKS[mark][1]["penwidth"]}), MARK_WEIGHTS[mark]


def plain(text: str, weight: str = "") -> str:
    """A text as a label of Graphviz, in which nothing has a meaning; weight "b" is bold, "i" slanted."""
    if not weight:
        return graphviz.escape(text)
    return f"<<{weight.upper()}>{html.escape(text)}</{weight.upper()}>>"


def render(digraph: graphviz.Digraph, format: str = "svg", outlined: bool = False) -> bytes:
    """The picture as the bytes of an SVG, PDF or PNG file.

    outlined: an SVG's texts as outlines. Raises ValueError for another format and RenderError when neither `dot` nor
    pygraphviz is installed.
    """
    if format not in FORMATS:
        raise ValueError(f"format: {format!r} given; allowed are {', '.join(FORMATS)}")
    if format == "png":
        digraph = digraph.copy()
        digraph.attr(dpi=PNG_DPI)
    renderer = "cairo" if outlined and format == "svg" else None
    given = 2 if digraph.engine == FIXED else None  # positions of boxes and lines
    try:
        picture = digraph.pipe(format=format, renderer=renderer, neato_no_op=given, quiet=True)
    except graphviz.ExecutableNotFound:
        whole = format if renderer is None else f"{format}:{renderer}"
        picture = _render_in_process(digraph.source, whole, "dot" if given is None else "nop2")
    # cairo counts a process's pictures in this name; the same drawing is the same file
    return picture if renderer is None else re.sub(rb'id="surface\d+"', b'id="surface"', picture)


def _render_in_process(source: str, format: str, program: str) -> bytes:
    try:
        import pygraphviz
    except ImportError as error:
        raise RenderError(
            "no Graphviz was found. Install its `dot` program (`conda install graphviz` or `apt-get install "
            "graphviz`), or a wheel that carries it (`pip install 'pygraphviz>=2'`, which is in "
            "'setn_lab[notebooks]'). Until then `digraph.source` holds the DOT text, which any Graphviz viewer draws."
        ) from error
    with _quiet(), pygraphviz.AGraph(string=source) as graph:
        return graph.draw(format=format, prog=program)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what C libraries write of themselves, such as Fontconfig of the system's configuration.

    The program `dot` is called as quietly; what matters raises.
    """
    try:
        kept = os.dup(2)
    except OSError:  # a process without stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def on_screen(digraph: graphviz.Digraph) -> str:
    """The drawing as SVG for a screen, whose texts can be marked and copied: a fixed one larger than in print."""
    picture = render(digraph).decode()
    sizes = dict(re.findall(r'(width|height)="([\d.]+)pt"', picture[: picture.index("viewBox")]))
    scale = min(ENLARGED if digraph.engine == FIXED else 1.0, WIDEST / float(sizes["width"]))
    for name, size in sizes.items():
        picture = picture.replace(f'{name}="{size}pt"', f'{name}="{scale * float(size):.0f}pt"', 1)
    return picture


def show(digraph: graphviz.Digraph) -> Any:
    """What a notebook displays: an IPython SVG of the picture, else Markdown with a hint and the DOT text."""
    with needs("notebooks", "a drawing in a notebook"):
        from IPython.display import SVG, Markdown
    try:
        return SVG(data=on_screen(digraph))
    except RenderError as error:
        return Markdown(f"The cell is not drawn: {error}\n\n```dot\n{digraph.source}```\n")
