"""The table of all run folders, of written ones."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from written_run import write_journal, write_run

from setn_lab import listing
from setn_lab.config import to_json
from setn_lab.inspection import kinds, reading
from setn_lab.network.costs import cost
from setn_lab.retrain import RetrainConfig
from setn_lab.retrain.setup import prepare_retraining
from setn_lab.runs import Run
from setn_lab.runs.lock import take_lock
from setn_lab.search import SearchConfig, report

TIME = 1_700_000_000


@pytest.fixture
def root(tmp_path):
    """A root with one finished search of long ago."""
    add(tmp_path, "search", "search-a", age=100)
    return tmp_path


def add(root: Path, kind: str, name: str, age: int = 0, epochs: int = 4, candidates: int = 12, **parameters) -> Path:
    folder = write_run(root / name, epochs, candidates, nodes=2, **parameters)
    return mark(folder, kind, age)


def mark(folder: Path, kind: str, age: int = 0) -> Path:
    (folder / "environment.json").write_text(json.dumps({"kind": kind}), encoding="utf-8")
    for path in folder.glob("*.json"):
        os.utime(path, (TIME - age, TIME - age))
    return folder


def row(root: Path, name: str) -> dict[str, str]:
    (found,) = (dict(zip(listing.HEAD, cells, strict=True)) for cells in listing.listing(root) if cells[0] == name)
    return found


def set_epochs(folder: Path, epochs: int) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "epochs": epochs}), encoding="utf-8")


def test_a_finished_search_has_its_winner_and_what_that_costs(root):
    records = [
        json.loads(line) for line in (root / "search-a" / "candidates.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    best = min(records, key=lambda record: record["loss"])
    found = row(root, "search-a")
    assert (found["kind"], found["state"]) == ("search", "finished")
    assert found["best"] == f"loss {best['loss']:.3f}, accuracy {best['accuracy']:.1%}"
    run = report.SearchRun.read(root / "search-a")
    size = run.sizes(run.genotype())[-1]
    assert (size.channels, size.repeats) == (36, 6)
    expected = f"{size.parameters / 1e6:.2f} M parameters, trained 4 s"
    assert found["cost"] == expected
    report.save(run)
    assert json.loads((root / "search-a" / "sizes.json").read_text(encoding="utf-8"))[-1] == size._asdict()
    assert row(root, "search-a")["cost"] == expected


def test_the_best_is_what_the_search_selects_by(root):
    folder = add(root, "search", "search-b", select_by="accuracy")
    records = [{"genotype": "", "loss": 1.0, "accuracy": 0.5, "images": 9}]
    records += [
        {**records[0], "loss": 2.0, "accuracy": 0.75},
        {**records[0], "loss": 0.5, "accuracy": 1.0, "images": 8},
    ]
    records += [{**records[0], "loss": float("nan"), "accuracy": 0.9}]
    write_journal(folder / "candidates.jsonl", records)
    assert (
        row(root, "search-b")["best"] == "loss 2.000, accuracy 75.0%"
    )  # the one of fewer images was dropped in a race


def test_the_newest_run_comes_first(root):
    add(root, "search", "search-old", age=200)
    add(root, "search", "search-new")
    assert [cells[0] for cells in listing.listing(root)] == ["search-new", "search-a", "search-old"]
    assert row(root, "search-new")["started"].startswith("2023-11-1")


def test_an_interrupted_search_says_where(root):
    set_epochs(add(root, "search", "search-b", epochs=3, candidates=0), 24)
    found = row(root, "search-b")
    assert (found["state"], found["best"], found["cost"]) == ("interrupted at epoch 3 of 24", "", "trained 3 s")
    (root / "search-a" / "genotype.json").unlink()
    assert row(root, "search-a")["state"] == "trained, 12 candidates scored"


HOLD = """
import sys, time
from setn_lab.runs.lock import take_lock
from pathlib import Path
take_lock(Path(sys.argv[1]), 0)
print("held", flush=True)
time.sleep(100)
"""


def test_a_search_runs_as_long_as_its_process_lives(root):
    set_epochs(add(root, "search", "search-b", epochs=3, candidates=0), 24)
    command = [sys.executable, "-c", HOLD, str(root / "search-b")]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "held\n"
        assert row(root, "search-b")["state"] == "running at epoch 3 of 24"
        process.kill()
        process.wait()
        assert (root / "search-b" / "lock").read_text(encoding="utf-8").strip(), "the killed process left its name"
        assert row(root, "search-b")["state"] == "interrupted at epoch 3 of 24"


def test_a_run_of_this_process_runs_until_it_is_closed_and_is_not_held_up(root):
    config = SearchConfig(dataset="digits", run_dir=str(root / "mine"))
    with Run.open(config, "search"):
        assert row(root, "mine")["state"] == "running at epoch 0 of 400"
        assert row(root, "mine")["state"] == "running at epoch 0 of 400"
    assert row(root, "mine")["state"] == "interrupted at epoch 0 of 400"
    Run.open(config, "search", lock_wait=0).close()


def test_a_training_has_the_mean_test_error_and_its_networks_parameters(root):
    values = {"dataset": "digits", "channels": 2, "repeats": 1, "batch_size": 8, "limit_train": 16, "limit_test": 8}
    config = RetrainConfig(**values, epochs=2, seeds=2, cutout=0, auxiliary_weight=0.0, run_dir=str(root / "retrain-a"))
    setup = prepare_retraining(config)
    with Run.open(config, "retrain") as run:
        assert row(root, "retrain-a")["state"] == "running at epoch 0 of 4"
        for seed, errors in ((0, (0.5, 0.25)), (1, (0.5, 0.375))):
            for error in errors:
                run.append("metrics", {"seed": seed, "test_error": error, "seconds": 30})
            assert (
                row(root, "retrain-a")["cost"]
                == ("" if seed == 0 else "0.01 M parameters, ") + f"trained {1 + seed} min 0 s"
            )
            network = setup.network(seed)
            run.write(f"network-{seed}.safetensors", setup.trained(network.eval()).to_bytes())
    found = row(root, "retrain-a")
    assert (found["state"], found["best"]) == ("finished", "test error 31.25%")
    assert kinds._exported_parameters(root / "retrain-a" / "network-0.safetensors") == cost(network, 8).parameters


SUMMARIES = {
    "ablation": (
        {"variants": {"setn": {"selected": {"accuracy": 0.5}}, "setn-lr": {"selected": {"accuracy": 0.75}}}},
        "setn-lr: accuracy 75.0%",
    ),
    "ranking": ({"kendall_tau": 0.25}, "tau of the accuracy +0.25"),
    "groundtruth": (
        {"run": "a", "setn": {"chosen_true_accuracy_mean": 91.5}, "setn-lr": {"chosen_true_accuracy_mean": 92.5}},
        "setn-lr: true accuracy 92.50%",
    ),
    "my study": ({"anything": 1}, ""),
}


@pytest.mark.parametrize("kind", SUMMARIES)
def test_a_study_is_finished_with_its_summary(root, kind):
    (root / "study").mkdir()
    (root / "study" / "config.json").write_text("{}", encoding="utf-8")
    mark(root / "study", kind)
    assert row(root, "study")["state"].startswith("interrupted at ")
    summary, best = SUMMARIES[kind]
    (root / "study" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    found = row(root, "study")
    assert (found["kind"], found["state"], found["best"]) == (kind, "finished", best)


@pytest.mark.parametrize(
    ("name", "text"), [("config.json", "{"), ("metrics.jsonl", "x\n{}\n"), ("candidates.jsonl", "{}\n")]
)
def test_a_damaged_run_says_so_and_hides_no_other(root, name, text):
    (add(root, "search", "search-b") / name).write_text(text, encoding="utf-8")
    assert row(root, "search-b")["state"].startswith("cannot be read")
    assert row(root, "search-a")["state"] == "finished"


def test_columns_stand_below_their_heads(root):
    add(root, "search", "search-of-a-long-name")
    head, *lines = listing.as_text(listing.listing(root)).splitlines()
    assert len(lines) == 2
    for name in listing.HEAD[1:]:
        place = head.index(f"  {name}") + 2
        assert all(line[place - 1] == " " != line[place] for line in lines)


def failed_start(root: Path, name: str) -> Path:
    folder = add(root, "search", name, epochs=0, candidates=0)
    (folder / "lock").touch()
    assert {path.name for path in folder.iterdir()} == {"config.json", "environment.json", "lock"}
    return folder


def test_failed_starts_are_named_and_removed_and_nothing_else(root):
    failed = [failed_start(root, "search-b"), failed_start(root, "search-c")]
    begun = add(root, "search", "search-d", epochs=1, candidates=0)
    other = root / "mine"
    other.mkdir()
    (other / "config.json").touch()
    (other / "notes.txt").touch()
    assert row(root, "search-b")["state"] == "interrupted at epoch 0 of 1"
    with Run.open(SearchConfig(dataset="digits", run_dir=str(root / "search-e")), "search") as run:
        before = {path: path.stat().st_mtime_ns for path in run.folder.iterdir()}
        assert listing.failed_starts(root) == failed
        assert listing.remove_failed(root) == failed
        assert {path: path.stat().st_mtime_ns for path in run.folder.iterdir()} == before
    assert {path.name for path in root.iterdir()} == {"search-a", begun.name, other.name, "search-e"}
    assert listing.remove_failed(root) == [root / "search-e"]


def test_a_failed_start_does_not_hide_the_newest_search(root, monkeypatch):
    monkeypatch.setenv("SETN_LAB_RUNS", str(root))
    later = failed_start(root, "search-b")
    os.utime(later / "config.json")
    for path in (root / "search-a").iterdir():
        os.utime(path, (TIME, TIME))
    assert reading.newest_search() == root / "search-a"
    with Run.open(SearchConfig(dataset="digits", run_dir=str(root / "search-c")), "search") as run:
        assert reading.newest_search() == run.folder  # one that is at its first epoch just now
    (later / "metrics.jsonl").touch()
    assert reading.newest_search() == later


def test_failed_starts_do_not_push_runs_out_of_the_newest(root):
    names = [f"search-{number}" for number in range(3)]
    for name in names:
        failed_start(root, name)
    text = listing.newest(root, root, count=1)
    (line,) = text.splitlines()[2:3]
    assert "`search-a`" in line
    assert not [name for name in names if name in text]
    assert "3 in which nothing" in text
    assert "--remove-failed" in text
    listing.remove_failed(root)
    assert "--remove-failed" not in listing.newest(root, root)


def test_where_a_run_stands_is_said_before_it_is_opened(root, tiny_config):
    folder = root / "mine"
    config = tiny_config(folder, epochs=4, candidates=12)
    assert "new run" in listing.standing(config, "search")
    write_run(folder, 2, 0, nodes=config.nodes)
    (folder / "config.json").write_text(to_json(config), encoding="utf-8")
    assert "interrupted at epoch 2 of 4; goes on" in listing.standing(config, "search")
    lock = take_lock(folder, 0)
    text = listing.standing(config, "search")
    assert "running at epoch 2 of 4" in text
    assert f"pid {os.getpid()} " in text
    lock.free()
    write_run(folder, 4, 12, nodes=config.nodes)
    (folder / "config.json").write_text(to_json(config), encoding="utf-8")
    assert "finished" in listing.standing(config, "search")
    assert "nothing is left" in listing.standing(config, "search")
    text = listing.standing(replace(config, candidates=13), "search")  # of the same folder
    assert "nothing is left" not in text
    assert "(candidates)" in text
    (folder / "metrics.jsonl").write_text("x\n{}\n", encoding="utf-8")
    assert "cannot be read" in listing.standing(config, "search")


def test_the_newest_runs_have_links_that_lead_to_their_figures(root):
    (root / "here").mkdir()
    for number in range(12):
        add(root, "search", f"search-{number}", age=number)
    (root / "search-3" / "cells.svg").touch()
    (root / "search-3" / "curves.svg").touch()
    text = listing.newest(root, root / "here")
    lines = text.splitlines()[2:]
    assert [line.split("`")[1] for line in lines] == [f"search-{number}" for number in range(10)]
    links = re.findall(r"\[(\w+)\]\(([^)]+)\)", text)
    assert [name for name, _ in links] == ["cells", "curves"]
    assert all((root / "here" / link).exists() for _, link in links)
    assert len({line.count("|") for line in text.splitlines()}) == 1
    assert "no run" in listing.newest(root / "nowhere", root)
