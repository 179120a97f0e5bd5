"""Beginning and ending to observe a database (`observe` says what is told).

All of it can be done at any time, from any thread. To begin is one transition: the store gets an `Observation`, and its
ingredients forget their database, so that hits are told from then on. After the end they remember it when they are
next asked, and all is as it was.
"""

cimport cython
import weakref

from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t

from picante._core.frame cimport Frame, current_frame, frame_var
from picante._core.ingredient cimport Ingredient
from picante._core.node cimport Table, begin_transition, end_transition
from picante._core.observe cimport READING, Observation
from picante._core.observe import EventKind
from picante._core.recording cimport Recording, subject_of
from picante._core.runtime cimport Runtime
from picante._core.store cimport Store

__all__ = ["Observer", "current_query", "observe"]


@cython.final
cdef class Observer:
    """Observes a database and all its snapshots until it is closed. Made by `observe`; a context manager."""

    def __init__(self):
        raise TypeError("Observers come from observe(runtime, target).")

    def __repr__(self):
        return f"<Observer {'closed' if self.closed else 'at work'}>"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()

    @property
    def closed(self):
        """Whether it observes nothing more."""
        return self.sink.closed or self.store() is None

    @property
    def kinds(self):
        """Which kinds of events it is told."""
        return frozenset([kind for kind in EventKind if self.sink.wanted >> int(kind) & 1])

    def close(self):
        """Observe nothing from now on. Closing it again does nothing."""
        cdef Store store = self.store()
        cdef Observation hub = None if store is None else store.observer
        cdef Sink each, sink = self.sink
        cdef tuple sinks
        cdef bint collecting
        sink.closed = True
        if hub is None:
            return
        collecting = begin_transition()  # two observers may come and go at once
        try:
            sinks = tuple([each for each in hub.sinks if each is not sink])
            hub.change(sinks)
            if not sinks and store.observer is hub:
                store.observer = None
        finally:
            end_transition(collecting)
        if sink.recording is None:
            sink.callback = None  # what it refers to is not kept alive by who keeps this


def observe(Runtime runtime not None, target, *, kinds=None):
    """Observe the database of `runtime`, with all its snapshots, from now on.

    Args:
        runtime: that of the database, or of one of its snapshots.
        target: a `Recording` that is to be filled; or a function, which is called with an `Event`, in the thread where
            that happened, soon afterwards and in order. It must be quick, and cannot be a coroutine function.
        kinds: the `EventKind`s that are wanted, by default all except VERIFY_SAME. While `HIT` or `READ` is among them,
            the quickest way to answer a query is not taken.
    """
    cdef Store store = runtime.store
    cdef Observer observer = Observer.__new__(Observer)
    cdef Sink sink = Sink.__new__(Sink)
    cdef Observation hub, fresh = Observation.__new__(Observation)
    cdef Frame nobody = Frame.__new__(Frame)
    cdef bint collecting
    if isinstance(target, Recording):
        sink.recording = target
    elif callable(target):
        sink.callback = target
    else:
        raise TypeError(f"What observes is a Recording or a function that takes an Event, not {target!r}.")
    for kind in set(EventKind) - {EventKind.VERIFY_SAME} if kinds is None else kinds:
        sink.wanted |= <uint32_t> 1 << <uint32_t> EventKind(kind)
    nobody.ended = True
    fresh.outside = nobody
    fresh.frame_var = frame_var
    observer.sink = sink
    observer.store = weakref.ref(store)
    collecting = begin_transition()
    try:
        hub = fresh if store.observer is None else store.observer
        hub.change((*hub.sinks, sink))
        store.observer = hub
        if sink.wanted & READING:
            _forget_databases(store)
    finally:
        end_transition(collecting)
    return observer


cdef int _forget_databases(Store store) except -1:
    """Let no ingredient of `store` know its database: all that reads comes by the way on which it is told."""
    cdef PyObject *ingredient
    for table in store.tables.values():
        ingredient = (<Table> table).link.ingredient
        if ingredient != NULL:
            (<Ingredient> ingredient).database = None
    return 0


def current_query():
    """The `Subject` of the query in whose context this runs, or None outside of all queries."""
    cdef Frame frame = current_frame()
    cdef bint collecting
    if frame is None:
        return None
    collecting = begin_transition()
    try:
        return subject_of(frame.node)
    finally:
        end_transition(collecting)
