"""What every suite asks before it begins, cheap refusals first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.outputs import check_result_folder

from .entrants import Entrant, find_entrants


def open_suite(
    data: Path,
    runs: Sequence[str],
    out: Path,
    parts: Sequence[str],
    offered: Iterable[str],
    num_networks: int,
    *,
    beside_random: bool = True,
) -> tuple[Cache, list[Entrant]]:
    """The cache, and who takes part (`find_entrants`).

    Args:
        parts, offered: of the evaluation: those asked for, and all that there are.

    Raises:
        UserError: no part is asked for, `out` holds something else, or a run or the cache is not there.
    """
    if not parts:
        raise UserError(f"--protocols names none; expected some of {', '.join(offered)}.")
    check_result_folder(out)
    entrants = find_entrants(runs, num_networks, beside_random=beside_random)
    return Cache.open(data), entrants
