"""Two `setn-lab inspect` at once: each shows its own run, on a port and behind a token of its own."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager

import pytest
from written_run import write_run

PATIENCE = 200  # seconds; two kernels that import torch on a busy machine take their time


@contextmanager
def inspected(run, log):
    """The process of a page of that run, and what it says."""
    environment = {**os.environ, "BROWSER": "true", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "setn_lab", "inspect", str(run), "--interactive", "False"]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def address(process, log):
    """(port, token) of the page, once it is served."""
    deadline = time.monotonic() + PATIENCE
    while not (found := re.search(r"http://localhost:(\d+)/\?token=(\w+)", log.read_text(encoding="utf-8"))):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found.groups()


def page(port, token):
    with urllib.request.urlopen(f"http://localhost:{port}/?token={token}", timeout=PATIENCE) as answer:
        return answer.read().decode()


@pytest.mark.usefixtures("light_python")
def test_two_pages_at_once_show_each_its_own_run(tmp_path):
    runs = [write_run(tmp_path / f"search-{name}", 1, 0, nodes=1) for name in ("first", "second")]
    logs = [tmp_path / f"{run.name}.log" for run in runs]
    with ExitStack() as stack:
        processes = [stack.enter_context(inspected(run, log)) for run, log in zip(runs, logs, strict=True)]
        places = [address(process, log) for process, log in zip(processes, logs, strict=True)]
        (port, token), (other_port, other_token) = places
        assert port != other_port
        assert token != other_token
        assert runs[0].name not in page(port, other_token)  # which opens no page but its own
        texts = [page(*place) for place in places]
    for text, own, other in zip(texts, runs, reversed(runs), strict=True):
        assert rf"\u003e{own.name}\u003c" in text  # a cell of the table, in a script
        assert other.name not in text
