"""Candidates that are drawn by the scores of earlier ones: evolution and the refitted evaluator."""

import copy
import math
from collections import Counter

import numpy as np
import pytest
import torch
from references import TINY, StopError, randomized

from setn_lab.compute.streams import generator
from setn_lab.compute.workers import Workers
from setn_lab.config import ConfigError
from setn_lab.runs.run import Run
from setn_lab.search import candidates as module
from setn_lab.search import sources
from setn_lab.search.candidates import score, score_by_racing, search_candidates
from setn_lab.search.config import BY_SCORES, SearchConfig
from setn_lab.search.leaders import select
from setn_lab.search.setup import prepare_search
from setn_lab.search.sources import draw, parts

SMALL = {**TINY, "nodes": 1, "limit_train": 64, "limit_valid": 40, "scoring_batch_size": 16, "epochs": 1}
CELL = {"space": "nasbench201", "nodes": 4}
BOTH_SPACES = pytest.mark.parametrize("values", [{"nodes": 2}, {"space": "nasbench201", "nodes": 4}], ids=str)
BOTH_SOURCES = pytest.mark.parametrize("source", BY_SCORES)


def search_of(scale=1.0, **changes):
    search = prepare_search(SearchConfig(**{**SMALL, **changes}))
    randomized(search.evaluator, 0, scale)
    search.held.epochs = search.config.epochs  # scoring asks for a finished training
    return search


def open_run(folder):
    return Run.open(SearchConfig(**SMALL, run_dir=str(folder)), "search")


@pytest.fixture
def run(tmp_path):
    with open_run(tmp_path / "run") as opened:
        yield opened


def scores_of(architecture):
    """Scores that look drawn, of the architecture alone; one in eleven is not finite, and its accuracy is high."""
    number = int.from_bytes(architecture.astype(np.int64).tobytes(), "little") % 1009
    return (math.nan, 1.0) if number % 11 == 0 else (number % 97 / 7, number % 89 / 100)


@pytest.fixture
def asked(monkeypatch):
    """The architectures that were scored, by `scores_of`."""
    asked = []

    def cheap(search, architectures):
        asked.extend(architecture.tobytes() for architecture in architectures)
        return [scores_of(architecture) for architecture in architectures]

    monkeypatch.setattr(module, "evaluate", cheap)
    return asked


def drawn_by(search, source, count):
    """The parts of a source, scored by `scores_of`, canonical."""
    drawing = parts(search, source, count)
    found = [search.space.canonical(next(drawing))]
    while True:
        try:
            drawn = drawing.send([scores_of(one) for one in found[-1]])
        except StopIteration:
            return found
        found.append(search.space.canonical(drawn))


def aging_evolution(search, count, population_size, sample_size, brood):
    """Algorithm 1 of Real et al. (2019), read literally, but for broods; history holds all models."""
    by = search.config.select_by

    def worse(one, other):
        """Whether the other is strictly better."""
        (loss, accuracy), (other_loss, other_accuracy) = scores_of(one), scores_of(other)
        if not math.isfinite(other_loss) or not math.isfinite(loss):
            return math.isfinite(other_loss)
        return other_loss < loss if by == "loss" else other_accuracy > accuracy

    population, history = [], []
    rng = generator(search.config.seed, "candidates from evolution")
    first = search.space.sample(rng, population_size, search.space.cell_types)
    for model in search.space.canonical(first):
        population.append(model)
        history.append(model)
    step = 0
    while len(history) < count:
        step += 1
        rng = generator(search.config.seed, "candidates from evolution", step)
        children = []
        while len(children) < brood and len(history) + len(children) < count:
            parent = None
            for index in rng.integers(population_size, size=sample_size):
                if parent is None or worse(parent, population[index]):
                    parent = population[index]
            children.append(search.space.mutate(rng, parent))
        for child in children:
            population.append(child)
            history.append(child)
            population.pop(0)
    return history


@BOTH_SPACES
@pytest.mark.parametrize("by", ["loss", "accuracy"])
@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, (1, 2, 1)), (2, (2, 2, 1)), (9, (2, 2, 1)), (64, (16, 4, 3)), (201, (50, 12, 10)), (1000, (50, 12, 10))],
)
def test_evolution_is_aging_evolution(values, by, count, sizes):
    search = search_of(**values, select_by=by)
    expected = aging_evolution(search, count, *sizes)
    assert len(expected) == count
    found = drawn_by(search, "evolution", count)
    assert [len(part) for part in found[1:-1]] == [sizes[2]] * (len(found) - 2)
    np.testing.assert_array_equal(np.concatenate(found), np.array(expected))


def test_evolution_climbs():
    search = search_of(nodes=4)
    planted = search.space.canonical(search.space.sample(np.random.default_rng(5), 2))

    def distance(one):
        return float((one != planted).sum()), 0.5

    lowest = {}
    for source in ("evolution", "uniform"):
        drawing = parts(search, source, 400)
        part, losses = next(drawing), []
        while part is not None:
            scored = [distance(one) for one in part]
            losses += [loss for loss, _ in scored]
            part = next_part(drawing, scored)
        assert len(losses) == 400
        lowest[source] = min(losses)
    assert lowest["evolution"] < lowest["uniform"] - 5


