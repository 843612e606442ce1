"""Genotypes: texts round trip, equality is that of architectures, and no text is ever evaluated."""

import ast
import itertools
import json
import random

import pytest

from setn_lab.space.genotype import FIELDS, OPERATIONS, Genotype, GenotypeError
from setn_lab.space.zoo import ZOO

CELL = "[('skip_connect', 0), ('sep_conv_3x3', 1)]"
NODES = ((("skip_connect", 0), ("sep_conv_3x3", 1)),)


def random_genotype(rng, nodes):
    """A genotype of `nodes` nodes that concatenates some of them, in any order."""
    cells, concats = [], []
    for _ in range(2):
        cells.append(
            tuple(tuple((rng.choice(OPERATIONS), rng.randrange(node + 2)) for _ in range(2)) for node in range(nodes))
        )
        concats.append(tuple(rng.sample(range(2, 2 + nodes), rng.randint(1, nodes))))
    return Genotype(cells[0], concats[0], cells[1], concats[1])


def text(normal=CELL, normal_concat="[2]", reduce=CELL, reduce_concat="[2]"):
    return f"Genotype(normal={normal}, normal_concat={normal_concat}, reduce={reduce}, reduce_concat={reduce_concat})"


def fields(genotype):
    return tuple(getattr(genotype, name) for name in FIELDS)


@pytest.fixture(params=[1, 4, 5])
def genotypes(request):
    rng = random.Random(request.param)
    return [random_genotype(rng, request.param) for _ in range(40)]


def test_json_round_trips(genotypes):
    for one in genotypes:
        assert "\n" not in one.to_json()
        assert fields(Genotype.from_json(one.to_json())) == fields(one)
        assert set(json.loads(one.to_json())) == set(FIELDS)


def test_darts_text_round_trips(genotypes):
    for one in genotypes:
        assert fields(Genotype.from_darts(one.to_darts())) == fields(one)
        call = ast.parse(one.to_darts(), mode="eval").body
        assert [word.arg for word in call.keywords] == list(FIELDS)
        flat = ast.literal_eval(call.keywords[0].value)
        assert flat == [edge for node in one.normal for edge in node]  # flat, as DARTS prints it


@pytest.mark.parametrize("name", ZOO)
def test_published_genotypes_round_trip(name):
    one = ZOO[name].genotype
    assert Genotype.from_json(one.to_json()) == Genotype.from_darts(one.to_darts()) == one


def test_the_zoo_is_what_was_published():
    darts = (
        "Genotype("
        "normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
        "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
        "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
        "('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
    )
    assert ZOO["DARTS_V2"].genotype.to_darts() == darts
    setn = ZOO["SETN"].genotype
    assert setn.normal[3] == (("max_pool_3x3", 1), ("conv_3x1_1x3", 4))
    assert setn.reduce[0] == (("sep_conv_3x3", 0), ("sep_conv_5x5", 1))
    assert setn.normal_concat == setn.reduce_concat == (2, 3, 4, 5)


@pytest.mark.parametrize(
    "normal",
    [
        CELL,
        f"list({CELL})",
        f"tuple({CELL})",
        "(('skip_connect', 0), ('sep_conv_3x3', 1))",
        "[['skip_connect', 0], ['sep_conv_3x3', 1]]",
        f"[{CELL}]",
        "((('skip_connect', 0), ('sep_conv_3x3', 1)),)",
        "[tuple([('skip_connect', 0), ('sep_conv_3x3', 1)])]",
    ],
)
@pytest.mark.parametrize(
    "concat", ["[2]", "(2,)", "range(2, 3)", "list(range(2, 3))", "tuple(range(2, 4, 2))", "range(2, 1, -1)"]
)
def test_every_way_of_writing_a_cell(normal, concat):
    assert fields(Genotype.from_darts(f"\n  {text(normal, concat)}\n")) == (NODES, (2,), NODES, (2,))


