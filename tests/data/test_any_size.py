"""Images of any size in a folder: the square that is seen of each, in memory or decoded as they are taken."""

import itertools
import multiprocessing
import traceback
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from setn_lab.data.files import ImageFiles, load_any_size
from setn_lab.data.folders import DataError
from setn_lab.data.images import ImageSet, load_images
from setn_lab.data.pixels import to_square

SIDE = 12
SHAPES = ((40, 30), (33, 64), (14, 90), (9, 13), (12, 12), (31, 12))  # width and height

# torch warns where there are more workers than cores, which the tests may be confined to
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def smooth(number: int, width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Two classes of six images of all shapes, JPEGs and PNGs; the cache lies beside it."""
    monkeypatch.setenv("SETN_LAB_CACHE", str(tmp_path / "cache"))
    for label in range(2):
        (tmp_path / "images" / "train" / f"{label}").mkdir(parents=True)
        for number, shape in enumerate(SHAPES):
            ending = "png" if number % 2 else "jpg"
            smooth(number + 10 * label, *shape).save(tmp_path / "images" / "train" / f"{label}" / f"{number}.{ending}")
    return tmp_path / "images"


def files_of(folder: Path, workers: int = 0, image_range: int | None = None) -> ImageFiles:
    found = load_any_size(str(folder), SIDE, image_range, 0.0, workers)
    assert isinstance(found, ImageFiles)
    return found


def kept(folder: Path, image_range: int | None = None) -> ImageSet:
    found = load_any_size(str(folder), SIDE, image_range, 1.0, 0)
    assert isinstance(found, ImageSet)
    return found


def filtered(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle square by a triangle of twice the width of a pixel made, in both directions one after the other."""

    def weights(length: int, first: float, scale: float) -> np.ndarray:
        centres = first + (np.arange(side) + 0.5) * scale
        distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1.0)
        triangle = np.clip(1 - distance, 0, None)
        return triangle / triangle.sum(1, keepdims=True)

    height, width, _ = pixels.shape
    square = min(height, width)
    across, down = (weights(length, (length - square) / 2, square / side) for length in (width, height))
    return np.einsum("yh,hwc,xw->yxc", down, pixels.astype(float), across)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_square_is_the_middle_averaged(shape, channels):
    pixels = np.asarray(smooth(1, *shape))[..., :channels]
    square = to_square(pixels, SIDE)
    assert square.shape == (SIDE, SIDE, 3)
    assert np.abs(square - filtered(pixels, SIDE)).max() <= 1.01  # Pillow rounds after each direction


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(folder):
    path = folder / "train" / "0" / "0.jpg"
    smooth(0, 640, 480).save(path, quality=95)
    square = files_of(folder).take(torch.tensor([0])).images[0].numpy().astype(float)
    expected = filtered(np.asarray(Image.open(path)), SIDE)
    assert 0 < np.abs(square - expected).max() < 8
    assert np.abs(square - expected).mean() < 1.5


def test_memory_decides_where_images_are_and_nothing_else(folder):
    files, images = files_of(folder), kept(folder)
    assert (files.classes, files.image_size, files.channels) == (images.classes, images.image_size, images.channels)
    assert len(files) == len(images) == 12
    assert torch.equal(files.labels, images.labels)
    assert torch.equal(files.images, images.images)
    exact = files.size / 2**30
    assert isinstance(load_any_size(str(folder), SIDE, None, exact, 0), ImageSet)
    assert isinstance(load_any_size(str(folder), SIDE, None, exact * 0.99, 0), ImageFiles)


def test_another_side_is_another_entry_of_the_cache(folder, tmp_path):
    for side in (SIDE, 5, SIDE):
        assert load_images(str(folder), resize=side).image_size == side
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_those_of_images_in_memory(folder, workers):
    order = [torch.tensor(indices) for indices in ([3, 1, 4], [11, 5], [9, 2, 6, 0], [3])]
    with closing(files_of(folder, workers).stream(order)) as read:
        for found, expected in zip(read, kept(folder).stream(order), strict=True):
            assert torch.equal(found.images, expected.images)
            assert torch.equal(found.labels, expected.labels)


def test_endless_batches_are_read_ahead_until_they_are_closed(folder):
    before = set(multiprocessing.active_children())
    state = torch.get_rng_state()
    asked = []

    def endless():
        for step in itertools.count():
            asked.append(step)
            yield torch.tensor([step % 12])

    with closing(files_of(folder, 2).stream(endless())) as read:
        assert [next(read).labels.item() for _ in range(4)] == [0, 0, 0, 0]
        assert max(asked) > 3, "the next ones are being decoded"
        assert set(multiprocessing.active_children()) - before
    assert set(multiprocessing.active_children()) <= before
    assert torch.equal(torch.get_rng_state(), state)


def test_grey_cmyk_and_sixteen_bits_among_colours(folder):
    levels = np.linspace(0, 4095, 30 * 20).reshape(20, 30).astype(np.uint16)
    Image.fromarray(levels).save(folder / "train" / "0" / "1.png")
    smooth(2, 50, 40).convert("L").save(folder / "train" / "0" / "2.jpg")
    smooth(3, 40, 50).convert("CMYK").save(folder / "train" / "0" / "3.jpg")
    (folder / "train" / "0" / "3.png").unlink()
    files, images = files_of(folder, image_range=4095), kept(folder, image_range=4095)
    assert torch.equal(files.images, images.images)
    grey = images.images[1:3]
    assert torch.equal(grey, grey[..., :1].expand(-1, -1, -1, 3))
    eight = np.rint(levels / 4095 * 255)[..., None].repeat(3, 2)
    assert np.abs(grey[0].numpy() - filtered(eight, SIDE)).max() <= 1.01
    by_pillow = np.asarray(Image.open(folder / "train" / "0" / "3.jpg").convert("RGB"))
    assert np.abs(images.images[3].numpy() - filtered(by_pillow, SIDE)).max() <= 1.01
    with pytest.warns(UserWarning, match="image_range: the 16-bit images .* reach 4095 of 65535"):
        files_of(folder)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def fill_with_text(path: Path) -> None:
    path.write_bytes(b"no image")


def make_float(path: Path) -> None:
    Image.fromarray(np.zeros((20, 30), np.float32)).save(path, format="TIFF")


@pytest.mark.parametrize("spoil", [truncate, fill_with_text, make_float])
def test_a_bad_file_is_named_wherever_it_is_decoded(folder, spoil):
    path = folder / "train" / "1" / "2.jpg"
    spoil(path)
    with pytest.raises(DataError, match=rf"dataset: the image {path} cannot be read"):
        kept(folder)
    for workers in (0, 2):
        with closing(files_of(folder, workers).stream([torch.tensor([0, 1]), torch.tensor([8])])) as read:
            next(read)
            with pytest.raises(DataError, match=rf"dataset: the image {path} cannot be read") as caught:
                next(read)
        traceback.clear_frames(caught.value.__traceback__)  # torch waits for workers of a loader that is kept


def test_files_that_are_left_out_are_said_in_both_cases(folder):
    (folder / "train" / "0" / "notes.txt").write_text("no image", encoding="utf-8")
    for memory in (0.0, 1.0):
        with pytest.warns(UserWarning, match=r"\.txt 1"):
            load_any_size(str(folder), SIDE, None, memory, 0)


def test_only_a_folder_has_images_of_any_size():
    with pytest.raises(DataError, match="resize: 12 given; digits has images of one size"):
        load_any_size("digits", 12, None, 1.0, 0)
