"""Exported networks: what is read is what was written, and nothing else is taken for one."""

import copy
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from references import Bomb, random_images
from torch import nn

from setn_lab.network.discrete import CifarNetwork, ImageNetNetwork
from setn_lab.network.export import Trained, TrainedError, load
from setn_lab.space.genotype import Genotype

NODE = (("sep_conv_3x3", 0), ("skip_connect", 1))
GENOTYPE = Genotype((NODE, (("max_pool_3x3", 2), ("conv_3x1_1x3", 0))), (3, 2), (NODE,), (2,))
CLASSES = ("cat", "dog", "Ünnamed", "ship")
SIZES = {"cifar": 8, "imagenet": 32}
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def trained(kind="cifar", image_channels=3, auxiliary=False, seed=0):
    """A network that has seen a few batches, so that its averages and norms are not those of a new one."""
    size, rng = SIZES[kind], np.random.default_rng(seed)
    network = {"cifar": CifarNetwork, "imagenet": ImageNetNetwork}[kind](
        GENOTYPE, 3, 1, len(CLASSES), auxiliary, image_channels, rng
    )
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, part.num_features)))
            part.bias.data.copy_(torch.from_numpy(rng.normal(size=part.num_features)))
    head, network.auxiliary = network.auxiliary, None  # which does not fit such small images
    with torch.no_grad():
        for _ in range(3):
            network(torch.from_numpy(rng.normal(size=(4, image_channels, size, size))).float())
    network.auxiliary = head
    mean, std = MEAN[:image_channels], STD[:image_channels]
    return Trained(network.eval(), kind, 3, 1, CLASSES, size, mean, std)


def image_of(channels, size, seed=3):
    """(channels, size, size) bytes."""
    return torch.from_numpy(random_images(1, size, channels, seed)[0]).permute(2, 0, 1)


def to_pillow(values):
    array = values.permute(1, 2, 0).numpy()
    return Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "network-0.safetensors"


# --- writing and reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("image_channels", [1, 3])
@pytest.mark.parametrize("kind", SIZES)
def test_round_trip(kind, image_channels, path):
    given = trained(kind, image_channels)
    path.write_bytes(given.to_bytes())
    images = torch.from_numpy(np.random.default_rng(5).normal(size=(5, image_channels, *[SIZES[kind]] * 2))).float()
    with torch.no_grad():
        expected = given.network(images).logits
    state = torch.get_rng_state()
    for name in (path, str(path)):
        read = load(name)
        for field in ("kind", "channels", "repeats", "classes", "image_size", "mean", "std"):
            assert getattr(read, field) == getattr(given, field), field
            assert type(getattr(read, field)) is type(getattr(given, field))
        assert read.network.genotype.to_json() == given.network.genotype.to_json()
        assert read.network.image_channels == image_channels
        assert not read.network.training
        with torch.no_grad():
            assert torch.equal(read.network(images).logits, expected)
        image = image_of(image_channels, SIZES[kind])
        assert torch.equal(read.probabilities(image), given.probabilities(image))
        state_dict = read.network.state_dict()
        assert list(state_dict) == list(given.network.state_dict())
        for tensor, value in given.network.state_dict().items():
            assert torch.equal(state_dict[tensor], value)
            assert state_dict[tensor].dtype == value.dtype
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", SIZES)
def test_the_auxiliary_head_is_left_out(kind, path):
    given = trained(kind, auxiliary=True)
    path.write_bytes(given.to_bytes())
    names = set(safetensors.torch.load_file(path))
    every = {name: value.clone() for name, value in given.network.state_dict().items()}
    assert any(name.startswith("auxiliary.") for name in every)
    assert names == {name for name in every if not name.startswith("auxiliary.")}
    assert set(given.network.state_dict()) == set(every), "the given network keeps its own"
    read = load(path)
    assert read.network.auxiliary is None
    images = torch.from_numpy(np.random.default_rng(5).normal(size=(2, 3, *[SIZES[kind]] * 2))).float()
    with torch.no_grad():
        assert torch.equal(read.network(images).logits, given.network(images).logits)


def test_the_same_network_gives_the_same_bytes(path):
    given = trained(auxiliary=True)
    content = given.to_bytes()
    assert given.to_bytes() == content
    assert trained(auxiliary=True).to_bytes() == content
    path.write_bytes(content)
    assert load(path).to_bytes() == content
    assert trained(auxiliary=True, seed=1).to_bytes() != content