def test_several_nodes_flat_and_nested():
    one = ZOO["GDAS"].genotype
    lists = [[list(map(list, node)) for node in cell] for _, cell, _ in one.cells]
    nested = text(repr(lists[0]), "range(2, 6)", repr(lists[1]), "list(range(2, 6))")
    flat = text(
        repr([edge for node in lists[0] for edge in node]),
        "range(2, 6)",
        repr(tuple(edge for node in one.reduce for edge in node)),
        "(2, 3, 4, 5)",
    )
    assert fields(Genotype.from_darts(nested)) == fields(Genotype.from_darts(flat)) == fields(one)


def test_equality_is_that_of_architectures(genotypes):
    for one in genotypes:
        normal = tuple(node[::-1] for node in one.normal)
        swapped = Genotype(normal, one.normal_concat[::-1], one.reduce, one.reduce_concat)
        assert swapped == one
        assert hash(swapped) == hash(one)
        assert fields(swapped.canonical()) == fields(one.canonical())
        assert one.canonical() == one
        assert fields(one.canonical().canonical()) == fields(one.canonical())
    edges = [("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 1)]
    every = [Genotype(((a, b),), (2,), NODES, (2,)) for a, b in itertools.product(edges, edges)]
    assert len(set(every)) == len(edges) * (len(edges) + 1) // 2  # unordered pairs of edges
    mirrored = [Genotype(NODES, (2,), ((a, b),), (2,)) for a, b in itertools.product(edges, edges)]
    assert len(set(every + mirrored)) == 2 * 10 - 1  # normal and reduction cell are told apart


def test_a_genotype_is_no_other_thing():
    one = ZOO["SETN"].genotype
    assert one != one.to_json()
    assert one.__eq__(1) is NotImplemented
    fewer = Genotype(one.normal, (2, 3, 4), one.reduce, one.reduce_concat)
    assert fewer != one
    with pytest.raises(AttributeError):
        one.normal = one.reduce
    lists = Genotype(*(json.loads(json.dumps(value)) for value in fields(one)))
    assert fields(lists) == fields(one)


@pytest.mark.parametrize(
    "normal",
    [
        "__import__('os').system('touch CREATED')",
        "[__import__('pathlib').Path('CREATED').touch()]",
        "list(open('CREATED', 'w'))",
        "tuple(x for x in [open('CREATED', 'w')])",
        "range(open('CREATED', 'w').fileno())",
        "exec(\"open('CREATED', 'w')\")",
        "(lambda: open('CREATED', 'w'))()",
        "f\"{open('CREATED', 'w')}\"",
        "[open('CREATED', 'w') for _ in (1,)]",
        "[('skip_connect', 0), (open('CREATED', 'w').name, 1)]",
        "list(open('CREATED', 'w'), key=1)",
        "[*open('CREATED', 'w')]",
    ],
)
def test_no_text_is_evaluated(normal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GenotypeError):
        Genotype.from_darts(text(normal))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("", "not a DARTS genotype"),
        ("Genotype(", "not a DARTS genotype"),
        ("Genotype\0()", "not a DARTS genotype"),
        ("import os", "not a DARTS genotype"),
        ("[1, 2]", "must be one call"),
        ("os.genotype()", "must be one call"),
        ("Geno(normal=[])", "must be one call"),
        (f"Genotype({CELL}, [2], {CELL}, [2])", "names its fields"),
        (f"Genotype(normal={CELL})", r"reduce_concat are needed, each once; \['normal'\]"),
        (text()[:-1] + ", extra=1)", "each once; .*'extra'"),
        (f"Genotype(**{{'normal': {CELL}}})", "are needed"),
        (text("[('skip_connect', 0)]"), r"normal: 1 \(operation, state\) pairs given"),
        (text("[('skip_connect', x), ('skip_connect', 0)]"), "x: only names in quotes"),
        (text(normal_concat="range(2, 3, 0)"), r"normal_concat: \(\) given"),
        (text(normal_concat="range(2, 3.5)"), "only names in quotes"),
        (text(normal_concat="range()"), "only names in quotes"),
        (text(normal_concat="range(10 ** 9)"), "only names in quotes"),
        (text(normal_concat="range(2, 10_000_000_000)"), "a cell has fewer than 1000 states"),
        (text(normal_concat="{2}"), r"normal_concat: \{2\} given"),
        ("Genotype(normal=" + "[" * 500 + "]" * 500 + ")", "not a DARTS genotype"),
    ],
)
def test_a_malformed_text_says_what_is_wrong(broken, message):
    with pytest.raises(GenotypeError, match=message):
        Genotype.from_darts(broken)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(text(normal_concat=f"range(2, {'9' * 40})"), id="a range too long to have a length"),
        pytest.param("Genotype(normal=" + "-" * 100_000 + "1)", id="deep signs"),
        pytest.param("Genotype(normal=a" + ".b" * 50_000 + ")", id="deep attributes"),
        pytest.param(text()[:-1] + f", normal={CELL})", id="a field twice"),
    ],
)
def test_extreme_texts_are_refused_too(broken):
    with pytest.raises(GenotypeError):
        Genotype.from_darts(broken)


