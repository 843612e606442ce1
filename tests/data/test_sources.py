"""Where training and test images come from: decoded by workers, or on the device."""

import random
import shutil
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from setn_lab.compute.distributed import Shard
from setn_lab.compute.streams import generator
from setn_lab.data.batches import Augmentation, Normalization, augment
from setn_lab.data.files import limited
from setn_lab.data.folders import DataError
from setn_lab.data.images import ImageSet
from setn_lab.data.sources import MEAN, NONE_BAD, STD, Decoded, OnDevice

ALONE = Shard(0, 1)
SIZE, BATCH, CLASSES = 28, 4, 13  # a class for each training image, so that a label names the image
STEPS = CLASSES // BATCH
SHAPES = ((40, 30), (33, 64), (50, 50), (20, 24), (28, 28), (90, 31), (29, 29))  # width and height

# torch warns where there are more workers than cores, which the tests may be confined to.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def picture(number: int) -> Image.Image:
    """A smooth image of its own; number 1 is grey, 2 CMYK, 3 a palette."""
    width, height = SHAPES[number % len(SHAPES)]
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return {1: lambda: image.convert("L"), 2: lambda: image.convert("CMYK"), 3: lambda: image.quantize(16)}.get(
        number, lambda: image
    )()


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Thirteen classes with one training image each; two of them have two test images."""
    folder = tmp_path_factory.mktemp("images")
    for split, count in (("train", CLASSES), ("val", CLASSES + 2)):
        for number in range(count):
            path = folder / split / f"class{number % CLASSES:02}"
            path.mkdir(parents=True, exist_ok=True)
            picture(number).save(path / f"{number:02}.{'png' if number == 3 else 'JPEG'}")
    return folder


@pytest.fixture
def spoilt(images, tmp_path):
    """spoilt("train", 5, 6): a copy of the folder in which these images are cut off, or no images, in turn."""

    def copy(split: str, *numbers: int) -> tuple[Path, list[Path]]:
        folder = tmp_path / "spoilt"
        shutil.copytree(images, folder)
        paths = []
        for turn, number in enumerate(numbers):
            (path,) = (folder / split).glob(f"*/{number:02}.*")
            content = path.read_bytes()
            path.write_bytes(b"This is a text, not an image.\n" if turn % 2 else content[: len(content) // 2])
            paths.append(path)
        return folder, paths

    return copy


def decoded(folder: Path, workers: int = 0, bad_images: str = "fail", test_batch_size: int = 4, **options) -> Decoded:
    return Decoded(folder, SIZE, BATCH, test_batch_size, workers, bad_images, **options)


def same(one, other) -> bool:
    one, other = list(one), list(other)
    return len(one) == len(other) and all(
        (a is None and b is None) or torch.equal(a, b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left, right, strict=True)
    )


def failure(batches) -> str:
    """The message of the DataError that reading the batches raises.

    The error's frames are freed at once: torch waits five seconds for each worker of a loader that is left to the
    garbage collector.
    """
    try:
        list(batches)
    except DataError as error:
        traceback.clear_frames(error.__traceback__)
        return str(error)
    raise AssertionError("nothing was raised")


def by_pillow(path: Path, size: int) -> torch.Tensor:
    """The test transform by Pillow and numpy: shorter side to 256/224 of the size, centre crop, normalised."""
    image = Image.open(path).convert("RGB")
    shorter = size * 256 // 224
    width, height = image.size
    scale = shorter / min(width, height)
    width, height = (shorter if side == min(image.size) else int(side * scale) for side in (width, height))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    top, left = round((height - size) / 2), round((width - size) / 2)
    pixels = np.asarray(image, dtype=np.float64)[top : top + size, left : left + size] / 255
    return torch.from_numpy(((pixels - MEAN) / STD).transpose(2, 0, 1)).float()


# --- decoded images ---------------------------------------------------------------------------------------


def test_what_a_folder_has(images):
    source = decoded(images)
    assert source.classes == tuple(f"class{number:02}" for number in range(CLASSES))
    assert (source.steps, source.image_size, source.image_channels) == (STEPS, SIZE, 3)
    assert (source.mean, source.std) == (MEAN, STD)
    assert (len(source.training), len(source.testing)) == (CLASSES, CLASSES + 2)
    assert source.name("train", 7) == str(images / "train" / "class07" / "07.JPEG")
    assert source.name("test", 1) == str(images / "val" / "class00" / "13.JPEG")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches(images, workers):
    source = decoded(images, workers)
    batches = list(source.train(0, range(STEPS), ALONE))
    assert len(batches) == STEPS
    for batch in batches:
        assert batch.images.shape == (BATCH, 3, SIZE, SIZE)
        assert batch.images.dtype == torch.float32
        assert batch.labels.shape == batch.bad.shape == (BATCH,)
        assert batch.labels.dtype == torch.int64
        assert batch.bad.tolist() == [NONE_BAD] * BATCH
    tested = list(source.test(ALONE))
    assert [len(batch.labels) for batch in tested] == [4, 4, 4, 3]
    assert all(batch.images.shape == (len(batch.labels), 3, SIZE, SIZE) for batch in tested)


def test_test_images_are_those_of_pillow(images):
    for size in (SIZE, 32):
        source = Decoded(images, size, BATCH, 4, 0, "fail")
        files = sorted(images.glob("val/*/*"))
        batches = list(source.test(ALONE))
        pixels = torch.cat([batch.images for batch in batches])
        assert torch.cat([batch.labels for batch in batches]).tolist() == [
            source.classes.index(path.parent.name) for path in files
        ]
        for image, path in zip(pixels, files, strict=True):
            torch.testing.assert_close(image, by_pillow(path, size), rtol=1e-5, atol=1e-5)


def test_normalisation_of_constant_images(tmp_path):
    colours = {"a": (100, 150, 200), "b": (255, 255, 255), "c": (0, 0, 0)}
    for split in ("train", "val"):
        for name, colour in colours.items():
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (31, 45), colour).save(tmp_path / split / name / "1.png")
    source = Decoded(tmp_path, SIZE, 3, 3, 0, "fail")
    (batch,) = source.test(ALONE)
    for image, colour in zip(batch.images, colours.values(), strict=True):
        expected = [(value / 255 - mean) / std for value, mean, std in zip(colour, MEAN, STD, strict=True)]
        torch.testing.assert_close(image, torch.tensor(expected)[:, None, None].expand(3, SIZE, SIZE))
    black = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)])
    (batch,) = source.train(0, range(1), ALONE)
    for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
        assert torch.equal(image, image[:, :1, :1].expand_as(image)), "crop, flip and jitter keep an image constant"
        if label == 2:
            torch.testing.assert_close(image[:, 0, 0], black)


def test_sixteen_bit_grey_and_transparent_palettes(tmp_path):
    """As in a folder of CIFAR's size: 65535 is white, and transparency is dropped."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
        Image.fromarray(np.full((40, 50), 100 * 257, np.uint16)).save(tmp_path / split / "a" / "1.png")
        palette = Image.new("RGB", (40, 50), (200, 100, 50)).quantize(4)
        palette.save(tmp_path / split / "b" / "1.png", transparency=bytes(range(4)))
    (batch,) = Decoded(tmp_path, SIZE, 2, 2, 0, "fail").test(ALONE)
    for image, colour in zip(batch.images, ((100, 100, 100), (200, 100, 50)), strict=True):
        expected = [(value / 255 - mean) / std for value, mean, std in zip(colour, MEAN, STD, strict=True)]
        torch.testing.assert_close(image, torch.tensor(expected)[:, None, None].expand(3, SIZE, SIZE))


