"""The study with true accuracies, on digits and with a table that is made here."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from references import run_study
from scipy.stats import kendalltau, spearmanr

from setn_lab.cli import main
from setn_lab.config import ConfigError
from setn_lab.data.batches import normalize_images
from setn_lab.evaluator.nasbench201 import NASBench201Distributions
from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run
from setn_lab.search.scoring import evaluate
from setn_lab.search.setup import prepare_search
from setn_lab.search.sources import draw
from setn_lab.search.training import train
from setn_lab.space import nasbench201
from setn_lab.space.nasbench201 import NASBench201Genotype, NASBench201Space
from setn_lab.studies import zero_cost
from setn_lab.studies.groundtruth import figures, report, results, study
from setn_lab.studies.groundtruth.study import GroundTruthConfig
from setn_lab.studies.groundtruth.table import TableError

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "groundtruth.ipynb"
SPACE, SEEDS, DRAWN, RANKED = NASBench201Space(), 2, 8, 12
SWITCHES = "sampling=fair", "batch_norm=recalibrated+path_dropout=0"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    every = nasbench201.every()
    accuracy = 40 + 8 * (every == 3).sum(1) - 3 * (every == 0).sum(1) + np.random.default_rng(0).random(len(every))
    texts = [SPACE.write(SPACE.genotype(one)) for one in every]
    path = tmp_path_factory.mktemp("truth") / "table.csv"
    pd.DataFrame({"arch": texts, "cifar10_test_200ep": accuracy}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def config(tiny, table):
    values = {**tiny, "nodes": 4, "epochs": 2, "candidates": DRAWN, "table": str(table)}
    rows = {"seeds": SEEDS, "ranked": RANKED, "switches": ", ".join(SWITCHES), "zero_cost_images": 6}
    return GroundTruthConfig(**values, **rows, evaluator_lr=0.5)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """The run folder of a finished study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SETN_LAB_RUNS", str(tmp_path_factory.mktemp("runs")))
        return run_study("groundtruth", study.collect, config)


@pytest.fixture(scope="module")
def found(finished):
    """What the study came to."""
    return results.read(finished)


def test_the_rows_are_strategies_and_switches_over_their_seeds(config):
    searches = [(name, seed, search) for name, seed, search in config.searches()]
    names = [f"{name}-{seed}" for name, seed, _ in searches]
    assert names == [
        *(f"{strategy}-{seed}" for strategy in ("setn", "setn-lr", "setn-non") for seed in (0, 1)),
        *(f"{switch}-0" for switch in SWITCHES),
    ]
    by_name = {name: search for name, (_, _, search) in zip(names, searches, strict=True)}
    fair, recalibrated = (by_name[f"{switch}-0"] for switch in SWITCHES)
    plain = by_name["setn-0"]
    assert fair == replace(plain, sampling="fair")
    assert recalibrated == replace(plain, batch_norm="recalibrated", path_dropout=0.0)
    assert {search.strategy for name, search in by_name.items() if name.startswith("setn-lr")} == {"setn-lr"}
    assert len({json.dumps(vars(search)) for search in by_name.values()}) == len(names)


@pytest.mark.parametrize(
    ("switches", "reason"),
    [
        ("fair", "'fair' in it is no switch; name=value is allowed"),
        ("sampling=fair,,", "name=value is allowed"),
        ("sampling=fair+sampling=uniform", "each name once"),
        ("seed=3", "one of strategy, .*sampling"),
        ("sampling=fair, sampling = fair", "rows that differ are allowed"),
        ("strategy=setn-lr", "'strategy=setn-lr' changes nothing"),
        ("scoring=racing", "'scoring=racing' in it is no switch"),
        ("device=cpu", "'device=cpu' in it is no switch"),
        ("sampling=fiar", "sampling: 'fiar' .*given"),
        ("pathdropout=0", "is no switch"),
        ("epochs=200+evaluator_start=300", "evaluator_start: 300 given"),
    ],
)
def test_a_switch_that_is_none_is_refused(switches, reason):
    with pytest.raises(ConfigError, match=rf"(?s)switches: .* given; .*{reason}"):
        GroundTruthConfig(switches=switches)


