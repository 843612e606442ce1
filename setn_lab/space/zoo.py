"""Published genotypes, with the sizes printed for them."""

from dataclasses import dataclass

from setn_lab.space.genotype import Genotype


@dataclass(frozen=True)
class Published:
    """A genotype as its authors released it, and where."""

    genotype: Genotype
    source: str
    sizes: tuple["Size", ...] = ()


@dataclass(frozen=True)
class Size:
    """A printed size: `channels` (C) and `repeats` (N), parameters and multiply-adds in millions.

    The auxiliary head is left out. `exact` is the number of parameters where it was printed to the last digit;
    `remark` says why a figure cannot be reproduced. parameters is None where none were printed.
    """

    data: str
    channels: int
    repeats: int
    parameters: float | None
    multiply_adds: float | None = None
    exact: int | None = None
    remark: str = ""


def _genotype(normal: str, reduce: str) -> Genotype:
    """From the short form "operation state operation state | ..." with all four nodes concatenated."""
    cells = []
    for text in (normal, reduce):
        words = [node.split() for node in text.split("|")]
        cells.append(tuple(((a, int(t)), (b, int(u))) for a, t, b, u in words))
    return Genotype(cells[0], (2, 3, 4, 5), cells[1], (2, 3, 4, 5))


ZOO = {
    "SETN": Published(
        _genotype(
            "skip_connect 0 sep_conv_5x5 1 | sep_conv_5x5 0 sep_conv_3x3 1 | sep_conv_5x5 1 sep_conv_5x5 3"
            " | max_pool_3x3 1 conv_3x1_1x3 4",
            "sep_conv_3x3 0 sep_conv_5x5 1 | avg_pool_3x3 0 sep_conv_5x5 1 | avg_pool_3x3 0 sep_conv_5x5 1"
            " | avg_pool_3x3 0 skip_connect 1",
        ),
        "Dong and Yang, ICCV 2019, Figure 3",
        (
            Size("CIFAR-10", 36, 6, 4.6),
            Size("ImageNet", 73, 1, 5.2, 597),
            Size("ImageNet", 58, 2, 5.3, 600),
            Size("ImageNet", 49, 3, 5.3, 584),
            Size("ImageNet", 44, 4, 5.4, 599),
        ),
    ),
    "GDAS": Published(
        _genotype(
            "skip_connect 0 skip_connect 1 | skip_connect 0 sep_conv_5x5 2 | sep_conv_3x3 3 skip_connect 0"
            " | sep_conv_5x5 4 sep_conv_3x3 3",
            "sep_conv_5x5 0 sep_conv_3x3 1 | sep_conv_5x5 2 sep_conv_5x5 1 | dil_conv_5x5 2 sep_conv_3x3 1"
            " | sep_conv_5x5 0 sep_conv_5x5 1",
        ),
        "Dong and Yang, CVPR 2019",
        (Size("CIFAR-10", 36, 6, 3.4), Size("ImageNet", 50, 4, 5.3, 581)),
    ),
    "DARTS_V1": Published(
        _genotype(
            "sep_conv_3x3 1 sep_conv_3x3 0 | skip_connect 0 sep_conv_3x3 1 | skip_connect 0 sep_conv_3x3 1"
            " | sep_conv_3x3 0 skip_connect 2",
            "max_pool_3x3 0 max_pool_3x3 1 | skip_connect 2 max_pool_3x3 0 | max_pool_3x3 0 skip_connect 2"
            " | skip_connect 2 avg_pool_3x3 0",
        ),
        "Liu et al., ICLR 2019, first order",
    ),
    "DARTS_V2": Published(
        _genotype(
            "sep_conv_3x3 0 sep_conv_3x3 1 | sep_conv_3x3 0 sep_conv_3x3 1 | sep_conv_3x3 1 skip_connect 0"
            " | skip_connect 0 dil_conv_3x3 2",
            "max_pool_3x3 0 max_pool_3x3 1 | skip_connect 2 max_pool_3x3 1 | max_pool_3x3 0 skip_connect 2"
            " | skip_connect 2 max_pool_3x3 1",
        ),
        "Liu et al., ICLR 2019, second order",
        (
            Size("CIFAR-10", 36, 6, 3.3, exact=3_349_342),
            Size("ImageNet", 48, 4, 4.7, 574, remark="the released structure has fewer"),
        ),
    ),
}
