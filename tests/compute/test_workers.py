"""Tasks over worker processes: the same results for any number of them, through their deaths and errors."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from setn_lab.compute.workers import HERE, WorkerError, Workers, in_order, spread
from setn_lab.config import ConfigError
from setn_lab.space.genotype import GenotypeError

pytestmark = pytest.mark.ray

ALONE = Workers()
ONE = Workers(1, address="auto")  # in the session: one worker, with Ray


def import_ray():
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import a test
    return ray


def note(path, text):
    with path.open("a") as file:
        file.write(f"{text}\n")


def read(path):
    return path.read_text().splitlines()


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
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def kill_in_setup(folder):
    note(folder / "setups", os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


def fail(state, task):
    if task == 1:
        raise ValueError("task 1: no such candidate")
    return task


def refuse(shared):
    raise GenotypeError("no cell")


def threads_of(state, task):
    return torch.get_num_threads(), os.environ.get("CUDA_VISIBLE_DEVICES")


def wait_gone(process_ids):
    """Those of the processes that still run after at most ten seconds."""
    limit = time.monotonic() + 10
    running = list(process_ids)
    while running and time.monotonic() < limit:
        time.sleep(0.05)
        running = [one for one in running if subprocess.run(["kill", "-0", one], capture_output=True).returncode == 0]
    return running


def children():
    found = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True)
    return set(found.stdout.split())


# The tests before the fixture `session` is first used open sessions of their own, or none.


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
    assert list(spread(Workers(4, address="nowhere"), noted_setup, tmp_path, process, [])) == []
    assert list(spread(ALONE, noted_setup, tmp_path, process, [])) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [Workers(4), Workers(1, address="auto")])
def test_missing_ray_is_named_with_what_installs_it(monkeypatch, workers):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=rf"workers: {workers.count} given.*Ray.*pip install 'setn_lab\[cluster\]'"):
        next(spread(workers, same, 0, process, [1]))


def test_an_address_without_a_cluster_is_named():
    ray = import_ray()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # does not listen
        for address in (f"127.0.0.1:{closed.getsockname()[1]}", "local", "127.0.0.1:many", "127.0.0.1:99999"):
            with pytest.raises(ConfigError, match=f"cluster: '{re.escape(address)}' given, but no Ray cluster"):
                next(spread(Workers(2, address=address), same, 0, process, [1]))
    assert not ray.is_initialized()


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
    results = spread(Workers(threads=2), same, None, threads_of, [0, 1])
    assert next(results)[1][0] == 2  # in a task
    results.close()
    assert torch.get_num_threads() == 3
    assert next(spread(HERE, same, None, threads_of, [0]))[1][0] == 3
    with pytest.raises(ValueError, match="no such candidate"):
        list(spread(Workers(threads=2), same, None, fail, [0, 1]))
    assert torch.get_num_threads() == 3


def test_closing_early_ends_all_that_was_started():
    ray = import_ray()
    before = children()
    results = in_order(spread(Workers(2), same, None, process, list(range(1000))))
    processes = {str(next(results)) for _ in range(20)} | (children() - before)
    assert len(processes) > 3, "workers, and Ray's own"
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 10, "1000 tasks take longer"
    assert not ray.is_initialized()
    assert wait_gone(processes) == []


@pytest.fixture(scope="module")
def session():
    """A session that the user opened; it is still there after each test."""
    ray = import_ray()
    ray.init("local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture
def idle(session):
    """The session, all of its processors free within seconds after the test."""
    yield session
    assert session.is_initialized()
    limit = time.monotonic() + 10
    while session.available_resources().get("CPU") != 4:
        assert time.monotonic() < limit, "workers are left"
        time.sleep(0.05)


def test_results_are_the_same_for_any_number_of_workers(idle, as_bits):
    torch.manual_seed(0)
    weight = torch.randn(8, 3, 3, 3)
    shared = {
        "weight": weight,
        "view": weight[1:, :, ::2].transpose(0, 1),
        "others": [weight.bfloat16(), weight > 0, torch.arange(3), torch.tensor(float("nan")), torch.empty(0, 2)],
    }
    expected = list(spread(ALONE, same, shared, train, list(range(8))))
    assert [index for index, _ in expected] == [result["task"] for _, result in expected] == list(range(8))
    assert as_bits(expected[0][1]["shared"]) == as_bits(shared)
    results = list(spread(Workers(2), same, shared, train, list(range(8))))
    assert as_bits(sorted(results, key=lambda result: result[0])) == as_bits(expected)
    ordered = list(in_order(spread(Workers(3), same, shared, train, list(range(7, -1, -1)))))
    assert as_bits(ordered) == as_bits([result for _, result in reversed(expected)])


def test_each_worker_sets_up_once_and_a_slow_task_holds_up_no_other(idle, tmp_path):
    results = list(spread(Workers(2), noted_setup, tmp_path, after_all_others, list(range(6))))
    order, workers = zip(*results, strict=True)
    assert sorted(order) == list(range(6))
    assert order[-1] == 0
    assert len(set(workers) - {os.getpid()}) == 2
    assert sorted(read(tmp_path / "setups")) == sorted(map(str, set(workers)))


def test_a_worker_without_a_place_holds_up_no_task(idle):
    held = idle.remote(num_cpus=3)(type("Holder", (), {})).remote()
    idle.get(held.__ray_ready__.remote())
    results = list(spread(Workers(2), same, None, process, list(range(4))))
    assert sorted(index for index, _ in results) == list(range(4))
    assert len({worker for _, worker in results}) == 1
    idle.kill(held)


def test_the_task_of_a_killed_worker_is_done_again(idle, tmp_path):
    results = list(spread(Workers(2), same, tmp_path, kill_once, list(range(6))))
    assert sorted(results) == [(task, task * task) for task in range(6)]
    assert [len(read(tmp_path / f"task{task}")) for task in range(6)] == [1, 1, 2, 1, 1, 1]


def test_a_task_that_kills_each_worker_is_named(idle, tmp_path):
    with pytest.raises(WorkerError, match=r"task 1: its worker died each of the 2 times.*memory"):
        list(spread(replace(ONE, retries=1), same, tmp_path, kill_always, list(range(3))))
    assert len(read(tmp_path / "task1")) == 2


def test_a_setup_that_kills_each_worker_does_not_go_on_forever(idle, tmp_path):
    with pytest.raises(WorkerError, match="task 0: its worker died each of the 1 times"):
        list(spread(replace(ONE, retries=0), kill_in_setup, tmp_path, process, [0]))
    assert len(read(tmp_path / "setups")) == 1


def raised(workers, setup):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        list(spread(workers, setup, None, fail, list(range(4))))
    return caught.type, str(caught.value)


def test_errors_arrive_as_they_were_raised(idle):
    for workers in (ALONE, ONE):
        assert raised(workers, same) == (ValueError, "task 1: no such candidate")
        assert raised(workers, refuse) == (GenotypeError, "no cell")


def test_workers_have_their_threads_and_see_no_gpu_that_is_not_theirs(idle):
    assert list(spread(replace(ONE, threads=2), same, None, threads_of, [0])) == [(0, (2, ""))]
    assert list(spread(replace(ONE, gpus=0.5), same, None, threads_of, [0])) == [(0, (1, "0"))]


@pytest.mark.parametrize(
    ("workers", "room"),
    [
        (Workers(5), 4),
        (Workers(2, threads=3), 1),
        (Workers(4, gpus=0.3), 3),
        (Workers(2, gpus=1.0), 1),
        (replace(ONE, gpus=2.0), 0),
    ],
)
def test_workers_without_room_are_refused(idle, workers, room):
    with pytest.raises(ConfigError, match=f"workers: {workers.count} given, .* there is room for {room};"):
        list(spread(workers, same, None, process, [0]))
