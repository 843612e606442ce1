"""Caps on what candidates cost as final networks, and drawing within them.

Candidates are drawn conditioned on the caps, by rejection: what a source draws and costs too much is drawn again. So
they have the distribution of the source, restricted to the architectures that obey.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from setn_lab.config import ConfigError, contents
from setn_lab.kits import KITS, Kit
from setn_lab.network.costs import CostTable, Metric, latency
from setn_lab.network.discrete import Network
from setn_lab.runs.environment import environment
from setn_lab.runs.run import Run
from setn_lab.search.config import WINNER, SearchConfig
from setn_lab.space.protocol import Space

Architectures = NDArray[np.int64]
LATENCIES = "latencies.json"  # of a run folder, what was measured
OBEYED = "caps.json"  # of a run folder, how its candidates obeyed
TOGETHER = 1000  # drawn at once
FEWEST = 10_000  # draws, after which a share of accepted ones may be found too low
TOO_FEW = 1 / 1000  # of the draws: a lower share is an error
IMAGENET = 44, 4, 224, 1000  # C and N, side and classes of the imagenet network, where nothing else is said


class Cap(NamedTuple):
    """The parameter of a cap, its unit in words, and how many of a cost table's units that is."""

    parameter: str
    unit: str
    scale: float


CAPS: dict[Metric, Cap] = {
    "parameters": Cap("max_parameters", "M parameters", 1e6),
    "multiply_adds": Cap("max_multiply_adds", "M multiply-adds", 1e6),
    "latency": Cap("max_latency", "ms", 1e-3),
}


class CapsError(RuntimeError):
    """A source draws too little that obeys the caps."""


@dataclass(frozen=True)
class FinalSize:
    """The final network whose costs are meant: its type, C, N, and the images that it is for."""

    network: str
    channels: int
    repeats: int
    image_channels: int
    image_size: int
    classes: int

    @classmethod
    def of(cls, values: Mapping[str, Any], facts: Mapping[str, Any]) -> "FinalSize":
        """values: of a search's config. facts: `channels`, `side` and `classes` of its images, where they are known."""
        if values["final_network"] == "imagenet":
            channels, repeats, side, classes = IMAGENET
        else:
            channels, repeats = KITS[values["space"]].final_size
            side, classes = facts.get("side", 32), len(facts.get("classes", range(10)))
        return cls(
            values["final_network"],
            values["final_channels"] or channels,
            values["final_repeats"] or repeats,
            facts.get("channels", 3),
            values["final_image_size"] or side,
            values["final_classes"] or classes,
        )

    @property
    def text(self) -> str:
        """In words."""
        return (
            f"the {self.network} network with C = {self.channels}, N = {self.repeats}, for images of "
            f"{self.image_size} x {self.image_size} and {self.classes} classes"
        )

    def table(self, kit: Kit, space: Space, metric: Metric, device: torch.device | None = None) -> CostTable:
        """What its operations cost; a latency is that of one image."""
        numbers = self.channels, self.repeats, self.image_channels, self.image_size, self.classes
        return kit.cost_table(
            space, *numbers, metric, layout=kit.layout_with(self.network), device=device, batch_size=1
        )

    def build(self, kit: Kit, genotype: Any) -> Network | None:
        """The network itself; None where the space has none that can be built."""
        if kit.networks is None:
            return None
        built: Network = kit.networks[self.network](
            genotype, self.channels, self.repeats, self.classes, image_channels=self.image_channels
        )
        return built