def next_part(drawing, scored):
    try:
        return drawing.send(scored)
    except StopIteration:
        return None


@BOTH_SPACES
@BOTH_SOURCES
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 30, 101])
def test_the_budget_is_t_draws_and_no_more_scorings(run, asked, values, source, count):
    search, reports = search_of(2.0, **values), []
    scored = score(search, run, source, count, observe=reports.append)
    drawn = np.concatenate(drawn_by(search, source, count))
    counts = Counter(search.space.genotype(one) for one in drawn)
    assert len(drawn) == sum(one.draws for one in scored) == count
    assert [one.genotype for one in scored] == list(counts)  # in the order of the first draw
    assert {one.genotype: one.draws for one in scored} == counts
    assert len(asked) == len(set(asked)) == len(scored) <= count
    log = search.evaluator.distributions().log_probability
    for one, line in zip(scored, run.read("candidates"), strict=True):
        architecture = search.space.encode(one.genotype)
        assert (one.loss, one.accuracy) == pytest.approx(scores_of(architecture), nan_ok=True)
        assert one.log_probability == pytest.approx(float(log(architecture)))
        assert line["draws"] == one.draws
    assert reports[-1].finished
    assert not any(report.done == report.total for report in reports[:-1] if report.done < len(scored))


@BOTH_SOURCES
def test_architectures_are_drawn_again_in_later_parts(asked, source):
    """Else the tests of budget and resume would not see that a line's draws grow."""
    search = search_of(2.0)
    found = [{one.tobytes() for one in part} for part in drawn_by(search, source, 101)]
    assert any(found[first] & found[later] for later in range(len(found)) for first in range(later))


@BOTH_SOURCES
@pytest.mark.parametrize("values", [{}, CELL], ids=["cells", "edges"])
def test_a_killed_run_goes_on_and_ends_bit_for_bit_the_same(tmp_path, asked, monkeypatch, source, values):
    monkeypatch.setattr(module, "TOGETHER", 3)
    count, before, after = 30, search_of(2.0, **values), search_of(2.0, **values)
    with open_run(tmp_path / "whole") as run:
        whole = score(search_of(2.0, **values), run, source, count)
        expected = (run.folder / "candidates.jsonl").read_bytes()
    for moment in range(1, len(whole) + 1, 2 if values else 1):
        asked.clear()
        reports = []

        def stop(progress, reports=reports, moment=moment):
            reports.append(progress)
            if len(reports) == moment:
                raise StopError

        with open_run(tmp_path / str(moment)) as run, pytest.raises(StopError):
            score(before, run, source, count, observe=stop)
        with open_run(tmp_path / str(moment)) as run:
            lines = len(run.read("candidates"))
            assert lines >= moment
            if moment % 2:  # killed between two lines of a group
                run.keep("candidates", moment)
                lines = moment
            assert repr(score(after, run, source, count)) == repr(whole)
            assert (run.folder / "candidates.jsonl").read_bytes() == expected
            assert not (run.folder / "candidates-1.jsonl").exists()
        assert len(asked) <= len(whole) + 2  # those of a group whose lines were lost


@BOTH_SOURCES
def test_a_finished_journal_is_read_and_not_written(run, asked, source):
    first = score(search_of(2.0), run, source, 60)
    path = run.folder / "candidates.jsonl"
    before, modified = path.read_bytes(), path.stat().st_mtime_ns
    asked.clear()
    told = []
    assert repr(score(search_of(2.0), run, source, 60, observe=told.append)) == repr(first)
    assert [(one.finished, one.record) for one in told] == [(True, None)]  # that it was done before
    assert asked == []
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, modified)


def test_a_journal_of_another_source_or_budget_is_put_aside_and_known_scores_are_taken(run, asked):
    search = search_of(2.0, nodes=2)
    for number, (source, count) in enumerate(
        [("uniform", 50), ("evolution", 50), ("refit", 50), ("evolution", 30), ("evolution", 50), ("refit", 30)]
    ):
        before = set(asked)
        scored = score(search, run, source, count)
        assert len(asked) == len(set(asked))
        new = {search.space.encode(one.genotype).tobytes() for one in scored} - before
        assert set(asked) - before == new
        assert len(list(run.folder.glob("candidates-*.jsonl"))) == number
        assert sum(one.draws for one in scored) == count


def test_another_select_by_evolves_anew(run, asked):
    by_loss = score(search_of(nodes=2), run, "evolution", 40)
    by_accuracy = score(search_of(nodes=2, select_by="accuracy"), run, "evolution", 40)
    assert [one.genotype for one in by_loss] != [one.genotype for one in by_accuracy]
    assert (run.folder / "candidates-1.jsonl").exists()


