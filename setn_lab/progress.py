"""Progress in a notebook: one display updated in place, and a line an epoch."""

import time
from typing import Any

from IPython.display import display

from setn_lab.retraining import Retraining
from setn_lab.search import Estimate, Progress, Search

UNITS = {"train": "steps", "score": "candidates", "networks": "networks"}
INTERVAL = 1.0  # seconds between two updates: a headless notebook stores each of them


class Live:
    """An observer that shows the rate and the time left, and prints one line an epoch."""

    def __init__(self) -> None:
        """Open the display."""
        self._text = "starting"
        self._last = ""  # the newest losses and accuracies
        self._display = display(self, display_id=True)
        self._began: tuple[float, int] | None = None
        self._shown = -INTERVAL

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": self._text, "text/markdown": self._text}

    def __call__(self, progress: Progress) -> None:
        """Take note of how far the phase is."""
        now = time.perf_counter()
        record = progress.record
        if record is not None and "epoch" in record:
            self._last = epoch_line(record)
            print(self._last)
        elif record is not None:
            self._last = f"last: loss {record['loss']:.3f}, accuracy {record['accuracy']:.1%}"
        if self._began is None:
            self._began = now, progress.done
        finished = progress.done == progress.total
        if now - self._shown < INTERVAL and not finished:
            return
        self._shown = now
        began, before = self._began
        rate = (progress.done - before) / (now - began) if now > began else 0.0
        unit = UNITS[progress.phase]
        self._text = f"{progress.done} of {progress.total} {unit}"
        if rate > 0:
            self._text += f", {rate:.2f} a second, {duration((progress.total - progress.done) / rate)} left"
        self._text += f"; {self._last}" if self._last else ""
        if self._display is not None:
            self._display.update(self)


def epoch_line(record: dict[str, Any]) -> str:
    """The losses and accuracies of one epoch, of a search or of a training, as one line."""
    if "test_error" in record:
        line = f"seed {record['seed']}, epoch {record['epoch']}: loss {record['loss']:.3f}, error {record['error']:.1%}"
        line += f", test loss {record['test_loss']:.3f}, test error {record['test_error']:.2%}"
        return f"{line}, {record['seconds']:.0f} s"
    line = f"epoch {record['epoch']}: weights {record['weight_loss']:.3f} {record['weight_accuracy']:.1%}"
    if record["evaluator_loss"] is not None:
        line += f", evaluator {record['evaluator_loss']:.3f} {record['evaluator_accuracy']:.1%}"
    return f"{line}, entropy {record['entropy']:.2f} nats, {record['seconds']:.0f} s"


def duration(seconds: float) -> str:
    """A number of seconds as a reader takes it in: "42 s", "3 min 5 s", "2 h 7 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def describe_search(search: Search) -> str:
    """The split, the space and the template as Markdown."""
    config, train, valid = search.config, search.train, search.valid
    template = sum(parameter.numel() for parameter in search.template.parameters())
    return "\n".join(
        [
            "| | |",
            "|---|---|",
            f"| images | {train.image_size} x {train.image_size}, {train.channels} channels, "
            f"{len(train.classes)} classes |",
            f"| D_train | {len(train):,} images, {search.steps} steps of {config.batch_size} an epoch |",
            f"| D_val | {len(valid):,} images |",
            f"| search space | {len(search.space.operations)} operations, {search.space.nodes} nodes, "
            f"{search.space.count_architectures():.3g} distinct architectures |",
            f"| template | C = {config.channels}, N = {config.repeats}, {len(search.template.cells)} cells, "
            f"{template:,} parameters |",
            f"| strategy | {config.strategy}, candidates from {config.candidate_source} |",
            f"| device | {search.device} |",
        ]
    )


def describe_retraining(job: Retraining) -> str:
    """The genotype, the network and the images as Markdown."""
    config, source, size = job.config, job.source, job.cost
    seeds = ", ".join(map(str, range(config.seed, config.seed + config.seeds)))
    return "\n".join(
        [
            "| | |",
            "|---|---|",
            f"| genotype | {job.name}: `{job.genotype.to_darts()}` |",
            f"| network | {config.network}, C = {config.channels}, N = {config.repeats}: {size.parameters:,} "
            f"parameters, {size.multiply_adds / 1e6:.1f} M multiply-adds |",
            f"| images | {source.image_size} x {source.image_size}, {source.image_channels} channels, "
            f"{len(source.classes)} classes, {source.steps} steps of {config.batch_size} an epoch |",
            f"| seeds | {seeds}; {config.epochs} epochs each |",
            f"| device | {job.device} |",
            f"| run folder | `{job.folder}` |",
        ]
    )


def describe_estimate(search: Search, estimate: Estimate) -> str:
    """How long the whole run takes and what memory it needs, as Markdown."""
    config = search.config
    total = duration(estimate.training + estimate.scoring)
    return (
        f"A run from the start takes about **{total}**: {duration(estimate.training)} to train "
        f"{config.epochs} epochs ({1000 * estimate.weight_step:.0f} ms a weight step, "
        f"{1000 * estimate.evaluator_step:.0f} ms an evaluator step) and {duration(estimate.scoring)} to score "
        f"{config.candidates + config.baseline_candidates} candidates ({estimate.candidate:.2f} s each). "
        f"It needs about **{estimate.memory / 2**30:.1f} GiB** of memory."
    )
