"""The cells of NAS-Bench-201: text form, encoding, uniform and fair draws, isomorphism."""

import itertools
import json

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from setn_lab.network.operations import build_operation
from setn_lab.space import nasbench201
from setn_lab.space.genotype import GenotypeError
from setn_lab.space.nasbench201 import EDGES, OPERATIONS_201, NASBench201Genotype, NASBench201Space
from setn_lab.space.setn import SMALL, SearchSpace
from setn_lab.space.zoo import ZOO

SPACE = NASBench201Space()
TEXT = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|skip_connect~2|"


def test_the_text_form_names_each_edge():
    genotype = NASBench201Genotype.from_text(TEXT)
    nodes = [part.strip("|").split("|") for part in TEXT.split("+")]  # read by splitting instead
    expected = {(node, int(one[-1])): one[:-2] for node, parts in enumerate(nodes) for one in parts}
    assert dict(zip(EDGES, genotype.operations, strict=True)) == expected
    assert genotype.to_text() == TEXT
    assert NASBench201Genotype.from_json(genotype.to_json()) == genotype
    assert json.loads(genotype.to_json()) == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT[:-1],
        TEXT.replace("~1|+", "~0|+", 1),
        TEXT.replace("none", "None"),
        TEXT.replace("+", "-"),
        TEXT + "x",
        TEXT.replace("none", "sep_conv_3x3"),
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(GenotypeError, match=r"given; the form \|op~0\||unknown operation 'sep_conv_3x3'"):
        NASBench201Genotype.from_text(text)


def test_cells_of_the_other_space_are_named():
    with pytest.raises(GenotypeError, match=r"normal and a reduction cell.*is needed here: \|op~0\|"):
        NASBench201Genotype.from_text(ZOO["SETN"].genotype.to_darts())
    with pytest.raises(GenotypeError, match=r"normal and a reduction cell.*is needed here: \|op~0\|"):
        NASBench201Genotype.from_json(ZOO["SETN"].genotype.to_json())


def test_a_mutation_changes_one_edge_and_reaches_every_neighbour_equally_often():
    rng, every = np.random.default_rng(0), nasbench201.every()
    for start in every[[0, 777, 15624]]:
        neighbours = every[(every != start).sum(1) == 1]
        before = start.copy()
        found = np.array([SPACE.mutate(rng, start[None])[0] for _ in range(4800)])
        assert np.array_equal(start, before)
        numbers, counts = np.unique(nasbench201.number(found), return_counts=True)
        assert numbers.tolist() == nasbench201.number(neighbours).tolist()
        assert chisquare(counts).pvalue > 1e-4


def test_a_byte_order_mark_is_passed_over():
    assert NASBench201Genotype.from_text(f"\ufeff{TEXT}\n").to_text() == TEXT


def test_bad_json_and_a_wrong_number_of_operations_are_refused():
    with pytest.raises(GenotypeError, match="this is not JSON"):
        NASBench201Genotype.from_json("{")
    with pytest.raises(GenotypeError, match=r"5 operations .*6 edges"):
        NASBench201Genotype(("none",) * 5)


def test_every_architecture_has_a_number_and_a_genotype():
    every = nasbench201.every()
    np.testing.assert_array_equal(nasbench201.number(every), np.arange(5**6))
    assert SPACE.count_architectures() == len(every) == len({tuple(one) for one in every.tolist()})
    for place in (0, 1, 77, 15_624):
        digits = np.base_repr(place, 5).zfill(6)
        genotype = SPACE.genotype(every[place][None])
        assert genotype.operations == tuple(OPERATIONS_201[int(digit)] for digit in digits)
        np.testing.assert_array_equal(SPACE.encode(genotype), every[place][None])
        assert SPACE.read(SPACE.write(genotype)) == genotype


def test_terms_are_the_operations_of_each_node():
    cell = np.array([4, 2, 1, 0, 3, 1])
    assert SPACE.terms(cell) == [[(4, 0)], [(2, 0), (1, 1)], [(0, 0), (3, 1), (1, 2)]]
    assert [SPACE.inputs(node) for node in range(SPACE.nodes)] == [1, 2, 3]


def test_draws_are_uniform_on_each_edge():
    drawn = SPACE.sample(np.random.default_rng(0), 4000, 1)
    assert drawn.shape == (4000, 1, 6)
    for edge in range(6):
        counts = np.bincount(drawn[:, 0, edge], minlength=5)
        assert (np.abs(counts - 800) < 5 * (4000 * 0.2 * 0.8) ** 0.5).all()


