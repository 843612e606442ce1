"""The pairwise study: pairs, networks trained from scratch, resume, failures, and what is reported."""

import json
import os
import shutil
import signal
from itertools import combinations

import numpy as np
import pytest
import torch
from parameters import as_options
from references import StopError, at_record, ndcg_by_hand, run_study, weighted_tau_by_hand

from setn_lab.cli import main
from setn_lab.config import ConfigError
from setn_lab.data.batches import Augmentation
from setn_lab.data.sources import OnDevice
from setn_lab.network.costs import cost
from setn_lab.network.discrete import CifarNetwork
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import Retraining
from setn_lab.retrain.training import RetrainError, retrain
from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run
from setn_lab.search.setup import prepare_search
from setn_lab.search.sources import draw
from setn_lab.search.training import train
from setn_lab.space.genotype import Genotype
from setn_lab.studies import networks, ranking, ranking_report
from setn_lab.studies.ranking import RankingConfig
from setn_lab.studies.zero_cost import ZERO_COST

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def values(tiny):
    return {
        **tiny,
        "nodes": 1,
        "evaluator_start": 1,
        "candidates": 5,
        "pairs": 4,
        "zero_cost_images": 4,
        "finalists": 2,
        "finalist_epochs": 3,
        "retrain_epochs": 2,
        "retrain_channels": 2,
        "retrain_repeats": 1,
        "retrain_batch_size": 16,
        "retrain_auxiliary_weight": 0.0,
        "retrain_cutout": 2,
        "interactive": False,
    }


def study(monkeypatch, root, values, observe=lambda progress: None, **more):
    monkeypatch.setenv("SETN_LAB_RUNS", str(root))
    return run_study("ranking", ranking.collect, RankingConfig(**{**values, **more}), observe)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, values):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return study(monkeypatch, tmp_path_factory.mktemp("runs"), values)


def without_seconds(folder):
    lines = [read_journal(folder / f"{name}.jsonl") for name in ("scored", "trained", "finalists")]
    order = [sorted(own, key=lambda one: one.get("network", -1)) for own in lines]
    kept = [[{key: value for key, value in one.items() if key != "seconds"} for one in own] for own in order]
    names = "pairs.json", "best.json", "genotype.json"
    return kept, [(folder / name).read_bytes() for name in names if (folder / name).exists()]


def test_pairs_are_the_uniform_draws_in_order(finished, values):
    config = RankingConfig(**values)
    search = prepare_search(config.search("setn"))
    drawn = draw(search, "uniform", 8)
    scored = [Genotype.from_darts(one["genotype"]) for one in read_journal(finished / "scored.jsonl")]
    pairs = json.loads((finished / "pairs.json").read_text(encoding="utf-8"))
    assert len(pairs) == 4
    flat = [scored[place] for pair in pairs for place in pair]
    assert flat == [search.space.genotype(one) for one in drawn]


