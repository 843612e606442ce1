"""All speed figures in one run: ours against the search as the field writes it (field.py), and against the machine.

Baseline and ours each have a process of their own, so that neither's memory helps the other, and take turns, after one
round of both to warm up; short steps are taken several times a turn. The ratio is the median over the rounds. Prints
the table and writes reports/benchmarks.md and reports/benchmarks.json. The racing row needs a data set of 32x32 colour
images and makes its table on the first run (see racing.py).

    python benchmarks/speed.py [--dataset cifar10] [--rounds 5] [--rows mixed_step ...]
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import field
import numpy as np
import racing
import torch
import torch.nn.functional as F
from limits import Machine, needs

from setn_lab.compute.device import keep_freed_blocks, peak_memory
from setn_lab.compute.streams import generator
from setn_lab.data.batches import Normalization
from setn_lab.data.images import ImageSet
from setn_lab.kits import KITS
from setn_lab.runs.environment import environment
from setn_lab.search import candidates
from setn_lab.search.config import SearchConfig
from setn_lab.search.scoring import evaluate
from setn_lab.search.setup import Search
from setn_lab.search.steps import Trainer

REPORTS = Path(__file__).parent.parent / "reports"
SCORED = 256  # images of D_val in the scoring row


@dataclass(frozen=True)
class Row:
    """One line of the table; seconds are medians, and None where a row is not about time."""

    name: str
    what: str
    baseline_s: float | None
    ours_s: float | None
    ratio: float
    least: float
    most: float
    limit_fraction: float | None = None
    limit: str = ""


def search_of(space: str, images: int = 25_000) -> Search:
    """The paper's search (C = 16, N = 2, batch 64) on random images, which take the same time as real ones."""
    config = SearchConfig(space=space, device="cpu")
    rng = np.random.default_rng(0)
    half = ImageSet(
        torch.from_numpy(rng.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)),
        torch.from_numpy(rng.integers(0, 10, images)),
        tuple("0123456789"),
    )
    kit = KITS[space]
    operations = kit.space(config.nodes)
    return Search(
        config,
        torch.device("cpu"),
        kit,
        operations,
        kit.template_with(config.template_head, config.stem)(
            operations, config.channels, config.repeats, 3, 10, generator(0, "template weights")
        ),
        kit.evaluator(operations),
        half,
        half,
        Normalization.of(half),
        None,
    )


class Steps:
    """One step of each kind, ours and the field's, on the same images and sizes."""

    def __init__(self) -> None:
        self.search = search_of("small")
        self.trainer = Trainer(self.search)
        config, space, images = self.search.config, self.search.space, self.search.train
        mean, std = self.search.normalization.mean.tolist(), self.search.normalization.std.tolist()
        torch.manual_seed(0)
        self.network = field.Network(space.operations, config.channels, config.repeats)
        self.alphas = field.Alphas(len(space.operations))
        self.sgd = torch.optim.SGD(self.network.parameters(), 0.025, 0.9, weight_decay=3e-4)
        self.loader = field.training_batches(field.Images(images.images, images.labels, mean, std, True), 64)
        self.valid = field.Images(images.images[:SCORED], images.labels[:SCORED], mean, std, False)
        self.scored = replace(self.search, valid=images.take(torch.arange(SCORED)))
        self.images, self.labels = self.trainer.batch(self.search.valid, "valid", 0)
        self.contiguous = self.images.contiguous()
        self.step = 0
        self.iterations: dict[str, Trainer] = {}

    def field_mixed(self) -> None:
        self.network.zero_grad()
        self.alphas.zero_grad()
        F.cross_entropy(self.network(self.contiguous, self.alphas()), self.labels).backward()

    def mixed(self) -> None:
        self.search.evaluator.zero_grad()
        objective, _ = self.trainer.gradient(self.images, self.labels, 0)
        objective.backward()

    def field_weights(self) -> None:
        images, labels = next(self.loader)
        choices = self.trainer.architecture(self.next()).tolist()
        self.sgd.zero_grad()
        F.cross_entropy(self.network.sampled(images, choices), labels).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 10)
        self.sgd.step()

    def weights(self) -> None:
        self.trainer.weight_step(self.next())

    def field_score(self) -> None:
        for architecture in self.architectures():
            choices = self.search.template.per_cell(architecture).tolist()
            field.score(self.network, self.valid, choices, self.search.config.scoring_batch_size)

    def score(self) -> None:
        evaluate(self.scored, self.architectures())

    def field_batch(self) -> None:
        next(self.loader)

    def batch(self) -> None:
        self.trainer.batch(self.search.train, "train", self.next())

    def small(self) -> None:
        self.iteration("small")

    def large(self) -> None:
        self.iteration("large")

    def iteration(self, space: str) -> None:
        """A weight step and an evaluator step in the space of that name."""
        if space not in self.iterations:
            self.iterations[space] = Trainer(search_of(space))
        number = self.next()
        self.iterations[space].weight_step(number)
        self.iterations[space].evaluator_step(number)

    def next(self) -> int:
        """The same numbers, and so the same architectures, in the baseline's process and in ours."""
        self.step += 1
        return self.step

    def architectures(self) -> np.ndarray:
        return self.search.space.sample(np.random.default_rng(self.next()), candidates.TOGETHER, 2)


