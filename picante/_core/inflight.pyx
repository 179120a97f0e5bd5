"""The in-flight registry: one computation, whoever asks for it (r[inflight.purpose]).

Readers of one family find each other without it: at one revision they have one view, and the cell knows which frame
computes it for that view (`frame_at`). The registry shows the same thing to code outside of the engine, and lets it
take part. To lead there is to hold a frame that no coroutine belongs to: readers wait for it as for any other, cycles
through it are found, and its result becomes the cell's. To follow is to wait for the end of whatever frame there is.

So the engine never looks anything up here. A frame gets an entry when somebody asks for one; keys that belong to
no database with snapshots have entries and nothing else.
"""

cimport cython

from dataclasses import dataclass

from picante._core.awaitable cimport is_one_shot
from picante._core.commit cimport commit, release_reads
from picante._core.failure cimport NO_RESULTS, failure_of
from picante._core.frame cimport (
    abandon_frame, begin_frame, current_frame, end_frame, find_cycle, frame_at, hold, let_go, record, running_loop,
    stands_still, tell_abort, tell_begin, tell_end, wake, watch,
)
from picante._core.ingredient cimport cycle_error, ingredient_of
from picante._core.key cimport Dep, new_dep
from picante._core.key import Revision
from picante._core.node cimport (
    FAILED, HANDED_IN, NO_OUTCOME, VALUE, Failure, Node, Table, begin_transition, end_transition, is_own_part, node_key,
    track,
)
from picante._core.observe cimport BECAUSE_LED, flush
from picante._core.outcome cimport Outcome, outcome_at
from picante._core.raised cimport new_raised, raised_by
from picante._core.packed cimport opened
from picante._core.sharing cimport find_family
from picante._core.states import InFlightKey, InFlightState
from picante._core.store cimport enter_view, leave_view, node_for, sweep

cdef object RUNNING = InFlightState.RUNNING
cdef dict _entries = {}  # an entry's identity -> the entry, while it is RUNNING


@cython.final
cdef class InFlightEntry:
    """A computation that is followed, or led, from outside of the engine.

    Attributes:
        key: what is computed.
        state: `InFlightState.RUNNING`, and later how it has ended.
        value, deps, changed_at: the result, what it read, and the revision that its outcome dates from, once `DONE`.
        error: the exception that it failed with, once `FAILED`.
    """

    def __repr__(self):
        return f"<InFlightEntry {self.state.value} {self.key!r}>"

    async def wait(self):
        """Wait for the end and return the state then, never `RUNNING`. From any event loop, in any thread.

        After `CANCELLED` there is no result: start again, perhaps as the leader (r[inflight.follower]).

        Raises:
            CycleError: the computation waits for the query in which this is awaited.
        """
        cdef Frame frame = current_frame()
        cdef Frame followed
        while self.state is RUNNING:
            loop = running_loop()
            if loop is None:
                raise RuntimeError("Waiting for a computation takes a running asyncio event loop.")
            followed = self.followed  # held on to: it may end while its loop is asked
            if followed is not None and followed.loop is not loop and stands_still(followed):
                wake(abandon_frame(followed), None)
                cancel_entry(followed)
                break
            future = loop.create_future()
            followed = self.followed
            self.waiters[id(future)] = (future, loop, None)
            try:
                if self.state is RUNNING:
                    if followed is not None:
                        self.join(frame)
                        watch(followed, future, loop)
                    await future
            finally:
                self.waiters.pop(id(future), None)
                if followed is not None and frame is not None:
                    let_go(followed, frame)
        return self.state

    cdef int join(self, Frame frame) except -1:
        """Let the query of `frame` be found among those that wait for the end of what is followed."""
        cdef list stack
        cdef bint collecting
        if frame is None or frame.ended:
            return 0
        collecting = begin_transition()  # nobody may slip in between the search for a cycle and this
        try:
            stack = find_cycle(frame, self.followed, [self.followed.node])
            if stack is None:
                hold(self.followed, frame)
        finally:
            end_transition(collecting)
        if stack is not None:
            raise cycle_error(stack)
        return 0

    cdef int end(self, object state) except -1:
        if self.state is not RUNNING:
            return 0
        self.state = state
        self.followed = None
        if _entries.get(self.identity) is self:
            del _entries[self.identity]
        waiters, self.waiters = self.waiters, {}
        return wake(waiters, None)


