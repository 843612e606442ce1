"""Published genotypes of the DARTS family, with the sizes printed for them.

A source is the paper, and the repository and file that the genotype was read from. Most lie in the large space. Those
of five nodes, or with operations that it lacks, can be drawn, trained and measured, but no search could find them.
"""

from dataclasses import dataclass

from setn_lab.space.genotype import INPUTS, Genotype


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
    `remark` says why a figure cannot be reproduced. parameters is None where none were printed. `digits`: the decimals
    in which they were. `printed_by` is who printed them, where the genotype's source did not. Those of SNAS_AGGRESSIVE
    and SDARTS_ADV are quoted from their papers' tables; no repository that repeats them was found.
    """

    data: str
    channels: int
    repeats: int
    parameters: float | None
    multiply_adds: float | None = None
    exact: int | None = None
    remark: str = ""
    digits: int = 1
    printed_by: str = ""


def _genotype(
    normal: str, reduce: str, normal_concat: tuple[int, ...] | None = None, reduce_concat: tuple[int, ...] | None = None
) -> Genotype:
    """From the short form "operation state operation state | ..."; all nodes are concatenated unless some are given."""
    cells = []
    for text in (normal, reduce):
        words = [node.split() for node in text.split("|")]
        cells.append(tuple(((a, int(t)), (b, int(u))) for a, t, b, u in words))
    every = [tuple(range(INPUTS, INPUTS + len(cell))) for cell in cells]
    return Genotype(cells[0], normal_concat or every[0], cells[1], reduce_concat or every[1])


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
    "NASNET": Published(
        _genotype(
            "sep_conv_5x5 1 sep_conv_3x3 0 | sep_conv_5x5 0 sep_conv_3x3 0 | avg_pool_3x3 1 skip_connect 0"
            " | avg_pool_3x3 0 avg_pool_3x3 0 | sep_conv_3x3 1 skip_connect 1",
            "sep_conv_5x5 1 sep_conv_7x7 0 | max_pool_3x3 1 sep_conv_7x7 0 | avg_pool_3x3 1 sep_conv_5x5 0"
            " | skip_connect 3 avg_pool_3x3 2 | sep_conv_3x3 2 max_pool_3x3 1",
            (2, 3, 4, 5, 6),
            (4, 5, 6),
        ),
        "Zoph et al., CVPR 2018, NASNet-A; from quark0/darts, cnn/genotypes.py",
    ),
    "AMOEBANET": Published(
        _genotype(
            "avg_pool_3x3 0 max_pool_3x3 1 | sep_conv_3x3 0 sep_conv_5x5 2 | sep_conv_3x3 0 avg_pool_3x3 3"
            " | sep_conv_3x3 1 skip_connect 1 | skip_connect 0 avg_pool_3x3 1",
            "avg_pool_3x3 0 sep_conv_3x3 1 | max_pool_3x3 0 sep_conv_7x7 2 | sep_conv_7x7 0 avg_pool_3x3 1"
            " | max_pool_3x3 0 max_pool_3x3 1 | conv_7x1_1x7 0 sep_conv_3x3 5",
            (4, 5, 6),
            (3, 4, 6),
        ),
        "Real et al., AAAI 2019, AmoebaNet-A; from quark0/darts, cnn/genotypes.py",
    ),
    "PNASNET": Published(
        _genotype(
            "sep_conv_5x5 0 max_pool_3x3 0 | sep_conv_7x7 1 max_pool_3x3 1 | sep_conv_5x5 1 sep_conv_3x3 1"
            " | sep_conv_3x3 4 max_pool_3x3 1 | sep_conv_3x3 0 skip_connect 1",
            "sep_conv_5x5 0 max_pool_3x3 0 | sep_conv_7x7 1 max_pool_3x3 1 | sep_conv_5x5 1 sep_conv_3x3 1"
            " | sep_conv_3x3 4 max_pool_3x3 1 | sep_conv_3x3 0 skip_connect 1",
        ),
        "Liu et al., ECCV 2018, PNASNet-5; from D-X-Y/AutoDL-Projects, xautodl/nas_infer_model/DXYs/genotypes.py",
    ),
    "ENAS": Published(
        _genotype(
            "sep_conv_3x3 1 skip_connect 1 | sep_conv_5x5 1 skip_connect 0 | avg_pool_3x3 0 sep_conv_3x3 1"
            " | sep_conv_3x3 0 avg_pool_3x3 1 | sep_conv_5x5 1 avg_pool_3x3 0",
            "sep_conv_5x5 0 avg_pool_3x3 1 | sep_conv_3x3 1 avg_pool_3x3 1 | sep_conv_3x3 1 avg_pool_3x3 1"
            " | sep_conv_5x5 4 avg_pool_3x3 1 | sep_conv_3x3 5 sep_conv_5x5 0",
            (2, 3, 4, 5, 6),
            (2, 3, 6),
        ),
        "Pham et al., ICML 2018; from ain-soph/trojanzoo",
    ),
    "PDARTS": Published(
        _genotype(
            "skip_connect 0 dil_conv_3x3 1 | skip_connect 0 sep_conv_3x3 1 | sep_conv_3x3 1 sep_conv_3x3 3"
            " | sep_conv_3x3 0 dil_conv_5x5 4",
            "avg_pool_3x3 0 sep_conv_5x5 1 | sep_conv_3x3 0 dil_conv_5x5 2 | max_pool_3x3 0 dil_conv_3x3 1"
            " | dil_conv_3x3 1 dil_conv_5x5 3",
        ),
        "Chen et al., ICCV 2019; chenxin061/pdarts, genotypes.py",
        (
            Size("CIFAR-10", 36, 6, 3.4),
            Size("ImageNet", 48, 4, 4.9),
        ),
    ),
    "PC_DARTS_CIFAR": Published(
        _genotype(
            "sep_conv_3x3 1 skip_connect 0 | sep_conv_3x3 0 dil_conv_3x3 1 | sep_conv_5x5 0 sep_conv_3x3 1"
            " | avg_pool_3x3 0 dil_conv_3x3 1",
            "sep_conv_5x5 1 max_pool_3x3 0 | sep_conv_5x5 1 sep_conv_5x5 2 | sep_conv_3x3 0 sep_conv_3x3 3"
            " | sep_conv_3x3 1 sep_conv_3x3 2",
        ),
        "Xu et al., ICLR 2020, searched on CIFAR-10; yuhuixu1993/PC-DARTS, genotypes.py",
        (Size("CIFAR-10", 36, 6, 3.6),),
    ),
    "PC_DARTS_IMAGENET": Published(
        _genotype(
            "skip_connect 1 sep_conv_3x3 0 | sep_conv_3x3 0 skip_connect 1 | sep_conv_3x3 1 sep_conv_3x3 3"
            " | sep_conv_3x3 1 dil_conv_5x5 4",
            "sep_conv_3x3 0 skip_connect 1 | dil_conv_5x5 2 max_pool_3x3 1 | sep_conv_3x3 2 sep_conv_3x3 1"
            " | sep_conv_5x5 0 sep_conv_3x3 3",
        ),
        "Xu et al., ICLR 2020, searched on ImageNet; yuhuixu1993/PC-DARTS, genotypes.py",
        (Size("ImageNet", 48, 4, 5.3, 597, remark="the released structure has fewer"),),
    ),
    "SNAS_MILD": Published(
        _genotype(
            "sep_conv_3x3 0 sep_conv_3x3 1 | skip_connect 0 dil_conv_3x3 1 | skip_connect 0 skip_connect 1"
            " | skip_connect 0 sep_conv_3x3 1",
            "max_pool_3x3 0 max_pool_3x3 1 | max_pool_3x3 1 skip_connect 2 | max_pool_3x3 1 skip_connect 2"
            " | max_pool_3x3 0 dil_conv_5x5 2",
        ),
        "Xie et al., ICLR 2019, mild constraint; SNAS-Series/SNAS-Series, SNAS/genotypes.py",
        (Size("CIFAR-10", 36, 6, 2.66, 422, digits=2, printed_by="xiaomi-automl/FairDARTS"),),
    ),
    "SNAS_MODERATE": Published(
        _genotype(
            "dil_conv_5x5 0 skip_connect 1 | sep_conv_3x3 0 skip_connect 1 | skip_connect 0 skip_connect 1"
            " | sep_conv_3x3 0 dil_conv_5x5 1",
            "max_pool_3x3 0 max_pool_3x3 1 | sep_conv_5x5 0 dil_conv_5x5 1 | sep_conv_5x5 0 sep_conv_5x5 1"
            " | sep_conv_5x5 0 sep_conv_5x5 1",
        ),
        "Xie et al., ICLR 2019, moderate constraint; SNAS-Series/SNAS-Series, SNAS/genotypes.py",
        (Size("CIFAR-10", 36, 6, 2.8),),
    ),
    "SNAS_AGGRESSIVE": Published(
        _genotype(
            "sep_conv_5x5 0 skip_connect 1 | skip_connect 0 skip_connect 1 | dil_conv_5x5 1 skip_connect 0"
            " | skip_connect 0 dil_conv_5x5 1",
            "sep_conv_5x5 0 none 1 | sep_conv_5x5 0 none 1 | none 1 none 0 | none 1 none 0",
        ),
        "Xie et al., ICLR 2019, aggressive constraint; SNAS-Series/SNAS-Series, SNAS/genotypes.py",
        (Size("CIFAR-10", 36, 6, 2.3),),
    ),
    "XNAS": Published(
        _genotype(
            "sep_conv_3x3 1 skip_connect 0 | sep_conv_3x3 0 sep_conv_3x3 2 | sep_conv_3x3 3 sep_conv_3x3 1"
            " | dil_conv_5x5 4 sep_conv_3x3 0",
            "max_pool_3x3 0 avg_pool_3x3 1 | avg_pool_3x3 0 skip_connect 2 | dil_conv_3x3 3 max_pool_3x3 0"
            " | dil_conv_5x5 4 avg_pool_3x3 0",
        ),
        "Nayman et al., NeurIPS 2019; NivNayman/XNAS, genotypes.py",
        (
            Size("CIFAR-10", 36, 6, 3.8),
            Size("CIFAR-10", 44, 6, 5.6),
            Size("CIFAR-10", 50, 6, 7.2),
        ),
    ),
    "MDENAS": Published(
        _genotype(
            "sep_conv_5x5 1 sep_conv_3x3 0 | skip_connect 0 sep_conv_5x5 1 | sep_conv_5x5 3 sep_conv_3x3 1"
            " | dil_conv_5x5 3 max_pool_3x3 4",
            "max_pool_3x3 0 sep_conv_5x5 1 | skip_connect 0 skip_connect 1 | sep_conv_3x3 3 skip_connect 2"
            " | dil_conv_3x3 3 sep_conv_5x5 0",
        ),
        "Zheng et al., ICCV 2019; tanglang96/MDENAS, run_darts_cifar.sh",
        (Size("CIFAR-10", 36, 6, 3.78, 599, digits=2, printed_by="xiaomi-automl/FairDARTS"),),
    ),
    "FAIRDARTS_D": Published(
        _genotype(
            "sep_conv_3x3 0 sep_conv_5x5 1 | dil_conv_3x3 1 max_pool_3x3 0 | dil_conv_3x3 0 dil_conv_3x3 1"
            " | sep_conv_3x3 0 dil_conv_5x5 1",
            "max_pool_3x3 0 sep_conv_5x5 1 | avg_pool_3x3 0 dil_conv_5x5 2 | dil_conv_3x3 3 avg_pool_3x3 0"
            " | avg_pool_3x3 0 skip_connect 3",
        ),
        "Chu et al., ECCV 2020, FairDARTS-d; xiaomi-automl/FairDARTS, fairdarts/genotypes.py",
        (Size("CIFAR-10", 36, 6, 3.84, digits=2, remark="printed with the auxiliary head"),),
    ),
    "SGAS_CRI1_1": Published(
        _genotype(
            "skip_connect 0 sep_conv_3x3 1 | sep_conv_3x3 0 sep_conv_5x5 1 | sep_conv_3x3 1 sep_conv_3x3 2"
            " | dil_conv_5x5 2 dil_conv_3x3 3",
            "max_pool_3x3 0 dil_conv_3x3 1 | sep_conv_3x3 0 sep_conv_5x5 2 | max_pool_3x3 1 skip_connect 2"
            " | skip_connect 2 skip_connect 3",
        ),
        "Li et al., CVPR 2020, criterion 1; lightaime/sgas, cnn/genotypes.py, Cri1_CIFAR_1",
        (Size("CIFAR-10", 36, 6, 3.75, digits=2),),
    ),
    "SGAS_CRI1_2": Published(
        _genotype(
            "sep_conv_3x3 0 dil_conv_3x3 1 | skip_connect 0 dil_conv_3x3 2 | sep_conv_3x3 1 sep_conv_3x3 2"
            " | sep_conv_3x3 2 sep_conv_5x5 4",
            "avg_pool_3x3 0 sep_conv_3x3 1 | max_pool_3x3 0 skip_connect 2 | max_pool_3x3 0 sep_conv_5x5 2"
            " | max_pool_3x3 1 dil_conv_5x5 3",
        ),
        "Li et al., CVPR 2020, criterion 1; lightaime/sgas, cnn/genotypes.py, Cri1_CIFAR_2",
        (Size("CIFAR-10", 36, 6, 3.73, digits=2),),
    ),
    "SGAS_CRI1_3": Published(
        _genotype(
            "sep_conv_3x3 0 dil_conv_3x3 1 | sep_conv_3x3 0 sep_conv_3x3 1 | sep_conv_5x5 1 sep_conv_5x5 3"
            " | skip_connect 0 dil_conv_5x5 2",
            "max_pool_3x3 0 dil_conv_5x5 1 | sep_conv_3x3 0 skip_connect 2 | sep_conv_3x3 1 skip_connect 2"
            " | max_pool_3x3 0 max_pool_3x3 1",
        ),
        "Li et al., CVPR 2020, criterion 1; lightaime/sgas, cnn/genotypes.py, Cri1_CIFAR_3",
        (Size("CIFAR-10", 36, 6, 3.80, digits=2),),
    ),
    "SGAS_CRI2_1": Published(
        _genotype(
            "sep_conv_3x3 0 sep_conv_3x3 1 | sep_conv_5x5 0 sep_conv_5x5 1 | skip_connect 0 sep_conv_5x5 2"
            " | sep_conv_3x3 1 dil_conv_5x5 2",
            "max_pool_3x3 0 sep_conv_5x5 1 | max_pool_3x3 1 sep_conv_3x3 2 | max_pool_3x3 0 sep_conv_3x3 3"
            " | sep_conv_3x3 0 dil_conv_5x5 2",
        ),
        "Li et al., CVPR 2020, criterion 2; lightaime/sgas, cnn/genotypes.py, Cri2_CIFAR_1",
        (Size("CIFAR-10", 36, 6, 4.14, digits=2),),
    ),
    "SGAS_CRI2_3": Published(
        _genotype(
            "sep_conv_3x3 0 sep_conv_3x3 1 | sep_conv_3x3 0 sep_conv_3x3 2 | max_pool_3x3 0 sep_conv_3x3 3"
            " | sep_conv_3x3 2 sep_conv_3x3 3",
            "sep_conv_3x3 0 max_pool_3x3 1 | dil_conv_3x3 0 max_pool_3x3 1 | max_pool_3x3 0 sep_conv_3x3 2"
            " | max_pool_3x3 0 sep_conv_5x5 2",
        ),
        "Li et al., CVPR 2020, criterion 2; lightaime/sgas, cnn/genotypes.py, Cri2_CIFAR_3",
        (Size("CIFAR-10", 36, 6, 4.09, digits=2),),
    ),
    "SGAS_CRI2_4": Published(
        _genotype(
            "sep_conv_3x3 0 sep_conv_3x3 1 | sep_conv_3x3 0 sep_conv_3x3 1 | dil_conv_5x5 0 dil_conv_3x3 2"
            " | sep_conv_3x3 1 dil_conv_5x5 3",
            "sep_conv_5x5 0 dil_conv_3x3 1 | max_pool_3x3 0 max_pool_3x3 1 | dil_conv_3x3 0 dil_conv_5x5 2"
            " | max_pool_3x3 0 avg_pool_3x3 1",
        ),
        "Li et al., CVPR 2020, criterion 2; lightaime/sgas, cnn/genotypes.py, Cri2_CIFAR_4",
        (Size("CIFAR-10", 36, 6, 3.91, digits=2),),
    ),
    "SGAS_CRI2_5": Published(
        _genotype(
            "sep_conv_3x3 0 sep_conv_5x5 1 | skip_connect 0 sep_conv_5x5 1 | dil_conv_3x3 1 dil_conv_3x3 2"
            " | sep_conv_3x3 2 dil_conv_5x5 3",
            "sep_conv_5x5 0 skip_connect 1 | max_pool_3x3 1 sep_conv_5x5 2 | max_pool_3x3 0 sep_conv_5x5 3"
            " | max_pool_3x3 0 skip_connect 2",
        ),
        "Li et al., CVPR 2020, criterion 2; lightaime/sgas, cnn/genotypes.py, Cri2_CIFAR_5",
        (Size("CIFAR-10", 36, 6, 3.69, digits=2),),
    ),
    "DRNAS_CIFAR10": Published(
        _genotype(
            "sep_conv_3x3 0 sep_conv_5x5 1 | sep_conv_3x3 1 sep_conv_3x3 2 | skip_connect 0 sep_conv_3x3 1"
            " | sep_conv_3x3 2 dil_conv_5x5 3",
            "max_pool_3x3 0 sep_conv_5x5 1 | dil_conv_5x5 2 sep_conv_5x5 1 | sep_conv_5x5 1 dil_conv_5x5 3"
            " | skip_connect 4 sep_conv_5x5 1",
        ),
        "Chen et al., ICLR 2021, searched on CIFAR-10; xiangning-chen/DrNAS, DARTS-space/genotypes.py",
    ),
    "DRNAS_IMAGENET": Published(
        _genotype(
            "sep_conv_3x3 1 sep_conv_3x3 0 | sep_conv_3x3 0 sep_conv_3x3 1 | sep_conv_3x3 0 dil_conv_3x3 3"
            " | skip_connect 0 sep_conv_3x3 1",
            "max_pool_3x3 0 sep_conv_3x3 1 | sep_conv_3x3 0 skip_connect 2 | sep_conv_3x3 0 sep_conv_3x3 2"
            " | sep_conv_3x3 3 sep_conv_3x3 1",
        ),
        "Chen et al., ICLR 2021, searched on ImageNet; xiangning-chen/DrNAS, DARTS-space/genotypes.py",
    ),
    "SDARTS_RS": Published(
        _genotype(
            "sep_conv_3x3 1 sep_conv_3x3 0 | sep_conv_5x5 1 skip_connect 0 | sep_conv_3x3 3 skip_connect 1"
            " | sep_conv_3x3 1 dil_conv_3x3 2",
            "max_pool_3x3 0 sep_conv_3x3 1 | skip_connect 2 max_pool_3x3 0 | dil_conv_5x5 3 max_pool_3x3 0"
            " | sep_conv_3x3 2 sep_conv_5x5 3",
        ),
        "Chen and Hsieh, ICML 2020, random smoothing; xiangning-chen/SmoothDARTS, sota/cnn/genotypes.py, c10_s5_random",
    ),
    "SDARTS_ADV": Published(
        _genotype(
            "sep_conv_3x3 0 sep_conv_3x3 1 | sep_conv_3x3 1 skip_connect 0 | sep_conv_5x5 0 dil_conv_3x3 3"
            " | dil_conv_3x3 4 skip_connect 0",
            "max_pool_3x3 0 sep_conv_5x5 1 | skip_connect 2 max_pool_3x3 0 | skip_connect 3 skip_connect 2"
            " | skip_connect 2 sep_conv_5x5 4",
        ),
        "Chen and Hsieh, ICML 2020, adversarial; xiangning-chen/SmoothDARTS, sota/cnn/genotypes.py, c10_s5_pgd",
        (Size("CIFAR-10", 36, 6, 3.3),),
    ),
    "SHAPLEY_NAS_CIFAR10": Published(
        _genotype(
            "sep_conv_3x3 0 sep_conv_3x3 1 | sep_conv_3x3 1 dil_conv_3x3 0 | dil_conv_3x3 2 skip_connect 3"
            " | sep_conv_3x3 1 dil_conv_5x5 3",
            "sep_conv_3x3 1 max_pool_3x3 0 | dil_conv_5x5 2 sep_conv_3x3 0 | sep_conv_3x3 2 max_pool_3x3 0"
            " | dil_conv_3x3 3 skip_connect 2",
        ),
        "Xiao et al., CVPR 2022, searched on CIFAR-10; Euphoria16/Shapley-NAS, genotypes.py",
    ),
    "SHAPLEY_NAS_IMAGENET": Published(
        _genotype(
            "sep_conv_3x3 1 sep_conv_5x5 0 | dil_conv_5x5 2 skip_connect 1 | sep_conv_3x3 2 sep_conv_5x5 0"
            " | sep_conv_3x3 1 skip_connect 2",
            "sep_conv_3x3 1 dil_conv_3x3 0 | avg_pool_3x3 2 sep_conv_5x5 1 | sep_conv_3x3 3 skip_connect 1"
            " | sep_conv_3x3 2 sep_conv_3x3 4",
        ),
        "Xiao et al., CVPR 2022, searched on ImageNet; Euphoria16/Shapley-NAS, genotypes.py",
    ),
    "RELATIVE_NAS": Published(
        _genotype(
            "sep_conv_3x3 0 dil_conv_5x5 1 | sep_conv_3x3 1 sep_conv_3x3 1 | sep_conv_3x3 1 sep_conv_5x5 1"
            " | skip_connect 0 sep_conv_3x3 0",
            "avg_pool_3x3 1 max_pool_3x3 1 | dil_conv_5x5 1 max_pool_3x3 1 | avg_pool_3x3 3 skip_connect 1"
            " | dil_conv_5x5 3 sep_conv_3x3 1",
        ),
        "Tan et al., TNNLS 2021; EMI-Group/RelativeNAS, genotypes.py",
        (Size("CIFAR-10", 36, 6, 3.93, digits=2),),
    ),
    "TENAS_IMAGENET": Published(
        _genotype(
            "dil_conv_5x5 0 sep_conv_5x5 1 | sep_conv_5x5 0 sep_conv_3x3 1 | sep_conv_5x5 0 skip_connect 2"
            " | dil_conv_5x5 1 dil_conv_5x5 3",
            "dil_conv_5x5 0 sep_conv_3x3 1 | dil_conv_3x3 0 sep_conv_3x3 1 | sep_conv_5x5 1 sep_conv_5x5 3"
            " | skip_connect 3 sep_conv_5x5 4",
        ),
        "Chen et al., ICLR 2021, searched on ImageNet; chenwydj/DARTS_evaluation, genotypes.py",
    ),
}