def test_training_goes_on_after_an_export():
    given = trained()
    before = copy.deepcopy(given.network)
    given.to_bytes()
    given.probabilities(image_of(3, 8))
    for (name, value), other in zip(given.network.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    assert all(parameter.requires_grad for parameter in given.network.parameters())


# --- classifying ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_channels", [1, 3])
@pytest.mark.parametrize("kind", SIZES)
def test_classify(kind, image_channels):
    given = trained(kind, image_channels)
    seen = set()
    for seed in range(6):
        image = image_of(image_channels, SIZES[kind], seed)
        normalised = (image.double().numpy() / 255 - np.reshape(given.mean, (-1, 1, 1))) / np.reshape(
            given.std, (-1, 1, 1)
        )
        with torch.no_grad():
            logits = copy.deepcopy(given.network).double()(torch.from_numpy(normalised)[None]).logits[0].numpy()
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        for one in (image, to_pillow(image)):
            probabilities = given.probabilities(one)
            assert probabilities.shape == (len(CLASSES),)
            assert not probabilities.requires_grad
            np.testing.assert_allclose(probabilities.numpy(), expected, rtol=1e-3, atol=1e-5)
            assert given.classify(one) == CLASSES[int(expected.argmax())]
        seen.add(given.classify(image))
    assert seen <= set(CLASSES)


def test_pillow_images_of_other_modes():
    colour, grey = trained(), trained(image_channels=1)
    image = to_pillow(image_of(3, 8))
    for mode in ("RGBA", "L", "P", "CMYK"):
        other = image.convert(mode)
        assert torch.equal(colour.probabilities(other), colour.probabilities(other.convert("RGB")))
        assert torch.equal(grey.probabilities(other), grey.probabilities(other.convert("L")))


@pytest.mark.parametrize(
    "image",
    [
        image_of(3, 9),
        image_of(3, 7),
        image_of(3, 8)[:, :, :7],
        image_of(1, 8),
        image_of(4, 8),
        image_of(3, 8)[0],
        image_of(3, 8)[None],
        image_of(3, 8).permute(1, 2, 0),
        image_of(3, 8).float() / 255,
        image_of(3, 8).long(),
        to_pillow(image_of(3, 9)),
        Image.new("RGB", (8, 9)),
        Image.new("L", (32, 32)),
    ],
)
def test_images_that_the_network_does_not_take(image):
    for method in (trained().probabilities, trained().classify):
        with pytest.raises(TrainedError, match=r"\(c, h, w\) = \(3, 8, 8\) of uint8 is allowed") as error:
            method(image)
        given = tuple(image.shape) if isinstance(image, torch.Tensor) else (3, image.height, image.width)
        assert str(error.value).startswith(f"image: {given} of torch.")


def test_a_colour_tensor_for_a_grey_network():
    with pytest.raises(TrainedError, match=r"\(3, 8, 8\) of torch.uint8 .*\(1, 8, 8\)"):
        trained(image_channels=1).classify(image_of(3, 8))


# --- images of any size -----------------------------------------------------------------------------------


def test_an_image_of_any_size_is_resized_and_cropped(path):
    path.write_bytes(replace(trained("imagenet"), resize=36).to_bytes())
    read = load(path)
    assert read.resize == 36
    for width, height in ((50, 41), (36, 90), (7, 9), (32, 32), (1, 1)):
        pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        scale = 36 / min(width, height)
        seen = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
        left, top = round((seen.width - 32) / 2), round((seen.height - 32) / 2)
        seen = np.asarray(seen.crop((left, top, left + 32, top + 32)), dtype=np.float64) / 255
        with torch.no_grad():
            expected = read.network(
                torch.from_numpy(((seen - MEAN) / STD).transpose(2, 0, 1)).float()[None]
            ).logits.softmax(1)[0]
        for one in (image, torch.from_numpy(pixels).permute(2, 0, 1)):
            torch.testing.assert_close(read.probabilities(one), expected, rtol=1e-4, atol=1e-5)
    for wrong in (image_of(1, 40), image_of(3, 40)[0], image_of(3, 40).float(), image_of(3, 40)[:, :0]):
        with pytest.raises(TrainedError, match=r"with c = 3 of uint8 is allowed, of any height and width"):
            read.classify(wrong)


def test_an_image_is_classified_as_its_exif_shows_it(tmp_path):
    for kind, resize, size in (("cifar", None, (8, 8)), ("imagenet", 36, (50, 41))):
        given = replace(trained(kind), resize=resize)
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / "photo.png", exif=exif)
        expected = given.probabilities(image.transpose(Image.Transpose.ROTATE_270))
        with Image.open(tmp_path / "photo.png") as photo:
            assert torch.equal(given.probabilities(photo), expected)
        assert not torch.equal(given.probabilities(image), expected)


def test_sixteen_bits_have_the_range_of_the_training(path):
    path.write_bytes(replace(trained(), image_range=4095).to_bytes())
    read = load(path)
    levels = np.random.default_rng(0).integers(0, 4096, (8, 8), dtype=np.uint16)
    eight = np.floor(levels.astype(float) * 255 / 4095 + 0.5).astype(np.uint8)
    assert torch.equal(read.probabilities(Image.fromarray(levels)), read.probabilities(Image.fromarray(eight)))


