"""What a search has shown: the numbers against slow references, and sentences that follow the run folder."""

import json
import shlex
from itertools import product

import numpy as np
import pytest
import torch
from references import run_search
from scipy.stats import ttest_rel
from written_run import write_journal, write_run

from setn_lab.cli import COMMANDS, OTHERS
from setn_lab.data.batches import scoring_batches
from setn_lab.options import option_parser, parse
from setn_lab.runs import read_journal
from setn_lab.runs.run import Run
from setn_lab.search import report, verdict
from setn_lab.search.candidates import score, search_candidates
from setn_lab.search.config import SearchConfig
from setn_lab.search.leaders import COMPARED, leaders, select
from setn_lab.search.scoring import batch_scores, evaluate
from setn_lab.search.setup import prepare_search
from setn_lab.search.training import load_trained

RNG = np.random.default_rng(0)
CLASSES = {"a": 60, "b": 40}


# The numbers


def test_a_difference_is_that_of_all_pairs():
    losses, uniform = RNG.normal(1.0, 0.1, 30), RNG.normal(1.1, 0.2, 40)
    found = verdict.difference(losses, uniform)
    assert found.mean == pytest.approx(losses.mean() - uniform.mean())
    means = [RNG.choice(losses, 30).mean() - RNG.choice(uniform, 40).mean() for _ in range(4000)]
    assert found.error == pytest.approx(np.std(means), rel=0.1)
    assert found.effect == pytest.approx(found.mean / np.sqrt((losses.var(ddof=1) + uniform.var(ddof=1)) / 2))
    assert found.better == pytest.approx(np.mean([a < b for a, b in product(losses, uniform)]))
    pooled, extreme = np.concatenate([losses, uniform]), 0
    for _ in range(2000):  # the share of random labels that part the two as much
        mixed = RNG.permutation(pooled)
        ranks = np.mean(mixed[:30, None] < mixed[None, 30:])
        extreme += abs(ranks - 0.5) >= abs(found.better - 0.5)
    assert found.p == pytest.approx(extreme / 2000, abs=0.02)
    assert verdict.difference(losses[:1], uniform) is None
    assert verdict.difference(np.ones(3), np.ones(3)).effect == 0


@pytest.fixture(scope="module", params=["loss", "accuracy"])
def searched(request, tmp_path_factory, tiny_config):
    folder = tmp_path_factory.mktemp("verdict") / "run"
    config = tiny_config(folder, candidates=14, baseline_candidates=6, select_by=request.param)
    return config, run_search(config)


@torch.no_grad()
def test_leaders_are_the_best_and_their_gaps_those_of_each_image(searched):
    config, folder = searched
    kept = json.loads((folder / verdict.LEADERS).read_text(encoding="utf-8"))
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        load_trained(search, run)
        candidates = score(search, run, "evaluator", 14)
    key = (lambda one: one.loss) if config.select_by == "loss" else (lambda one: -one.accuracy)
    ranked = sorted(candidates, key=key)[:COMPARED]  # stable, as `select` takes the first among equals
    assert [one["genotype"] for one in kept] == [search.space.write(one.genotype) for one in ranked]
    assert ranked[0] == select(candidates, config.select_by)
    batches = scoring_batches(len(search.valid), config.scoring_batch_size)
    scores = []
    for one in ranked:  # each alone
        alone = [batch_scores(search, [search.space.encode(one.genotype)], indices)[:, 0] for indices in batches]
        scores.append(torch.cat(alone, dim=1).numpy())
    scores = np.array(scores, dtype=float)  # (ranks, 2, images)
    assert kept[0]["loss"] == pytest.approx(evaluate(search, [search.space.encode(ranked[0].genotype)])[0][0], rel=1e-5)
    for place, record in enumerate(kept[1:], 1):
        for index, name in enumerate(("loss", "accuracy")):
            gaps = scores[place, index] - scores[0, index]
            assert record[name] == pytest.approx(gaps.mean(), abs=1e-6)
            if gaps.std() > 0:
                t = ttest_rel(scores[place, index], scores[0, index]).statistic
                assert record[name] / record[f"{name}_error"] == pytest.approx(t, rel=1e-3)


def test_leaders_are_made_again_only_where_they_are_of_others(searched, monkeypatch):
    config, folder = searched
    before = (folder / verdict.LEADERS).read_bytes()
    made = []
    monkeypatch.setattr("setn_lab.search.candidates.leaders", lambda *given: made.append(leaders(*given)) or made[-1])

    def again():
        with Run.open(config, "search") as run:
            search_candidates(prepare_search(config, run), run)

    again()
    assert not made
    (folder / verdict.LEADERS).unlink()  # as an older version leaves a folder
    again()
    assert len(made) == 1
    assert (folder / verdict.LEADERS).read_bytes() == before


# The sentences


