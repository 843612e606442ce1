"""Take the README's picture of the inspectors: serve a run's page, move its slider, pick a candidate, take a picture.

`make picture RUN=reports/runs/search-...` writes docs/inspector.png. Chromium must be installed.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

DOCS = Path(__file__).parent
NOTEBOOK = DOCS.parent / "notebooks" / "inspect.ipynb"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 120  # seconds; a kernel that imports torch on a busy machine takes its time
SETTINGS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
)


def prepare(run: Path, folder: Path) -> Path:
    """The inspectors' notebook with the run folder as its parameter, written into `folder`."""
    prepared = folder / "inspect.ipynb"
    command = [sys.executable, "-m", "papermill", "--prepare-only", NOTEBOOK, prepared, "-p", "run_dir", run.absolute()]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return prepared


@contextmanager
def server(folder: Path, *command: str) -> Iterator[tuple[str, Path]]:
    """Run a Jupyter server (module and options) whose settings all lie in `folder`, on a free port of this machine.

    Gives its address once it listens, and the file of what it says. Raises RuntimeError with that where it does not.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, **{name: str(folder / name.lower()) for name in SETTINGS}}
    log = folder / f"server-{port}.log"
    with log.open("w", encoding="utf-8") as file:
        options = ["--no-browser", f"--port={port}"]
        process = subprocess.Popen(
            [sys.executable, "-m", *command, *options], env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("localhost", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} does not listen:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.2)
        yield f"http://localhost:{port}", log
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE / 2)
        except subprocess.TimeoutExpired:  # Jupyter waits for its kernels, now and then for ever
            process.kill()
            process.wait()


@contextmanager
def browser() -> Iterator[Page]:
    """A page of Chromium that may use the clipboard."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = chromium.new_context(viewport={"width": 1320, "height": 1200})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        yield page
        chromium.close()


def take(run: Path, target: Path) -> None:
    """Write the picture: the evaluator's inspector and the candidates', one of rank 2 beside the winner."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        notebook = prepare(run, folder)
        with (
            server(folder, "voila", str(notebook), "--token", "--Voila.ip=localhost") as (address, log),
            browser() as page,
        ):
            token = re.findall(r"\?token=(\w+)", log.read_text(encoding="utf-8"))[-1]
            page.set_viewport_size({"width": 1320, "height": 2600})  # the page scrolls in a box of its own
            page.goto(f"{address}/?token={token}")
            expect(page.locator("select[multiple]")).to_be_attached(timeout=1000 * PATIENCE)
            page.locator(".dt-container tbody tr").nth(1).click()
            drawn = page.get_by_text("candidate of rank 2: thick where it differs")
            expect(drawn).to_be_visible()
            bottom = drawn.bounding_box()
            if bottom is None:
                raise RuntimeError("the picked candidate is not on the page")
            height = bottom["y"] + bottom["height"] + 20
            page.screenshot(path=target, clip={"x": 0, "y": 0, "width": 1320, "height": height})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python docs/pictures.py RUN_FOLDER")
    take(Path(sys.argv[1]), DOCS / "inspector.png")
