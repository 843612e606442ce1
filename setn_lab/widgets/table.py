"""A table to sort, page and pick from, by mouse or keyboard, that keeps its order and page when it is read again."""

import uuid
from typing import Any

import ipywidgets as w
import pandas as pd
import traitlets
from itables import JavascriptFunction
from itables.widget import ITable

# Rows are reached by Tab and picked by Enter. A row that is selected, also from outside, is paged to, but for that of a
# table which has just been made: its page is the reader's.
DRAWN = """function (settings) {
    const table = this.api();
    table.rows({ page: "current" }).nodes().each((row) => {
        row.tabIndex = 0;
        row.setAttribute("data-lm-suppress-shortcuts", "true");  // else Enter is JupyterLab's
        row.onkeydown = (event) => {
            if (event.key !== "Enter" && event.key !== " ") return;
            event.preventDefault();
            table.row(row).select();
        };
    });
    if (settings.pagesToSelected) return;
    settings.pagesToSelected = true;
    setTimeout(() => table.on("select", (event, dt, type, places) => {
        const shown = table.rows({ order: "applied", search: "applied" }).indexes().toArray();
        const page = Math.floor(shown.indexOf(places[0]) / table.page.len());
        if (type === "row" && page >= 0 && page !== table.page()) table.page(page).draw("page");
    }));
}"""


class PickTable(w.VBox):
    """An ITable of which one row can be picked.

    selected_rows: the picked row's number in the frame, or none. df: the frame. ITable's own `update` makes a table
    whose rows cannot be picked any more: here a new one takes its place, which begins with the order, page and search
    of the one before. Raises what ITable raises.
    """

    selected_rows = traitlets.List(traitlets.Int())

    def __init__(self, frame: pd.DataFrame, order: list[list[Any]]) -> None:
        """order: [column, "asc" or "desc"] for each column to sort by, until the reader sorts."""
        super().__init__()
        name = f"setnLab{uuid.uuid4().hex}"
        self._options: dict[str, Any] = {
            "select": "single",
            "showIndex": False,
            "maxBytes": 0,
            "order": order,
            "pageLength": 10,
            "text_in_header_can_be_selected": False,  # else a click on a title does not sort
            "drawCallback": JavascriptFunction(DRAWN),
            "warn_on_undocumented_option": False,  # of the two callbacks, which are DataTables' own
            "stateSave": True,
            "stateDuration": 0,
            "stateSaveCallback": JavascriptFunction(f"function (settings, state) {{ window.{name} = state; }}"),
            "stateLoadCallback": JavascriptFunction(f"function (settings) {{ return window.{name} ?? null; }}"),
        }
        self._link: traitlets.link | None = None
        self._table: ITable | None = None
        self._show(frame)

    @property
    def df(self) -> pd.DataFrame:
        """What is shown."""
        return self._frame

    def update(self, frame: pd.DataFrame, selected_rows: list[int]) -> None:
        """Show another frame, or the same again, with that row picked."""
        if not frame.equals(self._frame):
            with self.hold_trait_notifications():
                self.selected_rows = selected_rows
                self._show(frame)
        self.selected_rows = selected_rows

    def _show(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        old, table = self._table, ITable(frame, selected_rows=self.selected_rows, **self._options)
        if self._link is not None:
            self._link.unlink()
        self._link = traitlets.link((self, "selected_rows"), (table, "selected_rows"))
        self._table = table
        self.children = [table]
        if old is not None:
            old.close()
