"""The slider over the epochs that a run has recorded."""

import ipywidgets as w
import numpy as np
from numpy.typing import NDArray


class Epochs:
    """A slider over the recorded epochs, and a player that moves it in the browser."""

    def __init__(self) -> None:
        """Begin without epochs."""
        self.slider = w.IntSlider(description="epoch", min=0, max=1, layout=w.Layout(width="28em"))
        self.player = w.Play(min=0, max=1, interval=250)
        w.jslink((self.slider, "value"), (self.player, "value"))
        self._epochs: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def set(self, epochs: NDArray[np.int64], follow: bool = False) -> None:
        """Take over the recorded epochs, at least one; the slider stays where it is, or at the end if it was there.

        follow: it moves to the end in any case.
        """
        slider, first, last = self.slider, int(epochs[0]), int(epochs[-1])
        at_end = follow or not self._epochs.size or slider.value >= self._epochs[-1]
        value = last if at_end else slider.value
        slider.disabled = self.player.disabled = first == last
        # The bounds of both before the value: in the browser each hands its value to the other, which would cut it to
        # its old bounds and send that back.
        for control in (self.player, slider):
            with control.hold_sync():
                control.min = min(control.min, first)  # never above the maximum
                control.max = max(last, first + 1)  # a slider without a length breaks in the browser
                control.min = first
        self.player.value = slider.value = value  # both: when they are first shown the browser moves one to the other
        self._epochs = epochs

    @property
    def index(self) -> int:
        """The record of the slider's epoch, 0 .. E-1."""
        return max(int(np.searchsorted(self._epochs, self.slider.value, side="right")) - 1, 0)
