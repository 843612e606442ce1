"""Pictures of cells: what is in the graph and in the rendered file, and what happens where no Graphviz is."""

import random
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter

import graphviz
import pytest

from setn_lab.cells import FAMILIES, FORMATS, RenderError, draw, family, label, render, show
from setn_lab.genotype import OPERATIONS, Genotype
from setn_lab.zoo import ZOO

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


EXAMPLES = {name: published.genotype for name, published in ZOO.items()} | {
    f"random {seed}": random_genotype(seed) for seed in range(4)
}


def graph_of(source):
    """(labels of the boxes, edges, attributes of the edges) of a DOT text, as Graphviz itself reads it."""
    pygraphviz = pytest.importorskip("pygraphviz")
    with pygraphviz.AGraph(string=source) as graph:
        boxes = {str(node): node.attr["label"] for node in graph.nodes()}
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
    assert (label(operation), family(operation)) == READABLE[operation]
    assert family(operation) in FAMILIES


def test_families_have_different_colours():
    assert len(set(FAMILIES.values())) == len(FAMILIES)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in FAMILIES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_graph_is_the_genotype(name):
    genotype = EXAMPLES[name]
    boxes, edges = graph_of(draw(genotype).source)
    visible = [(tail, head, attributes) for tail, head, attributes in edges if attributes.get("style") != "invis"]
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
    caption = 'A <b>caption</b> & "quotes" \\N'
    written = Counter(text.replace("\xa0", " ").strip() for text in texts(render(draw(genotype, caption), "svg")))
    expected = Counter(
        READABLE[operation][0] for _, cell, _ in genotype.cells for node in cell for operation, _ in node
    )
    assert {text: written[text] for text, _ in READABLE.values()} == {
        text: expected[text] for text, _ in READABLE.values()
    }
    assert written[caption] == 1
    assert written["normal cell"] == written["reduction cell"] == 1
    assert written["k-2"] == written["k-1"] == written["k"] == 2


@pytest.mark.parametrize("name", EXAMPLES)
def test_boxes_neither_overlap_nor_leave_the_picture(name):
    pygraphviz = pytest.importorskip("pygraphviz")
    with pygraphviz.AGraph(string=draw(EXAMPLES[name], name).source) as graph:
        lines = [line.split() for line in graph.draw(format="plain", prog="dot").decode().splitlines()]
    (width, height) = next((float(w), float(h)) for kind, _, w, h in lines if kind == "graph")
    boxes = {line[1]: [float(number) for number in line[2:6]] for line in lines if line[0] == "node"}
    for cell in ("normal", "reduce"):
        assert boxes[f"{cell}_0"][0] < boxes[f"{cell}_1"][0]  # c_{k-2} is on the left
    assert max(x for box, (x, *_) in boxes.items() if box.startswith("normal")) < min(
        x for box, (x, *_) in boxes.items() if box.startswith("reduce")
    )
    rest = dict(boxes)
    for box, (x, y, w, h) in boxes.items():
        del rest[box]
        assert w / 2 <= x <= width - w / 2
        assert h / 2 <= y <= height - h / 2
        for other, (x2, y2, w2, h2) in rest.items():
            assert abs(x - x2) >= (w + w2) / 2 or abs(y - y2) >= (h + h2) / 2, (box, other)


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
    with pytest.raises(ValueError, match="'bmp' given; allowed are svg, pdf, png"):
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
    alone, shown = (
        float(ElementTree.fromstring(svg).get("width").removesuffix("pt"))
        for svg in (render(wide), show(wide)._repr_svg_())
    )
    assert alone > 721  # points: ten inches, rounded up
    assert shown <= 721
