"""Train the network of one genotype from scratch (section 5.2), by one process or by several.

python -m setn_lab.retrain CONFIG.json
torchrun --nproc-per-node 4 -m setn_lab.retrain CONFIG.json --epochs 100

The file and the options are those of `setn-lab retrain`.
"""

import sys

from setn_lab import cli


def main() -> int:
    """`setn-lab retrain` with the words of this process; returns the exit code."""
    return cli.main(["retrain", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
