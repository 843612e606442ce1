"""The cells of NAS-Bench-201: text form, encoding, uniform and fair draws, isomorphism."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

from setn_lab import edge_space, ops
from setn_lab.edge_space import EDGES, OPERATIONS_201, EdgeGenotype, EdgeSpace
from setn_lab.genotype import GenotypeError
from setn_lab.space import SMALL, SearchSpace

SPACE = EdgeSpace()
TEXT = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|skip_connect~2|"


def test_the_text_form_names_each_edge():
    genotype = EdgeGenotype.from_text(TEXT)
    nodes = [part.strip("|").split("|") for part in TEXT.split("+")]  # read by splitting instead
    expected = {(node, int(one[-1])): one[:-2] for node, parts in enumerate(nodes) for one in parts}
    assert dict(zip(EDGES, genotype.operations, strict=True)) == expected
    assert genotype.to_text() == TEXT
    assert EdgeGenotype.from_json(genotype.to_json()) == genotype
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
        EdgeGenotype.from_text(text)


def test_bad_json_and_a_wrong_number_of_operations_are_refused():
    with pytest.raises(GenotypeError, match="this is not JSON"):
        EdgeGenotype.from_json("{")
    with pytest.raises(GenotypeError, match="5 operations given; this cell has 6 edges"):
        EdgeGenotype(("none",) * 5)


def test_every_architecture_has_a_number_and_a_genotype():
    every = edge_space.every()
    np.testing.assert_array_equal(edge_space.number(every), np.arange(5**6))
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


def outcome(architecture, x, modules):
    """The cell's output, written out: nothing is left out and nothing is sorted."""
    states = [x]
    for node in range(3):
        total = torch.zeros_like(x)
        for (head, state), operation in zip(EDGES, architecture, strict=True):
            if head == node:
                total = total + modules[operation](states[state])
        states.append(total)
    return states[-1]


def test_isomorphic_cells_compute_the_same_and_others_do_not():
    """Linear maps without a constant stand for the convolutions and the pool, one for each operation."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(9, 9, generator=generator, dtype=torch.float64) / 3 for _ in range(3)]
    # something odd after each map: without it, two maps in a row would commute with sums
    modules = [torch.zeros_like, nn.Identity(), *(lambda x, m=m: torch.tanh(x @ m) for m in maps)]
    x = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    by_class: dict[int, torch.Tensor] = {}
    rng = np.random.default_rng(0)
    chosen = rng.choice(5**6, 2500, replace=False)
    classes = edge_space.isomorphism_classes()
    for place in chosen:
        result = outcome(edge_space.every()[place], x, modules)
        known = by_class.setdefault(int(classes[place]), result)
        torch.testing.assert_close(result, known, rtol=1e-10, atol=1e-12)
    results = torch.stack(list(by_class.values())).flatten(1)
    distances = torch.cdist(results, results) + torch.eye(len(results), dtype=torch.float64)
    assert distances.min() > 1e-6
    assert len(by_class) < len(chosen)


def test_the_benchmarks_own_rule_never_joins_what_is_not_isomorphic():
    """Its authors count 6,466 cells: they do not sum up what a skip connection carries, nor drop what is nothing."""

    def text(architecture):
        states = ["0"]
        edges = iter(architecture)
        for node in range(3):
            parts = []
            for state in range(node + 1):
                operation = OPERATIONS_201[next(edges)]
                if operation == "none" or states[state] == "#":
                    parts.append("#")
                elif operation == "skip_connect":
                    parts.append(states[state])
                else:
                    parts.append(f"({states[state]})@{operation}")
            states.append("+".join(sorted(parts)))
        return states[-1]

    theirs: dict[str, set[int]] = {}
    classes = edge_space.isomorphism_classes()
    for place, architecture in enumerate(edge_space.every().tolist()):
        theirs.setdefault(text(architecture), set()).add(int(classes[place]))
    assert len(theirs) == 6466
    assert all(len(ours) == 1 for ours in theirs.values())
    assert EdgeGenotype.from_text(TEXT).function == classes[edge_space.number(EdgeGenotype.from_text(TEXT).array)]


def test_the_operations_have_modules():
    for name, stride in itertools.product(OPERATIONS_201, (1,)):
        x = torch.randn(2, 4, 6, 6)
        assert ops.build(name, 4, stride, affine=True)(x).shape == x.shape