def test_training_images_are_mirrored_cropped_and_jittered(tmp_path):
    """Of grey ramps to the right, downwards, and of a grey area: hue and saturation leave them as they are."""
    ramp = np.linspace(60, 160, 64, dtype=np.uint8)
    areas = {"right": np.tile(ramp, (64, 1)), "down": np.tile(ramp[:, None], (1, 64)), "same": np.full((64, 64), 110)}
    for split in ("train", "val"):
        for name, area in areas.items():
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(area.astype(np.uint8)).save(tmp_path / split / name / "1.png")
    source = Decoded(tmp_path, SIZE, 3, 3, 0, "fail")
    rises = {name: [] for name in source.classes}  # across and down
    levels = []
    for batch in source.train(0, range(120), ALONE):
        for image, label in zip(batch.images[:, 0], batch.labels.tolist(), strict=True):
            rises[source.classes[label]].append(
                (float(image[:, -1].mean() - image[:, 0].mean()), float(image[-1].mean() - image[0].mean()))
            )
            levels += [float(image.mean())] if source.classes[label] == "same" else []
    across, down = (np.array(rises[name]) for name in ("right", "down"))
    assert 35 <= (across[:, 0] < 0).sum() <= 85, "half of them, within five standard deviations"
    assert (down[:, 1] > 0).all(), "never upside down"
    assert np.unique(np.abs(across[:, 0])).size > 100, "crops of many widths"
    assert np.ptp(levels) > 0.5 * (110 / 255) / STD[0], "brightness from 0.6 to 1.4"