def test_draws_depend_on_the_seed_and_not_on_global_state():
    for source in BY_SCORES:
        found = []
        for state in (0, 1):
            torch.manual_seed(state)
            np.random.default_rng(state).random()
            found.append(np.concatenate(drawn_by(search_of(nodes=2), source, 60)))
        np.testing.assert_array_equal(*found)
        assert not np.array_equal(found[0], np.concatenate(drawn_by(search_of(nodes=2, seed=1), source, 60)))


# The refitted evaluator


@BOTH_SPACES
def test_refit_finds_a_planted_optimum_better_than_plain_draws(values):
    count, means = 400, {}
    for source in ("refit", "evaluator"):
        lowest, last = [], []
        for seed in range(5):
            search = search_of(0.0, **{**values, "nodes": 4}, seed=seed)
            (planted,) = search.space.sample(np.random.default_rng(seed), 1, search.space.cell_types)
            planted = search.space.canonical(planted)
            drawing, found = parts(search, source, count), []
            part = next(drawing)
            while part is not None:
                distances = (search.space.canonical(part) != planted).reshape(len(part), -1).sum(1).astype(float)
                found.append(distances)
                part = next_part(drawing, [(distance, 0.5) for distance in distances])
            assert sum(map(len, found)) == count
            lowest.append(min(map(min, found)))
            last.append(found[-1].mean())
        means[source] = np.mean(lowest), np.mean(last)
    assert means["refit"][0] <= means["evaluator"][0] - (0 if "space" in values else 2)
    assert means["refit"][1] < means["evaluator"][1] - 1.5


@BOTH_SPACES
def test_refit_leaves_the_searchs_evaluator_as_it_is(run, asked, values):
    search = search_of(**values)
    before = copy.deepcopy(search.evaluator.state_dict())
    score(search, run, "refit", 60)
    after = search.evaluator.state_dict()
    assert all(torch.equal(value, before[name]) and value.dtype == before[name].dtype for name, value in after.items())
    assert all(parameter.grad is None for parameter in search.evaluator.parameters())


def test_refit_is_gradient_ascent_on_the_best_quarter():
    """One edge after another by hand: the gradient of a softmax's mean log-likelihood is frequency - probability."""
    search = search_of(space="nasbench201", nodes=4)
    drawing = parts(search, "refit", 80)
    first = next(drawing)
    losses = np.random.default_rng(0).permutation(len(first)).astype(float)
    losses[3] = math.nan
    best = first[np.argsort(np.where(np.isnan(losses), np.inf, losses))[:5], 0]
    logits = search.evaluator.alpha.detach().double().numpy()[0].copy()
    for _ in range(20):
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        logits += (best[..., None] == np.arange(5)).mean(0) - p
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    second = drawing.send([(loss, 0.5) for loss in losses])
    point = generator(0, "candidates from refit", 1).random((20, 1, 6, 1))
    np.testing.assert_array_equal(second[:, 0], (point[:, 0] >= p.cumsum(-1)).sum(-1))


@BOTH_SOURCES
def test_without_a_finite_score_it_goes_on(run, monkeypatch, source):
    monkeypatch.setattr(module, "evaluate", lambda search, some: [(math.nan, 0.1)] * len(some))
    scored = score(search_of(nodes=2), run, source, 20)
    assert sum(one.draws for one in scored) == 20


# Together with the rest


@BOTH_SOURCES
@pytest.mark.parametrize("by", ["loss", "accuracy"])
def test_a_search_selects_among_them(run, asked, source, by):
    search = search_of(candidates=40, baseline_candidates=5, candidate_source=source, select_by=by)
    winner = search_candidates(search, run)
    scored = score(search, run, source, 40)
    assert winner == select(scored, by)
    assert sum(line["draws"] for line in run.read("baseline")) == 5
    assert search_candidates(search, run) == winner


@BOTH_SOURCES
def test_workers_give_the_same(tmp_path, monkeypatch, forked, source):
    monkeypatch.setattr(module, "TOGETHER", 4)  # so that a part has several tasks, or a brood a single one
    monkeypatch.setattr(sources, "ROUNDS", 2)  # each starts workers
    journals = []
    for name, workers in (("here", Workers(threads=1)), ("two", Workers(2, threads=1))):
        with open_run(tmp_path / name) as run:
            score(search_of(nodes=2), run, source, 36, workers=workers)
            journals.append((run.folder / "candidates.jsonl").read_bytes())
    assert journals[0] == journals[1]


@BOTH_SOURCES
def test_racing_is_refused(run, source):
    with pytest.raises(ConfigError, match=f"scoring: 'racing' given with candidate_source '{source}'"):
        SearchConfig(**SMALL, scoring="racing", candidate_source=source)
    with pytest.raises(ValueError, match=f"source: '{source}' given"):
        score_by_racing(search_of(), run, source, 4)
    with pytest.raises(ValueError, match=f"source: '{source}' given"):
        draw(search_of(), source, 4)


def test_evolution_needs_no_evaluator_that_is_trained():
    assert SearchConfig(**SMALL, template_run="somewhere", candidate_source="evolution")
    with pytest.raises(ConfigError, match="'uniform' or 'evolution'"):
        SearchConfig(**SMALL, template_run="somewhere", candidate_source="refit")
