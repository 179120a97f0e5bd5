"""The hub and its receivers by themselves: order, capacity, waiting in any loop, ending.

Nothing here sleeps: what has to happen first is waited for, with a deadline that only a failure
reaches.
"""

import asyncio
import contextlib
import dataclasses
import gc
import os
import pickle
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from picante._core.events import EventHub
from picante.events import (
    CAPACITY,
    EventReceiver,
    InputRemoved,
    InputSet,
    QueryChanged,
    QueryInvalidated,
    ReceiverClosedError,
    RevisionBumped,
    RevisionReceiver,
    RevisionSet,
    RuntimeEvent,
)
from tests.helpers import DEADLINE, LoopThread, until

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(main, DEADLINE)

    return asyncio.run(bounded())


async def step(times: int = 3) -> None:
    """Let the other tasks of this loop go on."""
    for _ in range(times):
        await asyncio.sleep(0)


def bumped(*revisions: int) -> list[RuntimeEvent]:
    return [RevisionBumped(revision) for revision in revisions]


def drain(receiver: EventReceiver) -> list[RuntimeEvent]:
    return list(iter(receiver.try_recv, None))


# The events themselves


EVENTS: list[RuntimeEvent] = [
    RevisionBumped(1),
    RevisionSet(2),
    InputSet(3, 4, b"k", 5, 6),
    InputRemoved(3, 4, b"k", 6),
    QueryInvalidated(3, 4, b"k", 7, b"by", 6),
    QueryChanged(3, 4, b"k", 5, 6),
]


