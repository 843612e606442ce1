"""Views that answer a question each, beside one another as tabs."""

import html
from typing import Any

import ipywidgets as w
from IPython.display import HTML, Image

from setn_lab.inspection import pictures
from setn_lab.inspection.questions import QUESTIONS
from setn_lab.inspection.reading import InspectConfig, InspectionError
from setn_lab.widgets.inspector import Inspector, picture_widget


class QuestionsInspector(Inspector):
    """Does the evaluator rank, which operations help, what has changed: a tab each."""

    def load(self) -> None:
        """Make a tab for each question; the chosen one stays chosen."""
        if not self.loaded:
            self.images = [picture_widget(question) for question in QUESTIONS]
            self.answers = [w.VBox() for _ in QUESTIONS]
            self.tabs = w.Tab(children=self.answers, titles=list(QUESTIONS), selected_index=0)
            self.body.children = [self.tabs]
            self.on(self.tabs, self.draw, "selected_index")

    def draw(self) -> None:
        """Draw the chosen view, or say in its tab why there is none; the others are drawn when they are chosen."""
        place = self.tabs.selected_index or 0
        try:
            self.png = pictures.png(list(QUESTIONS.values())[place](self.config.folder))
        except InspectionError as error:  # of this question alone: another may have its answer
            self.png = b""
            self.answers[place].children = [w.HTML(f"{html.escape(str(error))}.")]
            return
        self.images[place].value = self.png
        self.answers[place].children = [self.images[place]]

    @staticmethod
    def figures(config: InspectConfig) -> list[Any]:
        """All of them; one that cannot be shown says why."""
        shown: list[Any] = []
        folder = config.folder
        for question, figure in QUESTIONS.items():
            shown.append(HTML(f"<b>{html.escape(question)}</b>"))
            try:
                shown.append(Image(pictures.png(figure(folder)), alt=question))
            except InspectionError as error:
                shown.append(HTML(f"<p>{html.escape(str(error))}.</p>"))
        return shown
