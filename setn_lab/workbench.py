"""The notebooks as they are worked with: copies of the committed ones in `work/`, which git does not see.

What is opened, run and saved there changes no file of the checkout. A copy is made anew when the committed notebook has
changed, unless somebody has worked in it.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from setn_lab.config import short_hash
from setn_lab.runs.files import replace_file

WORK = "work"
MADE = ".made.json"  # in it, by the name of a notebook: the digest of the cells that it was copied with


def refresh(root: Path) -> list[str]:
    """Copy the notebooks of the checkout `root` into its folder `work`, but for those that somebody has worked in.

    Returns a sentence for each of these whose committed notebook has changed since it was copied.
    """
    work, notices = root / WORK, []
    work.mkdir(exist_ok=True)
    made = json.loads((work / MADE).read_text(encoding="utf-8")) if (work / MADE).exists() else {}
    for source in sorted((root / "notebooks").glob("*.ipynb")):
        copy, before, now = work / source.name, made.get(source.name), _cells(source)
        here = _cells(copy) if copy.exists() else None
        if here in (None, before) and (here is None or before != now):
            replace_file(copy, source.read_bytes())
            made[source.name] = now
        elif here not in (before, now) and before != now:
            notices.append(
                f"{WORK}/{source.name} has changes or results of yours, and notebooks/{source.name} is newer: rename "
                "or delete yours to get a copy of it"
            )
    replace_file(work / MADE, (json.dumps(made, indent=1) + "\n").encode())
    return notices


def _cells(notebook: Path) -> str:
    """What somebody who works in a notebook changes: the digest of the cells' sources and outputs.

    Opening and saving alone changes metadata, which do not count. Of what is no notebook any more, that of its bytes.
    """
    content = notebook.read_bytes()
    try:
        cells = json.loads(content)["cells"]
        parts = [[cell["cell_type"], "".join(cell["source"]), cell.get("outputs", [])] for cell in cells]
        return short_hash([part for part in parts if part[1]])
    except (ValueError, KeyError, TypeError):
        return short_hash(content.hex())


def open_lab(root: Path, words: Sequence[str]) -> None:
    """JupyterLab on the checkout `root`, whose first page is the copy of start.ipynb, until it is stopped.

    words: further options of JupyterLab.
    """
    for notice in refresh(root):
        print(notice)
    options = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{WORK}/start.ipynb"]
    subprocess.run([sys.executable, "-m", "jupyterlab", *options, *words], check=False)
