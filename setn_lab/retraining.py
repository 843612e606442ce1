"""From parameters to everything a training works on: the recipe, the genotype, the images, the network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from setn_lab import data
from setn_lab.config import ConfigError, number, placement, validate
from setn_lab.genotype import Genotype
from setn_lab.genotypes import resolve
from setn_lab.memory import keep_freed_blocks
from setn_lab.network import Cost, Network, cost
from setn_lab.parallel import ALONE, Processes
from setn_lab.prepare import choose_device
from setn_lab.runs import default_folder
from setn_lab.sources import Decoded, OnDevice, Source, limited
from setn_lab.streams import generator
from setn_lab.trained import NETWORKS, Trained

SMALLEST = {"cifar": 29, "imagenet": 193}  # side in pixels for which the auxiliary head's pool and convolution fit


@dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """The parameters of a training, section 5.2's for CIFAR as defaults. Raises ConfigError."""

    genotype: str = "SETN"  # a zoo name, a search's run folder, a file, or a DARTS text
    dataset: str = "cifar10"  # cifar10, cifar100, digits, or a folder of images
    data_dir: str | None = placement(None)  # where CIFAR lies or is downloaded to
    network: Literal["cifar", "imagenet"] = "cifar"  # imagenet also reads a folder of images of any size
    num_classes: int | None = number(None, at_least=2)  # None: as many as the data has
    image_size: int = number(224, at_least=32)  # of the imagenet network's crops
    channels: int = number(36, at_least=2)  # C
    repeats: int = number(6, at_least=1)  # N
    epochs: int = number(600, at_least=1)
    warmup_epochs: int = number(0, at_least=0)  # the rate rises in a line
    batch_size: int = number(96, at_least=2)  # of all processes together
    test_batch_size: int = number(256, at_least=1)
    weight_lr: float = number(0.025, above=0, at_most=1e30)
    weight_momentum: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(5e-4, at_least=0)
    gradient_clip: float = number(5.0, above=0)  # norm
    path_dropout: float = number(0.2, at_least=0, below=1)  # at the end, in a line from 0
    auxiliary_weight: float = number(0.4, at_least=0)  # of the auxiliary head's loss
    label_smoothing: float = number(0.0, at_least=0, below=1)
    crop_padding: int = number(4, at_least=0)
    flip: bool = True
    cutout: int = number(16, at_least=0)
    limit_train: int | None = number(None, at_least=2)
    limit_test: int | None = number(None, at_least=1)
    bad_images: Literal["fail", "skip"] = "fail"  # what an image that cannot be read does
    workers: int = number(4, at_least=0)  # processes that decode images
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True
    synchronized_batch_norm: bool = False  # over the processes, on CUDA
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    seed: int = number(0, at_least=0)
    seeds: int = number(1, at_least=1)  # how many trainings, from `seed` on
    run_dir: str | None = placement(None)  # None: named from the config's digest
    interactive: bool = placement(True)

    def __post_init__(self) -> None:
        """Check every field."""
        validate(self)
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(
                f"warmup_epochs: {self.warmup_epochs} given; an integer below epochs ({self.epochs}) is allowed"
            )


@dataclass(frozen=True, eq=False)
class Retraining:
    """What a training works on. name: of the genotype."""

    config: RetrainConfig
    device: torch.device
    name: str
    genotype: Genotype
    source: Source

    @property
    def folder(self) -> Path:
        """The run folder, which `Run.open` makes."""
        given = self.config.run_dir
        return default_folder(self.config, "retrain") if given is None else Path(given).expanduser().absolute()

    def place(self, images: Tensor) -> Tensor:
        """The images on the device, in the layout that the config asks for."""
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return images.to(self.device, non_blocking=True).contiguous(memory_format=layout)

    @property
    def cost(self) -> Cost:
        """Parameters and multiply-adds of the network."""
        return cost(self.network(self.config.seed), self.source.image_size)

    def network(self, seed: int) -> Network:
        """A new network with weights of that seed, on the device."""
        config = self.config
        network = NETWORKS[config.network](
            self.genotype,
            config.channels,
            config.repeats,
            len(self.source.classes),
            config.auxiliary_weight > 0,
            self.source.image_channels,
            generator(seed, "network weights"),
        )
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        return network.to(self.device).to(memory_format=layout)

    def trained(self, network: Network) -> Trained:
        """The network as it is exported."""
        config, source = self.config, self.source
        size = config.network, config.channels, config.repeats
        return Trained(network, *size, source.classes, source.image_size, source.mean, source.std)


