"""Figure 2's study: what is drawn, scored, kept and reported."""

import dataclasses
import json
import os
import shutil
import signal
import time
from contextlib import nullcontext
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
import torch
from parameters import as_options
from references import StopError, at_record, run_search, run_study

from setn_lab.cli import main
from setn_lab.config import ConfigError, build
from setn_lab.runs import checkpoint
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run
from setn_lab.search.candidates import search_candidates
from setn_lab.search.config import SearchConfig, read_config
from setn_lab.search.scoring import evaluate
from setn_lab.search.setup import prepare_search
from setn_lab.search.sources import draw
from setn_lab.search.training import train
from setn_lab.studies import ablation, ablation_report, ablation_results, scalability, searches
from setn_lab.studies.ablation import AblationConfig


@pytest.fixture(scope="module")
def values(tiny):
    return {**tiny, "nodes": 1, "evaluator_start": 1, "candidates": 9, "interactive": False}


def study(monkeypatch, root, values, observe=lambda progress: None, **more):
    monkeypatch.setenv("SETN_LAB_RUNS", str(root))
    return run_study("ablation", ablation.collect, AblationConfig(**{**values, **more}), observe)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, values):
    """A finished study, and the root of its searches."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = study(monkeypatch, root, values)
    return folder, root


def test_each_variant_is_scored_with_the_template_of_its_strategy(finished, values, monkeypatch):
    folder, root = finished
    monkeypatch.setenv("SETN_LAB_RUNS", str(root))
    runs = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    sources = {"setn": "evaluator", "setn-rand": "uniform", "setn-lr": "evaluator", "setn-non": "evaluator"}
    own_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sources |= {"setn-rloo": "evaluator", "evolution": "evolution", "refit": "refit"}
    for name, source in sources.items():
        searched = name if name in ("setn-lr", "setn-non", "setn-rloo") else "setn"
        config = build(SearchConfig, json.loads((root / runs[searched] / "config.json").read_text(encoding="utf-8")))
        assert config.strategy == searched.removesuffix("-rloo")
        assert config.evaluator_gradient == ("rloo" if name == "setn-rloo" else "mixture")
        search = prepare_search(config)
        _, state = checkpoint.load_latest(root / runs[searched] / "checkpoints")
        search.template.load_state_dict(state["template"])
        search.evaluator.load_state_dict(state["evaluator"])
        records = read_journal(folder / f"{name}.jsonl")
        assert sum(one["draws"] for one in records) == 9
        if source in ("evolution", "refit"):
            drawn = [search.space.encode(search.space.read(one["genotype"])) for one in records]
        else:
            drawn = draw(search, source, 9)
        scores = {search.space.genotype(one).to_darts(): evaluate(search, [one])[0] for one in drawn}
        assert {one["genotype"]: (one["loss"], one["accuracy"]) for one in records} == scores
        (single,) = read_journal(folder / f"argmax-{searched}.jsonl")
        assert single["genotype"] == search.space.genotype(draw(search, "argmax", 1)[0]).to_darts()
    torch.set_num_threads(own_threads)


def test_the_searches_differ_in_strategy_and_way_to_update_the_evaluator_alone(finished):
    folder, root = finished
    made = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in root.glob("search-*/config.json")
    }
    runs = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    assert sorted(runs.values()) == sorted(made)
    varied = {
        name: tuple(made[run].pop(key) for key in ("strategy", "evaluator_gradient")) for name, run in runs.items()
    }
    assert varied == {
        "setn": ("setn", "mixture"),
        "setn-rloo": ("setn", "rloo"),
        "setn-lr": ("setn-lr", "mixture"),
        "setn-non": ("setn-non", "mixture"),
    }
    first, *others = made.values()
    assert all(other == first for other in others)


def test_with_epochs_of_the_evaluator_alone_one_template_serves_both_ways(values, tmp_path, monkeypatch):
    folder = study(monkeypatch, tmp_path, values, evaluator_epochs=1)
    runs = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    states = {name: checkpoint.load_latest(tmp_path / run / "checkpoints")[1] for name, run in runs.items()}
    first, second = states["setn"]["template"], states["setn-rloo"]["template"]
    assert all(torch.equal(first[name], second[name]) for name in first)
    trained = {name: len(read_journal(tmp_path / run / "metrics.jsonl")) for name, run in runs.items()}
    assert trained == {
        "setn": values["epochs"] + 1,
        "setn-rloo": 2,
        "setn-lr": values["epochs"] + 1,
        "setn-non": values["epochs"] + 1,
    }


def test_a_study_whose_evaluators_are_all_trained_by_sampled_losses_has_no_second_row_of_them(values):
    config = AblationConfig(**values, evaluator_gradient="rloo")
    assert list(config.searches) == ["setn", "setn-lr", "setn-non"]


def journals(folder):
    """All that a study has written down, but for seconds."""
    lines = {path.name: read_journal(path) for path in folder.glob("*.jsonl")}
    return lines, json.loads((folder / "runs.json").read_text(encoding="utf-8"))


def dies_at_a_checkpoint(root, values):
    """The study in a process of its own, which is killed when one of its searches has left a checkpoint."""

    def watch():
        while not list(root.glob("search-*/checkpoints/*.pt")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    Thread(target=watch, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        study(patch, root, values)


def test_searches_that_are_trained_at_once_and_killed_give_what_one_after_the_other_does(
    finished, values, tmp_path, monkeypatch, outcome, forked
):
    spread = {"workers": 2, "worker_threads": torch.get_num_threads()}
    killed = forked.Process(target=dies_at_a_checkpoint, args=(tmp_path / "runs", {**values, **spread}))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    folder = study(monkeypatch, tmp_path / "runs", values, **spread)
    before, root = finished
    assert journals(folder) == journals(before)
    for name in journals(folder)[1].values():
        assert outcome(tmp_path / "runs" / name) == outcome(root / name)


def test_searches_that_are_finished_are_given_to_no_worker(finished, values, monkeypatch):
    monkeypatch.setenv("SETN_LAB_RUNS", str(finished[1]))
    given = []
    monkeypatch.setattr(searches, "spread", lambda *job: given.append(job[-1]) or iter(()))
    monkeypatch.setattr(searches, "closing", nullcontext)
    config = AblationConfig(**values, workers=2)
    searches.train_together(list(config.searches.values()), config.pool)
    other = [replace(search, seed=1) for search in config.searches.values()]
    searches.train_together([*config.searches.values(), *other], config.pool)
    assert given == [other]
    searches.train_together(other, replace(config, workers=1).pool)
    searches.train_together(other, replace(config, cluster="auto").pool)
    assert len(given) == 1


def everything(folder, root):
    searches = [
        read_journal(path) for path in sorted(root.glob("search-*/*.jsonl")) if path.stem in ("candidates", "baseline")
    ]
    return searches, {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


def test_an_interrupted_study_goes_on_and_ends_the_same(finished, values, tmp_path, monkeypatch):
    for records in (2, 8, 14, 14, 10):  # trained or scored from one stop to the next
        with pytest.raises(StopError):
            study(monkeypatch, tmp_path, values, at_record(records))
    folder = study(monkeypatch, tmp_path, values)
    assert everything(folder, tmp_path) == everything(*finished)


def dies_with_a_taken_template(root, values, reached, go_on):
    """The study in a process of its own, which is killed as its second search learns on the first one's template."""
    torch.set_num_threads(1)

    def observe(progress):
        if progress.phase == "train" and len(list(root.glob("search-*"))) == 2:
            reached.set()
            go_on.wait()
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        study(patch, root, values, observe)


