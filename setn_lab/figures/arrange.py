"""Where the lines of a cell run: smooth curves that carry their texts, past all boxes and other texts.

Graphviz lays out by levels and bends a line where it meets its text. Here the boxes stand in the order of the states,
and each line is one cubic curve, chosen among many by what it would hit. Lengths are in points, y grows downwards.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLES = 33  # points of a curve at which it is compared with what stands in its way
PLACES = np.linspace(0.26, 0.8, 10)  # where on its curve a text may stand, from 0 (tail) to 1 (head)
NEAR = 6.0  # distance below which lines run along each other
CLEAR = 1.5  # distance that lines keep from boxes and texts
BENDS = 15  # curves on either side that are tried
ROUNDS = 3  # how often each line is chosen anew, with all others in place
HIT, CROSSING, CLOSE, HIDDEN = 400.0, 9.0, 1.5, 60.0  # what it costs to touch a box or a text, and so on
ARROW = 4.2  # length of an arrow's head
LEAST_TAIL, LEAST_HEAD = 5.0, ARROW + 5.0  # what is to be seen of a line before its text and behind it
PARTS = 4  # so that no control point is outside of a sheet, which Graphviz would make wider
BEST = 8  # curves whose crossings are counted: the others touch more, or are longer

Points = NDArray[np.float64]


class Box(NamedTuple):
    """A rectangle by its centre and size."""

    x: float
    y: float
    width: float
    height: float


class Line(NamedTuple):
    """A line between two boxes, by their places, and the size of its text; none has the size 0."""

    tail: int
    head: int
    width: float = 0.0
    height: float = 0.0


@dataclass(frozen=True)
class Route:
    """A line that has found its way. curve: the four control points (4, 2) from centre to centre; text: its box."""

    curve: Points
    text: Box | None


def routes(boxes: list[Box], lines: list[Line], along: tuple[float, float], room: Box) -> tuple[list[Route], int]:
    """A curve for each line, and how many boxes and texts are touched all the same.

    along: the direction from the first states to the last. room: what no curve and no text may leave.
    """
    spans = [abs(np.dot(np.subtract(boxes[head][:2], boxes[tail][:2]), along)) for tail, head, *_ in lines]
    first = sorted(range(len(lines)), key=lambda place: (lines[place].width == 0, spans[place]))
    options = {place: _options(boxes, lines[place], along, room) for place in first}
    tried = []
    for order in (first, first[::-1]):
        found = _settle(boxes, lines, order, options)
        hits = sum(choice.hits for choice in found.values())
        tried.append((hits, [found[place].route for place in range(len(lines))]))
        if not hits:
            break
    hits, best = min(tried, key=lambda one: one[0])
    return best, hits


def _settle(
    boxes: list[Box], lines: list[Line], order: list[int], options: dict[int, "_Options"]
) -> dict[int, "_Choice"]:
    """A choice for each line, one after the other and then again until none changes."""
    found: dict[int, _Choice] = {}
    for _ in range(ROUNDS):
        before = {place: choice.key for place, choice in found.items()}
        for place in order:
            found.pop(place, None)
            found[place] = _choose(boxes, lines, options[place], found)
        if before == {place: choice.key for place, choice in found.items()}:
            break
    return found


@dataclass(frozen=True)
class _Choice:
    route: Route
    points: Points  # (SAMPLES, 2)
    key: tuple[int, int]
    hits: int


@dataclass(frozen=True)
class _Options:
    """The curves that a line may take, and what they cost whatever the other lines do.

    control (n, 4, 2); points (n, SAMPLES, 2); cost, hits (n,). Of a text on them, at each of PLACES: centres
    (n, places, 2), its cost and its hits (n, places).
    """

    line: Line
    control: Points
    points: Points
    cost: Points
    hits: NDArray[np.int64]
    centres: Points
    text_cost: Points
    text_hits: NDArray[np.int64]


def _options(boxes: list[Box], line: Line, along: tuple[float, float], room: Box) -> _Options:
    control = _curves(boxes, line, along, room)
    points, centres = _points(control, np.linspace(0, 1, SAMPLES)), _points(control, PLACES)
    standing = [box for number, box in enumerate(boxes) if number not in (line.tail, line.head)]
    hits = _inside(points, standing, CLEAR).any(-2).sum(-1) + ~_inside(points, [room], 0.0).all((-2, -1))
    length = np.linalg.norm(np.diff(points, axis=-2), axis=-1).sum(-1)
    size = np.array([line.width, line.height])
    middles, halves = _centres_and_halves(boxes, CLEAR)
    text_hits = _within(centres[..., None, :], middles, halves + size / 2).sum(-1)
    text_hits += ~_within(centres, np.array(room[:2]), np.array(room[2:]) / 2 - size / 2)
    hidden = _hidden(points, centres, line, [boxes[line.tail], boxes[line.head]])
    text_cost = HIT * text_hits + HIDDEN * hidden + 6 * np.abs(PLACES - 0.5)
    cost = 0.12 * length + HIT * hits
    return _Options(line, control, points, cost, hits, centres, text_cost, text_hits + (hidden > 0))


def _curves(boxes: list[Box], line: Line, along: tuple[float, float], room: Box) -> Points:
    """The control points (n, 4, 2) of curves that bend ever more to either side."""
    tail, head = (np.array(boxes[place][:2]) for place in (line.tail, line.head))
    forward = np.array(along)
    across = forward[::-1]
    reach = float(np.dot((room.width, room.height), across)) / 2 / 0.75
    count = min(int(reach / 3), BENDS)
    offsets = np.linspace(-reach, reach, 2 * count + 1)[:, None] * across
    ahead = 0.3 * forward * np.dot(head - tail, forward)
    start, end = (np.broadcast_to(place, offsets.shape) for place in (tail, head))
    return np.stack([start, start + ahead + offsets, end - ahead + offsets, end], axis=1)


def _points(control: Points, t: Points) -> Points:
    """Points (..., len(t), 2) of cubic curves (..., 4, 2)."""
    weights = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=-1)
    return weights @ control


def _choose(boxes: list[Box], lines: list[Line], options: _Options, others: dict[int, _Choice]) -> _Choice:
    """The cheapest curve of a line, and the place of its text, with the others where they are."""
    line, points = options.line, options.points
    texts = [choice.route.text for choice in others.values() if choice.route.text is not None]
    touched = _inside(points, texts, CLEAR).any(-2).sum(-1)  # (n,)
    cost, hits = options.cost + HIT * touched, options.hits + touched
    where = np.zeros(len(cost), dtype=int)
    if line.width:
        covered = _covered(options, texts, [choice.points for choice in others.values()])
        of_text = options.text_cost + HIT * covered
        where = of_text.argmin(-1)
        cost, hits = (
            values + np.take_along_axis(own, where[:, None], -1)[:, 0]
            for values, own in ((cost, of_text), (hits, options.text_hits + covered))
        )
    few = cost.argsort(kind="stable")[:BEST]
    near = points[few]
    for number, other in others.items():
        shared = [boxes[box] for box in {line.tail, line.head} & {lines[number].tail, lines[number].head}]
        cost[few] += CROSSING * _crossings(near, other.points, shared) + CLOSE * _close(near, other.points, shared)
    best = int(few[cost[few].argmin()])
    x, y = options.centres[best, where[best]].tolist()
    text = Box(x, y, line.width, line.height) if line.width else None
    return _Choice(Route(options.control[best], text), points[best], (best, int(where[best])), int(hits[best]))


def _covered(options: _Options, texts: list[Box], curves: list[Points]) -> NDArray[np.int64]:
    """How many texts and curves the line's own text would touch: (n, places)."""
    size = np.array([options.line.width, options.line.height])
    middles, halves = _centres_and_halves(texts, CLEAR)
    hits = _within(options.centres[..., None, :], middles, halves + size / 2).sum(-1)
    if curves:
        hits += _within(options.centres[:, :, None, None], np.stack(curves), size / 2 + CLEAR).any(-1).sum(-1)
    return hits