@pytest.mark.parametrize("strategies", ["setn, setn", "darts", "", "setn; setn-lr"])
def test_strategies_that_are_none_are_refused(strategies):
    with pytest.raises(ConfigError, match=r"strategies: .* given; one or several of setn, setn-lr, setn-non"):
        GroundTruthConfig(strategies=strategies)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_row_on_the_template_of_another_trains_its_evaluator_alone(config, monkeypatch, forked, tmp_path, workers):
    """The rows with `evaluator_epochs` equal searches of the same kind made by hand."""
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    rows = "evaluator_epochs=2, evaluator_gradient=rloo+evaluator_epochs=2"
    wanted = replace(config, strategies="setn", seeds=1, switches=rows, switch_seeds=1)
    spread = {"workers": workers, "worker_threads": torch.get_num_threads()}
    folder = run_study("groundtruth", study.collect, replace(wanted, **spread))
    names = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    assert len(set(names.values())) == 3
    first = tmp_path / "runs" / names["setn-0"]
    for name, _, search in list(wanted.searches())[1:]:
        trained = read_journal(tmp_path / "runs" / names[f"{name}-0"] / "metrics.jsonl")
        assert [line["weight_loss"] for line in trained] == [None] * 3  # of the taken template, and of two epochs
        alone = replace(search, template_run=str(first), run_dir=str(tmp_path / name))
        with Run.open(alone, "search") as run:
            train(prepare_search(alone, run), run)
        own, by_hand = (
            [{**line, "seconds": 0} for line in part]
            for part in (trained, read_journal(tmp_path / name / "metrics.jsonl"))
        )
        assert own == by_hand
    uniform = [scored(folder, f"{name}-0", "uniform") for name, _, _ in wanted.searches()]
    assert uniform[0] == uniform[1] == uniform[2]


def test_fewer_uniform_architectures_than_candidates_are_refused():
    with pytest.raises(ConfigError, match=r"ranked: 5 given; candidates \(6\) or more are allowed"):
        GroundTruthConfig(ranked=5, candidates=6)


def test_without_a_table_there_is_no_truth():
    with pytest.raises(TableError, match=r"table: None given; .* -p table PATH"):
        GroundTruthConfig().truth()


def scored(folder, name, journal):
    records = read_journal(folder / f"{name}.{journal}.jsonl")
    return [(NASBench201Genotype.from_text(one["genotype"]), one["loss"], one["draws"]) for one in records]


def test_rows_of_many_changes_have_titles_that_fit_above_their_axes(finished, found, tmp_path):
    study, changes = found, "+path_dropout=0+weight_lr=0.1+weight_lr_end=0.1"
    names = [f"strategy=setn-lr+sampling={kind}{changes}" for kind in ("uniform", "fair", "connected")]
    for name in names:
        shutil.copy(finished / "setn-0.uniform.jsonl", tmp_path / f"{name}-0.uniform.jsonl")
    study = replace(study, folder=tmp_path, rows=dict.fromkeys(names, study.rows["setn"]))
    for drawn in (figures.epochs_figure, figures.scatter_figure):
        figure = drawn(study)
        figure.draw_without_rendering()
        titles = [ax.title for ax in figure.axes]
        assert [one.get_text().replace("\n", " ").replace(" + ", "+") for one in titles] == names
        boxes = [one.get_window_extent() for one in titles]
        assert boxes[0].x0 > 0
        assert boxes[-1].x1 < figure.bbox.x1
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
        plt.close(figure)


