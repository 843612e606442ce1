"""What all inspectors share: reading a run folder again, following it, and errors that are seen.

Errors in a widget's handler would be swallowed: here each becomes a message in its place. `show` leaves a static
figure beside every widget, and nothing else where the notebook is run without a reader.
"""

import asyncio
import base64
import html
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets as w
import pandas as pd
import traitlets
from IPython.display import HTML, display

from setn_lab.figures import style
from setn_lab.inspection import reading
from setn_lab.inspection.reading import InspectConfig, InspectionError
from setn_lab.kits import Kit
from setn_lab.notebook import headless


class Inspector(ABC):
    """What all inspectors share: their folders, buttons to read them again and to follow a run, and the message.

    widget: the whole. `load` reads the folders and brings the controls up to date; `draw` shows what they say.
    """

    pause = 3.0  # seconds between two looks at a run that is followed

    def __init__(self, config: InspectConfig) -> None:
        self.config = config
        self.message, self.body = w.HTML(), w.VBox()
        self.loaded = False
        self.png = b""  # the picture as it is shown
        self._stamps: list[Any] = []
        self._task: asyncio.Task[None] | None = None
        self.refresh_button = w.Button(description="refresh", icon="refresh", tooltip="read the run folder again")
        self.follow = w.ToggleButton(
            description="follow", icon="eye", tooltip="show the newest, whenever it is written"
        )
        self.refresh_button.on_click(lambda _: self.refresh())
        self.follow.observe(self._follow, "value")
        self.widget = w.VBox([w.HBox([self.refresh_button, self.follow, self.message]), self.body])
        self.refresh()

    def folders(self) -> list[Path]:
        """The run folders to read. Raises InspectionError where there are none."""
        return [self.config.folder]

    @abstractmethod
    def load(self) -> None:
        """Read the folders; sets `body`'s children at the first call."""

    @abstractmethod
    def draw(self) -> None:
        """Show what the controls say."""

    @staticmethod
    @abstractmethod
    def figures(config: InspectConfig) -> list[Any]:
        """What a reader without widgets is shown, made without any. Raises InspectionError."""

    def refresh(self) -> None:
        """Read everything again and draw."""
        with self.in_place():
            self._stamps = self.stamps()
            self.load()
            self.loaded = True
            self.draw()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Show whatever goes wrong as the message; what was shown before stays."""
        try:
            yield
            self.message.value = ""
        except InspectionError as error:
            kept = " What was read before is still shown." if self.loaded else ""
            self.message.value = f"<span class='inspector-message'>{html.escape(str(error))}.{kept}</span>"
        except Exception as error:  # an error of our own: a silent one would be worse
            trace = html.escape("".join(traceback.format_exception(error)))
            text = html.escape(f"{type(error).__name__}: {error}")
            self.message.value = (
                f"<details class='inspector-message'><summary>{text}</summary><pre>{trace}</pre></details>"
            )

    def on(self, control: w.Widget, handler: Callable[[], None], trait: str = "value") -> None:
        """Call `handler` when the control's trait changes."""

        def handle(_: Any) -> None:
            if self.loaded:
                with self.in_place():
                    handler()

        control.observe(handle, trait)

    def stamps(self) -> list[Any]:
        """What is equal as long as nothing has changed that is shown."""
        return [reading.stamp(folder) for folder in self.folders()]

    def _follow(self, change: Any) -> None:
        if self._task is not None:
            self._task.cancel()
        self._stamps = []  # what is newest is shown at once
        self._task = asyncio.ensure_future(self._watch()) if change["new"] else None

    async def _watch(self) -> None:
        while True:
            if self._changed():
                self.refresh()
            await asyncio.sleep(self.pause)

    def _changed(self) -> bool:
        try:
            return self.stamps() != self._stamps
        except InspectionError:  # which `refresh` shows
            return True


def show(inspector_class: type[Inspector], config: InspectConfig) -> None:
    """Display an inspector, with its picture for where widgets are not shown.

    Static figures alone with `interactive` false, or where papermill runs the notebook.
    """
    if config.interactive and not headless():
        inspector = inspector_class(config)
        bundle = inspector.widget._repr_mimebundle_()
        picture = {"image/png": base64.b64encode(inspector.png).decode()} if inspector.png else {}
        display({**bundle, **picture}, raw=True)
        return
    try:
        shown = inspector_class.figures(config)
    except InspectionError as error:
        shown = [HTML(f"<p>{html.escape(str(error))}.</p>")]
    for item in shown:
        display(item)


class _Titled(w.Image):
    """An image with a title: where it has a tooltip, its view asks for a description, which images lack."""

    description = traitlets.Unicode("").tag(sync=True)


def picture_widget(what: str) -> w.Image:
    """A place for a PNG picture, in its own size or as wide as the page; `what` it shows is its title."""
    return _Titled(format="png", tooltip=what, layout=w.Layout(max_width="100%", align_self="flex-start"))


@lru_cache(maxsize=64)
def svg(kit: Kit, genotype: Any, caption: str, beside: Any = None) -> str:
    """A drawing of the cells, as HTML; DOT text where no Graphviz is installed."""
    graph = kit.draw(genotype, caption, beside)
    try:
        picture = style.on_screen(graph)
    except style.RenderError as error:
        return f"<p>{html.escape(str(error))}</p><pre>{html.escape(graph.source)}</pre>"
    return picture[picture.index("<svg") :]


def table_html(frame: pd.DataFrame) -> str:
    """A small table as HTML, numbers to four digits."""
    table = frame.to_html(index=False, border=0, float_format="{:.4g}".format)
    return f'<div class="jp-RenderedHTMLCommon">{table}</div>'  # JupyterLab's own look of a table