def _inside(points: Points, boxes: list[Box], margin: float) -> NDArray[np.bool_]:
    """Whether points (..., 2) lie in boxes: (..., len(boxes))."""
    return _within(points[..., None, :], *_centres_and_halves(boxes, margin))


def _within(points: Points, centres: Points, halves: Points) -> NDArray[np.bool_]:
    """Whether points (..., 2) lie in rectangles by their centres and half sizes; for speed axis by axis."""
    inside = np.abs(points[..., 0] - centres[..., 0]) < halves[..., 0]
    return inside & (np.abs(points[..., 1] - centres[..., 1]) < halves[..., 1])


def _centres_and_halves(boxes: list[Box], margin: float) -> tuple[Points, Points]:
    array = np.array(boxes, dtype=float).reshape(-1, 4)
    return array[:, :2], array[:, 2:] / 2 + margin


def _crossings(points: Points, other: Points, shared: list[Box]) -> NDArray[np.float64]:
    """How often curves (n, samples, 2) cross another one, but in the boxes that they share."""
    points, other = points[:, ::3], other[::3]
    a, b = points[:, :-1, None], points[:, 1:, None]
    c, d = other[:-1], other[1:]

    def side(p: Points, q: Points, r: Points) -> Points:
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0])

    cross = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    outside = ~np.any(_inside(points[:, :-1], shared, 2.0), axis=-1, keepdims=True)
    cross &= outside
    return cross.sum((-2, -1)).astype(float)


