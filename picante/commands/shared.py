"""What the commands share: exit codes, numbers as arguments, errors in one line, where the output goes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final, TypeAlias

__all__ = ["DAMAGED", "EXIT_CODES", "OK", "REFUSED", "Commands", "count", "refuse", "write"]

OK: Final = 0
DAMAGED: Final = 1
REFUSED: Final = 2

EXIT_CODES = (
    "Ends with 0 if all is well, with 1 if the file is damaged, with 2 if it cannot be read or the "
    "command is wrong."
)

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def count(text: str) -> int:
    """A number from 0 on, as the type of an argument."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def refuse(why: object, code: int = REFUSED) -> int:
    """Say in one line what is wrong."""
    print(f"error: {' '.join(str(why).split())}", file=sys.stderr)
    return code


def write(text: str, path: str | None) -> int:
    """Write the result to a file, or to standard output; the exit code."""
    if path is None or path == "-":
        sys.stdout.write(text)
        return OK
    try:
        Path(path).write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        return refuse(f"{path!r} cannot be written: {error}")
    return OK
