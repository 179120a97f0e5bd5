"""What is in a cache file, or in a log beside one, without a database: `python -m picante inspect FILE`.

Nothing of the file is believed, and no code runs for it: the structure of records is checked as a load would check it,
no class is looked for, and no value is made. Keys are shown as text that is put together from what stands in the file.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from picante._core.errors import DecodeError
from picante._core.restore import Restore
from picante._core.runtime import Runtime
from picante.persist.files import Path, name_of, read_limited
from picante.persist.format import (
    FORMAT_VERSION,
    DamagedError,
    Index,
    checksum_of,
    read_index,
    version_of,
)
from picante.persist.journal import FORMAT_VERSION as LOG_FORMAT_VERSION, MAGIC as LOG_MAGIC
from picante.persist.keys import RecordKeys, records_of

__all__ = [
    "CacheReport",
    "LargeRecord",
    "LogReport",
    "SectionReport",
    "check",
    "inspect",
    "lines_of",
]

BATCH = 4096  # records that are checked at once


@dataclass(frozen=True, slots=True)
class LargeRecord:
    """One of the largest records."""

    section: str
    number: int
    key: str
    size: int


@dataclass(slots=True)
class SectionReport:
    """The records of one ingredient."""

    name: str
    kind: int
    type: Literal["interned", "input", "derived"]
    records: int
    size: int
    largest: int = 0
    fingerprint: str | None = None
    problem: str | None = None


@dataclass(slots=True)
class CacheReport:
    """What is in a cache file.

    Attributes:
        format_version: None if that cannot be read.
        problems: what is wrong with it, in words; a load would refuse the file for each of them.
    """

    path: str
    size: int
    format_version: int | None = None
    revision: int | None = None
    id: str | None = None
    names: list[str] = field(default_factory=list)
    sections: list[SectionReport] = field(default_factory=list)
    largest: list[LargeRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {"type": "cache", "ok": not self.problems, **asdict(self)}

    @property
    def is_readable(self) -> bool:
        """Whether it is of the version of the format that this picante reads, or damaged."""
        return self.format_version in (None, FORMAT_VERSION)


@dataclass(slots=True)
class LogReport:
    """What is in a log beside a cache file.

    Attributes:
        format_version: None if that cannot be read.
        extends: the id of the cache file whose changes these are.
        evicted: how many of the memos have no value.
        valid_size: how many bytes of it a recovery uses.
    """

    path: str
    size: int
    format_version: int | None = None
    extends: str | None = None
    entries: int = 0
    changes: int = 0
    memos: int = 0
    evicted: int = 0
    first_revision: int | None = None
    last_revision: int | None = None
    valid_size: int = 0
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {"type": "log", "ok": not self.problems, **asdict(self)}

    @property
    def is_readable(self) -> bool:
        """Whether it is of the version of the format that this picante reads, or damaged."""
        return self.format_version in (None, LOG_FORMAT_VERSION)


def inspect(path: Path, *, largest: int = 10) -> CacheReport | LogReport:
    """Read and check all of a file.

    Args:
        path: a cache file, or a log.
        largest: how many of the largest records to name.

    Raises:
        FileNotFoundError: there is none.
        PersistenceError: the system refuses to read it.
    """
    data = read_limited(path)
    if data is None:
        raise FileNotFoundError(f"There is no file {os.fsdecode(path)!r}.")
    if data.startswith(LOG_MAGIC):
        return _inspect_log(name_of(path), data)
    return check(name_of(path), data, largest=largest)[0]


def check(path: str, data: bytes, *, largest: int = 0) -> tuple[CacheReport, Index | None]:
    """Check all of a cache file, the content of which is `data`; its index, if that could be read."""
    report = CacheReport(path, len(data), version_of(data))
    try:
        index = read_index(data)
    except DamagedError as error:
        report.problems.append(str(error))
        return report, None
    report.revision = index.revision
    report.id = index.file_id.hex()
    report.names = [name for name, _ in index.names]
    found: list[tuple[int, int, int, int, int]] = []  # size, section, number, start, end
    starts = index.offsets()
    for position, section in enumerate(index.sections):
        end = starts[position] + section.size
        shown_section = SectionReport(
            name=section.name,
            kind=section.kind,
            type=section.type,
            records=section.n_records,
            size=section.size,
            fingerprint=None if section.fingerprint is None else section.fingerprint.hex(),
        )
        report.sections.append(shown_section)
        if checksum_of(data, starts[position], end) != section.checksum:
            _add_problem(report, shown_section, "its checksum is wrong")
        sizes = (
            (stop - start, position, number, start, stop)
            for number, (start, stop) in enumerate(records_of(data, starts[position], end))
        )
        best = heapq.nlargest(max(largest, 1), sizes)
        shown_section.largest = best[0][0] if best else 0
        found = heapq.nlargest(largest, found + best)
    _check_records(report, data, index)
    keys = RecordKeys(data, index)
    for size, position, number, start, end in found:
        name = index.sections[position].name
        report.largest.append(LargeRecord(name, number, keys.show(position, start, end), size))
    return report, index


def _check_records(report: CacheReport, data: bytes, index: Index) -> None:
    """Check every record as a load does, without an ingredient and without a class."""
    starts = index.offsets()
    try:
        restore = Restore(Runtime(), data, index.names, index.revision)
    except DecodeError as error:
        report.problems.append(str(error).rstrip("."))
        return
    for position, section in enumerate(index.sections):
        try:
            restore.add(
                None,
                section.type,
                starts[position],
                starts[position] + section.size,
                section.n_records,
            )
        except DecodeError as error:
            _add_problem(report, report.sections[position], str(error).rstrip("."))
            return
    try:
        while restore.step(BATCH):
            pass
    except DecodeError as error:
        place = getattr(error, "position", None) or 0
        for position, start in enumerate(starts[:-1]):
            if start <= place <= start + index.sections[position].size:
                return _add_problem(report, report.sections[position], str(error).rstrip("."))
        report.problems.append(str(error).rstrip("."))


def _add_problem(report: CacheReport, section: SectionReport, problem: str) -> None:
    section.problem = section.problem or problem
    report.problems.append(f"section {section.name}: {problem}")


def _inspect_log(path: str, data: bytes) -> LogReport:
    from picante.persist.entries import changes_of
    from picante.persist.journal import scan_journal

    journal = scan_journal(data)
    report = LogReport(path, len(data), journal.version, valid_size=journal.valid_size)
    id = journal.unread_id if journal.id is None else journal.id
    if id is not None:
        report.extends = id.hex()
    if journal.problem is not None:
        report.problems.append(journal.problem)
    for payload in journal.entries:
        try:
            entry = changes_of(payload)
        except DecodeError as error:
            report.problems.append(f"entry {report.entries}: {str(error).rstrip('.')}")
            break
        report.entries += 1
        report.changes += len(entry.changes)
        report.memos += len(entry.memos)
        report.evicted += sum(not value for *_, value in entry.memos)
        if report.first_revision is None:
            report.first_revision = entry.revision
        report.last_revision = entry.revision
    return report


def lines_of(report: CacheReport | LogReport) -> Iterator[str]:
    """The report for a person."""
    if isinstance(report, LogReport):
        version = "?" if report.format_version is None else report.format_version
        yield f"{report.path}: a log of {report.size:,} bytes, format version {version}"
        yield f"extends the cache file {report.extends or '?'}"
        yield (
            f"{report.entries:,} entries with {report.changes:,} changes and {report.memos:,} memos"
            + (f" ({report.evicted:,} of them evicted)" if report.evicted else "")
            + f", revisions {report.first_revision} to {report.last_revision}"
            if report.entries
            else "no entries"
        )
        if report.problems and report.is_readable:
            yield f"a recovery uses the first {report.valid_size:,} bytes of it"
    else:
        version = "?" if report.format_version is None else report.format_version
        yield f"{report.path}: a cache file of {report.size:,} bytes, format version {version}"
        if report.revision is not None:
            yield f"saved at revision {report.revision}, id {report.id}"
        yield from _section_lines(report.sections)
        if report.largest:
            yield ""
            yield "largest records:"
            width = max(len(f"{each.size:,}") for each in report.largest)
            interned = {each.name for each in report.sections if each.type == "interned"}
            for each in report.largest:
                path, _, short = each.section.rpartition(".")
                if short == "keys" and each.section in interned:  # of an input class
                    short = f"{path.rpartition('.')[2]}.keys"
                yield f"  {each.size:>{width},}  {short} {each.key}"
        yield ""
    if not report.problems:
        yield "All checksums and records are as they should be."
    for problem in report.problems:
        yield f"{'DAMAGED' if report.is_readable else 'UNREADABLE'}: {problem}"


def _section_lines(sections: Sequence[SectionReport]) -> Iterator[str]:
    if not sections:
        return
    titles = ("type", "records", "bytes", "largest", "code", "name")
    rows = [
        (
            each.type,
            f"{each.records:,}",
            f"{each.size:,}",
            f"{each.largest:,}",
            (each.fingerprint or "")[:8],
            each.name + (" DAMAGED" if each.problem else ""),
        )
        for each in sections
    ]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    yield ""
    for row in (titles, *rows):
        cells = [
            cell.rjust(width) if 0 < position < 4 else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
