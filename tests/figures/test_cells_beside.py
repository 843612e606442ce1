"""A drawing beside another one's: lines that both have are grey, the others thick, by a slow comparison."""

import itertools
import random
from collections import Counter

import pytest
from test_cells import EXAMPLES, graph_of, random_genotype

from setn_lab.figures.cells import draw
from setn_lab.figures.looks import look
from setn_lab.figures.style import MARKS
from setn_lab.space.genotype import OPERATIONS, Genotype
from setn_lab.space.names import label

TWICE = ("skip_connect", 0), ("skip_connect", 0)
ONCE = ("sep_conv_3x3", 1), ("skip_connect", 0)
SWAPPED = ONCE[::-1]


def cell(*nodes):
    return Genotype(nodes, (2,), nodes, (2,))


def relative(genotype, seed):
    """The genotype with some of its lines changed and its pairs exchanged, as a search might come to."""
    rng = random.Random(seed)
    cells = []
    for _, nodes, _ in genotype.cells:
        kept = [
            [edge if rng.random() < 0.6 else (rng.choice(OPERATIONS), edge[1]) for edge in rng.sample(node, 2)]
            for node in nodes
        ]
        cells.append(tuple(map(tuple, kept)))
    return Genotype(cells[0], genotype.normal_concat, cells[1], genotype.reduce_concat)


PAIRS = {
    **{f"random {seed}": (random_genotype(seed), relative(random_genotype(seed), seed)) for seed in range(4)},
    "zoo": (EXAMPLES["SETN"], EXAMPLES["GDAS"]),
    "other numbers of nodes": (random_genotype(1, 3), random_genotype(2, 5)),
    "twice beside once": (cell(TWICE), cell(ONCE)),
    "twice beside none": (cell(TWICE), cell((("max_pool_3x3", 1), ("sep_conv_3x3", 1)))),
    "twice beside twice": (cell(TWICE), cell(TWICE)),
    "exchanged": (cell(ONCE), cell(SWAPPED)),
}


def slow_marks(genotype, beside):
    """{(cell, node): multiset of (label, state, whether both have it)}; two equal lines need two."""
    marks = {}
    for (name, nodes, _), (_, others, _) in zip(genotype.cells, beside.cells, strict=True):
        for number, node in enumerate(nodes):
            left = list(others[number]) if number < len(others) else []
            marks[name, number] = Counter()
            for operation, state in node:
                common = (operation, state) in left
                if common:
                    left.remove((operation, state))
                marks[name, number][label(operation), state, common] += 1
    return marks


def read_marks(source):
    """The same of a drawing: grey and thin, or thick and in the colour of the family."""
    boxes, edges = graph_of(source)
    colours = {label(operation): look(operation).colour for operation in OPERATIONS}
    into = {tail: (head, attributes) for tail, head, attributes in edges if tail.count("_") == 2}
    marks = {}
    for tail, head, first in edges:
        if head not in into:
            continue
        node, second = into[head]
        name, state = node.split("_")
        text = boxes[head]
        grey = first["color"] == MARKS["kept"][1]["color"]
        assert first["color"] == second["color"] == (MARKS["kept"][1]["color"] if grey else colours[text])
        width = MARKS["kept" if grey else "added"][1]["penwidth"]
        assert first["penwidth"] == second["penwidth"] == width
        marks.setdefault((name, int(state) - 2), Counter())[text, int(tail.split("_")[1]), grey] += 1
    return marks


@pytest.mark.parametrize("name", PAIRS)
def test_common_lines_are_grey_and_the_others_thick(name):
    for one, other in itertools.permutations(PAIRS[name]):
        assert read_marks(draw(one, beside=other).source) == slow_marks(one, other)


def test_of_two_equal_lines_beside_one_only_one_is_grey():
    marks = read_marks(draw(cell(TWICE), beside=cell(ONCE)).source)
    assert marks["normal", 0] == {("skip", 0, True): 1, ("skip", 0, False): 1}


@pytest.mark.parametrize("name", EXAMPLES)
def test_beside_itself_all_is_grey_and_beside_none_nothing(name):
    genotype = EXAMPLES[name]
    grey = [mark for marks in read_marks(draw(genotype, beside=genotype).source).values() for *_, mark in marks]
    assert all(grey)
    _, edges = graph_of(draw(genotype).source)
    assert MARKS["added"][1]["penwidth"] not in [attributes.get("penwidth") for *_, attributes in edges]
    assert not any(
        attributes.get("color") == MARKS["kept"][1]["color"] and tail.count("_") == 2 for tail, _, attributes in edges
    )