def prepare(config: RetrainConfig, crew: Processes = ALONE) -> Retraining:
    """Read the genotype and the data.

    On CUDA each process of a job on one machine takes the device of its number.

    Raises GenotypeError, DataError, and ConfigError for a device that this machine lacks, a batch larger than the
    data, a number of classes that the data has not, images too small for the auxiliary head.
    """
    name, genotype = resolve(config.genotype)
    device = choose_device(config.device)
    if device.type == "cuda" and crew.share.processes > 1:
        device = torch.device("cuda", crew.local)
    if crew.share.processes > 1:
        _check_processes(config, device, crew.share.processes)
    if config.batch_size % crew.share.processes:
        raise ConfigError(
            f"batch_size: {config.batch_size} given for {crew.share.processes} processes; a multiple is allowed"
        )
    if device.type == "cpu":
        keep_freed_blocks()
    source = _source(config, device)
    if config.num_classes not in (None, len(source.classes)):
        raise ConfigError(
            f"num_classes: {config.num_classes} given; {config.dataset} has {len(source.classes)} classes: give that "
            "number or None"
        )
    check_head(config, source.image_size)
    return Retraining(config, device, name, genotype, source)


def check_head(config: RetrainConfig, image_size: int, parameter: str = "auxiliary_weight") -> None:
    """Raises ConfigError, naming the parameter, where images of that size are too small for the auxiliary head."""
    if config.auxiliary_weight > 0 and image_size < SMALLEST[config.network]:
        raise ConfigError(
            f"{parameter}: {config.auxiliary_weight} given for images of {image_size} pixels a side; the "
            f"auxiliary head of the {config.network} network needs {SMALLEST[config.network]}: give 0"
        )


def _check_processes(config: RetrainConfig, device: torch.device, count: int) -> None:
    """What several processes cannot do. Raises ConfigError."""
    if device.type == "mps" or (device.type == "cuda" and config.device not in ("auto", "cuda")):
        raise ConfigError(
            f"device: {config.device!r} given for {count} processes; 'cuda', of which each process takes one, or 'cpu' "
            "is allowed"
        )
    if config.synchronized_batch_norm and device.type != "cuda":
        raise ConfigError(f"synchronized_batch_norm: True given on {device.type}; it is allowed on CUDA alone")
    if config.batch_size < 2 * count:
        raise ConfigError(
            f"batch_size: {config.batch_size} given for {count} processes; at least 2 images for each are allowed: a "
            "batch norm needs them"
        )


def _source(config: RetrainConfig, device: torch.device) -> Source:
    if config.network == "imagenet" and config.dataset not in data.BUILT_IN:
        decoded = Decoded(
            Path(config.dataset).expanduser(),
            config.image_size,
            config.batch_size,
            config.test_batch_size,
            config.workers,
            config.bad_images,
            config.limit_train,
            config.limit_test,
            pin_memory=device.type == "cuda",
        )
        data.batch_indices(len(decoded.training), config.batch_size, 0, "check", 0)  # fails where there are too few
        return decoded
    training = data.load(config.dataset, config.data_dir)
    testing = data.load(config.dataset, config.data_dir, "test")
    for what in ("classes", "channels", "image_size"):
        there, here = getattr(training, what), getattr(testing, what)
        if there != here:
            raise data.DataError(
                f"dataset: {config.dataset} has the {what} {there} in train and {here} in test; they must be the same"
            )
    training, testing = (
        images.take(torch.tensor(limited(range(len(images)), limit)))
        for images, limit in ((training, config.limit_train), (testing, config.limit_test))
    )
    data.batch_indices(len(training), config.batch_size, 0, "check", 0)
    return OnDevice(
        training.to(device),
        testing.to(device),
        data.Normalization.of(training).to(device),
        data.Augmentation(config.crop_padding, config.flip, config.cutout),
        config.batch_size,
        config.test_batch_size,
    )
