"""All runs in a table, and the inspectors of the one that is picked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets as w
import pandas as pd
from IPython.display import HTML

from setn_lab.inspection import runs
from setn_lab.inspection.reading import InspectConfig, InspectionError
from setn_lab.widgets.candidates import CandidatesInspector
from setn_lab.widgets.evaluator import EvaluatorInspector
from setn_lab.widgets.inspector import Inspector, table_html
from setn_lab.widgets.questions import QuestionsInspector
from setn_lab.widgets.sampling import SamplingInspector
from setn_lab.widgets.table import PickTable

ROUNDING = {"gain [nats]": 4, "best loss [nats]": 4, "age [h]": 1}
OPENED: dict[str, type[Inspector]] = {
    "evaluator": EvaluatorInspector,
    "candidates": CandidatesInspector,
    "sampling": SamplingInspector,
    "questions": QuestionsInspector,
}
STATIC = 30  # runs in the table of a reader without widgets


class RunsInspector(Inspector):
    """A sortable table of all runs, the means over their seeds, and below the inspectors of a run that is clicked."""

    def stamps(self) -> list[Any]:
        """The rows themselves, which are read again only where a file has changed."""
        return runs.rows(self.config.root)

    def load(self) -> None:
        """List the runs; the picked one stays picked."""
        self.rows = _rows(self.config)
        table = runs.frame(self.rows).round(ROUNDING)
        if not self.loaded:
            self.table = PickTable(_plain(table), order=[[len(table.columns) - 1, "asc"]])
            self.note, self.groups, self.opened = w.HTML("Click on a run to open its inspectors."), w.HTML(), w.VBox()
            self.body.children = [self.note, self.table, self.groups, self.opened]
            self.on(self.table, self._selected, "selected_rows")
            self.picked: Path | None = None
        else:
            folders = [row.folder for row in self.rows]
            if self.picked not in folders:
                self.picked = None
            self.table.update(_plain(table), selected_rows=[] if self.picked is None else [folders.index(self.picked)])

    def draw(self) -> None:
        """Show the means over seeds."""
        self.groups.value = _groups(self.rows)

    def _selected(self) -> None:
        if not self.table.selected_rows:
            return
        row = self.rows[self.table.selected_rows[-1]]
        if row.folder == self.picked:
            return
        if row.kind != "search":
            raise InspectionError(f"{row.name} is a run of the kind {row.kind}: the inspectors are those of a search")
        self.picked = row.folder
        config = replace(self.config, run_dir=str(row.folder), compare=None)
        tabs = w.Tab(children=[w.VBox() for _ in OPENED], titles=list(OPENED))

        def fill(_: Any) -> None:  # an inspector is made when its tab is chosen
            place = tabs.selected_index or 0
            if not tabs.children[place].children:
                tabs.children[place].children = [list(OPENED.values())[place](config).widget]

        tabs.observe(fill, "selected_index")
        tabs.selected_index = 0
        fill(None)
        self.opened.children = [w.HTML(f"<b>{row.name}</b>"), tabs]

    @staticmethod
    def figures(config: InspectConfig) -> list[Any]:
        """The newest runs, and the means over seeds."""
        found = _rows(config)
        table = runs.frame(found[:STATIC]).round(ROUNDING)
        return [HTML(table_html(table)), HTML(_groups(found))]


def _rows(config: InspectConfig) -> list[runs.Row]:
    found = runs.rows(config.root)
    if not found:
        raise InspectionError(f"{config.root} holds no run folder")
    return found


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers that may be missing as the table's own kind of number."""
    return table.astype({"seed": "float64", "epochs": "float64"})


def _groups(found: list[runs.Row]) -> str:
    table = runs.grouped(found)
    return "" if table.empty else f"<p>Runs that differ in their seed alone:</p>{table_html(table)}"
