"""`hilum`: one command per step of the road. Nothing heavy is imported before a command runs, so that --help is quick.

Exit codes: 0 done, 2 wrong input or settings (the message says what to do), 3 done but some files were rejected.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from .atomic import name_target, tells_full_disk
from .commands import terminal
from .commands.embed import embed
from .commands.evaluate import describe, finetune, probe, report
from .commands.export import export
from .commands.ingest import ingest, sources
from .commands.learn import pretrain, weights
from .commands.prepare import cache, demo, doctor, overlap, phantom
from .commands.prompted import heatmap, zeroshot
from .commands.suites import evaluate
from .commands.text import text
from .errors import UserError

# The order is the order of the road, and of `hilum --help`. Commands marked raw read their own arguments.
COMMANDS: dict[str, Callable[..., int]] = {
    function.__name__: function
    for function in (
        demo,
        phantom,
        sources,
        ingest,
        cache,
        overlap,
        text,
        pretrain,
        embed,
        describe,
        probe,
        zeroshot,
        heatmap,
        finetune,
        evaluate,
        report,
        export,
        weights,
        doctor,
    )
}
RAW = (pretrain, ingest, evaluate, weights, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(f"usage: hilum COMMAND [options]\n\n{terminal.describe(COMMANDS)}\n")
        print("`hilum COMMAND --help` explains a command; `hilum --version` says which Hilum this is.")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"hilum {version('hilum')}")
        return 0
    os.environ.setdefault("PYDANTIC_ERRORS_INCLUDE_URL", "0")  # a page on types helps nobody at a terminal
    name, rest = arguments[0], arguments[1:]
    try:
        if name not in COMMANDS:
            raise UserError(
                f"There is no command '{name}'.{terminal.suggest(name, COMMANDS)} `hilum --help` lists them."
            )
        command = COMMANDS[name]
        return command(rest) if command in RAW else terminal.parse(command, name, rest)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues where it was, for steps that can.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `hilum ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if tells_full_disk(error):
            print(
                f"error: {error.filename or 'an output'}: the disk is full, or a quota is reached. What was written "
                "before is whole. Make room, or choose a place on another disk, and run the same command again.",
                file=sys.stderr,
            )
            return 2
        place = error.filename2 or error.filename  # of a rename, where it leads
        if not isinstance(place, str | os.PathLike):  # not the user's affair: a socket, a pipe, a defect
            raise
        print(f"error: {name_target(os.fspath(place))}: {error.strerror}", file=sys.stderr)
        return 2
