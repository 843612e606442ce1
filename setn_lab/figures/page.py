"""How reports are put together: Markdown tables, figures, and what a page says of its run."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from setn_lab.data.images import BUILT_IN
from setn_lab.runs.files import replace_file


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def facts(values: dict[str, str]) -> str:
    """A Markdown table of names and values, without a head."""
    return table(["", ""], [[name, text] for name, text in values.items()])


def write_files(target: Path, figures: dict[str, Figure], texts: dict[str, str], summary: dict[str, Any]) -> list[Path]:
    """Write figures as SVG, texts and summary.json into `target`; returns their paths.

    Raises ValueError for a number in the summary that is not finite, and OSError; then no file is torn.
    """
    target.mkdir(parents=True, exist_ok=True)
    paths = [save_figure(figure, target / f"{name}.svg") for name, figure in figures.items()]
    for name, text in {**texts, "summary.json": json.dumps(summary, indent=1, allow_nan=False) + "\n"}.items():
        paths.append(target / name)
        replace_file(paths[-1], text.encode())
    return paths


def write_page(folder: Path, target: Path, title: str, paragraphs: Sequence[str]) -> Path:
    """Write README.md into `target`, of a run folder: title, paragraphs, machine; and its config.json as published.

    Returns the page. An empty paragraph is left out.
    """
    target.mkdir(parents=True, exist_ok=True)
    replace_file(target / "config.json", config_text(folder).encode())
    parts = [f"# {title} {folder.name}", *filter(None, paragraphs), "## Machine", "\n".join(machine(folder))]
    path = target / "README.md"
    replace_file(path, ("\n\n".join(parts) + "\n").encode())
    return path


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure as SVG, whole or not at all, and close it; the same run gives the same file. Raises OSError."""
    picture = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": "setn_lab", "svg.fonttype": "none"}):
        figure.savefig(picture, format="svg", metadata={"Date": None})
    plt.close(figure)
    replace_file(path, picture.getvalue())
    return path


def contents(folder: Path, what: dict[str, str]) -> str:
    """What lies where in a run folder, as Markdown; `what` describes the files by name."""
    lines = [f"- `{folder / name}`: {text}" for name, text in what.items() if any(folder.glob(name))]
    return "\n".join(["Everything of this run lies in its folder:", "", *lines])


def config_text(folder: Path) -> str:
    """The run's config as it is published: images and tables by their names alone."""
    stored = (folder / "config.json").read_text(encoding="utf-8")
    config = json.loads(stored)
    for path in (config["dataset"], config.get("table"), config.get("two_seeds")):  # tables of true accuracies
        if path is not None and path not in BUILT_IN:
            stored = stored.replace(json.dumps(path), json.dumps(f"path/to/{Path(path).name}"))
    return stored


def machine(folder: Path) -> list[str]:
    """The run's machine and versions, as lines of Markdown."""
    environment: dict[str, Any] = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    used = {name: value for name, value in environment.items() if name not in ("resumed_in", "kind")}
    later = [f"- started again at commit {start['git_commit']}" for start in environment["resumed_in"]]
    return [*(f"- {name}: {value}" for name, value in used.items()), *later]


def plus_minus(mean: float, deviation: float | None, form: str) -> str:
    """Mean ± standard deviation, the mean alone where there is one value."""
    return format(mean, form) if deviation is None else f"{mean:{form}} ± {deviation:{form.lstrip('+')}}"
