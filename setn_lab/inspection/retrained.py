"""What candidates have come to as networks that were trained from scratch: the trainings beside a search."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from setn_lab.inspection.kinds import UNREADABLE
from setn_lab.retrain.results import results
from setn_lab.space.genotype import Genotype

COLUMN = "retrained test error [%]"


def retrained_errors(folder: Path, genotypes: Sequence[Any]) -> pd.DataFrame:
    """The test errors [%] of the genotypes (n,) in the runs of trainings that lie beside the run folder: n rows.

    The mean over the seeds that have had all their epochs, NaN where there is none. There is no column where no
    genotype has been trained, one, COLUMN, where all were trained by one recipe, and else one for each recipe, with its
    images, epochs, channels and repeats. Runs that cannot be read are passed over.
    """
    places = {genotype: place for place, genotype in enumerate(genotypes)}
    errors: dict[str, dict[int, list[float]]] = {}
    for run in _trainings(folder.absolute().parent):
        with suppress(*UNREADABLE):
            genotype = Genotype.from_json((run / "genotype.json").read_text(encoding="utf-8"))
            if genotype not in places:
                continue
            config = json.loads((run / "config.json").read_text(encoding="utf-8"))
            found = [100 * result.test_error for result in results(run) if result.epochs == config["epochs"]]
            if found:
                errors.setdefault(_recipe(config), {}).setdefault(places[genotype], []).extend(found)
    columns = {
        COLUMN if len(errors) == 1 else f"{COLUMN}: {recipe}": [
            fmean(by_place[place]) if place in by_place else float("nan") for place in range(len(genotypes))
        ]
        for recipe, by_place in sorted(errors.items())
    }
    return pd.DataFrame(columns, index=range(len(genotypes)))


def _trainings(root: Path) -> list[Path]:
    """The run folders of trainings in `root`, which need not be named so."""
    found = []
    with os.scandir(root) as entries:
        for entry in entries:
            path = os.path.join(entry.path, "environment.json")
            with suppress(*UNREADABLE), open(path, encoding="utf-8") as file:
                if json.load(file)["kind"] == "retrain":
                    found.append(Path(entry.path))
    return sorted(found)


def _recipe(config: dict[str, Any]) -> str:
    size = f"C = {config['channels']}, N = {config['repeats']}"
    return f"{Path(config['dataset']).name}, {config['network']} network, {size}, {config['epochs']} epochs"
