"""`python -m picante inspect FILE`: what is in a cache file, or in its log."""

from __future__ import annotations

import argparse
import json

from picante._core.errors import PersistenceError
from picante.commands.shared import DAMAGED, EXIT_CODES, OK, REFUSED, Commands, count, refuse
from picante.persist.inspect import inspect, lines_of

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command to the parser."""
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
        "--largest", type=count, default=10, metavar="N", help="name the N largest records (10)"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The exit code."""
    try:
        report = inspect(options.file, largest=options.largest)
    except (FileNotFoundError, PersistenceError) as error:
        return refuse(error)
    except MemoryError:
        return refuse(f"{options.file!r} is larger than the memory that there is")
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        for line in lines_of(report):
            print(line)
    if not report.is_readable:
        return REFUSED
    return DAMAGED if report.problems else OK