# What the field prints

AUTHORS = (
    "Genotype(normal=[(('skip_connect', 0), ('sep_conv_3x3', 1))], normal_concat=[2], "
    "reduce=[(('skip_connect', 0), ('sep_conv_3x3', 1))], reduce_concat=[2], connectN=None, connects=None)"
)
ONE = Genotype(NODES, (2,), NODES, (2,))
DICTIONARY = str({name: getattr(ONE, name) for name in FIELDS})


@pytest.mark.parametrize(
    "given",
    [
        AUTHORS,
        text("[('skip_connect', np.int64(0)), ('sep_conv_3x3', numpy.int32(1))]", "[np.int64(2)]"),
        text("[(np.str_('skip_connect'), tensor(0)), ('sep_conv_3x3', 1)]", "array([2])"),
        text(normal_concat="range(2, 3)", reduce_concat="list(range(2, 3))"),
        f"SETN = {text()}",
        f"SETN = genotypes.{text()}  # epoch 599",
        f"\ufeff{text()}",
        text().replace(", ", ",\n    "),
    ],
)
def test_what_programs_of_the_field_print_is_read(given):
    assert fields(Genotype.from_darts(given)) == fields(ONE)


@pytest.mark.parametrize("given", [f"\ufeff{ONE.to_json()}", DICTIONARY, f"\n{DICTIONARY}\n"])
def test_json_with_a_mark_and_a_dictionary_of_python_are_read(given):
    assert fields(Genotype.from_json(given)) == fields(ONE)


@pytest.mark.parametrize(
    "given",
    [
        f"2019-10-27 12:00:01,250 genotype = {text()}",
        f"epoch 1\n03/04 01:02:03 PM genotype = {text()}\nepoch 2\n",
        f"genotype = {text()}\nepoch 2\ngenotype = {text()}",
    ],
)
def test_a_log_is_read_and_what_is_passed_over_is_said(given):
    with pytest.warns(UserWarning, match="what stands around it"):
        assert fields(Genotype.from_darts(given)) == fields(ONE)


@pytest.mark.parametrize("score", ["0.123", "np.float32(0.123)", "1"])
def test_scores_are_passed_over_and_said(score):
    scored = f"[(('skip_connect', 0, {score}), ('sep_conv_3x3', 1, {score}))]"
    with pytest.warns(UserWarning, match="scores of 2 operations"):
        assert fields(Genotype.from_darts(text(scored))) == fields(ONE)


