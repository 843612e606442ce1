"""Tables of cells that others trained, written here: what is read, and that every bad line is named."""

import csv
import re

import numpy as np
import pytest

from setn_lab.space import LARGE, SMALL, SearchSpace
from setn_lab.studies.groundtruth.table import TableError
from setn_lab.studies.trained_table import load_cells, load_two_seeds

SPACE = SearchSpace(LARGE, 2)


def cells(count=6, seed=0, space=SPACE):
    """The texts of different cells."""
    drawn = space.sample(np.random.default_rng(seed), 4 * count, 2)
    return list(dict.fromkeys(space.write(space.genotype(one)) for one in drawn))[:count]


def write(path, rows, header=("genotype", "cifar10_test")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def lines_of(error):
    """The lines that an error names, with what it says of each."""
    return {int(number): why for number, why in re.findall(r"^  line (\d+): (.+)$", str(error), re.MULTILINE)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.csv"


def test_cells_have_their_accuracies_in_the_order_of_the_table(path):
    texts = cells()
    values = np.random.default_rng(1).uniform(80, 99, 6)
    found = load_cells(write(path, zip(texts, values, strict=True)), "cifar10_test", SPACE)
    assert [SPACE.genotype(one) for one in found.architectures] == [SPACE.read(text) for text in texts]
    np.testing.assert_array_equal(SPACE.canonical(found.architectures), found.architectures)
    assert found.accuracy.tolist() == values.tolist()
    facts = found.facts()
    assert (facts["cells"], facts["lowest"], facts["highest"]) == (6, values.min(), values.max())


def test_columns_in_any_order_empty_lines_and_marks_are_read(path):
    texts = cells(2)
    rows = f'\ufeff other , accuracy ,genotype\r\n\r\n1,90.5,"{texts[0]}"\r\n2,91,"{texts[1]}"\r\n\r\n'
    path.write_bytes(rows.encode())
    found = load_cells(path, "accuracy", SPACE)
    assert found.accuracy.tolist() == [90.5, 91]
    path.write_bytes(rows.lstrip("\ufeff").encode("utf-16"))
    assert load_cells(path, "accuracy", SPACE).facts()["digest"] == found.facts()["digest"]


def test_what_is_read_decides_the_digest(path, tmp_path):
    rows = list(zip(cells(), [91.0, 92, 93, 94, 95, 96], strict=True))
    digest = load_cells(write(path, rows), "cifar10_test", SPACE).facts()["digest"]

    def digest_of(rows, header=("genotype", "cifar10_test")):
        column = header[1]
        return load_cells(write(tmp_path / "other.csv", rows, header), column, SPACE).facts()["digest"]

    assert digest_of(rows) == digest
    assert digest_of([(*row, 1) for row in rows], ("genotype", "accuracy", "more")) == digest
    assert digest_of([(rows[0][0], 91.01), *rows[1:]]) != digest
    assert digest_of([(cells(7)[6], 91.0), *rows[1:]]) != digest
    assert digest_of(rows[:-1]) != digest


FIRST, SECOND, *_ = cells()
THREE_NODES = cells(1, space=SearchSpace(LARGE, 3))[0]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("", 90), "not a DARTS genotype"),
        (("Genotype(normal=[", 90), "bracket is missing"),
        ((FIRST.replace("[(", "[(open('x'),", 1), 90), "open"),
        ((THREE_NODES, 90), "3 nodes"),
        ((SECOND, ""), "cifar10_test is ''; a number"),
        ((SECOND, "good"), "cifar10_test is 'good'; a number"),
        ((SECOND, "nan"), "cifar10_test is nan; percent from 0 to 100"),
        ((SECOND, -0.1), "cifar10_test is -0.1; percent"),
        ((SECOND, 100.5), "cifar10_test is 100.5; percent"),
        ((SECOND,), "1 values stand there, and the header has 2"),
        ((SECOND, 90, 91), "3 values stand there, and the header has 2"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(path, row, why):
    with pytest.raises(TableError) as caught:
        load_cells(write(path, [(FIRST, 90), row]), "cifar10_test", SPACE)
    assert str(caught.value).startswith(str(path))
    found = lines_of(caught.value)
    assert list(found) == [3]
    assert why in found[3]


def test_a_cell_outside_the_space_is_named(path):
    (text,) = [text for text in cells(20) if "dil_conv" in text][:1]
    with pytest.raises(TableError) as caught:
        load_cells(write(path, [(text, 90)]), "cifar10_test", SearchSpace(SMALL, 2))
    assert "not in this search space" in lines_of(caught.value)[2]


def test_the_same_cell_in_another_order_is_a_duplicate(path):
    """A node's pair may be written either way round; both lines are named."""
    text = next(text for text in cells(20) if SPACE.read(text).normal[0][0] != SPACE.read(text).normal[0][1])
    (a, b), *_ = SPACE.read(text).normal
    turned = text.replace(f"{a}, {b}", f"{b}, {a}", 1)
    assert turned != text
    with pytest.raises(TableError) as caught:
        load_cells(
            write(path, [(text, 90), (FIRST if text != FIRST else SECOND, 91), (turned, 92)]), "cifar10_test", SPACE
        )
    assert lines_of(caught.value) == {4: "the same cell as in line 2; each is allowed once"}


def test_all_bad_lines_are_named_at_once(path):
    texts = cells()
    rows = [(texts[0], 90), ("cell", "good"), (texts[1], 90), (texts[0], 101), (texts[2], 90, 1)]
    with pytest.raises(TableError) as caught:
        load_cells(write(path, rows), "cifar10_test", SPACE)
    assert re.findall(r"^  line (\d+)", str(caught.value), re.MULTILINE) == ["3", "3", "5", "5", "6"]
    with pytest.raises(TableError, match="and 10 more"):
        load_cells(write(path, [("cell", 90)] * 30), "cifar10_test", SPACE)


def test_a_cell_of_several_lines_counts_them(path):
    rows = [(FIRST.replace(", reduce=", ",\nreduce="), 90), (SECOND, 101)]
    with pytest.raises(TableError) as caught:
        load_cells(write(path, rows), "cifar10_test", SPACE)
    assert list(lines_of(caught.value)) == [4]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("genotype,cifar10_test\n", "no line below its header"),
        ("cell,cifar10_test\n", "the columns 'genotype' and 'cifar10_test' are needed"),
        ("genotype;cifar10_test\n", "it has 'genotype;cifar10_test'"),
        ("genotype,cifar10_test,cifar10_test\n", "each once"),
        ('genotype,cifar10_test\n"' + FIRST + ",90\n", "line 2: this is no CSV"),
        ("genotype,cifar10_test\n" + FIRST + ",90\n", "a genotype with commas stands in quotes"),
        (f'genotype,cifar10_test\n"{FIRST}",0.9\n"{SECOND}",0.95\n', "at most 0.95; percent .* not shares"),
        (b"\x89PNG\r\n\x1a\n\xff\xd8", "is no CSV file"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(path, content, why):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TableError, match=why) as caught:
        load_cells(path, "cifar10_test", SPACE)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(path, tmp_path):
    for place in (path, tmp_path):
        with pytest.raises(TableError, match=f"{place} cannot be read"):
            load_cells(place, "cifar10_test", SPACE)
        with pytest.raises(TableError, match=f"{place} cannot be read"):
            load_two_seeds(place)


def test_two_seeds_are_read_and_refused_alike(path):
    rows = [(96.5, 96.46), (97.05, 96.96)]
    assert load_two_seeds(write(path, rows, ("seed_1", "seed_2"))).tolist() == [list(row) for row in rows]
    with pytest.raises(TableError, match="the columns 'seed_1' and 'seed_2' are needed"):
        load_two_seeds(write(path, rows, ("seed_1", "seed_3")))
    with pytest.raises(TableError) as caught:
        load_two_seeds(write(path, [*rows, (96, "x"), (101, 90)], ("seed_1", "seed_2")))
    assert lines_of(caught.value) == {
        4: "seed_2 is 'x'; a number is needed",
        5: "seed_1 is 101; percent from 0 to 100 are allowed",
    }
    with pytest.raises(TableError, match=r"seed_2 is at most 0\.9; percent"):
        load_two_seeds(write(path, [(96, 0.9), (97, 0.8)], ("seed_1", "seed_2")))
