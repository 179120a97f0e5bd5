"""What was observed, in compact form: one C structure for each event, and the records that events are about."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from picante._core.node cimport Node, Table


cdef struct Entry:
    uint64_t time      # nanoseconds of the monotonic clock
    uint64_t number    # of the computation or the access that the event is about; 0: none
    uint64_t by        # of the computation in which it happened; 0: outside of all queries
    uint64_t extra     # see `EventKind`
    uint32_t subject   # the record that it is about, its place among the subjects + 1; 0: none
    uint32_t other     # a dependency of that record; 0: none
    uint32_t thread    # its place among the threads
    uint16_t kind
    uint16_t detail


cdef struct Known:
    PyObject *node     # where its node is, or was: only to compare with
    PyObject *table    # ... and whose it is
    PyObject *key      # borrowed; the Subject keeps it, so no other key can get its address


@cython.final
cdef class Subject:
    """What an event is about: an input, a part of one, a memoized query, an interned value."""

    cdef readonly object kind   # QueryKindId
    cdef readonly object name   # the full name of its ingredient; empty where it never had one
    cdef readonly object key    # the key as the user gave it; of interned values the id
    cdef readonly str part      # of an input: the field or aspect that was read; else empty


cdef Subject subject_of(Node node)
cdef uint64_t now() noexcept
cdef unsigned long this_thread() noexcept


@cython.final
cdef class Recording:
    cdef Entry *entries
    cdef uint64_t n
    cdef uint64_t capacity
    cdef readonly object max_events
    cdef uint64_t limit
    cdef uint64_t n_dropped
    cdef readonly list subjects
    cdef readonly list threads
    cdef unsigned long last_thread
    cdef uint32_t last_index
    cdef Known *known            # one for each subject
    cdef uint64_t known_capacity
    cdef uint32_t *slots         # an open hash of addresses: places in `known` + 1
    cdef uint64_t mask

    cdef void append(
        self, uint32_t kind, uint64_t time, uint64_t number, uint64_t by, uint64_t extra, uint32_t detail,
        PyObject *node, PyObject *other
    ) noexcept
    cdef int grow(self) except -1
    cdef uint32_t thread_index(self) except? 0xFFFFFFFF
    cdef uint32_t index_of(self, PyObject *node) except? 0xFFFFFFFF
    cdef bint is_known(self, uint32_t index, Node node) except -1
    cdef int grow_slots(self) except -1
