"""New memos, for the log: reading them out, and putting them in place one by one."""

cimport cython
from libc.stdint cimport uint64_t

from picante._core.node cimport Node
from picante._core.runtime cimport Runtime
from picante._core.store cimport HeldView, Store, View


@cython.final
cdef class StoredMemos:
    """A set of numbers that are not 0, open addressing."""

    cdef uint64_t *slots
    cdef Py_ssize_t capacity  # 0, or a power of two
    cdef Py_ssize_t n

    cdef bint has(self, uint64_t number) noexcept
    cdef int add(self, uint64_t number) except -1
    cdef Py_ssize_t slot_of(self, uint64_t number) noexcept


@cython.final
cdef class KeptMemos:
    """While it is open, evicted memos that nothing depends on are kept: what has read them may still come."""

    cdef Store store  # None once it is closed


@cython.final
cdef class NewMemos:
    """One look at all memos that hold at a revision, for those that are not logged yet."""

    cdef Runtime runtime
    cdef Store store
    cdef View view
    cdef HeldView held
    cdef StoredMemos stored
    cdef dict ingredients   # the address of a Table -> its ingredient
    cdef list sections      # derived ingredients that are still to be looked at
    cdef list todo          # nodes of the present one
    cdef list path          # depth first, on a stack of its own: a memo, what it read, ...
    cdef list positions     # ... and which of its edges is looked at next
    cdef StoredMemos seen   # in this look
    cdef list found
    cdef bint only_known    # nothing is found: `stored` learns what there is, and that is all
    cdef bint only_loaded

    cdef bint is_new(self, Node node, bint is_read) except -1
    cdef int go_on(self) except -1
    cdef int add(self, Node node) except -1
    cdef list deps_of(self, Node node)
    cdef tuple dep_of(self, Node reader, Node dep, uint64_t seen)
