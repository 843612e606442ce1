"""How fast the inspectors are on a run of 400 epochs and 1,000 candidates, and whether their memory grows.

Besides, how fast 500 small runs and 20 such long ones are listed and their page opens, at first and again.

The numbers of the run are drawn, not trained. The baseline of a move of the slider draws its figure anew.
"""

import gc
import platform
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
from written_run import write_run

from setn_lab.inspection import pictures, runs
from setn_lab.inspection.reading import History, InspectConfig, array_names, read_history
from setn_lab.widgets import (
    CandidatesInspector,
    ComparisonInspector,
    EvaluatorInspector,
    RunsInspector,
    SamplingInspector,
)

EPOCHS, CANDIDATES, MOVES, RUNS = 400, 1000, 500, 500
INSPECTORS = EvaluatorInspector, CandidatesInspector, SamplingInspector, ComparisonInspector


def until(history: History, index: int) -> History:
    """The history up to one record."""
    end = index + 1
    arrays = {name: getattr(history.everything, name)[:end] for name in array_names(history.everything)}
    return History(history.kit, history.space, history.epochs[:end], replace(history.everything, **arrays))


def move(inspector: EvaluatorInspector | SamplingInspector, epoch: int) -> float:
    started = time.perf_counter()
    inspector.epochs.slider.value = epoch
    return time.perf_counter() - started


def resident() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


def time_listing(count: int, epochs: int, candidates: int) -> None:
    """Print how long the rows of so many finished searches take, and the page of all runs."""
    with tempfile.TemporaryDirectory() as parent:
        first = write_run(Path(parent) / "search-0", epochs, candidates)
        (first / "environment.json").write_text('{"kind": "search"}', encoding="utf-8")
        (first / "sizes.json").write_text('[{"parameters": 1}]', encoding="utf-8")
        for number in range(1, count):
            shutil.copytree(first, Path(parent) / f"search-{number}")
        what = f"{count} runs of {epochs} epochs and {candidates:,} candidates"
        for when in ("at first", "again"):
            started = time.perf_counter()
            found = runs.rows(Path(parent))
            runs.frame(found), runs.grouped(found)
            print(f"{what} are listed {when} in {time.perf_counter() - started:.2f} s")
        for folder in Path(parent).iterdir():
            (folder / "sizes.json").touch()  # all are read again
        started = time.perf_counter()
        page = RunsInspector(InspectConfig(run_dir=str(first)))
        print(f"  their page opens in {time.perf_counter() - started:.2f} s", end="")
        started = time.perf_counter()
        page.refresh()
        print(f", and is refreshed in {time.perf_counter() - started:.2f} s")


def main() -> None:
    time_listing(RUNS, 4, 12)
    time_listing(20, EPOCHS, CANDIDATES)
    with tempfile.TemporaryDirectory() as parent:
        folder = write_run(Path(parent) / "search-written", EPOCHS, CANDIDATES)
        config = InspectConfig(run_dir=str(folder))
        opened, total = {}, 0.0
        for kind in INSPECTORS:
            started = time.perf_counter()
            opened[kind] = kind(config)
            seconds = time.perf_counter() - started
            total += seconds
            print(f"{kind.__name__}: opens in {seconds:.2f} s")
        print(f"all four: {total:.2f} s")
        history = read_history(folder)
        anew = []
        for index in range(0, EPOCHS, 80):
            started = time.perf_counter()
            pictures.evaluator_picture(until(history, index), 0).png()
            anew.append(time.perf_counter() - started)
        for kind in (EvaluatorInspector, SamplingInspector):
            inspector = opened[kind]
            assert isinstance(inspector, EvaluatorInspector | SamplingInspector)
            for epoch in range(1, 50):
                move(inspector, epoch)
            before = resident()
            times = sorted(move(inspector, 1 + 7 * number % EPOCHS) for number in range(MOVES))
            grown = resident() - before
            print(
                f"{kind.__name__}: {MOVES} moves of the slider, {1000 * statistics.median(times):.0f} ms each "
                f"(95 of 100 below {1000 * times[int(0.95 * MOVES)]:.0f} ms), memory {grown:+.1f} MiB"
            )
            if kind is EvaluatorInspector:
                ratio = statistics.median(anew) / statistics.median(times)
                print(f"  drawing its picture anew: {1000 * statistics.median(anew):.0f} ms, {ratio:.0f} times as long")
        print(f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores")


if __name__ == "__main__":
    main()
