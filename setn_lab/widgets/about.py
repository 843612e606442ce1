"""Which run is shown, and how far it is."""

import html
from typing import Any

import ipywidgets as w
from IPython.display import HTML

from setn_lab.inspection.about import about
from setn_lab.inspection.reading import InspectConfig
from setn_lab.runs.lock import in_use
from setn_lab.widgets.inspector import Inspector


class RunInspector(Inspector):
    """The run's name, state, result, images and parameters."""

    def load(self) -> None:
        """Read what there is."""
        self.rows = about(self.config.folder)
        if not self.loaded:
            self.table = w.HTML()
            self.body.children = [self.table]

    def draw(self) -> None:
        """Show it."""
        self.table.value = _table(self.rows)

    def stamps(self) -> list[Any]:
        """Whether the run is open too: one that is stopped changes none of its files."""
        return [*super().stamps(), in_use(self.config.folder)]

    @staticmethod
    def figures(config: InspectConfig) -> list[Any]:
        """The same table."""
        return [HTML(_table(about(config.folder)))]


def _table(rows: dict[str, str]) -> str:
    """Names and texts as HTML, which breaks long lines."""
    cells = "".join(
        f'<tr><th style="text-align: left; vertical-align: top; white-space: nowrap">{html.escape(name)}</th>'
        f'<td style="text-align: left; white-space: normal">{html.escape(text)}</td></tr>'
        for name, text in rows.items()
    )
    return f'<div class="jp-RenderedHTMLCommon"><table style="margin-left: 0">{cells}</table></div>'
