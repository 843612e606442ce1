"""Pictures of cells: what is in the graph and in the rendered file, and what happens where no Graphviz is."""

import html
import itertools
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import graphviz
import numpy as np
import pytest
import torch

from setn_lab.figures.cells import difference, draw
from setn_lab.figures.genotype import caption
from setn_lab.figures.looks import FAMILIES, look
from setn_lab.figures.network import draw_network
from setn_lab.figures.style import FORMATS, MARKS, RenderError, render, show
from setn_lab.network import discrete, macro
from setn_lab.space.genotype import OPERATIONS, Genotype
from setn_lab.space.names import label
from setn_lab.space.zoo import ZOO

READABLE = {  # written out by hand: what a reader sees
    "max_pool_3x3": ("max pool 3x3", "pooling"),
    "avg_pool_3x3": ("avg pool 3x3", "pooling"),
    "skip_connect": ("skip", "skip"),
    "sep_conv_3x3": ("sep conv 3x3", "separable"),
    "sep_conv_5x5": ("sep conv 5x5", "separable"),
    "conv_3x1_1x3": ("1x3 & 3x1 conv", "dense"),
    "dil_conv_3x3": ("dil conv 3x3", "dilated"),
    "dil_conv_5x5": ("dil conv 5x5", "dilated"),
    "sep_conv_7x7": ("sep conv 7x7", "separable"),
    "conv_7x1_1x7": ("1x7 & 7x1 conv", "dense"),
    "none": ("none", "none"),
}
SIGNATURES = {"svg": b"<?xml", "pdf": b"%PDF-", "png": b"\x89PNG\r\n\x1a\n"}
NODES = ((("skip_connect", 0), ("sep_conv_3x3", 1)), (("max_pool_3x3", 1), ("max_pool_3x3", 1)))


def random_genotype(seed, nodes=5):
    """A genotype of `nodes` nodes that concatenates three of them, over every operation there is."""
    rng = random.Random(seed)
    cells = [
        tuple(tuple((rng.choice(OPERATIONS), rng.randrange(node + 2)) for _ in range(2)) for node in range(nodes))
        for _ in range(2)
    ]
    concats = [tuple(rng.sample(range(2, 2 + nodes), 3)) for _ in range(2)]
    return Genotype(cells[0], concats[0], cells[1], concats[1])


DRAWN = "SETN", "GDAS", "DARTS_V1", "DARTS_V2"
EXAMPLES = {name: ZOO[name].genotype for name in DRAWN} | {f"random {seed}": random_genotype(seed) for seed in range(4)}


def graph_of(source):
    """(labels of the boxes, edges, attributes of the edges) of a DOT text, as Graphviz itself reads it."""
    pygraphviz = pytest.importorskip("pygraphviz")
    with pygraphviz.AGraph(string=source) as graph:
        boxes = {str(node): html.unescape(re.sub("</?[BI]>", "", node.attr["label"])) for node in graph.nodes()}
        edges = [
            (str(tail), str(head), dict(graph.get_edge(tail, head, key).attr))
            for tail, head, key in graph.edges(keys=True)
        ]
    return boxes, edges


def texts(svg):
    """Every piece of text of an SVG."""
    return [
        element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text") and element.text
    ]


def without_dot(monkeypatch):
    def raises(*arguments, **options):
        raise graphviz.ExecutableNotFound(["dot"])

    monkeypatch.setattr(graphviz.Digraph, "pipe", raises)


def without_any_graphviz(monkeypatch):
    without_dot(monkeypatch)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)  # makes the import fail


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_has_a_readable_name_and_a_colour(operation):
    readable, family = READABLE[operation]
    assert (label(operation), look(operation).colour) == (readable, FAMILIES[family])


