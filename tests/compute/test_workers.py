"""Tasks over worker processes: the same results for any number of them, through their deaths and errors."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from multiprocessing import resource_tracker

import psutil
import pytest
import torch
from torch.nn import functional as F

from setn_lab.compute import processes
from setn_lab.compute.spread import in_order, session, spread
from setn_lab.compute.workers import HERE, WorkerError, Workers
from setn_lab.config import ConfigError
from setn_lab.space.genotype import GenotypeError

ALONE = Workers()
TWO = Workers(2)  # processes of this machine
CLUSTER = Workers(2, address="auto")  # in the session of Ray


def of_ray(*values):
    return pytest.param(*values, marks=pytest.mark.ray)


here_alone = pytest.mark.parametrize("workers", [TWO])
ray_alone = pytest.mark.parametrize("workers", [of_ray(CLUSTER)])
ray_too = pytest.mark.parametrize("workers", [TWO, of_ray(CLUSTER)])


def import_ray():
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import a test
    return ray


def note(path, text):
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def read(path):
    return path.read_text(encoding="utf-8").splitlines()


def same(shared):
    return shared


def noted_setup(folder):
    note(folder / "setups", os.getpid())
    return folder


def train(shared, task):
    """Some numbers that take sums of many terms; tasks finish in mixed order."""
    time.sleep((task * 7 % 5) * 0.02)
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(task))
    weight = shared["weight"].clone().requires_grad_()
    F.conv2d(images, weight, padding=1).square().mean().backward()
    return {"task": task, "gradient": weight.grad, "shared": shared}


def process(state, task):
    time.sleep(0.05)
    return os.getpid()


def after_all_others(folder, task):
    """Task 0 waits for the others: a worker alone would never come to the end of it."""
    if task == 0:
        limit = time.monotonic() + 60
        while len(list(folder.glob("done*"))) < 5 and time.monotonic() < limit:
            time.sleep(0.02)
    (folder / f"done{task}").touch()
    return os.getpid()


def kill_once(folder, task):
    note(folder / f"task{task}", os.getpid())
    if task == 2 and len(read(folder / "task2")) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task * task


def kill_always(folder, task):
    note(folder / f"task{task}", os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_setup(folder):
    note(folder / "setups", os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


def fail(state, task):
    raise ValueError(f"task {task}: no such candidate")


def refuse(shared):
    raise GenotypeError("no cell")


def surroundings(state, task):
    return torch.get_num_threads(), os.environ.get("CUDA_VISIBLE_DEVICES")


def wait_gone(process_ids):
    """Those of the processes that still run after at most twenty seconds."""
    limit = time.monotonic() + 20
    running = list(process_ids)
    while running and time.monotonic() < limit:
        time.sleep(0.05)
        running = [one for one in running if subprocess.run(["kill", "-0", one], capture_output=True).returncode == 0]
    return running


def children():
    """The processes that this one started, and those that were forked for it."""
    return set(psutil.Process().children(recursive=True))


@pytest.fixture(scope="module")
def ray_session():
    """A session that the user opened."""
    ray = import_ray()
    ray.init("local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture
def idle(ray_session):
    """The session, there and all of its processors free within seconds after the test."""
    yield ray_session
    assert ray_session.is_initialized()
    limit = time.monotonic() + 10
    while ray_session.available_resources().get("CPU") != 4:
        assert time.monotonic() < limit, "workers are left"
        time.sleep(0.05)


@pytest.fixture
def anew():
    """Workers of this machine start as they do for a user, each a new Python; in other tests they are forked."""


@pytest.fixture
def ready(workers, request):
    """The workers, with the session for those of Ray; all of them are gone after the test."""
    if workers.address:
        request.getfixturevalue("idle")
        yield workers
        return
    if "anew" not in request.fixturenames:
        request.getfixturevalue("forked")
    resource_tracker.ensure_running()  # of multiprocessing: it stays, and is no worker
    before = children()
    yield workers
    assert children() <= before, "workers are left"


# -- this process


def test_in_order_holds_back_what_finishes_early():
    asked = []

    def finish():
        for index in (2, 0, 3, 1):
            asked.append(index)
            yield index, f"result {index}"

    ordered = in_order(finish())
    assert next(ordered) == "result 0"
    assert asked == [2, 0]
    assert list(ordered) == ["result 1", "result 2", "result 3"]


def test_without_tasks_nothing_is_started(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(processes, "_Worker", None)
    for workers in (ALONE, TWO, Workers(4, address="nowhere")):
        assert list(spread(workers, noted_setup, tmp_path, process, [])) == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_threads_hold_in_this_process_only_while_a_task_runs(three_threads):
    results = spread(Workers(threads=2), lambda _: torch.get_num_threads(), None, lambda *seen: seen, [0, 1])
    for task in (0, 1):
        assert next(results) == (task, (2, task))  # in the setup
        assert torch.get_num_threads() == 3
    results = spread(Workers(threads=2), same, None, surroundings, [0, 1])
    assert next(results)[1][0] == 2  # in a task
    results.close()
    assert torch.get_num_threads() == 3
    assert next(spread(HERE, same, None, surroundings, [0]))[1][0] == 3
    with pytest.raises(ValueError, match="no such candidate"):
        list(spread(Workers(threads=2), same, None, fail, [0, 1]))
    assert torch.get_num_threads() == 3


# -- other processes, of this machine and of Ray


@pytest.mark.ray
def test_an_address_without_a_cluster_is_named():  # before any other has opened a session of Ray
    import_ray()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # does not listen
        for address in (f"127.0.0.1:{closed.getsockname()[1]}", "local", "127.0.0.1:many", "127.0.0.1:99999"):
            with pytest.raises(ConfigError, match=f"cluster: '{re.escape(address)}' given, but no Ray cluster"):
                next(spread(Workers(2, address=address), same, 0, process, [1]))


@ray_too
def test_results_are_the_same_for_any_number_of_workers(anew, ready, as_bits):
    torch.manual_seed(0)
    weight = torch.randn(8, 3, 3, 3)
    shared = {
        "weight": weight,
        "view": weight[1:, :, ::2].transpose(0, 1),
        "others": [weight.bfloat16(), weight > 0, torch.arange(3), torch.tensor(float("nan")), torch.empty(0, 2)],
    }
    tasks = [3, 0, 7, 2, 5]
    expected = list(spread(ALONE, same, shared, train, tasks))
    assert [index for index, _ in expected] == list(range(5))
    assert as_bits(expected[0][1]["shared"]) == as_bits(shared)
    results = list(in_order(spread(ready, same, shared, train, tasks)))
    assert as_bits(results) == as_bits([result for _, result in expected])


@here_alone
def test_each_worker_sets_up_once_and_a_slow_task_holds_up_no_other(ready, tmp_path):
    results = list(spread(ready, noted_setup, tmp_path, after_all_others, list(range(6))))
    order, workers = zip(*results, strict=True)
    assert sorted(order) == list(range(6))
    assert order[-1] == 0
    assert len(set(workers) - {os.getpid()}) == 2
    assert sorted(read(tmp_path / "setups")) == sorted(map(str, set(workers)))


@ray_too
def test_the_task_of_a_killed_worker_is_done_again(ready, tmp_path):
    results = list(spread(ready, noted_setup, tmp_path, kill_once, list(range(5))))
    assert sorted(results) == [(task, task * task) for task in range(5)]
    assert [len(read(tmp_path / f"task{task}")) for task in range(5)] == [1, 1, 2, 1, 1]
    assert len(read(tmp_path / "setups")) > 1


@ray_too
def test_a_task_that_kills_each_worker_is_named(ready, tmp_path):
    with pytest.raises(WorkerError, match=r"task 0: its worker died each of the 2 times.*memory"):
        list(spread(replace(ready, retries=1), same, tmp_path, kill_always, [0]))
    assert len(read(tmp_path / "task0")) == 2


@ray_alone
def test_a_setup_that_kills_each_worker_does_not_go_on_forever(ready, tmp_path):
    with pytest.raises(WorkerError, match="task 0: its worker died each of the 1 times"):
        list(spread(replace(ready, retries=0), kill_in_setup, tmp_path, process, [0]))
    assert len(read(tmp_path / "setups")) == 1


@pytest.mark.parametrize(
    ("workers", "setup", "error"),
    [(TWO, refuse, GenotypeError), of_ray(CLUSTER, refuse, GenotypeError), of_ray(CLUSTER, same, ValueError)],
)
def test_errors_arrive_as_they_were_raised(ready, setup, error):
    with pytest.raises(error) as expected:
        list(spread(ALONE, setup, None, fail, [0]))
    with pytest.raises(error) as caught:
        list(spread(ready, setup, None, fail, [0]))
    assert (caught.type, str(caught.value)) == (expected.type, str(expected.value))


@pytest.mark.parametrize(
    ("workers", "gpus", "seen"), [(TWO, 0.5, "0"), of_ray(CLUSTER, 0.5, "0"), of_ray(CLUSTER, 0.0, "")]
)
def test_workers_have_their_threads_and_see_no_gpu_that_is_not_theirs(ready, monkeypatch, gpus, seen):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert list(spread(replace(ready, threads=2, gpus=gpus), same, None, surroundings, [0])) == [(0, (2, seen))]


@here_alone
def test_closing_early_ends_all_that_was_started(ready):
    with closing(in_order(spread(ready, same, None, process, list(range(1000))))) as results:
        assert len({next(results) for _ in range(20)} - {os.getpid()}) in (1, 2)
        start = time.monotonic()
    assert time.monotonic() - start < 20, "1000 tasks take longer"


# -- this machine alone

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_workers as t

for _, worker in t.spread(t.TWO, t.same, None, t.process, range(1000)):
    print(worker, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_the_process_that_started_them():
    command = [sys.executable, "-c", KILLED, os.path.dirname(__file__)]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    killed = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stdout
    assert wait_gone(killed.stdout.split()) == []


def test_a_worker_that_does_not_start_is_named(monkeypatch):
    monkeypatch.setattr(processes, "_begin", os._exit)  # called with what it does not take
    with pytest.raises(WorkerError, match=r"did not start.*__main__"):
        next(spread(TWO, same, None, process, [1]))


@pytest.mark.parametrize(
    ("visible", "found", "gpus", "seen"),
    [
        (None, 0, 0.0, ["", "", ""]),
        (None, 2, 0.5, ["0", "0", "1", "1"]),
        (None, 2, 0.3, ["0", "0", "0", "1", "1", "1"]),
        ("5,7", 2, 1.0, ["5", "7"]),
        ("GPU-a,GPU-b", 2, 0.5, ["GPU-a", "GPU-a", "GPU-b", "GPU-b"]),
        (None, 5, 2.0, ["0,1", "2,3"]),
        ("", 0, 1.0, []),
    ],
)
def test_gpus_are_shared_out(monkeypatch, visible, found, gpus, seen):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for count in range(2, len(seen) + 1):
        assert processes._gpus(Workers(count, gpus=gpus)) == seen[:count]
    if gpus:
        with pytest.raises(ConfigError, match=f"there is room for {len(seen)};"):
            next(spread(Workers(len(seen) + 2, gpus=gpus), same, None, process, [0]))


def test_parts_of_several_gpus_are_refused():
    with pytest.raises(ConfigError, match=r"worker_gpus: 1\.5 given"):
        Workers(2, gpus=1.5)


# -- Ray alone


@pytest.mark.parametrize("workers", [replace(CLUSTER, count=1), CLUSTER])
def test_missing_ray_is_named_with_what_installs_it(monkeypatch, workers):
    monkeypatch.setitem(sys.modules, "ray", None)
    for use in (session(workers).__enter__, spread(workers, same, 0, process, [1]).__next__):
        with pytest.raises(ConfigError, match=r"cluster: 'auto' given.*Ray.*pip install 'setn_lab\[cluster\]'"):
            use()


@pytest.mark.ray
def test_a_worker_without_a_place_holds_up_no_task(idle):
    held = idle.remote(num_cpus=3)(type("Holder", (), {})).remote()
    idle.get(held.__ray_ready__.remote())
    results = list(spread(CLUSTER, same, None, process, list(range(4))))
    assert sorted(index for index, _ in results) == list(range(4))
    assert len({worker for _, worker in results}) == 1
    idle.kill(held)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("workers", "room"),
    [
        (replace(CLUSTER, count=5), 4),
        (replace(CLUSTER, threads=3), 1),
        (replace(CLUSTER, count=4, gpus=0.3), 3),
        (replace(CLUSTER, gpus=1.0), 1),
        (replace(CLUSTER, count=1, gpus=2.0), 0),
    ],
)
def test_workers_without_room_are_refused(idle, workers, room):
    with pytest.raises(ConfigError, match=f"workers: {workers.count} given, .* there is room for {room};"):
        list(spread(workers, same, None, process, [0]))
