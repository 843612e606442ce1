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

from setn_lab.data.batches import Normalization, normalize_images
from setn_lab.data.pixels import GREY, to_pixels
from setn_lab.data.sources import centred
from setn_lab.network.discrete import CifarNetwork, ImageNetNetwork, Network
from setn_lab.space.genotype import Genotype

NetworkType = Literal["cifar", "imagenet"]
NETWORKS: dict[str, type[CifarNetwork] | type[ImageNetNetwork]] = {"cifar": CifarNetwork, "imagenet": ImageNetNetwork}


class TrainedError(ValueError):
    """A file that is no exported network, or an image that the network does not take."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A network in evaluation mode, the names of its classes, and how it was tested.

    mean, std: of each channel, of pixels scaled to 0 .. 1. channels, repeats: C and N. resize: the pixels that the
    shorter side of an image of any size is brought to, whose centre of image_size x image_size is then seen; None: an
    image has that size. image_range: the value that is white in a grey image of 16 bits, None: 65535.
    Raises ValueError for a resize that leaves less than image_size.
    """

    network: Network
    kind: NetworkType
    channels: int
    repeats: int
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None  # neither is in files of earlier versions
    image_range: int | None = None

    def __post_init__(self) -> None:
        """Check what the file of a network may say."""
        if self.resize is not None and not (isinstance(self.resize, int) and self.resize >= self.image_size):
            raise ValueError(f"resize {self.resize!r} for crops of {self.image_size} pixels")

    @torch.no_grad()
    def probabilities(self, image: Image.Image | Tensor) -> Tensor:
        """The probability of each class (classes,) for a Pillow image, or uint8 pixels (c, h, w).

        The image becomes what the network was tested on, a Pillow image first what its EXIF says that it shows.
        Raises TrainedError for an image of another size, where the network takes but one, or of other channels.
        """
        channels, side = self.network.image_channels, self.image_size
        if isinstance(image, Tensor):
            pixels = image
        else:
            grey = channels == 1 and image.mode not in GREY
            values = to_pixels(image.convert("L") if grey else image, self.image_range)
            pixels = torch.from_numpy(values.copy()).permute(2, 0, 1)
            if len(pixels) < channels:  # a grey one among colours
                pixels = pixels.expand(channels, -1, -1)
        fits = pixels.dim() == 3 and len(pixels) == channels and pixels.dtype == torch.uint8
        if self.resize is None:
            if not fits or tuple(pixels.shape[1:]) != (side, side):
                raise TrainedError(
                    f"image: {tuple(pixels.shape)} of {pixels.dtype} given; (c, h, w) = {(channels, side, side)} of "
                    f"uint8 is allowed, the size that the network was trained on: resize or crop it to {side} pixels a "
                    "side"
                )
            normalization = Normalization(torch.tensor(self.mean), torch.tensor(self.std))
            batch = normalize_images(pixels.cpu().permute(1, 2, 0)[None].contiguous(), normalization)
        else:
            from torchvision.transforms.v2.functional import to_pil_image

            if not fits or not pixels.numel():
                raise TrainedError(
                    f"image: {tuple(pixels.shape)} of {pixels.dtype} given; (c, h, w) with c = {channels} of uint8 is "
                    "allowed, of any height and width"
                )
            batch = centred(self.resize, side, self.mean, self.std)(to_pil_image(pixels.cpu()))[None]
        return self.network(batch.to(self.network.classifier.weight.device)).logits.softmax(1)[0].cpu()

    def classify(self, image: Image.Image | Tensor) -> str:
        """The name of the most probable class; raises what `probabilities` raises."""
        return self.classes[int(self.probabilities(image).argmax())]

    def to_bytes(self) -> bytes:
        """The file that `load` reads. The auxiliary head, which only training needs, is left out."""
        fields = ("kind", "channels", "repeats", "classes", "image_size", "mean", "std", "resize", "image_range")
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