def test_the_figures_are_those_of_the_journals(finished, found, config):
    truth = config.truth()
    assert list(found.rows) == ["setn", "setn-lr", "setn-non", *SWITCHES]
    for name, seeds in found.rows.items():
        for seed, one in enumerate(seeds):
            drawn, uniform = (scored(finished, f"{name}-{seed}", journal) for journal in ("candidates", "uniform"))
            assert sum(draws for _, _, draws in drawn) == DRAWN
            assert sum(draws for _, _, draws in uniform) == RANKED
            winner = min(drawn, key=lambda candidate: candidate[1])[0]
            assert one.chosen == truth.of(winner.array)
            assert one.chosen_rank == 1 + (truth.accuracy > one.chosen).sum()
            pool = uniform[:DRAWN]
            assert one.uniform == truth.of(min(pool, key=lambda candidate: candidate[1])[0].array)
            values = np.repeat([truth.of(g.array) for g, _, _ in drawn], [draws for _, _, draws in drawn])
            assert one.candidates == pytest.approx((values.mean(), values.std()))
            true, loss = [truth.of(g.array) for g, _, _ in uniform], [loss for _, loss, _ in uniform]
            assert one.agreement["100%"]["kendall_tau"] == pytest.approx(-kendalltau(loss, true).statistic)
            signs = [
                (a < b) != (x < y)
                for i, (a, x) in enumerate(zip(loss, true, strict=True))
                for b, y in zip(loss[:i], true[:i], strict=True)
            ]
            assert one.agreement["100%"]["good_pairs"] == pytest.approx(np.mean(signs))
            middle = sorted(true, reverse=True)[: -(-len(true) // 2)]
            best = [place for place in range(RANKED) if true[place] in middle][: -(-len(true) // 2)]
            tau = kendalltau([-loss[place] for place in best], [true[place] for place in best]).statistic
            assert one.agreement["50%"]["kendall_tau"] == pytest.approx(tau)
            counts = [g.operations.count("nor_conv_3x3") for g, _, _ in uniform]
            assert one.uses["nor_conv_3x3"] == pytest.approx(-spearmanr(counts, loss).statistic)
            assert one.best_of["1"] == pytest.approx(values.mean())
            records = read_journal(finished / f"{name}-{seed}.evaluator.jsonl")
            assert len(one.spread) == 2
            last = NASBench201Distributions.from_record(SPACE, records[-1])
            sample = truth.of(last.sample(np.random.default_rng(0), 4000)[:, 0])
            mean, *quantiles = one.spread[-1]
            assert mean == pytest.approx(sample.mean(), abs=5 * sample.std() / 4000**0.5)
            for value, quantile in zip(quantiles, (0.1, 0.5, 0.9), strict=True):
                assert (sample <= value).mean() == pytest.approx(quantile, abs=0.03)


def test_a_spread_counts_values_as_often_as_they_are_drawn():
    values, often = np.random.default_rng(0).random(50), np.random.default_rng(1).integers(1, 9, 50)
    repeated = np.repeat(values, often)
    expected = [repeated.mean(), *(np.quantile(repeated, q, method="inverted_cdf") for q in (0.1, 0.5, 0.9))]
    assert results.spread_of(values, often / 7) == pytest.approx(expected)


def test_the_baselines_rank_all_architectures(config):
    truth = config.truth()
    rows = results.baselines(truth)
    every = nasbench201.every()
    count = 9 * (every == 3).sum(1) + (every == 2).sum(1)
    tau = kendalltau(count, truth.accuracy).statistic
    assert rows["convolutions"]["100%"]["kendall_tau"] == pytest.approx(tau)
    assert rows["parameters"]["100%"]["kendall_tau"] == pytest.approx(tau)  # the same order


def test_what_costs_nothing_chooses_among_the_same_candidates(finished, found, config):
    """By counting operations of each candidate, one by one."""
    truth = config.truth()
    weights = {"nor_conv_3x3": 9, "nor_conv_1x1": 1}
    for name, seeds in found.rows.items():
        for result in seeds:
            sources = ("candidates", result.free), ("uniform", result.free_uniform)
            for journal, free in sources:
                some = [one for one, _, _ in scored(finished, f"{name}-{result.seed}", journal)][:DRAWN]
                counts = [sum(weights.get(SPACE.operations[o], 0) for o in one.array.ravel()) for one in some]
                best = [truth.of(one.array) for one, count in zip(some, counts, strict=True) if count == max(counts)]
                assert free["convolutions"] == pytest.approx(np.mean(best))
                assert free["parameters"] == pytest.approx(free["convolutions"])  # 9 to 1 is their ratio of weights
                losses = [loss for _, loss, _ in scored(finished, f"{name}-{result.seed}", journal)][:DRAWN]
                ranks = [
                    sum((loss < other) + (loss == other) / 2 for other in losses)
                    + sum((count > other) + (count == other) / 2 for other in counts)
                    for loss, count in zip(losses, counts, strict=True)
                ]
                best = [truth.of(one.array) for one, rank in zip(some, ranks, strict=True) if rank == max(ranks)]
                assert free[results.BLEND] == pytest.approx(np.mean(best))
    text = report.choices_table(found)
    assert text.count("| candidates |") == text.count("| uniform |") == len(found.rows)


def test_scores_before_training_are_those_of_untrained_networks(finished, found, config):
    (_, _, search_config), *_ = config.searches()
    search = prepare_search(search_config)
    uniform = read_journal(finished / "setn-0.uniform.jsonl")
    records = read_journal(finished / "zero-cost.jsonl")
    assert {record["genotype"] for record in records} == {record["genotype"] for record in uniform}
    images, labels = search.valid.images[:6], search.valid.labels[:6]
    batch = normalize_images(images, search.normalization), labels
    for record in records[:3]:
        architecture = SPACE.encode(SPACE.read(record["genotype"]))
        network = zero_cost.Untrained(search.template, architecture)
        assert all(record[name] == score(network, *batch) for name, score in zero_cost.ZERO_COST.items())
    true = config.truth().of(np.array([SPACE.encode(SPACE.read(record["genotype"]))[0] for record in records]))
    for name, agreement in found.zero_cost.items():
        values = [-np.inf if np.isnan(record[name]) else record[name] for record in records]
        assert agreement["100%"]["kendall_tau"] == pytest.approx(kendalltau(values, true).statistic)
    assert all(f"| {name}, of {RANKED} |" in report.ranking_table(found) for name in zero_cost.ZERO_COST)


def test_scores_before_training_go_on_and_refuse_others(finished, config, tmp_path):
    (_, _, search_config), *_ = config.searches()
    search = prepare_search(search_config)
    whole = (finished / "zero-cost.jsonl").read_bytes()
    with Run.open(replace(config, run_dir=str(tmp_path / "run")), "groundtruth") as run:
        run.write("zero-cost.jsonl", b"".join(whole.splitlines(True)[:5]).decode())
        zero_cost.score_untrained(search, run, draw(search, "uniform", RANKED), 6)
        assert (run.folder / "zero-cost.jsonl").read_bytes() == whole
        run.write("zero-cost.jsonl", b"".join(whole.splitlines(True)[1:3]).decode())
        with pytest.raises(RunError, match="other architectures"):
            zero_cost.score_untrained(search, run, draw(search, "uniform", RANKED), 6)


def test_the_ceiling_compares_what_the_table_has_twice(config):
    truth = config.truth()
    assert results.CEILING not in results.baselines(truth)
    noisy = truth.accuracy + np.random.default_rng(5).normal(0, 2, len(truth.accuracy))
    found = results.baselines(replace(truth, validation=noisy, tested=truth.accuracy))[results.CEILING]
    assert found["100%"]["kendall_tau"] == pytest.approx(kendalltau(noisy, truth.accuracy).statistic)


def test_the_progress_has_the_seconds_of_the_search(finished, found):
    for name, seeds in found.rows.items():
        for result in seeds:
            lines = read_journal(finished / f"{name}-{result.seed}.metrics.jsonl")
            assert result.seconds == pytest.approx([sum(one["seconds"] for one in lines[: k + 1]) for k in range(2)])
            assert len(result.spread) == len(lines) == 2
    assert report.progress_table(found).count(" s |") == 2 * len(found.rows)


def test_the_summary_has_every_row_and_is_whole_without_a_table_in_it(found, tmp_path):
    page = report.write(found, tmp_path / "report")
    summary = json.loads((page.parent / "summary.json").read_text(encoding="utf-8"))
    for name in ("setn", "setn-rand", "setn-lr", "setn-non", *SWITCHES):
        assert 0 < summary[name]["chosen_true_accuracy_mean"] < 100
        assert -1 <= summary[name]["kendall_tau_mean"] <= 1
    chosen = [one["chosen"] for one in summary["setn"]["seeds"]]
    assert summary["setn"]["chosen_true_accuracy_mean"] == pytest.approx(np.mean(chosen))
    assert summary["setn"]["chosen_true_accuracy_std"] == pytest.approx(np.std(chosen, ddof=1))
    assert set(summary["baselines"]) == {"parameters", "multiply_adds", "convolutions"}
    assert {path.name for path in page.parent.iterdir()} == {
        *("README.md", "config.json", "epochs.svg", "scatter.svg", "summary.json", "tables.md")
    }
    for name in ("quality", "ranking", "operations", "draws"):
        text = getattr(report, f"{name}_table")(found).split("\n\n")[0]
        assert len({line.count("|") for line in text.splitlines()}) == 1  # no row is longer than another
    assert "nan" not in page.read_text(encoding="utf-8").lower().replace("nanosecond", "")


def test_a_study_that_is_begun_again_scores_nothing_again(finished, config, monkeypatch):
    monkeypatch.setenv("SETN_LAB_RUNS", str(finished.parent))
    scored = []
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    with Run.open(config, "groundtruth") as run:
        study.collect(config, run, lambda progress: scored.append(progress.record))
    assert not any(scored)
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before


def test_a_row_is_what_the_search_alone_gives(finished, config, tmp_path, monkeypatch):
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path))
    (search_config,) = [one for name, seed, one in config.searches() if (name, seed) == (SWITCHES[0], 0)]
    with Run.open(search_config, "search") as run:
        search = prepare_search(search_config, run)
        train(search, run)
    genotype, loss, _ = scored(finished, f"{SWITCHES[0]}-0", "uniform")[0]
    ((again, _),) = evaluate(search, [SPACE.encode(genotype)])
    assert again == pytest.approx(loss, rel=1e-5)


def test_the_command_line_finds_the_study_finished_and_reports_it(finished, config, table, tmp_path, monkeypatch):
    shutil.copytree(finished.parent, tmp_path / "runs")
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "runs" / finished.name
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl")}
    assert main(["study", "groundtruth", "-f", str(folder / "config.json")]) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl")} == before
    shutil.copy(table, tmp_path / "moved.csv")
    stored = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(stored.replace(str(table), "gone.csv"), encoding="utf-8")
    assert main(["report", str(folder), str(tmp_path / "page")]) == 2
    assert main(["report", str(folder), str(tmp_path / "page"), "--table", str(tmp_path / "moved.csv")]) == 0
    assert (folder / "tables.md").read_bytes() == (tmp_path / "page" / "tables.md").read_bytes()


@pytest.mark.usefixtures("light_python")
def test_papermill_shows_a_finished_study(finished, config, table, tmp_path):
    out = tmp_path / "out.ipynb"
    given = ["-f", str(finished / "config.json"), "-p", "interactive", "False", "--no-progress-bar"]
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), str(out), *given]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "SETN_LAB_RUNS": str(finished.parent)})
    cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
    shown = [one["data"] for cell in cells for one in cell.get("outputs", []) if "data" in one]
    texts = "".join("".join(one.get("text/markdown", "")) for one in shown)
    for name in ("setn-non", *SWITCHES):
        assert f"| {name} | " in texts
    assert sum("image/png" in one for one in shown) == 2


