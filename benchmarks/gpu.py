"""What one GPU shows in a few minutes: the tests marked cuda, the speed of every step, searches side by side.

    python benchmarks/gpu.py --minutes 8 --out FOLDER

In the folder that `make gpu-kit` laid, on a machine without network: what is missing there comes from the kit's wheels,
which are unpacked beside and not installed. Each part has a process of its own, is ended when its share of the time is
over, and what it leaves unused goes to the next. Everything is written as it comes, into at most eight files of FOLDER.
On the CPU it runs too, --tiny in a minute or two.
"""

import argparse
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]
UNTIL = {"environment": 0.1, "tests": 0.35, "speed": 0.6, "searches": 1.0}  # share of the time at which a part ends
LAST = 10.0  # seconds that a part gets at least


def version(text: str) -> tuple[int, ...]:
    """The numbers of a version, as far as they go."""
    parts = []
    for part in text.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def missing(name: str, lowest: str) -> bool:
    """Whether this Python lacks the package or has it too old."""
    try:
        return version(importlib.metadata.version(name)) < version(lowest)
    except importlib.metadata.PackageNotFoundError:
        return True


def unpack_wheels(target: Path) -> list[str]:
    """Unpack the wheels of what is missing here, and return their names."""
    bounds = KIT / "wheels" / "lowest.json"
    if not bounds.exists():
        return []
    wanted = {name for name, lowest in json.loads(bounds.read_text(encoding="utf-8")).items() if missing(name, lowest)}
    unpacked = []
    for wheel in sorted((KIT / "wheels").glob("*.whl")):
        if wheel.name.split("-")[0].lower().replace("_", "-") in wanted:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
            unpacked.append(wheel.name)
    return unpacked


def unpack_images(target: Path) -> Path:
    """The folder of the kit's images."""
    with tarfile.open(KIT / "images.tar.xz") as archive:
        archive.extractall(target, filter="data")
    return target


def run(command: list[str], environment: dict[str, str], log: Path, seconds: float) -> str:
    """Run a part, with what it starts, for so long at most; returns how it ended."""
    began = time.monotonic()
    with log.open("ab") as file:
        file.write(f"\n## {' '.join(command[1:])}\n".encode())
        file.flush()
        process = subprocess.Popen(
            command, cwd=KIT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            ending = f"exit code {process.wait(seconds)}"
        except subprocess.TimeoutExpired:
            ending = "ended by the clock"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        ending += f" after {time.monotonic() - began:.0f} s"
        file.write(f"## {ending}\n".encode())
    return ending


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="a folder of images, in place of the kit's")
    parser.add_argument("--tiny", action="store_true", help="a size for trying this out")
    given = parser.parse_args()
    began = time.monotonic()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="setn_lab-gpu-") as name:
        work = Path(name)
        unpacked = unpack_wheels(work / "packages")
        images = (given.images or unpack_images(work / "images")).resolve()
        paths = [str(KIT), str(KIT / "benchmarks"), str(work / "packages"), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "SETN_LAB_CACHE": str(work / "cache"),
            "SETN_LAB_RUNS": str(work / "runs"),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        }
        endings: dict[str, object] = {"unpacked": unpacked}
        for part, share in UNTIL.items():
            left = max(share * 60 * given.minutes - (time.monotonic() - began), LAST)
            command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-W", "default", "--durations=10"]
            command += ["-p", "no:cacheprovider", "tests/compute/test_cuda.py"]
            if part != "tests":
                command = [sys.executable, "benchmarks/gpu_parts.py", part, str(images), str(out), f"{left:.1f}"]
                command += ["--tiny"] * given.tiny
            endings[part] = run(command, environment, out / "log.txt", left)
            (out / "parts.json").write_text(json.dumps(endings, indent=1) + "\n", encoding="utf-8")
            print(f"{part}: {endings[part]}", flush=True)


if __name__ == "__main__":
    main()
