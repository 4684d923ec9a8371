"""What all archives' commands do: check a download, or ingest it and say what comes next."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from types import FunctionType
from typing import Annotated, Any

from tyro.conf import Positional, arg

from hilum.commands.terminal import say_next_cache
from hilum.errors import UserError
from hilum.identifiers import Naming

_KIND = Parameter.POSITIONAL_OR_KEYWORD
_SHARED: tuple[tuple[str, Any, Any], ...] = (
    ("root", Positional[Path], Parameter.empty),
    ("out", Path | None, None),
    ("check", bool, False),
    ("naming", Annotated[Naming, arg(name="")], Naming()),
)
_CHECK = "Only say what the download lacks, within seconds."


def archive(root: str, *, check: str = _CHECK) -> Callable[[FunctionType], Callable[..., int]]:
    """Make an archive's command from what is its own; the flags that all have are added.

    It is for a function named as the archive is (`open_i`: open-i), with the archive's own flags and their
    descriptions, that returns its reader's settings.

    Args:
        root: Which folder is asked for.
        check: What is checked.
    """

    def complete(own: FunctionType) -> Callable[..., int]:
        name = own.__name__.replace("_", "-")
        *first, naming = (Parameter(flag, _KIND, default=value, annotation=kind) for flag, kind, value in _SHARED)
        signature = inspect.Signature([*first, *inspect.signature(own, eval_str=True).parameters.values(), naming])

        def command(*given: Any, **named: Any) -> int:
            bound = signature.bind(*given, **named)
            bound.apply_defaults()
            shared = [bound.arguments.pop(flag) for flag, *_ in _SHARED]
            return ingest_archive(name, *shared, **own(**bound.arguments))

        command.__dict__["__signature__"] = signature  # the flags; their types and descriptions are looked for within
        for function in (command, inspect.unwrap(command)):  # what checks shapes in every test wraps all functions
            function.__annotations__ = {flag.name: flag.annotation for flag in signature.parameters.values()}
            function.__name__, function.__doc__ = name, _describe(own, root, check)
        return command

    return complete


def _describe(own: FunctionType, root: str, check: str) -> str:
    """The docstring of the whole command."""
    title, _, flags = (inspect.getdoc(own) or "").partition("\n\nArgs:\n")
    known = f"    root: {root}\n    out: Study table to write (Parquet).\n    check: {check}\n"
    return f"{title}\n\nArgs:\n{known}{flags}"


def ingest_archive(name: str, root: Path, out: Path | None, check: bool, naming: Naming, **settings) -> int:
    """Exit code 0; 3 where the download lacks something needed, or files were rejected."""
    from hilum.sources import named

    if check:
        return 0 if named.check_archive(name, root, **settings) else 3
    if out is None:
        raise UserError("--out is missing: name the study table to write, such as --out studies.parquet.")
    summary, cache_settings = named.ingest_archive(name, root, out, naming=naming, **settings)
    say_next_cache(out, *cache_settings)
    return 3 if summary.num_rejected else 0
