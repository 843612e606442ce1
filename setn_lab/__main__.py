"""`python -m setn_lab` is `setn-lab`."""

import sys

from setn_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
