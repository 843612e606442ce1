"""The cache of decoded images: named by what the files hold, and kept below a limit."""

import os
import threading
import time

import numpy as np
import pytest
from PIL import Image
from references import random_images, write_folder

from setn_lab.data.cache import Cache
from setn_lab.data.folders import DataError
from setn_lab.data.images import load_images


def images_of(seed, count=4):
    return random_images(count, 6, seed=seed)


def test_a_replaced_file_of_the_same_size_and_time_is_decoded(tmp_path):
    folder, cache = tmp_path / "images", tmp_path / "cache"
    pixels = write_folder(folder, {"a": 2, "b": 2}, suffix="bmp")
    load_images(str(folder), cache_dir=cache)
    changed = folder / "train" / "b" / "000.bmp"
    before = changed.stat()
    Image.fromarray(255 - pixels[2]).save(changed)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (changed.stat().st_size, changed.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    images = load_images(str(folder), cache_dir=cache).images.numpy()
    assert np.array_equal(images[2], 255 - pixels[2])
    assert np.array_equal(images[[0, 1, 3]], pixels[[0, 1, 3]])


def test_a_folder_that_was_moved_and_touched_finds_its_cache(tmp_path):
    write_folder(tmp_path / "images", {"a": 2, "b": 2})
    first = load_images(str(tmp_path / "images"), cache_dir=tmp_path / "cache")
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").glob("*/*/*"):
        path.touch()
    again = load_images(str(tmp_path / "elsewhere"), cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert again.digest == first.digest


def key(number):
    return f"{number:032x}"


def kept(cache):
    return {int(path.stem, 16) for path in cache.folder.iterdir()}


def used_at(cache, number, seconds):
    os.utime(cache.folder / f"{key(number)}.npz", (seconds, seconds))


def test_what_was_not_used_for_longest_makes_room(tmp_path):
    Cache(tmp_path, 1e9).write(key(0), images_of(0), -1)
    size = (tmp_path / f"{key(0)}.npz").stat().st_size
    cache = Cache(tmp_path, 3.5 * size)
    for number in (1, 2):
        cache.write(key(number), images_of(number), 7)
    for number in range(3):
        used_at(cache, number, 1000 + number)
    assert cache.read(key(0), 4) is not None  # and now it is the one used last
    cache.write(key(3), images_of(3), -1)
    assert kept(cache) == {0, 2, 3}
    images, highest = cache.read(key(2), 4)
    assert np.array_equal(images, images_of(2))
    assert highest == 7
    Cache(tmp_path, 0).write(key(4), images_of(4), -1)
    assert kept(cache) == {4}, "what was just written stays, however small the limit"


def test_other_files_in_the_folder_are_never_removed(tmp_path):
    for name in ("cifar-10-python.tar.gz", "mine.npz", f"{key(1)}.txt", "other.tmp"):
        (tmp_path / name).write_bytes(b"x" * 1000)
    abandoned, unfinished = tmp_path / "decoded-abc.tmp", tmp_path / "decoded-def.tmp"
    for path in (abandoned, unfinished):
        path.write_bytes(b"x")
    os.utime(abandoned, (1000, 1000))
    Cache(tmp_path, 0).write(key(0), images_of(0), -1)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        "cifar-10-python.tar.gz",
        "mine.npz",
        f"{key(1)}.txt",
        "other.tmp",
        unfinished.name,
        f"{key(0)}.npz",
    }


def test_a_file_that_another_process_removed_is_decoded_again_without_a_word(tmp_path):
    cache = Cache(tmp_path / "cache", 1e9)
    assert cache.read(key(0), 4) is None
    cache.write(key(0), images_of(0), -1)
    (cache.folder / f"{key(0)}.npz").unlink()
    assert cache.read(key(0), 4) is None


def test_several_writers_and_readers_do_each_other_no_harm(tmp_path):
    """Whatever one reads is whole, while others write and make room."""
    cache, wrong, end = Cache(tmp_path, 2000), [], time.monotonic() + 1

    def work(seed):
        rng = np.random.default_rng(seed)
        while time.monotonic() < end:
            number = int(rng.integers(4))
            cache.write(key(number), images_of(number), number)
            number = int(rng.integers(4))
            found = cache.read(key(number), 4)
            if found is not None and not (np.array_equal(found[0], images_of(number)) and found[1] == number):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(path.suffix == ".npz" for path in tmp_path.iterdir())


def test_the_limit_is_that_of_the_environment(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    for seed in range(2):
        write_folder(tmp_path / f"{seed}", {"a": 2, "b": 2}, seed=seed)
    for limit, left in (("", 2), ("1.5", 2), ("inf", 2), ("0", 1)):
        for path in cache.glob("*"):
            path.unlink()
        monkeypatch.setenv("SETN_LAB_CACHE_LIMIT", limit)
        for seed in range(2):
            load_images(str(tmp_path / f"{seed}"), cache_dir=cache)
        assert len(list(cache.iterdir())) == left
    for limit in ("-1", "nan", "four"):
        monkeypatch.setenv("SETN_LAB_CACHE_LIMIT", limit)
        with pytest.raises(DataError, match=rf"SETN_LAB_CACHE_LIMIT: '{limit}' given\. Set it to a number of GiB"):
            load_images(str(tmp_path / "0"), cache_dir=cache)
