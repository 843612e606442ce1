"""A search on a folder of large images of mixed sizes, with ImageNet's stem."""

import multiprocessing
import os
import signal
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from setn_lab.compute.distributed import Shard
from setn_lab.config import ConfigError, digest
from setn_lab.data.files import ImageFiles
from setn_lab.data.images import ImageSet
from setn_lab.data.sources import MEAN, STD
from setn_lab.inspection.about import about
from setn_lab.inspection.reading import read_candidates
from setn_lab.network.costs import cost_table
from setn_lab.network.discrete import ImageNetNetwork
from setn_lab.network.macro import imagenet_layout
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import Progress
from setn_lab.runs.run import Run
from setn_lab.search import candidates, report
from setn_lab.search.candidates import search_candidates
from setn_lab.search.config import SearchConfig
from setn_lab.search.description import describe_search
from setn_lab.search.estimate import estimate
from setn_lab.search.finalists import halves, recipe
from setn_lab.search.setup import prepare_search
from setn_lab.search.steps import Trainer
from setn_lab.search.training import train

SHAPES = ((96, 70), (64, 64), (70, 130), (80, 75))  # width and height

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two classes of sixteen JPEGs."""
    folder = tmp_path_factory.mktemp("large") / "images"
    rng = np.random.default_rng(0)
    for label in range(2):
        (folder / "train" / f"{label}").mkdir(parents=True)
        for number in range(16):
            pixels = rng.integers(0, 160, (5, 5, 3), dtype=np.uint8) + np.uint8(80 * label)
            image = Image.fromarray(pixels).resize(SHAPES[number % 4], Image.Resampling.BICUBIC)
            image.save(folder / "train" / f"{label}" / f"{number:02}.jpg")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SETN_LAB_CACHE", str(tmp_path_factory.getbasetemp() / "cache of large images"))


@pytest.fixture(scope="module")
def values(folder) -> dict[str, object]:
    return {
        "dataset": str(folder),
        "resize": 72,
        "image_size": 64,
        "stem": "imagenet",
        "crop_padding": 0,
        "channels": 2,
        "repeats": 1,
        "nodes": 1,
        "batch_size": 4,
        "scoring_batch_size": 8,
        "epochs": 2,
        "candidates": 4,
        "device": "cpu",
    }


def start(values: dict, kill: tuple[str, int] | None) -> None:
    """One start of the search in this process, to its end, or to its death: ("train", 3) is at its third step."""
    torch.set_num_threads(1)
    candidates.TOGETHER = 2  # several groups, so that a kill falls between two
    reached = Counter()

    def observe(progress: Progress) -> None:
        reached[progress.phase] += progress.phase == "score" or progress.record is None
        if kill is not None and reached[kill[0]] == kill[1]:
            os.kill(os.getpid(), signal.SIGKILL)

    config = SearchConfig(**values)
    with Run.open(config, "search", lock_wait=30) as run:
        search = prepare_search(config, run)
        train(search, run, observe)
        search_candidates(search, run, observe)


@pytest.fixture(scope="module")
def launch(fork_server, values):
    """launch(folder, kill, **values): a search in a process of its own; its exit code, -9 after SIGKILL."""

    def launch(run_dir: Path, kill=None, **changes) -> int:
        process = fork_server.Process(target=start, args=({**values, "run_dir": str(run_dir), **changes}, kill))
        process.start()
        process.join()
        return process.exitcode

    return launch


def test_memory_workers_and_kills_change_nothing(tmp_path, launch, outcome):
    assert launch(tmp_path / "memory") == 0
    whole = outcome(tmp_path / "memory")
    assert whole["step"] == 2
    for workers in (0, 2):
        assert launch(tmp_path / f"{workers}", image_memory=0.0, image_workers=workers) == 0
        assert outcome(tmp_path / f"{workers}") == whole
    streamed = {"image_memory": 0.0, "image_workers": 2}
    for kill in (("train", 3), ("train", 5), ("score", 2)):
        assert launch(tmp_path / "killed", kill, **streamed) == -signal.SIGKILL, f"{kill} was not reached"
    assert launch(tmp_path / "killed", image_memory=0.0, image_workers=1) == 0
    assert outcome(tmp_path / "killed") == whole


def test_where_images_are_is_no_part_of_a_run(values):
    config = SearchConfig(**values)
    elsewhere = replace(config, image_memory=0.0, image_workers=0)
    assert digest(config, config.contents()) == digest(elsewhere, elsewhere.contents())
    for other in (replace(config, resize=80), replace(config, image_size=48), replace(config, stem="cifar")):
        assert digest(config, config.contents()) != digest(other, other.contents())
    assert (config.contents()["dataset"]["side"], config.contents()["dataset"]["channels"]) == (64, 3)


def test_steps_see_random_crops_and_scoring_the_middle(values):
    search = prepare_search(SearchConfig(**values))
    assert isinstance(search.train, ImageSet)
    assert search.image_size == 64
    with closing(Trainer(search)) as trainer:
        images, labels = trainer.batch(search.train, "train", 0)
    assert images.shape == (4, 3, 64, 64)
    whole = search.train.images.numpy() / 255
    for image, label in zip((images.numpy().transpose(0, 2, 3, 1) * STD + MEAN), labels, strict=True):
        places = [
            (number, top, left)
            for number in torch.nonzero(search.train.labels == label).flatten().tolist()
            for top in range(9)
            for left in range(9)
            for turned in (image, image[:, ::-1])
            if np.abs(whole[number, top : top + 64, left : left + 64] - turned).max() < 1e-5
        ]
        assert len(places) == 1
    seen = search.seen(search.valid).numpy().transpose(0, 2, 3, 1) * STD + MEAN
    np.testing.assert_allclose(seen, search.valid.images[:, 4:68, 4:68].numpy() / 255, atol=1e-6)


def test_batches_may_be_asked_for_in_any_order_and_workers_end(values):
    kept, files = (
        prepare_search(SearchConfig(**values, image_memory=memory, image_workers=2)) for memory in (4.0, 0.0)
    )
    assert isinstance(files.train, ImageFiles)
    before = set(multiprocessing.active_children())
    with closing(Trainer(kept)) as one, closing(Trainer(files)) as other:
        other.together = 2  # several groups
        for step in (0, 1, 2, 7, 3, 3, 40):
            for stream in ("train", "valid"):
                wanted = one.batch(getattr(kept, stream), stream, step)
                found = other.batch(getattr(files, stream), stream, step)
                assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))
        assert set(multiprocessing.active_children()) - before
    assert set(multiprocessing.active_children()) <= before


def test_batches_of_large_images_are_made_for_fewer_steps(values, monkeypatch):
    search = prepare_search(SearchConfig(**values))
    per_step = 4 * 3 * 72 * 72
    for largest, together in ((per_step - 1, 1), (3 * per_step, 3), (100 * per_step, 8)):
        monkeypatch.setattr("setn_lab.search.steps.LARGEST", largest)
        assert Trainer(search).together == together


def test_the_rest_of_a_search_takes_them_too(values):
    """Costs, estimate, description, recalibrated scores and finalists, all of images that are decoded each time."""
    more = {"cost_weight": 0.1, "cost_metric": "multiply_adds", "batch_norm": "recalibrated", "finalists": 2}
    more |= {"finalist_epochs": 1, "finalist_batch_size": 8, "image_memory": 0.0, "image_workers": 0}
    config = SearchConfig(**values, **more)
    search = prepare_search(config)
    found = estimate(search, repetitions=1)
    assert found.memory is not None
    assert found.memory > 0
    size = search.space, config.channels, config.repeats, 3, 64, 2
    table = cost_table(*size, "multiply_adds", layout=imagenet_layout)
    np.testing.assert_allclose(search.cost.operations / search.cost.fixed, table.operations / table.fixed)
    text = describe_search(search)
    assert "64 x 64" in text
    assert "decoded again each time, by this process" in text
    assert "kept in memory" in describe_search(prepare_search(replace(config, image_memory=1.0)))
    source = halves(recipe(config), search)
    assert recipe(config).network == "imagenet"
    assert source.image_size == 64
    tested = torch.cat([batch.images for batch in source.test(Shard(0, 1))])
    torch.testing.assert_close(tested, search.seen(search.valid), rtol=0, atol=0)


def test_finalists_have_the_templates_stem_and_report_and_inspectors_read_the_run(values, tmp_path, monkeypatch):
    built = []
    real = ImageNetNetwork.__init__

    def counted(self, *arguments, **named):
        built.append(self)
        real(self, *arguments, **named)

    monkeypatch.setattr(ImageNetNetwork, "__init__", counted)
    more = {"finalists": 2, "finalist_epochs": 1, "finalist_batch_size": 8, "epochs": 1}
    config = SearchConfig(**{**values, **more, "run_dir": str(tmp_path)})
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        train(search, run)
        search_candidates(search, run)
    assert built
    assert "finalists" in report.write(tmp_path, tmp_path / "report").read_text(encoding="utf-8").lower()
    assert "32 images, 64 x 64, 3 channels, 2 classes" in about(tmp_path)["data set"]
    assert len(read_candidates(tmp_path).table) == len(read_journal(tmp_path / "candidates.jsonl"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "nasbench201", "stem": "imagenet"}, "stem: 'imagenet' given; 'cifar' is allowed for nasbench201"),
        ({"stem": "imagenet", "channels": 1}, "channels: 1 given; at least 2 is allowed with stem 'imagenet'"),
        ({"dataset": "digits", "resize": 8}, "resize: 8 given for digits, whose images have one size"),
        ({"dataset": "~", "resize": 8, "image_size": 9}, r"image_size: 9 given; at most resize \(8\) is allowed"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        SearchConfig(**changes)


def test_mixed_sizes_without_resize_say_what_to_do(values):
    config = SearchConfig(**{**values, "resize": None, "image_size": None})
    with pytest.raises(ValueError, match=r"differ in size.* resize"):
        prepare_search(config)