def test_a_study_is_killed_while_a_search_runs_whose_template_it_shares(
    values, tmp_path, monkeypatch, outcome, fork_server
):
    values = {**values, "evaluator_epochs": 1, "epochs": 2}
    whole = study(monkeypatch, tmp_path / "clean", values)
    reached, go_on = fork_server.Event(), fork_server.Event()
    root = tmp_path / "runs"
    process = fork_server.Process(target=dies_with_a_taken_template, args=(root, values, reached, go_on))
    process.start()
    assert reached.wait(100)
    first = next(read_config(path) for path in root.glob("search-*") if read_config(path).template_run is None)
    other = dataclasses.replace(first, candidates=5, baseline_candidates=2)

    def kill(progress):
        go_on.set()
        process.join()

    with Run.open(other, "search") as run:
        search_candidates(prepare_search(other, run), run, kill)
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "alone"))
    assert outcome(run_search(dataclasses.replace(other, run_dir=None))) == outcome(run.folder)
    folder = study(monkeypatch, root, values)
    journals = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    assert journals == {path.name: path.read_bytes() for path in whole.glob("*.jsonl")}
    for name in ("setn-rloo", "setn-lr", "setn-non"):
        made, clean = (json.loads((path / "runs.json").read_text(encoding="utf-8"))[name] for path in (folder, whole))
        assert outcome(root / made) == outcome(tmp_path / "clean" / clean)


