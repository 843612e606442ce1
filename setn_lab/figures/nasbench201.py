"""Pictures of NAS-Bench-201's cells, in the style of `cells`."""

import graphviz

from setn_lab.figures.style import draw_line, operation_line, sheet
from setn_lab.space.names import label
from setn_lab.space.nasbench201 import EDGES, NASBench201Genotype

LAST = 3  # the state that is the cell's output


def draw(
    genotype: NASBench201Genotype, caption: str | None = None, beside: NASBench201Genotype | None = None
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
        mark = None if beside is None else "kept" if beside.operations[slot] == operation else "added"
        line, font = operation_line(operation, mark)
        draw_line(graph, boxes[state], boxes[node + 1], slot, label(operation), line, font)
    return graph
