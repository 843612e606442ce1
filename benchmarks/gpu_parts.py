"""The parts of benchmarks/gpu.py that need torch: the environment, the speed of every step, searches side by side.

    python benchmarks/gpu_parts.py PART IMAGES OUT SECONDS [--tiny]

Each writes what it has found as it comes, since it may be ended at any time.
"""

import argparse
import copy
import json
import statistics
import subprocess
import tarfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import field
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from setn_lab.compute.device import peak_memory, ready_device, synchronize
from setn_lab.data.images import load_images
from setn_lab.runs.environment import environment
from setn_lab.runs.files import replace_file
from setn_lab.runs.place import root_folder
from setn_lab.runs.run import Run
from setn_lab.search.config import SearchConfig
from setn_lab.search.scoring import evaluate
from setn_lab.search.setup import Search, prepare_search
from setn_lab.search.steps import Trainer
from setn_lab.search.training import train

PAPER = {"epochs": 400, "candidates": 1000, "interactive": False}
TINY = {"channels": 2, "repeats": 1, "nodes": 1, "batch_size": 8, "limit_train": 16, "limit_valid": 16}
PRECISIONS = "float32", "tf32", "bfloat16"
LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
SIDE_BY_SIDE = 1, 2, 4  # processes on one GPU
# of a training of minutes: rates that learn in few steps, and epochs of 100 steps, at whose ends the clock may cut
SHORT = {"weight_lr": 0.1, "path_dropout": 0.0, "evaluator_lr": 0.03, "limit_train": 6400}
SEARCHES: dict[str, dict[str, Any]] = {
    "setn by rloo": {"evaluator_gradient": "rloo"},
    "setn by Eq. 10": {},
    "setn-lr": {"strategy": "setn-lr", "evaluator_gradient": "rloo"},
    "setn-non": {"strategy": "setn-non"},
}
SCORED = 5000  # images of D_val
GROUP = 8  # candidates that are scored together


def write(path: Path, value: Any) -> None:
    replace_file(path, (json.dumps(value, indent=1) + "\n").encode())


# --- environment


def show_environment(images: Path, out: Path, seconds: float, tiny: bool) -> None:
    found: dict[str, Any] = dict(environment())
    found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {"memory_gib": card.total_memory / 2**30, "processors": card.multi_processor_count}
        command = ["nvidia-smi", "--query-gpu=name,driver_version,power.limit,clocks.max.sm", "--format=csv,noheader"]
        found["nvidia-smi"] = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    write(out / "environment.json", found)
    load_images(str(images))  # into the cache, for all parts that follow


# --- the speed of every step


def median_seconds(device: torch.device, step: Callable[[int], object], budget: float, most: int) -> float:
    """Of a step, after two to warm up; the device is waited for before and after each."""
    taken: list[float] = []
    number, began = 0, time.perf_counter()
    while number < 3 or (number < most and time.perf_counter() - began < budget):
        synchronize(device)
        started = time.perf_counter()
        step(number)
        synchronize(device)
        taken.append(time.perf_counter() - started)
        number += 1
    return statistics.median(taken[2:])


