"""`python -m picante report TRACE -o report.html`: a profile as one HTML page."""

from __future__ import annotations

import argparse

from picante.commands.shared import DAMAGED, EXIT_CODES, Commands, refuse, write
from picante.report import TraceError, read_trace, render

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "report",
        help="make an HTML page of a profile",
        description="Make one HTML page of a trace file of picante's profiler: advice, timeline, tables of queries "
        "and runs, and the graph of what ran with the reason for each run. The page loads nothing, so it can be "
        "sent as it is, and it shows what the trace holds as text only: a trace may come from anywhere.",
        epilog=EXIT_CODES,
    )
    command.add_argument(
        "trace", metavar="TRACE", help="written by `Profiler.to_chrome_trace(path)`"
    )
    command.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="the page to write (`-`: standard output)",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The exit code."""
    try:
        data = read_trace(options.trace)
    except FileNotFoundError:
        return refuse(f"There is no file {options.trace!r}.")
    except TraceError as error:
        return refuse(f"{options.trace!r} is no trace that can be shown: {error}", DAMAGED)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        return refuse(f"{options.trace!r} cannot be read: {error}")
    except MemoryError:
        return refuse(f"{options.trace!r} is larger than the memory that there is")
    return write(render(data), options.output)
