"""Logs that write when they are told to, and what stands in their files."""

from pathlib import Path
from typing import Any

from picante.persist import Log
from picante.persist.entries import Entry, changes_of
from picante.persist.journal import read_journal


def manual(db: Any, path: Path, **options: Any) -> Log:
    return Log(db, path, sync=False, interval=None, compact_at=None, **options)


def log_at(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")


def entries_at(path: Path) -> list[Entry]:
    found = read_journal(log_at(path))
    assert found is not None
    return [changes_of(each) for each in found.entries]


def clear(folder: Path) -> None:
    for each in folder.iterdir():
        each.unlink()
