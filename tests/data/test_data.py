import contextlib
import os
import pickle
import urllib.error
import urllib.request
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from references import Bomb, random_images, write_folder
from sklearn.datasets import load_digits

from setn_lab.compute.streams import generator
from setn_lab.data.batches import (
    Augmentation,
    Normalization,
    _permutation,
    augment,
    batch_indices,
    centre,
    normalize_images,
)
from setn_lab.data.folders import DataError
from setn_lab.data.images import ImageSet, load_images, search_split


def image_set(count: int, channels: int = 3) -> ImageSet:
    labels = torch.arange(count) % 2
    return ImageSet(torch.from_numpy(random_images(count, channels=channels)), labels, ("a", "b"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


# --- image sets -------------------------------------------------------------------------------------------


def test_image_set_take_and_properties():
    images = image_set(10, channels=1)
    chosen = images.take(torch.tensor([7, 0, 7]))
    assert (len(images), images.image_size, images.channels) == (10, 8, 1)
    for position, index in enumerate([7, 0, 7]):
        assert torch.equal(chosen.images[position], images.images[index])
        assert chosen.labels[position] == images.labels[index]
    assert chosen.classes == images.classes
    chosen.images.zero_()
    assert images.images.any(), "take must not alias the set"
    moved = images.to("meta")
    assert moved.images.device.type == moved.labels.device.type == "meta"
    with pytest.raises(FrozenInstanceError):
        images.classes = ()


def test_digits_are_scaled_exactly_and_split_every_fifth():
    source = load_digits()
    train, test = load_images("digits"), load_images("digits", split="test")
    rows = {"train": [], "test": []}
    for index in range(len(source.images)):
        rows["test" if (index + 1) % 5 == 0 else "train"].append(index)
    for split, chosen in ((train, rows["train"]), (test, rows["test"])):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.images.shape == (len(chosen), 8, 8, 1)
        assert split.labels.tolist() == source.target[chosen].tolist()
        exact = source.images[chosen] * (255 / 16)
        assert np.abs(split.images[..., 0].numpy() - exact).max() <= 0.5
        assert set(split.labels.tolist()) == set(range(10))
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.classes == tuple("0123456789")
    with pytest.raises(DataError, match=r"split: 'valid'.*'train'.*'test'"):
        load_images("digits", split="valid")


# --- the search split -------------------------------------------------------------------------------------


def test_search_split_is_a_partition():
    count = 40
    labels = torch.arange(count)  # a label each, so that an image can be recognised
    images = ImageSet(torch.from_numpy(random_images(count)), labels, tuple(map(str, range(count))))
    train, valid = search_split(images, 0.75, seed=3)
    assert (len(train), len(valid)) == (30, 10)
    assert sorted(train.labels.tolist() + valid.labels.tolist()) == list(range(count))
    assert train.labels.tolist() != sorted(train.labels.tolist()), "not shuffled"
    for part in (train, valid):
        assert torch.equal(part.images, images.images[part.labels])
    again = search_split(images, 0.75, seed=3)
    other = search_split(images, 0.75, seed=4)
    assert torch.equal(train.labels, again[0].labels)
    assert not torch.equal(train.labels, other[0].labels)
    small = search_split(images, 0.75, seed=3, limit_train=7, limit_valid=4)
    assert torch.equal(small[0].labels, train.labels[:7])
    assert torch.equal(small[1].labels, valid.labels[:4])
    assert [len(part) for part in search_split(images, 0.75, 3, 1000, 1000)] == [30, 10]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan"), 0.01, 0.99])
def test_search_split_refuses_fractions_that_leave_a_part_empty(fraction):
    with pytest.raises(DataError, match=r"train_fraction: \S+ "):
        search_split(image_set(10), fraction, seed=0)


@pytest.mark.parametrize("name", ["limit_train", "limit_valid"])
def test_search_split_refuses_limits_below_one(name):
    with pytest.raises(DataError, match=rf"{name}: 0 given"):
        search_split(image_set(10), 0.5, seed=0, **{name: 0})


# --- numbers: normalization, prepare, augment -------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_normalization_and_prepare_against_numpy(channels):
    images = image_set(50, channels)
    scaled = images.images.numpy().astype(np.float64) / 255
    mean, std = scaled.mean(axis=(0, 1, 2)), scaled.std(axis=(0, 1, 2))
    normalization = Normalization.of(images)
    np.testing.assert_allclose(normalization.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(normalization.std, std, rtol=1e-6)
    before = images.images.clone()
    batch = normalize_images(images.images, normalization)
    assert batch.dtype == torch.float32
    assert batch.shape == (50, channels, 8, 8)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(batch.permute(0, 2, 3, 1), (scaled - mean) / std, atol=1e-5)
    assert torch.equal(images.images, before)
    assert normalization.to("meta").std.device.type == "meta"


def test_a_constant_channel_does_not_divide_by_zero():
    images = image_set(5)
    images.images[..., 1] = 77
    batch = normalize_images(images.images, Normalization.of(images))
    assert batch.isfinite().all()
    assert batch[:, 1].abs().max() < 1e-4
    assert batch[:, 0].std() > 0.5


def test_normalization_of_other_channels_is_refused():
    grey = Normalization.of(image_set(5, channels=1))
    with pytest.raises(DataError, match=r"normalization: .*1 channels.*3"):
        normalize_images(image_set(5).images, grey)


def augment_slowly(images, mean, std, padding, flip, cutout, rng, crop=None):
    """Image by image, from the documented draws alone: pad, slice, reverse, normalize, zero a square."""
    count, rows, columns, _ = images.shape
    height, width = (crop, crop) if crop else (rows, columns)
    uniform = rng.random((5, count))
    output, seen = [], []
    for i in range(count):
        top = int(uniform[0, i] * (rows + 2 * padding - height + 1))
        left = int(uniform[1, i] * (columns + 2 * padding - width + 1))
        mirrored = bool(flip and uniform[2, i] >= 0.5)
        y, x = int(uniform[3, i] * height), int(uniform[4, i] * width)
        image = np.pad(images[i], ((padding, padding), (padding, padding), (0, 0)))
        image = image[top : top + height, left : left + width]
        image = image[:, ::-1] if mirrored else image
        image = (image / 255.0 - mean) / std
        y0, x0 = y - cutout // 2, x - cutout // 2
        image[max(y0, 0) : max(y0 + cutout, 0), max(x0, 0) : max(x0 + cutout, 0)] = 0
        output.append(image.transpose(2, 0, 1))
        seen.append((top, left, mirrored, y, x))
    return np.stack(output), seen


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("padding", "flip", "cutout"),
    [(0, False, 0), (2, False, 0), (0, True, 0), (0, False, 4), (4, True, 3), (3, True, 30), (12, True, 1)],
)
def test_augment_against_a_loop_over_images(padding, flip, cutout, channels):
    images = random_images(64, size=9, channels=channels)[:, :, :7]  # not square: rows and columns differ
    mean, std = np.array([0.3, 0.5, 0.6])[:channels], np.array([0.2, 0.25, 0.3])[:channels]
    normalization = Normalization(torch.tensor(mean).float(), torch.tensor(std).float())
    tensor = torch.from_numpy(images.copy())
    augmentation = Augmentation(padding, flip, cutout)
    batch = augment(tensor, normalization, augmentation, generator(5, "augment", 2))
    expected, seen = augment_slowly(images, mean, std, padding, flip, cutout, generator(5, "augment", 2))
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(batch, expected, atol=2e-5)
    assert np.array_equal(tensor, images), "the set itself must not change"
    # Each part was really seen to occur, or not to.
    plain = normalize_images(tensor, normalization)
    changed = [not torch.equal(a, b) for a, b in zip(batch, plain, strict=True)]
    assert any(changed) == (padding > 0 or flip or cutout > 0)
    assert len({mirrored for _, _, mirrored, _, _ in seen}) == (2 if flip else 1)
    assert len({top for top, *_ in seen}) > padding
    if cutout:
        assert all((batch[i, :, y, x] == 0).all() for i, (_, _, _, y, x) in enumerate(seen))


@pytest.mark.parametrize(("padding", "cutout", "crop"), [(0, 0, 5), (2, 3, 4), (0, 0, 7), (0, 0, 1)])
def test_crops_against_a_loop_over_images(padding, cutout, crop):
    images = random_images(64, size=9, channels=3)[:, :, :7]
    mean, std = np.array([0.3, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])
    normalization = Normalization(torch.tensor(mean).float(), torch.tensor(std).float())
    batch = augment(
        torch.from_numpy(images.copy()), normalization, Augmentation(padding, True, cutout, crop), generator(5, "a", 2)
    )
    expected, seen = augment_slowly(images, mean, std, padding, True, cutout, generator(5, "a", 2), crop)
    np.testing.assert_allclose(batch, expected, atol=2e-5)
    assert batch.shape[2:] == (crop, crop)
    assert {top for top, *_ in seen} == set(range(9 + 2 * padding - crop + 1))
    assert {left for _, left, *_ in seen} == set(range(7 + 2 * padding - crop + 1))


def test_the_centre_leaves_as_much_on_each_side():
    images = torch.from_numpy(random_images(3, size=9))
    assert torch.equal(centre(images, 5), images[:, 2:7, 2:7])
    assert torch.equal(centre(images, 4), images[:, 2:6, 2:6])
    assert centre(images, None) is images


def decode_positions(padding, flip, count, size=5, seed=0):
    """Crop offsets and flips read from the images alone: each pixel's value tells its row and column."""
    ramp = torch.arange(1, size * size + 1, dtype=torch.uint8).reshape(1, size, size, 1)
    one = Normalization(torch.zeros(1), torch.ones(1))
    batch = augment(ramp.expand(count, -1, -1, -1), one, Augmentation(padding, flip, 0), np.random.default_rng(seed))
    values = (batch[:, 0] * 255).round().long()
    middle = values[:, size // 2, size // 2] - 1  # with padding <= size // 2 the middle is never padding
    top, column = middle // size - size // 2 + padding, middle % size
    before, here, after = values[:, size // 2, size // 2 - 1 : size // 2 + 2].T  # one may be padding
    mirrored = (before == here + 1) | (after == here - 1)
    return top.numpy(), (column - size // 2 + padding).numpy(), mirrored.numpy()


def test_offsets_are_uniform_and_flips_fair_and_independent():
    count, padding = 20_000, 2
    top, left, mirrored = decode_positions(padding, True, count)
    cells = np.zeros((5, 5, 2))
    np.add.at(cells, (top, left, mirrored.astype(int)), 1)
    expected = count / cells.size
    # Chi-square with 49 degrees of freedom: mean 49, standard deviation sqrt(98) = 9.9; fixed seed.
    assert ((cells - expected) ** 2 / expected).sum() < 49 + 4 * 9.9
    assert not decode_positions(padding, False, 1000)[2].any()


def test_cutout_centres_are_uniform_and_squares_are_clipped_at_the_border():
    count, size, side = 20_000, 5, 3
    white = torch.full((count, size, size, 1), 255, dtype=torch.uint8)
    one = Normalization(torch.zeros(1), torch.ones(1))
    batch = augment(white, one, Augmentation(0, False, side), np.random.default_rng(1))
    zeroed = (batch[:, 0] == 0).float()
    # A pixel is zeroed if the centre is within one pixel of it: 2 of 5 rows at the border, else 3 of 5.
    near = torch.tensor([2, 3, 3, 3, 2]) / size
    assert torch.allclose(zeroed.mean(dim=0), near[:, None] * near[None, :], atol=0.02)
    areas = zeroed.sum(dim=(1, 2))
    assert set(areas.tolist()) == {4.0, 6.0, 9.0}


def test_switches_do_not_change_the_other_draws():
    top, left, _ = decode_positions(2, False, 100)
    top_flip, left_flip, _ = decode_positions(2, True, 100)
    assert np.array_equal(top, top_flip)
    assert np.array_equal(left, left_flip)


def test_augment_is_deterministic_and_leaves_the_global_generators_alone():
    images, augmentation = image_set(16), Augmentation(2, True, 4)
    normalization = Normalization.of(images)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    batches = [augment(images.images, normalization, augmentation, generator(0, "a", s)) for s in (0, 0, 1)]
    batch_indices(16, 4, 0, "a", 3)
    search_split(images, 0.5, 0)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_several_batches_at_once_are_the_same_as_one_by_one():
    tensor, one = torch.from_numpy(random_images(12, size=8)), Normalization(torch.zeros(3), torch.ones(3))
    augmentation = Augmentation(2, True, 3)
    parts = [augment(part, one, augmentation, generator(0, "a", step)) for step, part in enumerate(tensor.split(4))]
    together = augment(tensor, one, augmentation, *[generator(0, "a", step) for step in range(3)])
    assert torch.equal(together, torch.cat(parts))


def test_generators_that_cannot_share_the_images_are_refused():
    images, one = torch.zeros(5, 8, 8, 1, dtype=torch.uint8), Normalization(torch.zeros(1), torch.ones(1))
    with pytest.raises(DataError, match="rngs: 2 generators given for 5 images"):
        augment(images, one, Augmentation(1, True, 0), generator(0, "a", 0), generator(0, "a", 1))


@pytest.mark.parametrize("name", ["padding", "cutout"])
def test_augmentation_refuses_negative_lengths(name):
    with pytest.raises(DataError, match=rf"{name}: -1 given"):
        Augmentation(**{"padding": 0, "flip": False, "cutout": 0, name: -1})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_step_on_cuda_does_not_synchronise_and_equals_the_cpu():
    images, augmentation = image_set(32), Augmentation(2, True, 4)
    normalization = Normalization.of(images)
    on_device, norm_device = images.to("cuda"), normalization.to("cuda")
    indices = batch_indices(32, 8, 0, "train", 1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = on_device.take(indices)
        fast = augment(batch.images, norm_device, augmentation, generator(0, "augment"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    slow = augment(images.take(indices).images, normalization, augmentation, generator(0, "augment"))
    torch.testing.assert_close(fast.cpu(), slow)


# --- the order of batches ---------------------------------------------------------------------------------


def read_pass(count, batch_size, seed, stream, number):
    per_pass = count // batch_size
    steps = range(number * per_pass, (number + 1) * per_pass)
    return torch.cat([batch_indices(count, batch_size, seed, stream, step) for step in steps]).tolist()


@pytest.mark.parametrize(("count", "batch_size"), [(12, 4), (14, 4), (5, 5), (7, 1)])
def test_each_pass_is_its_own_permutation(count, batch_size):
    passes = [read_pass(count, batch_size, 1, "train", number) for number in range(4)]
    used = count // batch_size * batch_size
    for number, order in enumerate(passes):
        assert len(order) == len(set(order)) == used
        assert set(order) <= set(range(count))
        assert order == generator(1, "train", number).permutation(count)[:used].tolist()
    assert len({tuple(order) for order in passes}) == 4
    assert len({tuple(read_pass(count, batch_size, s, n, 0)) for s, n in [(1, "train"), (2, "train"), (1, "v")]}) == 3
    _permutation.cache_clear()
    assert read_pass(count, batch_size, 1, "train", 3) == passes[3], "a pass must not depend on those before"


def test_left_over_images_come_in_other_passes():
    seen = set()
    for number in range(20):
        seen |= set(read_pass(11, 8, 0, "train", number))
    assert seen == set(range(11))


def test_batch_indices_are_cheap_and_safe_to_change(monkeypatch):
    draws = []
    monkeypatch.setattr("setn_lab.data.batches.generator", lambda *name: draws.append(name) or generator(*name))
    _permutation.cache_clear()
    for step in range(10):
        batch = batch_indices(100, 10, 0, "train", step)
        assert batch.dtype == torch.int64
        assert batch.shape == (10,)
        kept = batch.clone()
        batch.fill_(-1)
        assert torch.equal(batch_indices(100, 10, 0, "train", step), kept)
        batch_indices(100, 10, 0, "valid", step)
    assert draws == [(0, "train", 0), (0, "valid", 0)]


def test_batch_indices_errors():
    with pytest.raises(DataError, match=r"batch_size: 11 .*at most 10"):
        batch_indices(10, 11, 0, "train", 0)
    with pytest.raises(DataError, match=r"batch_size: 0 given"):
        batch_indices(10, 0, 0, "train", 0)
    with pytest.raises(DataError, match=r"step: -1 given"):
        batch_indices(10, 2, 0, "train", -1)


# --- folders of images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_folder_of_images(folder, cache, channels):
    pixels = write_folder(folder, {"dog": 3, "cat": 2, "Ant": 1}, channels=channels)
    test_pixels = write_folder(folder, {"dog": 1, "cat": 1, "Ant": 1}, channels=channels, split="test")
    (folder / "train" / ".hidden").mkdir()
    (folder / "train" / "dog" / "._000.png").write_text("no image", encoding="utf-8")
    (folder / "train" / "README.md").write_text("no class", encoding="utf-8")
    for _ in range(2):  # decoded, then cached
        images = load_images(str(folder), cache_dir=cache)
        assert np.array_equal(images.images, pixels)
        assert images.images.dtype == torch.uint8
        assert images.images.is_contiguous()
        assert images.labels.dtype == torch.int64
        assert images.labels.tolist() == [0, 1, 1, 2, 2, 2]
        assert images.classes == ("Ant", "cat", "dog")
    assert np.array_equal(load_images(str(folder), split="test", cache_dir=cache).images, test_pixels)


def test_folder_order_does_not_come_from_the_file_system(folder, cache, monkeypatch):
    pixels = write_folder(folder, {"a": 4, "b": 4})
    listed, turned = os.scandir, []

    def turned_round(path):
        turned.append(path)
        with listed(path) as entries:
            return contextlib.nullcontext(sorted(entries, key=lambda entry: entry.name, reverse=True))

    monkeypatch.setattr(os, "scandir", turned_round)
    assert np.array_equal(load_images(str(folder), cache_dir=cache).images, pixels)
    assert len(turned) == 3


def test_relative_home_and_environment_paths(folder, tmp_path, monkeypatch):
    pixels = write_folder(folder, {"a": 1, "b": 1})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SETN_LAB_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("images", "~/images", "./images/"):
        assert np.array_equal(load_images(name).images, pixels)
    assert len(list((tmp_path / ".cache" / "setn_lab").iterdir())) == 1, "one folder, one cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load_images("images")
    assert len(list((tmp_path / "xdg" / "setn_lab").iterdir())) == 1
    monkeypatch.setenv("SETN_LAB_CACHE", str(tmp_path / "mine"))
    load_images("images")
    assert len(list((tmp_path / "mine").iterdir())) == 1


def test_modes_become_grey_or_rgb(folder, cache):
    """One folder of each kind of file; what is not plain grey makes all RGB."""
    grey, colour = random_images(1, 6, 1)[0, :, :, 0], random_images(1, 6, 3)[0]
    alpha = np.dstack([colour, np.full((6, 6), 40, np.uint8)])
    palette = Image.fromarray(colour).quantize(8)
    sixteen = np.arange(36, dtype=np.uint16).reshape(6, 6) * 1872  # 0..65520
    for name in ("a", "b", "c"):
        (folder / "train" / name).mkdir(parents=True)
    Image.fromarray(grey).save(folder / "train/a/1.PNG")
    Image.fromarray(grey > 127).save(folder / "train/a/2.Bmp")
    Image.fromarray(sixteen).save(folder / "train/a/3.png")
    Image.fromarray(grey).save(folder / "train/b/1.pgm")
    Image.fromarray(colour).save(folder / "train/c/1.ppm")
    Image.fromarray(alpha).save(folder / "train/c/2.png")
    palette.save(folder / "train/c/3.png", transparency=bytes(range(8)))
    images = load_images(str(folder), cache_dir=cache).images.numpy()
    bilevel, sixteen8 = (grey > 127) * 255, np.rint(sixteen / 65535 * 255)
    paletted = np.array(palette.getpalette()).reshape(-1, 3)[np.asarray(palette)]
    expected = [np.stack([g] * 3, axis=-1) for g in (grey, bilevel, sixteen8, grey)] + [
        colour,
        colour,
        paletted,
    ]
    assert np.array_equal(images, np.stack(expected))
    for path in (folder / "train/c").iterdir():
        path.unlink()
    Image.fromarray(grey).save(folder / "train/c/1.png")
    images = load_images(str(folder), cache_dir=cache).images.numpy()
    assert np.array_equal(images[..., 0], np.stack([grey, bilevel, sixteen8, grey, grey]))
    assert images.shape[-1] == 1


def test_jpeg_images(folder, cache):
    pixels = write_folder(folder, {"a": 2, "b": 2}, size=16)
    for path in folder.glob("train/*/*.png"):
        Image.open(path).resize((16, 16)).save(path.with_suffix(".JPEG"), quality=95)
        path.unlink()
    images = load_images(str(folder), cache_dir=cache).images
    assert images.shape == pixels.shape
    expected = [np.asarray(Image.open(path)) for path in sorted(folder.glob("train/*/*.JPEG"))]
    assert np.array_equal(images, np.stack(expected))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def fill_with_noise(path: Path) -> None:
    path.write_bytes(bytes(random_images(1, 16).tobytes()))


def point_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.png")


def make_float(path: Path) -> None:
    Image.fromarray(np.zeros((6, 6), np.float32)).save(path, format="TIFF")


@pytest.mark.parametrize("spoil", [truncate, fill_with_noise, point_nowhere, make_float])
def test_unreadable_image_is_named(folder, cache, spoil):
    write_folder(folder, {"a": 2, "b": 3})
    spoil(folder / "train" / "b" / "001.png")
    with pytest.raises(DataError, match=r"dataset: .* \S+b.001\.png"):
        load_images(str(folder), cache_dir=cache)
    assert not cache.exists(), "nothing is cached of a folder that does not load"


def test_mixed_sizes_name_two_files_and_both_sizes(folder, cache):
    write_folder(folder, {"a": 2, "b": 2}, size=6)
    Image.fromarray(np.zeros((6, 7), np.uint8)).save(folder / "train" / "b" / "001.png")
    with pytest.raises(DataError, match=r"a.000\.png .*6 x 6.*b.001\.png .*7 x 6"):
        load_images(str(folder), cache_dir=cache)


def test_images_must_be_square(folder, cache):
    write_folder(folder, {"a": 1, "b": 1})
    for name in "ab":
        Image.fromarray(np.zeros((6, 7), np.uint8)).save(folder / "train" / name / "000.png")
    with pytest.raises(DataError, match=r"not square: \S+000\.png is 7 x 6"):
        load_images(str(folder), cache_dir=cache)


def test_folder_layout_errors(folder, cache):
    write_folder(folder, {"a": 1}, split="training")
    with pytest.raises(DataError, match=r"'train'.*training\b"):
        load_images(str(folder), cache_dir=cache)
    with pytest.raises(DataError, match=r"\(a\).*at least 2"):
        load_images(str(folder), split="training", cache_dir=cache)
    (folder / "training" / "b").mkdir()
    (folder / "training" / "b" / "x.txt").write_text("no image", encoding="utf-8")
    (folder / "training" / "b" / ".x.png").write_text("hidden", encoding="utf-8")
    with pytest.raises(DataError, match=r"class folder \S+b has no images"):
        load_images(str(folder), split="training", cache_dir=cache)


@pytest.mark.parametrize(("given", "near"), [("CIFAR10", "cifar10"), ("cifar-100", "cifar100"), ("digit", "digits")])
def test_unknown_dataset_offers_the_nearest(given, near, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"'{given}'.*'digits', 'cifar10', 'cifar100'.* folder") as e:
        load_images(given)
    assert f"did you mean '{near}'?" in str(e.value)


def test_unknown_dataset_without_a_near_name(tmp_path):
    (tmp_path / "cifar.tar.xz").write_bytes(b"")
    with pytest.raises(DataError, match="is a file: unpack it"):
        load_images(str(tmp_path / "cifar.tar.xz"))
    for given in ("", "imagenet-in-the-attic"):
        with pytest.raises(DataError, match="nor a folder of images") as error:
            load_images(given)
        assert "did you mean" not in str(error.value)


# --- the cache of decoded images --------------------------------------------------------------------------


def the_cache_file(cache: Path) -> Path:
    (path,) = cache.iterdir()  # no temporary file is left over either
    assert path.suffix == ".npz"
    return path


@contextlib.contextmanager
def no_decoding():
    """Within it no image can be opened."""

    def fail(*_arguments, **_options):
        raise AssertionError("an image was opened")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "open", fail)
        yield


def test_the_first_load_decodes(folder, cache):
    write_folder(folder, {"a": 2, "b": 2})
    with no_decoding(), pytest.raises(DataError, match="an image was opened"):
        load_images(str(folder), cache_dir=cache)


def test_second_load_does_not_decode(folder, cache):
    pixels = write_folder(folder, {"a": 2, "b": 2})
    load_images(str(folder), cache_dir=cache)
    the_cache_file(cache)
    with no_decoding():
        images = load_images(str(folder), cache_dir=cache)
    assert np.array_equal(images.images, pixels)
    assert images.labels.tolist() == [0, 0, 1, 1]
    images.images.zero_()  # it is the caller's own


def test_a_changed_file_is_decoded_again(folder, cache):
    pixels = write_folder(folder, {"a": 2, "b": 2})
    load_images(str(folder), cache_dir=cache)
    Image.fromarray(255 - pixels[2]).save(folder / "train" / "b" / "000.png")
    images = load_images(str(folder), cache_dir=cache).images.numpy()
    assert np.array_equal(images[2], 255 - pixels[2])
    assert np.array_equal(images[[0, 1, 3]], pixels[[0, 1, 3]])
    (folder / "train" / "b" / "000.png").rename(folder / "train" / "b" / "zzz.png")
    images = load_images(str(folder), cache_dir=cache).images.numpy()
    assert np.array_equal(images[3], 255 - pixels[2])


def spoil_cache(path: Path, kind: str, marker: Path) -> None:
    bomb = np.empty((4, 6, 6, 3), dtype=object)
    bomb[:] = Bomb(marker)
    whole = path.read_bytes()
    good = np.load(path)["images"]
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(marker)))
    elif kind == "pickle in the archive":
        np.savez(path, images=bomb, highest=-1)
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "flipped bit":
        at = whole.index(good[2].tobytes())
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    elif kind == "other name":
        np.savez(path, pictures=good, highest=-1)
    elif kind == "no number":
        np.savez(path, images=good)
    elif kind == "plain array":
        with path.open("wb") as file:
            np.save(file, good)
    elif kind == "dtype":
        np.savez(path, images=good.astype(np.float32), highest=-1)
    elif kind == "count":
        np.savez(path, images=good[:3], highest=-1)
    elif kind == "channels":
        np.savez(path, images=good[..., :2], highest=-1)
    elif kind == "shape":
        np.savez(path, images=good[:, :5], highest=-1)


@pytest.mark.parametrize(
    "kind",
    [
        *("pickle", "pickle in the archive", "truncated", "empty", "flipped bit", "other name"),
        *("no number", "plain array", "dtype", "count", "channels", "shape"),
    ],
)
def test_an_invalid_cache_is_refused_and_replaced(folder, cache, tmp_path, kind):
    pixels = write_folder(folder, {"a": 2, "b": 2})
    marker = tmp_path / "executed"
    load_images(str(folder), cache_dir=cache)
    path = the_cache_file(cache)
    spoil_cache(path, kind, marker)
    with pytest.warns(UserWarning, match=r"is not a valid cache .*decoded again") as caught:
        images = load_images(str(folder), cache_dir=cache)
    assert len(caught) == 1
    assert caught[0].filename == __file__, "the warning points at the call of load"
    assert not marker.exists()
    assert np.array_equal(images.images, pixels)
    assert the_cache_file(cache) == path
    with no_decoding():
        assert np.array_equal(load_images(str(folder), cache_dir=cache).images, pixels)


def test_the_bomb_of_these_tests_is_live(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def test_an_unwritable_cache_only_warns(folder, tmp_path, monkeypatch):
    pixels = write_folder(folder, {"a": 1, "b": 1})
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")  # not by permissions: root may write anywhere
    with pytest.warns(UserWarning, match=r"SETN_LAB_CACHE"):
        images = load_images(str(folder), cache_dir=tmp_path / "file" / "cache")
    assert np.array_equal(images.images, pixels)

    def full_disk(*_args, **_arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.warns(UserWarning, match="No space left"):
        load_images(str(folder), cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir()), "the temporary file is removed"


# --- CIFAR ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "archive"), [("cifar10", "cifar-10-python.tar.gz"), ("cifar100", "cifar-100-python.tar.gz")]
)
@pytest.mark.parametrize("where", ["data_dir", "cache_dir", "home"])
def test_cifar_without_a_network_says_what_to_put_where(dataset, archive, where, tmp_path, monkeypatch):
    def offline(*_args, **_options):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SETN_LAB_CACHE", "~/chosen")
    options = {
        "data_dir": {"data_dir": "~/chosen"},
        "cache_dir": {"cache_dir": tmp_path / "chosen"},
        "home": {},
    }
    with pytest.raises(DataError, match="no network here") as error:
        load_images(dataset, **options[where])
    assert f"put {archive} from https://" in str(error.value)
    assert f" into {tmp_path / 'chosen'}, or into another" in str(error.value)
    assert "a folder of your own images" in str(error.value)


def test_cifar_through_torchvision(tmp_path, monkeypatch):
    pixels = random_images(6, 32)

    class FakeCifar:
        url = "https://example.org/"

        def __init__(self, root, train, download):
            assert (root, download) == (str(tmp_path), True)
            chosen = slice(0, 4) if train else slice(4, 6)
            self.data = pixels.transpose(0, 3, 1, 2).copy().transpose(0, 2, 3, 1)[chosen]  # as torchvision: a view
            self.targets = [2, 0, 1, 2, 1, 0][chosen]
            self.classes = ["plane", "car", "bird"]

    monkeypatch.setattr("torchvision.datasets.CIFAR10", FakeCifar)
    train = load_images("cifar10", data_dir=str(tmp_path))
    test = load_images("cifar10", data_dir=str(tmp_path), split="test")
    assert np.array_equal(train.images, pixels[:4])
    assert np.array_equal(test.images, pixels[4:])
    assert train.images.is_contiguous()
    assert train.labels.tolist() == [2, 0, 1, 2]
    assert test.labels.dtype == torch.int64
    assert train.classes == ("plane", "car", "bird")