def test_a_study_that_has_just_begun_says_so_and_one_that_was_interrupted_shows_what_is_complete(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    for path in copy.glob("*.argmax.jsonl"):
        if path.name != "setn-lr-1.argmax.jsonl":
            path.unlink()
    study = results.read(copy)
    assert {name: [one.seed for one in seeds] for name, seeds in study.rows.items()} == {"setn-lr": [1]}
    assert report.save(study)
    (copy / "setn-lr-1.argmax.jsonl").unlink()
    with pytest.raises(results.StudyError, match=r"no row of the study in .* is complete yet"):
        results.read(copy)


def test_another_number_of_ranked_architectures_keeps_the_trained_searches(finished, config, monkeypatch):
    monkeypatch.setenv("SETN_LAB_RUNS", str(finished.parent))
    trained = {path: path.read_bytes() for path in finished.parent.glob("search-*/metrics.jsonl")}
    more = replace(config, ranked=RANKED + 3, seeds=1, switches="", strategies="setn")
    with Run.open(more, "groundtruth") as run:
        study.collect(more, run)
    assert {path: path.read_bytes() for path in finished.parent.glob("search-*/metrics.jsonl")} == trained
    ranked = [sum(draws for *_, draws in scored(folder, "setn-0", "uniform")) for folder in (finished, run.folder)]
    assert ranked == [RANKED, RANKED + 3]
