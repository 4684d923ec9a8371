"""`python -m bench [loader step distill probe stored_features phantom physiology tables copies mv_clip]`: those named;
all but mv_clip, which takes more than an hour, where none is.
"""

from __future__ import annotations

import sys
from importlib import import_module

BENCHES = ("loader", "step", "distill", "probe", "stored_features", "phantom", "physiology", "tables", "copies")

LONG = ("mv_clip",)

for name in sys.argv[1:] or BENCHES:
    if name not in BENCHES + LONG:
        sys.exit(f"There is no bench '{name}': {', '.join(BENCHES + LONG)}.")
    import_module(f"bench.{name}").main()