CELL_201 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (AUTHORS.replace("connects=None", "connects=[1]"), r"connects: \[1\] given; .* None is allowed"),
        (
            f"{text()}\n{text(reduce=CELL.replace('skip_connect', 'none'))}",
            "2 genotypes, .* give the one that is meant",
        ),
        (f"{text()} and more", "'and more' stands behind its last bracket"),
        (text()[:-5], "cut off"),
        (CELL_201, "cell of NAS-Bench-201 .* needed here: Genotype"),
        (json.dumps(CELL_201), "cell of NAS-Bench-201"),
    ],
)
def test_what_is_not_plain_is_named(given, message):
    with pytest.raises(GenotypeError, match=message):
        Genotype.from_darts(given)


@pytest.mark.parametrize("given", [CELL_201, json.dumps(CELL_201), DICTIONARY.replace("skip_connect", CELL_201)])
def test_a_cell_of_the_other_space_is_no_json_of_this_one(given):
    with pytest.raises(GenotypeError, match="cell of NAS-Bench-201"):
        Genotype.from_json(given)


@pytest.mark.parametrize("broken", ["", "{", "[]", "null", "3", '{"normal": []}', "NaN"])
def test_malformed_json_is_refused(broken):
    with pytest.raises(GenotypeError, match=r"not JSON|are needed, each once"):
        Genotype.from_json(broken)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("[" * 100_000, id="deep lists"),
        pytest.param(Genotype(NODES, (2,), NODES, (2,)).to_json()[:-1] + ', "normal_concat": [2]}', id="a field twice"),
    ],
)
def test_extreme_json_is_refused_too(broken):
    with pytest.raises(GenotypeError):
        Genotype.from_json(broken)


@pytest.mark.parametrize("cell", ["normal", "reduce"])
@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((), r"{cell}: \(\) given; at least one node"),
        (3, r"{cell}: 3 given; at least one node"),
        ("sep_conv_3x3", "{cell}: 'sep_conv_3x3' given"),
        ((NODES[0], (("skip_connect", 0),)), r"{cell}, node 3: .* two pairs \(operation, state\)"),
        ((NODES[0], (("skip_connect", 0), ("skip_connect", True))), "{cell}, node 3: .* two pairs"),
        ((NODES[0], (("skip_connect", 0), ("skip_connect", 1.0))), "{cell}, node 3: .* two pairs"),
        ((NODES[0], (("skip_connect", 0), (1, "skip_connect"))), "{cell}, node 3: .* two pairs"),
        (
            (NODES[0], (("skip_connect", 0), ("sep_conv_3x4", 1))),
            r"{cell}, node 3: unknown operation 'sep_conv_3x4' \(did you mean 'sep_conv_3x3'\?\)",
        ),
        ((NODES[0], (("skip_connect", 0), ("?", 1))), r"{cell}, node 3: unknown operation '\?'; allowed are"),
        ((NODES[0], (("skip_connect", 0), ("sep_conv_3x3", 3))), "{cell}, node 3: sep_conv_3x3 .* 0 .. 2"),
        (((("skip_connect", 2), ("sep_conv_3x3", 0)),), "{cell}, node 2: skip_connect reads state 2"),
        (((("skip_connect", -1), ("sep_conv_3x3", 0)),), "{cell}, node 2: skip_connect reads state -1"),
    ],
)
def test_a_cell_that_cannot_be_built_says_where(cell, nodes, message):
    arguments = {"normal": NODES, "normal_concat": (2,), "reduce": NODES, "reduce_concat": (2,), cell: nodes}
    with pytest.raises(GenotypeError, match=message.format(cell=cell)):
        Genotype(**arguments)


@pytest.mark.parametrize("cell", ["normal", "reduce"])
@pytest.mark.parametrize("concat", [(), (1,), (2, 2), (3,), (2.0,), (True,), 2, None, ((2,),), ("2",)])
def test_a_concatenation_that_cannot_be_built_says_where(cell, concat):
    arguments = {"normal": NODES, "normal_concat": (2,), "reduce": NODES, "reduce_concat": (2,)}
    with pytest.raises(GenotypeError, match=rf"{cell}_concat: .* given; different states among 2 \.\. 2"):
        Genotype(**(arguments | {f"{cell}_concat": concat}))
