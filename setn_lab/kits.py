"""What varies and may be added to: search spaces, a row each, and operations.

A row of `KITS` names all that belongs to one search space; the parameter `space` chooses it. Nothing else asks which
space it has before it. `register_operation` adds an operation everywhere at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import graphviz
import numpy as np

from setn_lab.evaluator.gradients import GRADIENTS, Gradient
from setn_lab.evaluator.nasbench201 import NASBench201Distributions, NASBench201Evaluator
from setn_lab.evaluator.setn import Distributions, Evaluator
from setn_lab.figures import cells, looks, nasbench201
from setn_lab.network import macro, operations
from setn_lab.network.costs import CostTable, Layout, Metric, cost_table
from setn_lab.network.export import NETWORKS
from setn_lab.network.nasbench201 import layout as nasbench201_layout
from setn_lab.space.genotype import OPERATIONS, Genotype
from setn_lab.space.nasbench201 import NASBench201Genotype, NASBench201Space
from setn_lab.space.protocol import Space
from setn_lab.space.setn import LARGE, SMALL, SearchSpace
from setn_lab.template.looks_linear import look_linear, look_linear_nasbench201
from setn_lab.template.nasbench201 import NASBench201Template
from setn_lab.template.setn import Template

NASBENCH201_NODES = 4  # of a cell of NAS-Bench-201, its input among them


@dataclass(frozen=True, eq=False)  # a row is itself, and a key of what is remembered of it
class Kit:
    """All that belongs to one search space.

    space: the space with the parameter `nodes`; raises ValueError with what is allowed.
    genotype: the class of its genotypes, with `from_json` and `to_json`.
    evaluator, distributions: the classes of its evaluator and of its probabilities, see `evaluator.protocol`; the
    latter with `from_record`.
    template: the class of its weight-sharing network, which offers what `template.setn.Template` does; it takes `head`
    where there are several heads.
    heads: the values of `template_head` that it knows, first what versions without that parameter did.
    stems: those of `stem`; the template takes `stem` where there are several, and imagenet needs `imagenet_layout`.
    look_linear: changes the weights of a template in place (template, rng) for `template_init=looks-linear`; None
    where it has no such start.
    layout: what its networks have beside the operations, for their costs; imagenet_layout: the same of those for
    ImageNet, None where the space has no such networks.
    draw: (genotype, caption, beside) to a drawing.
    networks: the classes of its discrete networks by name, which can be trained from scratch; None without any.
    final_size: C and N of the networks whose costs are printed.
    text_form: what the text of a genotype is called.
    """

    space: Callable[[int], Space]
    genotype: Any
    evaluator: Callable[[Any], Any]
    distributions: Any
    template: Callable[..., Any]
    layout: Layout
    draw: Callable[..., graphviz.Digraph]
    networks: Mapping[str, Any] | None
    final_size: tuple[int, int]
    text_form: str
    heads: tuple[str, ...] = ("norm",)
    stems: tuple[str, ...] = ("cifar",)
    look_linear: Callable[[Any, np.random.Generator], None] | None = None
    imagenet_layout: Layout | None = None

    def template_with(self, head: str, stem: str) -> Callable[..., Any]:
        """`template` with that head and that stem."""
        chosen = {"head": head} if len(self.heads) > 1 else {}
        return partial(self.template, **chosen, **({"stem": stem} if len(self.stems) > 1 else {}))

    def layout_with(self, stem: str) -> Layout:
        """What networks with that stem have beside the operations."""
        layout = self.imagenet_layout if stem == "imagenet" else self.layout
        assert layout is not None  # the configs refuse it
        return layout

    @property
    def cost_table(self) -> Callable[..., CostTable]:
        """`network.costs.cost_table` for this space's networks."""
        return partial(cost_table, layout=self.layout)

    def uniform_weights(self, space: Space) -> np.ndarray:
        """The mixing weights of an evaluator that has learned nothing: (cell types, edges, |O|)."""
        return self.evaluator(space).distributions().mixing_weights()

    def final_costs(self, space: Space, metric: Metric) -> CostTable:
        """The costs at `final_size`, of networks for 10 classes of 32 x 32 colour images."""
        return self.cost_table(space, *self.final_size, 3, 32, 10, metric)


