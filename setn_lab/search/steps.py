"""One step of the template's weights and one of the evaluator, the two halves of Algorithm 1's loop."""

import itertools
import math
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from setn_lab.compute.device import autocast, to_device
from setn_lab.compute.distributed import ALONE, ProcessGroup
from setn_lab.compute.outcome import outcome
from setn_lab.compute.streams import generator
from setn_lab.data.batches import augment, batch_indices
from setn_lab.data.files import Images
from setn_lab.data.images import ImageSet
from setn_lab.evaluator.gradients import GRADIENTS, Stateful
from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import Search
from setn_lab.template.cell import Cache

TOGETHER = 8  # steps whose batches are made at once: most of the cost of a small batch is a call's overhead
LARGEST = 2**24  # values that these batches may have together, 64 MiB: large images are made for fewer steps


def learning_rate(config: SearchConfig, step: int, steps: int) -> float:
    """The weights' rate at a step: a half cosine from `weight_lr` down to `weight_lr_end` over all steps."""
    span = config.weight_lr - config.weight_lr_end
    return config.weight_lr_end + span * (1 + math.cos(math.pi * step / steps)) / 2


class Trainer:
    """The two optimizers and one step of each; every random draw of a step comes from its number alone.

    processes: those that share the parts of each batch. All hold the same weights, bit by bit, those of a single one.
    """

    def __init__(self, search: Search, processes: ProcessGroup = ALONE) -> None:
        config = search.config
        self.search, self.processes = search, processes
        self.gradient = GRADIENTS[config.evaluator_gradient](search)
        self.prepared: dict[str, tuple[int, list[tuple[Tensor, Tensor]]]] = {}  # by stream: the newest group of batches
        self.reading: dict[str, tuple[int, Generator[ImageSet, None, None]]] = {}  # by stream: the group that is next
        values = config.batch_size * search.train.channels * search.train.image_size**2
        self.together = min(TOGETHER, max(1, LARGEST // values))
        self.augmentation = search.augmentation
        self.weight_optimizer = torch.optim.SGD(
            search.template.parameters(),
            config.weight_lr,
            momentum=config.weight_momentum,
            weight_decay=config.weight_decay,
        )
        self.evaluator_optimizer = torch.optim.Adam(
            search.evaluator.parameters(), config.evaluator_lr, weight_decay=config.evaluator_weight_decay
        )

    def weight_step(self, step: int) -> Tensor:
        """One update of the template's weights on D_train through Eq. 1; returns (loss, accuracy), not read.

        Each of the `batch_parts` goes through an architecture of its own, and the gradients are averaged.
        """
        config, template = self.search.config, self.search.template
        template.requires_grad_(True)
        for group in self.weight_optimizer.param_groups:
            group["lr"] = learning_rate(config, step, config.epochs * self.search.steps)
        batch = self.batch(self.search.train, "train", step)
        outcome = self._update(
            template, self.weight_optimizer, batch, config.batch_parts, lambda *part: self._weight_part(step, *part)
        )
        self.processes.align(template)
        self._average(step)
        return outcome

    def _weight_part(self, step: int, number: int, images: Tensor, labels: Tensor) -> Tensor:
        """Add a part's share to the gradients; returns its (loss, accuracy).

        With fair sampling the same images go through |O| architectures, whose gradients add.
        """
        config, template = self.search.config, self.search.template
        # without randomness: Eq. 10 with the evaluator as it is
        architectures = [None] if config.strategy == "setn-non" else self.architectures(step, number)
        outcomes = []
        for place, architecture in enumerate(architectures, number * len(architectures)):
            with autocast(self.search.device, config.precision):
                if architecture is None:
                    logits = template.mixed(images, self.search.evaluator.mixing_weights().detach())
                else:
                    logits = template.sampled(images, architecture, self.path_dropout(step, len(images), place))
                loss = F.cross_entropy(logits, labels)
            (loss / config.batch_parts).backward()
            outcomes.append(outcome(loss, logits, labels))
        return torch.stack(outcomes).mean(0)

    def evaluator_step(self, step: int) -> Tensor:
        """One update of the evaluator on D_val; returns (loss, accuracy), not read.

        Over the `batch_parts` too, except for a way that carries a state, which takes the whole batch at once.
        """
        batch = self.batch(self.search.valid, "valid", step)
        count = 1 if isinstance(self.gradient, Stateful) else self.search.config.batch_parts

        def backward(number: int, images: Tensor, labels: Tensor) -> Tensor:
            objective, outcome = self.gradient(images, labels, step)
            (objective / count).backward()
            return outcome

        return self._update(self.search.evaluator, self.evaluator_optimizer, batch, count, backward)

    def _update(
        self,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: tuple[Tensor, Tensor],
        count: int,
        backward: Callable[[int, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """One update by what `count` equal parts of the batch come to; returns their mean (loss, accuracy).

        backward(number, images, labels): of a part: adds its share to the gradients, and returns (loss, accuracy).
        """
        images, labels = (whole.chunk(count) for whole in batch)
        parts: list[list[Tensor | None]] = []
        for number in self.processes.share.parts(count):
            optimizer.zero_grad(set_to_none=True)  # what is not sampled keeps no gradient, and is not decayed
            outcome = backward(number, images[number], labels[number])
            parts.append([*(parameter.grad for parameter in module.parameters()), outcome])
        *gradients, total = self.processes.add([*module.parameters(), torch.empty(2, device=self.search.device)], parts)
        assert total is not None
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(module.parameters(), self.search.config.gradient_clip)
        optimizer.step()
        return total / count

    def scoring_step(self, step: int) -> Tensor:
        """One batch of scoring, for timing it."""
        count = min(self.search.config.scoring_batch_size, len(self.search.valid))
        images = self.search.seen(self.search.valid.take(torch.arange(count)))
        with torch.no_grad():
            return one_shot(self.search, images, self.architecture(step))

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Take the weights after that step into their average: the mean of those so far, decay^k for k steps before.

        So the weights before the first step have no part in it, and a short training no more of its start than that.
        Buffers, which operations of a user may have, are copied.
        """
        average, decay = self.search.average, self.search.config.weight_averaging
        if average is None:
            return
        share = (1 - decay) / (1 - decay ** (step + 1))
        mean = get_ema_multi_avg_fn(1 - share)  # not AveragedModel, whose counter makes the host wait for the device
        mean(list(average.parameters()), list(self.search.template.parameters()), step)
        for kept, buffer in zip(average.buffers(), self.search.template.buffers(), strict=True):
            kept.copy_(buffer)

    def batch(self, images: Images, stream: str, step: int) -> tuple[Tensor, Tensor]:
        """The augmented images and labels of one step, each (b, ...); made for up to `TOGETHER` steps at once."""
        group, place = divmod(step, self.together)
        if stream not in self.prepared or self.prepared[stream][0] != group:
            self.prepared[stream] = group, self._batches(images, stream, group)
        return self.prepared[stream][1][place]

    def _batches(self, images: Images, stream: str, group: int) -> list[tuple[Tensor, Tensor]]:
        size, seed = self.search.config.batch_size, self.search.config.seed
        chosen = self._read(images, stream, group)
        rngs = [generator(seed, f"{stream} augmentation", step) for step in self._steps(group)]
        pixels = augment(chosen.images, self.search.normalization, self.augmentation, *rngs)
        return list(zip(pixels.split(size), chosen.labels.split(size), strict=True))

    def _steps(self, group: int) -> range:
        return range(group * self.together, (group + 1) * self.together)

    def _read(self, images: Images, stream: str, group: int) -> ImageSet:
        """The images of a group of steps; those that have to be decoded are read on from there, group after group."""
        size, seed = self.search.config.batch_size, self.search.config.seed

        def order(group: int) -> Tensor:
            return torch.cat(
                [batch_indices(len(images), size, seed, f"{stream} order", step) for step in self._steps(group)]
            )

        following, read = self.reading.pop(stream, (-1, None))
        if read is None or following != group:
            if read is not None:
                read.close()
            read = images.stream(order(number) for number in itertools.count(group))
        chosen = next(read)
        self.reading[stream] = group + 1, read
        return chosen

    def close(self) -> None:
        """End the workers that decode images ahead."""
        for _, read in self.reading.values():
            read.close()
        self.reading.clear()

    def architecture(self, step: int) -> np.ndarray:
        """The first of `architectures`: a cell's part for each cell of the network, (cells, ...)."""
        return self.architectures(step)[0]

    def architectures(self, step: int, part: int = 0) -> list[np.ndarray]:
        """What is drawn for a part of a step's batch, each (cells, ...): one architecture (Eq. 2-3), or if fair |O|.

        SETN draws a cell for each cell of the network; SETN-LR one for each type of cell, shared by its cells.
        """
        search = self.search
        rng = generator(search.config.seed, "architecture" if part == 0 else f"architecture {part}", step)
        shared = search.config.strategy == "setn-lr"
        count = search.space.cell_types if shared else len(search.template.cells)
        match search.config.sampling:
            case "uniform":
                drawn = search.space.sample(rng, count)[None]
            case "connected":
                drawn = search.space.connected(rng, count)[None]
            case "fair":
                drawn = search.space.fair(rng, count)
        return [search.template.per_cell(architecture) if shared else architecture for architecture in drawn]

    def path_dropout(self, step: int, batch: int, place: int = 0) -> Tensor | None:
        """Factors (cells, B, slots, b): 0 with the probability of path dropout, else such that the mean is 1.

        place: which of the step's architectures they are for.
        """
        rate, space = self.search.config.path_dropout, self.search.space
        if rate == 0:
            return None
        shape = len(self.search.template.cells), space.nodes, space.slots, batch
        stream = "path dropout" if place == 0 else f"path dropout {place}"
        kept = generator(self.search.config.seed, stream, step).random(shape) >= rate
        return to_device(torch.from_numpy((kept / (1 - rate)).astype(np.float32)), self.search.device)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint holds; no random state is among it."""
        state = {
            "template": self.search.template.state_dict(),
            "evaluator": self.search.evaluator.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "evaluator_optimizer": self.evaluator_optimizer.state_dict(),
        }
        if self.search.average is not None:
            state["average"] = self.search.average.state_dict()
        if isinstance(self.gradient, Stateful):
            state["gradient"] = self.gradient.state()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self.search.template.load_state_dict(state["template"])
        self.search.evaluator.load_state_dict(state["evaluator"])
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.evaluator_optimizer.load_state_dict(state["evaluator_optimizer"])
        if self.search.average is not None:
            self.search.average.load_state_dict(state["average"])
        if isinstance(self.gradient, Stateful):
            self.gradient.load_state(state["gradient"])


def one_shot(search: Search, images: Tensor, quadruples: np.ndarray, cache: Cache | None = None) -> Tensor:
    """Logits (b, classes) in float32 of one architecture (cells, B, 4), by `Search.scored_template`.

    images: (b, c, h, w), normalised. cache: see `Template.sampled`.
    """
    with autocast(search.device, search.config.precision):
        return search.scored_template.sampled(images, quadruples, cache=cache).float()
