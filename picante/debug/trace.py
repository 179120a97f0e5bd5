"""What happened in a runtime, with times; in memory, and as a file of JSON lines.

The first line of a file describes it, each other line is an event:

    {"format": "picante-trace", "version": 1, "started": "2026-01-01T12:00:00+00:00", "recorded": 1.5, "missed": 0,
     "kinds": {"7": {"name": "notes.Text", "sort": "input"}}}
    {"time": 0.25, "event": "InputSet", "revision": 1, "kind": 7, "key": "a4612e6d64", "changed_at": 1,
     "label": "Text('a.md')"}

Keys are in hexadecimal, as bytes that only picante reads; `label` and `by_label` say the same to people and other
tools.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, get_args, overload

from picante._core.errors import DecodeError
from picante._core.key import DynKey, Key, QueryKindId, Revision
from picante.debug.names import Names, Sort
from picante.events import (
    InputRemoved,
    InputSet,
    QueryChanged,
    QueryInvalidated,
    RevisionBumped,
    RevisionSet,
    RuntimeEvent,
)

__all__ = ["Trace", "TraceEvent"]

FORMAT: Final = "picante-trace"
VERSION: Final = 1
EVENTS: Final[dict[str, Any]] = {event.__name__: event for event in get_args(RuntimeEvent)}


class TraceEvent(NamedTuple):
    """An event, and when it happened."""

    time: float
    """Seconds since the beginning of the trace."""
    event: RuntimeEvent


class Trace(Sequence[TraceEvent]):
    """What happened in a runtime while a `TraceCollector` recorded, in order. Immutable.

    Attributes:
        started: when the recording began.
        recorded: how long it lasted.
        missed: how many events were lost.
        names: what queries and records are called.
    """

    __slots__ = ("_events", "missed", "names", "recorded", "started")

    def __init__(
        self,
        events: Iterable[TraceEvent],
        *,
        started: datetime,
        recorded: timedelta,
        missed: int = 0,
        names: Names | None = None,
    ) -> None:
        self._events = tuple(events)
        self.started = started
        self.recorded = recorded
        self.missed = missed
        self.names = names or Names()

    @property
    def events(self) -> tuple[TraceEvent, ...]:
        """All events with their times."""
        return self._events

    @overload
    def __getitem__(self, index: int) -> TraceEvent: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TraceEvent, ...]: ...
    def __getitem__(self, index: int | slice) -> TraceEvent | tuple[TraceEvent, ...]:
        return self._events[index]

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[TraceEvent]:
        return iter(self._events)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same events at the same times."""
        if not isinstance(other, Trace):
            return NotImplemented
        return (self._events, self.started, self.recorded, self.missed) == (
            other._events,
            other.started,
            other.recorded,
            other.missed,
        )

    def __hash__(self) -> int:
        return hash((self._events, self.started))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} events in {self.recorded.total_seconds():.6f} s>"

    # -- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trace to a file of JSON lines, with the names of everything in it."""
        with Path(path).open("w", encoding="ascii", newline="\n") as file:
            file.writelines(chain.from_iterable((line, "\n") for line in self._lines()))

    def _lines(self) -> Iterator[str]:
        names = self.names
        kinds = {
            QueryKindId(kind): None
            for _, event in self._events
            for kind in (getattr(event, "kind", None), getattr(event, "by_kind", None))
            if kind is not None
        }
        yield json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "started": self.started.isoformat(),
                "recorded": self.recorded.total_seconds(),
                "missed": self.missed,
                "kinds": {
                    int(kind): {"name": names.full_name(kind), "sort": names.sort(kind)}
                    for kind in sorted(kinds)
                },
            }
        )
        labels: dict[DynKey, str] = {}

        def labelled(kind: int, key: Any) -> str:
            record = DynKey(kind, key)
            if record not in labels:
                labels[record] = names.label(record)
            return labels[record]

        for time, event in self._events:
            line: dict[str, Any] = {"time": time, "event": type(event).__name__}
            match event:
                case RevisionBumped() | RevisionSet():
                    line["revision"] = int(event.revision)
                case _:
                    line |= {
                        "revision": int(event.revision),
                        "kind": int(event.kind),
                        "key": event.key.bytes.hex(),
                    }
                    if isinstance(event, (InputSet, QueryChanged)):
                        line["changed_at"] = int(event.changed_at)
                    if isinstance(event, QueryInvalidated):
                        line |= {"by_kind": int(event.by_kind), "by_key": event.by_key.bytes.hex()}
                    line["label"] = labelled(event.kind, event.key)
                    if isinstance(event, QueryInvalidated):
                        line["by_label"] = labelled(event.by_kind, event.by_key)
            yield json.dumps(line)

    @classmethod
    def load(cls, path: str | os.PathLike[str], db: object = None) -> Self:
        """Read a trace that `save` wrote.

        Args:
            path: where it is.
            db: a database, for keys whose classes this process does not know; names of queries are in the file.

        Raises:
            DecodeError: the file is no trace, or damaged; the message says in which line.
        """
        n_line = 0
        events: list[TraceEvent] = []
        with Path(path).open(encoding="utf-8") as file:
            try:
                for n_line, line in enumerate(file, 1):
                    if n_line == 1:
                        head = _head(json.loads(line))
                    elif line.strip():
                        events.append(_event(json.loads(line)))
                if not n_line:
                    raise ValueError("the file is empty")
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                what = f"`{error.args[0]}` is missing" if type(error) is KeyError else str(error)
                raise DecodeError(
                    f"{Path(path)}, line {n_line}, is not of a trace: {what}."
                ) from error
        known: dict[QueryKindId, tuple[str, Sort]] = head.pop("known")
        return cls(events, names=Names(db, known=known), **head)


def _head(line: Any) -> dict[str, Any]:
    if not isinstance(line, dict) or line.get("format") != FORMAT:
        raise ValueError(f'it does not begin with {{"format": "{FORMAT}"')
    if line.get("version") != VERSION:
        raise ValueError(
            f"it has version {line.get('version')!r}, and this picante reads {VERSION}"
        )
    started = datetime.fromisoformat(line["started"])
    return {
        "started": started if started.tzinfo else started.replace(tzinfo=UTC),
        "recorded": timedelta(seconds=line["recorded"]),
        "missed": int(line["missed"]),
        "known": {
            QueryKindId(int(kind)): (str(each["name"]), _sort(each["sort"]))
            for kind, each in line["kinds"].items()
        },
    }


def _sort(text: Any) -> Sort:
    if text not in get_args(Sort):
        raise ValueError(f"{text!r} is no sort of records")
    sort: Sort = text
    return sort


def _event(line: dict[str, Any]) -> TraceEvent:
    name, revision, time = line["event"], Revision(line["revision"]), float(line["time"])
    if name not in EVENTS:
        raise ValueError(f"{name!r} is no event")
    event = EVENTS[name]
    if event in {RevisionBumped, RevisionSet}:
        return TraceEvent(time, event(revision))
    key = Key.from_bytes(bytes.fromhex(line["key"]))
    facts: dict[str, Any] = {
        "kind": QueryKindId(line["kind"]),
        "key_hash": key.hash,
        "key": key,
        "revision": revision,
    }
    if event in {InputSet, QueryChanged}:
        facts["changed_at"] = Revision(line["changed_at"])
    elif event is not InputRemoved:
        facts["by_kind"] = QueryKindId(line["by_kind"])
        facts["by_key"] = Key.from_bytes(bytes.fromhex(line["by_key"]))
    return TraceEvent(time, event(**facts))
