"""The records of a cache file, on their way there."""

from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from picante._core.buffer cimport Buffer
from picante._core.node cimport Node


cdef enum Fate:
    UNDECIDED
    LOOKED_AT   # what it depends on is being looked at
    STORED
    DROPPED


cdef enum:
    # Of which part of a record a dependency is; fields: their position.
    WHOLE = -1     # the record itself
    PRESENCE_PART = -2
    OUTSIDE_PART = -3
    MEMBERS_PART = -4  # which keys an input has


cdef struct Dependency:
    int64_t record    # the index of the record, of MEMBERS_PART that of the section; -1: there is none
    int32_t part
    bint is_fresh     # it is as it was read


cdef struct Record:
    PyObject *node          # borrowed from `nodes`; of an interned value NULL
    Py_ssize_t start        # where its key stands in `packed`, ...
    Py_ssize_t value        # ... its value, ...
    Py_ssize_t end          # ... and where that ends
    Py_ssize_t first_dep
    uint32_t n_deps
    uint32_t section
    uint64_t changed_at
    uint64_t verified_at
    int64_t number          # by which the file names it, once that is settled
    Fate fate


# Append a record to `out`. `packed` is where its key and its value stand, `scratch` is overwritten.
cdef int write_record(
    Buffer out, Record *record, Record *records, Dependency *deps, Buffer packed, Buffer scratch
) except -1

cdef int part_of(Node record, Node part) except -100  # of which part of `record` the node `part` is; WHOLE: of none