def test_a_network_is_trained_as_the_retraining_does_it(finished, values, tmp_path):
    """The journal's accuracy is that of an ordinary training run on D_train, tested on D_val."""
    config = RankingConfig(**values)
    search = prepare_search(config.search("setn"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, epochs in (("trained", 2), ("finalists", 3)):
        record = read_journal(finished / f"{name}.jsonl")[0]
        recipe = RetrainConfig(
            **{"dataset": "digits", "channels": 2, "repeats": 1, "epochs": epochs, "batch_size": 16, "cutout": 2},
            **{"auxiliary_weight": 0.0, "crop_padding": 1, "flip": False, "device": "cpu"},
            run_dir=str(tmp_path / name),
        )
        augmentation = Augmentation(1, False, 2)
        source = OnDevice(search.train, search.valid, search.normalization, augmentation, 16, 256)
        genotype = Genotype.from_darts(record["genotype"])
        job = Retraining(recipe, torch.device("cpu"), "drawn", genotype, source)
        with Run.open(recipe, "retrain") as run:
            (result,) = retrain(job, run)
        assert record["accuracy"] == 1 - result.test_error
        assert record["loss"] == result.test_loss
    torch.set_num_threads(threads)


def test_sizes_are_those_of_the_trained_network(finished):
    for record in read_journal(finished / "trained.jsonl"):
        size = cost(CifarNetwork(Genotype.from_darts(record["genotype"]), 2, 1, 10, image_channels=1), 8)
        assert (record["parameters"], record["multiply_adds"]) == (size.parameters, size.multiply_adds)


def test_finalists_are_the_best_candidates_and_the_best_of_them_is_chosen(finished):
    candidates = sorted(read_journal(finished / "candidates.jsonl"), key=lambda one: one["loss"])
    trained = read_journal(finished / "finalists.jsonl")
    assert [one["genotype"] for one in trained] == [one["genotype"] for one in candidates[:2]]
    chosen = max(trained, key=lambda one: one["accuracy"])
    assert Genotype.from_json((finished / "genotype.json").read_text(encoding="utf-8")) == Genotype.from_darts(
        chosen["genotype"]
    )
    assert "(chosen)" in ranking_report.finalists_table(finished)


def test_an_interrupted_study_trains_every_network_once(finished, values, tmp_path, monkeypatch):
    trained = []
    real = networks.retrain_once

    def counted(job):
        trained.append((job.config.epochs, job.genotype))
        return real(job)

    monkeypatch.setattr(networks, "retrain_once", counted)
    for records in (2, 11, 7):  # from one stop to the next
        with pytest.raises(StopError):
            study(monkeypatch, tmp_path, values, at_record(records))
    folder = study(monkeypatch, tmp_path, values)
    assert without_seconds(folder) == without_seconds(finished)
    assert len(trained) == len(set(trained)) == len(read_journal(folder / "scored.jsonl")) + 2


def begin(root, values, records):
    """A study in this process, which kills itself at that record."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        study(monkeypatch, root, values, at_record(records, lambda: os.kill(os.getpid(), signal.SIGKILL)))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_study_goes_on_and_ends_the_same(finished, values, tmp_path, monkeypatch, forked, workers):
    """Killed while candidates are scored, while the networks are trained, and among the last of them."""
    for moment in (5, 9, 5) if workers == 1 else (18,):
        killed = forked.Process(target=begin, args=(tmp_path, {**values, "workers": workers}, moment))
        killed.start()
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
    folder = study(monkeypatch, tmp_path, values, workers=workers)  # which changes no result either
    assert without_seconds(folder) == without_seconds(finished)
    lines = [one["network"] for one in read_journal(folder / "trained.jsonl")]
    assert len(lines) == len(set(lines))


def test_a_network_that_diverges_is_recorded_and_the_study_goes_on(finished, values, tmp_path, monkeypatch):
    first = Genotype.from_darts(read_journal(finished / "scored.jsonl")[0]["genotype"])
    real = networks.retrain_once

    def failing(job):
        if job.genotype == first:
            raise RetrainError("the loss is not finite at step 7")
        return real(job)

    monkeypatch.setattr(networks, "retrain_once", failing)
    folder = study(monkeypatch, tmp_path, values)
    record = read_journal(folder / "trained.jsonl")[0]
    assert record["failed"] == "the loss is not finite at step 7"
    assert record["parameters"] > 0
    found = ranking_report.summary(folder)
    assert found["failed"] == {"0": "the loss is not finite at step 7"}
    assert (found["pairs"], found["pairs_left_out"]) == (3, 1)
    assert "network 0 failed: the loss is not finite" in ranking_report.table(folder)
    ranking_report.write(folder, tmp_path / "page")


def test_a_pair_of_a_network_with_itself_is_left_out_and_said(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    drawn = json.loads((finished / "pairs.json").read_text(encoding="utf-8"))
    (tmp_path / "copy" / "pairs.json").write_text(json.dumps([*drawn, [0, 0], [1, 1]]), encoding="utf-8")
    before, after = (ranking_report.summary(folder) for folder in (finished, tmp_path / "copy"))
    assert (before["pairs_with_itself"], after["pairs_with_itself"]) == (0, 2)
    assert {**after, "run": 0, "pairs_with_itself": 0} == {**before, "run": 0}
    assert "2 pairs of a network with itself are left out." in ranking_report.table(tmp_path / "copy")


def test_networks_without_a_finite_score_are_left_out_and_said(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    scored = read_journal(finished / "scored.jsonl")
    scored[0]["loss"] = float("nan")
    lines = "".join(json.dumps(record) + "\n" for record in scored)
    (tmp_path / "copy" / "scored.jsonl").write_text(lines, encoding="utf-8")
    found = ranking_report.summary(tmp_path / "copy")
    assert (found["not_finite"], found["networks"]) == (1, len(scored) - 1)
    assert "1 networks are left out, as their one-shot loss is not finite" in ranking_report.table(tmp_path / "copy")
    ranking_report.write(tmp_path / "copy", tmp_path / "page")


def test_networks_that_all_diverge_are_named(values, tmp_path, monkeypatch):
    """Training itself stops here: with such a rate no loss stays finite."""
    folder = study(monkeypatch, tmp_path, {**values, "finalists": 0}, retrain_weight_lr=1e30)
    lines = read_journal(folder / "trained.jsonl")
    assert len(lines) == len(read_journal(folder / "scored.jsonl"))
    assert all("not finite at step" in one["failed"] for one in lines)
    page = ranking_report.write(folder, tmp_path / "page").read_text(encoding="utf-8")
    assert page.count("failed: the loss") == len(lines)
    assert json.loads((tmp_path / "page" / "summary.json").read_text(encoding="utf-8"))["kendall_tau"] is None


def test_a_journal_of_other_networks_is_refused(finished, values, tmp_path, monkeypatch):
    shutil.copytree(finished.parent, tmp_path / "runs")
    copy = tmp_path / "runs" / finished.name
    lines = read_journal(copy / "trained.jsonl")
    lines[0]["genotype"] = lines[1]["genotype"]
    (copy / "trained.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    with pytest.raises(RunError, match="holds a network that this study does not draw"):
        study(monkeypatch, tmp_path / "runs", values)


def test_a_head_that_does_not_fit_is_refused_before_the_search_is_trained(values, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"retrain_auxiliary_weight: 0\.4 .*8 pixels"):
        study(monkeypatch, tmp_path, values, retrain_auxiliary_weight=0.4)
    assert not list(tmp_path.glob("search-*/metrics.jsonl"))


def test_a_batch_larger_than_the_images_is_refused_before_the_search_is_trained(values, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"retrain_batch_size: 33 .*32 images"):
        study(monkeypatch, tmp_path, values, retrain_batch_size=33)
    assert not list(tmp_path.glob("search-*/metrics.jsonl"))


def test_the_defaults_are_the_recipe_of_the_final_networks_and_the_papers_numbers():
    config = RankingConfig()
    assert config.recipe(100) == RetrainConfig(epochs=100)
    assert (config.pairs, config.retrain_epochs, config.pair_source) == (1000, 100, "uniform")


def test_a_given_search_is_taken(finished, values, tmp_path, monkeypatch, tiny_config):
    own = tiny_config(tmp_path / "mine", evaluator_start=1, candidates=5, nodes=1)
    with Run.open(own, "search") as run:
        train(prepare_search(own, run), run)
    folder = study(monkeypatch, tmp_path / "root", values, search_run=str(tmp_path / "mine"))
    assert json.loads((folder / "runs.json").read_text(encoding="utf-8")) == {"setn": "mine"}
    assert without_seconds(folder) == without_seconds(finished)


def test_the_summary_counts_pairs_and_ranks_networks(finished):
    scored, trained = (read_journal(finished / f"{name}.jsonl") for name in ("scored", "trained"))
    pairs = json.loads((finished / "pairs.json").read_text(encoding="utf-8"))
    one_shot, true = ([one["accuracy"] for one in own] for own in (scored, trained))
    good = sum(np.sign(one_shot[a] - one_shot[b]) == np.sign(true[a] - true[b]) for a, b in pairs)
    found = ranking_report.summary(finished)
    assert found["good_pairs"] == good / len(pairs)
    free = {"parameters", "multiply_adds", "separable_convolutions", "log_probability"}
    assert set(found["baselines"]) == {"loss", "blend", *ZERO_COST, *free}
    size = [one["parameters"] for one in trained]
    signs = [(np.sign(size[a] - size[b]), np.sign(true[a] - true[b])) for a, b in combinations(range(len(true)), 2)]
    agreed = sum(x * y for x, y in signs)
    untied = np.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))
    assert found["baselines"]["parameters"]["kendall_tau"] == pytest.approx(agreed / untied)
    convolutions = [one["genotype"].partition("normal_concat")[0].count("sep_conv") for one in trained]
    for name, predicted in (("parameters", size), ("separable_convolutions", convolutions)):
        row = found["baselines"][name]
        assert row["ndcg"] == pytest.approx(ndcg_by_hand(predicted, true))
        assert row["weighted_tau"] == pytest.approx(weighted_tau_by_hand(predicted, true))
    assert "ceiling" not in found


def test_equal_accuracies_are_undefined_with_a_reason_and_never_nan(finished, tmp_path):
    copy = tmp_path / "ranking-copy"
    shutil.copytree(finished, copy)
    lines = [{**one, "accuracy": 0.5} for one in read_journal(copy / "trained.jsonl")]
    (copy / "trained.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    found = ranking_report.summary(copy)
    assert found["kendall_tau"] is None
    assert found["kendall_tau_detail"]["note"]
    assert "undefined: all true values are equal" in ranking_report.table(copy)
    ranking_report.save(copy, tmp_path / "out")
    for path in (tmp_path / "out").glob("*.*"):
        assert "nan" not in path.read_text(encoding="utf-8").replace("dominant", "").lower() or path.suffix == ".svg"


def test_a_study_without_results_says_so(values, tmp_path):
    config = RankingConfig(**values, run_dir=str(tmp_path / "empty"))
    Run.open(config, "ranking").close()
    folder = tmp_path / "empty"
    assert ranking_report.table(folder) == "No network is trained yet."
    assert ranking_report.gap_table(folder) == "No pair is complete yet."
    assert ranking_report.finalists_table(folder) == "No finalist is trained."
    texts = [text.get_text() for ax in ranking_report.scatter(folder).axes for text in ax.texts]
    assert texts == ["no networks trained yet"]
    assert ranking_report.gaps(folder).axes[0].texts[0].get_text() == "no pairs compared yet"


def test_saved_files_say_the_same_each_time(finished, tmp_path):
    first = {path.name: path.read_bytes() for path in ranking_report.save(finished, tmp_path / "a")}
    second = {path.name: path.read_bytes() for path in ranking_report.save(finished, tmp_path / "b")}
    assert first == second
    page = ranking_report.write(finished, tmp_path / "c").read_text(encoding="utf-8")
    assert "4 pairs drawn from: uniform" in page


def test_the_command_line_finds_the_study_finished_and_reports_it(finished, values, tmp_path, monkeypatch):
    shutil.copytree(finished.parent, tmp_path / "runs")
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    (folder,) = (tmp_path / "runs").glob("ranking-*")
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl")}
    assert main(["study", "ranking", *as_options(values)]) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl")} == before
    assert main(["report", str(folder), str(tmp_path / "page")]) == 0
    for name in ("summary.json", "tables.md"):
        assert (folder / name).read_bytes() == (tmp_path / "page" / name).read_bytes()
    assert folder.name in (tmp_path / "page" / "README.md").read_text(encoding="utf-8")


def test_figures_show_the_networks(finished):
    true = [100 * one["accuracy"] for one in read_journal(finished / "trained.jsonl")]
    figure = ranking_report.scatter(finished)
    (dots,) = [ax.collections[0] for ax in figure.axes if ax.collections]
    assert sorted(dots.get_offsets()[:, 1]) == pytest.approx(sorted(true))
    lines = ranking_report.gaps(finished).axes[0].get_legend_handles_labels()[1]
    assert lines == ["one-shot accuracy", "parameters", "separable convolutions", "evaluator's log-probability"]


def test_a_space_without_networks_to_train_is_refused():
    with pytest.raises(ConfigError, match="space: 'nasbench201'"):
        RankingConfig(space="nasbench201")
