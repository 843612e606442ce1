import errno
import json
import os
import shutil
import statistics
from itertools import product

import numpy as np
import pytest
from references import run_search

from setn_lab.figures import page
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import duration, epoch_line
from setn_lab.search import report


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config):
    """A finished tiny search with uniform candidates beside its own."""
    config = tiny_config(tmp_path_factory.mktemp("report") / "run", evaluator_start=1, baseline_candidates=7, nodes=4)
    return run_search(config)


def losses(folder, journal):
    return [one["loss"] for one in read_journal(folder / f"{journal}.jsonl")]


def test_summary_is_that_of_the_journals(folder):
    drawn, uniform = report.summary(report.SearchRun.read(folder))
    assert (drawn["source"], uniform["source"]) == ("candidates", "uniform")
    assert (drawn["draws"], uniform["draws"]) == (6, 7)
    for row, journal in ((drawn, "candidates"), (uniform, "baseline")):
        values = losses(folder, journal)
        assert row["loss"] == pytest.approx(statistics.fmean(values))
        assert row["loss_std"] == pytest.approx(statistics.stdev(values))
        assert row["best_loss"] == min(values)


def changed(folder, copy, journal, change):
    """A copy of the run in which `change` was done to a journal's records; returns these."""
    shutil.copytree(folder, copy)
    records = change(read_journal(copy / f"{journal}.jsonl"))
    (copy / f"{journal}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return records


def test_every_draw_counts_and_what_is_not_finite_is_left_out_and_counted(folder, tmp_path):
    def change(records):
        return [{**records[0], "loss": float("nan"), "draws": 3}, {**records[1], "draws": 4}, *records[2:]]

    _, *kept = changed(folder, tmp_path / "run", "candidates", change)
    run = report.SearchRun.read(tmp_path / "run")
    row = report.summary(run)[0]
    values = [one["loss"] for one in kept for _ in range(one["draws"])]
    assert (row["not_finite"], row["draws"]) == (3, 3 + len(values))
    assert row["loss"] == pytest.approx(statistics.fmean(values))
    assert row["loss_std"] == pytest.approx(statistics.stdev(values))
    text = report.summary_table(run)
    assert "one drawn twice counts twice. 3 draws of candidates are left out, as their loss is not finite." in text
    difference = statistics.fmean(values) - statistics.fmean(losses(folder, "baseline"))
    assert f"{difference:+.4f} ±" in report.comparison(run)
    page = report.write(tmp_path / "run", tmp_path / "page").read_text(encoding="utf-8")
    assert "nan" not in page.partition("## The winner")[0].lower().replace("finance", "")


def test_a_search_without_a_finite_loss_is_reported(folder, tmp_path):
    changed(folder, tmp_path / "run", "baseline", lambda records: [{**one, "loss": float("inf")} for one in records])
    run = report.SearchRun.read(tmp_path / "run")
    assert "none is finite" in report.summary_table(run)
    assert report.comparison(run) == ""
    assert "Fewer than three" in report.write(tmp_path / "run", tmp_path / "page").read_text(encoding="utf-8")


def test_a_full_disk_leaves_the_figure_and_the_page_before(folder, tmp_path, monkeypatch):
    run = report.SearchRun.read(folder)
    report.write(folder, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (report.save, lambda *_: page.write_page(folder, tmp_path, "Search run", [])):
        with pytest.raises(OSError, match="No space left"):
            write(run, tmp_path)
    with pytest.raises(OSError, match="No space left"):
        page.write_files(tmp_path, {}, {"README.md": "torn"}, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_comparison_counts_the_pairs(folder):
    drawn, uniform = losses(folder, "candidates"), losses(folder, "baseline")
    won = np.mean([(a < b) + (a == b) / 2 for a, b in product(drawn, uniform)])
    text = report.comparison(report.SearchRun.read(folder))
    assert f"in {won:.0%} of pairs" in text
    assert f"{statistics.fmean(drawn) - statistics.fmean(uniform):+.4f} ±" in text


def test_after_a_race_the_best_is_among_those_scored_on_all_images(folder, tmp_path):
    records = read_journal(folder / "candidates.jsonl")
    lucky = {**records[0], "loss": min(losses(folder, "candidates")) - 1, "images": records[0]["images"] - 1}
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "candidates.jsonl").write_text(
        "".join(json.dumps(one) + "\n" for one in [lucky, *records[1:]]), encoding="utf-8"
    )
    (tmp_path / "baseline.jsonl").write_bytes((folder / "baseline.jsonl").read_bytes())
    row = report.summary(report.SearchRun.read(tmp_path))[0]
    assert row["best_loss"] == min(one["loss"] for one in records[1:])
    assert row["loss"] == pytest.approx(statistics.fmean(one["loss"] for one in records[1:]))
    assert row["images"] == f"{lucky['images']} to {records[0]['images']}"
    assert "raced" in report.comparison(report.SearchRun.read(tmp_path))


def test_the_page_names_the_run_and_its_figures_exist(folder, tmp_path):
    page = report.write(folder, tmp_path / "page")
    text = page.read_text(encoding="utf-8")
    assert folder.name in text
    assert json.loads((folder / "environment.json").read_text(encoding="utf-8"))["torch"] in text
    for figure in ("curves", "candidates", "evaluator", "cells"):
        assert f"({figure}.svg)" in text
        assert (tmp_path / "page" / f"{figure}.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    winner = min(read_journal(folder / "candidates.jsonl"), key=lambda one: one["loss"])["genotype"]
    assert winner in text


def test_the_same_run_gives_the_same_files(folder, tmp_path):
    first, second = (report.save(report.SearchRun.read(folder), tmp_path / name) for name in ("one", "two"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_contents_name_what_is_there(folder, tmp_path):
    listed = report.contents(report.SearchRun.read(folder))
    assert all(name in listed for name in ("config.json", "metrics.jsonl", "baseline.jsonl", "genotype.json"))
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    listed = report.contents(report.SearchRun.read(tmp_path))
    assert "config.json" in listed
    assert "metrics.jsonl" not in listed


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7620, "2 h 7 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_an_evaluator_that_has_collapsed_is_said(folder, tmp_path):
    record = {"epoch": 3, "weight_loss": 2.0, "weight_accuracy": 0.25, "evaluator_loss": None, "seconds": 2.0}
    assert "entropy 1.40 nats (collapsed to about 4.1 architectures), 2 s" in epoch_line({**record, "entropy": 1.4})
    assert "entropy 2.31 nats, 2 s" in epoch_line({**record, "entropy": 2.31})  # e^2.31 is above 10
    assert "collapsed" not in report.write(folder, tmp_path / "page").read_text(encoding="utf-8")
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    lines = read_journal(run / "metrics.jsonl")
    lines[-1]["entropy"] = 0.1
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    page = report.write(run, tmp_path / "page").read_text(encoding="utf-8")
    assert "The evaluator has collapsed to about 1.1 architectures" in page


def test_epoch_line_leaves_out_an_evaluator_that_has_not_begun():
    record = {"epoch": 3, "weight_loss": 2.0, "weight_accuracy": 0.25, "entropy": 43.5, "seconds": 2.0}
    assert "evaluator" not in epoch_line({**record, "evaluator_loss": None, "evaluator_accuracy": None})
    assert "evaluator 1.500 50.0%" in epoch_line({**record, "evaluator_loss": 1.5, "evaluator_accuracy": 0.5})
