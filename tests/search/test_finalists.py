"""Finalists: successive halving by the retraining code, resumable, and never trained twice."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from references import TINY, StopError, randomized

from setn_lab.config import ConfigError
from setn_lab.retrain.setup import Retraining
from setn_lab.retrain.training import RetrainError, retrain_once
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run
from setn_lab.search import candidates as module
from setn_lab.search import finalists, report
from setn_lab.search.candidates import search_candidates
from setn_lab.search.config import SearchConfig
from setn_lab.search.finalists import halves, planned_epochs, recipe, rungs
from setn_lab.search.setup import prepare_search
from setn_lab.search.training import SearchError, train
from setn_lab.search.verdict import verdict

SMALL = {
    **TINY,
    **{"nodes": 1, "epochs": 1, "batch_size": 32, "candidates": 10, "finalists": 6, "finalist_epochs": 3},
    **{"finalist_channels": 2, "finalist_repeats": 1, "finalist_batch_size": 16, "finalist_lr": 0.1},
}


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """One-shot losses that need no template."""

    def evaluate(search, architectures):
        numbers = [int.from_bytes(one.astype(np.int64).tobytes(), "little") % 1009 for one in architectures]
        return [(number / 7, number / 1009) for number in numbers]

    monkeypatch.setattr(module, "evaluate", evaluate)


def search_of(config):
    search = prepare_search(config)
    randomized(search.evaluator, 0)
    search.held.epochs = config.epochs
    return search


def chosen(config, observe=lambda progress: None):
    with Run.open(config, "search") as run:
        return search_candidates(search_of(config), run, observe), run.folder


def lines(folder):
    """The journal of the finalists without the measured seconds, by finalist and epoch."""
    found = [{**line, "seconds": 0} for line in read_journal(folder / "finalists.jsonl")]
    return {(line["genotype"], line["epoch"]): line for line in found}


@pytest.mark.parametrize("networks", [2, 3, 5, 6, 9, 17, 18, 54])
@pytest.mark.parametrize("epochs", [1, 2, 3, 9, 26, 81])
def test_rungs_are_successive_halving(networks, epochs):
    found = rungs(networks, epochs)
    assert found[0][0] == networks
    assert found[-1][1] == epochs
    for (many, early), (few, late) in itertools.pairwise(found):
        assert few == many // 3
        assert early == late // 3 >= 1
    assert found[-1][0] >= 2
    assert found[-1][0] // 3 < 2 or found[0][1] // 3 < 1  # no further rung was possible
    ends = [0] * networks
    for count, end in found:
        for place in range(count):
            ends[place] = end
    assert planned_epochs(networks, epochs) == sum(ends)


def test_the_best_of_those_trained_to_the_end_wins(tmp_path):
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "run"))
    winner, folder = chosen(config)
    told = json.loads((folder / "finalists.json").read_text(encoding="utf-8"))
    one_shot = sorted(read_journal(folder / "candidates.jsonl"), key=lambda line: line["loss"])[:6]
    assert [network["genotype"] for network in told["networks"]] == [line["genotype"] for line in one_shot]
    found = lines(folder)
    early = sorted(one_shot, key=lambda line: found[line["genotype"], 1]["test_error"])
    late = sorted(early[:2], key=lambda line: found[line["genotype"], 3]["test_error"])
    search = search_of(config)
    assert search.space.write(winner.genotype) == late[0]["genotype"]
    assert {name: max(epoch for text, epoch in found if text == name) for name, _ in found} == {
        line["genotype"]: 3 if line in early[:2] else 1 for line in one_shot
    }
    assert (told["trained"], told["each"]) == (2 * 3 + 4 * 1, 6 * 3) == (planned_epochs(6, 3), 18)
    assert not list((folder / "finalists").glob("*"))  # checkpoints
    own = recipe(config)
    alone = retrain_once(Retraining(own, search.device, "alone", winner.genotype, halves(own, search)))
    last = found[late[0]["genotype"], 3]
    assert (alone.test_error, alone.test_loss) == (last["test_error"], last["test_loss"])


@pytest.mark.parametrize("moments", [[1], [3, 4, 4], [6, 9, 2, 2]])
def test_killed_anywhere_it_ends_the_same(tmp_path, moments):
    winner, whole = chosen(SearchConfig(**SMALL, run_dir=str(tmp_path / "whole")))
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "killed"))
    for moment in moments:
        steps = []

        def stop(progress, steps=steps, moment=moment):
            if progress.phase == "train":
                steps.append(progress)
                if len(steps) == moment:
                    raise StopError

        with pytest.raises(StopError):
            chosen(config, stop)
    again, folder = chosen(config)
    assert again == winner
    assert lines(folder) == lines(whole)
    assert len(read_journal(folder / "finalists.jsonl")) == len(lines(folder))
    assert (folder / "genotype.json").read_bytes() == (whole / "genotype.json").read_bytes()


def test_what_was_trained_is_not_trained_again(tmp_path, monkeypatch):
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "run"))
    winner, folder = chosen(config)
    before = (folder / "finalists.jsonl").read_bytes()
    one_shot, _ = chosen(replace(config, finalists=0))
    assert not (folder / "finalists.json").exists()
    assert one_shot.loss == min(line["loss"] for line in read_journal(folder / "candidates.jsonl"))
    monkeypatch.setattr(finalists, "train_until", lambda *_: pytest.fail("trained again"))
    assert chosen(config)[0] == winner
    assert (folder / "finalists.jsonl").read_bytes() == before
    with pytest.raises(BaseException, match="trained again"):
        chosen(replace(config, finalist_lr=0.05))


def test_a_network_that_fails_drops_out(tmp_path, monkeypatch):
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "run"))
    real, failing = finalists.train_until, []

    def sometimes(setup, place, epochs, observe):
        if setup.name in failing:
            raise RetrainError("not finite")
        real(setup, place, epochs, observe)

    monkeypatch.setattr(finalists, "train_until", sometimes)
    failing += [f"finalist {number}" for number in range(1, 6)]
    winner, folder = chosen(config)
    told = json.loads((folder / "finalists.json").read_text(encoding="utf-8"))
    assert ["failed" in network for network in told["networks"]] == [True] * 5 + [False]
    assert told["networks"][5]["genotype"] == search_of(config).space.write(winner.genotype)
    assert "| failed |" in report.finalists_table(folder)
    failing.append("finalist 6")
    with pytest.raises(SearchError, match="finalists: none has a finite loss"):
        chosen(replace(config, finalist_lr=0.2))


def test_the_report_says_what_was_saved(tmp_path, monkeypatch):
    config = SearchConfig(**{**SMALL, "finalists": 2}, run_dir=str(tmp_path / "run"))
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        train(search, run)
        search_candidates(search, run)
    page = report.write(run.folder, tmp_path / "page").read_text(encoding="utf-8")
    assert "6 epochs were trained, in place of 6" in page
    assert "## Finalists" in page
    monkeypatch.setattr("setn_lab.search.verdict.NEAR_CHANCE", -100.0)
    assert any("finalists trained from scratch" in line for line in verdict(run.folder).sentences)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"finalists": 1}, "finalists: 1 given"),
        ({"space": "nasbench201", "nodes": 4}, "finalists: 6 given; 0 is allowed for nasbench201"),
        ({"finalist_batch_size": 33}, "finalist_batch_size: 33 given for 32 images"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_the_start(change, text):
    with pytest.raises(ConfigError, match=text):
        prepare_search(SearchConfig(**{**SMALL, **change}))
