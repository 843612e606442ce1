"""From parameters to everything a search works on: the images, template and evaluator."""

import copy
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from setn_lab.compute.device import ready_device
from setn_lab.compute.distributed import ALONE, ProcessGroup
from setn_lab.compute.streams import generator
from setn_lab.config import ConfigError, contents, decisive, differences
from setn_lab.data.batches import Augmentation, Normalization, batch_indices, centre, normalize_images
from setn_lab.data.files import Images, load_any_size
from setn_lab.data.images import ImageSet, downsample, load_images, search_split
from setn_lab.data.sources import MEAN, STD
from setn_lab.kits import KITS, Kit
from setn_lab.network.costs import CostTable
from setn_lab.runs.errors import RunError
from setn_lab.runs.run import Run
from setn_lab.runs.tracking import require
from setn_lab.search.caps import Caps, caps_of
from setn_lab.search.config import SearchConfig
from setn_lab.search.stages import Stages, stages
from setn_lab.space.protocol import Space


@dataclass
class Held:
    """What the two networks of a search hold: so many epochs of its training, 0 as they were made, None in between.

    folder: of the run that they were trained in.
    """

    epochs: int | None = 0
    folder: Path | None = None


@dataclass(frozen=True, eq=False)
class Search:
    """What a search works on: the two networks, the two halves of the images, on the device or decoded onto it."""

    config: SearchConfig
    device: torch.device
    kit: Kit
    space: Space
    template: Any  # of the kit's class
    evaluator: Any  # of the kit's class, see `evaluator.protocol`
    train: Images
    valid: Images
    normalization: Normalization
    cost: CostTable | None  # for the penalty of footnote 3: 1 is the mean over uniform architectures
    caps: Caps | None = None  # on what candidates cost
    average: Any = None  # the template with its averaged weights, where `weight_averaging` asks for it
    held: Held = field(default_factory=Held)

    @property
    def scored_template(self) -> Any:
        """The template that candidates are scored with and the evaluator learns from."""
        return self.template if self.average is None else self.average

    @property
    def epochs(self) -> int:
        """Epochs of the whole training: of the template, and then of the evaluator alone."""
        return self.config.epochs + self.config.evaluator_epochs

    @cached_property
    def stages(self) -> Stages:
        """The digests of its stages."""
        return stages(self.config)

    def check_run(self, run: Run) -> None:
        """Raises RunError for a run that was opened with another config, or when the images were others."""
        here, there = (decisive(type(self.config), vars(config)) for config in (self.config, run.config))
        found = {name: facts["digest"] for name, facts in run.contents.items()}
        places = set(found) | {"dataset"}
        lines = differences(*({k: v for k, v in part.items() if k not in places} for part in (there, here)))
        if lines or found != self.found:
            raise RunError(
                f"{run.folder} was opened for another search than the one that was prepared: "
                + ("; ".join(lines) or "the images have changed in between")
                + ". Prepare the search again"
            )

    @cached_property
    def found(self) -> dict[str, str]:
        """The digests of what the config pointed to when the search was prepared."""
        return {name: facts["digest"] for name, facts in contents(self.config).items()}

    def restart(self) -> None:
        """Give the networks the weights that they were made with."""
        template, evaluator = _networks(self.config, self.kit, self.space, self.train)
        self.template.load_state_dict(template.state_dict())
        self.evaluator.load_state_dict(evaluator.state_dict())
        if self.average is not None:
            self.average.load_state_dict(template.state_dict())
        self.held.epochs, self.held.folder = 0, None

    def first_template(self) -> Any:
        """A template of its own on the device, with weights as torch draws them and no training."""
        template, _ = _networks(replace(self.config, template_init="uniform"), self.kit, self.space, self.train)
        return template.to(self.device)

    @property
    def steps(self) -> int:
        """Steps in an epoch: full batches of D_train."""
        return len(self.train) // self.config.batch_size

    @property
    def augmentation(self) -> Augmentation:
        """How both steps change images."""
        config = self.config
        return Augmentation(config.crop_padding, config.flip, config.cutout, config.crop)

    @property
    def image_size(self) -> int:
        """The side in pixels of what the template sees of an image."""
        return self.config.crop or self.train.image_size

    def seen(self, images: Images) -> Tensor:
        """Images as they are scored, float32 (b, c, h, w): the centre, normalised, without augmentation."""
        return normalize_images(centre(images.images, self.config.crop), self.normalization)

    def penalty(self, weights: Tensor) -> Tensor | float:
        """Footnote 3: the expected cost under mixing weights (cell types, edges, |O|), weighed; 0 without one."""
        return 0.0 if self._costs is None else self.config.cost_weight * self._costs.expected(weights)

    @cached_property
    def _costs(self) -> CostTable | None:
        """The cost table on the device, copied there once."""
        return None if self.cost is None else self.cost.on(self.device)

    def to(self, device: torch.device) -> "Search":
        """The same search on another device, without its optimizers' view of it: the networks are copies there."""
        if self.device == device:
            return self
        return replace(
            self,
            device=device,
            template=copy.deepcopy(self.template).to(device),
            evaluator=copy.deepcopy(self.evaluator).to(device),
            average=None if self.average is None else copy.deepcopy(self.average).to(device),
            train=self.train.to(device),
            valid=self.valid.to(device),
            normalization=self.normalization.to(device),
        )


