import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from faults import disk_full_at

from setn_lab.config import bounded, build, choice, digest, to_json, unhashed, validate
from setn_lab.runs import environment as machine
from setn_lab.runs import run as runs
from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run, default_folder

ENVIRONMENT = {"python": "3", "torch": "2", "threads": 2, "git_commit": "abc"}


@dataclass(frozen=True, kw_only=True)
class Search:
    epochs: int = bounded(400, at_least=1)
    weight_lr: float = bounded(0.05, above=0)
    dataset: str = "cifar10"
    run_dir: str | None = unhashed(None)
    data_dir: str = unhashed("data")

    def __post_init__(self) -> None:
        validate(self)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """What machine.environment() returns, to be changed by a test; the real one has a test of its own."""
    values = dict(ENVIRONMENT)
    monkeypatch.setattr(runs, "environment", lambda: dict(values))
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    return values


def open_run(folder, **values) -> Run:
    return Run.open(Search(run_dir=str(folder), **values), "search", lock_wait=0.3)


def content(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


# -- opening


def test_a_new_folder_gets_config_and_environment(tmp_path):
    config = Search(epochs=3, run_dir=str(tmp_path / "a" / "b"))
    with Run.open(config, "search") as run:
        assert (run.folder, run.config, run.resumed) == (tmp_path / "a" / "b", config, False)
        assert run.checkpoints == run.folder / "checkpoints"
    text = (run.folder / "config.json").read_text(encoding="utf-8")
    assert text == to_json(config)
    assert build(Search, yaml.safe_load(text)) == config
    record = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    assert record == {"kind": "search", **ENVIRONMENT, "resumed_in": []}
    assert content(run.folder).keys() == {"config.json", "environment.json", "identity.json", "lock"}


def test_the_same_config_resumes(tmp_path):
    open_run(tmp_path / "r", epochs=3).close()
    before = content(tmp_path / "r")
    with open_run(tmp_path / "r", epochs=3) as run:
        assert run.resumed
    assert content(tmp_path / "r") == before
    with open_run(tmp_path / "r", epochs=3, data_dir="elsewhere") as run:
        assert run.resumed


def test_another_config_is_refused_with_every_difference(tmp_path):
    open_run(tmp_path / "r", epochs=3).close()
    before = content(tmp_path / "r")
    with pytest.raises(RunError) as caught:
        open_run(tmp_path / "r", epochs=4, weight_lr=1.0)
    text = str(caught.value)
    assert "epochs: 3 there, 4 here" in text
    assert "weight_lr: 0.05 there, 1.0 here" in text
    assert "dataset" not in text
    assert "data_dir" not in text
    assert "Give another run_dir, or leave run_dir out" in text
    assert content(tmp_path / "r") == before
    open_run(tmp_path / "r", epochs=3).close()  # the refused one holds no lock


@dataclass(frozen=True, kw_only=True)
class LaterSearch(Search):
    way: str = choice("old", {"old": 1, "new": 2}, added=True)


def test_a_run_of_before_a_field_was_added_resumes_where_the_field_says_what_was_done(tmp_path):
    open_run(tmp_path / "r", epochs=3).close()
    Run.open(LaterSearch(epochs=3, run_dir=str(tmp_path / "r")), "search").close()
    new = LaterSearch(epochs=3, way="new", run_dir=str(tmp_path / "new"))
    with pytest.raises(RunError, match="way: 'old' there, 'new' here"):
        Run.open(replace(new, run_dir=str(tmp_path / "r")), "search")
    Run.open(new, "search").close()
    with pytest.raises(RunError, match="way: 'new' there, 'old' here"):
        Run.open(replace(new, way="old"), "search")


def test_another_kind_is_refused(tmp_path):
    open_run(tmp_path / "r").close()
    with pytest.raises(RunError, match="'search' there, 'ablation' here"):
        Run.open(Search(run_dir=str(tmp_path / "r")), "ablation")


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]", "\udcff"])
def test_an_unreadable_record_is_named(tmp_path, name, text):
    open_run(tmp_path / "r").close()
    (tmp_path / "r" / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=f"{name} is damaged"):
        open_run(tmp_path / "r")


def test_a_folder_of_something_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x", encoding="utf-8")
    before = content(tmp_path)
    with pytest.raises(RunError, match=r"run folder.*thesis\.tex"):
        open_run(tmp_path)
    assert content(tmp_path) == before
    (tmp_path / "lock").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="run folder"):
        open_run(tmp_path)


def test_an_empty_folder_and_one_of_a_killed_first_start_are_taken(tmp_path):
    for number_of_files, names in enumerate([(), ("lock",), ("lock", ".config.json.tmp")]):
        folder = tmp_path / str(number_of_files)
        folder.mkdir()
        for name in names:
            (folder / name).write_text("x", encoding="utf-8")
        with open_run(folder) as run:
            assert not run.resumed
        assert not (folder / ".config.json.tmp").exists()
    (folder / "environment.json").unlink()  # killed after config.json
    with open_run(folder) as run:
        assert json.loads((folder / "environment.json").read_text(encoding="utf-8"))["kind"] == "search"