# r[event.types] r[event.key-fields]
def test_fields_of_the_events() -> None:
    names = {
        type(event).__name__: [field.name for field in dataclasses.fields(event)]
        for event in EVENTS
    }
    assert names == {
        "RevisionBumped": ["revision"],
        "RevisionSet": ["revision"],
        "InputSet": ["kind", "key_hash", "key", "changed_at", "revision"],
        "InputRemoved": ["kind", "key_hash", "key", "revision"],
        "QueryInvalidated": ["kind", "key_hash", "key", "by_kind", "by_key", "revision"],
        "QueryChanged": ["kind", "key_hash", "key", "changed_at", "revision"],
    }


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_immutable_values(event: RuntimeEvent) -> None:
    assert isinstance(event, RuntimeEvent)
    assert dataclasses.replace(event) == event
    assert len({event, dataclasses.replace(event)}) == 1
    assert pickle.loads(pickle.dumps(event)) == event
    assert not hasattr(event, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.revision = 9  # type: ignore[misc]  # that it is refused is what is tested


def test_an_event_shows_its_fields() -> None:
    assert repr(RevisionBumped(1)) == "RevisionBumped(revision=1)"


# Receiving


# r[event.channel]
def test_every_receiver_gets_every_event_in_order() -> None:
    hub = EventHub()
    first, second = hub.subscribe_events(), hub.subscribe_events()
    for event in EVENTS:
        hub.emit(event)
    assert drain(first) == EVENTS
    assert drain(second) == EVENTS
    assert first.try_recv() is None


# r[event.channel]
def test_a_receiver_sees_nothing_from_before_its_subscription() -> None:
    hub = EventHub()
    hub.emit(RevisionBumped(1))
    receiver = hub.subscribe_events()
    hub.emit(RevisionBumped(2))
    assert drain(receiver) == bumped(2)


# r[event.broadcast-capacity]
def test_a_slow_receiver_keeps_the_newest_and_counts_the_rest() -> None:
    hub = EventHub()
    receiver = hub.subscribe_events()
    assert CAPACITY == 1024
    for revision in range(CAPACITY):
        hub.emit(RevisionBumped(revision))
    assert receiver.missed == 0
    for revision in range(CAPACITY, CAPACITY + 10):
        hub.emit(RevisionBumped(revision))
    assert receiver.missed == 10
    assert drain(receiver) == bumped(*range(10, CAPACITY + 10))
    hub.emit(RevisionBumped(1))
    assert receiver.missed == 10


# r[event.broadcast-capacity]
def test_a_slow_receiver_does_not_slow_a_quick_one() -> None:
    hub = EventHub()
    slow, quick = hub.subscribe_events(), hub.subscribe_events()
    for revision in range(2 * CAPACITY):
        hub.emit(RevisionBumped(revision))
        assert quick.try_recv() == RevisionBumped(revision)
    assert (slow.missed, quick.missed) == (CAPACITY, 0)


def test_recv_takes_what_is_there_and_waits_for_what_is_not() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_events()
        hub.emit(RevisionBumped(1))
        assert await receiver.recv() == RevisionBumped(1)
        waiting = asyncio.create_task(receiver.recv())
        await step()
        assert not waiting.done()
        hub.emit(RevisionBumped(2))
        assert await waiting == RevisionBumped(2)

    run(main())


def test_several_waiting_recvs_get_one_event_each_in_the_order_of_waiting() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_events()
        tasks = [asyncio.create_task(receiver.recv()) for _ in range(3)]
        await step()
        hub.emit(RevisionBumped(1))
        await step()
        assert [task.done() for task in tasks] == [True, False, False]
        hub.emit(RevisionBumped(2))
        hub.emit(RevisionBumped(3))
        assert await asyncio.gather(*tasks) == bumped(1, 2, 3)

    run(main())


def test_a_cancelled_recv_loses_no_event() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_events()
        waiting = asyncio.create_task(receiver.recv())
        await step()
        hub.emit(RevisionBumped(1))  # woken ...
        waiting.cancel()  # ... and cancelled before it runs
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert receiver.try_recv() == RevisionBumped(1)

    run(main())


def test_a_cancelled_recv_leaves_the_event_to_the_next_one() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_events()
        cancelled, other = (
            asyncio.create_task(receiver.recv()),
            asyncio.create_task(receiver.recv()),
        )
        await step()
        hub.emit(RevisionBumped(1))
        cancelled.cancel()
        assert await other == RevisionBumped(1)
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    run(main())


def test_a_cancelled_recv_is_forgotten() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_events()
        waiting = asyncio.create_task(receiver.recv())
        await step()
        assert hub._waiting == {receiver}
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        assert hub._waiting == set()
        assert receiver._waiters == {}

    run(main())


# Closing


def test_close_ends_recv_and_iteration() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_events()
        hub.emit(RevisionBumped(1))
        receiver.close()
        receiver.close()
        assert receiver.closed
        with pytest.raises(ReceiverClosedError, match="Subscribe again"):
            await receiver.recv()
        assert receiver.try_recv() is None
        assert [event async for event in receiver] == []
        hub.emit(RevisionBumped(2))
        assert receiver.try_recv() is None

    run(main())


def test_close_wakes_who_waits() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_events()

        async def iterate() -> list[RuntimeEvent]:
            return [event async for event in receiver]

        waiting, iterating = asyncio.create_task(receiver.recv()), asyncio.create_task(iterate())
        await step()
        receiver.close()
        with pytest.raises(ReceiverClosedError):
            await waiting
        assert await iterating == []

    run(main())


def test_with_closes() -> None:
    hub = EventHub()
    with hub.subscribe_events() as events, hub.subscribe_revisions(0) as revisions:
        inside = (hub.has_event_receivers, hub.has_revision_receivers)
    assert inside == (True, True)
    assert (hub.has_event_receivers, hub.has_revision_receivers) == (False, False)
    assert events.closed
    assert revisions.closed


def test_a_closed_hub_lets_its_receivers_take_what_they_have() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver, revisions = hub.subscribe_events(), hub.subscribe_revisions(0)
        waiting = asyncio.create_task(hub.subscribe_events().recv())
        await step()
        hub.emit(RevisionBumped(1))
        hub.emit(RevisionBumped(2))
        hub.publish_revision(2)
        hub.close()
        assert [event async for event in receiver] == bumped(1, 2)
        assert await waiting == RevisionBumped(1)
        assert await revisions.changed() == 2
        with pytest.raises(ReceiverClosedError):
            await revisions.changed()
        assert hub.subscribe_events().closed
        assert hub.subscribe_revisions(3).closed
        assert not hub.has_event_receivers
        assert not hub.has_revision_receivers

    run(main())


def test_a_hub_that_goes_ends_its_receivers() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver, revisions = hub.subscribe_events(), hub.subscribe_revisions(0)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(receiver.recv()),
            asyncio.create_task(revisions.changed()),
        ]
        await step()
        gone = weakref.ref(hub)
        del hub
        gc.collect()
        assert gone() is None
        for task in tasks:
            with pytest.raises(ReceiverClosedError):
                await task

    run(main())


