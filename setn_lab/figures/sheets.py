"""Drawings of cells on a sheet of a given width in inches, whose texts have the sizes that they will have in print.

A `Sketch` says what a cell consists of; `sheet_of` places several of them and writes a Digraph in which every position
is fixed. Its curves are `arrange`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import graphviz
import matplotlib
from matplotlib.ft2font import FT2Font

from setn_lab.figures.arrange import ARROW, Box, Line, Points, Route, bounds, pieces, routes
from setn_lab.figures.style import FONTS, MARGIN, fixed_sheet, plain

Layout = Literal["LR", "TB"]
COLUMN, PAGE = 3.3, 5.5  # inches: one column of a paper, and its page
TEXT, SYMBOL, TITLE = 7.0, 9.0, 8.0  # points
SUBSCRIPT = 8.0  # which Graphviz draws at 5/6 of that: nothing is below 6 points
NODE = 13.0  # least side of a box
LEAST = {"LR": 230.0, "TB": 160.0}  # points that a cell needs across the page, to stand beside another one
GROWN = 1.3  # how much more room a cell gets where something is hit
TRIES = 6


class Node(NamedTuple):
    """A box of a cell. text: Graphviz's label; shown: what is seen of it, to be measured."""

    name: str
    text: str
    shown: str
    look: Mapping[str, str]


class Arrow(NamedTuple):
    """A line from one box to another, by their places. name: of the box of its text, which may be empty."""

    tail: int
    head: int
    name: str
    text: str
    line: Mapping[str, str]
    weight: str = ""  # "b" for a bold text, "i" for a slanted one


@dataclass(frozen=True)
class Sketch:
    """A cell to be drawn: its inputs stand beside each other, then its nodes in order, and the output at the end."""

    name: str
    title: str
    inputs: Sequence[Node]
    nodes: Sequence[Node]
    output: Node
    arrows: Sequence[Arrow]

    @property
    def boxes(self) -> list[Node]:
        """All boxes, in the order that arrows count."""
        return [*self.inputs, *self.nodes, self.output]


class _Placed(NamedTuple):
    boxes: list[Box]
    routes: list[Route]
    top: float
    height: float


