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
    SectionInfo,
    checksum_of,
    read_index,
)
from picante.persist.journal import MAGIC as LOG_MAGIC
from picante.persist.show import readable

__all__ = ["CacheReport", "LargeRecord", "LogReport", "SectionReport", "inspect", "records_of"]

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
        problems: what is wrong with it, in words; a load would refuse the file for each of them.
    """

    path: str
    size: int
    format_version: int = FORMAT_VERSION
    revision: int | None = None
    id: str | None = None
    names: list[str] = field(default_factory=list)
    sections: list[SectionReport] = field(default_factory=list)
    largest: list[LargeRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {"type": "cache", "ok": not self.problems, **asdict(self)}


@dataclass(slots=True)
class LogReport:
    """What is in a log beside a cache file.

    Attributes:
        extends: the id of the cache file whose changes these are.
        valid_size: how many bytes of it a recovery uses.
    """

    path: str
    size: int
    extends: str | None = None
    entries: int = 0
    changes: int = 0
    first_revision: int | None = None
    last_revision: int | None = None
    valid_size: int = 0
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {"type": "log", "ok": not self.problems, **asdict(self)}


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
    shown = name_of(path)
    if data.startswith(LOG_MAGIC):
        return _inspect_log(shown, data)
    report = CacheReport(shown, len(data))
    try:
        index = read_index(data)
    except DamagedError as error:
        report.problems.append(str(error))
        return report
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
    keys = _Keys(data, index)
    for size, position, number, start, end in found:
        name = index.sections[position].name
        report.largest.append(LargeRecord(name, number, keys.show(position, start, end), size))
    return report


def records_of(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the records of a section begin and end, as far as there are records."""
    at = start
    while at < end:
        width = {0xC4: 1, 0xC5: 2, 0xC6: 4}.get(data[at], 0)
        first = at + 1 + width
        if not width or first > end:
            return
        at = first + int.from_bytes(data[at + 1 : first], "big")
        if at > end:
            return
        yield first, at


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


class _Keys:
    """Texts for the keys of records."""

    def __init__(self, data: bytes, index: Index) -> None:
        self.data = data
        self.index = index
        self.names = [name for name, _ in index.names]
        self.by_kind = {each.kind: each for each in index.sections}
        self.by_name = {each.name: position for position, each in enumerate(index.sections)}
        self.interned: dict[int, list[tuple[int, int]]] = {}

    def show(self, position: int, start: int, end: int) -> str:
        """The key of a record, or the value of an interned one."""
        if self.index.sections[position].type == "interned":
            return self._readable(start, end)
        head = self.data[start] if start < end else 0xFF
        width = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(head, 0)
        if head >= 0x80 and not width:
            return "?"
        first = start + 1 + width
        size = int.from_bytes(self.data[start + 1 : first], "big") if width else head
        return self._readable(first, min(first + size, end))

    def _readable(self, start: int, end: int) -> str:
        return readable(self.data[start:end], self.names, self._handle)

    def _handle(self, kind: int, number: int) -> str:
        """A handle by what was interned for it, if that stands in the file, too."""
        section = self.by_kind.get(kind)
        name = f"kind_{kind:08x}" if section is None else section.name
        position = self._keys_of(section)
        if position is not None:
            places = self.interned.get(position)
            if places is None:
                first = self.index.offsets()[position]
                last = first + self.index.sections[position].size
                places = self.interned[position] = list(records_of(self.data, first, last))
            if number < len(places):
                content = readable(self.data[slice(*places[number])], self.names, None)
                return f"{name.rpartition('.')[2]}({content})"
        return f"{name.rpartition('.')[2]}#{number}"

    def _keys_of(self, section: SectionInfo | None) -> int | None:
        if section is None:
            return None
        if section.type == "interned":
            return self.by_name[section.name]
        position = self.by_name.get(f"{section.name}.keys")
        if position is None or self.index.sections[position].type != "interned":
            return None
        return position


def _inspect_log(path: str, data: bytes) -> LogReport:
    from picante.persist.entries import changes_of
    from picante.persist.journal import scan_journal

    journal = scan_journal(data)
    report = LogReport(path, len(data), valid_size=journal.valid_size)
    if journal.id is not None:
        report.extends = journal.id.hex()
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
        if report.first_revision is None:
            report.first_revision = entry.revision
        report.last_revision = entry.revision
    return report


def lines_of(report: CacheReport | LogReport) -> Iterator[str]:
    """The report for a person."""
    if isinstance(report, LogReport):
        yield f"{report.path}: a log of {report.size:,} bytes"
        yield f"extends the cache file {report.extends or '?'}"
        yield (
            f"{report.entries:,} entries with {report.changes:,} changes, "
            f"revisions {report.first_revision} to {report.last_revision}"
            if report.entries
            else "no entries"
        )
        if report.problems:
            yield f"a recovery uses the first {report.valid_size:,} bytes of it"
    else:
        yield f"{report.path}: a cache file of {report.size:,} bytes, format version {report.format_version}"
        if report.revision is not None:
            yield f"saved at revision {report.revision}, id {report.id}"
        yield from _section_lines(report.sections)
        if report.largest:
            yield ""
            yield "largest records:"
            width = max(len(f"{each.size:,}") for each in report.largest)
            for each in report.largest:
                short = each.section.rpartition(".")[2]
                yield f"  {each.size:>{width},}  {short} {each.key}"
        yield ""
    if not report.problems:
        yield "All checksums and records are as they should be."
    for problem in report.problems:
        yield f"DAMAGED: {problem}"


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