def check_processes(config: SearchConfig, processes: ProcessGroup) -> None:
    """Raises ConfigError where processes cannot share the parts of a batch equally."""
    count = processes.share.processes
    if config.batch_parts % count:
        raise ConfigError(
            f"batch_parts: {config.batch_parts} given for {count} processes; a multiple of their number is allowed, "
            f"so that all take as many parts: give {count}, which is another search than that of 1, or fewer processes"
        )


def prepare_search(config: SearchConfig, run: Run | None = None, processes: ProcessGroup = ALONE) -> Search:
    """Load the data, build template and evaluator, and move them to the device.

    processes: those that will train the template. Measured latencies are kept in `run`, since a resumed search must go
    on with the same numbers. Raises DataError for bad data, ConfigError for a device that this machine lacks, for
    processes that cannot share the work and for caps that nothing obeys, RunError for a run of another
    config, MissingExtraError without the packages of `tracker`.
    """
    require(config.tracker)
    check_processes(config, processes)
    device = processes.device(config.device, ready_device(config.device, config.precision, config.deterministic))
    images = _images(config)
    train, valid = search_split(images, config.train_fraction, config.seed, config.limit_train, config.limit_valid)
    for part in (train, valid):  # fails here, before any work, where there are fewer images than one batch
        batch_indices(len(part), config.batch_size, config.seed, "check", 0)
    if config.finalists and config.finalist_batch_size > len(train):
        raise ConfigError(
            f"finalist_batch_size: {config.finalist_batch_size} given for {len(train)} images in D_train; at most that "
            "many are allowed"
        )
    kit = KITS[config.space]
    space = kit.space(config.nodes)
    template, evaluator = _networks(config, kit, space, images)
    template = template.to(device)
    average = copy.deepcopy(template).requires_grad_(False) if config.weight_averaging > 0 else None
    cost = None
    if config.cost_weight > 0:
        cost = _relative_costs(config, kit, space, images, device, run)
    search = Search(
        config,
        device,
        kit,
        space,
        template,
        evaluator.to(device),
        train.to(device),
        valid.to(device),
        _normalization(config, train).to(device),
        cost,
        caps_of(config, kit, space, device, run),
        average,
    )
    assert search.stages  # of the images as they lie there now, while they are loaded
    assert search.found
    if run is not None:
        search.check_run(run)
    return search


def _images(config: SearchConfig) -> Images:
    """The training images, of one square size."""
    if config.resize is None:
        images = load_images(config.dataset, config.data_dir, image_range=config.image_range)
        return downsample(images, config.image_size)
    machine = config.image_memory, config.image_workers
    return load_any_size(config.dataset, config.resize, config.image_range, *machine)


def _normalization(config: SearchConfig, train: Images) -> Normalization:
    """That of D_train; of images of any size, which may be too many to be measured, that of ImageNet."""
    if config.resize is not None:
        return Normalization(torch.tensor(MEAN), torch.tensor(STD))
    assert isinstance(train, ImageSet)  # images of one size always are in memory
    return Normalization.of(train)


def _networks(config: SearchConfig, kit: Kit, space: Space, images: Images) -> tuple[Any, Any]:
    """The template and the evaluator before any training, on the CPU."""
    size = config.channels, config.repeats, images.channels
    new_template = kit.template_with(config.template_head, config.stem)
    template = new_template(space, *size, len(images.classes), generator(config.seed, "template weights"))
    if config.template_init == "looks-linear" and kit.look_linear is not None:  # the config refuses it without
        kit.look_linear(template, generator(config.seed, "looks-linear weights"))
    return template, kit.evaluator(space)


def _relative_costs(
    config: SearchConfig, kit: Kit, space: Space, images: Images, device: torch.device, run: Run | None
) -> CostTable:
    """The cost table of the searched network, as a multiple of a uniformly drawn architecture's mean cost."""
    kept = run.folder / "costs.json" if run is not None and config.cost_metric == "latency" else None
    if kept is not None and kept.exists():
        stored = json.loads(kept.read_text(encoding="utf-8"))
        return CostTable(space, config.cost_metric, np.array(stored["operations"]), stored["fixed"])
    table = kit.cost_table(
        space,
        config.channels,
        config.repeats,
        images.channels,
        config.crop or images.image_size,
        len(images.classes),
        config.cost_metric,
        layout=kit.layout_with(config.stem),
        device=device,
        batch_size=config.batch_size,
    )
    uniform = float(table.expected(kit.uniform_weights(space)))
    table = CostTable(space, config.cost_metric, table.operations / uniform, table.fixed / uniform)
    if kept is not None and run is not None:
        run.write(kept.name, json.dumps({"operations": table.operations.tolist(), "fixed": table.fixed}))
    return table
