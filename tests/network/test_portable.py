"""Files for other programs: what onnxruntime and torch.export compute of them is what the network does."""

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_export import CLASSES, SIZES, trained

from setn_lab.cli import main
from setn_lab.data.batches import Normalization, normalize_images
from setn_lab.extras import MissingExtraError
from setn_lab.network import portable
from setn_lab.network.portable import INPUT, about, to_onnx, to_torch

KINDS = [("cifar", 3), ("imagenet", 1)]  # both have an odd number of channels, C = 3


def pixels(kind, channels, number):
    """uint8 (n, c, h, w)."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (number, channels, SIZES[kind], SIZES[kind]), dtype=np.uint8)


def logits_of(given, images):
    normalization = Normalization(torch.tensor(given.mean), torch.tensor(given.std))
    batch = normalize_images(torch.from_numpy(images).permute(0, 2, 3, 1).contiguous(), normalization)
    with torch.no_grad():
        return given.network(batch).logits.numpy()


@pytest.mark.parametrize(("kind", "channels"), KINDS)
def test_onnxruntime_computes_the_same_logits(kind, channels):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    given = replace(trained(kind, channels), resize=40 if kind == "imagenet" else None)
    content = to_onnx(given)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for number in (1, 2, 5):
        images = pixels(kind, channels, number)
        logits, label = session.run(["logits", "label"], {"images": images})
        expected = logits_of(given, images)
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        assert [str(name) for name in label] == [CLASSES[index] for index in expected.argmax(1)]
    stored = session.get_modelmeta().custom_metadata_map
    assert {name: value if isinstance(value, str) else json.dumps(value) for name, value in about(given).items()} == {
        name: stored[name] for name in about(given)
    }
    (entry,) = session.get_inputs()
    assert (entry.type, entry.shape) == ("tensor(uint8)", ["batch", channels, SIZES[kind], SIZES[kind]])
    assert {one.domain for one in onnx.load_from_string(content).opset_import} <= {"", "ai.onnx"}


def test_a_program_of_torch_computes_the_same_logits():
    kind, channels = "cifar", 3
    given = trained(kind, channels, auxiliary=True)
    files = {"setn_lab.json": ""}
    content = to_torch(given)
    program = torch.export.load(io.BytesIO(content), extra_files=files)
    assert not any("auxiliary" in name for name in program.state_dict)
    assert given.network.auxiliary is not None, "the given network keeps its own"
    assert b"/setn_lab/" not in content, "a file names no place of this machine"
    module = program.module()
    for number in (1, 5):
        images = pixels(kind, channels, number)
        np.testing.assert_allclose(module(torch.from_numpy(images)).detach(), logits_of(given, images), atol=1e-5)
    assert json.loads(files["setn_lab.json"]) == about(given)
    assert about(given)["input"] == INPUT
    assert about(given)["classes"] == list(CLASSES)


def test_without_the_packages_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'setn_lab\[onnx\]'"):
        to_onnx(trained())


def test_the_command_writes_a_file_beside_each_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(portable.FORMATS, "torch", (".pt2", lambda given: given.to_bytes()))  # what it writes is above
    for seed in (0, 1):
        (tmp_path / f"network-{seed}.safetensors").write_bytes(trained(seed=seed).to_bytes())
    assert main(["export", str(tmp_path), "--format", "torch"]) == 0
    written = [tmp_path / f"network-{seed}.pt2" for seed in (0, 1)]
    assert capsys.readouterr().out.split() == [str(path) for path in written]
    for path in written:
        assert path.read_bytes() == path.with_suffix(".safetensors").read_bytes()
    one = tmp_path / "network-1.safetensors"
    assert main(["export", str(one), str(tmp_path / "out"), "--format", "torch"]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["network-1.pt2"]


def test_a_folder_without_a_network_says_what_is_missing(tmp_path, capsys):
    assert main(["export", str(tmp_path)]) == 2
    assert "network-SEED.safetensors" in capsys.readouterr().err
    (tmp_path / "network-0.safetensors").write_bytes(b"none")
    assert main(["export", str(tmp_path), "--format", "torch"]) == 2
    assert "not a network that setn_lab exported" in capsys.readouterr().err
