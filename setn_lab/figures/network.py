"""The whole network of a genotype as a figure: stems, runs of cells, classifier, and the shapes between them.

What is drawn is section 3's plan, as `network.macro.plan` and `network.discrete` build it. It is told again here
because drawing needs no torch; a test compares the two.
"""

import html
from dataclasses import dataclass

import graphviz

from setn_lab.figures.looks import TITLES
from setn_lab.figures.style import sheet
from setn_lab.space.genotype import Genotype

DEFAULTS = {"cifar": (32, 10), "imagenet": (224, 1000)}  # side of the images and classes, by network
COLOURS = {"image": "#FFFFFF", "stem": "#D9EAD3", "normal": "#DCE9F5", "reduce": "#FBE0CE", "end": "#FFF2CC"}
GREY = "#757575"


@dataclass(frozen=True)
class Block:
    """One box: `count` equal layers in a row, and the channels and the side in pixels of what the last one gives.

    layer: "stem", "normal" or "reduce". width: C of these cells, or the channels of a stem.
    """

    layer: str
    count: int
    width: int
    channels: int
    size: int


def blocks(genotype: Genotype, channels: int, repeats: int, network: str, image_size: int) -> list[Block]:
    """Stems and runs of cells, from the images on: N normal, a reduction, N normal, a reduction, N normal."""
    if network == "cifar":
        stack = [Block("stem", 1, 3 * channels, 3 * channels, image_size)]
    else:
        stack = []
        for width in (channels // 2, channels, channels):
            image_size = _half(image_size)
            stack.append(Block("stem", 1, width, width, image_size))
    concatenated = {"normal": len(genotype.normal_concat), "reduce": len(genotype.reduce_concat)}
    for name, count in (("normal", repeats), ("reduce", 1)) * 2 + (("normal", repeats),):
        if name == "reduce":
            channels, image_size = 2 * channels, _half(image_size)
        stack.append(Block(name, count, channels, concatenated[name] * channels, image_size))
    return stack


def draw_network(
    genotype: Genotype,
    channels: int,
    repeats: int,
    network: str = "cifar",
    image_size: int | None = None,
    num_classes: int | None = None,
    caption: str | None = None,
) -> graphviz.Digraph:
    """The macro-network from the images down to the logits, as a Digraph that is not rendered.

    channels: C; repeats: N, the cells of a run, which is one box. network: "cifar", one stem to 3 C channels, or
    "imagenet", three stems of stride 2. image_size: side of the square images in pixels, by default 32 or 224, and
    num_classes 10 or 1000. Black lines carry the shape of one image's features: channels x height x width. A cell
    reads the two outputs before it; where the one before the previous comes out of another box, that line is grey.
    The dashed box is the auxiliary classifier, which stands in training alone. `caption` stands below.

    Raises ValueError for another network and for numbers below 1 (C below 2 for "imagenet", whose first stem halves
    it).
    """
    if network not in DEFAULTS:
        raise ValueError(f"network: {network!r} given; allowed are {', '.join(DEFAULTS)}")
    image_size = DEFAULTS[network][0] if image_size is None else image_size
    num_classes = DEFAULTS[network][1] if num_classes is None else num_classes
    _check_sizes(network, channels, repeats, image_size, num_classes)
    stack = blocks(genotype, channels, repeats, network, image_size)
    graph = sheet("network")
    graph.attr("node", margin="0.15,0.06", width="2.5", fontsize="13")
    graph.attr("edge", fontname="Helvetica", fontsize="11", fontcolor="#404040")
    graph.attr(ranksep="0.3", nodesep="0.35")
    graph.attr(label=_legend(caption), labelloc="b", fontsize="13")
    graph.node("image", "images", fillcolor=COLOURS["image"])
    boxes = ["image"]
    for block in stack:
        boxes.append(f"{block.layer}_{len(boxes)}")
        graph.node(boxes[-1], _text(block, network), fillcolor=COLOURS[block.layer])
    for name, text in (("mean", "mean over the image"), ("classifier", f"linear, {num_classes:,} classes")):
        graph.node(name, text, fillcolor=COLOURS["end"])

    shapes = [(3, image_size), *((block.channels, block.size) for block in stack)]
    main = {"weight": "20", "penwidth": "1.4"}  # heavy edges are straight: one column
    for box, following, (depth, side) in zip(boxes, [*boxes[1:], "mean"], shapes, strict=True):
        graph.edge(box, following, f"  {depth:,} x {side} x {side}", **main)
    graph.edge("mean", "classifier", f"  {stack[-1].channels:,}", **main)
    for tail, head in _skips(stack):
        graph.edge(boxes[tail + 1], boxes[head + 1], color=GREY, penwidth="1.1", arrowsize="0.6")
    _draw_auxiliary(graph, boxes, stack, num_classes)
    return graph


def _check_sizes(network: str, channels: int, repeats: int, image_size: int, num_classes: int) -> None:
    """Raises ValueError for a number that is too small."""
    least = {"channels": 2 if network == "imagenet" else 1, "repeats": 1, "image_size": 1, "num_classes": 1}
    given = {"channels": channels, "repeats": repeats, "image_size": image_size, "num_classes": num_classes}
    for name, value in given.items():
        if value < least[name]:
            raise ValueError(f"{name}: {value} given; an integer of at least {least[name]} is allowed")


def _legend(caption: str | None) -> str:
    """The rows below the network, as one of Graphviz's HTML labels; the first keeps its distance."""
    row = '<TR><TD HEIGHT="{}" VALIGN="BOTTOM">{}</TD></TR>'
    note = (
        f'<FONT COLOR="{GREY}" POINT-SIZE="11">grey: the output before the previous one, which a cell reads too</FONT>'
    )
    rows = [row.format(30, html.escape(caption)), row.format(10, note)] if caption else [row.format(30, note)]
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="2">{"".join(rows)}</TABLE>>'


def _half(size: int) -> int:
    return (size + 1) // 2  # a 3x3 convolution of stride 2, padded by 1


def _text(block: Block, network: str) -> str:
    if block.layer == "stem":
        return f"3x3 conv to {block.width:,}" + (", stride 2" if network == "imagenet" else "")
    times = f"<B> × {block.count}</B>" if block.count > 1 else ""
    return f'<{TITLES[block.layer]}{times}<BR/><FONT POINT-SIZE="11">C = {block.width:,}</FONT>>'


def _skips(stack: list[Block]) -> list[tuple[int, int]]:
    """(from, to) of the blocks between which a cell reads the output before the previous one.

    Pairs that are neighbours are left out: the line of the previous output runs there already.
    """
    owners = [index for index, block in enumerate(stack) for _ in range(block.count)]
    first = next(position for position, owner in enumerate(owners) if stack[owner].layer != "stem")
    reads = {(owners[position - 2], owners[position]) for position in range(max(first, 2), len(owners))}
    return sorted((tail, head) for tail, head in reads if head - tail > 1)


def _draw_auxiliary(graph: graphviz.Digraph, boxes: list[str], stack: list[Block], num_classes: int) -> None:
    """The second classifier, on the output of cell 2 L // 3 of the L cells, counted from 0: the second reduction."""
    cells = [index for index, block in enumerate(stack) for _ in range(block.count) if block.layer != "stem"]
    place = boxes[1 + cells[2 * len(cells) // 3]]
    text = f'<auxiliary classifier<BR/><FONT POINT-SIZE="11">{num_classes:,} classes, in training alone</FONT>>'
    graph.node("auxiliary", text, fillcolor="#FFFFFF", style="filled,rounded,dashed")
    graph.edge(place, "auxiliary", style="dashed", penwidth="1.2")