@cython.final
cdef class InFlightGuard:
    """The duty of a leader: say how the computation has ended. Dropping it says that it was cancelled.

    Attributes:
        entry: what followers hold.
    """

    def __init__(self):
        raise TypeError("Guards come from registry.try_lead(key).")

    def __repr__(self):
        return f"<InFlightGuard of {self.entry!r}>"

    def complete(self, value, deps, changed_at):
        """End with `value`, which was made from `deps` and dates from the revision `changed_at` (r[inflight.complete]).

        In a database with snapshots it becomes the memo of its query, for its revision and no other.
        """
        cdef list nodes = []
        deps = tuple(deps)
        for each in deps:
            if type(each) is not Dep:
                raise TypeError(f"deps are of type Dep, not {type(each).__qualname__}.")
        changed_at = Revision(changed_at)
        if is_one_shot(value):
            raise TypeError(f"A {type(value).__qualname__} can be consumed only once: it cannot be a shared result.")
        if self.frame is not None:
            nodes = list(dict.fromkeys([node_for(self.store, each.kind, each.key) for each in deps]))
        self.begin_end()
        self.entry.value, self.entry.deps, self.entry.changed_at = value, deps, changed_at
        try:
            self.end_in_cell(VALUE, value, nodes)
        finally:
            self.entry.end(InFlightState.DONE)

    def fail(self, error):
        """End with an exception, which every follower gets (r[inflight.fail])."""
        if not isinstance(error, Exception) or isinstance(error, NO_RESULTS):
            raise TypeError(f"{error!r} is no result of a computation, it may come out otherwise next time: cancel it.")
        self.begin_end()
        if self.frame is not None:
            error = failure_of(self.frame.node, error)
        self.entry.error = error
        try:
            self.end_in_cell(FAILED, error, [])
        finally:
            self.entry.end(InFlightState.FAILED)

    def cancel(self):
        """End without a result: one of the followers may lead the next attempt (r[inflight.cancel]). Or do nothing,
        if it has ended."""
        if not self.ended and self.entry is not None:
            self.ended = True
            try:
                self.release()
            finally:
                self.entry.end(InFlightState.CANCELLED)

    def __del__(self):
        self.cancel()

    cdef int begin_end(self) except -1:
        if self.ended:
            raise RuntimeError(f"This computation has ended already: {self.entry!r}.")
        self.ended = True
        return 0

    cdef int end_in_cell(self, uint32_t outcome, object value, list nodes) except -1:
        """Make the outcome that of the cell."""
        cdef Frame frame = self.frame
        cdef Node node
        cdef Outcome known
        cdef bint is_new
        if frame is None:
            return 0
        result = new_raised(value) if outcome == FAILED else value
        try:
            for node in nodes:
                if outcome_at(node, self.view, &known):
                    record(frame, node, known.changed_at, known.valid_since)
                else:
                    record(frame, node, NO_OUTCOME, 0)
            is_new = commit(self.store, frame, outcome, result)
            if self.store.observer is not None:
                tell_end(self.store.observer, frame, outcome, is_new, value)
        finally:
            self.release()
        return 0

    cdef int release(self) except -1:
        """Let go of the frame and of what waits for it."""
        cdef Frame frame = self.frame
        cdef dict waiters
        if frame is None:
            return 0
        self.frame = None
        if self.holder is not None:
            let_go(self.holder, frame)
        if self.store.observer is not None:
            tell_abort(self.store.observer, frame, None)
        waiters = end_frame(frame)
        try:
            release_reads(self.store, frame)
            leave_view(self.store, self.view)
            sweep(self.store)
        finally:
            wake(waiters, None)
            if self.store.observer is not None:
                flush(self.store.observer)
        return 0


@dataclass(frozen=True)
class Leader:
    """The caller computes; `guard` is how it says what has come of it."""

    guard: object


@dataclass(frozen=True)
class Follower:
    """Somebody else computes; `entry` is how to wait for it."""

    entry: object


