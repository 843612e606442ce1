"""From parameters to everything a search works on: the config, the images, template and evaluator."""

import copy
import json
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from setn_lab import data
from setn_lab.config import ConfigError, number, placement, validate
from setn_lab.costs import CostTable, cost_table
from setn_lab.edge_evaluator import EdgeEvaluator
from setn_lab.edge_template import EdgeTemplate
from setn_lab.evaluator import Evaluator
from setn_lab.memory import keep_freed_blocks
from setn_lab.runs import Run
from setn_lab.space import Space
from setn_lab.spaces import new_evaluator, parts
from setn_lab.streams import generator
from setn_lab.template import Template

SHRUNK_TOGETHER = 4096  # images, whose float copies take 50 MB at CIFAR's size
EDGE_NODES = 4  # of a cell of NAS-Bench-201, its input among them


@dataclass(frozen=True, kw_only=True)
class TemplateConfig:
    """The parameters of training a template and its evaluator, section 5.1's values as defaults. Raises ConfigError."""

    dataset: str = "cifar10"  # cifar10, cifar100, digits, or a folder of images
    data_dir: str | None = placement(None)  # where CIFAR lies or is downloaded to
    space: Literal["small", "large", "nasbench201"] = "small"  # 6 or 8 operations, or NAS-Bench-201's own cell
    channels: int = number(16, at_least=1)  # C
    repeats: int = number(2, at_least=1)  # N
    nodes: int = number(4, at_least=1)  # B
    sampling: Literal["uniform", "fair", "connected"] = "uniform"  # of the architectures to train
    epochs: int = number(400, at_least=1)
    evaluator_start: int = number(0, at_least=0)  # epochs of the template alone before the evaluator joins
    batch_size: int = number(64, at_least=2)
    scoring_batch_size: int = number(256, at_least=2)
    weight_lr: float = number(0.025, above=0, at_most=1e30)
    weight_lr_end: float = number(0.0, at_least=0)  # to which the rate is annealed; as much as weight_lr: constant
    weight_momentum: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(3e-4, at_least=0)
    evaluator_lr: float = number(3e-3, above=0, at_most=1e30)
    evaluator_weight_decay: float = number(1e-3, at_least=0)
    gradient_clip: float = number(10.0, above=0)  # norm
    path_dropout: float = number(0.1, at_least=0, below=1)
    batch_norm: Literal["batch", "recalibrated"] = "batch"  # statistics when candidates are scored
    train_fraction: float = number(0.5, above=0, below=1)
    limit_train: int | None = number(None, at_least=2)
    limit_valid: int | None = number(None, at_least=2)
    image_size: int | None = number(None, at_least=1)  # a smaller side to bring the images to; None: theirs
    crop_padding: int = number(4, at_least=0)
    flip: bool = True
    cutout: int = number(0, at_least=0)
    cost_weight: float = number(0.0, at_least=0)  # of the expected cost in the evaluator's loss, footnote 3
    cost_metric: Literal["parameters", "multiply_adds", "latency"] = "parameters"
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    seed: int = number(0, at_least=0)

    def __post_init__(self) -> None:
        """Check every field."""
        validate(self)
        if self.space == "nasbench201" and self.nodes != EDGE_NODES:
            raise ConfigError(
                f"nodes: {self.nodes} given; {EDGE_NODES} is allowed for nasbench201, whose cells have so "
                "many with their input: give that or leave it out"
            )
        if self.weight_lr_end > self.weight_lr:
            raise ConfigError(
                f"weight_lr_end: {self.weight_lr_end} given; a number from 0 to weight_lr ({self.weight_lr}) is "
                "allowed, since the rate falls or stays"
            )
        if self.evaluator_start >= self.epochs:
            raise ConfigError(
                f"evaluator_start: {self.evaluator_start} given; an integer below epochs ({self.epochs}) is allowed, "
                "or the evaluator would never be trained"
            )


@dataclass(frozen=True, kw_only=True)
class SearchConfig(TemplateConfig):
    """The parameters of a search: Algorithm 1 from the start to the selected cell. Raises ConfigError."""

    strategy: Literal["setn", "setn-lr", "setn-non"] = "setn"
    candidate_source: Literal["evaluator", "uniform", "argmax"] = "evaluator"
    candidates: int = number(1000, at_least=1)  # T
    baseline_candidates: int = number(0, at_least=0)  # uniform ones, scored with the same template to compare
    select_by: Literal["loss", "accuracy"] = "loss"
    scoring: Literal["full", "racing"] = "full"  # all candidates on all of D_val, or those not yet beaten
    run_dir: str | None = placement(None)  # None: named from the config's digest
    interactive: bool = placement(True)

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if self.scoring == "racing" and self.batch_norm == "recalibrated":
            raise ConfigError(
                "scoring: 'racing' given with batch_norm 'recalibrated', which measures statistics anew for each batch "
                "of a race; batch_norm 'batch' is allowed with it, or scoring 'full'"
            )


