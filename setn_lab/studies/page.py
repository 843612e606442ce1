"""How the studies' reports are put together: Markdown tables, figures, and what a page says of its run."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from setn_lab.config import Config, ConfigError, build
from setn_lab.data import BUILT_IN
from setn_lab.prepare import SearchConfig
from setn_lab.runs import default_folder, read_journal
from setn_lab.studies.statistics import Estimate

UNDEFINED = "undefined"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def value(number: float | None, form: str) -> str:
    """A number in that format, or the word that says it is undefined."""
    return UNDEFINED if number is None else format(number, form)


def plus_minus(mean: float, deviation: float | None, form: str) -> str:
    """Mean ± standard deviation, the mean alone where there is one value."""
    return format(mean, form) if deviation is None else f"{mean:{form}} ± {deviation:{form.lstrip('+')}}"


def estimate(one: Estimate, form: str) -> str:
    """A figure with its 95% interval, or why there is none."""
    if one.value is None:
        return f"{UNDEFINED}: {one.note}"
    interval = "" if one.low is None or one.high is None else f" ({one.low:{form}} to {one.high:{form}})"
    return f"{one.value:{form}}{interval}"


def csv_text(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    """These columns of the rows as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def read_config(cls: type[Config], folder: Path) -> Config:
    """The config of the study in that run folder. Raises ConfigError for another folder."""
    try:
        return build(cls, json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} is not the run folder of such a study ({cls.__name__}): {error}") from error


def write_files(target: Path, figures: dict[str, Figure], texts: dict[str, str], summary: dict[str, Any]) -> list[Path]:
    """Write figures as SVG, texts and summary.json into `target`; returns their paths.

    Raises ValueError for a number in the summary that is not finite.
    """
    target.mkdir(parents=True, exist_ok=True)
    paths = [save_figure(figure, target / f"{name}.svg") for name, figure in figures.items()]
    for name, text in {**texts, "summary.json": json.dumps(summary, indent=1, allow_nan=False) + "\n"}.items():
        paths.append(target / name)
        paths[-1].write_text(text)
    return paths


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure as SVG and close it; the same run gives the same file."""
    with plt.rc_context({"svg.hashsalt": "setn_lab", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def searches(configs: Mapping[Any, SearchConfig]) -> str:
    """The searches that a study works on and how far they have come, as Markdown."""
    rows = []
    for name, config in configs.items():
        folder = default_folder(config, "search") if config.run_dir is None else Path(config.run_dir)
        epochs = len(read_journal(folder / "metrics.jsonl"))
        rows.append([name, f"`{folder}`", f"{epochs} of {config.epochs} epochs trained"])
    return table(["search", "run folder", "so far"], rows)


def contents(folder: Path, what: dict[str, str]) -> str:
    """What lies where in a run folder, as Markdown; `what` describes the files by name."""
    lines = [f"- `{folder / name}`: {text}" for name, text in what.items() if any(folder.glob(name))]
    return "\n".join(["Everything of this study lies in its folder:", "", *lines])


def config_text(folder: Path) -> str:
    """The run's config as it is published: images and table by their names alone."""
    stored = (folder / "config.json").read_text()
    config = json.loads(stored)
    for path in (config["dataset"], config.get("table")):  # the table of true accuracies
        if path is not None and path not in BUILT_IN:
            stored = stored.replace(json.dumps(path), json.dumps(f"path/to/{Path(path).name}"))
    return stored


def machine(folder: Path) -> list[str]:
    """The run's machine and versions, as lines of Markdown."""
    environment: dict[str, Any] = json.loads((folder / "environment.json").read_text())
    used = {name: value for name, value in environment.items() if name not in ("resumed_in", "kind")}
    later = [f"- started again at commit {start['git_commit']}" for start in environment["resumed_in"]]
    return [*(f"- {name}: {value}" for name, value in used.items()), *later]