@dataclass(frozen=True, eq=False)
class Caps:
    """What candidates may cost at most. tables: of each metric that has a cap. limits: in the units of the tables."""

    size: FinalSize
    tables: dict[Metric, CostTable]
    limits: dict[Metric, float]

    def costs(self, architectures: Architectures) -> dict[Metric, NDArray[np.float64]]:
        """The costs (n,) of architectures (n, cell types, ...) in each metric that has a cap."""
        return {metric: table.of_all(architectures) for metric, table in self.tables.items()}

    def obeyed(self, costs: Mapping[Metric, NDArray[np.float64]]) -> NDArray[np.bool_]:
        """Whether architectures of those costs obey every cap (n,)."""
        found: NDArray[np.bool_] = np.all([costs[metric] <= limit for metric, limit in self.limits.items()], axis=0)
        return found

    @property
    def text(self) -> str:
        """The caps in words: "at most 3.3 M parameters and 600 M multiply-adds"."""
        return "at most " + " and ".join(in_words(metric, limit) for metric, limit in self.limits.items())

    def check(self) -> None:
        """Raises ConfigError where a cap lies below what any architecture of the space costs."""
        wrong = []
        for metric, table in self.tables.items():
            if table.lowest > self.limits[metric]:
                wrong.append(
                    f"{CAPS[metric].parameter}: {_number(metric, self.limits[metric])} given; at least "
                    f"{_number(metric, table.lowest, up=True)} is allowed, what the cheapest architecture of the space "
                    f"costs as {self.size.text}: raise the cap, or lower final_channels or final_repeats"
                )
        if wrong:
            raise ConfigError("\n".join(wrong))


@dataclass
class Tally:
    """How much a source has drawn, up to the last one that was taken, and how much of it obeyed the caps."""

    drawn: int = 0
    accepted: int = 0

    @property
    def share(self) -> float:
        """Of the draws, those that obeyed."""
        return self.accepted / self.drawn if self.drawn else 1.0


def within(
    caps: Caps | None,
    source: str,
    draw: Callable[[int], Architectures],
    count: int,
    tally: Tally | None = None,
    together: int = TOGETHER,
) -> Architectures:
    """`count` draws (count, cell types, ...) that obey the caps; draw(n) gives n of them, `together` at a time.

    Without caps they are one call's. Raises CapsError, naming the source, where fewer than `TOO_FEW` of `FEWEST` or
    more draws obey.
    """
    if caps is None:
        return draw(count)
    tally = Tally() if tally is None else tally
    kept: list[Architectures] = []
    seen: list[dict[Metric, NDArray[np.float64]]] = []
    missing = count
    while missing:
        drawn = draw(together)
        seen.append(caps.costs(drawn))
        obeying = np.flatnonzero(caps.obeyed(seen[-1]))[:missing]
        kept.append(drawn[obeying])
        missing -= len(obeying)
        tally.accepted += len(obeying)
        tally.drawn += len(drawn) if missing else int(obeying[-1]) + 1
        number = together * len(seen)
        if missing and number >= FEWEST and count - missing < number * TOO_FEW:
            raise _too_few(caps, source, count - missing, seen)
    return np.concatenate(kept)


def _too_few(caps: Caps, source: str, accepted: int, seen: list[dict[Metric, NDArray[np.float64]]]) -> CapsError:
    """What was seen among the draws, and what to change."""
    costs = {metric: np.concatenate([part[metric] for part in seen]) for metric in caps.tables}
    number = len(next(iter(costs.values())))
    lines = [
        f"{CAPS[metric].parameter}: {_number(metric, caps.limits[metric])} given; of {number:,} draws the cheapest has "
        f"{in_words(metric, found.min(), up=True)}, and one in a hundred at most "
        f"{in_words(metric, np.quantile(found, 0.01), up=True)}"
        for metric, found in costs.items()
    ]
    other = "uniform" if source != "uniform" else "evolution"
    lines.append(
        f"candidate_source: {source!r} given, which draws too few architectures within the caps: {accepted} of "
        f"{number:,} ({accepted / number:.2%}), and at least {TOO_FEW:.1%} is needed. Raise a cap to what is seen "
        f"above, train the evaluator with a cost_weight above 0, so that it draws cheaper ones, or take {other!r}"
    )
    return CapsError("\n".join(lines))


def likeliest(caps: Caps | None, distributions: Any, rng: np.random.Generator) -> Architectures:
    """The argmax of each distribution (cell types, ...), or where it costs too much the most probable draw that obeys.

    Of `FEWEST` draws, the first among equals: the exact answer is a knapsack problem. Raises CapsError.
    """
    argmax: Architectures = distributions.argmax()
    if caps is None or caps.obeyed(caps.costs(argmax[None]))[0]:
        return argmax
    drawn: Architectures = distributions.sample(rng, FEWEST)
    costs = caps.costs(drawn)
    obeying = drawn[caps.obeyed(costs)]
    if not len(obeying):
        raise _too_few(caps, "argmax", 0, [costs])
    return obeying[distributions.log_probability(obeying).argmax()]


