"""A trained network as a file that runs without this package: ONNX, or a program of torch.export.

Both take `images`, uint8 pixels (n, c, h, w) from 0 to 255 of any number n, with h = w = image_size, and give `logits`
(n, classes); the normalization is inside. ONNX also gives `label`, the name of the most probable class. What a reader
needs besides (`about`) lies in the file: metadata_props of ONNX, the extra file setn_lab.json of torch.export.
"""

import copy
import io
import json
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from setn_lab.extras import needs
from setn_lab.network.export import Trained

OPSET = 18  # of ONNX, which runtimes since 2023 know
EXAMPLES = 2  # images to trace with: one alone would be taken for a constant
INPUT = "uint8 pixels from 0 to 255, (n, c, h, w)"


class FromPixels(nn.Module):
    """Normalization and network in one: uint8 pixels (n, c, h, w) to logits (n, classes)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        mean, std = (torch.tensor(values)[:, None, None] for values in (trained.mean, trained.std))
        self.network = copy.deepcopy(trained.network).to(memory_format=torch.contiguous_format)
        self.network.auxiliary = None  # which only training needs
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """What `normalize_images` does, then the network."""
        return self.network(images.float() * self.scale + self.shift).logits


def about(trained: Trained) -> dict[str, Any]:
    """What the file says of itself, as JSON has it. resize: of the shorter side, before the centre is cropped."""
    return {
        "input": INPUT,
        "classes": list(trained.classes),
        "image_size": trained.image_size,
        "resize": trained.resize,
        "mean": list(trained.mean),
        "std": list(trained.std),
        "network": trained.kind,
        "channels": trained.channels,
        "repeats": trained.repeats,
        "genotype": trained.network.genotype.to_darts(),
    }


def to_torch(trained: Trained) -> bytes:
    """A file for `torch.export.load`, whose `module()` is called with the images."""
    buffer = io.BytesIO()
    torch.export.save(_program(trained), buffer, extra_files={"setn_lab.json": json.dumps(about(trained))})
    return buffer.getvalue()


def to_onnx(trained: Trained) -> bytes:
    """An ONNX file, checked by onnx. Raises MissingExtraError without the extra `onnx`."""
    with needs("onnx", "an export to ONNX"):
        import onnx
        import onnxscript  # noqa: F401, of torch's exporter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        exported = torch.onnx.export(
            _program(trained),
            input_names=["images"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # of the exporter, more than a small network's weights
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for entry in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for side in entry.type.tensor_type.shape.dim:
            if side.dim_param == symbol:
                side.dim_param = "batch"
    _add_labels(model.graph, trained.classes)
    for name, value in about(trained).items():
        model.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    model.producer_name, model.doc_string = "setn_lab", f"Input: {INPUT}. Outputs: logits, and the name of the class."
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


FORMATS: dict[str, tuple[str, Callable[[Trained], bytes]]] = {"onnx": (".onnx", to_onnx), "torch": (".pt2", to_torch)}


def _program(trained: Trained) -> torch.export.ExportedProgram:
    shape = EXAMPLES, trained.network.image_channels, trained.image_size, trained.image_size
    images = torch.zeros(shape, dtype=torch.uint8)
    batch = {"images": {0: torch.export.Dim("batch")}}
    with torch.no_grad():
        program = torch.export.export(FromPixels(trained).cpu().eval(), (images,), dynamic_shapes=batch)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _add_labels(graph: Any, classes: tuple[str, ...]) -> None:
    """Add the output `label` (n,): the name of the class of the largest logit."""
    from onnx import TensorProto, helper

    names = helper.make_tensor("classes", TensorProto.STRING, [len(classes)], [name.encode() for name in classes])
    graph.initializer.append(names)
    graph.node.append(helper.make_node("ArgMax", ["logits"], ["class"], axis=1, keepdims=0))
    graph.node.append(helper.make_node("Gather", ["classes", "class"], ["label"]))
    graph.output.append(helper.make_tensor_value_info("label", TensorProto.STRING, ["batch"]))
