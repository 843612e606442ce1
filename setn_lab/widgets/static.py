"""What the inspectors show a reader without widgets, as files."""

import base64
import html
from pathlib import Path

from IPython.core.formatters import DisplayFormatter

from setn_lab.inspection.reading import InspectConfig, InspectionError
from setn_lab.runs.files import replace_file
from setn_lab.widgets.about import RunInspector
from setn_lab.widgets.candidates import CandidatesInspector
from setn_lab.widgets.comparison import ComparisonInspector
from setn_lab.widgets.evaluator import EvaluatorInspector
from setn_lab.widgets.inspector import Inspector
from setn_lab.widgets.questions import QuestionsInspector
from setn_lab.widgets.runs import RunsInspector
from setn_lab.widgets.sampling import SamplingInspector

PICTURES = {"image/png": "png", "image/svg+xml": "svg"}


def write_figures(config: InspectConfig, folder: Path) -> list[Path]:
    """Write what each inspector shows without widgets, a picture a file, and all of it on the page index.html."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, page = [], [f"<title>{html.escape(config.folder.name)}</title>"]
    inspectors: list[type[Inspector]] = [RunInspector, EvaluatorInspector, CandidatesInspector, QuestionsInspector]
    inspectors += [SamplingInspector, ComparisonInspector, RunsInspector]
    for inspector in inspectors:
        name = inspector.__name__.removesuffix("Inspector").lower()
        page.append(f"<h2>{name}</h2>")
        try:
            shown = inspector.figures(config)
        except InspectionError as error:
            page.append(f"<p>{html.escape(str(error))}</p>")
            continue
        for number, figure in enumerate(shown, 1):
            content, _ = DisplayFormatter().format(figure, include=PICTURES.keys() | {"text/html"})
            for kind, data in content.items():
                if kind not in PICTURES:
                    page.append(data)
                    continue
                paths.append(folder / f"{name}-{number}.{PICTURES[kind]}")
                replace_file(paths[-1], base64.b64decode(data) if kind == "image/png" else data.encode())
                page.append(
                    f'<p><img src="{paths[-1].name}" alt="{html.escape(getattr(figure, "alt", None) or name)}"></p>'
                )
    paths.append(folder / "index.html")
    replace_file(paths[-1], ("\n".join(page) + "\n").encode())
    return paths
