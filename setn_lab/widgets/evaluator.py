"""The evaluator's distributions of each cell, epoch by epoch."""

from typing import Any

import ipywidgets as w
from IPython.display import HTML, Image

from setn_lab.inspection import pictures, reading, tables
from setn_lab.inspection.reading import InspectConfig
from setn_lab.widgets.epochs import Epochs
from setn_lab.widgets.inspector import Inspector, picture_widget, table_html

ALT = "probabilities of the evaluator over uniform ones, and their entropies by epoch"


class EvaluatorInspector(Inspector):
    """f, g, h, mixing weights and entropies of each cell, with a slider over the epochs and a play button."""

    def load(self) -> None:
        """Read the evaluator's journal; the slider stays where it is, or at the end if it was there."""
        self.history = reading.read_history(self.config.folder)
        self.pictures: dict[int, pictures.Picture] = {}
        if not self.loaded:
            self.cell = w.ToggleButtons(
                options=[(name, cell_type) for cell_type, name in enumerate(self.history.space.cell_names)]
            )
            self.epochs = Epochs()
            self.image, self.table = picture_widget(ALT), w.HTML()
            self.body.children = [w.HBox([self.cell, self.epochs.player, self.epochs.slider]), self.image, self.table]
            self.on(self.cell, self.draw)
            self.on(self.epochs.slider, self.draw)
        self.epochs.set(self.history.epochs, self.follow.value)

    def draw(self) -> None:
        """Show the chosen cell at the chosen epoch."""
        index = self.epochs.index
        if self.cell.value not in self.pictures:
            self.pictures[self.cell.value] = pictures.evaluator_picture(self.history, self.cell.value)
        picture = self.pictures[self.cell.value]
        picture.show(index)
        self.image.value = self.png = picture.png(fast=True)
        self.table.value = table_html(tables.preferences(self.history.at(index))[self.cell.value])

    @staticmethod
    def figures(config: InspectConfig) -> list[Any]:
        """Both cells after the last epoch."""
        history = reading.read_history(config.folder)
        shown: list[Any] = []
        for cell_type, table in enumerate(tables.preferences(history.at(-1))):
            shown.append(HTML(f"<b>{history.space.cell_names[cell_type]}</b>, epoch {history.epochs[-1]}"))
            shown.append(Image(pictures.evaluator_picture(history, cell_type).png()))
            shown.append(HTML(table_html(table)))
        return shown