# Costing nothing


def test_the_flags_follow_the_receivers() -> None:
    hub = EventHub()
    seen = [(hub.has_event_receivers, hub.has_revision_receivers)]
    first = hub.subscribe_events()
    seen.append((hub.has_event_receivers, hub.has_revision_receivers))
    second = hub.subscribe_events()
    revisions = hub.subscribe_revisions(0)
    first.close()
    seen.append((hub.has_event_receivers, hub.has_revision_receivers))
    second.close()
    seen.append((hub.has_event_receivers, hub.has_revision_receivers))
    revisions.close()
    seen.append((hub.has_event_receivers, hub.has_revision_receivers))
    assert seen == [(False, False), (True, False), (True, True), (False, True), (False, False)]
    assert hub.has_event_receivers is False  # plain bools, for compiled code


def test_a_dropped_receiver_is_unsubscribed() -> None:
    hub = EventHub()
    events, revisions = hub.subscribe_events(), hub.subscribe_revisions(0)
    del events, revisions
    gc.collect()
    assert not hub.has_event_receivers
    assert not hub.has_revision_receivers
    assert hub._event_receivers == ()
    assert hub._revision_receivers == ()
    hub.emit(RevisionBumped(1))
    hub.publish_revision(1)


def test_a_dropped_receiver_leaves_the_others_subscribed() -> None:
    hub = EventHub()
    kept, dropped = hub.subscribe_events(), hub.subscribe_events()
    del dropped
    gc.collect()
    assert hub.has_event_receivers
    hub.emit(RevisionBumped(1))
    assert drain(kept) == bumped(1)


def test_a_receiver_that_is_collected_with_a_cycle_is_unsubscribed() -> None:
    hub = EventHub()
    cycle: list[object] = [hub.subscribe_events()]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert not hub.has_event_receivers


def test_collections_in_the_middle_of_subscribing_leave_the_flags_true() -> None:
    hub = EventHub()
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(300):
            cycle: list[object] = [hub.subscribe_events(), hub.subscribe_revisions(0)]
            cycle.append(cycle)
            del cycle
            hub.emit(RevisionBumped(1))
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert not hub.has_event_receivers
    assert not hub.has_revision_receivers
    assert hub._event_receivers == ()


def test_a_task_that_nobody_keeps_goes_on_listening() -> None:
    async def main() -> None:
        hub = EventHub()
        got: list[RuntimeEvent] = []
        done = asyncio.Event()

        async def listen() -> None:
            async for event in hub.subscribe_events():
                got.append(event)
                if len(got) == 2:
                    done.set()
                    return

        task = asyncio.create_task(listen())
        del task  # now the hub alone knows who waits
        for revision in (1, 2):
            await step()
            gc.collect()
            hub.emit(RevisionBumped(revision))
        await done.wait()
        assert got == bumped(1, 2)
        await step()
        gc.collect()
        assert not hub.has_event_receivers

    run(main())


def test_emitting_from_a_finalizer_is_safe() -> None:
    hub = EventHub()
    receiver = hub.subscribe_events()

    class Emits:
        def __del__(self) -> None:
            hub.emit(RevisionBumped(2))
            hub.subscribe_events()

    class Holds:
        """An event whose removal from the full buffer runs a finalizer inside the hub."""

        def __init__(self) -> None:
            self.emits = Emits()

    hub.emit(Holds())  # type: ignore[arg-type]  # stands for an event with a key of the user's
    for _ in range(CAPACITY):
        hub.emit(RevisionBumped(1))
    assert receiver.missed == 2
    left = drain(receiver)
    assert len(left) == CAPACITY
    assert left.count(RevisionBumped(2)) == 1
    assert len(hub._event_receivers) == 1


