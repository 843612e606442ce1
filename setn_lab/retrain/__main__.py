"""Train the network of one genotype from scratch (section 5.2), by one process or by several.

python -m setn_lab.retrain CONFIG.json
torchrun --nproc-per-node 4 -m setn_lab.retrain CONFIG.json
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

from setn_lab.compute.distributed import process_group
from setn_lab.config import build
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import prepare_retraining
from setn_lab.retrain.training import retrain, summary
from setn_lab.runs.progress import Progress
from setn_lab.runs.run import Run


def main() -> None:
    """Train as the JSON file named on the command line says; prints the result."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    config = build(RetrainConfig, json.loads(Path(sys.argv[1]).read_text()))
    with process_group(config.device) as processes:
        setup = processes.first_here(lambda: prepare_retraining(config, processes))
        with Run.open(config, "retrain") if processes.first else nullcontext() as run:
            found = retrain(setup, run, processes, _print if processes.first else lambda progress: None)
        if processes.first:
            print(f"{setup.name}: {summary(found)}; {setup.folder}")


def _print(progress: Progress) -> None:
    if progress.record is not None:
        print(json.dumps(progress.record), flush=True)


if __name__ == "__main__":
    main()
