"""One writer to a run folder: with the locks of the operating system, and where a file system has none."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from setn_lab.config import unhashed
from setn_lab.runs import files, lock, run
from setn_lab.runs.errors import RunError
from setn_lab.runs.lock import MARKER, in_use, take_lock
from setn_lab.runs.run import Run

NO_LOCKS = [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL]


@dataclass(frozen=True, kw_only=True)
class Search:
    run_dir: str | None = unhashed(None)


def open_run(folder, lock_wait=0.3) -> Run:
    return Run.open(Search(run_dir=str(folder)), "search", lock_wait=lock_wait)


def refuse_locks(number=errno.ENOLCK):
    """What flock is where a file system has no locks."""

    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    fcntl.flock = flock


@pytest.fixture(params=["locks", "no locks"])
def missing(request, monkeypatch):
    """Whether the file system has no locks, in this process and in `holder`."""
    monkeypatch.setattr(fcntl, "flock", fcntl.flock)
    monkeypatch.setattr(run, "environment", lambda: {})
    if request.param == "no locks":
        refuse_locks()
    return request.param == "no locks"


HOLDER = """
import sys, time
sys.path.insert(0, sys.argv[2])
import test_lock as t
t.run.environment = lambda: {}
if sys.argv[3] == "True":
    t.refuse_locks()
run = t.open_run(sys.argv[1])
print("open", flush=True)
time.sleep(100)
"""


@pytest.fixture
def holder(tmp_path, missing):
    """Another process that holds the folder tmp_path/r."""
    command = [sys.executable, "-c", HOLDER, tmp_path / "r", os.path.dirname(__file__), str(missing)]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_a_folder_in_use_is_refused_naming_the_holder(tmp_path, holder, missing):
    start = time.monotonic()
    with pytest.raises(RunError) as caught:
        open_run(tmp_path / "r")
    assert time.monotonic() - start >= 0.3
    assert f"{tmp_path / 'r'} is in use by pid {holder.pid} on " in str(caught.value)
    assert " since 20" in str(caught.value)
    assert (f"delete {tmp_path / 'r' / MARKER}" in str(caught.value)) == missing


def test_a_look_at_the_lock_tells_an_open_run_and_leaves_it_open(tmp_path, holder, missing):
    assert in_use(tmp_path / "r")
    assert in_use(tmp_path / "r")
    with pytest.raises(RunError, match="in use by"):
        open_run(tmp_path / "r")
    assert not in_use(tmp_path / "nothing")


def test_a_closed_run_is_not_in_use(tmp_path, missing):
    with open_run(tmp_path / "r"):
        assert in_use(tmp_path / "r")
    assert not in_use(tmp_path / "r")
    open_run(tmp_path / "r", lock_wait=0).close()


def test_a_killed_holder_frees_the_folder(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with open_run(tmp_path / "r", lock_wait=5) as run:
        assert run.resumed
        assert f"pid {os.getpid()} on" in (tmp_path / "r" / "lock").read_text(encoding="utf-8")


def test_a_dying_holder_is_waited_for(tmp_path, holder):
    dying = threading.Timer(0.5, lambda: [holder.kill(), holder.wait()])
    dying.start()
    with open_run(tmp_path / "r", lock_wait=20):
        dying.join(5)
        assert holder.returncode == -signal.SIGKILL


def test_the_same_process_is_refused_at_once(tmp_path, missing):
    with open_run(tmp_path / "r"):
        start = time.monotonic()
        with pytest.raises(RunError, match=f"open in this process already .pid {os.getpid()} on .*close"):
            open_run(tmp_path / "r", lock_wait=60)
        assert time.monotonic() - start < 30
        assert (tmp_path / "r" / MARKER).exists() == missing
    open_run(tmp_path / "r").close()
    assert not (tmp_path / "r" / MARKER).exists()


def test_the_lock_is_not_handed_to_programs_that_are_started(tmp_path, missing):
    run = open_run(tmp_path / "r")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False):
        run.close()
        open_run(tmp_path / "r").close()


def test_another_thread_may_free_what_this_one_locked(tmp_path, missing):
    first = take_lock(tmp_path, 0.3)
    thread = threading.Thread(target=first.free)
    thread.start()
    thread.join()
    take_lock(tmp_path, 0.3).free()


def test_what_a_killed_start_leaves_is_no_foreign_folder(tmp_path, missing):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "lock").touch()  # of a run before, or of an older version
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    (tmp_path / "r" / MARKER).write_text(f"{dead.pid}\n{os.uname().nodename}\n", encoding="utf-8")
    assert not open_run(tmp_path / "r", lock_wait=5).resumed


@pytest.mark.parametrize("number", NO_LOCKS)
def test_each_answer_of_a_file_system_without_locks_is_known(tmp_path, missing, number):
    refuse_locks(number)
    with open_run(tmp_path / "r"), pytest.raises(RunError, match="open in this process already"):
        open_run(tmp_path / "r")


def test_another_machine_without_locks_is_believed_to_run(tmp_path, missing):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "lock").write_text(" pid 1 on elsewhere since 2026-01-01T00:00:00+00:00\n", encoding="utf-8")
    (tmp_path / "r" / MARKER).write_text("1\nelsewhere\n", encoding="utf-8")
    if missing:
        with pytest.raises(RunError, match=r"in use by pid 1 on elsewhere since 2026.*if that runs no longer, delete"):
            open_run(tmp_path / "r")
        (tmp_path / "r" / MARKER).unlink()
    open_run(tmp_path / "r").close()


def test_a_lock_that_fails_is_not_called_a_matter_of_permissions(tmp_path, missing):
    refuse_locks(errno.EIO)
    with pytest.raises(RunError, match=f"lock: .*{os.strerror(errno.EIO)}.*give a run_dir on another disk") as caught:
        open_run(tmp_path / "r")
    assert "permission" not in str(caught.value)


def test_a_file_system_with_no_kind_of_lock_is_named_as_such(tmp_path, missing, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    refuse_locks()
    monkeypatch.setattr(lock.SoftFileLock, "acquire", refuse)
    with pytest.raises(
        RunError, match=r"this file system supports no locks, .*give a run_dir on another disk"
    ) as caught:
        open_run(tmp_path / "r")
    assert "free space" not in str(caught.value)


# -- Windows, as far as it can be told from here

IMPORTS = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None
import setn_lab.compute.device, setn_lab.runs, setn_lab.search.estimate, torch
assert setn_lab.compute.device.peak_memory(torch.device("cpu")) is None
"""


def test_nothing_that_windows_lacks_is_imported():
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-W", "ignore:only soft file lock", "-c", IMPORTS], check=True, env=environment)


def test_a_system_that_opens_no_folders_is_told_what_it_lacks(tmp_path, monkeypatch):
    real = os.open

    def refuse(path, *arguments):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(run, "environment", lambda: {})
    for module in (files, run):
        monkeypatch.setattr(module, "SYNCS_FOLDERS", False)
    with pytest.warns(UserWarning, match="power failure.*memory"):
        opened = open_run(tmp_path / "r")
    with opened:
        opened.append("metrics", {"epoch": 0})
        assert opened.read("metrics") == [{"epoch": 0}]
