"""The order in which memos are evicted: SIEVE's queue and its hand."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint64_t


cdef enum:
    OF_DATABASE = 0
    OF_QUERY = 1


cdef struct Slot


cdef struct Place:
    PyObject *sieve   # the Sieve, borrowed; NULL: in none
    Slot *newer
    Slot *older


cdef struct Slot:
    PyObject *node    # the Node, borrowed: it gives back its slot before it goes
    uint64_t size     # bytes, where they are counted
    uint64_t clock    # that of the store when the node came in
    Place places[2]   # in the queue of the whole database, and in that of its query


@cython.final
cdef class Sieve:
    """A queue of memos with a limit. The hand goes round in it and evicts what was not used since it last came by."""

    cdef int which            # OF_DATABASE or OF_QUERY
    cdef int64_t max_memos    # -1: any number
    cdef int64_t max_bytes    # -1: any number
    cdef int64_t n_memos
    cdef int64_t n_bytes
    cdef uint64_t n_evicted
    cdef Slot *newest
    cdef Slot *oldest
    cdef Slot *hand           # where it goes on; NULL: at the oldest

    cdef void enter(self, Slot *slot) noexcept
    cdef void clear(self) noexcept
    cdef bint is_over(self) noexcept


cdef Slot *new_slot(PyObject *node, uint64_t clock) noexcept
cdef void leave(Slot *slot, int which) noexcept
cdef void free_slot(Slot *slot) noexcept
cdef void resize(Slot *slot, uint64_t size) noexcept
