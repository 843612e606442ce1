"""What the notebooks take from the library alone: their parameter cell as a config, plain errors, live progress."""

import ast
import dataclasses
import math
import os
import re
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import yaml

from setn_lab.config import Config, ConfigError, build
from setn_lab.extras import needs
from setn_lab.presets import PARAMETER, filled
from setn_lab.runs.progress import Meter, Progress

with needs("notebooks", "setn_lab.notebook"):
    import psutil
    from IPython.core.getipython import get_ipython
    from IPython.display import Image, display

INLINE = "module://matplotlib_inline.backend_inline"  # what a kernel takes by itself
INTERVAL = 1.0  # seconds between two updates: a headless notebook stores each of them
PAUSE = 3.0  # seconds between two drawings of a picture
SHARE = 0.03  # of the time, which drawing may take at most


class Live:
    """An observer that shows the rate and the time left, prints one line per epoch, and may show a picture."""

    def __init__(self, draw: Callable[[], bytes | None] | None = None) -> None:
        """Open the display.

        draw: gives a PNG picture of what is recorded so far, or None where nothing is. It is shown below the line and
        drawn again after epochs; where nobody is there to see it, at the end alone.
        """
        self._meter = Meter()
        self._text = self._meter.text
        self._display = display(self, display_id=True)
        self._picture = None if draw is None else _Picture(draw)
        self._shown = -INTERVAL
        if shell := get_ipython():
            shell.events.register("post_run_cell", self._end)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": self._text, "text/markdown": self._text}

    def _end(self, result: Any) -> None:
        """Say of a phase that an error or an interrupt has ended that it has stopped."""
        get_ipython().events.unregister("post_run_cell", self._end)
        if not result.success and self._display is not None:
            self._text = self._meter.stopped()
            self._display.update(self)
        if self._picture is not None:
            self._picture.update()

    def __call__(self, progress: Progress) -> None:
        """Take note of how far the phase is."""
        if line := self._meter.note(progress):
            print(line)
            if self._picture is not None:
                self._picture.grow(progress.finished)
        now = time.perf_counter()
        if self._display is not None and (progress.finished or now - self._shown >= INTERVAL):
            self._shown, self._text = now, self._meter.text
            self._display.update(self)


class _Picture:
    """A picture in a display of its own, drawn now and then."""

    def __init__(self, draw: Callable[[], bytes | None]) -> None:
        """Show what is recorded already."""
        self._draw, self._headless = draw, headless()
        self._display = display({"text/plain": ""}, raw=True, display_id=True)  # its place is above the printed lines
        self._old = True  # whether there is something that it does not show
        self.update()

    def update(self) -> None:
        """Draw it, unless it shows all there is."""
        started = time.perf_counter()
        if self._old and self._display is not None and (png := self._draw()) is not None:
            self._display.update(Image(png, alt="loss, accuracy and entropy by epoch"))
        self._old = False
        ended = time.perf_counter()
        self._next = math.inf if self._headless else ended + max(PAUSE, (ended - started) / SHARE)

    def grow(self, last: bool) -> None:
        """Take note of a further epoch, and draw it if the last drawing is long ago or it is the last one."""
        self._old = True
        if last or time.perf_counter() >= self._next:
            self.update()


def from_notebook(cls: type[Config], shell: Any) -> Config:
    """The config from the parameter cells last run in a notebook; `shell` is what `get_ipython()` returns.

    Parameter cells are the notebook's own, which sets every field of `cls`, and the one papermill puts behind it. They
    begin with the line `# Parameters`, or assign nothing but mostly fields. Every name assigned in them must be a field
    of `cls`, or `preset`, which fills what has its default in the notebook's own cell and was not given by papermill.
    From now on the errors of this package are shown without their traces. Raises ConfigError as `build` does, when no
    such cell was run, when the cells leave a field out, which would get a default that nobody reads, and when the
    notebook's own cell overrides what papermill was given.
    """
    _show_plain_errors(shell)
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    block: list[ast.Module] = []
    for source in reversed(shell.user_ns["In"]):
        try:
            tree = ast.parse(source)
        except SyntaxError:  # it was never run, so what counts is what was run before it
            continue
        if source.startswith("# Parameters") or _sets_fields(tree, fields):
            block.insert(0, tree)
        elif source.strip() and block:
            break
    if not block:
        raise ConfigError(
            "no parameters given; the cell that begins with `# Parameters` sets them: run it first, then this cell"
        )
    names = [name for tree in block for name in _names(tree)]
    unset = [name for name in names if name not in shell.user_ns]
    if unset:
        raise ConfigError(f"{', '.join(unset)}: not set, as the parameters cell failed: correct it and run it again")
    values = {name: shell.user_ns[name] for name in names}
    config = build(cls, filled(cls, values, _given(cls, block, values)))
    if missing := [name for name in fields if name not in names]:
        raise ConfigError(
            f"{', '.join(missing)}: not set by the parameter cells run just before; the cell tagged `parameters` sets "
            "every parameter: run it, then those behind it, or add what it lacks with `setn-lab parameters --write "
            "NOTEBOOK`"
        )
    _refuse_overridden(block, shell.user_ns, fields)
    _show_figures(shell)
    if values.get(PARAMETER) is not None:
        by_preset = [name for name in fields if name in values and getattr(config, name) != values[name]]
        print(f"preset {values[PARAMETER]}: {', '.join(f'{name} = {getattr(config, name)!r}' for name in by_preset)}")
    return config


