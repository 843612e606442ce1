"""What a shell shows while something runs: lines that stay, and one below them that is kept up to date."""

import shutil
import sys
import time

from setn_lab.runs.progress import Meter, Progress

INTERVAL = 0.2  # seconds between two updates of the kept line


class Screen:
    """The standard output of now: lines that stay, and where a terminal is looked at a line below, kept up to date."""

    def __init__(self) -> None:
        """With nothing written yet."""
        self._out = sys.stdout
        self._clear = "\r\x1b[K" if self._out.isatty() else ""

    def say(self, text: str) -> None:
        """Write a line that stays, where the kept one was."""
        self._out.write(f"{self._clear}{text}\n")
        self._out.flush()

    def keep(self, text: str) -> None:
        """Write the kept line anew, cut to the terminal's width; nothing where there is no terminal."""
        if self._clear:
            self._out.write(self._clear + text[: shutil.get_terminal_size().columns - 1])
            self._out.flush()


class Terminal:
    """An observer that prints a line per epoch and, where a terminal is looked at, keeps a line up to date below it."""

    def __init__(self) -> None:
        """Write to the standard output of now."""
        self.screen, self._meter = Screen(), Meter()
        self._shown = 0.0
        self._told: tuple[str, str] | None = None  # the phase and part whose end was written

    def __call__(self, progress: Progress) -> None:
        """Take note of how far the phase is."""
        line = self._meter.note(progress)
        if line:
            self.screen.say(line)
        # the end of a training that was done here is the line of its last epoch
        ended = progress.finished and (progress.phase != "train" or self._meter.was_done)
        phase = (progress.phase, progress.part) if ended else None
        if ended and self._told != phase:
            self.screen.say(self._meter.text)
        elif not progress.finished and (line or time.perf_counter() - self._shown > INTERVAL):
            self._shown = time.perf_counter()
            self.screen.keep(self._meter.text)
        self._told = phase
