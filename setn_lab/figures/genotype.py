"""Figures of a genotype for a paper: its cells, the network they make, and how it differs from another one."""

import base64
import html
import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import graphviz
import PIL.Image

from setn_lab.config import ConfigError, bounded, expanded, unhashed, validate
from setn_lab.extras import needs
from setn_lab.figures import cells, sheets, style
from setn_lab.figures.network import DEFAULTS, draw_network
from setn_lab.network.costs import Cost, cost, largest_channels
from setn_lab.network.discrete import CifarNetwork, ImageNetNetwork
from setn_lab.runs.files import replace_file
from setn_lab.runs.place import bases
from setn_lab.runs.run import default_folder
from setn_lab.space.genotype import Genotype, GenotypeError
from setn_lab.space.named import resolve


@dataclass(frozen=True, kw_only=True)
class CellsConfig:
    """The parameters of the figures of a genotype, the paper's CIFAR network as default. Raises ConfigError."""

    # genotypes
    genotype: str = "SETN"  # a published name, a search's run folder, a file, or a DARTS text
    compare: str | None = None  # the same, of what the first one is compared with

    # network
    network: Literal["cifar", "imagenet"] = "cifar"
    channels: int = bounded(36, at_least=1)  # C
    repeats: int = bounded(6, at_least=1)  # N
    num_classes: int | None = bounded(None, at_least=1)  # None: 10, or 1000 for imagenet
    mobile: int | None = bounded(None, at_least=1, added=True)  # N of an imagenet network below 600 M multiply-adds

    # page
    layout: sheets.Layout = "LR"  # from left to right, or top-down (TB)
    width: float = bounded(sheets.PAGE, at_least=3.25, at_most=20)  # inches, 3.3 is one column of a paper

    # files
    formats: str = "svg,pdf,png"
    out_dir: str | None = unhashed(None)  # None: named from the config's digest
    interactive: bool = unhashed(True)  # widgets, where the notebook has any

    def __post_init__(self) -> None:
        """Check every field."""
        validate(self)
        if self.network == "imagenet" and self.channels < 2:
            raise ConfigError(f"channels: {self.channels} given; imagenet's first stem halves C: give 2 or more")
        chosen = {"network": self.network, "channels": self.channels, "repeats": self.repeats}
        for name, value in chosen.items() if self.mobile is not None else ():
            if value not in (getattr(CellsConfig, name), "imagenet"):
                raise ConfigError(
                    f"{name}: {value!r} given with mobile, which takes the imagenet network with N = {self.mobile} and "
                    f"finds its C: leave out {name}, or mobile"
                )
        unknown = [name for name in self.file_formats if name not in style.FORMATS]
        if unknown:
            allowed = ",".join(style.FORMATS)
            raise ConfigError(
                f"formats: {self.formats!r} given; formats among {allowed}, separated by commas, are allowed: write "
                f"such a text, as in -p formats {allowed}"
            )

    @property
    def file_formats(self) -> list[str]:
        """The formats, each once: ["svg", "pdf"] for "svg, pdf"."""
        return list(dict.fromkeys(name.strip() for name in self.formats.split(",")))


@dataclass(frozen=True)
class Figures:
    """The figures of one genotype, none of them rendered, and what its network costs. `pictures`: by name of file."""

    name: str
    genotype: Genotype
    cost: Cost
    caption: str
    cells: graphviz.Digraph
    alone: dict[str, graphviz.Digraph]  # each cell on a sheet of its own, by "normal" and "reduction"
    network: graphviz.Digraph
    difference: graphviz.Digraph | None
    other: str | None  # the name of the genotype compared with

    @property
    def pictures(self) -> dict[str, graphviz.Digraph]:
        """The figures by the names of their files, which tell genotypes apart: one folder may hold many."""
        named = {f"{self.name}-cells": self.cells}
        named |= {f"{self.name}-{cell}": picture for cell, picture in self.alone.items()}
        named[f"{self.name}-network"] = self.network
        return named | ({f"{self.name}-against-{self.other}": self.difference} if self.difference else {})


def figures(config: CellsConfig) -> Figures:
    """Read the genotypes, measure the network and draw. Raises GenotypeError that names the parameter."""
    name, genotype = _read("genotype", config.genotype)
    config = _mobile(config, genotype)
    image_size, classes = DEFAULTS[config.network]
    classes = config.num_classes or classes
    build = CifarNetwork if config.network == "cifar" else ImageNetNetwork
    measured = cost(build(genotype, config.channels, config.repeats, classes), image_size)
    text = caption(name, measured.parameters, measured.multiply_adds, config.channels, config.repeats)
    network = draw_network(genotype, config.channels, config.repeats, config.network, num_classes=classes, caption=text)
    network.attr(size=f"{config.width:g},100")  # inches at most
    page: dict[str, Any] = {"layout": config.layout, "width": config.width}
    difference, other = None, None
    if config.compare is not None:
        other, old = _read("compare", config.compare)
        captions = (other, name) if other != name else (f"the other {other}", f"the first {name}")
        difference = cells.difference(old, genotype, captions, **page)
    alone = {
        file: cells.draw(genotype, only=cell, **page) for file, cell in (("normal", "normal"), ("reduction", "reduce"))
    }
    together = cells.draw(genotype, text, **page)
    return Figures(name, genotype, measured, text, together, alone, network, difference, other)