def test_families_have_different_colours():
    assert len(set(FAMILIES.values())) == len(FAMILIES)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in FAMILIES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_graph_is_the_genotype(name):
    genotype = EXAMPLES[name]
    boxes, edges = graph_of(draw(genotype).source)
    visible = edges
    for cell_name, cell, concat in genotype.cells:
        prefix = f"{cell_name}_"
        mine = {box: text for box, text in boxes.items() if box.startswith(prefix)}
        assert len(mine) == 2 + len(cell) + 2 * len(cell) + 1  # inputs, nodes, names of operations, output
        assert "k-2" in mine[prefix + "0"]
        assert "k-1" in mine[prefix + "1"]
        assert [mine[f"{prefix}{number + 2}"] for number in range(len(cell))] == list(map(str, range(len(cell))))
        found = {number: [] for number in range(len(cell))}
        outgoing = {tail: (head, attributes) for tail, head, attributes in visible if tail.count("_") == 2}
        for tail, head, attributes in visible:
            if head.startswith(prefix) and head in outgoing:  # from a state to an operation's name
                target, second = outgoing[head]
                state, node = int(tail.removeprefix(prefix)), int(target.removeprefix(prefix)) - 2
                found[node].append((mine[head], state))
                assert attributes["color"] == second["color"] == FAMILIES[dict(READABLE.values())[mine[head]]]
                assert attributes["arrowhead"] == "none"
        assert [sorted(found[number]) for number in range(len(cell))] == [
            sorted((READABLE[operation][0], state) for operation, state in node) for node in cell
        ]
        into_output = [tail for tail, head, _ in visible if head == prefix + "output"]
        assert sorted(into_output) == sorted(f"{prefix}{state}" for state in concat)
    expected = sum(4 * len(cell) + len(concat) for _, cell, concat in genotype.cells)
    assert len(visible) == expected


def test_draw_is_a_pure_trace(monkeypatch):
    without_any_graphviz(monkeypatch)
    one = draw(ZOO["SETN"].genotype)
    assert isinstance(one, graphviz.Digraph)
    assert one.source == draw(ZOO["SETN"].genotype).source
    assert one.source.count("subgraph cluster_") == 2
    assert 'label="normal cell"' in one.source
    assert 'label="reduction cell"' in one.source


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_svg_holds_every_operation(name):
    genotype = EXAMPLES[name]
    below = 'A <b>caption</b> & "quotes" \\N'
    written = Counter(text.replace("\xa0", " ").strip() for text in texts(render(draw(genotype, below), "svg")))
    expected = Counter(
        READABLE[operation][0] for _, cell, _ in genotype.cells for node in cell for operation, _ in node
    )
    assert {text: written[text] for text, _ in READABLE.values()} == {
        text: expected[text] for text, _ in READABLE.values()
    }
    assert written[below] == 1
    assert written["normal cell"] == written["reduction cell"] == 1
    assert written["k-2"] == written["k-1"] == written["k"] == 2


def check_boxes(digraph):
    """Boxes neither overlap nor leave the picture; returns (x, y, width, height) of each, as Graphviz lays them out."""
    pygraphviz = pytest.importorskip("pygraphviz")
    program = "nop2" if digraph.engine == "neato" else "dot"
    with pygraphviz.AGraph(string=digraph.source) as graph:
        lines = [line.split() for line in graph.draw(format="plain", prog=program).decode().splitlines()]
    (width, height) = next((float(w), float(h)) for kind, _, w, h in lines if kind == "graph")
    boxes = {line[1]: [float(number) for number in line[2:6]] for line in lines if line[0] == "node"}
    rest = dict(boxes)
    for box, (x, y, w, h) in boxes.items():
        del rest[box]
        assert w / 2 - 1e-3 <= x <= width - w / 2 + 1e-3
        assert h / 2 - 1e-3 <= y <= height - h / 2 + 1e-3
        for other, (x2, y2, w2, h2) in rest.items():
            assert abs(x - x2) >= (w + w2) / 2 or abs(y - y2) >= (h + h2) / 2, (box, other)
    return boxes


@pytest.mark.parametrize("name", EXAMPLES)
def test_boxes_neither_overlap_nor_leave_the_picture(name):
    boxes = check_boxes(draw(EXAMPLES[name], name))
    for cell in ("normal", "reduce"):
        above, below = boxes[f"{cell}_0"], boxes[f"{cell}_1"]
        assert above[0] == below[0]
        assert above[1] > below[1]  # c_{k-2} is above
        row = [boxes[f"{cell}_{state}"][0] for state in range(2, 2 + len(EXAMPLES[name].normal))]
        assert [above[0], *row, boxes[f"{cell}_output"][0]] == sorted([above[0], *row, boxes[f"{cell}_output"][0]])
    assert min(y for box, (_, y, *_) in boxes.items() if box.startswith("normal")) > max(
        y for box, (_, y, *_) in boxes.items() if box.startswith("reduce")
    )


# As a figure of a paper

