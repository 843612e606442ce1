"""A trained network on disk: safetensors with all that is needed to build it again and to classify an image."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transform

from setn_lab.data.folders import GREY, to_pixels
from setn_lab.network.discrete import CifarNetwork, ImageNetNetwork, Network
from setn_lab.space.genotype import Genotype

NetworkType = Literal["cifar", "imagenet"]
NETWORKS: dict[str, type[CifarNetwork] | type[ImageNetNetwork]] = {"cifar": CifarNetwork, "imagenet": ImageNetNetwork}


class TrainedError(ValueError):
    """A file that is no exported network, or an image that the network does not take."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A network in evaluation mode, the names of its classes, and the pixels it expects.

    mean, std: of each channel, of pixels scaled to 0 .. 1. channels, repeats: C and N.
    """

    network: Network
    kind: NetworkType
    channels: int
    repeats: int
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @torch.no_grad()
    def probabilities(self, image: Image.Image | Tensor) -> Tensor:
        """The probability of each class (classes,) for a Pillow image, or uint8 pixels (c, h, w).

        Raises TrainedError for an image of another size or another number of channels.
        """
        if isinstance(image, Tensor):
            pixels = image
        else:
            grey = self.network.image_channels == 1 and image.mode not in GREY
            pixels = torch.from_numpy(to_pixels(image.convert("L") if grey else image).copy()).permute(2, 0, 1)
            if len(pixels) < self.network.image_channels:  # a grey one among colours
                pixels = pixels.expand(self.network.image_channels, -1, -1)
        wanted = self.network.image_channels, self.image_size, self.image_size
        if tuple(pixels.shape) != wanted or pixels.dtype != torch.uint8:
            raise TrainedError(
                f"image: {tuple(pixels.shape)} of {pixels.dtype} given; (c, h, w) = {wanted} of uint8 is allowed, "
                "the size that the network was trained on: resize or crop it"
            )
        device = self.network.classifier.weight.device
        pixels = transform.normalize(pixels.to(device).float() / 255, list(self.mean), list(self.std))
        return self.network(pixels[None]).logits.softmax(1)[0].cpu()

    def classify(self, image: Image.Image | Tensor) -> str:
        """The name of the most probable class; raises what `probabilities` raises."""
        return self.classes[int(self.probabilities(image).argmax())]

    def to_bytes(self) -> bytes:
        """The file that `load` reads. The auxiliary head, which only training needs, is left out."""
        fields = ("kind", "channels", "repeats", "classes", "image_size", "mean", "std")
        about = {name: getattr(self, name) for name in fields}
        about |= {"genotype": self.network.genotype.to_json(), "image_channels": self.network.image_channels}
        values = {
            name: value.contiguous().cpu()
            for name, value in self.network.state_dict().items()
            if not name.startswith("auxiliary.")
        }
        return safetensors.torch.save(values, {"setn_lab": json.dumps(about)})


def load(path: str | Path, device: str | torch.device = "cpu") -> Trained:
    """Load an exported network. Nothing in the file is executed. Raises TrainedError for a file that is none."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = dict(json.loads((file.metadata() or {})["setn_lab"]))
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
        genotype = Genotype.from_json(about.pop("genotype"))
        size = about["channels"], about["repeats"], len(about["classes"])
        network = NETWORKS[about["kind"]](genotype, *size, image_channels=about.pop("image_channels"))
        network.load_state_dict(values)
        about |= {name: tuple(about[name]) for name in ("classes", "mean", "std")}
        return Trained(network.to(device).eval(), **about)
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainedError(f"{path}: not a network that setn_lab exported ({type(error).__name__}: {error})") from error
