"""What a set of images is, and what differs between two of them."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from references import random_images, write_folder

from setn_lab.compute.distributed import Shard
from setn_lab.data.contents import listed_contents
from setn_lab.data.images import ImageSet, load_images
from setn_lab.data.sources import Decoded


def image_set(count=10, channels=3, size=8, classes=("a", "b")):
    pixels = torch.from_numpy(random_images(count, size, channels))
    return ImageSet(pixels, torch.arange(count) % len(classes), classes)


def test_the_digest_is_of_pixels_labels_and_classes_alone():
    images = image_set()
    assert len(images.digest) == 32
    assert int(images.digest, 16) >= 0
    assert images.digest == image_set().digest == replace(images).digest
    strided = images.images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert replace(images, images=strided).digest == images.digest, "how the memory is laid out plays no part"
    changed = images.images.clone()
    changed[9, 7, 7, 2] ^= 1
    others = [
        replace(images, images=changed),
        replace(images, labels=1 - images.labels),
        replace(images, classes=("a", "c")),
        images.take(torch.arange(9)),
        images.take(torch.arange(9, -1, -1)),
        replace(images, images=images.images.reshape(10, 4, 16, 3)),
    ]
    assert len({one.digest for one in [images, *others]}) == 1 + len(others)


def test_the_digest_is_computed_once():
    images = image_set()
    before = images.digest
    images.images.zero_()
    assert images.digest == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_digest_is_that_of_the_host():
    assert image_set().to("cuda").digest == image_set().digest


def test_the_digest_of_a_folder_does_not_depend_on_where_it_lies(tmp_path, monkeypatch):
    write_folder(tmp_path / "images", {"a": 2, "b": 3})
    first = load_images(str(tmp_path / "images"), cache_dir=tmp_path / "cache").digest
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    for spelling in ("copy", "./images/"):
        assert load_images(spelling, cache_dir=tmp_path / "other").digest == first


def test_facts_are_json():
    facts = image_set(5, 1, classes=("a", "b", "c")).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts.pop("digest") == image_set(5, 1, classes=("a", "b", "c")).digest
    assert facts == {"images": 5, "classes": ["a", "b", "c"], "counts": [2, 2, 1], "side": 8, "channels": 1}


# --- images that are decoded as they are needed -----------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "images", {"a": 2, "b": 3}, 32)
    write_folder(tmp_path / "images", {"a": 1, "b": 1}, 32, split="val")
    return tmp_path / "images"


def facts_of(folder):
    facts = listed_contents(str(folder))
    assert facts.pop("where") == str(folder)
    return facts


def test_facts_of_files_do_not_depend_on_place_time_or_the_name_of_val(folder, tmp_path):
    facts = facts_of(folder)
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["images"], facts["classes"]) == (7, {"a": 3, "b": 4})
    shutil.copytree(folder, tmp_path / "copy")
    for path in (tmp_path / "copy").glob("*/*/*"):
        os.utime(path, (1000, 1000))
    (tmp_path / "copy" / "val").rename(tmp_path / "copy" / "test")
    assert facts_of(tmp_path / "copy") == facts


def test_facts_of_files_tell_names_and_sizes(folder):
    before = facts_of(folder)
    path = folder / "train" / "b" / "000.png"
    path.rename(path.with_name("zzz.png"))
    renamed = facts_of(folder)
    assert before["digest"] != renamed["digest"]
    assert before["classes"] == renamed["classes"]
    (folder / "train" / "b" / "zzz.png").write_bytes(b"short")
    assert facts_of(folder)["digest"] != renamed["digest"]
    (folder / "train" / "b" / "zzz.png").unlink()
    assert facts_of(folder)["classes"]["b"] == before["classes"]["b"] - 1
    (folder / "train" / "b" / "zzz.png").symlink_to("nowhere")
    assert facts_of(folder)["classes"] == before["classes"], "one that cannot be read is one of the files"
    source = Decoded(folder, 32, 2, 2, 0, "skip")
    assert len(list(source.train(0, range(2), Shard(0, 1)))) == 2
