"""Which images a folder has, and what is said of the rest."""

import os
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image
from references import random_images, write_folder

from setn_lab.compute.distributed import Shard
from setn_lab.data.folders import DataError, held_out, list_images
from setn_lab.data.images import load_images, resolve_dataset
from setn_lab.data.sources import Decoded


@pytest.fixture
def nested(tmp_path):
    """Two classes whose images lie in folders of their own, of several kinds; the pixels in the order of the paths."""
    names = ["a/0.png", "a/deep/er/1.gif", "a/deep/2.jfif", "a/z.BMP", "b/.5.png", "b/3.webp", "b/x.y/4.tiff"]
    pixels = random_images(len(names), 6, 1)[..., 0]
    for name, image in zip(names, pixels, strict=True):
        path = tmp_path / "images" / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"format": "PNG"} if name.endswith("jfif") else {"lossless": True} if name.endswith("webp") else {}
        Image.fromarray(image).save(path, **options)
    hidden = tmp_path / "images" / "train" / "a" / ".thumbnails"
    hidden.mkdir()
    shutil.copy(tmp_path / "images" / "train" / "a" / "0.png", hidden)
    order = [0, 2, 1, 3, 5, 6]  # "2.jfif" before "er"
    return tmp_path / "images", [names[place] for place in order], pixels[order]


def test_images_below_a_class_and_of_all_kinds_are_taken(nested, tmp_path):
    folder, names, pixels = nested
    listing = list_images(folder, "train")
    assert [path.relative_to(folder / "train").as_posix() for path, _ in listing.files] == names
    assert [label for _, label in listing.files] == [0, 0, 0, 0, 1, 1]
    assert (listing.classes, listing.left_out) == (("a", "b"), "")
    images = load_images(str(folder), cache_dir=tmp_path / "cache")
    assert np.array_equal(images.images[..., 0], pixels)
    shutil.copytree(folder / "train", folder / "val")
    source = Decoded(folder, 32, 2, 6, 0, "fail")
    assert [path for path, _ in source.training.files] == [path for path, _ in listing.files]
    assert len(next(source.test(Shard(0, 1))).labels) == 6


def test_files_of_other_kinds_are_counted_once(nested, tmp_path):
    folder, _, _ = nested
    for name in ("a/notes.txt", "a/deep/more.TXT", "b/film.mpg", "b/nothing", "b/.hidden.txt"):
        (folder / "train" / name).write_text("no image", encoding="utf-8")
    shutil.copy(folder / "train" / "a" / "0.png", folder / "train" / "beside.png")
    (folder / "train" / "README.md").write_text("no class", encoding="utf-8")
    text = (
        f"dataset: of {folder / 'train'}, 4 files of other kinds were left out: .txt 2, .mpg 1, without extension 1; "
        "1 images were left out that lie beside the class folders, in none of them."
    )
    for _ in range(2):  # decoded, then cached
        with pytest.warns(UserWarning, match="left out") as caught:
            load_images(str(folder), cache_dir=tmp_path / "cache")
        assert [str(one.message) for one in caught] == [text]
        assert caught[0].filename == __file__, "the warning points at the call"
    write_folder(folder, {"a": 1, "b": 1}, split="val")
    with pytest.warns(UserWarning, match="left out") as caught:
        Decoded(folder, 32, 2, 2, 0, "fail")
    assert [str(one.message) for one in caught] == [text]
    assert caught[0].filename == __file__


def test_links_to_folders_are_followed_unless_they_lead_back(tmp_path):
    write_folder(tmp_path / "elsewhere", {"c": 2}, split="x")
    write_folder(tmp_path / "images", {"a": 1, "b": 1})
    (tmp_path / "images" / "train" / "a" / "more").symlink_to(tmp_path / "elsewhere" / "x" / "c")
    assert len(list_images(tmp_path / "images", "train").files) == 4
    (tmp_path / "images" / "train" / "b" / "back").symlink_to(tmp_path / "images" / "train")
    with pytest.raises(DataError, match=r"b.back.*link to a folder that it lies in|b.back.a.*"):
        list_images(tmp_path / "images", "train")


def test_a_link_in_a_circle_is_an_image_that_cannot_be_read(tmp_path):
    write_folder(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "train" / "b" / "1.png").symlink_to("1.png")
    with pytest.raises(DataError, match=r"the image \S+b.1\.png cannot be read"):
        load_images(str(tmp_path), cache_dir=tmp_path / "cache")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    write_folder(tmp_path, {"a": 1, "b": 1})
    listed = os.scandir

    def closed(path):
        if os.path.basename(path) == "b":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match=r"dataset: \S+b cannot be read \(.*Permission denied"):
        load_images(str(tmp_path), cache_dir=tmp_path / "cache")


# --- what a folder of test images is called ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_the_folder_of_test_images_may_have_other_names(tmp_path, name):
    (tmp_path / "train").mkdir()
    assert held_out(tmp_path, "test") == "test", "an error will name it"
    (tmp_path / name).mkdir()
    assert held_out(tmp_path, "test") == held_out(tmp_path, "val") == name
    (tmp_path / "test").mkdir(exist_ok=True)
    (tmp_path / "val").mkdir(exist_ok=True)
    assert (held_out(tmp_path, "test"), held_out(tmp_path, "val")) == ("test", "val")


def test_decoded_images_are_tested_on_what_there_is(tmp_path):
    write_folder(tmp_path, {"a": 2, "b": 2}, 32)
    write_folder(tmp_path, {"a": 1, "b": 1}, 32, split="test")
    source = Decoded(tmp_path, 32, 2, 2, 0, "fail")
    assert source.test_split == "test"
    assert source.name("test", 1) == str(tmp_path / "test" / "b" / "000.png")
    shutil.rmtree(tmp_path / "test" / "b")
    write_folder(tmp_path, {"c": 1}, 32, split="test")
    with pytest.raises(DataError, match=r"train and \S+/test differ in their classes: \['b', 'c'\]"):
        Decoded(tmp_path, 32, 2, 2, 0, "fail")


# --- one folder, one name ---------------------------------------------------------------------------------


def test_spellings_of_a_folder_come_to_one_path(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to("images")
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spelling in ("images", "./images/", "~/images", str(tmp_path / "images"), "link", "images/../link"):
        assert resolve_dataset(spelling) == (tmp_path / "images").resolve()
    assert [resolve_dataset(name) for name in ("digits", "cifar10", "cifar100")] == ["digits", "cifar10", "cifar100"]
    assert resolve_dataset("./digits") == (tmp_path / "digits").resolve()
    with pytest.raises(DataError, match="'picture' given; it is neither"):
        resolve_dataset("picture")


def test_a_clean_folder_says_nothing(tmp_path):
    write_folder(tmp_path, {"a": 1, "b": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_images(str(tmp_path), cache_dir=tmp_path / "cache")
