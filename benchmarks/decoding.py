"""How fast JPEGs of mixed sizes are decoded and brought to one size, beside what the steps of a search take of them.

Writes so many photo-like JPEGs, 400 to 1400 pixels a side, into a folder of its own that is removed again. Then images
a second are measured: of decoding alone by 0, 1 and 2 processes, of a weight step alone (images in memory), and of both
together, decoding ahead. With 0 processes the training's own decodes between its steps. The template is the paper's,
with ImageNet's stem.

    python benchmarks/decoding.py [--images 600] [--resize 256] [--image-size 224] [--batch-size 16] [--steps 6]
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from setn_lab.data.files import ImageFiles
from setn_lab.figures.page import table
from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.search.steps import Trainer

SIDES = 400, 1400  # pixels, the shortest and the longest
WORKERS = 0, 1, 2


@dataclass(frozen=True)
class Rates:
    """Images a second: decoded, and both decoded and trained on, by the number of workers; trained on, in memory."""

    decoded: dict[int, float]
    trained: dict[int, float]
    step: float

    @property
    def text(self) -> str:
        """As a table."""
        rows = [[f"{workers}", f"{self.decoded[workers]:.0f}", f"{self.trained[workers]:.1f}"] for workers in WORKERS]
        together = table(["workers", "decoded", "decoded and trained on"], rows)
        return f"Images a second:\n\n{together}\n\nof weight steps alone {self.step:.1f}"


def write_images(folder: Path, count: int, sides: tuple[int, int] = SIDES) -> None:
    """JPEGs of two classes below folder/train: coarse structure, an edge and fine noise, as a photo has them."""
    rng = np.random.default_rng(0)
    for number in range(count):
        width, height = (int(side) for side in rng.integers(*sides, endpoint=True, size=2))
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
        pixels[:, width // 3 :] += 30
        pixels += rng.integers(-12, 13, pixels.shape, dtype=np.int16)
        path = folder / "train" / f"{number % 2}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def measure(config: SearchConfig, steps: int) -> Rates:
    """Images a second of a search on images of any size, over so many steps; of decoding alone over four times that."""
    size = config.batch_size

    def rate(step: Callable[[int], object], count: int = steps) -> float:
        step(0)
        started = time.perf_counter()
        for number in range(1, count + 1):
            step(number)
        return count * size / (time.perf_counter() - started)

    decoded, trained = {}, {}
    for workers in WORKERS:
        search = prepare_search(replace(config, image_memory=0.0, image_workers=workers))
        assert isinstance(search.train, ImageFiles)
        batches = (torch.arange(first, first + size) % len(search.train) for first in itertools.count(0, size))
        with closing(search.train.stream(batches)) as read:
            decoded[workers] = rate(lambda step, read=read: next(read), 4 * steps)  # type: ignore[misc]
        with closing(Trainer(search)) as trainer:
            trained[workers] = rate(trainer.weight_step)
    with closing(Trainer(prepare_search(config))) as trainer:
        return Rates(decoded, trained, rate(trainer.weight_step))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"images": 600, "resize": 256, "image-size": 224, "batch-size": 16, "steps": 6}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), given.images)
        images = {"dataset": folder, "resize": given.resize, "image_size": given.image_size, "crop_padding": 0}
        print(measure(SearchConfig(**images, stem="imagenet", batch_size=given.batch_size), given.steps).text)


if __name__ == "__main__":
    main()
