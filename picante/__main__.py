"""The command line: `python -m picante inspect FILE`, `graph FILE`, `report TRACE`."""

from __future__ import annotations

import argparse
import gc
import io
import os
import platform
import sys
from collections.abc import Sequence

from picante.commands import graph, inspect, report
from picante.version import package_version

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if a file is damaged; 2 if it cannot be read (or, by `SystemExit`, the command is wrong)."""
    parser = argparse.ArgumentParser(
        prog="python -m picante",
        description="Tools for picante. `python -m picante COMMAND --help` says more about each.",
    )
    parser.add_argument("--version", action="version", version=version_text())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (inspect, graph, report):
        module.add(commands)
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may have any character
    code: int = options.run(options)
    return code


def version_text() -> str:
    """What a bug report needs to say of the installation."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"picante {package_version()} ({python})"


def run() -> int:
    """`main`, quiet when nobody reads on."""
    gc.disable()  # a large file makes millions of objects, all of them needed, and then the process ends
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