PAGES = [(layout, width) for layout in ("LR", "TB") for width in (3.3, 5.5)]
PUBLISHED = ZOO["SETN"].genotype


def pages(layout, width):
    """All drawings of SETN's cells, and their difference from GDAS', on such a sheet."""
    alone = [draw(PUBLISHED, layout=layout, width=width, only=cell) for cell in ("normal", "reduce")]
    changed = difference(ZOO["GDAS"].genotype, PUBLISHED, ("GDAS", "SETN"), layout, width)
    return [draw(PUBLISHED, "A caption", layout=layout, width=width), *alone, changed]


@pytest.mark.parametrize(("layout", "width"), PAGES)
def test_a_drawing_is_as_wide_as_asked_for_and_its_least_text_has_six_points(layout, width):
    for drawing in pages(layout, width):
        svg = ElementTree.fromstring(render(drawing))
        assert float(svg.get("width").removesuffix("pt")) == pytest.approx(72 * width, abs=1)
        assert svg.get("viewBox").split()[2] == f"{float(svg.get('width').removesuffix('pt')):.2f}"  # nothing is scaled
        sizes = [float(one.get("font-size")) for one in svg.iter() if one.tag.endswith("}text")]
        assert min(sizes) >= 6
        pdf = read_pdf(render(drawing, "pdf"))
        assert min(pdf.sizes) >= 6 - 1e-3
        assert len(pdf.sizes) > 8
        assert pdf.fonts == pdf.embedded > 0
        assert pdf.width == pytest.approx(72 * width, abs=1)


class Pdf(NamedTuple):
    """sizes: of texts in points. fonts: how many there are, and how many of them the file carries."""

    sizes: list[float]
    fonts: int
    embedded: int
    width: float


def read_pdf(content):
    streams = [
        zlib.decompress(part)
        for part in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.S)
        if part[:1] == b"x"
    ]
    drawn = next(stream for stream in streams if b" Tf" in stream)
    sizes = [float(size) for size in re.findall(rb"([\d.]+) 0 -?[\d.]+ -[\d.]+ -?[\d.]+ -?[\d.]+ Tm", drawn)]
    everything = content + b"".join(streams)
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", everything)
    fonts = len(re.findall(rb"/Type */FontDescriptor", everything))
    return Pdf(sizes, fonts, len(re.findall(rb"/FontFile[23]?", everything)), float(box[1]))


def box_of(element):
    """Left, right, top and bottom of a text of an SVG, of the letters of Helvetica themselves."""
    size, left, base = (float(element.get(name)) for name in ("font-size", "x", "y"))
    width = 0.5 * size * len(element.text)
    if element.get("text-anchor") == "middle":
        left -= width / 2
    return left, left + width, base - 0.65 * size, base


@pytest.mark.parametrize(("layout", "width"), PAGES)
def test_no_line_runs_through_the_name_of_another(layout, width):
    drawings = pages(layout, width)
    if (layout, width) == ("LR", 3.3):
        drawings.pop()  # from left to right, a column is too narrow for the bold names of a difference
    for drawing in drawings:
        svg = ElementTree.fromstring(render(drawing))
        names = [one for one in svg.iter() if one.tag.endswith("}text") and re.search("conv|pool|skip", one.text or "")]
        curves = [one.get("d") for one in svg.iter() if one.tag.endswith("}path") and one.get("fill") == "none"]
        assert len(names) >= 8
        for name in names:
            left, right, top, bottom = box_of(name)
            for curve in curves:
                points = curve_points(curve)
                inside = (points[:, 0] > left) & (points[:, 0] < right) & (points[:, 1] > top) & (points[:, 1] < bottom)
                assert not inside.any(), (name.text, layout, width)


