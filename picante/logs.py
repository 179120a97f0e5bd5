"""Logging: what picante tells the `logging` of the standard library (r[trace.crate]).

The loggers are `picante.input`, `picante.intern`, `picante.query` and `picante.persist`, children of `picante`. Nothing
is installed for them but a `NullHandler` (r[trace.no-subscriber]): where records go is the application's choice. DEBUG
tells of changes, TRACE, a level below it, of every read and of every step of verifying (r[trace.levels]).

While the loggers are not enabled for these levels, a database does nothing for them at all, not even ask. When they
are, each database is observed, as it is for a profiler (`picante.observe`). So picante has to hear of it when a level
changes. `logging` forgets what it knows of all loggers whenever one of them gets another level, the root included, and
on `logging.disable`: it clears the cache of each, a dict. That of `picante` is a dict which tells. Should `logging` do
without such a cache one day, databases are observed all the time, for changes only, and at each it is asked anew.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from picante._core.databases import watch_databases
from picante._core.runtime import Runtime
from picante.observe import Event, EventKind, Observer, RunOutcome, RunReason, Subject, observe
from picante.reasons import reason_text

__all__ = ["TRACE"]

TRACE: Final = 5
"""The level of single reads and steps, below `logging.DEBUG`. Its name is "TRACE"."""

PACKAGE: Final = os.path.join(os.path.dirname(__file__), "")

root = logging.getLogger("picante")
inputs = logging.getLogger("picante.input")
interned = logging.getLogger("picante.intern")
queries = logging.getLogger("picante.query")

CHANGES: Final = frozenset({EventKind.INPUT_SET, EventKind.INPUT_SAME, EventKind.INPUT_REMOVED})
COMPUTATIONS: Final = frozenset({EventKind.COMPUTE_BEGIN, EventKind.COMPUTE_END})
BY_LEVEL: Final = (
    (inputs, logging.DEBUG, CHANGES | {EventKind.REVISION}),
    (interned, logging.DEBUG, frozenset({EventKind.INTERNED})),
    (queries, logging.DEBUG, frozenset({EventKind.INVALIDATED})),
    (inputs, TRACE, COMPUTATIONS | {EventKind.READ}),
    (
        queries,
        TRACE,
        COMPUTATIONS
        | {
            EventKind.HIT,
            EventKind.READ,
            EventKind.ACCESS_BEGIN,
            EventKind.ACCESS_END,
            EventKind.VERIFY_SAME,
            EventKind.VERIFY_DIFFERENT,
            EventKind.VERIFIED,
            EventKind.ADOPTED,
            EventKind.WAIT_BEGIN,
        },
    ),
)


# -- switching


class Watched(dict[int, bool]):
    """The cache of a logger, which `logging` clears whenever a level has changed."""

    def clear(self) -> None:
        super().clear()
        switch.turn()


class Switch:
    """Observes the databases of the process as far as the loggers are enabled.

    `turn` is called with the lock of `logging` held, and from wherever a database is made, so it never waits: who finds
    another one at work leaves that one to look once more.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asked = object()  # another one each time that somebody asks for a turn
        self.kinds: frozenset[EventKind] = frozenset()
        self.observers: dict[int, Observer] = {}
        self.can_hear = False

    def turn(self) -> None:
        """Bring all databases in line with the levels."""
        self.asked = object()
        done = None
        while done is not self.asked and self.lock.acquire(blocking=False):
            try:
                done = self.asked
                self._turn()
            finally:
                self.lock.release()

    def _turn(self) -> None:
        kinds = wanted_kinds()
        if not self.can_hear:
            kinds |= CHANGES
        is_same = kinds == self.kinds
        self.kinds = (
            kinds  # before the databases are listed: who is made later on comes by itself (`meet`)
        )
        before, self.observers = self.observers, {}
        if kinds:
            for runtime in watch_databases(self.meet):
                number = int(runtime.id)
                if is_same and number in before:
                    self.observers[number] = before.pop(number)
                else:
                    self.observers[number] = observe(runtime, observed, kinds=kinds)
        for observer in before.values():
            observer.close()
        if not kinds & COMPUTATIONS:
            running.clear()

    def meet(self, runtime: Runtime) -> None:
        """There is a new database."""
        if self.kinds or not self.can_hear:
            self.turn()

    def after_fork(self) -> None:
        self.lock = threading.Lock()  # whoever held it is not here


