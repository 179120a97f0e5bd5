"""Recording everything that a runtime announces (r[debug.trace-collector]).

A receiver keeps 1024 events, and one change of an input may announce a hundred thousand, with no chance for any task
to run in between. So no task could take them out in time, nor a thread. But whoever waits for a receiver is woken for
every event, by the call that announces it, and the waiter's loop decides what that means. A collector waits with a
loop of its own making, which knows a single thing: when something it created is resolved, it runs its one coroutine
on, there and then. Every event is thus taken, with its exact time, before the announcing call goes on; no event loop
has to run, and none can be closed too early.

One case is left: a thread is interrupted between being woken and waiting again, and until it goes on others announce
more than the receiver keeps. What that loses is counted. A receiver in the engine that keeps everything, with times,
would replace all of this and lose nothing.

Who owns whom: collector -> stepper -> coroutine -> receiver. The hub of the runtime holds the receiver and the
waiter, and the waiter knows the stepper weakly. A collector that is dropped takes its coroutine with it, which leaves
the hub as it is closed.
"""

from __future__ import annotations

import threading
import time
import weakref
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable, Coroutine, Generator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

from picante._core.runtime import Runtime
from picante.debug.names import Names, check_runtime
from picante.debug.trace import Trace, TraceEvent
from picante.events import EventReceiver, RuntimeEvent

__all__ = ["TraceCollector"]

PATIENCE: Final = 1.0
"""For how many seconds a thread waits at most for another one to record what it announced."""


class _Waiter:
    """The future of a `_Loop`. Resolving it runs the coroutine that awaits it."""

    __slots__ = ("_done", "_loop")

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop
        self._done = False

    def get_loop(self) -> _Loop:
        return self._loop

    def done(self) -> bool:
        return self._done

    def set_result(self, result: object) -> None:
        self._done = True
        stepper = self._loop.stepper()
        if stepper is not None:
            stepper.step()

    def __await__(self) -> Generator[_Waiter, None, None]:
        yield self


class _Loop:
    """The least of an event loop: what waiting for a receiver needs."""

    def __init__(self, stepper: _Stepper) -> None:
        self.stepper = weakref.ref(stepper)

    def create_future(self) -> _Waiter:
        return _Waiter(self)

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
        callback(*args)


class _Stepper:
    """Runs one coroutine until it waits, whenever that for which it waits has come."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._make = make
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._loop: Any = _Loop(
            self
        )  # an event loop for those who ask, though it can do next to nothing
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._wanted = False

    def step(self) -> None:
        """Run on, after the thread that does so already.

        A finalizer may announce something while this very thread runs: then what it interrupted sees to it. And it may
        do so where its thread holds a lock that the running one needs, so no wait is for ever.
        """
        self._wanted = True
        while self._wanted and self._owner != threading.get_ident():
            if not self._lock.acquire(timeout=PATIENCE):
                return  # who holds it finds that it is wanted
            try:
                self._owner = threading.get_ident()
                self._wanted = False
                self._run()
            finally:
                self._owner = None
                self._lock.release()

    def _run(self) -> None:
        outer = _get_running_loop()
        _set_running_loop(self._loop)
        try:
            if self._coroutine is None:
                self._coroutine = self._make()
            self._coroutine.send(None)
        except StopIteration:
            self._coroutine = None  # the receiver is closed; another one would find it so, too
        except BaseException:
            self._coroutine = None  # an interrupt, or a full stack: `snapshot` begins afresh
            raise
        finally:
            _set_running_loop(outer)


async def _collect(receiver: EventReceiver, into: list[tuple[int, RuntimeEvent]]) -> None:
    async for event in receiver:
        into.append((time.perf_counter_ns(), event))  # noqa: PERF401  # each is there as soon as it has come


class TraceCollector:
    """Records all events of a runtime from `start` to `stop`, however many there are and with or without an event loop.

    >>> import asyncio, picante
    >>> from picante.debug import TraceCollector
    >>> db = picante.Database()
    >>> text = db.ingredients.register(picante.InputIngredient(7, "Text"))
    >>> with TraceCollector.start(db.runtime, db) as collector:
    ...     text.set(db, "a.md", "one")
    ...     text.set(db, "a.md", "two")
    Revision(1)
    Revision(2)
    >>> trace = collector.snapshot()
    >>> for entry in trace:
    ...     print(type(entry.event).__name__, int(entry.event.revision))
    RevisionBumped 1
    InputSet 1
    RevisionBumped 2
    InputSet 2

    Of thousands of events that several threads announce at the same instant some can be lost; `missed` counts them.
    Several may record one runtime. While one does, an event costs some microseconds, in the thread in which it
    happens. Dropping a collector ends it. What happens in a snapshot is announced by the snapshot's own runtime.
    """

    def __init__(self, runtime: Runtime, db: object = None) -> None:
        check_runtime(runtime, db, f"{type(self).__name__}.start")
        receiver = runtime.subscribe_events()
        events: list[tuple[int, RuntimeEvent]] = []
        self._receiver = receiver
        self._events = events
        self._names = Names(db)
        self._trace: Trace | None = None
        self._started = datetime.now(UTC)
        self._start = time.perf_counter_ns()
        self._stepper = _Stepper(lambda: _collect(receiver, events))
        self._stepper.step()

    @classmethod
    def start(cls, runtime: Runtime, db: object = None) -> Self:
        """Begin to record.

        Args:
            runtime: that of a database or of a snapshot.
            db: the database itself, for readable names; the trace keeps it alive.

        Raises:
            ForeignDatabaseError: `db` is another database than that of `runtime`.
        """
        return cls(runtime, db)

    @property
    def missed(self) -> int:
        """How many events were lost: none, unless several threads announced many at once, or a stack was full."""
        return self._receiver.missed

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called, or a `with` block ended."""
        return self._trace is not None

    def snapshot(self) -> Trace:
        """What was recorded so far; after `stop`, what that returned."""
        if self._trace is not None:
            return self._trace
        self._stepper.step()
        now = time.perf_counter_ns()
        start = self._start
        return Trace(
            [TraceEvent((at - start) / 1e9, event) for at, event in self._events.copy()],
            started=self._started,
            recorded=timedelta(microseconds=(now - start) / 1000),
            missed=self.missed,
            names=self._names,
        )

    async def stop(self) -> Trace:
        """End the recording and return it (r[debug.trace-collector]). Stopping twice returns the same."""
        return self._stop()

    def _stop(self) -> Trace:
        if self._trace is None:
            self._trace = self.snapshot()
            self._receiver.close()
            self._events.clear()
        return self._trace

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()

    def __repr__(self) -> str:
        state = "stopped" if self.stopped else "recording"
        n_events = len(self._events) if self._trace is None else len(self._trace)
        return f"<{type(self).__name__} {state}, {n_events} events>"
