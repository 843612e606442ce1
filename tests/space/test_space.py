"""The search space against brute-force enumeration, the paper read literally, and chi-square tests."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import chisquare

from setn_lab.compute.streams import generator
from setn_lab.space.genotype import Genotype, GenotypeError
from setn_lab.space.setn import LARGE, SMALL, SearchSpace, pair_index, pair_operations
from setn_lab.space.zoo import ZOO


def architecture(quadruple):
    """What a node computes, as a multiset of its two edges: equal for two encodings of one node."""
    r1, r2, t, u = (int(value) for value in quadruple)
    return tuple(sorted([(r1, t), (r2, u)]))


def all_nodes(operations, inputs):
    """Every quadruple of Eq. 2-3 with r2 <= r1, by four loops."""
    return [
        (r1, r2, t, u)
        for r1, r2, t, u in itertools.product(range(operations), range(operations), range(inputs), range(inputs))
        if r2 <= r1
    ]


def equation_8(r):
    """r1 and r2 as the paper prints them, everything counted from 1."""
    n = 1
    while sum(k for k in range(1, n + 1)) < r:
        n += 1
    return n, r - sum(k for k in range(1, n))


@pytest.mark.parametrize(
    ("operations", "paper", "encodings", "distinct"),
    [(SMALL, "9.1e+16", "7.84e+18", "3.46e+18"), (LARGE, "9.1e+18", "5.85e+20", "3.12e+20")],
    ids=["small", "large"],
)
def test_counts_are_the_published_ones(operations, paper, encodings, distinct):
    space = SearchSpace(operations)
    size = len(operations)
    assert space.count_paper() == math.prod(math.comb(i, 2) * size**2 for i in (2, 3, 4, 5)) ** 2
    assert space.count_encodings() == math.prod(len(all_nodes(size, i)) for i in (2, 3, 4, 5)) ** 2
    per_node = [len(set(map(architecture, all_nodes(size, i)))) for i in (2, 3, 4, 5)]
    assert space.count_architectures() == math.prod(per_node) ** 2
    assert f"{space.count_paper():.1e}" == paper
    assert f"{space.count_encodings():.2e}" == encodings
    assert f"{space.count_architectures():.2e}" == distinct


def every_architecture(space):
    """All canonical architectures of a tiny space, as nested tuples."""
    nodes = [all_nodes(len(space.operations), space.inputs(node)) for node in range(space.nodes)]
    cells = list(itertools.product(*nodes))
    pairs = space.canonical(np.array(list(itertools.product(cells, cells))))
    return np.unique(pairs, axis=0)


def terms_of(quadruples):
    """What each node of both cells sums: (cell type, node) to a multiset."""
    return {(kind, node): architecture(one) for kind, cell in enumerate(quadruples) for node, one in enumerate(cell)}


def one_place_apart(one, other):
    """Whether a single operation or a single input of a single node differs, whichever way terms are paired."""
    one, other = terms_of(one), terms_of(other)
    differing = [key for key in one if one[key] != other[key]]
    if len(differing) != 1:
        return False
    (first, second), old = one[differing[0]], other[differing[0]]
    changes = [
        sum(a != b for x, y in zip((first, second), pair, strict=True) for a, b in zip(x, y, strict=True))
        for pair in (old, old[::-1])
    ]
    return min(changes) == 1


@pytest.mark.parametrize(("operations", "nodes"), [(SMALL[:3], 1), (SMALL[:1], 2)])
def test_a_mutation_changes_one_place_and_reaches_every_neighbour(operations, nodes):
    space = SearchSpace(operations, nodes)
    everything = every_architecture(space)
    assert len(everything) == space.count_architectures()
    rng = generator(0, "mutations")
    for start in everything[:: len(everything) // 5]:
        before = start.copy()
        found = {space.mutate(rng, start).tobytes() for _ in range(3000)}
        assert np.array_equal(start, before)
        assert found == {other.tobytes() for other in everything if one_place_apart(start, other)}


def test_mutations_change_each_place_and_value_equally_often():
    space = SearchSpace(SMALL, 3)
    start = np.tile(np.array([[5, 0, 0, 1], [4, 1, 1, 0], [3, 2, 3, 2]]), (2, 1, 1))  # stays in order, mostly
    rng, counts = generator(1, "mutations"), np.zeros(start.shape)
    assert np.array_equal(space.canonical(start), start)
    number = 24_000
    for _ in range(number):
        terms, old = space.mutate(rng, start), start
        swapped = terms[..., [1, 0, 3, 2]]
        same = np.where(((terms != old).sum(-1) <= (swapped != old).sum(-1))[..., None], terms, swapped)
        assert (same != old).sum() == 1
        counts += same != old
    assert chisquare(counts.ravel()).pvalue > 1e-4


def test_counts_of_one_node_are_the_published_ones():
    nodes = [list(all_nodes(6, states)) for states in (2, 3, 4, 5)]
    assert [len(each) for each in nodes] == [84, 189, 336, 525]
    assert [len(set(map(architecture, each))) for each in nodes] == [78, 171, 300, 465]


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("size", [2, 3])
def test_counts_against_the_enumeration_of_whole_cells(nodes, size):
    space = SearchSpace(SMALL[:size], nodes)
    cells = list(itertools.product(*(all_nodes(size, node + 2) for node in range(nodes))))
    canonical = space.canonical(np.array(cells))
    distinct = {cell.tobytes() for cell in canonical}
    assert len(distinct) == len({tuple(map(architecture, cell)) for cell in cells})
    assert space.count_encodings() == len(cells) ** 2  # the normal and the reduction cell are independent
    assert space.count_architectures() == len(distinct) ** 2
    both_orders = [  # the paper's formula: two different inputs in one order, two operations in any
        list(itertools.product(itertools.combinations(range(2 + node), 2), range(size), range(size)))
        for node in range(nodes)
    ]
    assert space.count_paper() == len(list(itertools.product(*both_orders))) ** 2


def test_pair_index_is_equation_8():
    for r in range(1, 200):
        r1, r2 = equation_8(r)
        assert [int(value) for value in pair_operations(r - 1)] == [r1 - 1, r2 - 1]
        assert pair_index(r1 - 1, r2 - 1) == r - 1
    r = np.arange(36).reshape(4, 9)
    r1, r2 = pair_operations(r)
    assert r1.shape == r2.shape == r.shape
    assert (r2 <= r1).all()
    np.testing.assert_array_equal(pair_index(r1, r2), r)
    assert [part.shape for part in pair_operations(np.empty((0, 4), dtype=np.int64))] == [(0, 4)] * 2


def test_large_pair_indices_are_exact():
    last = 1500
    for r1 in (last - 1, last):
        for r2 in (0, r1):
            assert [int(value) for value in pair_operations(r1 * (r1 + 1) // 2 + r2)] == [r1, r2]


@pytest.mark.parametrize("operations", [SMALL, LARGE], ids=["small", "large"])
def test_sampling_is_uniform_over_inputs_and_pairs(operations):
    space = SearchSpace(operations)
    drawn = space.sample(generator(0, "test sampling"), 20_000)
    assert drawn.shape == (20_000, 4, 4)
    assert space.sample(generator(0, "test sampling"), 3, 2).shape == (3, 2, 4, 4)
    for node in range(4):
        r1, r2, t, u = drawn[:, node].T
        pairs = np.bincount(pair_index(r1, r2), minlength=space.pairs)
        assert len(pairs) == space.pairs
        joint = np.bincount(t * space.inputs(node) + u, minlength=space.inputs(node) ** 2)
        assert len(joint) == space.inputs(node) ** 2  # both inputs, and independent of each other
        whole = pair_index(r1, r2) * len(joint) + t * space.inputs(node) + u
        for counts in (pairs, joint, np.bincount(whole, minlength=len(pairs) * len(joint))):
            assert chisquare(counts).pvalue > 1e-3
    across = drawn[:, 0, 2] * 5 + drawn[:, 3, 2]  # nodes are independent of each other too
    assert chisquare(np.bincount(across, minlength=10)).pvalue > 1e-3


def test_sampling_is_a_function_of_its_stream():
    space = SearchSpace()
    first, again, other = (space.sample(generator(1, "draw", step), 50) for step in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_canonical_is_equal_exactly_for_equal_architectures():
    space = SearchSpace(SMALL[:3], 2)
    for node in range(2):
        rows = list(itertools.product(range(3), range(3), range(node + 2), range(node + 2)))  # r2 > r1 as well
        canonical = [tuple(row) for row in space.canonical(np.array(rows)).tolist()]
        for row, one in zip(rows, canonical, strict=True):
            assert architecture(row) == architecture(one)
            assert one[1] < one[0] or (one[0] == one[1] and one[2] <= one[3])
        assert len(set(canonical)) == len(set(map(architecture, rows)))


def test_canonical_swaps_each_node_alone_and_keeps_its_argument():
    space = SearchSpace(LARGE)
    drawn = space.sample(generator(2, "canonical"), 40, 2)
    before = drawn.copy()
    swapped = drawn[..., [1, 0, 3, 2]]
    mixed = np.where(np.arange(4)[:, None] % 2 == 0, drawn, swapped)
    expected = space.canonical(drawn)
    for other in (swapped, mixed, expected):
        np.testing.assert_array_equal(space.canonical(other), expected)
    np.testing.assert_array_equal(drawn, before)


@pytest.mark.parametrize("nodes", [1, 4, 5])
def test_genotypes_and_quadruples_round_trip(nodes):
    space = SearchSpace(LARGE, nodes)
    for drawn in space.sample(generator(3, "round trip"), 30, 2):
        genotype = space.genotype(drawn)
        np.testing.assert_array_equal(space.encode(genotype), space.canonical(drawn))
        assert space.genotype(drawn[..., [1, 0, 3, 2]]) == genotype
        for cell, (_, nodes_of_cell, concat) in zip(drawn, genotype.cells, strict=True):
            assert concat == tuple(range(2, 2 + nodes))
            for (r1, r2, t, u), node in zip(cell, nodes_of_cell, strict=True):
                assert sorted(node) == sorted([(LARGE[r1], t), (LARGE[r2], u)])


def test_published_genotypes_lie_in_the_large_space_or_say_why_not():
    space, outside = SearchSpace(LARGE), []
    for name, published in ZOO.items():
        genotype = published.genotype
        used = {operation for _, cell, _ in genotype.cells for node in cell for operation, _ in node}
        every = all(len(cell) == 4 and sorted(concat) == [2, 3, 4, 5] for _, cell, concat in genotype.cells)
        if used <= set(LARGE) and every:
            assert space.genotype(space.encode(genotype)) == genotype
        else:
            outside.append(name)
            with pytest.raises(GenotypeError, match=r"nodes .* given|is not in this"):
                space.encode(genotype)
    assert set(outside) == {"NASNET", "AMOEBANET", "PNASNET", "ENAS", "SNAS_AGGRESSIVE"}


def test_edges_are_numbered_node_by_node():
    space = SearchSpace()
    assert len(space.edges) == 14
    assert space.edges[:5] == ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))
    assert space.edges[-1] == (3, 4)
    assert [space.inputs(node) for node in range(4)] == [2, 3, 4, 5]
    assert SearchSpace(LARGE).pairs == len(list(itertools.combinations_with_replacement(LARGE, 2)))


def test_a_genotype_outside_the_space_says_where():
    setn = ZOO["SETN"].genotype
    with pytest.raises(GenotypeError, match=r"normal: 4 nodes .* 5 nodes"):
        SearchSpace(SMALL, 5).encode(setn)
    with pytest.raises(GenotypeError, match=r"reduce, node 4: operation 'dil_conv_5x5' is not in this"):
        SearchSpace(SMALL).encode(ZOO["GDAS"].genotype)
    partial = Genotype(setn.normal, setn.normal_concat, setn.reduce, (3, 4, 5))
    with pytest.raises(GenotypeError, match=r"reduce: 4 nodes and concatenation \(3, 4, 5\) given"):
        SearchSpace(SMALL).encode(partial)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("sep_conv_3x3", "sep_conv"),), "operations: .*'sep_conv'"),
        ((("skip_connect", "skip_connect"),), "operations: "),
        (((),), "operations: "),
        ((SMALL, 0), "nodes: 0 given"),
    ],
)
def test_a_space_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(GenotypeError, match=message):
        SearchSpace(*arguments)


def test_importing_the_space_loads_neither_torch_nor_matplotlib():
    code = (
        "import sys; import setn_lab.space, setn_lab.space.zoo; "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
