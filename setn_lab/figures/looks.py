"""How operations are drawn, and what a cell's drawing is called."""

from dataclasses import dataclass

TITLES = {"normal": "normal cell", "reduce": "reduction cell"}
# Colours after Okabe and Ito, which colour-blind readers can tell apart, darkened where text would be pale.
FAMILIES = {
    "pooling": "#D55E00",
    "skip": "#595959",
    "separable": "#0072B2",
    "dilated": "#00805E",
    "dense": "#A8478A",
    "none": "#8C8C8C",
}


@dataclass(frozen=True)
class Look:
    """How an operation's line is drawn: the colour and the dashes say of which family it is, the width its filters.

    width: in points, more for larger filters.
    """

    colour: str
    dashed: bool = False
    width: float = 0.9

    @property
    def style(self) -> str:
        """As Graphviz calls it."""
        return "dashed" if self.dashed else "solid"


WIDE, WIDEST = 1.9, 2.9  # of filters of 5x5 and of 7x7
LOOKS = {
    "max_pool_3x3": Look(FAMILIES["pooling"]),
    "avg_pool_3x3": Look(FAMILIES["pooling"]),
    "skip_connect": Look(FAMILIES["skip"], dashed=True),
    "sep_conv_3x3": Look(FAMILIES["separable"]),
    "sep_conv_5x5": Look(FAMILIES["separable"], width=WIDE),
    "sep_conv_7x7": Look(FAMILIES["separable"], width=WIDEST),
    "dil_conv_3x3": Look(FAMILIES["dilated"]),
    "dil_conv_5x5": Look(FAMILIES["dilated"], width=WIDE),
    "conv_3x1_1x3": Look(FAMILIES["dense"]),
    "conv_7x1_1x7": Look(FAMILIES["dense"], width=WIDEST),
    "nor_conv_1x1": Look(FAMILIES["dense"]),
    "nor_conv_3x3": Look(FAMILIES["dense"]),
    "none": Look(FAMILIES["none"], dashed=True),
}


def look(operation: str) -> Look:
    """How the operation is drawn. Raises ValueError for one that is not known here."""
    if operation not in LOOKS:
        raise ValueError(
            f"operation: {operation!r} given, of which no colour is known; allowed are {', '.join(LOOKS)}, and what "
            "setn_lab.kits.register_operation adds"
        )
    return LOOKS[operation]