def test_searches_that_were_left_out_are_made_later_and_the_study_ends_the_same(
    finished, values, tmp_path, monkeypatch
):
    whole, _ = finished
    folder = study(monkeypatch, tmp_path, values, leave_out="setn-non, setn-lr")
    assert set(json.loads((folder / "runs.json").read_text(encoding="utf-8"))) == {"setn", "setn-rloo"}
    assert set(ablation_results.summary(folder)["variants"]) == {"setn", "setn-rloo", "setn-rand", "evolution", "refit"}
    assert study(monkeypatch, tmp_path, values) == folder
    study(monkeypatch, tmp_path, values, leave_out="setn-rloo")  # what is there stays
    assert (folder / "runs.json").read_text(encoding="utf-8") == (whole / "runs.json").read_text(encoding="utf-8")
    journals = {path.name: path.read_bytes() for path in whole.glob("*.jsonl")}
    assert {path.name: path.read_bytes() for path in folder.glob("*.jsonl")} == journals


@pytest.mark.parametrize("text", ["setn", "setn-rloo,evolution", "all"])
def test_only_searches_that_others_do_not_need_are_left_out(values, text):
    with pytest.raises(ConfigError, match=rf"leave_out: {text.split(',')[-1]} given; setn-rloo, setn-lr, setn-non"):
        AblationConfig(**values, leave_out=text)


def test_a_finished_study_does_nothing_again(finished, values, monkeypatch):
    folder, root = finished
    before = {path: path.stat().st_mtime_ns for path in root.glob("search-*/*.jsonl")}
    told = []
    assert study(monkeypatch, root, values, told.append) == folder
    assert told
    assert not [one for one in told if one.record is not None or not one.finished]  # that it was done before
    assert {path: path.stat().st_mtime_ns for path in root.glob("search-*/*.jsonl")} == before


def test_a_given_run_is_taken_whatever_it_selects_by(finished, values, tmp_path, monkeypatch):
    folder, _ = finished
    fields = {field.name for field in dataclasses.fields(SearchConfig)}
    given = {name: value for name, value in values.items() if name in fields}
    config = SearchConfig(**given, select_by="accuracy", baseline_candidates=9, run_dir=str(tmp_path / "mine"))
    with Run.open(config, "search") as run:
        train(prepare_search(config, run), run)
    there = study(monkeypatch, tmp_path / "root", values, setn_run=str(tmp_path / "mine"))
    assert json.loads((there / "runs.json").read_text(encoding="utf-8"))["setn"] == "mine"
    assert (there / "setn.jsonl").read_bytes() == (folder / "setn.jsonl").read_bytes()
    assert len(list((tmp_path / "root").glob("search-*"))) == 3


def test_a_run_of_other_parameters_is_refused_with_the_fields_that_differ(values, tmp_path, monkeypatch):
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path))
    fields = {field.name for field in dataclasses.fields(SearchConfig)}
    given = {name: value for name, value in values.items() if name in fields} | {"epochs": 2, "seed": 4}
    config = SearchConfig(**given, strategy="setn-lr", run_dir=str(tmp_path / "other"))
    Run.open(config, "search").close()
    study_config = AblationConfig(**values, setn_run=str(tmp_path / "other"))
    with pytest.raises(ConfigError) as caught:
        ablation_report.describe(study_config)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:-1]]
    assert sorted(lines) == [
        "epochs: 2 there, 3 here",
        "seed: 4 there, 0 here",
        "strategy: 'setn-lr' there, 'setn' here",
    ]
    with Run.open(study_config, "ablation") as run, pytest.raises(ConfigError, match="epochs: 2 there"):
        ablation.collect(study_config, run)


