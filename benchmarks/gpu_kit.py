"""Lay into one folder what benchmarks/gpu.py needs on a machine without network: images, wheels, this package.

    python benchmarks/gpu_kit.py DATASET FOLDER [--python 3.12] [--torch 2.11]

DATASET is a folder of images, whose train/ is taken. The wheels are those of pyproject.toml's dependencies that a
machine with torch does not have anyway, and of the test runner.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TAKEN = "setn_lab", "tests", "benchmarks", "pyproject.toml"
THERE = "torch", "numpy", "pandas", "scipy", "scikit-learn", "matplotlib", "pillow"
TEST_RUNNER = "pytest>=8.3", "pytest-timeout>=2.3", "iniconfig>=2.0", "pluggy>=1.5", "pygments>=2.7"
PLATFORMS = "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"
LIMIT = 60 * 2**20  # bytes of the folder


def requirements(torch: str) -> dict[str, str]:
    """The requirement of each package that is to be brought, torchvision's fitting that version of torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {re.split(r"[^\w.-]", text)[0].lower(): text for text in (*project["dependencies"], *TEST_RUNNER)}
    found = {name: text for name, text in named.items() if name not in THERE}
    found["torchvision"] = f"torchvision==0.{int(torch.split('.')[1]) + 15}.*"  # 0.24 is of 2.9, and so on
    return found


def minimum(requirement: str) -> str:
    """The lowest version that a requirement allows; 0 where it names none."""
    bound = re.search(r">=\s*([\d.]+)", requirement)
    return bound[1] if bound else "0"


def download(target: Path, wanted: dict[str, str], python: str) -> None:
    """The wheels, without what they depend on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(target)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, *wanted.values()], check=True)
    lowest = {name: minimum(text) for name, text in wanted.items()}
    (target / "lowest.json").write_text(json.dumps(lowest, indent=1) + "\n", encoding="utf-8")


def copy_package(target: Path) -> None:
    """What git knows of the package, its tests and benchmarks."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", *TAKEN], check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)


def pack_images(dataset: Path, target: Path) -> None:
    """The training images as one file."""
    if not (dataset / "train").is_dir():
        sys.exit(f"DATASET: {dataset} given; a folder of images is allowed, train/<class>/*")
    with tarfile.open(target, "w:xz", preset=2) as archive:
        for path in sorted((dataset / "train").rglob("*")):
            archive.add(path, path.relative_to(dataset), recursive=False)


def lay(dataset: Path, target: Path, python: str, torch: str, wheels: bool = True) -> int:
    """Make the folder anew and return its bytes. wheels: False where the machine has all packages."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "wheels").mkdir(parents=True)
    copy_package(target)
    pack_images(dataset, target / "images.tar.xz")
    if wheels:
        download(target / "wheels", requirements(torch), python)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    if size > LIMIT:
        sys.exit(f"{target} holds {size / 2**20:.0f} MiB, more than {LIMIT // 2**20}: give fewer or smaller images")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="version on the machine")
    parser.add_argument("--torch", default="2.11", help="version on the machine")
    given = parser.parse_args()
    size = lay(given.dataset.expanduser(), given.folder, given.python, given.torch)
    print(f"{given.folder}: {size / 2**20:.1f} MiB. There: python benchmarks/gpu.py --minutes 8 --out FOLDER")


if __name__ == "__main__":
    main()