def test_connected_draws_are_uniform_among_the_cells_whose_nodes_all_have_an_operation():
    allowed = {
        tuple(cell.tolist())
        for cell in nasbench201.every()
        if all(any(operation != 0 for operation, _ in terms) for terms in SPACE.terms(cell))
    }
    assert len(allowed) == 4 * 24 * 124
    drawn = SPACE.connected(np.random.default_rng(0), 3000, 2).reshape(-1, 6)
    assert {tuple(cell.tolist()) for cell in drawn} <= allowed
    for edge in range(6):
        counts = np.bincount(drawn[:, edge], minlength=5)
        expected = np.bincount([cell[edge] for cell in allowed], minlength=5) * len(drawn) / len(allowed)
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected) + 1).all()


def test_a_fair_round_uses_each_operation_once_on_each_edge():
    drawn = SPACE.fair(np.random.default_rng(0), 7)
    assert drawn.shape == (5, 7, 6)
    np.testing.assert_array_equal(np.sort(drawn, axis=0), np.broadcast_to(np.arange(5)[:, None, None], drawn.shape))
    assert len({tuple(drawn[:, cell, edge]) for cell in range(7) for edge in range(6)}) > 20  # orders of their own


def test_a_fair_round_of_the_papers_space_uses_each_operation_once_on_each_input():
    space = SearchSpace(SMALL, 3)
    drawn = space.fair(np.random.default_rng(0), 5)
    assert drawn.shape == (6, 5, 3, 4)
    np.testing.assert_array_equal(
        np.sort(drawn[..., :2], axis=0), np.broadcast_to(np.arange(6)[:, None, None, None], (6, 5, 3, 2))
    )
    assert (drawn[..., 2:] == drawn[:1, ..., 2:]).all()  # the inputs stay the same within a round
    limits = np.array([space.inputs(node) for node in range(3)])
    assert (drawn[..., 2:] < limits[:, None]).all()


def outcomes(architecture, maps):
    """The cell's output for each way to give its convolutions weights of their own: nothing is left out or sorted."""
    kinds = [[edge for edge in range(6) if architecture[edge] == kind] for kind in (2, 3)]
    for choice in itertools.product(*(itertools.permutations(range(WEIGHTS), len(edges)) for edges in kinds)):
        own = dict.fromkeys(range(6), maps[2])  # of the pools
        for kind in (0, 1):
            own |= {edge: maps[kind][place] for edge, place in zip(kinds[kind], choice[kind], strict=True)}
        states = [np.linspace(-1, 1, 3)]
        for node in range(3):
            total = np.zeros(3)
            for edge, (head, state) in enumerate(EDGES):
                if head == node:
                    x, operation = states[state], architecture[edge]
                    # something odd after each map: without it, two maps in a row would commute with sums
                    total = total + (operation * x if operation < 2 else np.tanh(own[edge] @ x))
            states.append(total)
        yield tuple(np.round(states[-1], 9) + 0.0)


WEIGHTS = 3


def test_isomorphic_cells_are_the_same_network_and_others_are_not():
    """Linear maps without a constant stand for weights: isomorphic cells give the same outputs over all of them."""
    rng = np.random.default_rng(0)
    maps = [*rng.normal(size=(2, WEIGHTS, 3, 3)), rng.normal(size=(3, 3))]
    every = nasbench201.every()
    few = ((every == 2).sum(1) <= WEIGHTS) & ((every == 3).sum(1) <= WEIGHTS)
    chosen = rng.choice(np.flatnonzero(few), 1500, replace=False)
    by_class: dict[object, set] = {}
    by_outcome: dict[tuple, set] = {}
    for architecture in every[chosen]:
        found = tuple(sorted(set(outcomes(architecture.tolist(), maps))))
        form = nasbench201.isomorphism_class(SPACE.genotype(architecture))
        by_class.setdefault(form, set()).add(found)
        by_outcome.setdefault(found, set()).add(form)
    assert all(len(found) == 1 for found in by_class.values())
    assert all(len(forms) == 1 for forms in by_outcome.values())
    assert len(by_class) < len(chosen) - 100


def test_a_convolution_read_twice_is_not_two_convolutions():
    twice = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|"
    two = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|"
    mirrored = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    forms = [nasbench201.isomorphism_class(NASBench201Genotype.from_text(text)) for text in (twice, two, mirrored)]
    assert len(set(forms)) == 3


def test_the_operations_have_modules():
    for name, stride in itertools.product(OPERATIONS_201, (1,)):
        x = torch.randn(2, 4, 6, 6)
        assert build_operation(name, 4, stride)(x).shape == x.shape
