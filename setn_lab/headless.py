"""A whole notebook run by papermill and watched from a shell: its lines, and its progress in a line that is kept."""

import os
import subprocess
from pathlib import Path
from typing import Any

from setn_lab.config import ConfigError, values_of
from setn_lab.extras import needs
from setn_lab.parameters import notebooks
from setn_lab.terminal import Screen

with needs("notebooks", "setn_lab.headless"):
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError

HEADLESS = "SETN_LAB_HEADLESS"  # in the environment of a kernel that is watched from a shell


class NotebookError(RuntimeError):
    """A cell has failed; the message is the cell's."""


def run_notebook(name: str, config: Any, output: Path, screen: Screen) -> None:
    """Run the checkout's notebook of that name with the config's values; `output` is the executed notebook.

    Raises NotebookError where a cell fails, ConfigError where setn_lab was installed without a checkout.
    """
    (source,) = (path for path in notebooks() if path.stem == name)
    if output.suffix != ".ipynb" or output.absolute() == source:
        raise ConfigError(f"notebook: {str(output)!r} given; a file NAME.ipynb of its own to be written is allowed")
    output.parent.mkdir(parents=True, exist_ok=True)
    default = values_of(type(config)())
    given = {name: value for name, value in values_of(config).items() if value != default[name]}
    papermill_engines.register("setn_lab", _Engine)
    # a debugger that warns of frozen modules is not meant for these readers
    os.environ |= {HEADLESS: "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    try:
        papermill.execute_notebook(
            str(source), str(output), given, engine_name="setn_lab", progress_bar=False, screen=screen
        )
    except PapermillExecutionError as error:
        raise NotebookError("\n".join(error.traceback)) from error
    except DeadKernelError as error:
        raise NotebookError(
            "the notebook's process has ended, as for want of memory: what was done is kept, the same command goes on"
        ) from error


class _Engine(NBClientEngine):
    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *, screen: Screen, **options: Any) -> Any:
        timeouts = {"startup_timeout": options["start_timeout"], "timeout": options.get("execution_timeout")}
        client = _Client(nb_man, kernel_name=kernel_name, **timeouts)
        client.screen = screen
        return client.execute(stderr=subprocess.DEVNULL)  # warnings of the kernel's own; errors come as messages


class _Client(PapermillNotebookClient):
    screen: Screen

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        content = msg["content"]
        if msg["msg_type"] == "stream" and content["name"] == "stdout":
            for line in content["text"].splitlines():
                self.screen.say(line)
        elif content.get("transient", {}).get("display_id") and "text/markdown" in content["data"]:  # `notebook.Live`
            self.screen.keep(content["data"]["text/plain"])
        return super().process_message(msg, cell, cell_index)
