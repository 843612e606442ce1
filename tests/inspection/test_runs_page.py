"""The page of all runs: rows against their folders, groups over seeds, studies, and what is kept of folders."""

import json
import math
import shutil
import statistics
from pathlib import Path

import pytest
from written_run import write_run

from setn_lab.inspection import runs
from setn_lab.inspection.reading import InspectConfig
from setn_lab.runs.journal import read_journal
from setn_lab.widgets import RunsInspector


def add(root, name, **parameters):
    folder = write_run(root / name, nodes=1, candidates=6, **parameters)
    (folder / "environment.json").write_text('{"kind": "search"}', encoding="utf-8")
    (folder / "sizes.json").write_text('[{"parameters": 1500000}]', encoding="utf-8")
    return folder


def add_uniform(folder, shift):
    """Uniform candidates whose losses are `shift` above the candidates', drawn twice each."""
    records = read_journal(folder / "candidates.jsonl")
    lines = [json.dumps({**record, "loss": record["loss"] + shift, "draws": 2}) + "\n" for record in records]
    (folder / "baseline.jsonl").write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def root(tmp_path):
    """Three seeds of one search, one search of other parameters, and a study of two of them."""
    for seed in range(3):
        add_uniform(add(tmp_path, f"search-{seed}", seed=seed), 0.1 * (seed + 1))
    add(tmp_path, "search-lr", strategy="setn-lr")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "study" / "environment.json").write_text('{"kind": "ablation"}', encoding="utf-8")
    (tmp_path / "study" / "runs.json").write_text('{"a": "search-1", "b": "search-lr"}', encoding="utf-8")
    return tmp_path


def test_rows_say_what_lies_in_the_folders(root):
    found = {row.name: row for row in runs.rows(root)}
    table = runs.frame(found.values(), now=10.0**10).set_index("run")
    for seed in range(3):
        records = read_journal(root / f"search-{seed}" / "candidates.jsonl")
        row = table.loc[f"search-{seed}"]
        assert (row["seed"], row["data"], row["space"], row["strategy"]) == (seed, "digits", "small", "setn")
        assert (row["state"], row["epochs"]) == ("finished", 4)
        assert row["gain [nats]"] == pytest.approx(0.1 * (seed + 1))
        assert row["best loss [nats]"] == min(record["loss"] for record in records)
        assert row["age [h]"] == pytest.approx((1e10 - (root / f"search-{seed}/config.json").stat().st_mtime) / 3600)
        genotype = json.loads((root / f"search-{seed}" / "genotype.json").read_text(encoding="utf-8"))
        assert sum(int(part.split()[0]) for part in row["winner"].split(", ")) == 2 * len(genotype["normal"] * 2)
        assert "1.50 M parameters" in row["cost"]
    assert math.isnan(table.loc["search-lr", "gain [nats]"])
    assert {name: row.studies for name, row in found.items() if row.studies} == {
        "search-1": ("study",),
        "search-lr": ("study",),
    }


def test_losses_on_different_images_give_no_gain(root):
    path = root / "search-0" / "baseline.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"images": 100', '"images": 50'), encoding="utf-8")
    (row,) = (row for row in runs.rows(root) if row.name == "search-0")
    assert row.gain is None


def test_seeds_of_the_same_parameters_are_grouped_with_mean_and_spread(root):
    table = runs.grouped(runs.rows(root))
    assert len(table) == 1
    (line,) = table.to_dict("records")
    assert line["seeds"] == "0, 1, 2"
    assert set(line["runs"].split(", ")) == {"search-0", "search-1", "search-2"}
    assert line["gain [nats], mean"] == pytest.approx(0.2)
    assert line["gain [nats], sd"] == pytest.approx(0.1)
    best = [row.best_loss for row in runs.rows(root) if row.group and row.strategy == "setn"]
    assert line["best loss [nats], mean"] == pytest.approx(statistics.fmean(best))
    assert line["best loss [nats], sd"] == pytest.approx(statistics.stdev(best))


def test_a_folder_is_read_again_only_when_a_file_of_it_changes(root, monkeypatch):
    before, read = runs.rows(root), []
    real = runs._read
    monkeypatch.setattr(runs, "_read", lambda folder, kind: (read.append(folder.name), real(folder, kind))[1])
    assert runs.rows(root) == before
    assert not read
    with (root / "search-2" / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"epoch": 5, "seconds": 1.0}) + "\n")
    epochs = {row.name: row.epochs for row in runs.rows(root)}
    assert read == ["search-2"]
    assert epochs["search-2"] == 5
    shutil.rmtree(root / "search-2")
    assert "search-2" not in [row.name for row in runs.rows(root)]


def test_the_first_listing_opens_each_file_once_and_none_that_rows_do_not_need(root, monkeypatch):
    opened, real = [], Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *given, **named: (opened.append(path), real(path, *given, **named))[1]
    )
    before = {folder.name for folder in root.iterdir()}
    assert {row.name for row in runs.rows(root)} == before
    assert {path.name for path in opened} <= {
        *("config.json", "environment.json", "genotype.json", "sizes.json", "runs.json", "summary.json"),
        *("metrics.jsonl", "candidates.jsonl", "baseline.jsonl"),
    }
    assert len(opened) > len(before)
    assert len(set(opened)) == len(opened)
    opened.clear()
    runs.rows(root)
    assert not opened


@pytest.mark.usefixtures("coarse_pictures")
def test_a_click_opens_the_inspectors_of_that_run(root):
    page = RunsInspector(InspectConfig(run_dir=str(root / "search-0")))
    assert page.message.value == ""
    names = page.table.df["run"].tolist()
    assert set(names) == {"search-0", "search-1", "search-2", "search-lr", "study"}
    page.table.selected_rows = [names.index("search-1")]
    title, tabs = page.opened.children
    assert "search-1" in title.value
    assert tabs.titles[0] == "evaluator"
    made = [bool(box.children) for box in tabs.children]
    assert made == [True, False, False, False]  # the others are made when they are looked at
    for place in range(4):
        tabs.selected_index = place
        assert tabs.children[place].children
    page.table.selected_rows = [names.index("study")]
    assert "study is a run of the kind ablation" in page.message.value
    assert "search-1" in page.opened.children[0].value
    page.refresh()
    assert page.message.value == ""
    assert [names[place] for place in page.table.selected_rows] == ["search-1"]


def test_a_reader_without_widgets_gets_the_tables(root):
    table, groups = RunsInspector.figures(InspectConfig(run_dir=str(root / "search-0")))
    assert all(f"search-{name}" in table.data for name in (0, 1, 2, "lr"))
    assert "0, 1, 2" in groups.data
