"""Observation: what happens in a database, for profilers, logs and tests.

While nobody observes a database, its store has no `Observation`, and that costs the slow paths one look at a pointer.
The quickest path, that of a hit, has no place for even that. It begins with the question whether the ingredient
remembers the database, so while hits are wanted ingredients remember none (`observers`), and a hit takes the way of
a first meeting, on which it is told. Reads of inputs and interned values have one look more.

Telling and delivering are two things. `tell` may be called in transitions and in the middle of walks: it fills
recordings, and puts aside what is meant for functions. `flush` calls these where any code may run: before and
after steps of a query, at the end of accesses and changes. Each thread delivers its own events, in order. Nothing that
such a function does reaches the query: an exception goes to `sys.unraisablehook`, what it reads is recorded in no
query, and while it runs functions are told of nothing that happens in its thread.
"""

cimport cython
from enum import IntEnum

from cpython.contextvars cimport PyContextVar_Reset, PyContextVar_Set
from cpython.exc cimport PyErr_WriteUnraisable
from cpython.ref cimport Py_DECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE

from picante._core.node cimport Node, begin_transition, end_transition
from picante._core.recording cimport now, subject_of, this_thread

__all__ = ["AccessCause", "AccessEnd", "Event", "EventKind", "RunOutcome", "RunReason"]

cdef extern from *:
    """
    /* Whether this thread is calling a function that observes. */
    static _Thread_local int picante_delivering = 0;
    """
    int picante_delivering
    PyObject *PyObject_CallOneArg(object function, object argument) noexcept


class EventKind(IntEnum):
    """What an event tells. Its attributes besides `time` (nanoseconds, as of `time.monotonic_ns`) and `thread`:

    `subject`: the query, or the input, that it is about. `by`: the number of the computation in which it happened; 0
    outside of all queries, and in computations that began before anybody observed.
    """

    HIT = 0
    """A query was answered at once. `extra`: as of which revision."""
    READ = 1
    """An input or an interned value was read, or one field (`subject.part`), its presence, the list of all."""
    ACCESS_BEGIN = 2
    """A query was asked for that is not known to hold. `number`: that of the access; `extra`: as of which revision;
    `detail`: an `AccessCause`."""
    ACCESS_RESUME = 3
    """An access that has a task of its own goes on."""
    ACCESS_END = 4
    """It has ended. `detail`: an `AccessEnd`."""
    VERIFY_SAME = 5
    """Verifying a memo, its dependency `other` was found to be as it was when it was read. `number`: the access."""
    VERIFY_DIFFERENT = 6
    """Verifying a memo, its dependency `other` was found to be another: it must be computed again."""
    VERIFIED = 7
    """A memo holds: all that it read is as it was. `number`: that of the access; `extra`: as of which revision."""
    COMPUTE_BEGIN = 8
    """A query begins to run. `number`: that of the computation; `by`: that of the query which asked; `extra`: the
    revision; `detail`: a `RunReason`; `other`: the dependency that was the reason, if there was one."""
    COMPUTE_PAUSE = 9
    """It is suspended: something that it awaits is not ready."""
    COMPUTE_RESUME = 10
    """It goes on."""
    COMPUTE_RETURN = 11
    """It has returned, or raised; the result is about to be compared and stored."""
    COMPUTE_END = 12
    """Its outcome is there. `detail`: a `RunOutcome`; `error`: the exception that it failed with."""
    ADOPTED = 13
    """An earlier result was taken, because all that it depends on is as it was then. `number`: the access."""
    WAIT_BEGIN = 14
    """The access `number` waits for a computation that another one has begun, the number of which is `extra`."""
    WAIT_END = 15
    """It waits no more."""
    INPUT_SET = 16
    """An input was set. `extra`: the revision that began with it."""
    INPUT_SAME = 17
    """An input was set to what it was: nothing changed."""
    INPUT_REMOVED = 18
    """An input was removed. `extra`: the revision."""
    INTERNED = 19
    """A value was interned. `extra`: its id; `detail`: 1 if it is a new one."""
    INVALIDATED = 20
    """A query is to run again whatever it has read. `extra`: the revision."""
    REVISION = 21
    """A revision has begun: `extra`."""


class RunReason(IntEnum):
    """Why a query runs."""

    FIRST = 0
    """It was never computed."""
    DIFFERS = 1
    """A dependency is another than the one that it has read."""
    GONE = 2
    """A dependency does not exist any more, or the database does not know its kind."""
    INVALIDATED = 3
    """`invalidate` was called for it."""
    FAILED = 4
    """It failed at an earlier revision."""
    UNLINKED = 5
    """Nothing is known of its dependencies: they were forgotten, or its code has changed since it was stored."""
    EVICTED = 6
    """Its memo was dropped to save memory."""
    LOST = 7
    """A dependency never got an outcome, or cannot be brought up to date any more."""
    OTHER_REVISION = 8
    """What is known of it is of a later revision than the one that is asked for."""
    LED = 9
    """Somebody outside of the engine computes it (`picante.inflight`)."""
    UNKNOWN = 10
    """None of these."""


