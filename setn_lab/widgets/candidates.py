"""The scored candidates: histograms, a table, and the cells of the one that is picked."""

import html
from typing import Any

import ipywidgets as w
import pandas as pd
from IPython.display import HTML, Image

from setn_lab.figures import style
from setn_lab.inspection import neighbours, pictures, reading
from setn_lab.inspection.reading import InspectConfig
from setn_lab.inspection.retrained import retrained_errors
from setn_lab.widgets.front_end import ClickablePicture, CopyButton
from setn_lab.widgets.inspector import Inspector, svg, table_html
from setn_lab.widgets.table import PickTable

ALT = "histograms of the candidates' one-shot accuracy and loss"
NEIGHBOURS = 20  # as many are shown, the best first
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
        frame = _table(self.config, self.scored)
        self.pool: neighbours.Pool | None = None  # read when it is asked for: a slow part of what is not always seen
        if not self.loaded:
            self.image = ClickablePicture(alt=ALT)
            self.table = PickTable(frame, order=[[0, "asc"]])
            self.note = w.HTML("Click on a bar of a histogram, or on a row of the table.")
            self.cells, self.winner, self.near = w.HTML(), w.HTML(), w.HTML()
            self.copy_json, self.copy_text = (
                CopyButton(label="copy as JSON"),
                CopyButton(label=f"copy as {self.scored.kit.text_form}"),
            )
            buttons = w.HBox([self.copy_json, self.copy_text])
            drawings = w.HBox([self.cells, self.winner], layout=w.Layout(flex_flow="row wrap"))
            self.body.children = [self.image, self.note, self.table, self.near, buttons, drawings]
            self.on(self.image, self._clicked, "clicked")
            self.on(self.table, self._selected, "selected_rows")
            self.picked = None
        else:
            if was_best or (self.picked is not None and self.picked >= len(frame)):  # the run was begun anew
                self.picked = self.scored.winner
            self.table.update(frame, selected_rows=[] if self.picked is None else [self.picked])
        if self.picked is None:
            self.picked = self.scored.winner
        self.image.bars = [(*bar.point, _told(bar)) for bar in pictures.bars(self.picture, self.scored)]

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
        self.near.value = self._neighbours(place)
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
        bar = pictures.bar_at(self.picture, self.scored, *self.image.clicked[:2])
        if bar is None:
            return
        self.pick(min(bar.places, key=lambda place: self.scored.table["rank"].iloc[place]))
        self.note.value = _told(bar) + (", the best of which is drawn" if len(bar.places) > 1 else "")

    def _selected(self) -> None:
        if self.table.selected_rows and self.table.selected_rows != [self.picked]:
            self.pick(self.table.selected_rows[-1])
            self.note.value = ""

    def _neighbours(self, place: int) -> str:
        """What one edit of the candidate does, as HTML."""
        if self.pool is None:
            self.pool = neighbours.pool(self.config.folder, self.scored)
        return _near(neighbours.neighbours_in(self.pool, place), self.scored, place)

    @staticmethod
    def figures(config: InspectConfig) -> list[Any]:
        """The histograms, the ten best, the winner's neighbours, and its cells."""
        scored = reading.read_candidates(config.folder)
        best = _table(config, scored).sort_values("rank").head(10)
        shown: list[Any] = [Image(pictures.candidates_picture(scored).png(), alt=ALT), HTML(table_html(best))]
        if scored.winner is not None:
            found = neighbours.neighbours(config.folder, scored.winner)
            shown.append(HTML(_near(found, scored, scored.winner)))
            shown.append(style.show(scored.kit.draw(scored.genotypes[scored.winner])))
        return shown


def _table(config: InspectConfig, scored: reading.Scored) -> pd.DataFrame:
    """A row a candidate, in the order of their draw, with what its network has come to where it was trained."""
    errors = retrained_errors(config.folder, scored.genotypes).round(2)
    return pd.concat([scored.table.round(ROUNDING), errors], axis=1)


def _told(bar: pictures.Bar) -> str:
    count = len(bar.places)
    return f"{bar.column} {bar.low:.4g} to {bar.high:.4g}: {count} candidate{'' if count == 1 else 's'}"


def _near(found: pd.DataFrame, scored: reading.Scored, place: int) -> str:
    """The neighbours of a candidate in a sentence and a table, as HTML."""
    title = "the winner" if scored.chosen else "the best so far"
    name = title if place == scored.winner else f"the candidate of rank {scored.table['rank'].iloc[place]}"
    text = neighbours.in_words(found, name)
    if len(found) > NEIGHBOURS:
        text += f" The {NEIGHBOURS} best:"
    table = "" if found.empty else table_html(found.head(NEIGHBOURS))
    return f"<p>{html.escape(text)}</p>{table}"