def written(tmp_path, accuracy=0.9, better=0.0, uniform=30, gaps=(0.5, 0.01), classes=True, **parameters):
    """A run of losses around 1 - better, beside uniform ones around 1, and leaders that far behind the winner."""
    folder = write_run(tmp_path / "run", 2, 30, evaluator_gradient="rloo", **parameters)
    records = read_journal(folder / "candidates.jsonl")
    for record in records:
        record |= {"loss": 1 - better + 0.1 * RNG.normal(), "accuracy": accuracy}
    write_journal(folder / "candidates.jsonl", records)
    if uniform:
        rest = [{**records[0], "loss": 1 + 0.1 * RNG.normal()} for _ in range(uniform)]
        write_journal(folder / "baseline.jsonl", rest)
    common = {"genotype": "", "images": 100, "accuracy_error": 0.02, "loss_error": 0.02}
    ranks = [{**common, "loss": 0.9, "accuracy": 0.9}, *({**common, "loss": gap, "accuracy": -gap} for gap in gaps)]
    (folder / verdict.LEADERS).write_text(json.dumps(ranks), encoding="utf-8")
    contents = {"dataset": {"digest": "0", "where": "digits", "images": 100, "classes": CLASSES}}
    if classes:
        stored = {"parameters": "0", "contents": contents, "products": {}}
        (folder / "identity.json").write_text(json.dumps(stored), encoding="utf-8")
    return folder


def sentence(folder, beginning):
    (line,) = (line for line in verdict.verdict(folder).sentences if line.startswith(beginning))
    return line


@pytest.mark.parametrize(("accuracy", "near"), [(0.62, True), (0.5, True), (0.7, False)])
def test_a_template_near_chance_takes_away_all_else(tmp_path, accuracy, near):
    found = verdict.verdict(written(tmp_path, accuracy, better=1.0))  # guessing is right on 60%
    assert ("near chance" in found.sentences[0]) == near
    assert (len(found.sentences) == 1) == near
    assert f"{accuracy:.1%}" in found.sentences[0]
    assert "60.0%" in found.sentences[0]


def test_a_run_that_does_not_say_its_classes_is_not_held_for_near_chance(tmp_path):
    assert len(verdict.verdict(written(tmp_path, 0.1, classes=False)).sentences) == 3


@pytest.mark.parametrize(
    ("better", "words"), [(0.3, "are better than uniform"), (0.0, "cannot be told"), (-0.3, "are worse than uniform")]
)
def test_the_evaluator_is_judged_by_the_test(tmp_path, better, words):
    folder = written(tmp_path, better=better)
    assert words in sentence(folder, "Evaluator: ")
    steps = [do for _, do in verdict.verdict(folder).steps]
    assert any("--seed" in do for do in steps) == (better <= 0)


def test_what_cannot_be_compared_says_why(tmp_path):
    without = written(tmp_path / "a", uniform=0)
    assert "no uniform ones were scored" in sentence(without, "Evaluator: ")
    assert any("--baseline_candidates" in do for _, do in verdict.verdict(without).steps)
    assert "drawn uniformly" in sentence(written(tmp_path / "b", candidate_source="uniform"), "Candidates: ")
    assert "no sample" in sentence(written(tmp_path / "c", candidate_source="evolution"), "Candidates: ")
    raced = written(tmp_path / "d", scoring="racing")
    records = read_journal(raced / "candidates.jsonl")
    write_journal(raced / "candidates.jsonl", [{**records[0], "images": 50}, *records[1:]])
    assert "raced" in sentence(raced, "Evaluator: ")


@pytest.mark.parametrize("select_by", ["loss", "accuracy"])
def test_the_winner_is_told_from_those_two_standard_errors_behind(tmp_path, select_by):
    near = sentence(written(tmp_path / "a", gaps=(0.01, 0.5, 0.03, 0.05), select_by=select_by), "Winner: ")
    assert "2 of ranks 2 to 5 (2, 4)" in near
    assert "0.0100 ± 0.0200" in near
    far = sentence(written(tmp_path / "b", gaps=(0.5, 0.6), select_by=select_by), "Winner: ")
    assert "ranks 2 to 3 are all worse" in far
    assert "no other candidate" in sentence(written(tmp_path / "c", gaps=()), "Winner: ")
    older = written(tmp_path / "d")
    (older / verdict.LEADERS).unlink()
    assert "older version" in sentence(older, "Winner: ")


CASES = [
    {"accuracy": 0.6},
    {"uniform": 0},
    {"better": 0.3},
    {},
    {"dataset": "a folder"},
    {"run_dir": "runs/mine"},
    {"run_dir": "runs/mine", "accuracy": 0.6},
]


@pytest.mark.parametrize("given", CASES, ids=str)
def test_every_command_that_is_advised_is_one(tmp_path, monkeypatch, given):
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path))
    folder = written(tmp_path, **given)
    steps = verdict.verdict(folder).steps
    assert steps
    for why, do in steps:
        assert why
        program, name, *words = shlex.split(do)
        assert program == "setn-lab"
        assert name in COMMANDS | OTHERS
        module, _, cls = COMMANDS[name].config.partition(":")
        cls = getattr(__import__(module, fromlist=[cls]), cls)
        parser = option_parser(cls, "setn-lab", "Text.", COMMANDS[name].positional)
        config, others = parse(cls, parser, words)
        assert not vars(others)
        if name == "search":
            kept = "--baseline_candidates" in do  # of the same training, so in the same folder
            assert config.run_dir == (given.get("run_dir") if kept else None)
            assert config != SearchConfig()


def test_the_page_begins_with_it(searched, tmp_path):
    _, folder = searched
    page = report.write(folder, tmp_path / "page").read_text(encoding="utf-8")
    top = page.partition("![")[0]
    for line in verdict.verdict(folder).sentences:
        assert line in top
    assert verdict.verdict(folder).sentences[0] in verdict.verdict(folder).text()
