"""Several runs side by side."""

import html
from pathlib import Path
from typing import Any

import ipywidgets as w
from IPython.display import HTML, Image

from setn_lab.inspection import comparison, pictures, reading, tables
from setn_lab.inspection.reading import InspectConfig, InspectionError
from setn_lab.widgets.inspector import Inspector, picture_widget, table_html

ALT = "losses, entropies and candidates' scores of the chosen runs"
MAX_RUNS = 7  # as many as there are colours


class ComparisonInspector(Inspector):
    """Curves, entropies and candidates of several runs, and the parameters in which they differ."""

    def folders(self) -> list[Path]:
        """The runs chosen, at first the run and those of `compare`."""
        if not self.loaded:
            return _given(self.config)
        return [Path(folder) for folder in self.chosen.value]

    def load(self) -> None:
        """List the searches beside the first run."""
        folders = self.folders()
        siblings = sorted(path.parent for path in self.config.folder.absolute().parent.glob("*/evaluator.jsonl"))
        known = {folder.absolute(): None for folder in [*folders, *siblings]}
        options = [(folder.name, str(folder)) for folder in known]
        if not self.loaded:
            self.chosen = w.SelectMultiple(description="runs", rows=min(8, len(options)), layout=w.Layout(width="30em"))
            self.image, self.table = picture_widget(ALT), w.HTML()
            self.note = w.HTML()
            self.body.children = [self.chosen, self.note, self.image, self.table]
            self.on(self.chosen, self.draw)
        self.chosen.options = options
        self.chosen.value = [str(folder.absolute()) for folder in folders]

    def draw(self) -> None:
        """Show the chosen runs; one that cannot be read is named, and the others are shown."""
        picture, self.table.value, problems = _compare([Path(folder) for folder in self.chosen.value])
        self.image.value = self.png = picture
        self.note.value = "<br>".join(html.escape(problem) for problem in problems)

    @staticmethod
    def figures(config: InspectConfig) -> list[Any]:
        """The run and those of `compare`."""
        picture, table, problems = _compare(_given(config))
        return [*(HTML(html.escape(problem)) for problem in problems), Image(picture, alt=ALT), HTML(table)]


def _given(config: InspectConfig) -> list[Path]:
    return list(dict.fromkeys([config.folder, *(reading.compared_folder(folder) for folder in config.others)]))


def _compare(folders: list[Path]) -> tuple[bytes, str, list[str]]:
    """The picture, the table of differing parameters as HTML, and what could not be read."""
    if not folders:
        raise InspectionError("No run is chosen")
    if len(folders) > MAX_RUNS:
        raise InspectionError(f"{len(folders)} runs given; at most {MAX_RUNS} can be told apart")
    metrics, scores, configs, problems = {}, {}, {}, []
    names = [folder.name for folder in folders]
    for folder in folders:
        name = folder.name if names.count(folder.name) == 1 else str(folder)
        try:
            configs[name] = reading.read_config(folder)
            metrics[name] = reading.read_metrics(folder)
            scores[name] = reading.read_scores(folder)
        except InspectionError as error:
            problems.append(str(error))
    picture = pictures.png(comparison.comparison_figure(metrics, scores))
    differences = tables.config_differences(configs)
    table = "No parameter differs." if len(configs) > 1 and differences.empty else table_html(differences)
    return picture, table if len(configs) > 1 else "", problems
