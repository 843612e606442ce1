import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from faults import disk_full_at

from setn_lab.runs.checkpoint import CheckpointError, load_latest, save


def make_state(step: int) -> dict:
    """A state of all that one may hold; another one at every step."""
    generator = torch.Generator().manual_seed(step)
    weights = torch.randn(40, 30, generator=generator)
    return {
        "weights": weights,
        "view": weights.t()[3:7],
        "odd": torch.tensor([float("nan"), -0.0, float("inf"), 1e-45]),
        "half": weights.to(torch.bfloat16),
        "bytes": torch.arange(256, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(7, dtype=torch.int64),
        "empty": torch.empty(0, 3),
        "nested": {"list": [1, 2.5, {"deep": (None, True, weights[0])}], 3: "three"},
        "step": step,
        "large": 2**70,
        "float": 0.1 + step,
        "tiny": 5e-324,
        "nan": float("nan"),
        "text": "a\n\U0001f600",
    }


def bits(value: object) -> object:
    """The value with every tensor and float replaced by its type and bits, to be compared with ==."""
    if isinstance(value, torch.Tensor):
        raw = value.contiguous().reshape(-1).view(torch.uint8) if value.numel() else value
        return ("tensor", value.dtype, tuple(value.shape), raw.numpy().tobytes())
    if isinstance(value, dict):
        return ("dict", [(key, bits(item)) for key, item in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value), [bits(item) for item in value])
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    return (type(value), value)


def assert_loads(folder, step):
    loaded = load_latest(folder)
    assert loaded is not None
    assert loaded[0] == step
    assert bits(loaded[1]) == bits(make_state(step))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(data: bytes, place: float) -> bytes:
    index = int(place * (len(data) - 1))
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


DAMAGES = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "last byte gone": lambda data: data[:-1],
    "a byte more": lambda data: data + b"\0",
    **{f"bit flipped at {place}": lambda data, place=place: flip(data, place) for place in (0, 0.2, 0.5, 0.9, 1)},
}


def test_a_state_comes_back_bit_by_bit(tmp_path):
    path = save(tmp_path / "new" / "folder", 12, make_state(12))
    assert_loads(tmp_path / "new" / "folder", 12)
    assert path.name == f"checkpoint-00012-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.pt"
    assert bits(torch.load(path, weights_only=True)) == bits(make_state(12))


def test_there_may_be_none(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "no folder") is None


def test_the_newest_two_are_kept_and_found_by_number(tmp_path):
    for step in (1, 99_999, 100_000, 100_001):
        save(tmp_path, step, make_state(step))
        assert_loads(tmp_path, step)
    assert sorted(int(name.split("-")[1]) for name in content(tmp_path)) == [100_000, 100_001]


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 1, make_state(1))
    save(tmp_path, 2, {"other": 1})
    path = save(tmp_path, 2, make_state(2))
    assert save(tmp_path, 2, make_state(2)) == path
    assert_loads(tmp_path, 2)
    assert len(content(tmp_path)) == 2


def test_a_save_after_falling_back_keeps_a_good_one_before_it(tmp_path):
    save(tmp_path, 10, make_state(10))
    save(tmp_path, 20, make_state(20)).write_bytes(b"")
    save(tmp_path, 11, make_state(11))
    save(tmp_path, 12, make_state(12)).write_bytes(b"")
    with pytest.warns(UserWarning, match="00012.*using checkpoint-00011"):
        assert_loads(tmp_path, 11)


def test_left_over_temporary_files_are_removed_by_the_next_save_only(tmp_path):
    save(tmp_path, 1, make_state(1))
    leftover = tmp_path / ".checkpoint-00002-0123456789abcdef.pt.tmp"
    leftover.write_bytes(b"half")
    foreign = tmp_path / "checkpoint-notes.pt"
    foreign.write_bytes(b"mine")
    assert_loads(tmp_path, 1)
    assert leftover.exists()
    save(tmp_path, 2, make_state(2))
    assert not leftover.exists()
    assert foreign.read_bytes() == b"mine"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_one_falls_back_and_says_so(tmp_path, damage):
    save(tmp_path, 1, make_state(1))
    path = save(tmp_path, 2, make_state(2))
    path.write_bytes(damage(path.read_bytes()))
    before = content(tmp_path)
    with pytest.warns(UserWarning, match=f"{path.name}: .*checkpoint-00001-") as caught:
        assert_loads(tmp_path, 1)
    assert len(caught) == 1
    assert content(tmp_path) == before