def in_words(metric: Metric, cost: float, up: bool = False, digits: int = 10) -> str:
    """A cost with its unit, as "3.31 M parameters".

    up: to four digits, rounded up, so that it would be obeyed as a cap. digits: at most, otherwise.
    """
    return f"{_number(metric, cost, up, digits)} {CAPS[metric].unit}"


def _number(metric: Metric, cost: float, up: bool = False, digits: int = 10) -> str:
    """A cost in the unit of its cap, as `in_words` has it."""
    value = cost / CAPS[metric].scale
    if not up:
        return f"{value:.{digits}g}"
    unit = 10.0 ** (np.floor(np.log10(value)) - 3) if value > 0 else 1.0
    return f"{np.ceil(value / unit) * unit:.10g}"


def caps_of(config: SearchConfig, kit: Kit, space: Space, device: torch.device, run: Run | None) -> Caps | None:
    """The caps of a search; None where it has none. Latencies are measured once and kept in `run`.

    Raises ConfigError where no architecture obeys.
    """
    given = {metric: getattr(config, cap.parameter) for metric, cap in CAPS.items()}
    limits = {metric: value * CAPS[metric].scale for metric, value in given.items() if value is not None}
    if not limits:
        return None
    size = FinalSize.of(vars(config), contents(config)["dataset"])
    tables = {
        metric: _latencies(size, kit, space, device, run) if metric == "latency" else size.table(kit, space, metric)
        for metric in limits
    }
    caps = Caps(size, tables, limits)
    caps.check()
    return caps


def _latencies(size: FinalSize, kit: Kit, space: Space, device: torch.device, run: Run | None) -> CostTable:
    """The table of latencies: that of the run folder, or one measured now, which is kept there.

    A winner that was found by another table is one no more.
    """
    kept = None if run is None else read_latencies(run.folder, space)
    if kept is not None and kept[0] == size:
        return kept[1]
    table = size.table(kit, space, "latency", device)
    if run is not None:
        run.note(WINNER, None)
        here = environment()
        name = here["cuda_device"] if device.type == "cuda" else here["cpu"]
        measured = {"size": asdict(size), "device": f"{device}, {name}, threads: {torch.get_num_threads()}"}
        numbers = {"operations": np.asarray(table.operations).tolist(), "fixed": table.fixed}
        run.write(LATENCIES, json.dumps({**measured, **numbers}) + "\n")
    return table


def read_latencies(folder: Path, space: Space) -> tuple[FinalSize, CostTable, str] | None:
    """What was measured in a run folder: for which network, the table, and on which device; None where nothing was."""
    path = folder / LATENCIES
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    table = CostTable(space, "latency", np.array(stored["operations"]), stored["fixed"])
    return FinalSize(**stored["size"]), table, stored["device"]


def measured_latency(size: FinalSize, kit: Kit, genotype: Any, device: torch.device) -> float | None:
    """Seconds that the whole network takes for an image, see `costs.latency`; None where it cannot be built."""
    network = size.build(kit, genotype)
    if network is None:
        return None
    shape = 1, size.image_channels, size.image_size, size.image_size
    return latency(network.to(device), shape, device)


def obeyed(caps: Caps, kit: Kit, winner: Any, device: torch.device, tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """What `OBEYED` holds: caps, how many draws obeyed by journal, and the winner's costs, in the tables' units.

    measured: seconds of the winner's whole network, where latency has a cap and the network can be built.
    """
    architecture = next(iter(caps.tables.values())).space.encode(winner)
    costs = {metric: table.of(architecture) for metric, table in caps.tables.items()}
    measured = measured_latency(caps.size, kit, winner, device) if "latency" in caps.limits else None
    return {
        "limits": caps.limits,
        "size": asdict(caps.size),
        "draws": {name: asdict(tally) for name, tally in tallies.items() if tally.drawn},
        "winner": costs,
        "measured": measured,
    }
