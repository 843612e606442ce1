"""Folders whose names cannot be brought to the disk."""

import errno
import os
from dataclasses import dataclass

import pytest

from setn_lab.config import unhashed
from setn_lab.runs import run
from setn_lab.runs.checkpoint import CheckpointError, load_latest, save
from setn_lab.runs.errors import RunError
from setn_lab.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Search:
    run_dir: str | None = unhashed(None)


def open_run(folder) -> Run:
    return Run.open(Search(run_dir=str(folder)), "search")


@pytest.fixture
def failing(monkeypatch):
    """failing(number): from now on an fsync of a folder answers with that error."""

    def fail(number):
        def fsync(descriptor):
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)

    monkeypatch.setattr(run, "environment", lambda: {})
    return fail


def test_what_is_written_is_said_to_be_when_only_its_name_is_not_safe(tmp_path, failing):
    with open_run(tmp_path / "r") as run:
        run.write("genotype.json", "old")
        failing(errno.EIO)
        with pytest.raises(RunError) as caught:
            run.write("genotype.json", "new")
        assert (run.folder / "genotype.json").read_text(encoding="utf-8") == "new"
        assert f"{run.folder / 'genotype.json'} is written" in str(caught.value)
        assert "untouched" not in str(caught.value)
        with pytest.raises(RunError, match="What it held before is untouched"):
            run.append("metrics", {"epoch": 0})
        assert run.read("metrics") == []
        with pytest.raises(CheckpointError, match=r"checkpoint-00001-.* is written"):
            save(run.checkpoints, 1, {"step": 1})
        assert load_latest(run.checkpoints) == (1, {"step": 1})
    with pytest.raises(RunError, match=r"config\.json is written"):
        open_run(tmp_path / "new")


def test_a_file_system_that_syncs_files_alone_is_enough(tmp_path, failing):
    failing(errno.EINVAL)
    with open_run(tmp_path / "r") as run:
        run.append("metrics", {"epoch": 0})
        assert run.write("genotype.json", "new").read_text(encoding="utf-8") == "new"