# Threads and loops


# r[event.channel]
def test_an_event_from_another_thread_wakes_the_loop() -> None:
    hub = EventHub()
    receiver = hub.subscribe_events()
    with LoopThread() as thread:
        for revision in range(50):
            waiting = thread.start(receiver.recv())
            until(lambda: bool(receiver._waiters))
            hub.emit(RevisionBumped(revision))
            assert waiting.result(DEADLINE) == RevisionBumped(revision)


def test_one_receiver_serves_two_loops() -> None:
    hub = EventHub()
    receiver = hub.subscribe_events()
    with LoopThread() as one, LoopThread() as two:
        waiting = [one.start(receiver.recv()), two.start(receiver.recv())]
        until(lambda: len(receiver._waiters) == 2)
        hub.emit(RevisionBumped(1))
        hub.emit(RevisionBumped(2))
        got = [future.result(DEADLINE) for future in waiting]
        assert sorted(event.revision for event in got) == [1, 2]


def test_events_of_many_threads_all_arrive_in_each_thread_s_order() -> None:
    hub = EventHub()
    threads, each = 4, CAPACITY // 4
    receiver, other = hub.subscribe_events(), hub.subscribe_events()
    start = threading.Barrier(threads + 1)

    def emit(number: int) -> None:
        start.wait(DEADLINE)
        for revision in range(each):
            hub.emit(QueryChanged(number, 0, b"", 0, revision))

    emitters = [threading.Thread(target=emit, args=(number,)) for number in range(threads)]
    for emitter in emitters:
        emitter.start()

    async def receive() -> list[RuntimeEvent]:
        return [await receiver.recv() for _ in range(threads * each)]

    with LoopThread() as thread:
        waiting = thread.start(receive())
        start.wait(DEADLINE)
        got = waiting.result(DEADLINE)
    for emitter in emitters:
        emitter.join(DEADLINE)
    for number in range(threads):
        mine = [
            event.revision
            for event in got
            if isinstance(event, QueryChanged) and event.kind == number
        ]
        assert mine == list(range(each))
    assert got == drain(other)  # all receivers agree on one order
    assert receiver.missed == other.missed == 0


