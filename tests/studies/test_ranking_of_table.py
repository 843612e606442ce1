"""The pairwise study of cells that are trained already: scores, statistics, resume, and what names the run."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from parameters import as_options
from references import ndcg_by_hand, run_study, weighted_tau_by_hand

from setn_lab.cli import main
from setn_lab.config import ConfigError, identity
from setn_lab.network.costs import cost
from setn_lab.network.discrete import CifarNetwork
from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run
from setn_lab.search import candidates
from setn_lab.search.scoring import evaluate
from setn_lab.search.setup import prepare_search
from setn_lab.search.training import load_trained
from setn_lab.space import LARGE, SearchSpace
from setn_lab.space.genotype import Genotype
from setn_lab.studies import ranking, ranking_report
from setn_lab.studies.groundtruth.table import TableError
from setn_lab.studies.ranking import RankingConfig
from setn_lab.studies.ranking_results import networks
from setn_lab.studies.zero_cost import ZERO_COST

pytestmark = pytest.mark.usefixtures("few_resamples")

SPACE = SearchSpace(LARGE, 2)
TRUE = [91.5, 97.25, 93.0, 91.5, 95.125, 96.0, 90.0, 92.75]
TWICE = [(96.5, 96.0), (97.0, 97.5), (95.0, 94.0), (96.0, 96.25), (94.0, 95.0)]


def cells(seed=0):
    drawn = SPACE.sample(np.random.default_rng(seed), 40, 2)
    return list(dict.fromkeys(SPACE.write(SPACE.genotype(one)) for one in drawn))[: len(TRUE)]


def write(path, rows, header):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_table(path, true=TRUE, other=50.0):
    rows = [(text, value, other) for text, value in zip(cells(), true, strict=True)]
    return write(path, rows, ("genotype", "cifar10_test", "other"))


@pytest.fixture(scope="module")
def values(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return {
        **tiny,
        "space": "large",
        "nodes": SPACE.nodes,
        "image_size": 4,
        "retrain_channels": 4,
        "retrain_repeats": 1,
        "table": str(write_table(folder / "cells.csv")),
        "zero_cost_images": 5,
        "two_seeds": str(write(folder / "twice.csv", TWICE, ("seed_1", "seed_2"))),
        "interactive": False,
    }


def study(monkeypatch, root, values, **more):
    monkeypatch.setenv("SETN_LAB_RUNS", str(root))
    monkeypatch.setattr(candidates, "TOGETHER", 2)
    return run_study("ranking", ranking.collect, RankingConfig(**{**values, **more}))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, values):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return study(monkeypatch, tmp_path_factory.mktemp("runs"), values)


def results(folder):
    return {name: (folder / name).read_bytes() for name in ("scored.jsonl", "trained.jsonl", "two_seeds.json")}


def test_every_cell_is_scored_as_a_candidate_is(finished, values):
    scored = read_journal(finished / "scored.jsonl")
    assert [Genotype.from_darts(one["genotype"]) for one in scored] == [Genotype.from_darts(text) for text in cells()]
    config = RankingConfig(**values).search("setn")
    (folder,) = finished.parent.glob("search-*")
    with Run.open(replace(config, run_dir=str(folder)), "search") as run:
        search = prepare_search(replace(config, run_dir=str(folder)), run)
        load_trained(search, run)
    architectures = [SPACE.encode(Genotype.from_darts(text)) for text in cells()]
    assert evaluate(search, architectures) == [(one["loss"], one["accuracy"]) for one in scored]
    probabilities = search.evaluator.distributions().log_probability(np.stack(architectures))
    assert [one["log_probability"] for one in scored] == pytest.approx(probabilities.tolist())


def test_free_predictors_are_those_of_the_final_network(finished):
    """On images of 8x8, which the template sees at 4x4."""
    found = networks(finished)
    for number, text in enumerate(cells()):
        genotype = Genotype.from_darts(text)
        size = cost(CifarNetwork(genotype, 4, 1, 10, image_channels=1), 8)
        assert found.predictors["parameters"][number] == size.parameters
        assert found.predictors["multiply_adds"][number] == size.multiply_adds
        normal = text.partition("normal_concat")[0]
        assert found.predictors["separable_convolutions"][number] == normal.count("sep_conv")
    assert found.true.tolist() == pytest.approx([value / 100 for value in TRUE])


def test_scores_before_training_and_the_blend_are_predictors(finished):
    found = networks(finished)
    lines = read_journal(finished / "zero-cost.jsonl")
    assert [Genotype.from_darts(line["genotype"]) for line in lines] == [Genotype.from_darts(one) for one in cells()]
    for name in ZERO_COST:
        values = [-np.inf if np.isnan(line[name]) else line[name] for line in lines]
        assert found.predictors[name].tolist() == values
        assert f"| {name}, before training |" in ranking_report.table(finished)
    ranks = [
        [sum(one > other for other in values) + sum(one == other for other in values) / 2 for one in values]
        for values in (found.predictors[name] for name in ("loss", "separable_convolutions"))
    ]
    order = np.argsort(np.mean(ranks, 0), kind="stable")
    assert order.tolist() == np.argsort(found.predictors["blend"], kind="stable").tolist()


def compared(predicted, true):
    """Good pairs, tau-b, NDCG and weighted tau of all pairs, by their definitions."""
    pairs = [
        (np.sign(predicted[a] - predicted[b]), np.sign(true[a] - true[b])) for a, b in combinations(range(len(true)), 2)
    ]
    untied = np.sqrt(sum(x != 0 for x, _ in pairs) * sum(y != 0 for _, y in pairs))
    return {
        "good_pairs": sum(x == y for x, y in pairs) / len(pairs),
        "kendall_tau": sum(x * y for x, y in pairs) / untied,
        "ndcg": ndcg_by_hand(predicted, true),
        "weighted_tau": weighted_tau_by_hand(predicted, true),
    }


def test_the_summary_compares_all_pairs_by_every_predictor(finished):
    found, predictors = ranking_report.summary(finished), networks(finished).predictors
    assert (found["networks"], found["pairs"], found["pairs_with_itself"], found["pairs_left_out"]) == (8, 28, 0, 0)
    rows = {"accuracy": found, **found["baselines"]}
    free = {"parameters", "multiply_adds", "separable_convolutions", *ZERO_COST}
    assert set(rows) == {"accuracy", "loss", "log_probability", "blend", *free}
    for name, row in rows.items():
        expected = compared(predictors[name].tolist(), TRUE)
        assert {key: row[key] for key in expected} == pytest.approx(expected), name
        for key in ("good_pairs", "kendall_tau", "weighted_tau", "spearman_rho"):
            detail = row[f"{key}_detail"]
            assert detail["value"] == row[key]
            assert detail["note"] or detail["low"] <= row[key] <= detail["high"]
        assert sum(group["share"]["count"] for group in row["good_pairs_by_gap"]) == 28
    ceiling = found["ceiling"]
    expected = compared(*([pair[seed] for pair in TWICE] for seed in (0, 1)))
    assert {key: ceiling[key] for key in expected} == pytest.approx(expected)
    assert ceiling["networks"] == 5
    assert ceiling["kendall_tau_detail"]["low"] < ceiling["kendall_tau"]


def test_the_table_shows_the_ceiling_where_there_is_one(finished, values, tmp_path, monkeypatch):
    assert "| ceiling" in ranking_report.table(finished)
    shutil.copytree(finished.parent, tmp_path / "runs")
    folder = study(monkeypatch, tmp_path / "runs", values, two_seeds=None)
    assert folder.name == finished.name
    assert "ceiling" not in ranking_report.table(folder)
    assert "ceiling" not in ranking_report.summary(folder)


KILLED = """
import json, os, signal, sys
from setn_lab.runs import Run
from setn_lab.search import candidates
from setn_lab.search.scoring import evaluate
from setn_lab.studies import ranking