@pytest.mark.parametrize("resize", [7, -1, "9", 9.0, [9]])
def test_a_resize_that_is_none(path, resize):
    tensors, about = parts(trained().to_bytes())
    refused(path, safetensors.torch.save(tensors, {"setn_lab": json.dumps({**about, "resize": resize})}))


def test_a_file_of_an_earlier_version_takes_images_of_its_size(path):
    tensors, about = parts(trained("imagenet").to_bytes())
    for name in ("resize", "image_range"):
        assert about.pop(name) is None
    path.write_bytes(safetensors.torch.save(tensors, {"setn_lab": json.dumps(about)}))
    read = load(path)
    assert read.classify(image_of(3, 32)) in CLASSES
    with pytest.raises(TrainedError, match="resize or crop it to 32 pixels a side"):
        read.classify(image_of(3, 33))


# --- files that are none ----------------------------------------------------------------------------------


def parts(content: bytes):
    """The tensors, and what the file says about itself."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return safetensors.torch.load(content), json.loads(header["__metadata__"]["setn_lab"])


def refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(TrainedError, match=r"network-0\.safetensors: .*setn_lab"):
        load(path)


def test_damaged_files(path):
    content = trained().to_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
        refused(path, content[:length])
    refused(path, content + b"x")
    refused(path, b"\xff" * 8 + content[8:])
    refused(path, b"\x00" * 8 + content[8:])


def test_a_damaged_header_is_refused_or_read_but_never_another_error(path):
    content = trained().to_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    rng, errors = np.random.default_rng(0), 0
    begin = content.index(b"setn_lab")
    about = content.index(b'"}', begin) if b'"}' in content[begin:end] else end
    for _ in range(60):
        at = int(rng.integers(8, end) if rng.random() < 0.5 else rng.integers(begin, about))
        changed = bytearray(content)
        changed[at] = int(rng.choice(list(b'xX"{[,: \\\xff')))
        path.write_bytes(bytes(changed))
        try:
            load(path)
        except TrainedError:
            errors += 1
    assert errors > 30


def test_other_files(path, tmp_path):
    marker = tmp_path / "executed"
    refused(path, b"a text")
    refused(path, pickle.dumps(Bomb(marker)))
    buffer = io.BytesIO()
    torch.save(trained().network.state_dict(), buffer)
    refused(path, buffer.getvalue())
    refused(path, safetensors.torch.save({"weight": torch.zeros(2)}))
    refused(path, safetensors.torch.save({"weight": torch.zeros(2)}, {"format": "pt"}))
    assert not marker.exists()
    for missing in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(TrainedError, match="not a network that setn_lab exported"):
            load(missing)


@pytest.mark.parametrize("about", ["", "{", "null", "3", '"text"', "[]", "{}", "[1, 2]", '{"genotype": 3}'])
def test_what_a_file_says_about_itself_is_no_description(about, path):
    tensors, _ = parts(trained().to_bytes())
    refused(path, safetensors.torch.save(tensors, {"setn_lab": about}))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "resnet"},
        {"kind": "imagenet"},
        {"channels": 4},
        {"channels": "3"},
        {"channels": -3},
        {"channels": None},
        {"repeats": 2},
        {"repeats": 1.5},
        {"classes": ["cat"]},
        {"classes": 4},
        {"image_channels": 1},
        {"mean": None},
        {"genotype": "Genotype(normal=__import__('os'))"},
        {"genotype": "{}"},
        {"genotype": GENOTYPE.to_json().replace("sep_conv_3x3", "sep_conv_5x5")},
        {"more": 1},
    ],
)
def test_a_description_that_does_not_fit(change, path):
    tensors, about = parts(trained().to_bytes())
    path.write_bytes(safetensors.torch.save(tensors, {"setn_lab": json.dumps(about)}))
    load(path)  # unchanged, it is sound
    refused(path, safetensors.torch.save(tensors, {"setn_lab": json.dumps({**about, **change})}))
    for name in set(change) & set(about):
        left = {key: value for key, value in about.items() if key != name}
        refused(path, safetensors.torch.save(tensors, {"setn_lab": json.dumps(left)}))


def test_tensors_that_do_not_fit(path):
    tensors, about = parts(trained().to_bytes())
    metadata = {"setn_lab": json.dumps(about)}
    name = "classifier.weight"
    without = {key: value for key, value in tensors.items() if key != name}
    refused(path, safetensors.torch.save(without, metadata))
    refused(path, safetensors.torch.save({**tensors, "more": torch.zeros(1)}, metadata))
    refused(path, safetensors.torch.save({**tensors, name: tensors[name][:, :1].contiguous()}, metadata))
