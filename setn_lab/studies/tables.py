"""What the studies' reports share beside `figures.page`: how a statistic is written, and which searches are at work."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setn_lab.config import Config, ConfigError, build, completed
from setn_lab.figures.page import table
from setn_lab.runs.run import default_folder, read_journal
from setn_lab.search.config import SearchConfig
from setn_lab.studies.statistics.values import Interval

UNDEFINED = "undefined"


def value(number: float | None, form: str) -> str:
    """A number in that format, or the word that says it is undefined."""
    return UNDEFINED if number is None else format(number, form)


def interval(found: Interval, form: str) -> str:
    """A figure with its 95% interval, or why there is none."""
    if found.value is None:
        return f"{UNDEFINED}: {found.note}"
    if found.low is None or found.high is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


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
        return build(cls, completed(cls, json.loads((folder / "config.json").read_text(encoding="utf-8"))))
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder} is not the run folder of such a study ({cls.__name__}): {error}") from error


def folders(folder: Path) -> str:
    """The run folders of the study's searches, by name, as the page says them."""
    path = folder / "runs.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return ", ".join(f"{name} {run}" for name, run in runs.items())


def searches(configs: Mapping[Any, SearchConfig]) -> str:
    """The searches that a study works on and how far they have come, as Markdown."""
    rows = []
    for name, config in configs.items():
        folder = default_folder(config, "search") if config.run_dir is None else Path(config.run_dir)
        trained = read_journal(folder / "metrics.jsonl")
        done, epochs = trained[-1]["epoch"] if trained else 0, config.epochs + config.evaluator_epochs
        rows.append([name, f"`{folder}`", f"{done} of {epochs} epochs trained"])
    return table(["search", "run folder", "so far"], rows)
