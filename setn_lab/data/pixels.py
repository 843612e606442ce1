"""The pixels of one image: which files are read, and what becomes of their modes, levels and orientations."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

GREY_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
GREY = ("1", "L", *GREY_16_BIT)  # Pillow's modes; all others become RGB
NO_LEVELS = ("I", "F")  # 32-bit: what is white is not stated in the file, so there is no right scale
WHITE = 65535  # of 16 bits, where no other value is given
NO_16_BITS = -1
# What Pillow tells from its first bytes alone and does not decode, or only where another program is installed.
NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
# By EXIF's orientation; any other value is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@functools.cache
def extensions() -> frozenset[str]:
    """The extensions of the files that Pillow reads here, in small letters, such as ".png"."""
    known = Image.registered_extensions().items()
    return frozenset(extension for extension, kind in known if kind in Image.OPEN and kind not in NOT_DECODED)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image of a file, as Image.open has it, to be read in here.

    By an open file, as Pillow maps one that it opens by its name into memory, which garbles a grey TIFF to be turned.
    """
    with path.open("rb") as file, Image.open(file) as image:
        yield image


def to_pixels(image: Image.Image, image_range: int | None = None) -> np.ndarray:
    """A Pillow image, upright, as uint8 [h, w, 1], if it is grey, or [h, w, 3]; of an animation the first frame.

    image_range: the value that is white in a grey image of 16 bits, above which all is white; None: 65535.
    Raises ValueError for 32-bit pixels, and for 16-bit colours where an image_range is given.
    """
    return measured_pixels(image, image_range)[0]


def measured_pixels(image: Image.Image, image_range: int | None = None) -> tuple[np.ndarray, int]:
    """What `to_pixels` gives, and the highest value of an image of 16 bits; NO_16_BITS for all others."""
    deep_colour = has_deep_colour(image)  # which is no longer seen when it is loaded
    if deep_colour and image_range is not None:
        raise ValueError(
            f"16 bits a colour, of which Pillow reads the upper 8, so that image_range {image_range} is lost"
        )
    image = _upright(image)
    if image.mode in NO_LEVELS:
        raise ValueError(f"32-bit pixels, mode {image.mode!r}")
    if image.mode in GREY_16_BIT:  # Pillow would clip at 255
        levels, white = np.asarray(image).astype(np.int64), image_range or WHITE
        return ((np.minimum(levels, white) * 510 + white) // (2 * white)).astype(np.uint8)[..., None], int(levels.max())
    pixels = _bytes_of(image)
    return pixels, 256 * int(pixels.max()) + 255 if deep_colour else NO_16_BITS


def to_square(pixels: np.ndarray, side: int) -> np.ndarray:
    """The largest square in the middle of uint8 [h, w, 1] or [h, w, 3], as colours [side, side, 3].

    It is made smaller or larger by Pillow's bilinear filter, which averages over what a pixel stands for.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    square = np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR))
    return np.repeat(square[..., None], 3, 2) if square.ndim == 2 else square


def has_deep_colour(image: Image.Image) -> bool:
    """Whether an image that was opened, and not loaded yet, has colours of 16 bits."""
    tiles = getattr(image, "tile", ())
    return image.mode not in GREY_16_BIT and any(";16" in str(tile[3]) for tile in tiles)


def _bytes_of(image: Image.Image) -> np.ndarray:
    """An image of 8 bits as uint8 [h, w, 1] or [h, w, 3]."""
    if image.mode in GREY:
        return np.asarray(image.convert("L"))[..., None]
    if "transparency" in image.info:  # straight to RGB, Pillow warns about some palettes
        return np.asarray(image.convert("RGBA"))[..., :3]
    return np.asarray(image.convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF says that it is to be looked at.

    ImageOps.exif_transpose also writes the EXIF anew, which fails on images that are sound but for a note in it.
    """
    image.load()  # first: Pillow turns a TIFF as it loads it, and then forgets its orientation
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # broken EXIF raises nearly anything, and says nothing of the pixels
        return image
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image