def _nasbench201(nodes: int) -> NASBench201Space:
    if nodes != NASBENCH201_NODES:
        raise ValueError(
            f"{nodes} given; {NASBENCH201_NODES} is allowed for nasbench201, whose cells have so many with their "
            "input: give that or leave it out"
        )
    return NASBench201Space()


_SETN = Kit(
    space=lambda nodes: SearchSpace(SMALL, nodes),
    genotype=Genotype,
    evaluator=Evaluator,
    distributions=Distributions,
    template=Template,
    layout=macro.layout,
    draw=cells.draw,
    networks=NETWORKS,
    final_size=(36, 6),
    text_form="DARTS text",
    heads=("mean", "norm"),
    stems=("cifar", "imagenet"),
    look_linear=look_linear,
    imagenet_layout=macro.imagenet_layout,
)
KITS = {
    "small": _SETN,
    "large": replace(_SETN, space=lambda nodes: SearchSpace(LARGE, nodes)),
    "nasbench201": Kit(
        space=_nasbench201,
        genotype=NASBench201Genotype,
        evaluator=NASBench201Evaluator,
        distributions=NASBench201Distributions,
        template=NASBench201Template,
        layout=nasbench201_layout,
        draw=nasbench201.draw,
        networks=None,
        final_size=(16, 5),
        text_form="text",
        look_linear=look_linear_nasbench201,
    ),
}


def register_operation(name: str, factory: operations.Factory, colour: str, dashed: bool = False) -> None:
    """Add an operation: it then works in templates, costs, final networks, figures, JSON and DARTS texts.

    factory: (channels, stride, norm) to a module that takes (b, C, h, w) to (b, C, ceil(h/stride), ceil(w/stride)) and
    leaves its input as it is. `norm(channels)` gives the batch norm that the network has; see `network.operations`.
    colour: of its line in drawings, such as "#117733". A search space takes it up by its name: a row
    `KITS["mine"] = replace(KITS["small"], space=lambda nodes: SearchSpace((*SMALL, name), nodes))`.

    Raises ValueError for a name that is taken or that no text could hold.
    """
    if name in operations.FACTORIES or not name.isidentifier():
        raise ValueError(f"name: {name!r} given; one that is not taken, of letters, digits and _, is allowed")
    operations.FACTORIES[name] = factory
    looks.LOOKS[name] = looks.Look(colour, dashed)
    OPERATIONS.append(name)


@dataclass(frozen=True)
class Extensions:
    """What was registered beside the package's own, for another process: entries of the registries by name."""

    operations: dict[str, tuple[operations.Factory, looks.Look]]
    kits: dict[str, Kit]
    gradients: dict[str, Callable[[Any], Gradient]]

    @classmethod
    def here(cls) -> "Extensions":
        """Of this process."""
        added = [name for name in operations.FACTORIES if name not in _OWN]
        return cls(
            {name: (operations.FACTORIES[name], looks.LOOKS[name]) for name in added},
            {name: kit for name, kit in KITS.items() if name not in _OWN},
            {name: new for name, new in GRADIENTS.items() if name not in _OWN},
        )

    def register(self) -> None:
        """Register all of it in this process; what is there already stays."""
        for name, (factory, look) in self.operations.items():
            if name not in operations.FACTORIES:
                register_operation(name, factory, look.colour, look.dashed)
        KITS.update({name: kit for name, kit in self.kits.items() if name not in KITS})
        GRADIENTS.update({name: new for name, new in self.gradients.items() if name not in GRADIENTS})


_OWN = {*operations.FACTORIES, *KITS, *GRADIENTS}  # before anyone has added to them
