"""What several tests start from or compare with: small searches, images, evaluators."""

import io
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from setn_lab.evaluator.setn import Evaluator
from setn_lab.inspection.reading import InspectConfig
from setn_lab.network.costs import Cost
from setn_lab.runs.run import Run
from setn_lab.search.candidates import search_candidates
from setn_lab.search.setup import prepare_search
from setn_lab.search.training import train

DIGITS = {"dataset": "digits", "repeats": 1, "crop_padding": 1, "flip": False, "device": "cpu"}
TINY = {  # a search of seconds
    **DIGITS,
    "channels": 2,
    "nodes": 1,
    "batch_size": 16,
    "limit_train": 32,
    "limit_valid": 32,
    "epochs": 3,
    "candidates": 6,
}
EPOCH = {  # a record of metrics.jsonl
    "epoch": 1,
    "weight_loss": 2.0,
    "weight_accuracy": 0.25,
    "evaluator_loss": None,
    "entropy": 4.0,
    "seconds": 2.0,
}


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal values in float64."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def pixels(batch: int = 4, size: int = 8, seed: int = 2) -> torch.Tensor:
    """Normal values in float32 for colour images: (batch, 3, size, size)."""
    return noise(batch, 3, size, size, seed=seed).float()


def randomized(module: torch.nn.Module, seed: int = 1, scale: float = 1.0) -> torch.nn.Module:
    """The module with normal values for parameters."""
    rng = np.random.default_rng(seed)
    for parameter in module.parameters():
        parameter.data.copy_(torch.from_numpy(rng.normal(scale=scale, size=tuple(parameter.shape))))
    return module


def filter_lengths(template: torch.nn.Module) -> list[float]:
    """The length of every filter of a template's convolutions behind the stem."""
    filters = [weight for name, weight in template.named_parameters() if weight.dim() == 4 and name != "stem.0.weight"]
    return [length for weight in filters for length in weight.flatten(1).norm(dim=1).tolist()]


def random_evaluator(space, seed: int = 1, scale: float = 1.0) -> Evaluator:
    """An evaluator far from uniform."""
    return randomized(Evaluator(space), seed, scale)


