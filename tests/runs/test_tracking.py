"""Curves in TensorBoard and MLflow: they are what the journal says, once each, and never stop a run."""

import json
import sys
from types import SimpleNamespace

import pytest
from references import StopError

from setn_lab.config import ConfigError, identity
from setn_lab.extras import MissingExtraError
from setn_lab.retrain.config import RetrainConfig
from setn_lab.runs import tracking
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import Progress
from setn_lab.runs.run import Run
from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.search.training import train

RECORD = {"epoch": 1, "loss": 2.5, "error": 0.5, "skipped": [], "of": "x", "weight_loss": None, "last": True}


def fake_run(folder, records):
    """As much of a run as a tracker sees."""
    return SimpleNamespace(
        folder=folder,
        config=SimpleNamespace(epochs=3),
        read=lambda journal: list(records),
        write=lambda name, text: (folder / name).write_text(text, encoding="utf-8"),
    )


class Points:
    """A writer that keeps what it is given, or fails."""

    def __init__(self, run=None, written=()):
        self.points, self.written, self.down, self.closed = [], {}, False, False

    def write(self, step, scalars):
        if self.down:
            raise ConnectionError("nobody there\nand more")
        self.points += [(name, step, value) for name, value in scalars.items()]

    def close(self):
        self.closed = True


def in_tensorboard(folder):
    """{curve: [(step, value)]}, every point that was ever written."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=False)
    events.Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def in_mlflow(folder):
    """The same."""
    import mlflow

    client = mlflow.MlflowClient()
    run_id = json.loads((folder / tracking.MLFLOW).read_text(encoding="utf-8"))["run_id"]
    found = client.get_run(run_id)
    assert found.data.params["channels"] == "2"
    assert len(client.search_runs([found.info.experiment_id])) == 1, "a resumed run is the same one there"
    return {
        name: sorted((one.step, one.value) for one in client.get_metric_history(run_id, name))
        for name in found.data.metrics
    }


READERS = {"tensorboard": in_tensorboard, "mlflow": in_mlflow}


@pytest.mark.parametrize("tracker", READERS)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning:mlflow.*")
def test_the_curves_of_a_resumed_search_are_its_journal(tracker, tiny_config, tmp_path, monkeypatch):
    if pytest.importorskip(tracker).__name__ == "mlflow":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "server").as_uri())
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    config = tiny_config(tmp_path / "run", tracker=tracker, epochs=3, channels=2, nodes=1)
    for stop in (1, 2, None):

        def observe(progress, stop=stop):
            if progress.record is not None and progress.record["epoch"] == stop:
                raise StopError  # before the tracker has heard of this epoch

        with Run.open(config, "search") as run:
            search = prepare_search(config, run)
            try:
                train(search, run, observe)
            except StopError:
                assert stop is not None
    lines = read_journal(tmp_path / "run" / "metrics.jsonl")
    assert len(lines) == 3
    found = READERS[tracker](tmp_path / "run")
    assert "weight_loss" in found
    assert "of" not in found
    for name, points in found.items():
        assert points == [(line["epoch"], pytest.approx(line[name])) for line in lines if line[name] is not None]
    with Run.open(config, "search") as run:  # all done before
        train(prepare_search(config, run), run)
    assert READERS[tracker](tmp_path / "run") == found


def test_an_epoch_that_is_done_again_is_no_second_point(tmp_path):
    records, writer = [], Points()
    curves = tracking.Curves(fake_run(tmp_path, records), lambda run: writer, "it")
    records += [{**RECORD, "seed": 0}, {**RECORD, "seed": 1}, {**RECORD, "epoch": 2, "seed": 1}]
    curves.note(Progress("train", 1, 9))
    curves.note(Progress("train", 2, 9))
    del records[-1]  # the checkpoint was not written: cut, and done again
    records.append({**RECORD, "epoch": 2, "seed": 1})
    curves.note(Progress("train", 3, 9, records[-1]))
    points = [(f"seed-{seed}/{name}", epoch) for seed, epoch in ((0, 1), (1, 1), (1, 2)) for name in ("loss", "error")]
    assert [point[:2] for point in writer.points] == points
    curves.close()
    assert writer.closed


def test_a_server_that_is_down_is_said_once_and_what_it_missed_follows(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE", 0.0)
    records, writer = [RECORD], Points()
    curves = tracking.Curves(fake_run(tmp_path, records), lambda run: writer, "mlflow")
    writer.down = True
    records.append({**RECORD, "epoch": 2})
    with pytest.warns(UserWarning, match=r"mlflow cannot be written to \(ConnectionError: nobody there\)"):
        curves.note(Progress("train", 2, 9, records[-1]))
    records.append({**RECORD, "epoch": 3})
    curves.note(Progress("train", 3, 9, records[-1]))  # a second warning would be an error here
    assert not writer.points
    writer.down = False
    records.append({**RECORD, "epoch": 4})
    curves.note(Progress("train", 4, 9, records[-1]))
    assert [step for name, step, _ in writer.points if name == "loss"] == [1, 2, 3, 4]


def test_a_server_that_is_down_is_not_asked_at_each_epoch(tmp_path):
    tries = []

    def new_writer(run):
        tries.append(run)
        raise ConnectionError

    curves = tracking.Curves(fake_run(tmp_path, []), new_writer, "mlflow")
    with pytest.warns(UserWarning, match="cannot be written to"):
        curves.note(Progress("train", 0, 9, RECORD))
    for epoch in range(1, 5):
        curves.note(Progress("train", epoch, 9, RECORD))
    assert len(tries) == 1
    curves.close()


def test_a_search_goes_on_without_its_server(tiny_config, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = tiny_config(tmp_path / "run", tracker="mlflow", nodes=1)
    with Run.open(config, "search") as run, pytest.warns(UserWarning, match="mlflow cannot be written to"):
        train(prepare_search(config, run), run)
    assert len(read_journal(tmp_path / "run" / "metrics.jsonl")) == config.epochs


@pytest.mark.parametrize("tracker", READERS)
def test_missing_packages_are_told_before_anything_is_trained(tracker, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, tracker, None)
    config = tiny_config(tmp_path / "run", tracker=tracker)
    with pytest.raises(MissingExtraError, match=rf"pip install 'setn_lab\[{tracker}\]'"):
        prepare_search(config)


@pytest.mark.parametrize("cls", [SearchConfig, RetrainConfig])
def test_a_tracker_is_no_part_of_the_identity(cls):
    assert identity(cls(tracker="mlflow")) == identity(cls())
    with pytest.raises(ConfigError, match=r"tracker: 'wandb' .* 'tensorboard', 'mlflow' or None is allowed"):
        cls(tracker="wandb")