class Worker:
    """A process that takes single steps when told to."""

    def __init__(self, ours: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, ours), daemon=True)
        self.process.start()

    def seconds(self, step: str, times: int = 1) -> float:
        """The mean time of a step, taken so many times."""
        self.connection.send((step, times, None))
        return self.connection.recv()

    def needs(self, step: str, times: int, machine: Machine) -> dict[str, float]:
        """What `limits.needs` says of the step."""
        self.connection.send((step, times, machine))
        return self.connection.recv()

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()


def serve(connection: Any, ours: bool) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    if ours:
        keep_freed_blocks()  # as `prepare_search` does
    steps = Steps()
    while True:
        name, times, machine = connection.recv()
        step = getattr(steps, name)
        if machine is not None:
            connection.send(needs(step, machine, times))
            continue
        start = time.perf_counter()
        for _ in range(times):
            step()
        connection.send((time.perf_counter() - start) / times)


Turn = tuple[Worker, str]


def compare(
    name: str, what: str, baseline: Turn, ours: Turn, rounds: int, times: int = 1, machine: Machine | None = None
) -> Row:
    """Time both in turn, each step so many times a turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for (worker, step), taken in zip((baseline, ours), seconds, strict=True):
            elapsed = worker.seconds(step, times)
            if number:
                taken.append(elapsed)
    ratios = [a / b for a, b in zip(*seconds, strict=True)]
    theirs, mine = map(statistics.median, seconds)
    share, limit = None, ""
    if machine is not None:
        worker, step = ours
        shares = {bound: needed / mine for bound, needed in worker.needs(step, times, machine).items()}
        limit = max(shares, key=shares.__getitem__)
        share = shares[limit]
    return Row(name, what, theirs, mine, statistics.median(ratios), min(ratios), max(ratios), share, limit)


def peak(kind: str) -> float:
    """Peak memory in GiB of one kind of step above what its process held before; a process of its own measures it."""
    command = [sys.executable, __file__, "--peak", kind]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_peak(kind: str) -> None:
    if kind != "field_mixed":
        keep_freed_blocks()
    steps = Steps()
    before = used()
    for _ in range(2):
        for name in ("weights", "mixed") if kind == "search" else (kind,):
            getattr(steps, name)()
            steps.search.template.zero_grad()
    print((used() - before) / 2**30)


def used() -> int:
    """The most bytes that this process has held so far."""
    found = peak_memory(torch.device("cpu"))
    if found is None:
        sys.exit("this system does not say how much memory a process has held: measure on Linux or macOS")
    return found


def main() -> None:
    names = ("mixed_step", "weight_step", "scoring", "batches", "growth", "racing")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help="of the racing row's table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--rows", nargs="+", choices=names, default=names, help="less than all but racing writes no report"
    )
    parser.add_argument("--peak", choices=("field_mixed", "mixed", "search"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    if args.peak:
        measure_peak(args.peak)
        return
    started = time.perf_counter()
    table = racing.loss_table(args.dataset) if "racing" in args.rows else None
    memory = {kind: peak(kind) for kind in ("field_mixed", "mixed", "search")} if "mixed_step" in args.rows else {}
    machine, rows, race = Machine.measure(), [], None
    theirs, ours = Worker(ours=False), Worker(ours=True)
    pairs = {
        "mixed_step": ("Eq. 10, forward and backward to f, g, h", "field_mixed", "mixed", 1),
        "weight_step": ("Eq. 1, batch, forward, backward, update", "field_weights", "weights", 8),
        "scoring": (f"{candidates.TOGETHER} candidates on {SCORED:,} images", "field_score", "score", 1),
        "batches": ("64 images cropped, flipped, normalised", "field_batch", "batch", 240),
    }
    for name, (what, baseline, mine, times) in pairs.items():
        if name in args.rows:
            rows.append(compare(name, what, (theirs, baseline), (ours, mine), args.rounds, times, machine))
            print(line(rows[-1]), flush=True)
    if "growth" in args.rows:  # what 8 operations cost over 6: the "baseline" is the smaller space
        row = compare("growth", "a whole iteration, 8 operations over 6", (ours, "large"), (ours, "small"), args.rounds)
        rows.append(replace(row, baseline_s=row.ours_s, ours_s=row.baseline_s))
        print(line(rows[-1]), flush=True)
    for worker in (theirs, ours):
        worker.stop()
    if table is not None:
        race = racing.resample(*table, 200)
        rows.append(Row("racing", "image evaluations for the best of T = 1000", None, None, race.ratio, *race.range))
        print(line(rows[-1]), flush=True)
    if set(args.rows) | {"racing"} == set(names):
        page = report(rows, memory, machine, race, args, time.perf_counter() - started)
        (REPORTS / "benchmarks.md").write_text(page, encoding="utf-8")
        record = {"environment": environment(), "rounds": args.rounds, "memory_gib": memory, "machine": asdict(machine)}
        record["racing"] = None if race is None else asdict(race)
        content = json.dumps({**record, "rows": [asdict(row) for row in rows]}, indent=1)
        (REPORTS / "benchmarks.json").write_text(content + "\n", encoding="utf-8")
        print("\n" + page)


def line(row: Row) -> str:
    """A row as Markdown."""
    seconds = ["" if value is None else f"{value:.3g} s" for value in (row.baseline_s, row.ours_s)]
    limit = "" if row.limit_fraction is None else f"{row.limit_fraction:.0%} of {row.limit}"
    return (
        f"| `{row.name}` | {row.what} | {' | '.join(seconds)} | **{row.ratio:.2f}** "
        f"({row.least:.2f} to {row.most:.2f}) | {limit} |"
    )


def report(
    rows: list[Row], memory: dict[str, float], machine: Machine, race: racing.Outcome | None, args: Any, seconds: float
) -> str:
    times = {row.name: row.ours_s or 0.0 for row in rows}
    hours = 400 * 390 * (times["mixed_step"] + times["weight_step"]) / 3600
    scoring = 1000 / candidates.TOGETHER * 25_000 / SCORED * times["scoring"] / 3600
    lines = "\n".join(line(row) for row in rows)
    raced = "- `racing` was not measured in this run."
    if race is not None:
        raced = (
            f"- `racing`: a search on CIFAR-10 images halved to 16x16, C = {racing.SETTINGS['channels']}, N = "
            f"{racing.SETTINGS['repeats']}, {racing.SETTINGS['epochs']} epochs of {racing.SETTINGS['limit_train']:,} "
            f"images, seed 0. {race.text}"
        )
    return f"""# Speed