def test_receivers_coming_and_going_in_threads_leave_true_flags() -> None:
    hub = EventHub()
    start = threading.Barrier(4)
    failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            start.wait(DEADLINE)
            for revision in range(500):
                receiver = hub.subscribe_events()
                assert hub.has_event_receivers
                hub.emit(RevisionBumped(revision))
                assert receiver.try_recv() is not None
                if revision % 2:
                    receiver.close()
        except BaseException as error:
            failures.put(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(DEADLINE)
    assert failures.empty()
    gc.collect()
    assert not hub.has_event_receivers


def test_a_loop_closed_while_waiting_does_not_disturb_the_emitter() -> None:
    hub = EventHub()
    receiver, revisions = hub.subscribe_events(), hub.subscribe_revisions(0)
    loop = asyncio.new_event_loop()
    tasks: list[asyncio.Task[Any]] = [
        loop.create_task(receiver.recv()),
        loop.create_task(revisions.changed()),
    ]
    loop.run_until_complete(step())
    assert len(receiver._waiters) == len(revisions._waiters) == 1
    loop.close()
    hub.emit(RevisionBumped(1))
    hub.publish_revision(1)
    assert receiver.try_recv() == RevisionBumped(1)
    assert run(revisions.changed()) == 1
    assert hub._waiting == set()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # nobody can finish them any more


def test_a_waiter_in_a_stopped_loop_keeps_no_event_from_another() -> None:
    hub = EventHub()
    receiver = hub.subscribe_events()
    stopped = asyncio.new_event_loop()
    stuck = stopped.create_task(receiver.recv())
    stopped.run_until_complete(step())
    with LoopThread() as thread:
        waiting = thread.start(receiver.recv())
        until(lambda: len(receiver._waiters) == 2)
        hub.emit(RevisionBumped(1))
        assert waiting.result(DEADLINE) == RevisionBumped(1)
    stuck.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        stopped.run_until_complete(stuck)
    stopped.close()


FORK = """
import os, signal, sys, threading
from picante._core import events

hub = events.EventHub()
receiver = hub.subscribe_events()
held, release = threading.Event(), threading.Event()

def hold():
    with events._lock:
        held.set()
        release.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(30)  # a deadline: a lock that is held for ever
    hub.emit(events.RevisionBumped(1))
    os._exit(0 if receiver.try_recv() else 1)
release.set()
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_while_another_thread_emits_leaves_the_child_working() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        timeout=DEADLINE * 2,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


# Revisions


# r[event.channel]
def test_changed_returns_the_new_revision() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_revisions(5)
        assert receiver.value == 5
        waiting = asyncio.create_task(receiver.changed())
        await step()
        assert not waiting.done()
        hub.publish_revision(6)
        assert await waiting == 6
        assert receiver.value == 6

    run(main())


# r[event.channel]
def test_of_several_revisions_the_latest_wins() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_revisions(0)
        for revision in (1, 2, 3):
            hub.publish_revision(revision)
        assert await receiver.changed() == 3
        waiting = asyncio.create_task(receiver.changed())
        await step()
        assert not waiting.done()
        waiting.cancel()

    run(main())


def test_publishing_in_the_wrong_order_ends_at_the_latest() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_revisions(0)
        hub.publish_revision(2)
        hub.publish_revision(1)
        assert receiver.value == 2
        assert await receiver.changed() == 2

    run(main())


def test_reading_the_value_does_not_swallow_the_change() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_revisions(0)
        hub.publish_revision(1)
        assert receiver.value == 1
        assert await receiver.changed() == 1

    run(main())


def test_all_who_wait_for_a_revision_get_it() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_revisions(0)
        tasks = [asyncio.create_task(receiver.changed()) for _ in range(3)]
        await step()
        hub.publish_revision(1)
        assert await asyncio.gather(*tasks) == [1, 1, 1]

    run(main())


def test_a_cancelled_changed_loses_no_revision() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver = hub.subscribe_revisions(0)
        waiting = asyncio.create_task(receiver.changed())
        await step()
        hub.publish_revision(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await receiver.changed() == 1

    run(main())


def test_iterating_revisions_starts_with_the_next_and_ends_at_close() -> None:
    async def main() -> None:
        hub = EventHub()
        receiver: RevisionReceiver[int] = hub.subscribe_revisions(7)
        got: list[int] = []

        async def iterate() -> None:
            async for revision in receiver:
                got.append(revision)
                if revision == 9:
                    receiver.close()

        iterating = asyncio.create_task(iterate())
        for revision in (8, 9):
            await step()
            hub.publish_revision(revision)
        await iterating
        assert got == [8, 9]
        assert receiver.value == 9

    run(main())


def test_a_revision_from_another_thread_wakes_the_loop() -> None:
    hub = EventHub()
    receiver = hub.subscribe_revisions(0)
    with LoopThread() as thread:
        waiting = thread.start(receiver.changed())
        until(lambda: bool(receiver._waiters))
        hub.publish_revision(1)
        assert waiting.result(DEADLINE) == 1


def test_receivers_show_their_state() -> None:
    hub = EventHub()
    events, revisions = hub.subscribe_events(), hub.subscribe_revisions(3)
    hub.emit(RevisionBumped(1))
    assert repr(events) == "<EventReceiver 1 waiting, 0 missed>"
    assert repr(revisions) == "<RevisionReceiver at 3>"
    events.close()
    revisions.close()
    assert repr(events) == "<EventReceiver closed, 0 missed>"
    assert repr(revisions) == "<RevisionReceiver at 3, closed>"
