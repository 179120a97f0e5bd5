"""Reading a tree of Python sources. Nothing is ever written."""

from __future__ import annotations

import io
import os
import stat
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .analysis import Layout, Text, Unreadable

SKIPPED = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})
"""Folders that are no part of a tree, nor are those whose names begin with a dot."""

TESTS = frozenset({"test", "tests", "idle_test"})
"""The folders of the standard library that hold its tests."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The Python files below a folder."""

    root: Path
    texts: dict[str, Text]
    """By path relative to the root, with `/`, sorted."""
    layout: Layout
    size: int
    """Of the texts, in characters."""
    unreadable_folders: int


def standard_library() -> Path:
    """The standard library of the interpreter that runs this."""
    return Path(sysconfig.get_path("stdlib"))


def read_tree(root: Path, without: frozenset[str] = frozenset()) -> Tree:
    """Read all `*.py` below `root`.

    Folders named in `without` are left out. Symbolic links to folders are not followed, so a loop
    of them does no harm; links to files are. A file that cannot be read or decoded is kept, as
    `Unreadable`. Raises `OSError` if `root` itself cannot be listed.
    """
    root = Path(os.path.realpath(root))
    os.scandir(root).close()
    texts: dict[str, Text] = {}
    failed: list[OSError] = []
    for folder, subfolders, files in os.walk(root, onerror=failed.append):
        subfolders[:] = [
            name
            for name in subfolders
            if name not in SKIPPED and name not in without and not name.startswith(".")
        ]
        for name in files:
            if name.endswith(".py"):
                file = Path(folder, name)
                text = _read(file)
                if text is not None:
                    texts[_key(file.relative_to(root))] = text
    size = sum(len(text) for text in texts.values() if isinstance(text, str))
    return Tree(root, dict(sorted(texts.items())), _layout(root), size, len(failed))


def _key(path: Path) -> str:
    # A name that is no UTF-8 becomes one that is: a key is text.
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _read(file: Path) -> Text | None:
    """The text of a file; None for what is no file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would wait for a writer
            return None
        data = file.read_bytes()
    except OSError as error:
        return Unreadable(f"cannot be read: {error.strerror or error}")
    return decode(data)


def decode(data: bytes) -> Text:
    """The text of a file's bytes, decoded as Python does (PEP 263), line ends made one kind."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return io.TextIOWrapper(io.BytesIO(data), encoding).read()
    except SyntaxError as error:
        return Unreadable(f"cannot be decoded: {error.msg}")
    except (UnicodeError, LookupError) as error:  # LookupError: a codec that is not for text
        return Unreadable(f"cannot be decoded: {error}")


def _packages_above(folder: Path) -> Iterator[str]:
    while (folder / "__init__.py").is_file() and folder.name:
        yield folder.name
        folder = folder.parent


def _layout(root: Path) -> Layout:
    if package := ".".join(reversed([*_packages_above(root)])):
        return Layout(package)
    source = root / "src"
    if source.is_dir() and not (source / "__init__.py").is_file():
        return Layout(sources=("src/", ""))
    return Layout()