def _mobile(config: CellsConfig, genotype: Genotype) -> CellsConfig:
    """The config with the network that `mobile` asks for: the largest C that ImageNet's mobile setting allows."""
    if config.mobile is None:
        return config
    classes = config.num_classes or DEFAULTS["imagenet"][1]
    channels = largest_channels(genotype, config.mobile, num_classes=classes)
    return replace(config, network="imagenet", channels=channels, repeats=config.mobile, mobile=None)


def _read(parameter: str, text: str) -> tuple[str, Genotype]:
    try:
        name, genotype = resolve(text, bases())
    except GenotypeError as error:  # whose message begins with the parameter of most notebooks
        raise GenotypeError(f"{parameter}: {str(error).removeprefix('genotype: ')}") from error
    return name or "cells", genotype  # the folder "." has no name


def caption(name: str, parameters: int, multiply_adds: int, channels: int, repeats: int) -> str:
    """A line for below a figure: "SETN: 4.6 M parameters, 597 M multiply-adds (C = 36, N = 6)"."""
    sizes = f"{_count(parameters)} parameters, {_count(multiply_adds)} multiply-adds"
    return f"{name}: {sizes} (C = {channels}, N = {repeats})"


def _count(number: int) -> str:
    """A number as papers print it: 4.6 M, 597 M, 34.2 k."""
    for unit, sign in ((1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * unit:  # 999,700 is 1.0 M, not 1000 k
            return f"{number / unit:.1f}{sign}" if number < 99.95 * unit else f"{number / unit:.0f}{sign}"
    return str(number)


def describe(figures: Figures) -> str:
    """The caption and the genotype as DARTS writes it, as Markdown."""
    return f"**{figures.caption}**: {figures.cost.parameters:,} parameters, {figures.cost.multiply_adds:,} " + (
        f"multiply-adds, without an auxiliary head\n\n`{figures.genotype.to_darts()}`"
    )


def show_difference(figures: Figures) -> Any:
    """What a notebook displays of the comparison: the picture, or that there is nothing to compare with."""
    with needs("notebooks", "a drawing in a notebook"):
        from IPython.display import Markdown
    if figures.difference is None:
        return Markdown("Nothing to compare with: `compare` takes a second genotype.")
    return style.show(figures.difference)


def save(figures: Figures, config: CellsConfig) -> list[Path]:
    """Write each figure in each format into `config.out_dir`, whole or not at all; returns the paths.

    A PDF carries its fonts, an SVG has its texts as outlines: both look the same in any viewer and in print. Raises
    OSError, and style.RenderError where no Graphviz is installed.
    """
    folder = default_folder(config, "cells") if config.out_dir is None else expanded(config.out_dir, "out_dir")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, picture in figures.pictures.items():
        for file_format in config.file_formats:
            paths.append(folder / f"{name}.{file_format}")
            replace_file(paths[-1], style.render(picture, file_format, outlined=True))
    return paths


def contents(paths: list[Path]) -> str:
    """The files written, as Markdown."""
    return "\n".join(["Written:", "", *(f"- `{path}`" for path in paths)])


THUMBNAIL = 220  # pixels at most, of either side


def gallery(figures: Figures, paths: list[Path], here: Path | None = None) -> str:
    """The files written as HTML for a notebook in the folder `here`: links to them beside a thumbnail of each figure.

    here: by default the working folder.
    """
    here = here or Path.cwd()
    rows = []
    for name, picture in figures.pictures.items():
        own = [path for path in paths if path.stem == name]
        links = [
            f'<a href="{html.escape(_link(path, here))}" target="_blank">{html.escape(path.name)}</a>' for path in own
        ]
        rows.append(f"<tr><td>{_thumbnail(picture)}</td><td style='text-align: left'>{'<br>'.join(links)}</td></tr>")
    folder = f"<p>In <code>{html.escape(str(paths[0].parent))}</code>:</p>"
    return f"{folder}<table>{''.join(rows)}</table>"


def _link(path: Path, here: Path) -> str:
    """The path as seen from `here`, or whole where that is on another drive."""
    try:
        return Path(os.path.relpath(path, here)).as_posix()
    except ValueError:
        return path.absolute().as_uri()


def _thumbnail(picture: graphviz.Digraph) -> str:
    """A small picture as an HTML image that needs no file."""
    small = PIL.Image.open(io.BytesIO(style.render(picture, "png"))).convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    small.quantize(32).save(content, "png", optimize=True)
    return f'<img src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}">'
