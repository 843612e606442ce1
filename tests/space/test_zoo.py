"""The published cells: where each is from, that none stands there twice, and its printed size."""

import pytest

from setn_lab.network import discrete
from setn_lab.network.costs import cost
from setn_lab.network.discrete import CifarNetwork
from setn_lab.space.genotype import Genotype
from setn_lab.space.named import resolve
from setn_lab.space.zoo import ZOO

# As the repositories of their authors print them: kinds of text that the short form is not.
RELEASED = {
    "AMOEBANET": "Genotype(normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2), "
    "('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0), "
    "('avg_pool_3x3', 1)], normal_concat=[4, 5, 6], reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1), "
    "('max_pool_3x3', 0), ('sep_conv_7x7', 2), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)], reduce_concat=[3, 4, 6])",
    "PDARTS": "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0),('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3',0), ('dil_conv_5x5', 4)], normal_concat=range(2, 6), "
    "reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 0), "
    "('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)], reduce_concat=range(2, 6))",
}
PRINTED = [
    (name, size)
    for name, published in ZOO.items()
    for size in published.sizes
    if size.data == "CIFAR-10" and size.parameters is not None
]


def test_there_are_many_and_each_says_where_it_is_from():
    assert len(ZOO) >= 30
    assert len({published.genotype for published in ZOO.values()}) == len(ZOO), "one stands there twice"
    assert all(published.source for published in ZOO.values())


@pytest.mark.parametrize("name", RELEASED)
def test_a_cell_is_the_text_that_was_released(name):
    assert ZOO[name].genotype == Genotype.from_darts(RELEASED[name])


@pytest.mark.parametrize(("name", "size"), PRINTED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_network_has_its_printed_millions_of_parameters(name, size, monkeypatch):
    monkeypatch.setattr(discrete, "initialize", lambda *_: None)  # it takes time, and no weight is looked at
    network = CifarNetwork(ZOO[name].genotype, size.channels, size.repeats, 10)
    found = cost(network, 8).parameters  # parameters do not depend on the images
    assert (round(found / 1e6, size.digits) == size.parameters) != bool(size.remark)
    assert size.exact in (None, found)


@pytest.mark.parametrize("name", ["NASNET", "AMOEBANET", "PNASNET", "ENAS"])
def test_cells_of_five_nodes_can_be_built(name):
    genotype = resolve(name)[1]
    assert [len(cell) for _, cell, _ in genotype.cells] == [5, 5]
    network = CifarNetwork(genotype, 4, 1, 10)
    assert cost(network, 8).parameters == sum(value.numel() for value in network.parameters())
