"""The command line: `python -m picante inspect FILE`."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence

from picante._core.errors import PersistenceError
from picante.persist.inspect import inspect, lines_of

__all__ = ["main"]

EXIT_CODES = (
    "Ends with 0 if all is well, with 1 if the file is damaged, with 2 if it cannot be read or the "
    "command is wrong."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if the file is damaged; 2 if there is none (or, by `SystemExit`, the command is wrong)."""
    parser = argparse.ArgumentParser(prog="python -m picante", description="Tools for picante.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "inspect",
        help="say what is in a cache file, or in its log, and check all of it",
        description="Say what is in a cache file, or in the log beside one: its sections, how many records "
        "they have, how large those are; and check every checksum and the structure of every record. No "
        "code runs for what the file holds, and no class is looked for: it may come from anywhere.",
        epilog=EXIT_CODES,
    )
    command.add_argument(
        "file", metavar="FILE", help="written by `db.save`, or by `picante.persist.Log`"
    )
    command.add_argument("--json", action="store_true", help="one JSON object instead of a text")
    command.add_argument(
        "--largest", type=_count, default=10, metavar="N", help="name the N largest records (10)"
    )
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may have any character
    try:
        report = inspect(options.file, largest=options.largest)
    except FileNotFoundError as error:
        return _refuse(str(error))
    except PersistenceError as error:
        return _refuse(str(error))
    except MemoryError:
        return _refuse(f"{options.file!r} is larger than the memory that there is")
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        for line in lines_of(report):
            print(line)
    return 1 if report.problems else 0


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _refuse(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 2


def run() -> int:
    """`main`, quiet when nobody reads on."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more at the end; that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


if __name__ == "__main__":
    sys.exit(run())