Made by `make benchmark` in {seconds / 60:.0f} minutes, with the racing table where it is not at hand: {
        environment()["cpu"]
    }, {torch.get_num_threads()} threads, torch
{torch.__version__}, {environment()["platform"]}. C = 16, N = 2, batch 64, 32x32, 6 operations, float32; baseline and
ours in turn, {args.rounds} rounds (of 8 steps of `weight_step`, 240 of `batches`). The ratio is the median over the
rounds, its range in parentheses. The baselines are `benchmarks/field.py`, the search as the field's public code writes
it; its DataLoader has no worker processes, torch's default. Ours keeps freed memory (`keep_freed_blocks`), as a search
on the CPU does; the baseline runs with the system's allocator as it is. Our weight step has path dropout, the baseline
none.

| name | what | baseline | ours | ratio | limit |
|---|---|---|---|---|---|
{lines}

- Peak memory of the mixed step: {memory["field_mixed"]:.2f} GiB as the field writes it, {memory["mixed"]:.2f} GiB ours
  ({memory["mixed"] / memory["field_mixed"]:.2f}); of a search step, weights then evaluator: {memory["search"]:.2f} GiB.
- `growth` is cost, not speed-up: 1.33 (the ratio of operation calls) plus 10%, 1.47, is the most it should be.
{raced}
- Limit: the time that a step's own work would take at the machine's peak, as a share of the time it took: its FLOPs
  at the measured {
        machine.products / 1e9:.0f} GFLOP/s of matrix products, or the bytes that its kernels read and write at
  the measured {
        machine.copies
        / 1e9:.0f} GB/s of copies. Data that stays in a cache moves faster than a copy, so this share can pass 100%.
- At these rates the paper's search would take {hours:.0f} hours for 400 epochs of 390 iterations, and
  {scoring:.0f} hours to score 1,000 candidates on 25,000 images, on this machine.
"""


if __name__ == "__main__":
    main()
