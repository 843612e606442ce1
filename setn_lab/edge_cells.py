"""Pictures of NAS-Bench-201's cells, in the style of `cells`, and of the cells of either space."""

from typing import Any

import graphviz

from setn_lab import cells
from setn_lab.cells import FAMILIES, MARK_FONTS, MARKS, draw_line, family, label, sheet
from setn_lab.edge_space import EDGES, EdgeGenotype
from setn_lab.genotype import Genotype

LAST = 3  # the state that is the cell's output


def draw_edges(
    genotype: EdgeGenotype, caption: str | None = None, beside: EdgeGenotype | None = None
) -> graphviz.Digraph:
    """The cell, top-down, as a Digraph that is not rendered: what `cells.draw` is for the paper's space.

    Operations that give nothing, `none`, are left out. Lines that `beside` has too are grey, those that it lacks thick.
    """
    graph = sheet("cell")
    if caption is not None:
        graph.attr(label=graphviz.escape(caption), labelloc="b")
    boxes = [f"state_{state}" for state in range(LAST + 1)]
    graph.node(boxes[0], "input", fillcolor="#D9EAD3")
    for state in range(1, LAST):
        graph.node(boxes[state], str(state - 1), fillcolor="#DCE9F5", width="0.5", height="0.4")
    graph.node(boxes[LAST], "output", fillcolor="#FFF2CC")
    for slot, ((node, state), operation) in enumerate(zip(EDGES, genotype.operations, strict=True)):
        if operation == "none":
            continue
        kind = family(operation)
        line = {"color": FAMILIES[kind], "penwidth": "1.6", "style": "dashed" if kind == "skip" else "solid"}
        font = "Helvetica"
        if beside is not None:
            mark = "kept" if beside.operations[slot] == operation else "added"
            line |= MARKS["kept"][1] if mark == "kept" else {"penwidth": MARKS["added"][1]["penwidth"]}
            font = MARK_FONTS[mark]
        draw_line(graph, boxes[state], boxes[node + 1], slot, label(operation), line, font)
    return graph


def draw(genotype: Genotype | EdgeGenotype, caption: str | None = None, beside: Any = None) -> graphviz.Digraph:
    """The cells of a genotype of either space, see `cells.draw`; `beside` is of the same space."""
    if isinstance(genotype, EdgeGenotype):
        return draw_edges(genotype, caption, beside)
    return cells.draw(genotype, caption, beside)