def _close(points: Points, other: Points, shared: list[Box]) -> NDArray[np.float64]:
    """How many points of curves (n, samples, 2) run along another one, but near the boxes that they share."""
    points, other = points[:, ::2], other[::4]
    apart = points[:, :, None] - other
    distance = (apart[..., 0] ** 2 + apart[..., 1] ** 2).min(-1)
    return ((distance < NEAR**2) & ~_inside(points, shared, 7.0).any(-1)).sum(-1).astype(float)


def _hidden(points: Points, centres: Points, line: Line, ends: list[Box]) -> Points:
    """Whether a text leaves too little to be seen of its line, at either end: (n, places)."""
    size = np.array([line.width, line.height])
    free = ~np.any(_inside(points[:, None], ends, 0.0), axis=-1)  # (n, 1, samples)
    free = free & ~_within(points[:, None], centres[..., None, :], size / 2)
    steps = np.linalg.norm(np.diff(points, axis=-2, append=points[:, -1:]), axis=-1)[:, None]
    before = np.linspace(0, 1, SAMPLES) < PLACES[:, None]
    return sum(((free & part) * steps).sum(-1) < least for part, least in ((before, LEAST_TAIL), (~before, LEAST_HEAD)))


def pieces(route: Route, tail: Box, head: Box) -> list[Points]:
    """The visible parts of a line as control points of curves in a row: up to its text and from there on, or all."""
    t = np.linspace(0, 1, 401)
    points = _points(route.curve, t)
    seen = ~_inside(points, [tail, head, *([] if route.text is None else [route.text])], 0.0).any(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(int)))
    runs = [(t[start], t[end - 1]) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    wanted = 1 if route.text is None else 2
    runs = sorted(sorted(runs, key=lambda run: run[0] - run[1])[:wanted])
    return [_parts(route.curve, *run) for run in runs]


def _parts(curve: Points, start: float, end: float) -> Points:
    """A part of a curve as PARTS cubic ones in a row (3 PARTS + 1, 2), whose control points lie close to it."""
    bounds = np.linspace(start, end, PARTS + 1)
    parts = [_part(curve, *pair) for pair in pairwise(bounds.tolist())]
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])


def _part(curve: Points, start: float, end: float) -> Points:
    """The part of a cubic curve between two of its parameters, by de Casteljau's splits."""

    def split(control: Points, t: float) -> tuple[Points, Points]:
        levels = [control]
        while len(levels[-1]) > 1:
            levels.append((1 - t) * levels[-1][:-1] + t * levels[-1][1:])
        return np.array([level[0] for level in levels]), np.array([level[-1] for level in levels[::-1]])

    left, _ = split(curve, end)
    return split(left, start / end)[1] if start else left


def bounds(boxes: list[Box], found: list[Route]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of all boxes, curves and texts."""
    every = [*boxes, *(route.text for route in found if route.text is not None)]
    corners = [
        (box.x + sx * box.width / 2, box.y + sy * box.height / 2) for box in every for sx in (-1, 1) for sy in (-1, 1)
    ]
    points = np.concatenate([np.array(corners), *(_points(route.curve, np.linspace(0, 1, SAMPLES)) for route in found)])
    return (*points.min(0).tolist(), *points.max(0).tolist())