def curve_points(path):
    """Points of an SVG's cubic curves."""
    numbers = np.array(re.findall(r"-?[\d.]+", path), dtype=float).reshape(-1, 2)
    t = np.linspace(0, 1, 60)[:, None]
    parts = [numbers[start : start + 4] for start in range(0, len(numbers) - 3, 3)]
    return np.concatenate(
        [(1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d for a, b, c, d in parts]
    )


@pytest.mark.parametrize("layout", ["LR", "TB"])
def test_a_line_goes_through_its_name_without_an_elbow(layout):
    """Both halves lie on one cubic curve, so at the name they have the directions of neighbouring points."""
    _, edges = graph_of(draw(PUBLISHED, layout=layout, width=5.5).source)
    first = {head: attributes["pos"] for tail, head, attributes in edges if head.count("_") == 2}
    second = {tail: attributes["pos"] for tail, head, attributes in edges if tail.count("_") == 2}
    assert len(first) == 16
    for name, before in first.items():
        start = np.array([part.split(",") for part in before.split()], dtype=float)
        end = np.array([part.split(",") for part in second[name].split()[1:]], dtype=float)
        arriving, leaving, between = start[-1] - start[-2], end[1] - end[0], end[0] - start[-1]
        for one, other in ((arriving, between), (between, leaving)):
            cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
            assert cosine > 0.6, name  # a bow that its name covers, and no more


def test_filters_of_different_sizes_are_told_apart_without_colour():
    widths = {operation: (look(operation).style, look(operation).width) for operation in OPERATIONS}
    for small, large in (
        ("sep_conv_3x3", "sep_conv_5x5"),
        ("dil_conv_3x3", "dil_conv_5x5"),
        ("sep_conv_5x5", "sep_conv_7x7"),
    ):
        assert widths[large][1] >= 1.4 * widths[small][1]
    _, edges = graph_of(draw(PUBLISHED).source)
    boxes, _ = graph_of(draw(PUBLISHED).source)
    for tail, head, attributes in edges:
        for end in (tail, head):
            if end.count("_") == 2:
                name = next(one for one in OPERATIONS if label(one) == boxes[end])
                assert float(attributes["penwidth"]) == widths[name][1]


def test_an_svg_for_files_has_outlines_in_place_of_texts():
    content = render(draw(PUBLISHED, width=3.3), "svg", outlined=True)
    svg = ElementTree.fromstring(content)
    assert not texts(content)
    assert "font-family" not in content.decode()
    assert float(svg.get("width").removesuffix("pt")) == pytest.approx(72 * 3.3, abs=1)
    assert sum(one.tag.endswith("}use") for one in svg.iter()) > 100  # a glyph each


def test_a_sheet_that_cannot_be_is_refused_by_name():
    with pytest.raises(ValueError, match=r"layout: 'RL'.*LR, TB"):
        draw(PUBLISHED, layout="RL")
    with pytest.raises(ValueError, match=r"width: 1 .*at least 2"):
        draw(PUBLISHED, width=1)
    with pytest.raises(ValueError, match=r"only: 'end'.*normal, reduce"):
        draw(PUBLISHED, only="end")


def test_drawing_writes_nothing_of_fontconfigs(tmp_path):
    pytest.importorskip("pygraphviz")
    (tmp_path / "fonts.conf").write_text("<fontconfig><nonsense/></fontconfig>", encoding="utf-8")
    code = (
        "from setn_lab.figures.style import sheet, render\n"
        "graph = sheet('a'); graph.node('b'); print(len(render(graph, 'png')))"
    )
    surroundings = {**os.environ, "FONTCONFIG_FILE": str(tmp_path / "fonts.conf"), "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=surroundings)
    assert int(done.stdout) > 100
    assert done.stderr == ""


@pytest.mark.parametrize("format", FORMATS)
def test_formats_with_and_without_dot(format, monkeypatch):
    digraph = draw(ZOO["SETN"].genotype)
    before = digraph.source
    assert render(digraph, format).startswith(SIGNATURES[format])
    without_dot(monkeypatch)
    assert render(digraph, format).startswith(SIGNATURES[format])
    assert digraph.source == before  # a PNG's resolution is not left behind


def test_dot_is_used_where_there_is_one(monkeypatch):
    calls = []
    monkeypatch.setattr(graphviz.Digraph, "pipe", lambda self, **options: calls.append(options) or b"from dot")
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    assert render(draw(ZOO["SETN"].genotype), "pdf") == b"from dot"
    assert [options["format"] for options in calls] == ["pdf"]


def test_a_dot_that_is_not_on_the_path_is_not_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert texts(render(draw(ZOO["SETN"].genotype)))


def test_without_any_graphviz_the_error_says_what_to_install(monkeypatch):
    without_any_graphviz(monkeypatch)
    with pytest.raises(RenderError, match=r"(?s)conda install graphviz.*pip install 'pygraphviz>=2'.*digraph\.source"):
        render(draw(ZOO["SETN"].genotype))


def test_another_format_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'bmp'.*svg, pdf, png"):
        render(draw(ZOO["SETN"].genotype), "bmp")


def test_show_is_a_picture_or_the_text(monkeypatch):
    digraph = draw(ZOO["GDAS"].genotype)
    assert texts(show(digraph)._repr_svg_().encode())
    without_any_graphviz(monkeypatch)
    text = show(digraph)._repr_markdown_()
    assert digraph.source in text
    assert "pip install 'pygraphviz>=2'" in text


def test_two_equal_edges_are_drawn_twice():
    one = Genotype(NODES, (3,), NODES, (2, 3))
    written = Counter(texts(render(draw(one))))
    assert written["max pool 3x3"] == 4
    boxes, edges = graph_of(draw(one).source)
    assert len([1 for tail, head, _ in edges if head == "normal_output"]) == 1
    assert len(boxes) == 2 * (2 + 2 + 4 + 1)


def test_a_notebook_shows_it_no_wider_than_a_cell():
    wide = draw(ZOO["SETN"].genotype)
    for drawing in (wide, draw_network(ZOO["SETN"].genotype, 36, 6), draw(ZOO["SETN"].genotype, width=12)):
        alone, shown = (
            float(ElementTree.fromstring(svg).get("width").removesuffix("pt"))
            for svg in (render(drawing), show(drawing)._repr_svg_())
        )
        assert shown <= 720  # points: ten inches
        assert shown > alone or drawing is not wide  # print is small on a screen


# Differences

SIGNS = {"− ": "removed", "+ ": "added"}
LOOKS = {"kept": "solid", "removed": "dashed", "added": "bold"}  # told apart without any colour


def changed(genotype, seed):
    """The genotype with one operation, one origin or one concatenation of it changed."""
    rng = random.Random(seed)
    fields = {"normal": [list(node) for node in genotype.normal], "reduce": [list(node) for node in genotype.reduce]}
    cell = fields[rng.choice(["normal", "reduce"])]
    number, slot = rng.randrange(len(cell)), rng.randrange(2)
    operation, origin = cell[number][slot]
    cell[number][slot] = (
        (rng.choice([other for other in OPERATIONS if other != operation]), origin)
        if seed % 2
        else (operation, rng.choice([state for state in range(number + 2) if state != origin]))
    )
    concat = genotype.normal_concat if seed % 3 else genotype.normal_concat[:-1]
    return Genotype(fields["normal"], concat, fields["reduce"], genotype.reduce_concat)


def turned(genotype):
    """The same architecture with the pairs and the concatenation written the other way round."""
    cells = [tuple(node[::-1] for node in cell) for cell in (genotype.normal, genotype.reduce)]
    return Genotype(cells[0], genotype.normal_concat[::-1], cells[1], genotype.reduce_concat[::-1])


PAIRS = (
    {f"{a} and {b}": (EXAMPLES[a], EXAMPLES[b]) for a, b in itertools.permutations(DRAWN, 2)}
    | {f"random {seed}": (random_genotype(seed), changed(random_genotype(seed), seed)) for seed in range(6)}
    | {"five and three nodes": (random_genotype(7), random_genotype(8, 3))}
    | {"two and four nodes": (Genotype(NODES, (3,), NODES, (2, 3)), ZOO["SETN"].genotype)}
    | {"twice and once": (Genotype(NODES, (3,), NODES, (3,)), Genotype((NODES[0], NODES[0]), (3,), NODES, (2,)))}
    | {"concatenation alone": (Genotype(NODES, (3,), NODES, (2, 3)), Genotype(NODES, (3,), NODES, (3,)))}
    | {"equal": (turned(random_genotype(9)), random_genotype(9))}
)


def slow_difference(old, new):
    """(mark, readable operation, origin) of each node and of the concatenation, by crossing out one by one."""
    result = {}
    for (name, old_cell, old_concat), (_, new_cell, new_concat) in zip(old.cells, new.cells, strict=True):
        for number in range(max(len(old_cell), len(new_cell))):
            left = list(new_cell[number]) if number < len(new_cell) else []
            found = []
            for operation, origin in old_cell[number] if number < len(old_cell) else ():
                kept = (operation, origin) in left
                if kept:
                    left.remove((operation, origin))
                found.append(("kept" if kept else "removed", READABLE[operation][0], origin))
            found += [("added", READABLE[operation][0], origin) for operation, origin in left]
            result[f"{name}_{number + 2}"] = sorted(found)
        result[f"{name}_output"] = sorted(
            ("kept" if state in old_concat and state in new_concat else mark, "concat", state)
            for mark, mine in (("removed", old_concat), ("added", new_concat))
            for state in mine
            if mark == "removed" or state not in old_concat
        )
    return result


def drawn_as(attributes):
    """How a line or a box is told from the others in black and white: "solid", "dashed" or "bold"."""
    if "dashed" in (attributes.get("style") or ""):
        return "dashed"
    return "bold" if float(attributes.get("penwidth") or 1) > 2 else "solid"


def read_difference(source):
    """What `slow_difference` returns, read from the drawing; every mark must be told by sign, line and colour alike."""
    boxes, edges = graph_of(source)
    onward = {tail: (head, attributes) for tail, head, attributes in edges if tail.count("_") == 3}
    found = {
        side: {box.partition("_")[2]: [] for box in boxes if re.fullmatch(rf"{side}_[a-z]+_([2-9]|output)", box)}
        for side in ("old", "new")
    }
    for tail, head, attributes in edges:
        if tail in onward:
            continue
        text, target = "concat", head
        if head in onward:
            text, (target, second) = boxes[head], onward[head]
            assert (drawn_as(attributes), attributes["color"]) == (drawn_as(second), second["color"])
        mark = SIGNS.get(text[:2], "kept")
        assert drawn_as(attributes) == LOOKS[mark]
        assert attributes["color"] in ({MARKS[mark][1]["color"]} if text != "concat" else {"#A0A0A0"})
        side, cell, place = target.split("_")
        assert mark == "kept" or side == {"removed": "old", "added": "new"}[mark]
        line = (mark, text.removeprefix("− ").removeprefix("+ "), int(tail.split("_")[2]))
        found[side][f"{cell}_{place}"].append(line)
    kept = {
        side: {box: sorted(one for one in lines if one[0] == "kept") for box, lines in own.items()}
        for side, own in found.items()
    }
    for box in kept["old"].keys() & kept["new"].keys():  # both sides show what both have
        assert kept["old"][box] == kept["new"][box]
    boxes_of_both = found["old"].keys() | found["new"].keys()
    return {
        box: sorted(found["new"].get(box, []) + [one for one in found["old"].get(box, []) if one[0] != "kept"])
        for box in boxes_of_both
    }


@pytest.mark.parametrize("name", PAIRS)
def test_a_difference_marks_what_differs_and_nothing_else(name):
    old, new = PAIRS[name]
    drawing = difference(old, new, ("old & <1>", "new"))
    expected = slow_difference(old, new)
    assert read_difference(drawing.source) == expected
    marks = [mark for lines in expected.values() for mark, _, _ in lines]
    assert (set(marks) == {"kept"}) == (old == new)

    written = Counter(text.replace("\xa0", " ").strip() for text in texts(render(drawing)))
    for target, lines in expected.items():
        for mark, operation, _ in lines:
            sign = {"kept": "", "removed": "− ", "added": "+ "}[mark]
            assert written[f"{sign}{operation}"] or (operation == "concat" and mark == "kept"), target
    signed = sum(count for text, count in written.items() if text[:2] in SIGNS and "only in" not in text)
    extra = sum(abs(len(a[1]) - len(b[1])) for a, b in zip(old.cells, new.cells, strict=True))
    assert signed == len([mark for mark in marks if mark != "kept"]) + extra  # signs stand on nodes as well


@pytest.mark.parametrize("name", PAIRS)
def test_a_difference_counts_what_it_marks(name):
    old, new = PAIRS[name]
    counts = Counter()
    for target, lines in slow_difference(old, new).items():
        for mark, _, _ in lines:
            counts[mark, target.endswith("output")] += 1
    written = [text for text in texts(render(difference(old, new, ("A", "B")))) if re.search("only in|same", text)]
    if old == new:
        assert written == ["A and B are the same architecture: nothing changed"]
        return
    for line, start, mark in zip(written, ("− only in A", "+ only in B"), ("removed", "added"), strict=True):
        assert line.startswith(start)
        numbers = [int(number) for number in re.findall(r"\d+", line)]
        assert numbers == [counts[mark, False], *([counts[mark, True]] if counts[mark, True] else [])]


def test_nodes_that_only_one_has_are_marked():
    three, five = random_genotype(1, 3), random_genotype(2, 5)
    pygraphviz = pytest.importorskip("pygraphviz")
    for old, new, side, sign, style in ((three, five, "new", "+ ", "bold"), (five, three, "old", "− ", "dashed")):
        with pygraphviz.AGraph(string=difference(old, new, width=9).source) as graph:
            for cell in ("normal", "reduce"):
                boxes = [graph.get_node(f"{side}_{cell}_{state}") for state in range(2, 7)]
                assert [box.attr["label"] for box in boxes] == ["0", "1", "2", f"{sign}3", f"{sign}4"]
                assert [drawn_as(box.attr) for box in boxes] == ["solid"] * 3 + [style] * 2
                other = {"new": "old", "old": "new"}[side]
                assert not graph.has_node(f"{other}_{cell}_5")
                assert graph.get_node(f"{other}_{cell}_4").attr["label"] == "2"


def test_marks_are_colours_that_the_colour_blind_tell_apart():
    warmth = []
    for _, line in MARKS.values():
        red, blue = (int(line["color"][i : i + 2], 16) for i in (1, 5))
        warmth.append(red - blue)  # who cannot tell red from green still tells blue from yellow
    assert min(abs(a - b) for a, b in itertools.combinations(warmth, 2)) > 80


@pytest.mark.parametrize("name", PAIRS)
def test_boxes_of_a_difference_neither_overlap_nor_leave_the_picture(name):
    check_boxes(difference(*PAIRS[name], ("one", "another")))


# The whole network


def box_texts(source):
    boxes, _ = graph_of(source)
    return {name: re.sub("<[^>]*>", " ", text).split() for name, text in boxes.items()}


def told_by_the_network(kind, genotype, channels, repeats, image_size):
    """(number of stems, shapes of stems and cells, auxiliary head's place) of torch's network, by running it."""
    build = discrete.CifarNetwork if kind == "cifar" else discrete.ImageNetNetwork
    built = build(genotype, channels, repeats, 10, auxiliary=True).eval()
    shapes = []
    stems = [built.stem[0]] if kind == "cifar" else [built.stem[0], built.stem[3], built.second_stem[0]]
    for module in (*stems, *built.cells):
        module.register_forward_hook(lambda _module, _given, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        built(torch.zeros(1, 3, image_size, image_size))
    return len(stems), shapes, built.place


@pytest.mark.parametrize("repeats", range(1, 7))
@pytest.mark.parametrize(("kind", "image_size"), [("cifar", 16), ("imagenet", 64)])
def test_the_network_figure_is_the_network(kind, image_size, repeats):
    genotype = Genotype(NODES, (2, 3), NODES, (3,))  # the two cells concatenate different numbers of nodes
    drawing = draw_network(genotype, 3, repeats, kind, image_size, 10)
    _, edges = graph_of(drawing.source)
    stems, shapes, place = told_by_the_network(kind, genotype, 3, repeats, image_size)
    cells = [one.cell_type for one in macro.plan(3, repeats, (2, 1))]
    assert len(shapes) == stems + len(cells)

    # the column of boxes, by following the lines that carry a shape
    onward = {tail: (head, attributes["label"].split()) for tail, head, attributes in edges if attributes.get("label")}
    column, carried = ["image"], []
    while column[-1] in onward:
        head, shape = onward[column[-1]]
        column.append(head)
        carried.append(tuple(int(number.replace(",", "")) for number in shape if number != "x"))
    assert column[-2:] == ["mean", "classifier"]
    blocks = column[1:-2]
    words = box_texts(drawing.source)
    counts = [int(words[box][words[box].index("×") + 1]) if "×" in words[box] else 1 for box in blocks]
    owners = [box for box, count in zip(blocks, counts, strict=True) for _ in range(count)]  # the box of every layer
    assert len(owners) == len(shapes)
    last = dict(zip(owners, shapes, strict=True))
    assert carried == [(3, image_size, image_size), *(last[box] for box in blocks), (shapes[-1][0],)]
    names = ["3x3"] * stems + [("normal", "reduction")[kind] for kind in cells]
    assert [words[box][0] for box in owners] == names
    widths = [one.channels for one in macro.plan(3, repeats, (2, 1))]
    assert [int(words[box][-1]) for box in owners[stems:]] == widths

    # what each cell reads, as `Network.forward` hands it on
    before, previous = (owners[0], owners[0]) if kind == "cifar" else (owners[1], owners[2])
    reads = set()
    for box in owners[stems:]:
        reads |= {(before, box), (previous, box)}
        before, previous = previous, box
    drawn = {(tail, head) for tail, head, _ in edges if head in blocks and tail in blocks}
    chain = set(itertools.pairwise(blocks))
    assert drawn == {(tail, head) for tail, head in reads if tail != head} | chain
    grey = {(tail, head) for tail, head, attributes in edges if attributes.get("color") == "#757575"}
    assert grey == drawn - chain
    heads = [(tail, attributes["style"]) for tail, head, attributes in edges if head == "auxiliary"]
    assert heads == [(owners[stems + place], "dashed")]
    assert words["classifier"] == ["linear,", "10", "classes"]


@pytest.mark.parametrize("kind", ["cifar", "imagenet"])
@pytest.mark.parametrize("repeats", [1, 2, 6])
def test_boxes_of_the_network_neither_overlap_nor_leave_the_picture(kind, repeats):
    drawing = draw_network(ZOO["SETN"].genotype, 73, repeats, kind, caption="A <caption> & more")
    check_boxes(drawing)
    written = texts(render(drawing))
    assert "A <caption> & more" in written
    size, classes = {"cifar": (32, "10"), "imagenet": (224, "1,000")}[kind]
    assert f"3 x {size} x {size}" in [text.replace("\xa0", " ").strip() for text in written]
    assert f"linear, {classes} classes" in written


def test_a_network_that_cannot_be_is_refused_by_name():
    genotype = ZOO["SETN"].genotype
    with pytest.raises(ValueError, match=r"network: 'mnist'.*cifar, imagenet"):
        draw_network(genotype, 36, 6, "mnist")
    with pytest.raises(ValueError, match=r"channels: 1 .*at least 2"):
        draw_network(genotype, 1, 6, "imagenet")
    with pytest.raises(ValueError, match="repeats: 0 given"):
        draw_network(genotype, 36, 0)
    with pytest.raises(ValueError, match="image_size: 0 given"):
        draw_network(genotype, 36, 6, image_size=0)


# Captions and imports


def test_captions_round_as_papers_print():
    assert caption("SETN", 4_619_206, 596_900_000, 36, 6) == (
        "SETN: 4.6 M parameters, 597 M multiply-adds (C = 36, N = 6)"
    )
    assert caption("a", 999, 1_000, 1, 1) == "a: 999 parameters, 1.0 k multiply-adds (C = 1, N = 1)"
    assert caption("a", 999_700, 99_960_000, 1, 1) == "a: 1.0 M parameters, 100 M multiply-adds (C = 1, N = 1)"
    assert caption("a", 999_400, 1_234_000_000, 1, 1) == "a: 999 k parameters, 1234 M multiply-adds (C = 1, N = 1)"


def test_drawing_needs_no_torch():
    code = "import sys; import setn_lab.figures.cells, setn_lab.figures.network; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Every published cell in every format


@pytest.fixture(scope="module")
def dot(tmp_path_factory):
    """A folder with a `dot` program: the real one's where there is one, else one that pygraphviz answers for."""
    if found := shutil.which("dot"):
        return Path(found).parent
    folder = tmp_path_factory.mktemp("graphviz")
    code = (
        "import sys; import pygraphviz; format = next(a for a in sys.argv[1:] if a.startswith('-T'))[2:]; "
        "program = 'nop2' if '-n2' in sys.argv else 'dot'; "
        "graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode()); "
        "sys.stdout.buffer.write(graph.draw(format=format, prog=program))"
    )
    (folder / "dot").write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(code)} "$@"\n', encoding="utf-8")
    (folder / "dot").chmod(0o755)
    return folder


@pytest.mark.parametrize("with_dot", [True, False], ids=["with dot", "without dot"])
@pytest.mark.parametrize("name", [*DRAWN, "AMOEBANET"])
def test_published_cells_in_every_format(name, with_dot, dot, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{dot if with_dot else tmp_path}")
    if with_dot:  # the other way is closed
        monkeypatch.setitem(sys.modules, "pygraphviz", None)
    genotype = ZOO[name].genotype
    for format in FORMATS:
        assert render(draw(genotype, name), format).startswith(SIGNATURES[format])
    for picture in (difference(ZOO["SETN"].genotype, genotype, ("SETN", name)), draw_network(genotype, 36, 6)):
        assert len(texts(render(picture, "svg"))) > 20
