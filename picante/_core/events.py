"""What a runtime tells the outside: events, the hub that sends them, the receivers that take them.

The hub keeps its receivers weakly, so that a receiver which is dropped without `close()` costs
nothing afterwards. While somebody awaits a receiver the hub holds it strongly: the waiting task
hangs on a future that only the receiver knows, and the garbage collector would otherwise be free
to take all three away (`test_a_task_that_nobody_keeps_goes_on_listening`).

One lock guards all hubs. Sections under it are a few attribute accesses long and wake nobody. It
is reentrant, and there is only one, because a collection may start inside a section and run a
finalizer that subscribes, closes or emits: with a lock per hub two threads could then wait for
each other's.

Every waiter is woken for every event, and takes what it finds. Handing an event to one chosen
waiter would lose it when that waiter is cancelled, or when its loop is closed or never runs
again.

The engine calls `emit` and `publish_revision` outside its transitions, from any thread, and looks
at `has_event_receivers` and `has_revision_receivers` first, so that no event is made when nobody
listens.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeAlias, TypeVar

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "CAPACITY",
    "EventHub",
    "EventReceiver",
    "InputRemoved",
    "InputSet",
    "QueryChanged",
    "QueryInvalidated",
    "ReceiverClosedError",
    "RevisionBumped",
    "RevisionReceiver",
    "RevisionSet",
    "RuntimeEvent",
]

T = TypeVar("T")
R = TypeVar("R", bound=int)

CAPACITY: Final = 1024
"""How many events a receiver keeps (r[event.broadcast-capacity])."""


# r[event.types], r[event.key-fields]. `kind` is a `QueryKindId`, `key` a `Key`, a revision a
# `Revision`; nothing here looks into them, so that this module stands below the one that defines
# them.


@dataclass(frozen=True, slots=True)
class RevisionBumped:
    """The runtime went on to `revision`."""

    revision: int


@dataclass(frozen=True, slots=True)
class RevisionSet:
    """The runtime was put at `revision`, as loading a cache does."""

    revision: int


@dataclass(frozen=True, slots=True)
class InputSet:
    """An input has a new value since `changed_at`."""

    kind: int
    key_hash: int
    key: Any
    changed_at: int
    revision: int


@dataclass(frozen=True, slots=True)
class InputRemoved:
    """An input has no value any more."""

    kind: int
    key_hash: int
    key: Any
    revision: int


@dataclass(frozen=True, slots=True)
class QueryInvalidated:
    """A memo may be stale, because the input `by_kind`, `by_key` changed."""

    kind: int
    key_hash: int
    key: Any
    by_kind: int
    by_key: Any
    revision: int


@dataclass(frozen=True, slots=True)
class QueryChanged:
    """A query was computed for the first time, or with a value that differs from the one before."""

    kind: int
    key_hash: int
    key: Any
    changed_at: int
    revision: int


RuntimeEvent: TypeAlias = (
    RevisionBumped | RevisionSet | InputSet | InputRemoved | QueryInvalidated | QueryChanged
)


class ReceiverClosedError(RuntimeError):
    """Nothing more will come: the receiver was closed, or its runtime is gone."""


_lock = threading.RLock()


def _renew_lock() -> None:
    """A thread that the fork left behind in the parent may have held the lock."""
    global _lock  # noqa: PLW0603  # one lock, for the reason given above
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _wake(waiters: Iterable[asyncio.Future[None]]) -> None:
    """Wake what waits in any loop; a loop that is closed is passed over."""
    running: asyncio.AbstractEventLoop | None
    asyncio = sys.modules.get(
        "asyncio"
    )  # not imported at the top: that takes longer than all of picante
    if asyncio is None:
        return
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    for waiter in waiters:
        loop = waiter.get_loop()
        try:
            if loop is running:
                _resolve(waiter)
            else:
                loop.call_soon_threadsafe(_resolve, waiter)
        except Exception:
            # A closed loop raises RuntimeError, and a loop of another make may raise what it
            # likes. Whoever waits there waits for ever; the engine that emits has nothing to do
            # with it.
            continue


class _Receiver(Generic[T]):
    """What both receivers share: waiting in any loop, closing, iterating.

    `_waiters` and what `_take` reads are touched under the lock only.
    """

    __slots__ = ("__weakref__", "_closed", "_hub", "_waiters")

    def __init__(self, hub: EventHub) -> None:
        self._hub = weakref.ref(hub)
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nothing more will come in."""
        return self._closed

    def close(self) -> None:
        """Unsubscribe. Who waits gets `ReceiverClosedError`; closing again does nothing."""
        with _lock:
            self._discard()
            waiters = self._end()
            hub = self._hub()
            if hub is not None:
                hub._unsubscribe(self)
        _wake(waiters)

    def _take(self, since: object) -> T | None:
        """The next item, or None if there is none. Under the lock."""
        raise NotImplementedError

    def _mark(self) -> object:
        """What `_take` needs to know of the moment its caller began to wait. Under the lock."""
        return None

    def _discard(self) -> None:
        """Forget what was not taken yet. Under the lock."""

    def _end(self) -> Iterable[asyncio.Future[None]]:
        """Let nothing more come in; returns whom to wake. Under the lock."""
        self._closed = True
        return self._release()

    def _release(self) -> Iterable[asyncio.Future[None]]:
        """Take out all waiters, to be woken after the lock. Under the lock."""
        waiters = self._waiters
        if waiters:
            self._waiters = {}
            hub = self._hub()
            if hub is not None:
                hub._waiting.discard(self)
        return waiters

    def _enter(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """A future that the next arrival resolves. Under the lock."""
        hub = self._hub()
        if self._closed or hub is None:
            raise ReceiverClosedError(
                f"This {type(self).__name__} is closed, or its runtime is gone; nothing more will "
                "come. Subscribe again to go on listening."
            )
        waiter = loop.create_future()
        self._waiters[waiter] = None
        hub._waiting.add(self)
        return waiter

    def _leave(self, waiter: asyncio.Future[None]) -> None:
        """Undo `_enter` for a waiter that was cancelled before it was woken. Under the lock."""
        if waiter in self._waiters:
            del self._waiters[waiter]
            hub = self._hub()
            if hub is not None and not self._waiters:
                hub._waiting.discard(self)

    async def _next(self) -> T:
        # The item is taken in the step that returns it, so no cancellation can come between.
        # Nothing here holds the hub while it waits, or the runtime could not go.
        import asyncio

        loop = asyncio.get_running_loop()
        with _lock:
            since = self._mark()
        while True:
            with _lock:
                item = self._take(since)
                if item is not None:
                    return item
                waiter = self._enter(loop)
            try:
                await waiter
            finally:
                with _lock:
                    self._leave(waiter)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._next()
        except ReceiverClosedError:
            raise StopAsyncIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class EventReceiver(_Receiver[RuntimeEvent]):
    """The events of a runtime since the subscription, in order: `Runtime.subscribe_events()`.

    It keeps the newest `CAPACITY` events that were not received yet. Usable from any thread and
    any loop, by several tasks at once (each event goes to one of them). `async for` ends when the
    receiver is closed or the runtime is gone.
    """

    __slots__ = ("_buffer", "_missed")

    def __init__(self, hub: EventHub) -> None:
        super().__init__(hub)
        self._buffer: deque[RuntimeEvent] = deque()
        self._missed = 0

    @property
    def missed(self) -> int:
        """How many events were dropped, oldest first, because nobody received them in time."""
        return self._missed

    async def recv(self) -> RuntimeEvent:
        """The next event; waits for it.

        Raises `ReceiverClosedError` after `close()`, and, once all is received, when the runtime
        is gone.
        """
        return await self._next()

    def try_recv(self) -> RuntimeEvent | None:
        """The next event, or None if there is none at present (as in a closed receiver)."""
        with _lock:
            return self._take(None)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._buffer)} waiting"
        return f"<EventReceiver {state}, {self._missed} missed>"

    def _push(self, event: RuntimeEvent) -> None:
        """Under the lock."""
        buffer = self._buffer
        buffer.append(event)
        if len(buffer) > CAPACITY:
            buffer.popleft()
            self._missed += 1

    def _take(self, since: object) -> RuntimeEvent | None:
        return self._buffer.popleft() if self._buffer else None

    def _discard(self) -> None:
        self._buffer.clear()


