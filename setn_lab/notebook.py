"""What the notebooks take from the library alone: their parameter cell as a config, and live progress."""

import ast
import time
from typing import Any

from setn_lab.config import Config, ConfigError, build
from setn_lab.extras import needs
from setn_lab.runs.progress import Meter, Progress

with needs("notebooks", "setn_lab.notebook"):
    from IPython.display import display

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

    Parameter cells begin with the line `# Parameters`: the notebook's own and the one papermill puts behind
    it. Every name assigned in them must be a field of `cls`. Raises ConfigError as `build` does, and when no
    such cell was run.
    """
    block: list[ast.Module] = []
    for source in reversed(shell.user_ns["In"]):
        try:
            tree = ast.parse(source)
        except SyntaxError:  # it was never run, so what counts is what was run before it
            continue
        if source.startswith("# Parameters"):
            block.append(tree)
        elif source.strip() and block:
            break
    if not block:
        raise ConfigError(
            "no parameters given; the cell that begins with `# Parameters` sets them: run it first, then this cell"
        )
    names = [name for tree in reversed(block) for statement in tree.body for name in _assigned(statement)]
    unset = [name for name in names if name not in shell.user_ns]
    if unset:
        raise ConfigError(f"{', '.join(unset)}: not set, as the parameters cell failed: correct it and run it again")
    return build(cls, {name: shell.user_ns[name] for name in names})


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