def test_a_folder_that_is_no_run_is_named(values, tmp_path):
    with pytest.raises(ConfigError, match="nowhere' given, which does not exist"):
        ablation_report.describe(AblationConfig(**values, setn_non_run=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("text", ["", "high", "80, 101", "-1", "80;90", "nan"])
def test_thresholds_that_are_no_percentages_are_refused(values, text):
    with pytest.raises(ConfigError, match=r"thresholds: .*'80, 85, 90'"):
        AblationConfig(**values, thresholds=text)


def test_workers_on_cuda_need_a_share_of_a_gpu(values):
    with pytest.raises(ConfigError, match="worker_gpus: 0 given"):
        AblationConfig(**{**values, "device": "cuda"}, workers=2)


@pytest.mark.parametrize("spread", [{"workers": 2}, {"cluster": "auto"}])
def test_workers_do_not_silently_leave_a_gpu_that_auto_would_take(values, monkeypatch, spread):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match=r"worker_gpus: 0 given with workers on 'auto'.* or the device 'cpu'"):
        AblationConfig(**{**values, "device": "auto"}, **spread)
    assert AblationConfig(**{**values, "device": "auto"}, **spread, worker_gpus=0.5)
    assert AblationConfig(**{**values, "device": "cpu"}, **spread)
    assert AblationConfig(**{**values, "device": "auto"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert AblationConfig(**{**values, "device": "auto"}, **spread)


def test_the_summary_counts_every_draw(finished, tmp_path):
    folder, _ = finished
    copy = tmp_path / "ablation-copy"
    shutil.copytree(folder, copy)
    records = read_journal(copy / "setn.jsonl")
    records[0]["draws"] = 5
    records[-1]["loss"] = float("nan")  # a candidate that diverged
    (copy / "setn.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    draws = [one["accuracy"] for one in records[:-1] for _ in range(one["draws"])]
    found = ablation_report.summary(copy)["variants"]["setn"]
    assert found["candidates"] == len(draws)
    assert found["distinct"] == len(records) - 1
    assert found["not_finite"] == 1
    assert found["mean_accuracy"] == pytest.approx(np.mean(draws))
    losses, uniform = (
        [one["loss"] for one in read_journal(copy / f"{name}.jsonl") for _ in range(one["draws"])]
        for name in ("setn", "setn-rand")
    )
    losses = [loss for loss in losses if np.isfinite(loss)]
    assert found["below_uniform"] == pytest.approx((np.mean(uniform) - np.mean(losses)) / np.std(uniform, ddof=1))
    assert ablation_report.summary(copy)["variants"]["setn-lr"]["below_uniform"] is None  # of another template
    assert found["std_accuracy"] == pytest.approx(np.std(draws, ddof=1))
    assert found["share_above"]["80%"] == pytest.approx(np.mean(np.array(draws) > 0.8))
    best = min(records[:-1], key=lambda one: one["loss"])
    assert found["selected"]["genotype"] == best["genotype"]
    text = ablation_report.table(copy)
    assert "Every draw counts: a candidate drawn twice counts twice." in text
    assert "Draws that are left out, as their loss is not finite: 1 of SETN." in text


def test_tests_compare_setn_with_each_other_variant(finished):
    folder, _ = finished
    found = ablation_report.summary(folder)["setn_against"]
    assert set(found) == {"setn-rloo", "setn-rand", "setn-lr", "setn-non"}
    drawn = {
        name: [one["accuracy"] for one in read_journal(folder / f"{name}.jsonl") for _ in range(one["draws"])]
        for name in ("setn", "setn-non")
    }
    wins = np.mean([(a > b) + (a == b) / 2 for a in drawn["setn"] for b in drawn["setn-non"]])
    assert found["setn-non"]["accuracy"]["superiority"] == pytest.approx(wins)
    table = ablation_report.tests_table(folder)
    assert "SETN - SETN-NON" in table
    assert "Left out, since a draw depends on those before: EVOLUTION and REFIT." in table


def test_figure_2_has_one_x_axis_and_marks_the_selected(finished):
    folder, _ = finished
    figure = ablation_report.figure2(folder)
    axes = figure.axes
    assert [ax.get_title() for ax in axes] == [*(f"{name.upper()}, n = 9" for name in ablation.VARIANTS), ""]
    assert len({ax.get_xlim() for ax in axes}) == 1
    for ax, name in zip(axes, ablation.VARIANTS, strict=False):
        records = read_journal(folder / f"{name}.jsonl")
        best = min(records, key=lambda one: one["loss"])
        (marker,) = [line for line in ax.lines if line.get_marker() == "v"]
        assert marker.get_xdata()[0] == pytest.approx(100 * best["accuracy"])
        (histogram,) = ax.patches
        x, y = histogram.get_xy().T
        area = abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
        assert area / np.diff(np.unique(x)).min() == pytest.approx(9)  # of the bars, all equally wide


def test_the_best_of_one_is_the_mean_of_all(finished):
    folder, _ = finished
    found = ablation_report.summary(folder)
    for name, rows in found["best_of"].items():
        assert rows[0]["draws"] == 1
        assert rows[0]["values"]["loss"]["mean"] == pytest.approx(found["variants"][name]["mean_loss"])
        assert rows[-1]["values"]["loss"]["mean"] == pytest.approx(found["variants"][name]["lowest_loss"])
        assert rows[-1]["beyond"]
    assert set(found["best_of"]) == {"setn", "setn-rloo", "setn-rand", "setn-lr", "setn-non"}
    assert set(found["variants"]) == set(ablation.VARIANTS)
    assert "argmax" in ablation_report.best_table(folder)
    assert "EVOLUTION and REFIT." in ablation_report.best_table(folder)


def test_a_study_without_results_says_so(values, tmp_path):
    config = AblationConfig(**values, run_dir=str(tmp_path / "empty"))
    with Run.open(config, "ablation") as run:
        run.write("runs.json", "{}")
    folder = run.folder
    assert ablation_report.table(folder) == "No candidates are scored yet."
    assert "another variant" in ablation_report.tests_table(folder)
    assert ablation_report.costs_table(folder) == "Costs are not measured yet."
    texts = [text.get_text() for ax in ablation_report.figure2(folder).axes for text in ax.texts]
    assert texts == ["no candidates scored yet"] * 4
    ablation_report.effect_of_draws(folder)


def test_saved_files_say_the_same_each_time(finished, tmp_path):
    folder, _ = finished
    first = {path.name: path.read_bytes() for path in ablation_report.save(folder, tmp_path / "a")}
    second = {path.name: path.read_bytes() for path in ablation_report.save(folder, tmp_path / "b")}
    assert first == second
    assert json.loads(first["summary.json"])["variants"]["setn"]["mean_accuracy"] > 0
    assert len(first["candidates.csv"].splitlines()) == 1 + sum(
        len(read_journal(folder / f"{name}.jsonl")) for name in ablation.VARIANTS
    )


def test_a_page_names_the_runs_and_hides_the_folder_of_images(finished, tmp_path):
    folder, root = finished
    page = ablation_report.write(folder, tmp_path).read_text(encoding="utf-8")
    assert all(path.name in page for path in root.glob("search-*"))
    assert "nan" not in page.lower().replace("nanoseconds", "")
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["dataset"] == "digits"


def test_the_command_line_finds_the_study_finished_and_reports_it(finished, values, tmp_path, monkeypatch):
    shutil.copytree(finished[1], tmp_path / "runs")
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    (folder,) = (tmp_path / "runs").glob("ablation-*")
    (folder / "costs.json").write_text("[]", encoding="utf-8")  # as if measured
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl")}
    assert main(["study", "ablation", *as_options(values)]) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.jsonl")} == before
    assert main(["report", str(folder), str(tmp_path / "page")]) == 0
    for name in ("summary.json", "tables.md"):
        assert (folder / name).read_bytes() == (tmp_path / "page" / name).read_bytes()
    assert folder.name in (tmp_path / "page" / "README.md").read_text(encoding="utf-8")


def test_the_cost_of_both_spaces(forked, values, tiny_config, tmp_path):
    small, large = scalability.measure(tiny_config(tmp_path / "run"), repetitions=1)
    assert (small.operations, large.operations) == (6, 8)
    for cost, space in ((small, "small"), (large, "large")):
        template = prepare_search(tiny_config(tmp_path / "run", space=space)).template
        assert cost.parameters == sum(parameter.numel() for parameter in template.parameters())
        assert min(cost.weight_step, cost.evaluator_step, cost.candidate, cost.training_hours) > 0
        assert cost.memory > 2**26
