"""Telling those who observe a database what happens in it."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.recording cimport Recording, Subject


cdef enum:  # the numbers of `EventKind`
    HIT
    READ
    ACCESS_BEGIN
    ACCESS_RESUME
    ACCESS_END
    VERIFY_SAME
    VERIFY_DIFFERENT
    VERIFIED
    COMPUTE_BEGIN
    COMPUTE_PAUSE
    COMPUTE_RESUME
    COMPUTE_RETURN
    COMPUTE_END
    ADOPTED
    WAIT_BEGIN
    WAIT_END
    INPUT_SET
    INPUT_SAME
    INPUT_REMOVED
    INTERNED
    INVALIDATED
    REVISION
    N_KINDS
    # Those that are told on paths which are otherwise the quickest: an ingredient must not remember its database.
    READING = 1 << HIT | 1 << READ

cdef enum:  # of RunReason
    BECAUSE_FIRST
    BECAUSE_DIFFERS
    BECAUSE_GONE
    BECAUSE_INVALIDATED
    BECAUSE_FAILED
    BECAUSE_UNLINKED
    BECAUSE_EVICTED
    BECAUSE_LOST
    BECAUSE_OTHER_REVISION
    BECAUSE_LED
    BECAUSE_UNKNOWN

cdef enum:  # of RunOutcome
    RUN_NEW
    RUN_EQUAL
    RUN_FAILED
    RUN_CANCELLED
    RUN_NO_RESULT

cdef enum:  # of AccessCause
    BY_CALL
    BY_MAP
    BY_HOP
    BY_KEEP
    BY_GROUP

cdef enum:  # of AccessEnd
    ENDED_WITH_VALUE
    ENDED_WITH_FAILURE
    ENDED_WITHOUT


@cython.final
cdef class Event:
    """One thing that happened in a database; see `EventKind` for what its attributes are."""

    cdef uint32_t code            # the number of its kind
    cdef readonly object kind
    cdef readonly uint64_t time
    cdef readonly unsigned long thread
    cdef readonly uint64_t number
    cdef readonly uint64_t by
    cdef readonly uint64_t extra
    cdef readonly uint32_t detail
    cdef readonly Subject subject
    cdef readonly Subject other
    cdef readonly object error


@cython.final
cdef class Sink:
    """Where events go for one observer: into a recording, or to a function."""

    cdef uint32_t wanted
    cdef Recording recording   # or None
    cdef object callback       # or None
    cdef bint closed


@cython.final
cdef class Observation:
    """What a store has while somebody observes it."""

    cdef tuple sinks
    cdef uint32_t wanted       # kinds that any of them wants, as bits
    cdef uint32_t called_for   # kinds that a function wants
    cdef dict pending          # thread -> Events that its functions have not been called for
    cdef Py_ssize_t n_pending
    cdef object frame_var      # what `deliver` sets to `outside`, so that nobody's reads are recorded
    cdef object outside

    cdef int change(self, tuple sinks) except -1
    cdef void emit(
        self, uint32_t kind, PyObject *node, uint64_t number, uint64_t by, uint64_t extra, uint32_t detail,
        PyObject *other, PyObject *error
    ) noexcept
    cdef void deliver(self) noexcept


cdef uint64_t new_number() noexcept


cdef inline void tell(
    Observation hub, uint32_t kind, object node, uint64_t number, uint64_t by, uint64_t extra, uint32_t detail
) noexcept:
    """Note what happened. Runs no user code: functions that observe are called by the next `flush` of this thread."""
    if hub.wanted >> kind & 1:
        hub.emit(kind, <PyObject *> node if node is not None else NULL, number, by, extra, detail, NULL, NULL)


cdef inline void flush(Observation hub) noexcept:
    """Call the functions that observe, for what was told in this thread: they may do anything."""
    if hub.n_pending:
        hub.deliver()
