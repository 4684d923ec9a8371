"""`python -m bench [loader step probe phantom physiology tables copies]`: all of them, or those named."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHES = ("loader", "step", "probe", "phantom", "physiology", "tables", "copies")

for name in sys.argv[1:] or BENCHES:
    if name not in BENCHES:
        sys.exit(f"There is no bench '{name}': {', '.join(BENCHES)}.")
    import_module(f"bench.{name}").main()