values, left = json.loads(sys.argv[1]), int(sys.argv[2])
candidates.TOGETHER = 2

def observe(progress):
    global left
    left -= progress.phase == "score"
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

config = ranking.RankingConfig(**values)
with Run.open(config, "ranking") as run:
    ranking.collect(config, run, observe)
"""


def test_a_killed_scoring_goes_on_and_ends_the_same(finished, values, tmp_path, monkeypatch):
    environment = {**os.environ, "SETN_LAB_RUNS": str(tmp_path / "runs")}
    command = [sys.executable, "-c", KILLED, json.dumps(values), "3"]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (journal,) = (tmp_path / "runs").glob("ranking-*/scored.jsonl")
    begun = journal.read_bytes()
    assert 2 <= begun.count(b"\n") < len(TRUE)
    scored = []
    real = evaluate
    monkeypatch.setattr(candidates, "evaluate", lambda search, group: scored.extend(group) or real(search, group))
    folder = study(monkeypatch, tmp_path / "runs", values)
    assert len(scored) == len(TRUE) - begun.count(b"\n")
    assert folder.name == finished.name
    assert (folder / "scored.jsonl").read_bytes().startswith(begun)
    assert results(folder) == results(finished)


def test_the_same_table_elsewhere_is_the_same_run(finished, values, tmp_path, monkeypatch):
    shutil.copytree(finished.parent, tmp_path / "runs")
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl")}
    other = write_table(tmp_path / "moved.csv", other=51.0)  # of which nothing is used
    folder = study(monkeypatch, tmp_path / "runs", values, table=str(other))
    assert folder.name == finished.name
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl")} == before


def test_a_table_that_has_changed_is_noticed(values, tmp_path, monkeypatch):
    path = tmp_path / "cells.csv"
    own = {**values, "table": str(write_table(path))}
    for run_dir in (None, str(tmp_path / "mine")):
        write_table(path)
        study(monkeypatch, tmp_path / "runs", own, run_dir=run_dir)
        write_table(path, [*TRUE[:-1], 99.0])
        with pytest.raises(RunError, match=r"table: .*highest: 97.25 there, 99.0 here"):
            study(monkeypatch, tmp_path / "runs", own, run_dir=run_dir)


def test_another_column_is_another_run_on_the_same_template(finished, values, tmp_path, monkeypatch):
    shutil.copytree(finished.parent, tmp_path / "runs")
    folder = study(monkeypatch, tmp_path / "runs", values, table_column="other")
    assert folder.name != finished.name
    assert len(list((tmp_path / "runs").glob("search-*"))) == 1
    assert ranking_report.summary(folder)["kendall_tau_detail"]["note"] == "all true values are equal"
    assert ranking_report.summary(folder)["ndcg"] is None
    ranking_report.write(folder, tmp_path / "page")


def test_a_study_without_a_table_keeps_its_name():
    assert "table" not in identity(RankingConfig())
    assert "table_column" not in identity(RankingConfig())
    assert "two_seeds" not in identity(RankingConfig())


@pytest.mark.parametrize("parameter", ["table", "two_seeds"])
def test_a_bad_table_is_refused_before_anything_is_trained(values, tmp_path, monkeypatch, parameter):
    bad = tmp_path / "bad.csv"
    bad.write_text("genotype,cifar10_test,seed_1,seed_2\nx,y,z,90\n", encoding="utf-8")
    with pytest.raises(TableError, match="line 2"):
        study(monkeypatch, tmp_path / "runs", values, **{parameter: str(bad)})
    assert not list((tmp_path / "runs").glob("search-*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finalists": 2}, "finalists: 2 given with table"),
        ({"table": None}, "two_seeds: .* given without table"),
        ({"table": None, "two_seeds": None, "table_column": "other"}, "table_column: 'other' given without table"),
    ],
)
def test_parameters_that_do_not_go_with_a_table_are_refused(values, changes, message):
    with pytest.raises(ConfigError, match=message):
        RankingConfig(**{**values, **changes})


def test_a_shared_template_scores_too(values, tmp_path, monkeypatch):
    folder = study(monkeypatch, tmp_path, values, strategy="setn-lr", epochs=1)
    assert networks(folder).compared == 28


def test_the_command_line_scores_and_reports_a_table(values, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    assert main(["study", "ranking", *as_options(values)]) == 0
    (folder,) = (tmp_path / "runs").glob("ranking-*")
    assert "ceiling" in capsys.readouterr().out
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["networks"] == len(TRUE)
    assert main(["report", str(folder), str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "README.md").read_text(encoding="utf-8")
    assert "cells.csv" in page
    assert "Finalists" not in page
    published = (tmp_path / "page" / "config.json").read_text(encoding="utf-8")
    assert values["table"] not in published + page
    assert values["two_seeds"] not in published + page
    assert main(["study", "ranking", *as_options({**values, "table": str(tmp_path / "none.csv")})]) == 2
    assert "none.csv cannot be read" in capsys.readouterr().err
