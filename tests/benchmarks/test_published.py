"""The table of printed sizes: each row beside the formulas for the network of that row."""

from dataclasses import replace

import published
import pytest
from references import cost_by_hand

from setn_lab.network import discrete
from setn_lab.network.costs import Cost
from setn_lab.space.zoo import ZOO, Size

FEW = {  # whose rows are of each kind; the sizes of all others are held in test_zoo.py
    name: ZOO[name]
    for name in ("SETN", "GDAS", "DARTS_V1", "DARTS_V2", "AMOEBANET", "SNAS_MILD", "PC_DARTS_IMAGENET", "FAIRDARTS_D")
}


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discrete, "initialize", lambda *_: None)  # costs are not those of the weights
        patch.setattr(published, "ZOO", FEW)
        return table_rows()


def table_rows():
    lines = [line for line in published.table().splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_printed_size_has_a_row_with_the_networks_cost(rows):
    expected = [(name, size) for name, one in FEW.items() for size in one.sizes or published.DEFAULT]
    assert len(rows) == len(expected) > 12
    for row, (name, size) in zip(rows, expected, strict=True):
        kind, side, classes = ("imagenet", 224, 1000) if size.data == "ImageNet" else ("cifar", 32, 10)
        counted = cost_by_hand(kind, ZOO[name].genotype, size.channels, size.repeats, classes, side)
        assert row[:4] == [name, size.data, str(size.channels), str(size.repeats)]
        assert row[4] == f"{counted.parameters:,}"
        assert row[6] == f"{counted.multiply_adds / 1e6:.1f} M"


def test_all_but_the_row_that_is_known_not_to_be_are_reproduced(rows):
    wrong = [(row[0], row[1]) for row in rows if row[5] and "reproduced" not in row[8].replace("not reproduced", "")]
    assert wrong == [("DARTS_V2", "ImageNet"), ("PC_DARTS_IMAGENET", "ImageNet"), ("FAIRDARTS_D", "CIFAR-10")]
    (exact,) = (row for row in rows if "exactly" in row[8])
    assert [exact[0], exact[1], exact[4]] == ["DARTS_V2", "CIFAR-10", "3,349,342"]


@pytest.mark.parametrize(
    ("parameters", "adds", "text"),
    [
        (5_249_999, 597_499_999, "reproduced"),
        (5_250_001, 597_000_000, "**parameters not reproduced**"),
        (5_200_000, 597_500_001, "**multiply-adds not reproduced**: why"),
        (5_149_999, 596_499_999, "**parameters and multiply-adds not reproduced**"),
    ],
)
def test_a_figure_is_reproduced_when_it_rounds_to_the_printed_one(parameters, adds, text):
    size = Size("ImageNet", 73, 1, 5.2, 597, remark="why")
    assert published.verdict(size, Cost(parameters, adds)).startswith(text)
    exact = replace(size, exact=parameters - 1, multiply_adds=None)
    assert "not reproduced" in published.verdict(exact, Cost(parameters, adds))
    assert published.verdict(replace(exact, exact=parameters), Cost(parameters, adds)) == "reproduced exactly"