def sheet_of(
    name: str, rows: Sequence[Sequence[Sketch]], layout: Layout, width: float, below: Sequence[tuple[str, str]] = ()
) -> graphviz.Digraph:
    """A Digraph of cells, which is not rendered: a row of the sheet for each of `rows`, or more where they do not fit.

    layout: LR from left to right, or TB from the top down. width: of the sheet in inches. below: lines of text with
    their colours, which follow the cells. Raises ValueError for another layout and a width of less than 2 inches.
    """
    if layout not in LEAST:
        raise ValueError(f"layout: {layout!r} given; allowed are {', '.join(LEAST)}")
    if not width >= 2:
        raise ValueError(f"width: {width} given; at least 2 inches are allowed")
    points = 72 * width
    graph = fixed_sheet(name)
    y = 0.0
    for row in rows:
        across = max(1, min(len(row), int(points / LEAST[layout])))
        for start in range(0, len(row), across):
            part = row[start : start + across]
            placed = [_place(_shape(sketch), layout, points / across) for sketch in part]
            height = max(one.height for one in placed)
            for number, (sketch, own) in enumerate(zip(part, placed, strict=True)):
                left = number * points / across
                frame = left, y, left + points / across, y + height + TITLE + 8
                _write(graph, sketch, own, frame, (left, y + TITLE + 8 - own.top))
            y += height + TITLE + 8
    lines = [piece for text, colour in below for piece in _wrapped(text, colour, points)]
    for number, (text, colour) in enumerate(lines):
        y += TEXT + 4
        graph.node(f"below_{number}", plain(text), pos=_at(points / 2, y - TEXT / 2), fontcolor=colour, **_bare(TEXT))
    return graph


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Points that a text takes in DejaVu Sans, which is wider than Helvetica and the fonts that replace it."""
    return _advance(text, bold) * size / 100


@lru_cache(maxsize=1024)
def _advance(text: str, bold: bool) -> float:
    font = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' * bold}.ttf"))
    font.set_size(100, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64


class _Shape(NamedTuple):
    """What of a sketch decides on its placement."""

    inputs: int
    boxes: tuple[tuple[float, float], ...]
    lines: tuple[Line, ...]


def _shape(sketch: Sketch) -> _Shape:
    sizes = tuple((max(NODE, text_width(box.shown, TEXT) + 5), NODE) for box in sketch.boxes)
    lines = tuple(
        Line(arrow.tail, arrow.head, text_width(arrow.text, TEXT, arrow.weight == "b") + 2, TEXT + 1)
        if arrow.text
        else Line(arrow.tail, arrow.head)
        for arrow in sketch.arrows
    )
    return _Shape(len(sketch.inputs), sizes, lines)


@lru_cache(maxsize=256)
def _place(shape: _Shape, layout: Layout, width: float) -> _Placed:
    """Boxes and curves of a cell in a strip of that width; it gets higher until nothing is hit."""
    tried = []
    for number in range(TRIES):
        boxes, along, limits = _line_up(shape, layout, width, GROWN**number)
        found, hits = routes(boxes, list(shape.lines), along, limits)
        tried.append((hits, number, boxes, found))
        if not hits:
            break
    _, _, boxes, found = min(tried, key=lambda one: one[:2])
    _, top, _, bottom = bounds(boxes, found)
    return _Placed(boxes, found, top - 3, bottom - top + 6)


def _line_up(shape: _Shape, layout: Layout, width: float, room: float) -> tuple[list[Box], tuple[float, float], Box]:
    """Where the boxes stand, the direction from inputs to output, and what no curve may leave."""
    inputs, sizes = shape.boxes[: shape.inputs], shape.boxes[shape.inputs :]
    if layout == "LR":
        start = MARGIN + max(size[0] for size in inputs) / 2
        step = (width - MARGIN - sizes[-1][0] / 2 - start) / len(sizes)
        apart = 34.0
        boxes = [Box(start, apart * (i - (len(inputs) - 1) / 2), *size) for i, size in enumerate(inputs)]
        boxes += [Box(start + step * number, 0.0, *size) for number, size in enumerate(sizes, 1)]
        return boxes, (1.0, 0.0), Box(width / 2, 0.0, width - 2, 100.0 * room)
    step, apart = 34.0 * room, min(0.36 * width, 64.0)
    boxes = [Box(width / 2 + apart * (i - (len(inputs) - 1) / 2), 0.0, *size) for i, size in enumerate(inputs)]
    boxes += [Box(width / 2, step * number, *size) for number, size in enumerate(sizes, 1)]
    return boxes, (0.0, 1.0), Box(width / 2, step * len(sizes) / 2, width - 2, step * (len(sizes) + 1))


def _write(
    graph: graphviz.Digraph,
    sketch: Sketch,
    placed: _Placed,
    frame: tuple[float, float, float, float],
    origin: tuple[float, float],
) -> None:
    """Add a cell as a cluster; frame: its left, top, right and bottom on the sheet, origin: where its (0, 0) is."""
    left, top, right, bottom = frame
    with graph.subgraph(name=f"cluster_{sketch.name}") as cluster:
        cluster.attr(label=sketch.title, fontsize=f"{TITLE:g}", pencolor="none", fontname=FONTS)
        cluster.attr(
            bb=f"{left:.2f},{-bottom:.2f},{right:.2f},{-top:.2f}", lp=_at((left + right) / 2, top + TITLE / 2 + 2)
        )
        x, y = origin
        for node, box in zip(sketch.boxes, placed.boxes, strict=True):
            size = {"width": f"{box.width / 72:.4f}", "height": f"{box.height / 72:.4f}", "fixedsize": "true"}
            cluster.node(node.name, node.text, pos=_at(x + box.x, y + box.y), **size, **node.look)
        for arrow, route in zip(sketch.arrows, placed.routes, strict=True):
            ends = sketch.boxes[arrow.tail].name, sketch.boxes[arrow.head].name
            parts = pieces(route, placed.boxes[arrow.tail], placed.boxes[arrow.head])
            if route.text is None:
                cluster.edge(*ends, pos=_tipped(parts[-1] + (x, y)), **arrow.line)
                continue
            text = plain(arrow.text, arrow.weight)
            bare = _bare(TEXT) | {"fontcolor": arrow.line["color"]}
            cluster.node(arrow.name, text, pos=_at(x + route.text.x, y + route.text.y), **bare)
            cluster.edge(ends[0], arrow.name, pos=_spline(parts[0] + (x, y)), arrowhead="none", **arrow.line)
            cluster.edge(arrow.name, ends[1], pos=_tipped(parts[-1] + (x, y)), **arrow.line)


def _bare(size: float) -> dict[str, str]:
    """A box of text alone."""
    return {"shape": "plaintext", "style": "", "width": "0", "height": "0", "margin": "0", "fontsize": f"{size:g}"}


def _wrapped(text: str, colour: str, width: float) -> list[tuple[str, str]]:
    """The text in lines that fit."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, TEXT) > width - 2 * MARGIN:
            lines.append(word)
        else:
            lines[-1] = longer
    return [(line, colour) for line in lines]


def _at(x: float, y: float) -> str:
    return f"{x:.2f},{-y:.2f}"  # Graphviz counts upwards


def _spline(control: Points) -> str:
    return " ".join(_at(*point) for point in control.tolist())


def _tipped(control: Points) -> str:
    """A curve whose end is the tip of an arrow's head."""
    tip = control[-1]
    back = tip - control[-2]
    length = float((back @ back) ** 0.5) or 1.0
    shortened = control.copy()
    shortened[-1] = tip - back / length * ARROW
    shortened[-2] -= back / length * ARROW / 2
    return f"e,{_at(*tip.tolist())} {_spline(shortened)}"