def test_every_sample_of_an_epoch_is_seen_once_and_epochs_differ(images):
    source = decoded(images)
    batches = list(source.train(0, range(3 * STEPS), ALONE))
    orders = []
    for epoch in range(3):
        labels = torch.cat([batch.labels for batch in batches[epoch * STEPS : (epoch + 1) * STEPS]]).tolist()
        assert len(set(labels)) == len(labels) == STEPS * BATCH
        orders.append(labels)
    assert len({tuple(order) for order in orders}) == 3
    seen = {}
    for batch in batches:
        for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
            assert all(not torch.equal(image, other) for other in seen.get(label, [])), "augmented anew each time"
            seen.setdefault(label, []).append(image)
    assert not same(batches[:STEPS], source.train(1, range(STEPS), ALONE)), "another seed"


def test_batches_depend_on_step_and_seed_alone(images):
    global_state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    plain, working = decoded(images), decoded(images, workers=2)
    steps = range(2 * STEPS)
    through = list(plain.train(3, steps, ALONE))
    tested = list(plain.test(ALONE))
    assert same(working.train(3, steps, ALONE), through)
    assert same(working.test(ALONE), tested)
    for start in (1, STEPS, STEPS + 2):
        for source in (plain, working) if start == STEPS else (plain,):
            assert same(source.train(3, range(start, 2 * STEPS), ALONE), through[start:])
    assert torch.equal(torch.get_rng_state(), global_state[0]), "torch's global generator was used"
    assert np.array_equal(np.random.get_state()[1], global_state[1])
    assert random.getstate() == global_state[2]
    torch.manual_seed(99)
    assert same(decoded(images).train(3, steps, ALONE), through)
    assert same(plain.test(ALONE), tested)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_shares_of_decoded_batches_put_together(images, processes):
    source = decoded(images)
    whole = list(source.train(0, range(2, 5), ALONE))
    shares = [list(source.train(0, range(2, 5), Shard(rank, processes))) for rank in range(processes)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert all(len(part.labels) == BATCH // processes for part in parts)
        assert same([batch], [[torch.cat([part[field] for part in parts]) for field in range(3)]])
    whole = list(source.test(ALONE))
    shares = [list(source.test(Shard(rank, processes))) for rank in range(processes)]
    assert same(whole, [shares[number % processes][number // processes] for number in range(len(whole))])
    assert sum(map(len, shares)) == len(whole)


def test_more_processes_than_test_batches(images):
    source = decoded(images, test_batch_size=100)
    assert [len(list(source.test(Shard(rank, 3)))) for rank in range(3)] == [1, 0, 0]


# --- images that cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("turn", [0, 1])
def test_a_bad_image_is_named(spoilt, workers, turn):
    folder, paths = spoilt("train", *([5] if turn == 0 else [0, 5]))
    if turn:  # only the one that is a text
        shutil.copy(folder / "val" / "class00" / "00.JPEG", paths[0])
    message = failure(decoded(folder, workers).train(0, range(2 * STEPS), ALONE))  # one epoch may leave it out
    assert f"dataset: the image {paths[-1]} cannot be read" in message
    assert "bad_images 'skip'" in message
    assert len(list(decoded(folder, workers).test(ALONE))) == 4, "the test images are sound"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_test_image_is_named(spoilt, workers):
    folder, (path,) = spoilt("val", 14)
    assert f"dataset: the image {path} cannot be read" in failure(decoded(folder, workers).test(ALONE))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_training_image_is_replaced_and_reported(images, spoilt, workers):
    folder, _ = spoilt("train", 5, 6, 12)  # 7 stands for the first two, 0 for the last
    stands_for = {5: 7, 6: 7, 12: 0}
    sound, skipping = decoded(images), decoded(folder, workers, "skip")
    reported = Counter()
    for one, other in zip(
        sound.train(0, range(2 * STEPS), ALONE), skipping.train(0, range(2 * STEPS), ALONE), strict=True
    ):
        for place, index in enumerate(one.labels.tolist()):  # the label is the index of the image
            assert int(other.labels[place]) == stands_for.get(index, index)
            assert int(other.bad[place]) == (index if index in stands_for else NONE_BAD)
            assert torch.equal(one.images[place], other.images[place]) == (index not in stands_for)
            reported[int(other.bad[place])] += 1
    assert set(reported) == {NONE_BAD, *stands_for}
    assert skipping.name("train", 5).endswith("class05/05.JPEG")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_test_image_is_marked(images, spoilt, workers):
    folder, paths = spoilt("val", 2, 4)
    source = decoded(folder, workers, "skip")
    sound, batches = list(decoded(images).test(ALONE)), list(source.test(ALONE))
    expected, given = ([torch.cat([batch[field] for batch in all_]) for field in range(3)] for all_ in (sound, batches))
    marked = (given[2] != NONE_BAD).nonzero().flatten().tolist()
    assert [source.name("test", int(given[2][place])) for place in marked] == [str(path) for path in paths]
    assert given[2][marked].tolist() == marked, "test images come in order, so the place is the index"
    kept = given[2] == NONE_BAD
    assert torch.equal(given[0][kept], expected[0][kept])
    assert torch.equal(given[1][kept], expected[1][kept])
    assert torch.isfinite(given[0]).all()


@pytest.mark.parametrize("split", ["train", "val"])
def test_all_images_bad(spoilt, split):
    folder, paths = spoilt(split, *range(CLASSES + 2 * (split == "val")))
    source = decoded(folder, 0, "skip")
    batches = source.train(0, range(1), ALONE) if split == "train" else source.test(ALONE)
    assert f"none of the {len(paths)} images can be read, {paths[0]} the first" in failure(batches)


# --- folders that are not so ------------------------------------------------------------------------------


def test_classes_of_val_must_be_those_of_train(images, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(images, folder)
    (folder / "val" / "class04").rename(folder / "val" / "Class04")
    with pytest.raises(DataError, match=r"classes: \['Class04', 'class04'\]"):
        decoded(folder)
    shutil.rmtree(folder / "val" / "Class04")
    with pytest.raises(DataError, match=r"classes: \['class04'\]"):
        decoded(folder)


def test_folders_that_are_missing(images, tmp_path):
    with pytest.raises(DataError, match=r"no-such-folder is no folder"):
        decoded(tmp_path / "no-such-folder")
    with pytest.raises(DataError, match=r"is no folder"):
        decoded(images / "train" / "class00" / "00.JPEG")
    shutil.copytree(images / "train", tmp_path / "train")
    with pytest.raises(DataError, match=r"has no folder 'val'"):
        decoded(tmp_path)
    with pytest.raises(DataError, match=r"has no folder 'train'"):
        decoded(images / "val")


def test_limited():
    files = [(Path(f"{label}/{number}"), label) for label in range(10) for number in range(10)]
    assert limited(files, None) is files
    for limit in (100, 101):
        assert limited(files, limit) == files
    few = limited(files, 40)
    assert len(set(few)) == len(few) == 40
    assert set(few) <= set(files)
    assert len({label for _, label in few}) == 10, "from all classes"
    assert limited(files, 40) == few
    assert len(limited(files, 1)) == 1


def test_limits_of_a_folder(images):
    source = decoded(images, limit_train=9, limit_test=5)
    assert (source.steps, len(source.training), len(source.testing)) == (2, 9, 5)
    assert len(source.classes) == CLASSES, "the classes are those of the whole folder"
    labels = torch.cat([batch.labels for batch in source.train(0, range(2), ALONE)]).tolist()
    names = {source.name("train", index) for index in range(9)}
    assert len(names) == 9
    assert {f"{label:02}" for label in labels} < {Path(name).stem for name in names}
    assert sum(len(batch.labels) for batch in source.test(ALONE)) == 5


# --- images on the device ---------------------------------------------------------------------------------


def on_device(channels: int = 3, count: int = 14, batch_size: int = 4, size: int = 8) -> OnDevice:
    """Random images with a label each."""
    rng = np.random.default_rng(channels)
    sets = [
        ImageSet(
            torch.from_numpy(rng.integers(0, 256, (number, size, size, channels), dtype=np.uint8)),
            torch.arange(number),
            tuple(map(str, range(count))),
        )
        for number in (count, count - 3)
    ]
    return OnDevice(*sets, Normalization.of(sets[0]), Augmentation(2, True, 3), batch_size, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_sets_on_the_device_have(channels):
    source = on_device(channels)
    assert (source.steps, source.image_size, source.image_channels) == (3, 8, channels)
    assert source.classes == tuple(map(str, range(14)))
    pixels = source.training.images.double() / 255
    assert source.mean == pytest.approx(pixels.mean((0, 1, 2)).tolist())
    assert source.std == pytest.approx(pixels.std((0, 1, 2), correction=0).tolist(), rel=1e-6)
    assert source.name("test", 3) == "test image 3"


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_on_the_device_are_those_of_augment(channels):
    source = on_device(channels)
    batches = list(source.train(6, range(9), ALONE))
    assert len(batches) == 9
    for step, batch in enumerate(batches):
        epoch, place = divmod(step, 3)
        order = generator(6, "training order", epoch).permutation(14)[4 * place : 4 * place + 4]
        rng = generator(6, "training augmentation", step)
        pixels = source.training.images[torch.from_numpy(order)]
        assert batch.labels.tolist() == order.tolist()
        assert torch.equal(batch.images, augment(pixels, source.normalization, source.augmentation, rng))
        assert batch.bad is None
    for epoch in range(3):
        labels = torch.cat([batch.labels for batch in batches[3 * epoch : 3 * epoch + 3]]).tolist()
        assert len(set(labels)) == 12
    assert same(source.train(6, range(4, 9), ALONE), batches[4:])
    assert not same(source.train(7, range(9), ALONE), batches)


def test_test_batches_on_the_device_are_not_augmented():
    source = on_device()
    batches = list(source.test(ALONE))
    assert all(len(batch.labels) <= 3 for batch in batches)
    assert torch.cat([batch.labels for batch in batches]).tolist() == list(range(11))
    pixels = (source.testing.images.double() / 255 - torch.tensor(source.mean)) / torch.tensor(source.std)
    given = torch.cat([batch.images for batch in batches])
    torch.testing.assert_close(given, pixels.permute(0, 3, 1, 2).float(), rtol=1e-5, atol=1e-5)
    assert same(source.test(ALONE), batches)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_shares_of_batches_on_the_device_put_together(processes):
    source = on_device(batch_size=4)
    state = torch.get_rng_state()
    whole = list(source.train(0, range(1, 6), ALONE))
    shares = [list(source.train(0, range(1, 6), Shard(rank, processes))) for rank in range(processes)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert all(len(part.labels) == 4 // processes for part in parts)
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    tested = list(source.test(ALONE))
    shares = [list(source.test(Shard(rank, processes))) for rank in range(processes)]
    assert same(tested, [shares[number % processes][number // processes] for number in range(len(tested))])
    assert sum(map(len, shares)) == len(tested)
    assert torch.equal(torch.get_rng_state(), state)
