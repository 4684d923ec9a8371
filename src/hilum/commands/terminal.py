"""What commands share: reading their arguments, and saying what comes next."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from hilum.errors import UserError
from hilum.ranges import check_numbers


def describe(functions: Mapping[str, Callable[..., int]]) -> str:
    """A line for each command: its name and what it does."""
    return "\n".join(f"  {name:13} {(function.__doc__ or '').splitlines()[0]}" for name, function in functions.items())


def suggest(name: str, known: Iterable[str]) -> str:
    """The closest known word as a question, with a space before it; or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def parse(function: Callable[..., int], name: str, arguments: Sequence[str]) -> int:
    """Run a command with its arguments; numbers out of range, unknown flags and --help end here."""
    import tyro

    return tyro.cli(check_numbers(function), prog=f"hilum {name}", args=list(arguments))


def run_action(
    name: str, summary: str | None, operand: str, actions: Mapping[str, Callable[..., int]], arguments: Sequence[str]
) -> int:
    """Run one of the actions of a command, such as `hilum weights info FILE`; without any, or --help, list them.

    Args:
        summary: What the command does.
        operand: What an action is followed by, as its usage calls it.

    Raises:
        UserError: there is no such action.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: hilum {name} ACTION {operand} ...\n\n{summary}\n\n{describe(actions)}")
        print(f"\n`hilum {name} ACTION --help` explains an action.")
        return 0
    action, rest = arguments[0], arguments[1:]
    if action not in actions:
        raise UserError(f"There is no action '{action}'.{suggest(action, actions)} Actions: {', '.join(actions)}.")
    return parse(actions[action], f"{name} {action}", rest)


def say_next(*words: str | Path) -> None:
    """The command that comes next, ready to be pasted into a shell."""
    print(f"Next: hilum {shlex.join(map(str, words))}")


def say_next_cache(out: Path, *settings: str) -> None:
    """The command that makes the cache of a study table."""
    folder = out.with_name("cache" if out.stem == "studies" else f"{out.stem}-cache")
    say_next("cache", out, "--out", folder, *settings)