class Speed:
    """The speed table, row by row; a row that fails says why."""

    def __init__(self, images: Path, out: Path, seconds: float, tiny: bool) -> None:
        self.images, self.out, self.tiny = images, out, tiny
        self.until = time.monotonic() + seconds
        self.budget = min(4.0, seconds / 40)
        self.rows: list[dict[str, Any]] = []
        self.base: Search | None = None

    def measure(self) -> None:
        cuda = torch.cuda.is_available()
        for precision in PRECISIONS if cuda else ("float32", "bfloat16"):
            for layout in LAYOUTS:
                self.steps(precision, layout)
                if precision == "float32" and layout == "channels last":
                    self.field()
        self.steps("float32", "channels last", deterministic=False)
        self.depthwise()

    def steps(self, precision: str, layout: str, deterministic: bool = True) -> None:
        for gradient, names in (("mixture", ("weight", "mixed", "scoring")), ("rloo", ("rloo",))):
            search = self.search(precision=precision, evaluator_gradient=gradient, deterministic=deterministic)
            search.template.to(memory_format=LAYOUTS[layout])
            trainer = Laid(search, LAYOUTS[layout])
            drawn = list(search.evaluator.distributions().sample(np.random.default_rng(0), GROUP))
            steps: dict[str, Callable[[int], object]] = {
                "weight": trainer.weight_step,
                "mixed": trainer.evaluator_step,
                "rloo": trainer.evaluator_step,
                "scoring": lambda number, search=search, drawn=drawn: evaluate(search, drawn),
            }
            for name in names:
                if name == "scoring" and layout == "contiguous":
                    continue  # which makes its images channels last
                share = GROUP if name == "scoring" else 1  # a candidate on all of D_val
                what = name if deterministic else f"{name}, kernels in any order"
                self.row(what, precision, layout, search.device, steps[name], share)

    def search(self, **values: Any) -> Search:
        """A search with these values and new networks, on the images that were loaded once."""
        if self.base is None:
            self.base = prepare_search(SearchConfig(**settings(self.images, self.tiny)))
        config = replace(self.base.config, **values)
        ready_device(config.device, config.precision, config.deterministic)
        networks = {name: copy.deepcopy(getattr(self.base, name)) for name in ("template", "evaluator")}
        return replace(self.base, config=config, **networks)

    def field(self) -> None:
        """The search as the field's public code writes it, on the same device."""
        search = self.search()
        config, space, images = search.config, search.space, search.train
        size = space.operations, config.channels, config.repeats, config.nodes, len(images.classes)
        network = field.Network(*size).to(search.device)
        alphas = field.Alphas(len(space.operations), config.nodes).to(search.device)
        optimizer = torch.optim.SGD(network.parameters(), 0.025, 0.9, weight_decay=3e-4)
        trainer = Trainer(search)
        ready = trainer.batch(search.valid, "valid", 0)
        batch, labels = ready[0].contiguous(), ready[1]

        def mixed(number: int) -> None:
            network.zero_grad()
            alphas.zero_grad()
            F.cross_entropy(network(batch, alphas()), labels).backward()

        def weights(number: int) -> None:
            optimizer.zero_grad()
            F.cross_entropy(network.sampled(batch, trainer.architecture(number).tolist()), labels).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 10)
            optimizer.step()

        for name, step in (("field's weight", weights), ("field's mixed", mixed)):
            self.row(name, "float32", "contiguous", search.device, step)

    def depthwise(self) -> None:
        """A depthwise convolution by itself, forward and backward, in both layouts."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for kernel in (3, 5):
            for layout, memory_format in LAYOUTS.items():
                conv = torch.nn.Conv2d(64, 64, kernel, padding=kernel // 2, groups=64, bias=False).to(device)
                conv = conv.to(memory_format=memory_format)
                x = torch.randn(64, 64, 16, 16, device=device).to(memory_format=memory_format).requires_grad_()
                what = f"depthwise {kernel}x{kernel}, 64 channels, 16x16"
                step = lambda number, conv=conv, x=x: conv(x).sum().backward()  # noqa: E731
                self.row(what, "float32", layout, device, step)

    def row(
        self,
        name: str,
        precision: str,
        layout: str,
        device: torch.device,
        step: Callable[[int], object],
        share: int = 1,
    ) -> None:
        row: dict[str, Any] = {"name": name, "precision": precision, "layout": layout}
        try:
            if time.monotonic() > self.until:
                raise TimeoutError("no time is left")
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            row["seconds"] = median_seconds(device, step, self.budget, 3 if self.tiny else 30) / share
            row["peak_gib"] = (peak_memory(device) or 0) / 2**30
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"[:500]
        self.rows.append(row)
        write(self.out / "speed.json", self.rows)
        replace_file(self.out / "speed.md", self.page().encode())

    def page(self) -> str:
        """The table, and what it says of the paper's search."""
        lines = ["| what | precision | layout | seconds | peak GiB |", "|---|---|---|---|---|"]
        for row in self.rows:
            found = f"{row['seconds']:.5f} | {row['peak_gib']:.2f}" if "seconds" in row else f"{row['error']} |"
            lines.append(f"| {row['name']} | {row['precision']} | {row['layout']} | {found} |")
        times = {(row["name"], row["precision"], row["layout"]): row.get("seconds") for row in self.rows}
        for kind in ("weight", "mixed"):
            theirs, ours = (
                times.get((name, "float32", layout))
                for name, layout in ((f"field's {kind}", "contiguous"), (kind, "channels last"))
            )
            if theirs and ours:
                lines += ["", f"- The field's {kind} step takes {theirs / ours:.2f} times as long as ours."]
        for precision in PRECISIONS:
            weight, *others, candidate = (
                times.get((name, precision, "channels last")) for name in ("weight", "mixed", "rloo", "scoring")
            )
            for name, update in zip(("Eq. 10", "rloo"), others, strict=True):
                if weight and update and candidate:
                    training, scoring = 400 * 390 * (weight + update) / 3600, 1000 * candidate / 3600
                    text = f"400 epochs of 390 steps {training:.2f} h, 1,000 candidates {scoring:.2f} h"
                    lines += ["", f"- {precision}, evaluator by {name}: {text}."]
        return "\n".join(lines) + "\n"


