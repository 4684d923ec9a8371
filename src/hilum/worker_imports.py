"""Scripts that start worker processes, and that every worker imports again.

A script that calls such a function without asking for its `__name__` calls it in every worker once more. Python then
complains in each of them, and in the script itself only a broken pipe or pool is heard: here it is one sentence.
"""

from __future__ import annotations

import multiprocessing
import os
import sys

from hilum.errors import UserError

_IMPORTED = 77  # exit code of a worker that was to do the whole work while it imported the user's script


def leave_if_imported() -> None:
    """End this process if it is a worker that is only just importing the script it was started from."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(_IMPORTED)


def check_worker(exit_code: int | None, function: str) -> None:
    """Say what to do if a worker died of being such an import.

    Args:
        exit_code: of the dead worker.
        function: that the script called.

    Raises:
        UserError: it did.
    """
    if exit_code == _IMPORTED:
        script = getattr(sys.modules["__main__"], "__file__", "the script")
        raise UserError(
            f"{script}: calls {function} while it is imported, and every worker process imports it. Put the call "
            'under `if __name__ == "__main__":`.'
        ) from None
