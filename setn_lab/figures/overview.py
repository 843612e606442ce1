"""All published cells on one page: each drawn, with where it is from and what its network costs."""

import dataclasses
from pathlib import Path

from setn_lab.config import ConfigError, expanded
from setn_lab.figures import cells, page, style
from setn_lab.figures.genotype import CellsConfig, caption
from setn_lab.figures.network import DEFAULTS
from setn_lab.network.costs import cost
from setn_lab.network.export import NETWORKS
from setn_lab.runs.files import replace_file
from setn_lab.runs.run import default_folder
from setn_lab.space.zoo import ZOO, Published, Size


def save_all(config: CellsConfig) -> Path:
    """Draw every cell of the zoo in each format, with a page README.md; returns the page.

    The sizes are those of the config's network. The folder is `config.out_dir`, by default one beside the cells' own.
    Raises ConfigError for a genotype or one to compare with, OSError, and style.RenderError where no Graphviz is
    installed.
    """
    for name in ("genotype", "compare"):
        if (given := getattr(config, name)) != getattr(CellsConfig, name):
            raise ConfigError(f"{name}: {given!r} given for all published cells; it is allowed for one: leave it out")
    everything = dataclasses.replace(config, genotype=" ".join(ZOO))  # names a folder of its own
    folder = default_folder(everything, "cells") if config.out_dir is None else expanded(config.out_dir, "out_dir")
    folder.mkdir(parents=True, exist_ok=True)
    rows, parts = [], []
    for name, published in ZOO.items():
        text, row = _measured(name, published, config)
        rows.append(row)
        drawing = cells.draw(published.genotype, text)
        for file_format in config.file_formats:
            replace_file(folder / f"{name}-cells.{file_format}", style.render(drawing, file_format))
        shown = next((one for one in ("svg", "png") if one in config.file_formats), None)
        picture = f"![{name}]({name}-cells.{shown})\n\n" if shown else ""
        parts.append(f"## {name}\n\n{picture}{published.source}.\n\n`{published.genotype.to_darts()}`")
    head = ["cell", f"parameters, {config.network}, C = {config.channels}, N = {config.repeats}", "multiply-adds"]
    table = page.table([*head, "printed", "source"], rows)
    path = folder / "README.md"
    replace_file(path, ("\n\n".join([f"# {len(ZOO)} published cells", table, *parts]) + "\n").encode())
    return path


def _measured(name: str, published: Published, config: CellsConfig) -> tuple[str, list[str]]:
    """The caption of a cell and its row of the table."""
    image_size, classes = DEFAULTS[config.network]
    network = NETWORKS[config.network](
        published.genotype, config.channels, config.repeats, config.num_classes or classes
    )
    measured = cost(network, image_size)
    text = caption(name, measured.parameters, measured.multiply_adds, config.channels, config.repeats)
    printed = "; ".join(map(_printed, published.sizes))
    return text, [name, f"{measured.parameters:,}", f"{measured.multiply_adds:,}", printed, published.source]


def _printed(size: Size) -> str:
    """ "4.6 M (CIFAR-10, C = 36, N = 6)"."""
    text = "" if size.parameters is None else f"{size.parameters:.{size.digits}f} M"
    return f"{text} ({size.data}, C = {size.channels}, N = {size.repeats})"