class RevisionReceiver(_Receiver[R]):
    """The current revision of a runtime, and its changes: `Runtime.subscribe_revisions()`.

    It keeps the latest revision only: who is slow sees fewer changes, never an old one. Usable
    from any thread and any loop; of several tasks that wait, all get the change. `async for`
    starts with the first revision after the subscription.
    """

    __slots__ = ("_seen", "_value")

    def __init__(self, hub: EventHub, current: R) -> None:
        super().__init__(hub)
        self._value = current
        self._seen = current

    @property
    def value(self) -> R:
        """The current revision; after closing, the last. Reading it does not count as seeing it."""
        return self._value

    async def changed(self) -> R:
        """The current revision, once it is another than the one which this returned last.

        Raises `ReceiverClosedError` after `close()`, and when the runtime is gone.
        """
        return await self._next()

    def __repr__(self) -> str:
        return f"<RevisionReceiver at {self._value!r}{', closed' if self._closed else ''}>"

    def _mark(self) -> object:
        return self._seen

    def _take(self, since: object) -> R | None:
        # Compared with what was seen when this caller began, so that of several all get the change.
        if self._value == since:
            return None
        self._seen = self._value
        return self._value

    def _discard(self) -> None:
        self._seen = self._value


class EventHub:
    """The sending end, which its runtime alone owns: when it goes, its receivers end."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_event_receivers",
        "_forget",
        "_revision_receivers",
        "_waiting",
        "has_event_receivers",
        "has_revision_receivers",
    )

    has_event_receivers: bool
    """Whether `emit` would reach anybody. Read only, kept true from here."""
    has_revision_receivers: bool
    """Whether `publish_revision` would reach anybody. Read only, kept true from here."""

    def __init__(self) -> None:
        self.has_event_receivers = False
        self.has_revision_receivers = False
        self._closed = False
        # Tuples that are replaced, never changed: `emit` walks the one that it found.
        self._event_receivers: tuple[weakref.ref[EventReceiver], ...] = ()
        self._revision_receivers: tuple[weakref.ref[RevisionReceiver[Any]], ...] = ()
        self._waiting: set[_Receiver[Any]] = set()
        this = weakref.ref(self)

        def forget(_: object) -> None:
            hub = this()
            if hub is not None:
                hub._unsubscribe(None)

        self._forget = forget

    def subscribe_events(self) -> EventReceiver:
        """A receiver of the events from now on (r[event.channel])."""
        receiver = EventReceiver(self)
        with _lock:
            if self._closed:
                receiver._end()
            else:
                self._replace((weakref.ref(receiver, self._forget),), (), None)
        return receiver

    def subscribe_revisions(self, current: R) -> RevisionReceiver[R]:
        """A receiver that stands at `current` and sees what comes after (r[event.channel])."""
        receiver = RevisionReceiver(self, current)
        with _lock:
            if self._closed:
                receiver._end()
            else:
                self._replace((), (weakref.ref(receiver, self._forget),), None)
        return receiver

    def emit(self, event: RuntimeEvent) -> None:
        """Give `event` to all event receivers. Never raises, never waits for one of them."""
        woken: list[asyncio.Future[None]] | None = None
        with _lock:
            for ref in self._event_receivers:
                receiver = ref()
                if receiver is not None:
                    receiver._push(event)
                    if receiver._waiters:
                        woken = [*(woken or ()), *receiver._release()]
        if woken is not None:
            _wake(woken)

    def publish_revision(self, revision: int) -> None:
        """Tell all revision receivers. One that is not later than what they have is passed over."""
        woken: list[asyncio.Future[None]] | None = None
        with _lock:
            for ref in self._revision_receivers:
                receiver = ref()
                # Two threads that publish may come here in the other order.
                if receiver is not None and revision > receiver._value:
                    receiver._value = revision
                    if receiver._waiters:
                        woken = [*(woken or ()), *receiver._release()]
        if woken is not None:
            _wake(woken)

    def close(self) -> None:
        """End all receivers: what they hold can still be received, then they are closed."""
        woken: list[asyncio.Future[None]] = []
        with _lock:
            self._closed = True
            receivers: list[_Receiver[Any] | None] = [
                *self._waiting,
                *(ref() for ref in self._event_receivers),
                *(ref() for ref in self._revision_receivers),
            ]
            for receiver in receivers:
                if receiver is not None:
                    woken += receiver._end()
            self._event_receivers = ()
            self._revision_receivers = ()
            self._waiting.clear()
            self.has_event_receivers = False
            self.has_revision_receivers = False
        _wake(woken)

    def __del__(self) -> None:
        self.close()

    def _unsubscribe(self, gone: _Receiver[Any] | None) -> None:
        """Take out `gone` and whatever is dead."""
        with _lock:
            if gone is not None:
                self._waiting.discard(gone)
            self._replace((), (), gone)

    def _replace(
        self,
        more_events: tuple[weakref.ref[EventReceiver], ...],
        more_revisions: tuple[weakref.ref[RevisionReceiver[Any]], ...],
        gone: _Receiver[Any] | None,
    ) -> None:
        """Add, and take out `gone` and whatever is dead. Under the lock."""
        while True:
            events, revisions = self._event_receivers, self._revision_receivers
            old_events = [ref for ref in events if ref() is not None and ref() is not gone]
            old_revisions = [ref for ref in revisions if ref() is not None and ref() is not gone]
            new_events, new_revisions = (
                (*old_events, *more_events),
                (*old_revisions, *more_revisions),
            )
            any_events, any_revisions = bool(new_events), bool(new_revisions)
            # A collection in one of these lines may have come here for another receiver. If so,
            # what was just made is out of date; from this test on there are only stores, which
            # nothing interrupts.
            if self._event_receivers is events and self._revision_receivers is revisions:
                self._event_receivers = new_events
                self._revision_receivers = new_revisions
                self.has_event_receivers = any_events
                self.has_revision_receivers = any_revisions
                return
