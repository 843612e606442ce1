"""The scored candidates: histograms, a table, and the cells of the one that is picked."""

from typing import Any

import ipywidgets as w
from IPython.display import HTML, Image
from itables.widget import ITable

from setn_lab.figures import style
from setn_lab.inspection import pictures, reading
from setn_lab.inspection.reading import InspectConfig
from setn_lab.widgets.front_end import ClickablePicture, CopyButton
from setn_lab.widgets.inspector import Inspector, svg, table_html

ROUNDING = {"loss": 4, "accuracy [%]": 2, "log-probability": 2, "parameters [M]": 3, "multiply-adds [M]": 1}


class CandidatesInspector(Inspector):
    """Histograms and a sortable table of the candidates; a picked one's cells beside the winner's."""

    scored: reading.Scored
    picked: int | None

    def load(self) -> None:
        """Read the candidates; the picked one stays picked, but where it was the best and another is now."""
        was_best = self.loaded and self.picked == self.scored.winner
        self.scored = reading.read_candidates(self.config.folder)
        self.picture = pictures.candidates_picture(self.scored)
        frame = self.scored.table.round(ROUNDING)
        if not self.loaded:
            self.image = ClickablePicture(alt="histograms of the candidates' one-shot accuracy and loss")
            self.table = ITable(frame, select="single", showIndex=False, maxBytes=0, order=[[0, "asc"]], pageLength=10)
            self.note = w.HTML("Click on a bar of a histogram, or on a row of the table.")
            self.cells, self.winner = w.HTML(), w.HTML()
            self.copy_json, self.copy_text = (
                CopyButton(label="copy as JSON"),
                CopyButton(label=f"copy as {self.scored.kit.text_form}"),
            )
            buttons = w.HBox([self.copy_json, self.copy_text])
            drawings = w.HBox([self.cells, self.winner], layout=w.Layout(flex_flow="row wrap"))
            self.body.children = [self.image, self.note, self.table, buttons, drawings]
            self.on(self.image, self._clicked, "clicked")
            self.on(self.table, self._selected, "selected_rows")
            self.picked = None
        else:
            if was_best or (self.picked is not None and self.picked >= len(frame)):  # the run was begun anew
                self.picked = self.scored.winner
            self.table.update(frame, selected_rows=[] if self.picked is None else [self.picked])
        if self.picked is None:
            self.picked = self.scored.winner

    def pick(self, place: int) -> None:
        """Draw the candidate at that place, in the order of their draw."""
        self.picked = place
        if self.table.selected_rows != [place]:
            self.table.selected_rows = [place]
        self.draw()

    def draw(self) -> None:
        """Show the picked candidate in the histograms and its cells beside the winner's."""
        place, winner = self.picked, self.scored.winner
        self.picture.show(place)
        self.image.png = self.png = self.picture.png(fast=True)
        if place is None or winner is None:
            return
        genotype, best = self.scored.genotypes[place], self.scored.genotypes[winner]
        self.copy_json.text, self.copy_text.text = genotype.to_json(), self.scored.space.write(genotype)
        title = "the winner" if self.scored.chosen else "the best so far"
        if place == winner:
            self.cells.value, self.winner.value = svg(self.scored.kit, genotype, title), ""
        else:
            name = f"candidate of rank {self.scored.table['rank'].iloc[place]}: thick where it differs"
            self.cells.value, self.winner.value = (
                svg(self.scored.kit, genotype, name, best),
                svg(self.scored.kit, best, title, genotype),
            )

    def _clicked(self) -> None:
        found = pictures.bar_at(self.picture, self.scored, *self.image.clicked)
        if found is None:
            return
        column, low, high, places = found
        self.pick(min(places, key=lambda place: self.scored.table["rank"].iloc[place]))
        number = "1 candidate" if len(places) == 1 else f"{len(places)} candidates, the best of which is drawn"
        self.note.value = f"{column} {low:.4g} to {high:.4g}: {number}"

    def _selected(self) -> None:
        if self.table.selected_rows and self.table.selected_rows != [self.picked]:
            self.pick(self.table.selected_rows[-1])
            self.note.value = ""

    @staticmethod
    def figures(config: InspectConfig) -> list[Any]:
        """The histograms, the ten best, and the winner's cells."""
        scored = reading.read_candidates(config.folder)
        best = scored.table.sort_values("rank").head(10).round(ROUNDING)
        shown: list[Any] = [Image(pictures.candidates_picture(scored).png()), HTML(table_html(best))]
        if scored.winner is not None:
            shown.append(style.show(scored.kit.draw(scored.genotypes[scored.winner])))
        return shown