def test_a_damaged_older_one_is_not_looked_at(tmp_path):
    save(tmp_path, 1, make_state(1)).write_bytes(b"")
    save(tmp_path, 2, make_state(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_loads(tmp_path, 2)


def test_two_damaged_ones_refuse_and_nothing_changes(tmp_path):
    paths = [save(tmp_path, step, make_state(step)) for step in (1, 2)]
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    paths[1].write_bytes(b"")
    before = content(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load_latest(tmp_path)
    text = str(caught.value)
    assert f"{paths[0].name}: its content does not fit the checksum" in text
    assert f"{paths[1].name}: it is empty" in text
    assert "restore one from a copy, or delete these files" in text
    assert content(tmp_path) == before


class Payload:
    """What unpickling would run: it makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_planted_pickle_with_the_right_checksum_is_not_run(tmp_path, form):
    marker, folder = tmp_path / "marker", tmp_path / "checkpoints"
    buffer = io.BytesIO()
    if form == "pickle":
        pickle.dump({"x": Payload(marker)}, buffer)
    else:
        torch.save({"x": Payload(marker)}, buffer)
    planted = buffer.getvalue()
    torch.load(io.BytesIO(planted), weights_only=False) if form == "torch" else pickle.loads(planted)
    assert marker.exists(), "the payload must be live for this test to mean something"
    marker.rmdir()

    save(folder, 1, make_state(1))
    name = f"checkpoint-00002-{hashlib.sha256(planted).hexdigest()[:16]}.pt"
    (folder / name).write_bytes(planted)
    with pytest.warns(UserWarning, match=f"{name}: torch.load refuses it") as caught:
        assert_loads(folder, 1)
    assert "weights_only" not in str(caught[0].message)
    assert not marker.exists()


def test_a_file_that_holds_no_dict_is_bad(tmp_path):
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    name = f"checkpoint-00002-{hashlib.sha256(buffer.getvalue()).hexdigest()[:16]}.pt"
    (tmp_path / name).write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="no checkpoint is good"):
        load_latest(tmp_path)


@pytest.mark.parametrize("value", [np.float64(0.5), lambda: 0, Payload("x")], ids=["numpy", "function", "object"])
def test_a_state_that_could_not_be_loaded_is_refused_when_saved(tmp_path, value):
    save(tmp_path, 1, make_state(1))
    with pytest.raises(CheckpointError, match="after step 2"):
        save(tmp_path, 2, {"value": value})
    assert_loads(tmp_path, 1)
    assert not os.path.exists("x")


def test_a_negative_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match="step: -1 given"):
        save(tmp_path, -1, {})


@pytest.mark.parametrize("room", [0, 1, 5000])
def test_a_full_disk_is_told_and_the_checkpoint_before_stays(tmp_path, room):
    save(tmp_path, 1, make_state(1))
    before = content(tmp_path)
    with disk_full_at(room), pytest.raises(CheckpointError) as caught:
        save(tmp_path, 2, make_state(2))
    for part in ("checkpoint-00002-", "File too large", "untouched", "free space", str(tmp_path)):
        assert part in str(caught.value)
    assert content(tmp_path) == before
    assert_loads(tmp_path, 1)
    save(tmp_path, 2, make_state(2))
    assert_loads(tmp_path, 2)


# A process for each moment: it saves step 3 over steps 1 and 2 and kills itself at the n-th call that touches
# the disk, before it or after it, until one lives to the end. Forked, as importing torch is what takes long.
KILLER = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[2])
import test_checkpoint as t

def killing(call, after):
    def wrapped(*arguments, **options):
        global left
        left -= 1
        if left < 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **options)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

for after in (False, True):
    for moment in range(100):
        folder = pathlib.Path(sys.argv[1]) / f"{after}-{moment}"
        for step in (1, 2):
            t.save(folder, step, t.make_state(step))
        child = os.fork()
        if child == 0:
            left = moment
            for name in ("fsync", "replace", "unlink"):
                setattr(os, name, killing(getattr(os, name), after))
            t.save(folder, 3, t.make_state(3))
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
"""


def test_a_kill_at_any_moment_of_a_save_leaves_a_good_checkpoint(tmp_path):
    (tmp_path / "killer.py").write_text(KILLER, encoding="utf-8")
    folder = tmp_path / "folders"
    # One thread, as a process with more may not be forked.
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run(
        [sys.executable, tmp_path / "killer.py", folder, os.path.dirname(__file__)],
        check=True,
        env={**os.environ, **single},
    )
    found = {}
    for case in sorted(folder.iterdir()):
        loaded = load_latest(case)
        found[case.name] = loaded[0]
        assert bits(loaded[1]) == bits(make_state(loaded[0]))
        save(case, 4, make_state(4))
        assert_loads(case, 4)
        assert len(content(case)) == 2, "the next save clears what the kill left"
    # fsync of the file, replace, fsync of the folder, unlink of the oldest; then one that lived.
    expected = {"False": [2, 2, 3, 3, 3], "True": [2, 3, 3, 3, 3]}
    for after, steps in expected.items():
        assert [found[f"{after}-{moment}"] for moment in range(5)] == steps, json.dumps(found)
    assert len(found) == 10