class Laid(Trainer):
    """A trainer whose images have a memory format."""

    def __init__(self, search: Search, memory_format: torch.memory_format) -> None:
        super().__init__(search)
        self.memory_format = memory_format

    def batch(self, images: Any, stream: str, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels, labels = super().batch(images, stream, step)
        return pixels.contiguous(memory_format=self.memory_format), labels


def settings(images: Path, tiny: bool) -> dict[str, Any]:
    """The values of a search on these images, the paper's size unless it is tiny."""
    return {"dataset": str(images), **PAPER, **(TINY if tiny else {})}


# --- searches side by side


def forked() -> ForkServerContext:
    """Processes of a server that has imported torch and not touched the GPU: each would take seconds to import it."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["gpu_parts", "torch._dynamo"])
    return context


@cache
def trainer_here(images: Path, tiny: bool, gradient: str) -> Trainer:
    """The trainer of this process."""
    return Trainer(prepare_search(SearchConfig(**{**SHORT, **settings(images, tiny)}, evaluator_gradient=gradient)))


def steps_a_second(images: Path, tiny: bool, seconds: float, count: int) -> float:
    """Of weight step and evaluator step in turn, in this process among `count` that do the same."""
    trainer = trainer_here(images, tiny, "rloo")
    trainer.weight_step(0)
    trainer.evaluator_step(0)
    synchronize(trainer.search.device)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        trainer.weight_step(done)
        trainer.evaluator_step(done)
        done += 1
    synchronize(trainer.search.device)
    return done / (time.perf_counter() - began)


def rates(images: Path, tiny: bool, seconds: float, until: float, note: Callable[[dict[int, float]], None]) -> None:
    """Note the steps a second of all processes together, for each number of them, as long as there is time."""
    counts = SIDE_BY_SIDE[:2] if tiny else SIDE_BY_SIDE
    with ProcessPoolExecutor(max(counts), forked()) as pool:

        def together(count: int, seconds: float) -> float:
            started = [pool.submit(steps_a_second, images, tiny, seconds, count) for _ in range(count)]
            return sum(one.result() for one in started)

        together(max(counts), min(1.0, seconds))  # all start
        found: dict[int, float] = {}
        for count in counts:
            if not found or time.time() + 2 * seconds < until:
                found[count] = together(count, seconds)
                note(found)


class TimeIsOverError(Exception):
    """The clock ends a training at the end of an epoch."""


def search_for(
    images: Path, tiny: bool, name: str, epochs: int, trained_until: float, scored_until: float
) -> dict[str, Any]:
    """Train a search until the clock says so, then score uniform and the evaluator's candidates in turn.

    The clock is `time.time`, the same in all processes. Returns what there is to say of it, `error` where it failed.
    """
    found: dict[str, Any] = {"name": name}
    try:
        values = {**SHORT, **settings(images, tiny), **SEARCHES[name], "epochs": epochs}

        def observe(progress: Any) -> None:
            if progress.record is not None and time.time() > trained_until:
                raise TimeIsOverError

        with Run.open(SearchConfig(**values), "search") as run:
            search = prepare_search(run.config, run)
            found |= {"folder": run.folder.name, "epochs": f"all {epochs}"}
            try:
                train(search, run, observe)
            except TimeIsOverError:
                found["epochs"] = f"{len(run.read('metrics'))} of {epochs}"
            found["scores"] = compare_candidates(search, run, scored_until, GROUP if tiny else 1000)
            found["metrics"] = run.read("metrics")
    except Exception:
        found["error"] = traceback.format_exc()[-2000:]
    return found


def compare_candidates(search: Search, run: Run, until: float, most: int) -> dict[str, list[list[float]]]:
    """(loss, accuracy) of `most` uniform candidates and of the evaluator's, or as many as there is time for."""
    count = min(SCORED, len(search.valid))
    search = replace(search, valid=search.valid.take(torch.arange(count)))
    evaluator, rng = search.evaluator.distributions(), np.random.default_rng(0)
    scores: dict[str, list[list[float]]] = {"uniform": [], "evaluator": []}
    while not scores["evaluator"] or (time.time() < until and len(scores["evaluator"]) < most):
        drawn = {
            "uniform": search.space.sample(rng, GROUP, search.space.cell_types),
            "evaluator": evaluator.sample(rng, GROUP),
        }
        for source, architectures in drawn.items():
            for architecture, (loss, accuracy) in zip(
                architectures, evaluate(search, list(architectures)), strict=True
            ):
                genotype = search.space.write(search.space.genotype(search.space.canonical(architecture)))
                run.append(f"one-shot-{source}", {"genotype": genotype, "loss": loss, "accuracy": accuracy})
                scores[source].append([loss, accuracy])
    return scores


def search_side_by_side(images: Path, out: Path, seconds: float, tiny: bool) -> None:
    until = time.time() + seconds
    found: dict[str, Any] = {"scored_images": SCORED, "settings": SHORT, "searches": {}}

    def note(steps: dict[int, float]) -> None:
        found["steps_a_second"] = steps
        found["side_by_side"] = max(steps, key=lambda number: steps[number])
        write(out / "searches.json", found)

    rates(images, tiny, 1.0 if tiny else min(8.0, seconds / 15), time.time() + seconds / 3, note)
    count = found["side_by_side"]
    config = SearchConfig(**{**SHORT, **settings(images, tiny)})
    epoch = (config.limit_train or 0) // config.batch_size * count / found["steps_a_second"][count]
    waves = -(-len(SEARCHES) // count)
    each = (until - time.time()) * 0.9 / waves
    epochs = 2 if tiny else max(1, int(0.6 * each / epoch))  # as many as the clock lets end
    with ProcessPoolExecutor(count, forked()) as pool:
        left = list(SEARCHES)
        for _ in range(waves):
            now = time.time()
            clock = now + 0.7 * each, now + 0.95 * each
            started = {pool.submit(search_for, images, tiny, name, epochs, *clock) for name in left[:count]}
            left = left[count:]
            while started:
                done, started = wait(started, timeout=10)
                for one in done:
                    found["searches"][one.result()["name"]] = one.result()
                keep(found, out)


def keep(found: dict[str, Any], out: Path) -> None:
    """What there is so far: the numbers, a figure, the run folders without checkpoints."""
    for one in found["searches"].values():
        if "scores" in one:
            loss = {source: np.array(values)[:, 0] for source, values in one["scores"].items()}
            gain, spread = loss["uniform"].mean() - loss["evaluator"].mean(), loss["uniform"].std()
            one["gain"] = f"{gain:.4f} nats in mean loss, {gain / spread if spread else 0:.2f} sd of uniform ones"
    write(out / "searches.json", found)
    draw(found, out / "searches.png")
    runs = root_folder()
    temporary = out / ".runs.tmp"
    with tarfile.open(temporary, "w:gz") as archive:
        for path in sorted(runs.rglob("*")) if runs.exists() else []:
            if path.is_file() and "checkpoints" not in path.parts and path.name != "lock":
                archive.add(path, path.relative_to(runs))
    temporary.replace(out / "runs.tar.gz")


def draw(found: dict[str, Any], path: Path) -> None:
    figure = Figure((11, 4), layout="constrained")
    training, candidates = figure.subplots(1, 2)
    for place, (name, one) in enumerate(found["searches"].items()):
        lines = one.get("metrics", [])
        training.plot([line["epoch"] for line in lines], [line["weight_loss"] for line in lines], label=name)
        for source, values in one.get("scores", {}).items():
            style = {"color": f"C{place}", "histtype": "step", "linestyle": "-" if source == "evaluator" else ":"}
            candidates.hist(np.array(values)[:, 0], 30, label=f"{name}, {source}", **style)
    training.set(xlabel="epoch", ylabel="training loss [nats]")
    candidates.set(xlabel="one-shot loss [nats]", ylabel="candidates")
    if found["searches"]:
        training.legend(fontsize=7)
        candidates.legend(fontsize=6)
    figure.savefig(path, dpi=100)


PARTS = {
    "environment": show_environment,
    "speed": lambda *given: Speed(*given).measure(),
    "searches": search_side_by_side,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    PARTS[given.part](given.images, given.out, given.seconds, given.tiny)


if __name__ == "__main__":
    main()