def test_a_path_that_cannot_be_a_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RunError, match="give another run_dir"):
        open_run(tmp_path / "file")
    with pytest.raises(RunError, match="give another run_dir"):
        open_run(tmp_path / "file" / "below")


def test_a_full_disk_at_the_first_start_leaves_a_folder_that_can_be_opened(tmp_path):
    with disk_full_at(10), pytest.raises(RunError, match="File too large"):
        open_run(tmp_path / "r")
    open_run(tmp_path / "r").close()


def test_the_default_folder_is_named_from_the_config(tmp_path, monkeypatch):
    config = Search(epochs=3)
    assert default_folder(config, "search") == tmp_path / "runs" / f"search-{digest(config)}"
    assert default_folder(Search(epochs=4), "search") != default_folder(config, "search")
    with Run.open(config, "search") as run:
        assert run.folder == default_folder(config, "search")
    monkeypatch.setenv("SETN_LAB_RUNS", "~/x")
    assert default_folder(config, "search").parent == Path.home() / "x"
    monkeypatch.delenv("SETN_LAB_RUNS")
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "site" / "setn_lab" / "runs" / "environment.py"))
    assert default_folder(config, "search").parent == Path("reports/runs")
    (tmp_path / "site" / "notebooks").mkdir(parents=True)
    (tmp_path / "site" / "pyproject.toml").write_text("", encoding="utf-8")
    assert default_folder(config, "search").parent == (tmp_path / "site" / "reports" / "runs").resolve()


def test_run_dir_may_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with open_run("~/r") as run:
        assert run.folder == tmp_path / "r"


# -- environment


def test_another_environment_is_recorded_and_warned_of(tmp_path, environment):
    open_run(tmp_path / "r").close()
    environment["threads"] = 4
    environment["git_commit"] = "def"
    with pytest.warns(UserWarning, match="threads: 2 .*4 .*git_commit: 'abc'.*'def'"):
        open_run(tmp_path / "r").close()
    open_run(tmp_path / "r").close()  # as the start before: nothing to say
    environment["torch"] = "3"
    with pytest.warns(UserWarning, match=r"torch: '2'.*'3'.*bitwise"):
        open_run(tmp_path / "r").close()
    record = json.loads((tmp_path / "r" / "environment.json").read_text(encoding="utf-8"))
    assert {name: record[name] for name in ENVIRONMENT} == ENVIRONMENT
    assert [start["torch"] for start in record["resumed_in"]] == ["2", "3"]
    assert [start["threads"] for start in record["resumed_in"]] == [4, 4]


def test_a_warning_turned_into_an_error_leaves_no_lock(tmp_path, environment):
    open_run(tmp_path / "r").close()
    environment["threads"] = 4
    with pytest.raises(UserWarning, match="threads"):
        open_run(tmp_path / "r")
    open_run(tmp_path / "r").close()


def test_the_real_environment(monkeypatch):
    monkeypatch.undo()
    import torch

    found = machine.environment()
    assert json.loads(json.dumps(found)) == found
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["threads"] == torch.get_num_threads()
    assert found["numpy"]
    assert found["cpu"] is not None
    assert found.keys() >= {
        "platform",
        "machine",
        "cores",
        "torchvision",
        "setn_lab",
        "cuda_device",
        "git_commit",
    }


def test_the_commit_tells_whether_the_code_was_changed(tmp_path, monkeypatch):
    monkeypatch.undo()

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    code = tmp_path / "setn_lab" / "runs" / "environment.py"
    for folder in (code.parent, tmp_path / "notebooks"):
        folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("", encoding="utf-8")
    code.write_text("a = 1", encoding="utf-8")
    monkeypatch.setattr(machine, "__file__", str(code))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert machine.environment()["git_commit"] is None
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "a")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "notebooks" / "out.ipynb").write_text("", encoding="utf-8")  # outputs are not code
    assert machine.environment()["git_commit"] == commit
    code.write_text("a = 2", encoding="utf-8")
    assert machine.environment()["git_commit"] == f"{commit} dirty"


# -- journals


def test_a_journal_is_read_as_it_was_written(tmp_path):
    records = [{"epoch": i, "loss": 0.1 * i, "name": "é\n", "genotype": {"a": [1, None]}} for i in range(3)]
    with open_run(tmp_path / "r") as run:
        assert run.read("metrics") == []
        for i, record in enumerate(records):
            run.append("metrics", record)
            assert run.read("metrics") == records[: i + 1]
            assert (run.folder / "metrics.jsonl").read_bytes().count(b"\n") == i + 1
    with open_run(tmp_path / "r") as run:
        assert run.read("metrics") == read_journal(run.folder / "metrics.jsonl") == records
    assert read_journal(tmp_path / "none.jsonl") == []


