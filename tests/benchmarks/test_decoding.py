"""The benchmark of decoding measures what it says."""

import decoding
import pytest
from PIL import Image

from setn_lab.search.config import SearchConfig


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_rates_of_a_tiny_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SETN_LAB_CACHE", str(tmp_path / "cache"))
    decoding.write_images(tmp_path, 16, (20, 40))
    shapes = []
    for path in tmp_path.glob("train/*/*.jpg"):
        with Image.open(path) as image:
            shapes.append(image.size)
    assert len(shapes) == 16
    assert len(set(shapes)) > 8
    assert all(20 <= side <= 40 for shape in shapes for side in shape)
    sizes = {"resize": 20, "image_size": 16, "crop_padding": 0, "batch_size": 4, "stem": "imagenet"}
    rates = decoding.measure(SearchConfig(dataset=str(tmp_path), channels=2, repeats=1, nodes=1, **sizes), 2)
    assert set(rates.decoded) == set(rates.trained) == set(decoding.WORKERS)
    assert all(rate > 0 for rate in (*rates.decoded.values(), *rates.trained.values(), rates.step))
    assert f"{rates.step:.1f}" in rates.text
