"""What the notebooks take from the library alone: their parameter cell as a config, and live progress."""

import ast
import dataclasses
import os
import time
from typing import Any

from setn_lab.config import Config, ConfigError, build
from setn_lab.extras import needs
from setn_lab.runs.progress import Meter, Progress

with needs("notebooks", "setn_lab.notebook"):
    from IPython.display import display

INLINE = "module://matplotlib_inline.backend_inline"  # what a kernel takes by itself
INTERVAL = 1.0  # seconds between two updates: a headless notebook stores each of them


class Live:
    """An observer that shows the rate and the time left, and prints one line per epoch."""

    def __init__(self) -> None:
        """Open the display."""
        self._meter = Meter()
        self._display = display(self, display_id=True)
        self._shown = -INTERVAL

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": self._meter.text, "text/markdown": self._meter.text}

    def __call__(self, progress: Progress) -> None:
        """Take note of how far the phase is."""
        if line := self._meter.note(progress):
            print(line)
        now = time.perf_counter()
        if self._display is not None and (progress.finished or now - self._shown >= INTERVAL):
            self._shown = now
            self._display.update(self)


def from_notebook(cls: type[Config], shell: Any) -> Config:
    """The config from the parameter cells last run in a notebook; `shell` is what `get_ipython()` returns.

    Parameter cells are the notebook's own, which sets every field of `cls`, and the one papermill puts behind it. They
    begin with the line `# Parameters`, or assign nothing but mostly fields. Every name assigned in them must be a field
    of `cls`. Raises ConfigError as `build` does, when no such cell was run, when the cells leave a field out, which
    would get a default that nobody reads, and when the notebook's own cell overrides what papermill was given.
    """
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
    config = build(cls, {name: shell.user_ns[name] for name in names})
    if missing := [name for name in fields if name not in names]:
        raise ConfigError(
            f"{', '.join(missing)}: not set by the parameter cells run just before; the cell tagged `parameters` sets "
            "every parameter: run it, then those behind it, or add what it lacks with `setn-lab parameters --write "
            "NOTEBOOK`"
        )
    _refuse_overridden(block, shell.user_ns, fields)
    _show_figures(shell)
    return config


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
    own = max(number for number, tree in enumerate(block) if {*_names(tree)} >= {*fields} or number == 0)
    for tree in block[:own]:
        for statement in tree.body:
            for name in _assigned(statement) if {*_names(tree)} < {*fields} else ():
                if isinstance(statement.value, ast.Constant) and statement.value.value != values[name]:  # type: ignore[attr-defined]
                    raise ConfigError(
                        f"{name}: {statement.value.value!r} was given, but the parameters cell run after it sets "  # type: ignore[attr-defined]
                        f"{values[name]!r}: give that cell the tag `parameters`, behind which papermill puts its own, "
                        "and run the cells in order"
                    )


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
