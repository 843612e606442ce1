"""What a search starts from."""

import numpy as np
import pytest
import torch

from setn_lab.data.batches import Normalization
from setn_lab.data.folders import DataError
from setn_lab.data.images import ImageSet, downsample
from setn_lab.search.setup import prepare_search


def images(side, channels=3, count=3):
    pixels = np.random.default_rng(side).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return ImageSet(torch.from_numpy(pixels), torch.arange(count) % 2, ("a", "b"))


@pytest.mark.parametrize(("before", "after"), [(8, 4), (9, 3), (8, 3), (5, 1), (6, 6)])
def test_a_smaller_image_is_the_mean_of_the_pixels_that_each_new_one_covers(before, after, monkeypatch):
    monkeypatch.setattr("setn_lab.data.images.DOWNSAMPLED_TOGETHER", 2)
    given = images(before)
    small = downsample(given, after)
    assert (small.image_size, small.images.dtype, small.classes) == (after, torch.uint8, given.classes)
    assert small.images.is_contiguous()
    assert torch.equal(small.labels, given.labels)
    for image in range(len(given)):
        for row, column, channel in np.ndindex(after, after, 3):
            (top, bottom), (left, right) = (
                (at * before // after, -(-(at + 1) * before // after)) for at in (row, column)
            )
            covered = given.images[image, top:bottom, left:right, channel].double().mean()
            assert abs(float(small.images[image, row, column, channel]) - float(covered)) <= 0.5 + 1e-4


def test_images_are_left_alone_without_a_size():
    given = images(8)
    assert downsample(given, None) is given


def test_images_are_not_made_larger():
    with pytest.raises(DataError, match=r"image_size: 9 .*8 pixels"):
        downsample(images(8), 9)


def test_a_search_works_on_the_smaller_images(tmp_path, tiny_config):
    whole, small = (prepare_search(tiny_config(tmp_path / "run", image_size=side)) for side in (None, 4))
    assert (whole.train.image_size, small.train.image_size, small.valid.image_size) == (8, 4, 4)
    assert torch.equal(small.train.images, downsample(whole.train, 4).images)
    assert torch.equal(small.normalization.mean, Normalization.of(small.train).mean)