def headless() -> bool:
    """Whether papermill started this process: then nobody is there to move a slider."""
    if os.environ.get("SETN_LAB_HEADLESS"):  # by `setn_lab.headless`
        return True
    try:
        return any("papermill" in part for process in psutil.Process().parents()[:2] for part in process.cmdline()[:3])
    except psutil.Error:  # a parent that may not be looked at, or has just ended
        return False


def _show_plain_errors(shell: Any) -> None:
    """Show an error of this package as its message, without a trace, also where papermill reports it."""
    if not hasattr(shell, "set_custom_exc"):  # no shell of IPython
        return

    def show(
        shell: Any, kind: type[BaseException], error: BaseException, trace: TracebackType, tb_offset: int | None = None
    ) -> list[str] | None:
        if not kind.__module__.startswith("setn_lab."):
            shell.showtraceback((kind, error, trace), tb_offset=tb_offset, running_compiled_code=True)
            return None
        text = f"{kind.__name__}: {error}"
        lines = (text if headless() else for_cells(text)).splitlines()
        shell._showtraceback(kind, error, lines)  # what a front end and papermill take an error from
        return lines

    shell.set_custom_exc((Exception,), show)


def for_cells(text: str) -> str:
    """A message with papermill's way to give a parameter, such as `-p epochs 400`, in a cell's: `epochs = 400`."""

    def assignment(found: re.Match[str]) -> str:
        kind, name, value = found.groups()
        meant = value if kind == "r" else None if value == "None" else yaml.safe_load(value)
        return f"{name} = {meant!r}"

    return re.sub(r"(?<!\S)-([pr]) (\w+) (\S+?)(?=[.,;:]?(?:\s|$))", assignment, text)


def _given(cls: type, block: list[ast.Module], values: dict[str, Any]) -> set[str]:
    """The parameters that papermill's cells set, or the notebook's own to something else than its default."""
    default = {field.name: field.default for field in dataclasses.fields(cls)}
    changed = {name for name, value in values.items() if repr(value) != repr(default.get(name))}  # True is not 1
    return changed | {name for tree in block[_own(block, [*default]) + 1 :] for name in _names(tree)}


def _show_figures(shell: Any) -> None:
    """Show figures below their cells where the kernel was started with another $MPLBACKEND, whose figures vanish.

    A backend that the notebook has chosen itself, as by %matplotlib, stays.
    """
    import matplotlib

    exported = os.environ.get("MPLBACKEND", "").lower()
    if exported not in ("", INLINE, "inline") and matplotlib.rcParams["backend"].lower() == exported:
        shell.enable_matplotlib("inline")


def _sets_fields(tree: ast.Module, fields: list[str]) -> bool:
    """Whether a cell does nothing but assign, and most fields: a parameters cell whose first line was edited."""
    plain = all(isinstance(statement, ast.Assign | ast.AnnAssign) for statement in tree.body)
    return plain and 2 * len({*_names(tree)} & {*fields}) > len(fields)


def _refuse_overridden(block: list[ast.Module], values: dict[str, Any], fields: list[str]) -> None:
    """Raises ConfigError where papermill's cell came before the notebook's own, which set other values after it."""
    for tree in block[: _own(block, fields)]:
        for statement in tree.body:
            for name in _assigned(statement) if {*_names(tree)} < {*fields} else ():
                if isinstance(statement.value, ast.Constant) and statement.value.value != values[name]:  # type: ignore[attr-defined]
                    raise ConfigError(
                        f"{name}: {statement.value.value!r} was given, but the parameters cell run after it sets "  # type: ignore[attr-defined]
                        f"{values[name]!r}: give that cell the tag `parameters`, behind which papermill puts its own, "
                        "and run the cells in order"
                    )


def _own(block: list[ast.Module], fields: list[str]) -> int:
    """The place of the notebook's own cell, which sets every field, among the parameter cells."""
    return max(number for number, tree in enumerate(block) if {*_names(tree)} >= {*fields} or number == 0)


def _names(tree: ast.Module) -> list[str]:
    """The names that a cell assigns, in order."""
    return [name for statement in tree.body for name in _assigned(statement)]


def _assigned(statement: ast.stmt) -> list[str]:
    """The names that a top-level statement assigns."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    else:
        return []
    return [node.id for target in targets for node in ast.walk(target) if _is_stored_name(node)]  # type: ignore[attr-defined]


def _is_stored_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
