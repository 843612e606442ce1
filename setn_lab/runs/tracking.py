"""Curves of a run in TensorBoard or MLflow, beside the journals, which stay the record.

A tracker is an observer. It writes what the journal holds and it has not written yet, an epoch as a step: so a resumed
run goes on with its curves, and what was missed while a server was down follows later.
"""

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from setn_lab.extras import needs
from setn_lab.runs.progress import Observer, Progress
from setn_lab.runs.run import Run

Tracker = Literal["tensorboard", "mlflow"]
PATIENCE = 60.0  # seconds from one try to the next while a server is down
MLFLOW = "mlflow.json"  # of a run folder: which run of MLflow has its curves
Scalars = dict[str, float]


class Writer(Protocol):
    """Where curves go. `written`: the steps of each curve that are there already."""

    written: dict[str, set[int]]

    def write(self, step: int, scalars: Scalars) -> None:
        """Add a point to each curve. Any exception means that nothing is known to have been written."""

    def close(self) -> None:
        """Nothing more comes."""


def require(tracker: Tracker | None) -> None:
    """Fail before anything is trained. Raises MissingExtraError where the tracker's packages are not installed."""
    if tracker == "tensorboard":
        with needs("tensorboard", "tracker = tensorboard"):
            import tensorboard  # noqa: F401, which torch.utils.tensorboard needs
    elif tracker == "mlflow":
        with needs("mlflow", "tracker = mlflow"):
            import mlflow  # noqa: F401


@contextmanager
def tracked(tracker: Tracker | None, run: Run | None, observe: Observer) -> Iterator[Observer]:
    """The observer, which also writes the journal `metrics` of the run to the tracker where there is one.

    run: None in processes that only help to train. A tracker that fails does not stop the run: a warning says so once.
    Raises MissingExtraError.
    """
    require(tracker)
    if tracker is None or run is None:
        yield observe
        return
    curves = Curves(run, WRITERS[tracker], str(tracker))

    def both(progress: Progress) -> None:
        observe(progress)
        curves.note(progress)

    try:
        yield both
    finally:
        curves.close()


class Curves:
    """What a run's journal says, as curves: see `tracked`."""

    def __init__(self, run: Run, new_writer: Callable[[Run], Writer], name: str) -> None:
        """Write nothing yet: the journal may hold an epoch that is about to be cut."""
        self._run, self._new_writer, self._name = run, new_writer, name
        self._writer: Writer | None = None
        self._fresh, self._warned = True, False
        self._tried = -PATIENCE

    def note(self, progress: Progress) -> None:
        """Write what is new, at the first progress and with each record."""
        if progress.record is None and not self._fresh:
            return
        self._fresh = False
        if not self._warned or time.monotonic() - self._tried >= PATIENCE:
            self._try()

    def close(self) -> None:
        """End the writer."""
        if self._writer is not None:
            with suppress(Exception):
                self._writer.close()

    def _try(self) -> None:
        self._tried = time.monotonic()
        try:
            if self._writer is None:
                self._writer = self._new_writer(self._run)
            for record in self._run.read("metrics"):
                step, scalars = _point(record)
                new = {name: value for name, value in scalars.items() if step not in self._written(name)}
                if new:
                    self._writer.write(step, new)
                    for name in new:
                        self._written(name).add(step)
        except Exception as error:  # whatever a server or a library of another party comes to
            if not self._warned:
                self._warned = True
                text = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
                warnings.warn(
                    f"tracker: {self._name} cannot be written to ({text}). The run goes on and its journals are whole; "
                    f"what is missing follows as soon as {self._name} answers",
                    stacklevel=2,
                )

    def _written(self, name: str) -> set[int]:
        assert self._writer is not None
        return self._writer.written.setdefault(name, set())


def _point(record: dict[str, Any]) -> tuple[int, Scalars]:
    """The step and the values of a journal's line; several seeds of a training have curves of their own."""
    place = f"seed-{record['seed']}/" if "seed" in record else ""
    scalars = {
        f"{place}{name}": float(value)
        for name, value in record.items()
        if name not in ("seed", "epoch") and isinstance(value, int | float) and not isinstance(value, bool)
    }
    return int(record["epoch"]), scalars


class TensorBoard:
    """Event files in the run folder's `tensorboard`, made anew from the journal at each start."""

    def __init__(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.written: dict[str, set[int]] = {}
        folder = run.folder / "tensorboard"
        for path in folder.glob("events.out.tfevents.*"):
            path.unlink()
        # a page that is open forgets the points that it has read
        self._writer = SummaryWriter(str(folder), purge_step=0)

    def write(self, step: int, scalars: Scalars) -> None:
        """Add the points; they are on the disk when this returns."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class MLflow:
    """A run of MLflow's server, $MLFLOW_TRACKING_URI, in the experiment $MLFLOW_EXPERIMENT_NAME or setn_lab.

    Which one it is stands in the run folder, so that a resumed run finds it.
    """

    def __init__(self, run: Run) -> None:
        # by default MLflow tries for minutes, in which nothing would be trained
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        import mlflow

        self._client = mlflow.MlflowClient()
        where = mlflow.get_tracking_uri()
        stored = _stored(run.folder / MLFLOW)
        if stored is None or stored["tracking_uri"] != where:
            stored = {"tracking_uri": where, "run_id": self._new_run(run)}
            run.write(MLFLOW, json.dumps(stored) + "\n")
        self._id = stored["run_id"]
        names = self._client.get_run(self._id).data.metrics
        self.written = {
            name: {point.step for point in self._client.get_metric_history(self._id, name)} for name in names
        }

    def _new_run(self, run: Run) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "setn_lab")
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        made = self._client.create_run(experiment, run_name=run.folder.name)
        for parameter, value in vars(run.config).items():
            self._client.log_param(made.info.run_id, parameter, value)
        return str(made.info.run_id)

    def write(self, step: int, scalars: Scalars) -> None:
        """Send the points at once."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in scalars.items()])

    def close(self) -> None:
        """Say that the run has ended for now."""
        self._client.set_terminated(self._id)


WRITERS: dict[str, Callable[[Run], Writer]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def _stored(path: Path) -> dict[str, str] | None:
    """What the run folder says of MLflow; None where it says nothing that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(stored[name]) for name in ("tracking_uri", "run_id")}
    return None
