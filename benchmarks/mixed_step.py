"""The mixed step (Eq. 10, forward and backward to f, g, h) against the step as the field writes it.

The baseline is DARTS' mixed operation transcribed: 84 separate calls a cell (one per operation on each edge), the
contiguous layout, a multiplication by the mixing weight after each, and gradients for all weights. Both use the
same operations and sizes, and are timed in turn in one run; each one's peak memory is measured in a process of its
own, and that of a whole search step (weights, then evaluator). Writes reports/mixed-step.md.

    python benchmarks/mixed_step.py [--channels 16] [--repeats 2] [--batch 64] [--runs 5]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setn_lab import ops
from setn_lab.environment import environment
from setn_lab.evaluator import Evaluator
from setn_lab.space import SearchSpace
from setn_lab.template import REDUCE, Template, plan, preprocessing, stem

REPORT = Path(__file__).parent.parent / "reports" / "mixed-step.md"


class MixedOperation(nn.Module):
    def __init__(self, space: SearchSpace, channels: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(ops.build(name, channels, stride, affine=False) for name in space.operations)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(weight * operation(x) for weight, operation in zip(weights, self.operations, strict=True))


class BaselineCell(nn.Module):
    def __init__(self, space: SearchSpace, spot) -> None:
        super().__init__()
        self.space = space
        self.preprocess0, self.preprocess1 = preprocessing(spot, affine=False)
        self.mixed = nn.ModuleList(
            MixedOperation(space, spot.channels, 2 if spot.kind == REDUCE and state < 2 else 1)
            for _, state in space.edges
        )

    def forward(self, before: Tensor, previous: Tensor, weights: Tensor) -> Tensor:
        states = [self.preprocess0(before), self.preprocess1(previous)]
        edge = 0
        for node in range(self.space.nodes):
            inputs = range(edge, edge + 2 + node)
            states.append(sum(self.mixed[e](states[e - edge], weights[e]) for e in inputs))
            edge += 2 + node
        return torch.cat(states[2:], dim=1)


class Baseline(nn.Module):
    def __init__(self, space: SearchSpace, channels: int, repeats: int) -> None:
        super().__init__()
        self.plan = plan(space, channels, repeats)
        self.stem = stem(3, channels, affine=False)
        self.cells = nn.ModuleList(BaselineCell(space, spot) for spot in self.plan)
        self.classifier = nn.Linear(space.nodes * self.plan[-1].channels, 10)

    def forward(self, images: Tensor, weights: Tensor) -> Tensor:
        before = previous = self.stem(images)
        for spot, cell in zip(self.plan, self.cells, strict=True):
            before, previous = previous, cell(before, previous, weights[spot.kind])
        return self.classifier(previous.mean((2, 3)))


def steps(args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    space, rng = SearchSpace(), np.random.default_rng(0)
    evaluator = Evaluator(space)
    template = Template(space, args.channels, args.repeats, 3, 10, rng)
    torch.manual_seed(0)
    baseline = Baseline(space, args.channels, args.repeats)
    images, labels = torch.randn(args.batch, 3, 32, 32), torch.randint(10, (args.batch,))
    last = images.contiguous(memory_format=torch.channels_last)

    def backward(logits: Tensor, *modules: nn.Module) -> None:
        for module in (evaluator, *modules):
            module.zero_grad(set_to_none=True)
        F.cross_entropy(logits, labels).backward()

    def mixed() -> None:
        template.requires_grad_(False)
        backward(template.mixed(last, evaluator.mixing_weights()))

    def weights() -> None:
        template.requires_grad_(True)
        backward(template.sampled(last, space.sample(rng, len(template.plan))), template)

    def search() -> None:
        weights()
        template.zero_grad(set_to_none=True)
        mixed()

    return {
        "baseline": lambda: backward(baseline(images, evaluator.mixing_weights()), baseline),
        "mixed": mixed,
        "search": search,
    }


def peak(name: str) -> float:
    """Peak memory in GiB of one kind of step, above what the process held before, in a fresh process."""
    command = [sys.executable, *sys.argv, "--peak", name]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peak", choices=("baseline", "mixed", "search"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    if args.peak:
        all_steps = steps(args)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(2):
            all_steps[args.peak]()
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
        return
    # first, while this process is small: a child begins with the peak of its parent
    memory = {name: peak(name) for name in ("baseline", "mixed", "search")}
    all_steps = steps(args)
    seconds: dict[str, list[float]] = {"baseline": [], "mixed": []}
    for run in range(args.runs + 1):
        for name, taken in seconds.items():
            start = time.perf_counter()
            all_steps[name]()
            if run:  # the first of each warms up
                taken.append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(seconds["baseline"], seconds["mixed"], strict=True)]
    page = f"""# The mixed step

Made by `make benchmark`: Eq. 10, forward and backward to f, g and h, with C = {args.channels}, N = {
        args.repeats
    }, batch
{args.batch}, 32x32, 6 operations; {environment()["cpu"]}, {torch.get_num_threads()} threads, torch {torch.__version__};
both timed in turn, {args.runs} times each.

| step | median | peak memory |
|---|---|---|
| as the field writes it (84 calls a cell, contiguous, gradients for all weights) | {
        statistics.median(seconds["baseline"]):.2f} s | {memory["baseline"]:.2f} GiB |
| `Template.mixed` | {statistics.median(seconds["mixed"]):.2f} s | {memory["mixed"]:.2f} GiB |
| a search step (weights, then evaluator) | | {memory["search"]:.2f} GiB |

The mixed step is **{statistics.median(ratios):.2f} times** faster (pair by pair {min(ratios):.2f} to {
        max(ratios):.2f}) and
takes {memory["mixed"] / memory["baseline"]:.2f} of the memory.
"""
    REPORT.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
