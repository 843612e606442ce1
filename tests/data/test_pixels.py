"""The pixels of one image: kinds of files, orientations, and what is white in 16 bits."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from references import random_images, write_folder

from setn_lab.compute.distributed import Shard
from setn_lab.data.folders import DataError
from setn_lab.data.images import load_images
from setn_lab.data.pixels import extensions, has_deep_colour, measured_pixels, opened, to_pixels
from setn_lab.data.sources import Decoded

ORIENTATION = 0x0112


def camera(side=6, highest=4095):
    """Grey levels of 12 bits, in 16: all of the range, (side, side)."""
    return np.linspace(0, highest, side * side).astype(np.uint16).reshape(side, side)


def save_levels(folder, levels, splits=("train",), name="1.png"):
    """The same 16-bit image in two classes of each split."""
    for split in splits:
        for label in "ab":
            path = folder / split / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels).save(path)


def test_extensions_are_those_that_pillow_decodes():
    assert {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".pgm"} <= extensions()
    assert not {".pdf", ".mpg", ".eps", ".wmf", ".h5", ".txt", ""} & extensions()


# --- orientation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_are_turned_as_exif_says(tmp_path, orientation, suffix, mode):
    image = Image.fromarray(random_images(1, 8)[0][:, :5]).convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"1.{suffix}"
    image.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with opened(path) as image, path.open("rb") as file, Image.open(file) as again:
        upright = ImageOps.exif_transpose(again)
        expected = np.asarray(upright.convert(mode))
        given = to_pixels(image)
    assert expected.shape[:2] == ((5, 8) if orientation > 4 else (8, 5))
    assert np.array_equal(given if mode == "RGB" else np.repeat(given, expected.ndim, 2)[..., 0], expected)


def test_sixteen_bits_are_turned_and_the_given_image_is_left_as_it_is(tmp_path):
    levels = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(levels).save(tmp_path / "1.png", exif=exif)
    with Image.open(tmp_path / "1.png") as image:
        for _ in range(2):
            given = to_pixels(image)[..., 0]
            assert np.array_equal(given, np.rint(np.rot90(levels, -1) / 257).astype(np.uint8))


def test_broken_exif_leaves_the_pixels(tmp_path):
    pixels = random_images(1, 8)[0]
    Image.fromarray(pixels).save(tmp_path / "1.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")
    with Image.open(tmp_path / "1.png") as image:
        assert np.array_equal(to_pixels(image), pixels)


def test_folders_of_both_kinds_are_turned(tmp_path):
    pixels = write_folder(tmp_path, {"a": 2, "b": 2}, 32)
    write_folder(tmp_path, {"a": 2, "b": 2}, 32, split="val")
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    straight = next(Decoded(tmp_path, 32, 4, 4, 0, "fail").test(Shard(0, 1))).images
    for path in tmp_path.glob("*/*/*.png"):
        with Image.open(path) as image:
            image.load()
        image.save(path, exif=exif)
    turned = load_images(str(tmp_path), cache_dir=tmp_path / "cache").images.numpy()
    assert np.array_equal(turned, np.rot90(pixels, 1, (1, 2)))
    shown = next(Decoded(tmp_path, 32, 4, 4, 0, "fail").test(Shard(0, 1))).images
    np.testing.assert_allclose(shown, np.rot90(straight, 1, (2, 3)), atol=0.02)


# --- animations -------------------------------------------------------------------------------------------


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.fromarray(pixels) for pixels in random_images(2, 6, 1, seed=1)[..., 0]]
    frames[0].save(tmp_path / "1.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "1.gif") as image:
        assert image.n_frames == 2
        assert np.array_equal(to_pixels(image)[..., 0], np.asarray(frames[0]))


# --- what is white in 16 bits -----------------------------------------------------------------------------


@pytest.mark.parametrize("white", [None, 1, 255, 1000, 4095, 65535])
def test_levels_are_scaled_to_the_range_rounded_and_clipped(white):
    levels = np.random.default_rng(0).integers(0, 65536, (40, 40), dtype=np.uint16)
    levels[0, :4] = 0, 65535, min(white or 65535, 65535), 1
    expected = np.minimum(np.floor(levels.astype(np.float64) * 255 / (white or 65535) + 0.5), 255)
    pixels, highest = measured_pixels(Image.fromarray(levels), white)
    assert np.array_equal(pixels[..., 0], expected)
    assert pixels.dtype == np.uint8
    assert highest == 65535


def test_a_camera_of_12_bits_keeps_its_levels(tmp_path):
    save_levels(tmp_path, camera(20))
    with pytest.warns(
        UserWarning, match=r"image_range: the 16-bit images of \S+train reach 4095 of 65535 at most"
    ) as w:
        lost = load_images(str(tmp_path), cache_dir=tmp_path / "cache").images
    assert (len(w), w[0].filename) == (1, __file__)
    assert len(lost.unique()) == 17
    for _ in range(2):  # decoded, then cached
        kept = load_images(str(tmp_path), cache_dir=tmp_path / "cache", image_range=4095).images
        assert len(kept.unique()) == 256
    with pytest.warns(UserWarning, match="reach 4095 of 65535"):  # also from the cache
        load_images(str(tmp_path), cache_dir=tmp_path / "cache")


def test_a_range_that_images_exceed_is_said(tmp_path):
    save_levels(tmp_path, camera())
    with pytest.warns(UserWarning, match=r"image_range: 1023 given; images of \S+train reach 4095"):
        pixels = load_images(str(tmp_path), cache_dir=tmp_path / "cache", image_range=1023).images
    assert (pixels == 255).float().mean() > 0.7


def test_a_range_without_16_bits_is_said_or_refused(tmp_path):
    write_folder(tmp_path, {"a": 1, "b": 1})
    with pytest.warns(UserWarning, match=r"image_range: 4095 given, but \S+train has no grey image of 16 bits"):
        load_images(str(tmp_path), cache_dir=tmp_path / "cache", image_range=4095)
    with pytest.raises(DataError, match=r"image_range: 4095 given; digits has images of 8 bits\. Leave it None"):
        load_images("digits", image_range=4095)


def deep_colour(path, highest):
    """A PNG of three channels of 16 bits, which Pillow does not write."""
    levels = np.full((6, 6, 3), highest, ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)

    def part(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    )


def test_colours_of_16_bits_are_read_by_their_upper_byte_and_have_no_range(tmp_path):
    for label in "ab":
        deep_colour(tmp_path / "train" / label / "1.png", 4095)
    with Image.open(tmp_path / "train" / "a" / "1.png") as image:
        assert has_deep_colour(image)
        assert measured_pixels(image)[1] == 4095
    with pytest.warns(UserWarning, match="reach 4095 of 65535 at most.*colours.* have to be saved with 8 bits"):
        load_images(str(tmp_path), cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match=r"a.1\.png .*image_range 4095 is lost"):
        load_images(str(tmp_path), cache_dir=tmp_path / "cache", image_range=4095)


def test_decoded_images_have_the_range_too(tmp_path):
    save_levels(tmp_path, camera(40), ("train", "val"))
    with pytest.warns(UserWarning, match=r"image_range: the 16-bit images of \S+train reach 4095") as caught:
        dark = next(Decoded(tmp_path, 32, 2, 2, 0, "fail").test(Shard(0, 1))).images
    assert (len(caught), caught[0].filename) == (1, __file__)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bright = next(Decoded(tmp_path, 32, 2, 2, 0, "fail", image_range=4095).test(Shard(0, 1))).images
    assert float(bright.max() - bright.min()) > 5 * float(dark.max() - dark.min())
    with pytest.warns(UserWarning, match="image_range: 1023 given; images of .* reach 4095"):
        Decoded(tmp_path, 32, 2, 2, 0, "fail", image_range=1023)