def random_images(count: int, size: int = 8, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Images as bytes: (count, size, size, channels)."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def read_png(content: bytes) -> np.ndarray:
    """The pixels of a picture: (rows from above, columns, 3) bytes."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def write_folder(
    root: Path,
    classes: dict[str, int],
    size: int = 6,
    channels: int = 3,
    split: str = "train",
    suffix: str = "png",
    seed: int = 0,
) -> np.ndarray:
    """So many random images of each class, as root/split/class/000.png; their pixels in the order of their paths."""
    drawn = random_images(sum(classes.values()), size, channels, seed)
    left = iter(drawn)
    for name in sorted(classes):
        (root / split / name).mkdir(parents=True)
        for number in range(classes[name]):
            array = next(left)
            picture = Image.fromarray(array if channels == 3 else array[:, :, 0])
            picture.save(root / split / name / f"{number:03}.{suffix}")
    return drawn


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


class StopError(Exception):
    """Ends work in the middle."""


def stop() -> None:
    """End the work here."""
    raise StopError


def at_record(count: int, act: Callable[[], object] = stop):
    """An observer that calls `act` at the record of that number."""
    seen = 0

    def observe(progress) -> None:
        nonlocal seen
        seen += progress.record is not None
        if seen == count and progress.record is not None:
            act()

    return observe


def run_search(config, observe=lambda progress: None) -> Path:
    """The run folder of the search, which is finished unless the observer ends it."""
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        train(search, run, observe)
        search_candidates(search, run, observe)
    return run.folder


def run_study(name: str, collect, config, observe=lambda progress: None) -> Path:
    """The run folder of a study, which is finished."""
    with Run.open(config, name) as run:
        collect(config, run, observe)
    return run.folder


def opened(kind, folder: Path, **values: object):
    """An inspector of a run folder."""
    return kind(InspectConfig(run_dir=str(folder), samples=50, **values))


# --- rankings by their definitions


def weighted_tau_by_hand(x, y):
    """Vigna (2015): weighted products of signs over all pairs, normed; the mean over ranks by x and by y."""

    def ranked_by(a, b):
        order = sorted(range(len(a)), key=lambda item: (a[item], b[item]), reverse=True)
        rank = {item: place for place, item in enumerate(order, 1)}

        def product(u, v):
            pairs = itertools.combinations(range(len(u)), 2)
            return sum(np.sign(u[i] - u[j]) * np.sign(v[i] - v[j]) * (1 / rank[i] + 1 / rank[j]) for i, j in pairs)

        return product(a, b) / math.sqrt(product(a, a) * product(b, b))

    return (ranked_by(x, y) + ranked_by(y, x)) / 2


def ndcg_by_hand(predicted, true):
    """The mean over all orders that the predictions allow of the discounted gains, over those of the best order."""
    gains = [(value - min(true)) / (max(true) - min(true)) for value in true]

    def discounted(order):
        return sum(gains[item] / math.log2(place + 1) for place, item in enumerate(order, 1))

    orders = [
        order
        for order in itertools.permutations(range(len(true)))
        if all(predicted[a] >= predicted[b] for a, b in itertools.pairwise(order))
    ]
    best = sorted(range(len(true)), key=lambda item: -gains[item])
    return sum(map(discounted, orders)) / len(orders) / discounted(best)


# --- costs by formula


def kinds_of(repeats):
    """Section 3 of the paper: N normal cells, reduction, N normal, reduction, N normal."""
    return "N" * repeats + "R" + "N" * repeats + "R" + "N" * repeats


def parameters_by_hand(operation, channels, stride):
    C = channels
    kernel = int(operation[-1]) if operation[-1].isdigit() else 0
    if operation.startswith("sep"):
        return 2 * (kernel * kernel * C + C * C + 2 * C)
    if operation.startswith("dil"):
        return kernel * kernel * C + C * C + 2 * C
    if operation.startswith("conv"):
        return 2 * kernel * C * C + 2 * C
    return C * C + 2 * C if (operation, stride) == ("skip_connect", 2) else 0


def multiply_adds_by_hand(operation, channels, stride, size):
    """size: the side of the operation's input."""
    C = channels
    kernel = int(operation[-1]) if operation[-1].isdigit() else 0
    out = math.ceil(size / stride)
    if operation.startswith("sep"):
        return 2 * (kernel * kernel * C + C * C) * out * out
    if operation.startswith("dil"):
        return (kernel * kernel * C + C * C) * out * out
    if operation.startswith("conv"):
        return kernel * C * C * size * out + kernel * C * C * out * out
    return C * C * out * out if (operation, stride) == ("skip_connect", 2) else 0


def cost_by_hand(kind, genotype, channels, repeats, classes, size, image_channels=3):
    """Cost from the formulas above and from the macro-structure."""
    C = channels
    if kind == "cifar":
        parameters = 9 * image_channels * 3 * C + 2 * 3 * C
        multiply_adds = 9 * image_channels * 3 * C * size * size
        before = previous = (3 * C, size)
    else:
        sides = [size := -(-size // 2) for _ in range(3)]
        layers = [(image_channels, C // 2, sides[0]), (C // 2, C, sides[1]), (C, C, sides[2])]
        parameters = sum(9 * i * o + 2 * o for i, o, _ in layers)
        multiply_adds = sum(9 * i * o * side * side for i, o, side in layers)
        before, previous = (C, sides[1]), (C, sides[2])
    for letter in kinds_of(repeats):
        nodes, concat = (
            (genotype.normal, genotype.normal_concat) if letter == "N" else (genotype.reduce, genotype.reduce_concat)
        )
        C *= 2 if letter == "R" else 1
        size = previous[1]
        for inputs, _ in (before, previous):  # of either kind, preprocessing is a 1x1 convolution's worth
            parameters += inputs * C + 2 * C
            multiply_adds += inputs * C * size * size
        after = -(-size // 2) if letter == "R" else size
        for node in nodes:
            for operation, state in node:
                stride = 2 if letter == "R" and state < 2 else 1
                parameters += parameters_by_hand(operation, C, stride)
                multiply_adds += multiply_adds_by_hand(operation, C, stride, size if state < 2 else after)
        before, previous = previous, (C * len(concat), after)
    return Cost(parameters + (previous[0] + 1) * classes, multiply_adds + previous[0] * classes)