def wanted_kinds() -> frozenset[EventKind]:
    """What the loggers are enabled for. Takes no lock, which `Logger.isEnabledFor` does.

    `Logger.disabled` is not heard of when it changes, so it counts only when there is something to be logged.
    """
    kinds: frozenset[EventKind] = frozenset()
    for logger, level, of_level in BY_LEVEL:
        if logger.manager.disable < level and logger.getEffectiveLevel() <= level:
            kinds |= of_level
    return kinds


def listen(logger: logging.Logger) -> bool:
    """Hear of it when levels change; whether that is possible."""
    if not isinstance(getattr(logger, "_cache", None), dict):
        return False
    if not callable(getattr(logger.manager, "_clear_cache", None)):
        return False
    if not isinstance(logger._cache, Watched):  # type: ignore[attr-defined]
        logger._cache = Watched()  # type: ignore[attr-defined]
    return True


# -- telling


running: dict[int, Subject] = {}  # the queries that run, by number: what reads happen in


class Label:
    """What something is called, made only where somebody wants to read it."""

    __slots__ = ("subject",)

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def __str__(self) -> str:
        return self.subject.label

    __repr__ = __str__


def log(
    logger: logging.Logger, level: int, name: str, text: str, event: Event, *args: Any, **extra: Any
) -> None:
    """Log a record about the subject of an event, as from the line of the user's code that led to it."""
    if not logger.isEnabledFor(level):
        return
    subject = event.subject
    extra["picante_event"] = name
    if subject is not None:
        extra.update(query=subject.name, kind=int(subject.kind), key=subject.key, part=subject.part)
        args = (Label(subject), *args)
    logger.log(level, text, *args, extra=extra, stacklevel=n_own_frames())


def n_own_frames() -> int:
    """How many frames of this package stand above the line of the user's code that led here."""
    depth, frame = 0, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
        depth += 1
    return depth + 1


def observed(event: Event) -> None:
    """Called for all that happens. What it raises, because a handler or a filter does, reaches no query."""
    if not switch.can_hear:
        switch.turn()
    TELL[event.kind](event)


def input_set(event: Event) -> None:
    text = "set %s at revision %d"
    log(inputs, logging.DEBUG, "set", text, event, event.extra, revision=event.extra)


def input_same(event: Event) -> None:
    log(inputs, logging.DEBUG, "set_same", "set %s to the value that it has", event)


def input_removed(event: Event) -> None:
    text = "removed %s at revision %d"
    log(inputs, logging.DEBUG, "remove", text, event, event.extra, revision=event.extra)


def revision_begun(event: Event) -> None:
    text = "revision %d begins"
    log(inputs, logging.DEBUG, "revision", text, event, event.extra, revision=event.extra)


def value_interned(event: Event) -> None:
    is_new = bool(event.detail)
    text = "interned a new value as %s" if is_new else "interned a value that is known as %s"
    log(interned, logging.DEBUG, "intern", text, event, id=event.extra, is_new=is_new)


def invalidated(event: Event) -> None:
    text = "invalidated %s at revision %d"
    log(queries, logging.DEBUG, "invalidate", text, event, event.extra, revision=event.extra)


def read(event: Event) -> None:
    log(inputs, TRACE, "get", "get %s", event)
    dependency(event)


