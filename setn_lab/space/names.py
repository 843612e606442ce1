"""What texts and figures call operations, states and edges."""

from setn_lab.space.protocol import Space

_LABELS = {
    "conv_3x1_1x3": "1x3 & 3x1 conv",  # as in section 3
    "conv_7x1_1x7": "1x7 & 7x1 conv",
    "nor_conv_1x1": "conv 1x1",
    "nor_conv_3x3": "conv 3x3",
}


def label(operation: str) -> str:
    """An operation's name to read: "sep conv 5x5" for sep_conv_5x5."""
    return _LABELS.get(operation) or operation.replace("_connect", "").replace("_", " ")


def state_name(space: Space, state: int, formula: bool = True) -> str:
    """What a state is called: an input by the space's name for it, then "node 0" and so on.

    formula: whether a name such as c_{k-2} is marked as matplotlib's formula.
    """
    inputs = space.input_names
    if state >= len(inputs):
        return f"node {state - len(inputs)}"
    return f"${inputs[state]}$" if formula and "_" in inputs[state] else inputs[state]


def edge_names(space: Space) -> list[str]:
    """What the edges of a cell are called, in the order of `space.edges`."""
    return [f"{state_name(space, state)} → node {node}" for node, state in space.edges]
