"""Revalidation: is what a memo read still what it would read?"""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.frame cimport Frame
from picante._core.node cimport Node
from picante._core.store cimport Store, View


cdef enum Step:
    DONE      # the node holds at the view's revision
    EXECUTE   # the walk stands at a node that must be computed
    WAIT      # the walk stands at a node that is being computed by another


cdef struct Level:
    uint32_t edge            # the next edge to look at
    bint begun
    bint clean               # all outcomes so far are their nodes' current, unmarked ones
    uint64_t since           # the greatest valid_since of them
    uint64_t interruptions   # those of the walk when this level began


@cython.final
cdef class Walk:
    """The way from a node down to what must be brought up to date first."""

    cdef Store store
    cdef View view
    cdef object db
    cdef list path                # the nodes on the way, the top one last
    cdef Level *levels            # one for each
    cdef Py_ssize_t capacity
    cdef uint64_t interruptions   # how often other code could run since the walk began
    cdef uint64_t number          # tells walks apart

    cdef int push(self, Node node) except -1
    cdef Step advance(self) except? WAIT
    cdef void start(self, Level *level) noexcept
    cdef Step look(self, Node node, Level *level) except? WAIT
    cdef bint knows(self, Node node) except -1
    cdef int settle(self, Node node, Level *level) except -1


cdef struct Outcome:
    uint32_t flags         # VALUE, FAILED or ABSENT
    PyObject *value        # borrowed
    uint64_t changed_at
    uint64_t valid_since
    bint clean             # it is its node's current one, and unmarked


cdef bint outcome_at(Node node, View view, Outcome *outcome) noexcept
cdef Walk new_walk(Store store, View view, db, Node root)