def dependency(event: Event) -> None:
    """A read that happened in a query was recorded as a dependency of it."""
    reader = running.get(event.by)
    if reader is not None and event.subject is not None and queries.isEnabledFor(TRACE):
        dep = Label(event.subject)
        queries.log(
            TRACE,
            "%s depends on %s",
            Label(reader),
            dep,
            extra={
                "picante_event": "dependency",
                "query": reader.name,
                "kind": int(reader.kind),
                "key": reader.key,
                "part": "",
                "dependency": dep,
            },
            stacklevel=n_own_frames(),
        )


def hit(event: Event) -> None:
    text = "get %s: known at revision %d"
    log(queries, TRACE, "get", text, event, event.extra, revision=event.extra, result="hit")
    dependency(event)


def access_begun(event: Event) -> None:
    text = "get %s: not known at revision %d"
    log(queries, TRACE, "get", text, event, event.extra, revision=event.extra, result="miss")


def verified_same(event: Event) -> None:
    verified(event, "same", "verify %s: %s had not changed")


def verified_different(event: Event) -> None:
    verified(event, "different", "verify %s: %s had changed")


def verified(event: Event, result: str, text: str) -> None:
    dep = "something that is gone" if event.other is None else Label(event.other)
    if queries.isEnabledFor(TRACE):
        log(queries, TRACE, "verify", text, event, dep, result=result, dependency=dep)


def holds(event: Event) -> None:
    text = "verify %s: it holds at revision %d"
    log(queries, TRACE, "verify", text, event, event.extra, revision=event.extra, result="holds")


def run_begun(event: Event) -> None:
    if event.subject is not None:
        running[event.number] = event.subject
    if queries.isEnabledFor(TRACE):
        reason = RunReason(event.detail)
        dep = None if event.other is None else Label(event.other)
        because = reason_text(reason, None if dep is None else "%s")
        log(
            queries,
            TRACE,
            "run",
            f"run %s at revision %d: {because}",
            event,
            *([event.extra] if dep is None or "%s" not in because else [event.extra, dep]),
            revision=event.extra,
            reason=reason.name.lower(),
            dependency=dep,
        )


def run_ended(event: Event) -> None:
    running.pop(event.number, None)
    outcome = RunOutcome(event.detail)
    text = f"ran %s: {OUTCOMES[outcome]}"
    log(queries, TRACE, "ran", text, event, result=outcome.name.lower(), error=event.error)


def adopted(event: Event) -> None:
    log(queries, TRACE, "adopt", "take an earlier result of %s, which had read the same", event)


def waits(event: Event) -> None:
    log(queries, TRACE, "wait", "wait for %s, which runs already", event)


OUTCOMES: Final = {
    RunOutcome.NEW: "a new value",
    RunOutcome.EQUAL: "an equal value",
    RunOutcome.FAILED: "it failed",
    RunOutcome.CANCELLED: "it was cancelled",
    RunOutcome.NO_RESULT: "it ended without a result",
}
TELL: Final[dict[EventKind, Callable[[Event], None]]] = {
    EventKind.INPUT_SET: input_set,
    EventKind.INPUT_SAME: input_same,
    EventKind.INPUT_REMOVED: input_removed,
    EventKind.REVISION: revision_begun,
    EventKind.INTERNED: value_interned,
    EventKind.INVALIDATED: invalidated,
    EventKind.READ: read,
    EventKind.HIT: hit,
    EventKind.ACCESS_BEGIN: access_begun,
    EventKind.ACCESS_END: dependency,
    EventKind.VERIFY_SAME: verified_same,
    EventKind.VERIFY_DIFFERENT: verified_different,
    EventKind.VERIFIED: holds,
    EventKind.COMPUTE_BEGIN: run_begun,
    EventKind.COMPUTE_END: run_ended,
    EventKind.ADOPTED: adopted,
    EventKind.WAIT_BEGIN: waits,
}


switch = Switch()


def set_up() -> None:
    logging.addLevelName(TRACE, "TRACE")
    if not any(isinstance(each, logging.NullHandler) for each in root.handlers):
        root.addHandler(logging.NullHandler())
    switch.can_hear = listen(root)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=switch.after_fork)
    switch.turn()


set_up()