class RunOutcome(IntEnum):
    """What came of a computation."""

    NEW = 0
    """Another value than there was."""
    EQUAL = 1
    """The value that there was: who read it need not run."""
    FAILED = 2
    """It raised an exception."""
    CANCELLED = 3
    """It was cancelled, or given up."""
    NO_RESULT = 4
    """It ended by what is no result of a query: memory or stack were exhausted, the user interrupted it."""


class AccessCause(IntEnum):
    """Why there is an access."""

    CALL = 0
    """A query was awaited."""
    MAP = 1
    """It is one of several of a `map`."""
    HOP = 2
    """Another access goes on in a task, because the stack is full."""
    KEEP = 3
    """Another access goes on in a task that nobody's cancellation reaches."""
    GROUP = 4
    """Another access brings several dependencies up to date side by side."""


class AccessEnd(IntEnum):
    """How an access has ended."""

    VALUE = 0
    FAILURE = 1
    NOTHING = 2


cdef tuple _kinds = tuple(EventKind)
cdef uint64_t _last_number = 0


cdef uint64_t new_number() noexcept:
    """A number for a computation; no other one in this process has it."""
    global _last_number
    _last_number += 1
    return _last_number


@cython.final
@cython.freelist(64)
cdef class Event:
    def __init__(self):
        raise TypeError("Events come from observing a database.")

    def __repr__(self):
        about = "" if self.subject is None else f" {self.subject!r}"
        return f"<Event {self.kind.name}{about}>"


@cython.final
cdef class Sink:
    pass


@cython.final
cdef class Observation:
    def __cinit__(self):
        self.sinks = ()
        self.pending = {}

    cdef int change(self, tuple sinks) except -1:
        cdef Sink sink
        self.sinks = sinks
        self.wanted = self.called_for = 0
        for sink in sinks:
            self.wanted |= sink.wanted
            if sink.callback is not None:
                self.called_for |= sink.wanted
        return 0

    cdef void emit(
        self, uint32_t kind, PyObject *node, uint64_t number, uint64_t by, uint64_t extra, uint32_t detail,
        PyObject *other, PyObject *error
    ) noexcept:
        cdef Py_ssize_t i
        cdef Sink sink
        cdef uint64_t time = now()
        cdef bint collecting = begin_transition()  # what is made here starts no collection
        for i in range(PyTuple_GET_SIZE(self.sinks)):
            sink = <Sink> PyTuple_GET_ITEM(self.sinks, i)
            if sink.recording is not None and sink.wanted >> kind & 1:
                sink.recording.append(kind, time, number, by, extra, detail, node, other)
        if self.called_for >> kind & 1 and not picante_delivering:
            try:
                event = Event.__new__(Event)
                (<Event> event).code = kind
                (<Event> event).kind = _kinds[kind]
                (<Event> event).time = time
                (<Event> event).thread = this_thread()
                (<Event> event).number = number
                (<Event> event).by = by
                (<Event> event).extra = extra
                (<Event> event).detail = detail
                (<Event> event).subject = None if node == NULL else subject_of(<Node> node)
                (<Event> event).other = None if other == NULL else subject_of(<Node> other)
                (<Event> event).error = None if error == NULL else <object> error
                self.pending.setdefault((<Event> event).thread, []).append(event)
                self.n_pending += 1
            except BaseException:  # memory is short: this is not what the query should fail for
                pass
        end_transition(collecting)

    cdef void deliver(self) noexcept:
        cdef Sink sink
        cdef Event event
        cdef PyObject *returned
        cdef bint collecting
        global picante_delivering
        if picante_delivering:
            return
        collecting = begin_transition()  # why: see `frame.enter_context`
        try:
            events = self.pending.pop(this_thread(), None)
            if events is None:
                return
            self.n_pending -= len(events)
            token = PyContextVar_Set(self.frame_var, self.outside)
        except BaseException:
            return
        finally:
            end_transition(collecting)
        picante_delivering = 1
        for event in <list> events:
            for sink in self.sinks:
                if sink.callback is not None and not sink.closed and sink.wanted >> event.code & 1:
                    returned = PyObject_CallOneArg(sink.callback, event)
                    if returned == NULL:
                        PyErr_WriteUnraisable(sink.callback)
                    else:
                        Py_DECREF(<object> returned)
        picante_delivering = 0
        collecting = begin_transition()
        try:
            PyContextVar_Reset(self.frame_var, token)
        except BaseException:
            pass
        finally:
            end_transition(collecting)