def test_a_journal_is_cut_to_a_count(tmp_path):
    with open_run(tmp_path / "r") as run:
        for i in range(4):
            run.append("metrics", {"epoch": i})
        before = (run.folder / "metrics.jsonl").stat().st_ino
        for count in (4, 5):
            run.keep("metrics", count)
        assert (run.folder / "metrics.jsonl").stat().st_ino == before
        run.keep("metrics", 2)
        run.append("metrics", {"epoch": 7})
        assert run.read("metrics") == [{"epoch": 0}, {"epoch": 1}, {"epoch": 7}]
        run.keep("metrics", 0)
        assert run.read("metrics") == []
        run.keep("other", 3)
        assert not (run.folder / "other.jsonl").exists()
        with pytest.raises(ValueError, match="count: -1"):
            run.keep("metrics", -1)


@pytest.mark.parametrize("torn", [b'{"epoch": 2', b'{"epoch": 2}', b'{"epo\n', b"\0\0\0", b"\0\0\n", b'{"\xc3', b"7\n"])
def test_a_torn_last_line_is_passed_over_and_cut_when_opened_to_write(tmp_path, torn):
    with open_run(tmp_path / "r") as run:
        for i in range(2):
            run.append("metrics", {"epoch": i})
    journal = run.folder / "metrics.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    assert read_journal(journal) == [{"epoch": 0}, {"epoch": 1}]
    assert journal.read_bytes() == whole + torn, "a reader changes nothing"
    with open_run(tmp_path / "r") as run:
        assert journal.read_bytes() == whole
        run.append("metrics", {"epoch": 2})
        assert run.read("metrics") == [{"epoch": 0}, {"epoch": 1}, {"epoch": 2}]


def test_every_cut_of_a_journal_leaves_its_whole_lines(tmp_path):
    with open_run(tmp_path / "r") as run:
        for i in range(3):
            run.append("metrics", {"epoch": i, "name": "é"})
    whole = (run.folder / "metrics.jsonl").read_bytes()
    cut = tmp_path / "cut.jsonl"
    for length in range(len(whole) + 1):
        cut.write_bytes(whole[:length])
        assert [record["epoch"] for record in read_journal(cut)] == [*range(whole[:length].count(b"\n"))]


@pytest.mark.parametrize("end", [b"", b'{"epo'])
def test_a_damaged_line_before_the_last_is_named(tmp_path, end):
    open_run(tmp_path / "r").close()
    damaged = b'{"epoch": 0}\n{"epoch\n' + (end or b'{"epoch": 2}\n')
    (tmp_path / "r" / "metrics.jsonl").write_bytes(damaged)
    for read in (lambda: open_run(tmp_path / "r"), lambda: read_journal(tmp_path / "r" / "metrics.jsonl")):
        with pytest.raises(RunError, match=r"metrics\.jsonl, line 2 is damaged"):
            read()
    assert (tmp_path / "r" / "metrics.jsonl").read_bytes() == damaged


def test_a_full_disk_leaves_no_half_line(tmp_path):
    with open_run(tmp_path / "r") as run:
        run.append("metrics", {"epoch": 0})
        size = (run.folder / "metrics.jsonl").stat().st_size
        for room in (0, 5):
            with (
                disk_full_at(size + room),
                pytest.raises(RunError, match=r"metrics\.jsonl could not be written"),
            ):
                run.append("metrics", {"epoch": 1, "text": "x" * 100})
            assert (run.folder / "metrics.jsonl").stat().st_size == size
        run.append("metrics", {"epoch": 1})
        assert run.read("metrics") == [{"epoch": 0}, {"epoch": 1}]


def test_a_line_is_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    calls = []
    write, fsync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda f, data: calls.append(("write", data)) or write(f, data))
    monkeypatch.setattr(os, "fsync", lambda f: calls.append(("fsync", None)) or fsync(f))
    with open_run(tmp_path / "r") as run:
        run.append("metrics", {"epoch": 0})
        calls.clear()
        run.append("metrics", {"epoch": 1})
    assert calls == [("write", b'{"epoch": 1}\n'), ("fsync", None)]


# -- products


def test_a_product_is_replaced_as_a_whole(tmp_path):
    with open_run(tmp_path / "r") as run:
        path = run.write("genotype.json", "é")
        assert path.read_bytes() == "é".encode()
        assert run.write("figures/loss.png", b"\x89").read_bytes() == b"\x89"
        with (
            disk_full_at(10),
            pytest.raises(RunError, match=r"genotype\.json.*File too large"),
        ):
            run.write("genotype.json", "x" * 100)
        assert path.read_bytes() == "é".encode()
        assert not list(run.folder.glob(".*"))
    (run.folder / ".genotype.json.tmp").write_text("half", encoding="utf-8")  # killed while writing
    with open_run(tmp_path / "r") as run:
        assert not list(run.folder.glob(".*"))


def test_a_closed_run_writes_nothing(tmp_path):
    run = open_run(tmp_path / "r")
    run.close()
    run.close()
    before = content(run.folder)
    for write in (
        lambda: run.append("metrics", {}),
        lambda: run.keep("metrics", 0),
        lambda: run.write("a.txt", "a"),
    ):
        with pytest.raises(RunError, match="the run is closed"):
            write()
    assert content(run.folder) == before
    assert run.read("metrics") == []
