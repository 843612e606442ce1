"""Trainings from scratch beside a search, matched by genotype, against those that were written."""

import json
import math
from statistics import fmean

import pytest
from written_run import write_journal, write_run

from setn_lab.config import to_json
from setn_lab.inspection import reading
from setn_lab.inspection.retrained import COLUMN, retrained_errors
from setn_lab.retrain import RetrainConfig


def train(folder, genotype, errors, done=2, **values):
    """A training of two epochs whose seeds end with these errors; `done`: how many epochs the last seed has had."""
    config = RetrainConfig(genotype=genotype.to_darts(), epochs=2, seeds=len(errors), **values)
    folder.mkdir()
    (folder / "config.json").write_text(to_json(config), encoding="utf-8")
    (folder / "environment.json").write_text('{"kind": "retrain"}', encoding="utf-8")
    (folder / "genotype.json").write_text(genotype.to_json(), encoding="utf-8")
    records = [
        {"seed": seed, "epoch": epoch, "test_error": error + (2 - epoch), "test_loss": 1.0, "seconds": 1.0}
        for seed, error in enumerate(errors)
        for epoch in range(1, 1 + (done if seed == len(errors) - 1 else 2))
    ]
    write_journal(folder / "metrics.jsonl", records)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "search", nodes=1, candidates=5)


def test_a_column_only_where_a_candidate_was_trained(run):
    genotypes = reading.read_candidates(run).genotypes
    assert retrained_errors(run, genotypes).shape == (5, 0)
    train(run.parent / "any-name", genotypes[3], [0.25, 0.35])
    train(run.parent / "retrain-b", genotypes[1], [0.5, 0.1], done=1)  # the second seed is not at its end
    other = write_run(run.parent / "other", nodes=2, candidates=1)
    train(run.parent / "retrain-c", reading.read_candidates(other).genotypes[0], [0.1])
    found = retrained_errors(run, genotypes)
    assert list(found.columns) == [COLUMN]
    expected = {3: 100 * fmean([0.25, 0.35]), 1: 50.0}
    for place, value in enumerate(found[COLUMN]):
        assert value == pytest.approx(expected[place]) if place in expected else math.isnan(value)


def test_each_recipe_has_a_column_of_its_own_and_equal_ones_are_averaged(run):
    genotypes = reading.read_candidates(run).genotypes
    train(run.parent / "a", genotypes[0], [0.2])
    train(run.parent / "b", genotypes[0], [0.4], seed=7)
    train(run.parent / "c", genotypes[0], [0.9], channels=4)
    found = retrained_errors(run, genotypes)
    assert sorted(found.iloc[0]) == pytest.approx([30.0, 90.0])
    assert all(name.startswith(COLUMN) for name in found.columns)


def test_what_cannot_be_read_hides_nothing(run):
    genotypes = reading.read_candidates(run).genotypes
    for name in ("a", "b", "c", "d"):
        train(run.parent / name, genotypes[0], [0.2])
    (run.parent / "a" / "genotype.json").write_text("{", encoding="utf-8")
    (run.parent / "b" / "environment.json").write_text("[]", encoding="utf-8")
    config = json.loads((run.parent / "c" / "config.json").read_text(encoding="utf-8"))
    (run.parent / "c" / "config.json").write_text(json.dumps({**config, "epochs": 3}), encoding="utf-8")
    (run.parent / "file").touch()
    assert retrained_errors(run, genotypes)[COLUMN].iloc[0] == pytest.approx(20.0)
