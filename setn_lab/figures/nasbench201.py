"""Pictures of NAS-Bench-201's cells, in the style of `cells`."""

import graphviz

from setn_lab.figures.cells import GREY
from setn_lab.figures.sheets import PAGE, Arrow, Layout, Node, Sketch, sheet_of
from setn_lab.figures.style import operation_line
from setn_lab.space.names import label
from setn_lab.space.nasbench201 import EDGES, NASBench201Genotype

LAST = 3  # the state that is the cell's output


def draw(
    genotype: NASBench201Genotype,
    caption: str | None = None,
    beside: NASBench201Genotype | None = None,
    layout: Layout = "LR",
    width: float = PAGE,
) -> graphviz.Digraph:
    """The cell as a Digraph that is not rendered: what `cells.draw` is for the paper's space.

    Operations that give nothing, `none`, are left out. Lines that `beside` has too are grey, those that it lacks thick.
    """
    arrows = []
    for slot, ((node, state), operation) in enumerate(zip(EDGES, genotype.operations, strict=True)):
        if operation == "none":
            continue
        mark = None if beside is None else "kept" if beside.operations[slot] == operation else "added"
        line, weight = operation_line(operation, mark)
        arrows.append(Arrow(state, node + 1, f"state_{node + 1}_{slot}", label(operation), line, weight))
    boxes = [
        Node("state_0", "input", "input", {"fillcolor": "#D9EAD3"}),
        *(Node(f"state_{state}", f"{state - 1}", f"{state - 1}", {"fillcolor": "#DCE9F5"}) for state in range(1, LAST)),
        Node(f"state_{LAST}", "output", "output", {"fillcolor": "#FFF2CC"}),
    ]
    sketch = Sketch("cell", "cell", boxes[:1], boxes[1:-1], boxes[-1], arrows)
    return sheet_of("cell", [[sketch]], layout, width, [] if caption is None else [(caption, GREY)])
