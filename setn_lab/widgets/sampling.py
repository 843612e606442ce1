"""What the evaluator draws, at an epoch and a temperature."""

from typing import Any

import ipywidgets as w
from IPython.display import HTML, Image

from setn_lab.compute.streams import generator
from setn_lab.figures import style
from setn_lab.inspection import pictures, reading, tables
from setn_lab.inspection.reading import InspectConfig
from setn_lab.widgets.epochs import Epochs
from setn_lab.widgets.inspector import Inspector, picture_widget, svg

STREAM = "inspector"
ALT = "shares of operations and inputs among drawn architectures, beside uniform ones"


class SamplingInspector(Inspector):
    """Architectures drawn anew from the evaluator at an epoch and a temperature, against uniform ones."""

    def load(self) -> None:
        """Read the evaluator's journal."""
        self.history = reading.read_history(self.config.folder)
        self.picture = pictures.sampling_picture(
            self.history.space, self.history.kit.uniform_weights(self.history.space)
        )
        if not self.loaded:
            self.epochs = Epochs()
            self.temperature = w.FloatLogSlider(
                self.config.temperature,
                min=-1,
                max=1,
                step=0.02,
                description="temperature",
                readout_format=".2f",
                style={"description_width": "initial"},
            )
            self.count = w.BoundedIntText(self.config.samples, min=1, max=100_000, description="draws")
            self.again = w.Button(description="draw anew", tooltip="other draws from the same distributions")
            self.step = 0
            self.again.on_click(self._draw_anew)
            self.image, self.text, self.cells = (
                picture_widget(ALT),
                w.HTML(),
                w.HTML(),
            )
            controls = [self.epochs.player, self.epochs.slider, self.temperature, self.count, self.again]
            line = w.HBox(controls, layout=w.Layout(flex_flow="row wrap"))
            self.body.children = [line, self.image, self.text, self.cells]
            for control in (self.epochs.slider, self.temperature, self.count):
                self.on(control, self.draw)
        self.epochs.set(self.history.epochs, self.follow.value)

    def draw(self) -> None:
        """Draw architectures and show them, and the most likely one."""
        distributions = self.history.at(self.epochs.index).tempered(self.temperature.value)
        rng = generator(self.config.seed, STREAM, self.step)
        self.picture.show(distributions.sample(rng, self.count.value))
        self.image.value = self.png = self.picture.png(fast=True)
        likely, self.text.value = tables.likeliest(distributions)
        self.cells.value = svg(self.history.kit, likely, "the most likely architecture")

    def _draw_anew(self, _: Any) -> None:
        self.step += 1
        with self.in_place():
            self.draw()

    @staticmethod
    def figures(config: InspectConfig) -> list[Any]:
        """The shares and the most likely architecture after the last epoch."""
        history = reading.read_history(config.folder)
        distributions = history.at(-1).tempered(config.temperature)
        picture = pictures.sampling_picture(history.space, history.kit.uniform_weights(history.space))
        picture.show(distributions.sample(generator(config.seed, STREAM), config.samples))
        likely, text = tables.likeliest(distributions)
        return [Image(picture.png(), alt=ALT), HTML(text), style.show(history.kit.draw(likely))]
