"""From a recording to the runs that it is about: who ran when, for how long, and because of what.

In every thread exactly one thing goes on at a time: a query runs, an access looks at dependencies, or neither. Events
say where that changes. So the time between two events of a thread belongs to whatever is on top of that thread's stack,
and all of an interval is given to somebody exactly once, however queries are nested, suspended and resumed.

A run that asks for another one is on the stack beneath it. When the inner one is suspended both are taken off, and when
they go on both come back, the outer one first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from picante.observe import AccessCause, EventKind, Recording

__all__ = ["RUNNING", "Access", "Run", "Timeline"]

BLOCK: Final = 16_384
"""How many events are taken out of a recording at a time."""

RUNNING: Final = -1
"""The outcome of a run that had not ended."""

Row: TypeAlias = tuple[int, int, int, int, int, int, int, int, int]


@dataclass(slots=True)
class Access:
    """An access that was no hit."""

    node: int
    by: Run | None
    cause: int
    verifying: int = 0
    following: int = 0
    waits_since: int = -1
    follows: bool = False
    """It is a call that waited for its own query in another task, and has begun no computation of it since."""


@dataclass(slots=True)
class Run:
    """One computation of a query. Times are nanoseconds, `start` and `end` of the monotonic clock."""

    index: int
    node: int
    parent: Run | None
    start: int
    reason: int
    cause: int
    """The dependency because of which it ran, or -1."""
    revision: int
    thread: int
    access: Access | None = None
    end: int = -1
    outcome: int = RUNNING
    own: int = 0
    """How long it ran itself."""
    total: int = 0
    """How long it ran, or anything that it awaited."""
    steps: list[tuple[int, int]] = field(default_factory=list)
    step_since: int = -1
    own_before: int = 0
    """What `own` was when the present step began."""
    longest_step: int = 0
    """The longest that it has run itself in one step: for so long its event loop did nothing else."""

    @property
    def duration(self) -> int:
        return self.end - self.start

    @property
    def waiting(self) -> int:
        """How long it was under way while neither it nor what it awaited ran."""
        return max(0, self.duration - self.total)


class Timeline:
    """What a recording tells.

    Args:
        recording: it may still be growing.
        merged: for each subject of the recording the node that it stands for: a record that was forgotten and made
            again is another subject, but the same node.
        begin, end: of the profile, as of `time.monotonic_ns`.
    """

    def __init__(self, recording: Recording, merged: list[int], begin: int, end: int) -> None:
        self.begin = begin
        self.end = end
        self.runs: list[Run] = []
        self.accesses: list[Access] = []
        self.hits: Counter[int] = Counter()
        self.calls: Counter[int] = Counter()
        self.verified: Counter[int] = Counter()
        self.adopted: Counter[int] = Counter()
        self.followed: Counter[int] = Counter()
        self.reads: Counter[int] = Counter()
        self.edges: Counter[tuple[int, int]] = Counter()
        """(reader, dependency) -> how often it was read."""
        self.changes: list[tuple[int, int, int, int]] = []
        """(time, kind of event, node, revision): what was done from outside."""
        self.revisions: list[tuple[int, int]] = []
        """(revision, time)"""
        self._merged = merged
        self._running: dict[int, Run] = {}
        self._open: dict[int, Access] = {}
        self._stacks: dict[int, list[Run | Access]] = {}
        self._since: dict[int, int] = {}
        n = len(recording)
        for first in range(0, n, BLOCK):
            self._replay(recording.rows(first, min(first + BLOCK, n)))
        self._finish()

    # -- one event after the other

    def _replay(self, rows: Iterable[Row]) -> None:
        for time, kind, detail, number, by, extra, subject, other, thread in rows:
            stack = self._stacks.setdefault(thread, [])
            self._spend(stack, time, thread)
            node = self._merged[subject] if subject >= 0 else -1
            parent = self._running.get(by)
            match kind:
                case EventKind.HIT:
                    self.hits[node] += 1
                    self._read(parent, node)
                case EventKind.READ:
                    self.reads[node] += 1
                    self._read(parent, node)
                case EventKind.ACCESS_BEGIN:
                    self._begin_access(stack, node, number, parent, detail)
                case EventKind.ACCESS_RESUME:
                    stack.clear()
                    if number in self._open:
                        stack.append(self._open[number])
                case EventKind.ACCESS_END:
                    self._end_access(stack, number, time)
                case EventKind.VERIFIED:
                    self.verified[node] += 1
                case EventKind.ADOPTED:
                    self.adopted[node] += 1
                case EventKind.COMPUTE_BEGIN:
                    cause = self._merged[other] if other >= 0 else -1
                    run = Run(
                        len(self.runs),
                        node,
                        parent,
                        time,
                        detail,
                        cause,
                        extra,
                        thread,
                        step_since=time,
                    )
                    if stack and isinstance(stack[-1], Access):
                        run.access = stack[-1]
                        run.access.follows = run.access.follows and node != run.access.node
                    self.runs.append(run)
                    self._running[number] = run
                    stack.append(run)
                case EventKind.COMPUTE_PAUSE:
                    self._pause(stack, number, time)
                case EventKind.COMPUTE_RESUME if number in self._running:
                    run = self._running[number]
                    run.step_since = time
                    run.own_before = run.own
                    _return_to(stack, run.parent)
                    stack.append(run)
                case EventKind.COMPUTE_RETURN if number in self._running:
                    run = self._running[number]
                    self._stop(stack, run, time)
                    if run.access is not None and run.access not in stack[-1:]:
                        stack.append(run.access)
                case EventKind.COMPUTE_END if number in self._running:
                    run = self._running.pop(number)
                    self._stop(stack, run, time)
                    run.end = time
                    run.outcome = detail
                case EventKind.WAIT_BEGIN if number in self._open:
                    access = self._open[number]
                    access.waits_since = time
                    # A call of a query that is kept goes on in an access of its own; a hop may be for something else.
                    access.follows |= node == access.node and access.cause != AccessCause.HOP
                    _take_off(stack, access)
                case EventKind.WAIT_END if number in self._open:
                    access = self._open[number]
                    if access.waits_since >= 0:
                        access.following += time - access.waits_since
                        access.waits_since = -1
                    _return_to(stack, parent)
                    stack.append(access)
                case EventKind.REVISION:
                    self.revisions.append((extra, time))
                case (
                    EventKind.INPUT_SET
                    | EventKind.INPUT_SAME
                    | EventKind.INPUT_REMOVED
                    | EventKind.INVALIDATED
                ):
                    self.changes.append((time, kind, node, extra))

    def _spend(self, stack: list[Run | Access], time: int, thread: int) -> None:
        """Give the time since the last event of the thread to whatever went on there."""
        if stack:
            top = stack[-1]
            if isinstance(top, Run):
                top.own += time - self._since[thread]
            else:
                top.verifying += time - self._since[thread]
        self._since[thread] = time

    def _read(self, reader: Run | None, node: int) -> None:
        if reader is not None:
            self.edges[reader.node, node] += 1

    def _begin_access(
        self, stack: list[Run | Access], node: int, number: int, by: Run | None, cause: int
    ) -> None:
        access = self._open[number] = Access(node, by, cause)
        self.accesses.append(access)
        if cause in {AccessCause.CALL, AccessCause.MAP}:
            self.calls[node] += 1
            self._read(by, node)
        if cause == AccessCause.CALL:
            stack.append(access)
        elif stack and isinstance(stack[-1], Access):
            stack.pop()  # it goes on in this new one, and waits for it

    def _end_access(self, stack: list[Run | Access], number: int, time: int) -> None:
        access = self._open.pop(number, None)
        if access is None:
            return
        _take_off(stack, access)
        self.followed[access.node] += access.follows
        if access.waits_since >= 0:
            access.following += time - access.waits_since

    def _pause(self, stack: list[Run | Access], number: int, time: int) -> None:
        run = self._running.get(number)
        if run is None:
            stack.clear()
            return
        self._stop(stack, run, time)
        if stack and isinstance(stack[-1], Access):
            stack.pop()

    def _stop(self, stack: list[Run | Access], run: Run, time: int) -> None:
        """`run` does not run any more, for now or for good."""
        _take_off(stack, run)
        if run.step_since >= 0:
            run.steps.append((run.step_since, time))
            run.step_since = -1
            run.longest_step = max(run.longest_step, run.own - run.own_before)

    def _finish(self) -> None:
        for run in self._running.values():
            run.end = max(self.end, run.start)
            if run.step_since >= 0:
                run.steps.append((run.step_since, run.end))
        for access in self._open.values():
            if access.waits_since >= 0:
                access.following += self.end - access.waits_since
        for run in self.runs:
            run.total += run.own
        for access in self.accesses:
            if access.by is not None:
                access.by.total += access.verifying
        for run in reversed(self.runs):  # those that were asked for have begun later
            if run.parent is not None:
                run.parent.total += run.total


def _take_off(stack: list[Run | Access], item: Run | Access) -> None:
    """Take `item` off the stack, with all that is above it."""
    for place in range(len(stack) - 1, -1, -1):
        if stack[place] is item:
            del stack[place:]
            return


def _return_to(stack: list[Run | Access], run: Run | None) -> None:
    """Take everything off that is above `run`; all, where it is not there: this begins at the event loop."""
    for place in range(len(stack) - 1, -1, -1):
        if stack[place] is run:
            del stack[place + 1 :]
            return
    stack.clear()
