"""`python -m hilum` is `hilum`; also what torchrun starts: `torchrun --nproc-per-node 2 -m hilum pretrain ...`."""

import sys

from hilum.cli import main

if __name__ == "__main__":
    sys.exit(main())
