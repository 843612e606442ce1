"""From parameters to everything a training works on: the genotype, the images, the network."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from setn_lab.compute.device import ready_device
from setn_lab.compute.distributed import ALONE, ProcessGroup
from setn_lab.compute.streams import generator
from setn_lab.config import ConfigError, expanded
from setn_lab.data.batches import Augmentation, Normalization, batch_indices
from setn_lab.data.files import limited
from setn_lab.data.folders import DataError, held_out
from setn_lab.data.images import load_images, resolve_dataset
from setn_lab.data.sources import Decoded, ImageSource, OnDevice
from setn_lab.network.costs import Cost, cost
from setn_lab.network.discrete import Network
from setn_lab.network.export import NETWORKS, Trained
from setn_lab.retrain.config import SMALLEST, RetrainConfig
from setn_lab.runs.place import bases, run_folder
from setn_lab.runs.run import default_folder
from setn_lab.runs.tracking import require
from setn_lab.space.genotype import Genotype
from setn_lab.space.named import resolve

# What has no effect, and which values beside the default only say so.
UNUSED: dict[str, dict[str, tuple[object, ...]]] = {
    "images of any size": {"crop_padding": (0,), "flip": (), "cutout": (0,)},
    "images of one size": {"image_size": (), "bad_images": ()},
}


@dataclass(frozen=True, eq=False)
class Retraining:
    """What a training works on. name: of the genotype."""

    config: RetrainConfig
    device: torch.device
    name: str
    genotype: Genotype
    source: ImageSource

    @cached_property
    def folder(self) -> Path:
        """The run folder, which `Run.open` makes; of the genotype and images that were read."""
        given = self.config.run_dir
        return default_folder(self.config, "retrain") if given is None else run_folder(given, "run_dir")

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
        return Trained(
            network,
            *size,
            source.classes,
            source.image_size,
            source.mean,
            source.std,
            resize=source.resize,
            image_range=source.image_range,
        )


def prepare_retraining(config: RetrainConfig, processes: ProcessGroup = ALONE) -> Retraining:
    """Read the genotype and the data.

    On CUDA each process of a setup on one machine takes the device of its number.

    Raises GenotypeError, DataError, and ConfigError for a device that this machine lacks, a batch larger than the
    data, a number of classes that the data has not, images too small for the auxiliary head; and MissingExtraError
    without the packages of `tracker`.
    """
    require(config.tracker)
    name, genotype = resolve(config.genotype, bases())
    device = processes.device(config.device, ready_device(config.device, config.precision, config.deterministic))
    if processes.share.processes > 1:
        _check_processes(config, device, processes.share.processes)
    if config.batch_size % processes.share.processes:
        raise ConfigError(
            f"batch_size: {config.batch_size} given for {processes.share.processes} processes; a multiple is allowed"
        )
    source = _source(config, device)
    if config.num_classes not in (None, len(source.classes)):
        raise ConfigError(
            f"num_classes: {config.num_classes} given; {config.dataset} has {len(source.classes)} classes: give that "
            "number or None"
        )
    check_head(config, source.image_size)
    setup = Retraining(config, device, name, genotype, source)
    assert setup.folder  # now: what lies in the genotype's place may become another while this is trained
    return setup


def check_head(config: RetrainConfig, image_size: int, parameter: str = "auxiliary_weight") -> None:
    """Raises ConfigError, naming the parameter, where images of that size are too small for the auxiliary head."""
    if config.auxiliary_weight > 0 and image_size < SMALLEST[config.network]:
        raise ConfigError(
            f"{parameter}: {config.auxiliary_weight} given for images of {image_size} pixels a side; the "
            f"auxiliary head of the {config.network} network needs {SMALLEST[config.network]}: give 0"
        )


def _check_processes(config: RetrainConfig, device: torch.device, count: int) -> None:
    """What several processes cannot do. Raises ConfigError."""
    if config.synchronized_batch_norm and device.type != "cuda":
        raise ConfigError(f"synchronized_batch_norm: True given on {device.type}; it is allowed on CUDA alone")
    if config.batch_size < 2 * count:
        raise ConfigError(
            f"batch_size: {config.batch_size} given for {count} processes; at least 2 images for each are allowed: a "
            "batch norm needs them"
        )


def _check_effects(config: RetrainConfig, kind: str) -> None:
    """Raises ConfigError for each parameter with a value of its own that has no effect on that kind of images."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    lines = [
        f"{name}: {getattr(config, name)!r} given for {kind}, on which it has no effect; {defaults[name]!r}, the "
        "default, is allowed: leave it out"
        for name, harmless in UNUSED[kind].items()
        if getattr(config, name) not in (defaults[name], *harmless)
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def _source(config: RetrainConfig, device: torch.device) -> ImageSource:
    if config.decodes:
        _check_effects(config, "images of any size")
        decoded = Decoded(
            expanded(config.dataset, "dataset"),
            config.image_size,
            config.batch_size,
            config.test_batch_size,
            config.workers,
            config.bad_images,
            config.limit_train,
            config.limit_test,
            pin_memory=device.type == "cuda",
            image_range=config.image_range,
        )
        batch_indices(len(decoded.training), config.batch_size, 0, "check", 0)  # fails where there are too few
        return decoded
    _check_effects(config, "images of one size")
    folder = resolve_dataset(config.dataset)
    split = held_out(folder, "test") if isinstance(folder, Path) else "test"
    training, testing = (
        load_images(config.dataset, config.data_dir, name, image_range=config.image_range) for name in ("train", split)
    )
    for what in ("classes", "channels", "image_size"):
        there, here = getattr(training, what), getattr(testing, what)
        if there != here:
            raise DataError(
                f"dataset: {config.dataset} has the {what} {there} in train and {here} in {split}; they must be the "
                "same"
            )
    training, testing = (
        images.take(torch.tensor(limited(range(len(images)), limit)))
        for images, limit in ((training, config.limit_train), (testing, config.limit_test))
    )
    batch_indices(len(training), config.batch_size, 0, "check", 0)
    return OnDevice(
        training.to(device),
        testing.to(device),
        Normalization.of(training).to(device),
        Augmentation(config.crop_padding, config.flip, config.cutout),
        config.batch_size,
        config.test_batch_size,
        split,
        config.image_range,
    )
