"""Caps on what candidates cost: every source obeys, and draws as it would have among what obeys."""

import csv
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from references import TINY, StopError, randomized

from setn_lab.compute.streams import generator
from setn_lab.config import ConfigError, short_hash
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run
from setn_lab.search import candidates as module
from setn_lab.search import caps as caps_module
from setn_lab.search import front, report, steps
from setn_lab.search.candidates import search_candidates
from setn_lab.search.caps import CapsError, Tally, within
from setn_lab.search.config import BY_SCORES, SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.search.sources import draw, parts
from setn_lab.search.stages import stages
from setn_lab.search.training import train
from setn_lab.space.nasbench201 import every

SIZE = {"final_channels": 4, "final_repeats": 1}
SMALL = {**TINY, "nodes": 1, "epochs": 1, "batch_size": 32, **SIZE}
CELL = {"space": "nasbench201", "nodes": 4}
BOTH_SPACES = pytest.mark.parametrize("values", [{"nodes": 2}, CELL], ids=["cells", "edges"])
SOURCES = "evaluator", "uniform", "argmax", *BY_SCORES


def search_of(scale=1.0, run=None, **changes):
    """A search whose template counts as trained, and whose evaluator is far from uniform."""
    config = changes.pop("config", None) or SearchConfig(**{**SMALL, **changes})
    search = prepare_search(config, run)
    randomized(search.evaluator, 0, scale)
    search.held.epochs = search.config.epochs
    return search


def median_caps(values, share=0.3):
    """Caps in parameters and multiply-adds that about so many uniform architectures obey each, in millions."""
    return dict(_quantiles(tuple(values.items()), share))


@cache
def _quantiles(values, share):
    search = search_of(**dict(values), max_parameters=1e6, max_multiply_adds=1e6)
    drawn = search.space.sample(np.random.default_rng(1), 300, search.space.cell_types)
    parameters, multiply_adds = (np.quantile(found, share) / 1e6 for found in search.caps.costs(drawn).values())
    return ("max_parameters", float(parameters)), ("max_multiply_adds", float(multiply_adds))


def obeys(search, architecture):
    """By the table's own sum, one architecture at a time."""
    return all(table.of(architecture) <= search.caps.limits[metric] for metric, table in search.caps.tables.items())


def drawn_by(search, source, count, tally=None):
    drawing = parts(search, source, count, tally)
    found = [next(drawing)]
    while True:
        try:
            found.append(drawing.send([(float(one.sum()), 0.5) for one in search.space.canonical(found[-1])]))
        except StopIteration:
            return np.concatenate(found)


@pytest.fixture
def cheap(monkeypatch):
    """Scores of the architecture alone; the architectures that were scored."""
    asked = []

    def evaluate(search, architectures):
        asked.extend(architecture.tobytes() for architecture in architectures)
        numbers = [int.from_bytes(one.astype(np.int64).tobytes(), "little") % 1009 for one in architectures]
        return [(number / 7, number / 1009) for number in numbers]

    monkeypatch.setattr(module, "evaluate", evaluate)
    return asked


@BOTH_SPACES
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_obeys(values, source):
    search = search_of(0.3, **values, **median_caps(values))
    tally = Tally()
    drawn = drawn_by(search, source, 40, tally)
    assert len(drawn) == (1 if source == "argmax" else 40)
    assert all(obeys(search, one) for one in search.space.canonical(drawn))
    if source != "argmax":
        assert tally.accepted == 40 < tally.drawn


@BOTH_SPACES
@pytest.mark.parametrize("source", ["evaluator", "uniform"])
def test_draws_are_those_of_the_source_without_what_costs_too_much(values, source):
    search = search_of(0.3, **values, **median_caps(values))
    rng, space = generator(search.config.seed, f"candidates from {source}"), search.space
    if source == "evaluator":
        some = search.evaluator.distributions().sample(rng, 1000)
    else:
        some = space.sample(rng, 1000, space.cell_types)
    places = [place for place, one in enumerate(some) if obeys(search, one)][:15]
    tally = Tally()
    found = draw(search, source, 15, tally)
    np.testing.assert_array_equal(found, space.canonical(some[places]))
    assert (tally.accepted, tally.drawn) == (15, places[-1] + 1)


def test_the_number_of_draws_is_that_of_all_parts():
    search = search_of(0.3, **median_caps({}))
    rng, shown, tally = np.random.default_rng(3), [], Tally()

    def some(number):
        shown.append(search.space.sample(rng, number, 2))
        return shown[-1]

    found = within(search.caps, "uniform", some, 15, tally, together=7)
    places = [place for place, one in enumerate(np.concatenate(shown)) if obeys(search, one)][:15]
    np.testing.assert_array_equal(found, np.concatenate(shown)[places])
    assert (tally.accepted, tally.drawn) == (15, places[-1] + 1)
    assert len(shown) > 2


