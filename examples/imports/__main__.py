"""The command line: `python -m examples.imports [PATH] [--tests] [--cache FOLDER] [--warm]`."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .demo import Demo, Progress, Run, play
from .tree import TESTS, read_tree, standard_library
from .warm import cache_file, play_warm, start_second_process


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if a result was wrong or a query ran without need; 2 if PATH cannot be analysed."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.imports",
        description="Analyse the imports of a tree of Python sources, incrementally: cold, again "
        "with nothing changed, with a comment added to one file, with an import added; and in a second "
        "process, which starts from what the first one saved. "
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
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        help="where to keep the results for the second process; without it, in a temporary folder",
    )
    parser.add_argument(
        "--warm",
        action="store_true",
        help="be that second process: start from what an earlier one has kept in the folder",
    )
    parser.add_argument("--cold-seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.warm and options.cache is None:
        parser.error("--warm needs --cache FOLDER")
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
    seconds = time.perf_counter() - start
    if options.warm:
        cache = cache_file(Path(options.cache), tree)
        good = asyncio.run(play_warm(tree, cache, Progress(), options.cold_seconds))
        return 0 if good else 1
    with TemporaryDirectory() as temporary:
        cache = cache_file(Path(options.cache or temporary).resolve(), tree)
        same_tree = [str(root.resolve())] if options.path else ["--tests"] * options.tests

        async def again(demo: Demo, cold: Run) -> bool:
            await demo.db.save(cache)
            return start_second_process(cache, same_tree, cold)

        good = asyncio.run(play(tree, seconds, Progress(), again))
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
