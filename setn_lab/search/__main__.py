"""Algorithm 1, its template trained by one process or by several.

python -m setn_lab.search --preset quick
torchrun --nproc-per-node 4 -m setn_lab.search --batch-parts 4 --batch-size 256

The options are those of `setn-lab search`.
"""

import sys

from setn_lab import cli


def main() -> int:
    """`setn-lab search` with the words of this process; returns the exit code."""
    return cli.main(["search", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