def test_the_argmax_within_caps_is_the_most_probable_cell_that_obeys():
    caps = ({}, median_caps(CELL), {"max_parameters": 1e6})
    search, capped, loose = (search_of(2.0, **CELL, **given) for given in caps)
    for one in (search, capped, loose):
        one.evaluator.alpha.data[..., 3] += 2.0  # the costly operation
    free = draw(search, "argmax", 1)[0]
    assert not obeys(capped, free)
    cells = every()[:, None]
    allowed = cells[[obeys(capped, cell) for cell in cells]]
    best = allowed[search.evaluator.distributions().log_probability(allowed).argmax()]
    np.testing.assert_array_equal(draw(capped, "argmax", 1)[0], best)
    np.testing.assert_array_equal(draw(loose, "argmax", 1)[0], free)


@pytest.mark.parametrize("name", ["max_parameters", "max_multiply_adds", "max_latency"])
@BOTH_SPACES
def test_caps_that_nothing_obeys_are_refused_before_any_training(values, name):
    with pytest.raises(ConfigError, match=f"{name}: 1e-07 given; at least .* is allowed") as caught:
        search_of(**values, **{name: 1e-7})
    if name != "max_latency":  # which is measured anew
        least = float(str(caught.value).split("at least ")[1].split(" ")[0])
        assert search_of(**values, **{name: least}).caps is not None
        with pytest.raises(ConfigError, match=name):
            search_of(**values, **{name: 0.99 * least})


@pytest.mark.parametrize("source", ["evaluator", "argmax", "evolution", "refit", "uniform"])
def test_a_source_that_draws_too_little_says_what_it_saw(source):
    least = search_of(**CELL, max_parameters=1e6).caps.tables["parameters"].lowest
    search = search_of(**CELL, max_parameters=least / 1e6)
    search.evaluator.alpha.data[:] = 0
    search.evaluator.alpha.data[..., 2:4] = 30.0  # convolutions
    if source in ("uniform", "evolution"):
        search = replace(search, space=Dear(search.space))
    with pytest.raises(CapsError) as caught:
        drawn_by(search, source, 4)
    text = str(caught.value)
    assert f"candidate_source: '{source}'" in text
    assert "0 of 10,000 (0.00%)" in text
    seen = float(text.split("cheapest has ")[1].split(" ")[0])
    assert seen > least / 1e6
    assert "cost_weight" in text


class Dear:
    """A space of which the costly cells alone are drawn."""

    def __init__(self, space):
        self.space = space

    def __getattr__(self, name):
        return getattr(self.space, name)

    def sample(self, rng, *shape):
        return rng.integers(2, 4, size=(*shape, 6))


def test_networks_that_a_space_has_not_are_refused():
    with pytest.raises(ConfigError, match="final_network: 'imagenet' given; 'cifar'"):
        SearchConfig(**{**SMALL, **CELL}, final_network="imagenet")


# The stage, and the run folder


def test_caps_belong_to_the_candidates():
    base = SearchConfig(**TINY)
    first = stages(base)
    old = ("candidate_source", "candidates", "baseline_candidates", "select_by", "scoring")
    before = {name: getattr(base, name) for name in (*old, "scoring_batch_size", "batch_norm")}  # without caps
    assert first.candidates == short_hash(["candidates", first.evaluator, before])
    for change in ({"max_parameters": 3.3}, {"max_latency": 9.0}, {"final_channels": 8}, {"finalists": 3}):
        other = stages(replace(base, **change))
        assert other.candidates != first.candidates
        assert other._replace(candidates="") == first._replace(candidates="")


def test_another_cap_scores_what_is_new_and_trains_nothing(tmp_path, cheap, monkeypatch):
    caps = {"max_parameters": median_caps({})["max_parameters"]}
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "run"), baseline_candidates=5)
    with Run.open(config, "search") as run:
        train(prepare_search(config, run), run)
        search_candidates(prepare_search(config, run), run)
    free = (run.folder / "candidates.jsonl").read_bytes()
    monkeypatch.setattr(steps.Trainer, "weight_step", lambda *_: pytest.fail("trained again"))
    capped = replace(config, **caps)
    cheap.clear()
    with Run.open(capped, "search") as run:
        search = prepare_search(capped, run)
        winner = search_candidates(search, run)
    for journal in ("candidates", "baseline"):
        texts = [line["genotype"] for line in read_journal(run.folder / f"{journal}.jsonl")]
        assert all(obeys(search, search.space.encode(search.space.read(text))) for text in texts)
    assert obeys(search, search.space.encode(winner.genotype))
    told = json.loads((run.folder / "caps.json").read_text(encoding="utf-8"))
    assert told["draws"]["candidates"]["accepted"] == 6
    assert told["draws"]["candidates"]["drawn"] > 6
    assert told["winner"]["parameters"] == search.caps.tables["parameters"].of(search.space.encode(winner.genotype))
    with Run.open(config, "search") as run:
        search_candidates(prepare_search(config, run), run)
    assert (run.folder / "candidates.jsonl").read_bytes() == free
    assert not (run.folder / "caps.json").exists()
    assert len(cheap) == len(set(cheap))


