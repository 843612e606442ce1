"""What a result depends on beside its config: machine, versions, threads, commit."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def environment() -> dict[str, Any]:
    """What else than the config decides the bits of a result: the machine, versions, threads and commit."""
    import torch

    commit = None
    if folder := checkout():
        commit = _git(folder, "rev-parse", "HEAD")
        if commit and _git(folder, "status", "--porcelain", "--", "setn_lab"):
            commit += " dirty"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        **{name: _version(name) for name in ("torch", "torchvision", "numpy", "setn_lab")},
        "threads": torch.get_num_threads(),
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git_commit": commit,
    }


def checkout() -> Path | None:
    """The folder of the checkout that this file lies in; None when setn_lab is installed elsewhere."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").exists() and (folder / "notebooks").is_dir() else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # imported from a folder without being installed
        return None


def _cpu() -> str:
    """The processor's model, which decides what kernels torch takes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
