"""Committed changes, in order, for who must see every one of them."""

cimport cython
from libc.stdint cimport uint64_t

from picante._core.node cimport Node


@cython.final
cdef class ChangeRecorder:
    cdef list recorders    # of the runtime: those that are open
    cdef list entries      # what has come since the last `take`


cdef int record_writes(list recorders, uint64_t revision, list writes) except -1
cdef int record_invalidated(list recorders, uint64_t revision, Node cell) except -1
cdef int record_load(list recorders, uint64_t revision) except -1