@cython.final
cdef class InFlightRegistry:
    """All computations of the process that somebody outside of the engine leads or follows (r[inflight.registry]).

    Thread-safe. There is one, `picante.inflight.registry`.
    """

    def __len__(self):
        return len(_entries)

    def __repr__(self):
        return f"<InFlightRegistry of {len(_entries)} running computations>"

    def try_lead(self, key):
        """`Leader(guard)` if nobody computes `key` now, else `Follower(entry)` (r[inflight.try-lead]).

        The engine's own computations count, too, once their database has had a snapshot.
        """
        cdef InFlightGuard guard = InFlightGuard.__new__(InFlightGuard)
        cdef InFlightEntry entry, running
        cdef Store store
        cdef Node node = None
        cdef Frame frame
        if type(key) is not InFlightKey:
            raise TypeError(f"try_lead takes an InFlightKey, not {key!r}.")
        entry = new_entry(key)
        guard.entry = entry
        guard.holder = current_frame()
        store = find_family(key.runtime_id)
        if store is not None and key.kind in store.tables:
            node = node_for(store, key.kind, key.key)
        leader = Leader(guard)
        if node is not None:
            frame = Frame.__new__(Frame)
            frame.node = node
            frame.nodes = []
            frame.path = [node]
            frame.ingredient = ingredient_of(node)
            frame.fleeting = True
            frame.why = HANDED_IN
            frame.entry = entry
        cdef bint collecting = begin_transition()  # to look and to lead is one thing
        try:
            running = _entries.get(entry.identity)
            if running is None:
                _entries[entry.identity] = running = entry
                if node is not None and (<Table> node.table).derived and frame.ingredient is not None:
                    frame.view = _view_at(store, key.revision)
                    if frame.view is not None:
                        running = _lead_or_follow(guard, store, frame, entry)
        finally:
            end_transition(collecting)
        if node is not None and guard.frame is None:
            store.idle.append(node)
            node = frame = None
            sweep(store)
        if running is entry and guard.entry is entry:
            return leader
        guard.ended = True
        return Follower(running)


cdef InFlightEntry _lead_or_follow(InFlightGuard guard, Store store, Frame frame, InFlightEntry entry):
    """Make `frame` the one that computes, or `entry` that of the one that does (in a transition)."""
    cdef Frame running = frame_at(frame.node, frame.view)
    if running is not None:
        running.entry = entry
        entry.followed = running
        guard.entry = None
        return entry
    track(frame.node)  # nobody's stack holds what leads there
    begin_frame(frame)
    entry.followed = frame
    enter_view(frame.view)
    guard.store, guard.frame, guard.view = store, frame, frame.view
    if store.observer is not None:
        tell_begin(store.observer, frame, BECAUSE_LED)
    if guard.holder is not None:
        hold(guard.holder, frame)
    return entry


cdef InFlightEntry new_entry(key):
    cdef InFlightEntry entry = InFlightEntry.__new__(InFlightEntry)
    entry.key = key
    entry.state = RUNNING
    entry.waiters = {}
    entry.identity = (int(key.runtime_id), int(key.revision), int(key.kind), key.key.bytes)
    return entry


cdef View _view_at(Store store, object revision):
    """The view in use that reads at `revision`, or None."""
    cdef View view
    if store.present.revision == revision:
        return store.present
    for view in store.pins:
        if view.revision == revision:
            return view
    return None


cdef int finish_entry(Frame frame, View view) except -1:
    """Tell who follows `frame` from outside how it has ended: its outcome at `view` is there, or it was cancelled."""
    cdef InFlightEntry entry = frame.entry
    cdef Node node
    cdef Outcome outcome
    frame.entry = None
    if not outcome_at(frame.node, view, &outcome):
        return entry.end(InFlightState.CANCELLED)
    if outcome.flags & FAILED:
        entry.error = raised_by(<Failure> outcome.value).error
        return entry.end(InFlightState.FAILED)
    entry.value, entry.changed_at = opened(<object> outcome.value), Revision(outcome.changed_at)
    deps = [
        new_dep(int((<Table> node.table).kind), node_key(node)) for node in frame.nodes if not is_own_part(node)
    ]
    entry.deps = tuple(dict.fromkeys(deps))
    return entry.end(InFlightState.DONE)


cdef int cancel_entry(Frame frame) except -1:
    entry, frame.entry = frame.entry, None
    return 0 if entry is None else (<InFlightEntry> entry).end(InFlightState.CANCELLED)


registry = InFlightRegistry()
