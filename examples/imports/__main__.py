"""The command line: `python -m examples.imports [PATH] [--tests]`."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .demo import Progress, play
from .tree import TESTS, read_tree, standard_library


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if a result was wrong or a query ran without need; 2 if PATH cannot be analysed."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.imports",
        description="Analyse the imports of a tree of Python sources, incrementally: cold, again "
        "with nothing changed, with a comment added to one file, with an import added. "
        "The edits are made in memory; no file is touched.",
    )
    parser.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        help="the folder to analyse; without it, the standard library of this Python",
    )
    parser.add_argument(
        "--tests",
        action="store_true",
        help="with the standard library's own tests: twice as many files, and three times as long",
    )
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may have any character
    root = standard_library() if options.path is None else Path(options.path)
    without = TESTS if options.path is None and not options.tests else frozenset[str]()
    start = time.perf_counter()
    try:
        tree = read_tree(root, without)
    except FileNotFoundError:
        return _refuse(f"there is no folder {str(root)!r}")
    except NotADirectoryError:
        return _refuse(f"{str(root)!r} is not a folder")
    except OSError as error:
        return _refuse(f"{str(root)!r} cannot be read: {error.strerror or error}")
    good = asyncio.run(play(tree, time.perf_counter() - start, Progress()))
    return 0 if good else 1


def _refuse(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 2


def run() -> int:
    """`main`, quiet when it is interrupted or nobody reads on."""
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes standard output once more at the end; that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


if __name__ == "__main__":
    sys.exit(run())
