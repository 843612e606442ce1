"""The scored architectures at one edit of a candidate, against all edits tried one by one."""

import json

import numpy as np
import pytest
from written_run import write_journal, write_run

from setn_lab.inspection import neighbours, reading
from setn_lab.inspection.reading import InspectionError
from setn_lab.runs.journal import read_journal
from setn_lab.space.nasbench201 import NASBench201Space
from setn_lab.space.setn import SMALL, SearchSpace

SPACES = {"setn": SearchSpace(SMALL[:3], 2), "nasbench201": NASBench201Space()}


def edits(space, architecture):
    """Every architecture that has another number at one place, as genotypes, without the architecture itself."""
    found = set()
    for place in np.ndindex(architecture.shape):
        choices = len(space.operations)
        if isinstance(space, SearchSpace) and place[-1] >= 2:
            choices = space.inputs(place[1])
        for value in range(choices):
            other = architecture.copy()
            other[place] = value
            found.add(space.genotype(space.canonical(other)))
    return found - {space.genotype(architecture)}


def drawn(space, rng, count):
    """Uniform architectures, and of each a chain of edits: some are neighbours, some are the same ones again."""
    shape = (count,) if isinstance(space, NASBench201Space) else (count, space.cell_types)
    found = []
    for start in space.sample(rng, *shape):
        one = space.canonical(start.reshape(space.cell_types, *start.shape[-(1 + isinstance(space, SearchSpace)) :]))
        found += [one, space.mutate(rng, one), space.mutate(rng, space.mutate(rng, one))]
    return found


@pytest.mark.parametrize("name", SPACES)
def test_an_edit_is_found_exactly_where_one_changed_number_makes_it(name):
    space = SPACES[name]
    everyone = drawn(space, np.random.default_rng(0), 12)
    genotypes = [space.genotype(one) for one in everyone]
    terms = [neighbours._terms(space, genotype) for genotype in genotypes]
    found = {(i, j) for i, a in enumerate(terms) for j, b in enumerate(terms) if neighbours.edit(a, b) is not None}
    expected = {
        (i, j)
        for i, one in enumerate(everyone)
        for j, genotype in enumerate(genotypes)
        if genotype in edits(space, one)
    }
    assert found == expected
    assert len(found) > 12
    for i, j in found:
        cell_type, node, gone, come = neighbours.edit(terms[i], terms[j])
        changed = [[list(sums) for sums in cell] for cell in terms[i]]
        changed[cell_type][node].remove(gone)
        changed[cell_type][node].append(come)
        assert sorted(changed[cell_type][node]) == terms[j][cell_type][node]


@pytest.fixture
def run(tmp_path):
    """A run with uniform architectures, of which some are edits of the first candidate, and one is the second."""
    folder = write_run(tmp_path / "run", nodes=2, candidates=6)
    records = read_journal(folder / "candidates.jsonl")
    _, space = reading.search_space(folder)
    rng = np.random.default_rng(1)
    first = space.encode(space.read(records[0]["genotype"]))
    others = [space.mutate(rng, first) for _ in range(5)] + list(space.sample(rng, 5, 2))
    unique = dict.fromkeys([space.genotype(one).to_darts() for one in others] + [records[1]["genotype"]])
    uniform = [{**records[0], "genotype": text, "loss": 1.5 - 0.01 * place} for place, text in enumerate(unique)]
    write_journal(folder / "baseline.jsonl", uniform)
    return folder


def test_neighbours_of_a_candidate_against_a_brute_force(run):
    _, space = reading.search_space(run)
    scored = {
        space.read(record["genotype"]): (record, journal)
        for journal in ("baseline", "candidates")  # a candidate's own record stays
        for record in read_journal(run / f"{journal}.jsonl")
    }
    records = read_journal(run / "candidates.jsonl")
    for place, record in enumerate(records):
        near = edits(space, space.encode(space.read(record["genotype"])))
        expected = sorted(scored[genotype][0]["loss"] for genotype in near & scored.keys())
        found = neighbours.neighbours(run, place)
        assert found["loss"].tolist() == expected
        np.testing.assert_allclose(found["loss, difference"], np.array(expected) - record["loss"])
    found = neighbours.neighbours(run, 0)
    assert len(found) >= 3
    assert set(found["drawn"]) == {"uniform"}
    assert neighbours.pool(run, reading.read_candidates(run)).drawn[:6].count("both") == 1
    assert all(
        text.split(": ")[0].startswith(("normal cell, node ", "reduction cell, node ")) for text in found.iloc[:, 0]
    )
    better = sum(value < records[0]["loss"] for value in found["loss"])
    assert f"{better} of {len(found)} have a lower loss" in neighbours.in_words(found, "it")


def test_without_neighbours_there_is_one_sentence(tmp_path):
    folder = write_run(tmp_path / "run", nodes=4, candidates=1)
    found = neighbours.neighbours(folder, 0)
    assert found.empty
    assert neighbours.in_words(found, "the winner").count(".") == 1
    with pytest.raises(InspectionError):
        neighbours.neighbours(write_run(tmp_path / "none", nodes=1, candidates=0), 0)


def test_losses_on_other_images_have_no_difference(run):
    path = run / "baseline.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"images": 100', '"images": 50'), encoding="utf-8")
    found = neighbours.neighbours(run, 0)
    assert len(found)
    assert found["loss, difference"].isna().all()
    assert "other images" in neighbours.in_words(found, "it")


def test_a_damaged_baseline_is_named(run):
    lines = [json.dumps({**record, "genotype": "|none|"}) + "\n" for record in read_journal(run / "baseline.jsonl")]
    (run / "baseline.jsonl").write_text("".join(lines), encoding="utf-8")
    with pytest.raises(InspectionError, match="baseline"):
        neighbours.neighbours(run, 0)