@pytest.mark.parametrize("source", ["evaluator", "evolution"])
def test_a_killed_scoring_goes_on_within_the_caps(tmp_path, cheap, monkeypatch, source):
    monkeypatch.setattr(module, "TOGETHER", 2)
    values = {**SMALL, **median_caps({}), "candidate_source": source, "candidates": 12}
    results = []
    for name in ("whole", "killed"):
        config = SearchConfig(**values, run_dir=str(tmp_path / name))
        for moment in (3, 7, None) if name == "killed" else (None,):
            told = []

            def observe(progress, told=told, moment=moment):
                told.append(progress)
                if len(told) == moment:
                    raise StopError

            with Run.open(config, "search") as run:
                if moment:
                    with pytest.raises(StopError):
                        search_candidates(search_of(config=config), run, observe)
                else:
                    search_candidates(search_of(config=config), run, observe)
        files = ("candidates.jsonl", "caps.json", "genotype.json")
        results.append([(run.folder / file).read_bytes() for file in files])
        assert not (run.folder / "candidates-1.jsonl").exists()
    assert results[0] == results[1]


def test_latencies_are_measured_once_for_a_run(tmp_path, cheap, monkeypatch):
    config = SearchConfig(**SMALL, max_latency=1e6, run_dir=str(tmp_path / "run"))
    with Run.open(config, "search") as run:
        search = search_of(config=config, run=run)
        winner = search_candidates(search, run)
    table = search.caps.tables["latency"]
    told = json.loads((run.folder / "caps.json").read_text(encoding="utf-8"))
    assert told["winner"]["latency"] == pytest.approx(table.of(search.space.encode(winner.genotype)))
    assert told["measured"] > 0
    with monkeypatch.context() as patch, Run.open(config, "search") as run:
        patch.setattr(caps_module.FinalSize, "table", lambda *_: pytest.fail("measured again"))
        again = search_of(config=config, run=run).caps.tables["latency"]
        assert run.made_from("genotype.json") is not None
    np.testing.assert_array_equal(again.operations, table.operations)
    found, space = front.read_front(run.folder), search.space
    expected = [1000 * table.of(space.encode(space.read(text))) for text in found.genotypes]
    assert found.costs["latency"].tolist() == pytest.approx(expected)
    (run.folder / "latencies.json").unlink()
    with Run.open(config, "search") as run:
        search_of(config=config, run=run)
        assert run.made_from("genotype.json") is None  # it obeyed another table


@pytest.mark.parametrize("values", [{}, CELL], ids=["cells", "edges"])
def test_the_report_has_the_front_of_all_that_was_scored(tmp_path, cheap, values):
    caps = median_caps(values)
    config = SearchConfig(**{**SMALL, **values, **caps}, run_dir=str(tmp_path / "run"), baseline_candidates=8)
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        train(search, run)
        search_candidates(search, run)
    page = report.write(run.folder, tmp_path / "page").read_text(encoding="utf-8")
    assert f"{caps['max_parameters']:.10g} M parameters" in page
    assert (tmp_path / "page" / "front.svg").exists()
    rows = list(csv.DictReader((tmp_path / "page" / "costs.csv").read_text(encoding="utf-8").splitlines()))
    journals = [line for name in ("candidates", "baseline") for line in run_lines(run.folder, name)]
    assert {row["genotype"] for row in rows} == {line["genotype"] for line in journals}
    assert all(float(row["parameters [M]"]) <= caps["max_parameters"] for row in rows)
    found = front.read_front(run.folder)
    for metric, costs in found.costs.items():
        on = found.on(metric)
        pairs = list(zip(costs, found.loss, strict=True))
        for place, (cost, loss) in enumerate(pairs):
            beaten = any(c <= cost and other <= loss and (c, other) != (cost, loss) for c, other in pairs)
            assert on[place] != beaten
            assert f"`{found.genotypes[place]}`" in page or not on[place]


def run_lines(folder, journal):
    return read_journal(folder / f"{journal}.jsonl")