@dataclass(frozen=True, eq=False)
class Search:
    """What a search works on: the two networks, the two halves of the images, all on the device."""

    config: SearchConfig
    device: torch.device
    space: Space
    template: Template | EdgeTemplate
    evaluator: Evaluator | EdgeEvaluator
    train: data.ImageSet
    valid: data.ImageSet
    normalization: data.Normalization
    cost: CostTable | None  # for the penalty of footnote 3: 1 is the mean over uniform architectures

    @property
    def steps(self) -> int:
        """Steps in an epoch: full batches of D_train."""
        return len(self.train) // self.config.batch_size


def prepare(config: SearchConfig, run: Run | None = None) -> Search:
    """Load the data, build template and evaluator, and move them to the device.

    A measured latency table is kept in `run`, since a resumed search must go on with the same numbers. Raises
    DataError for bad data, ConfigError for a device that this machine lacks.
    """
    device = choose_device(config.device)
    if device.type == "cpu":
        keep_freed_blocks()
    images = shrunk(data.load(config.dataset, config.data_dir), config.image_size)
    train, valid = data.search_split(images, config.train_fraction, config.seed, config.limit_train, config.limit_valid)
    for part in (train, valid):  # fails here, before any work, where there are fewer images than one batch
        data.batch_indices(len(part), config.batch_size, config.seed, "check", 0)
    space, new_template = parts(config.space, config.nodes)
    size = config.channels, config.repeats, images.channels
    template = new_template(space, *size, len(images.classes), generator(config.seed, "template weights"))
    cost = None
    if config.cost_weight > 0:
        cost = _relative_costs(config, space, images, device, run)
    return Search(
        config,
        device,
        space,
        template.to(device),
        new_evaluator(space).to(device),
        train.to(device),
        valid.to(device),
        data.Normalization.of(train).to(device),
        cost,
    )


def shrunk(images: data.ImageSet, side: int | None) -> data.ImageSet:
    """The images with that many pixels a side, each the mean of those it stands for; None: as they are.

    Raises DataError for a side above the images' own.
    """
    if side is None or side == images.image_size:
        return images
    if side > images.image_size:
        raise data.DataError(
            f"image_size: {side} given; images of {images.image_size} pixels a side can be made smaller: at most that "
            "is allowed, or None to leave them"
        )
    parts = [
        F.interpolate(part.permute(0, 3, 1, 2).float(), side, mode="area").round().to(torch.uint8).permute(0, 2, 3, 1)
        for part in images.images.split(SHRUNK_TOGETHER)
    ]
    return replace(images, images=torch.cat(parts).contiguous())


def moved(search: Search, device: torch.device) -> Search:
    """The same search on another device, without its optimizers' view of it: the networks are copies there."""
    if search.device == device:
        return search
    return replace(
        search,
        device=device,
        template=copy.deepcopy(search.template).to(device),
        evaluator=copy.deepcopy(search.evaluator).to(device),
        train=search.train.to(device),
        valid=search.valid.to(device),
        normalization=search.normalization.to(device),
    )


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA, else MPS, else CPU. Raises ConfigError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device: {name!r} given, which this machine cannot use ({reason}); auto, cpu, cuda, cuda:N or mps is "
            "allowed: write auto to take what there is"
        ) from error
    return device


def _relative_costs(
    config: SearchConfig, space: Space, images: data.ImageSet, device: torch.device, run: Run | None
) -> CostTable:
    """The cost table of the searched network, as a multiple of a uniformly drawn architecture's mean cost."""
    kept = run.folder / "costs.json" if run is not None and config.cost_metric == "latency" else None
    if kept is not None and kept.exists():
        stored = json.loads(kept.read_text())
        return CostTable(space, config.cost_metric, np.array(stored["operations"]), stored["fixed"])
    table = cost_table(
        space,
        config.channels,
        config.repeats,
        images.channels,
        images.image_size,
        len(images.classes),
        config.cost_metric,
        device=device,
        batch_size=config.batch_size,
    )
    uniform = float(table.expected(new_evaluator(space).distributions().mixing_weights()))
    table = CostTable(space, config.cost_metric, table.operations / uniform, table.fixed / uniform)
    if kept is not None and run is not None:
        run.write(kept.name, json.dumps({"operations": table.operations.tolist(), "fixed": table.fixed}))
    return table
