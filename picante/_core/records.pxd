"""The records of a cache file, on their way there."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from picante._core.buffer cimport Buffer
from picante._core.ingredient cimport Ingredient
from picante._core.node cimport Node, Table
from picante._core.store cimport View


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
    uint32_t group    # reads of one `map` share one; 0: none


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
    bint must_run           # nothing that it read could show that it holds
    int64_t number          # by which the file names it, once that is settled
    Fate fate


@cython.final
cdef class Section:
    """What is stored of one ingredient."""

    cdef readonly Ingredient ingredient
    cdef readonly str type           # "interned", "input" or "derived"
    cdef readonly Py_ssize_t n_records
    cdef bint lacks_some             # some of its records are not stored
    cdef Py_ssize_t limit            # interned: how many values are read in the beginning
    cdef Py_ssize_t n_ids            # interned: how many were read by now
    cdef bint is_cut                 # interned: what comes behind these cannot be stored
    cdef list todo                   # its nodes, or its values, that are still to be looked at, the next one last
    cdef Py_ssize_t first            # the index of its first record
    cdef Py_ssize_t last             # ... and the one after its last


# How many bytes a record takes in the file, at most; `n_records`: of how many it may be one.
cdef Py_ssize_t record_size(Record *record, Dependency *deps, Py_ssize_t n_records) noexcept

# An array that has room for `n` elements of `size` bytes, with what was in `array`, which is given up for it.
cdef void *grown(void *array, Py_ssize_t *capacity, Py_ssize_t n, size_t size) except? NULL

cdef list nodes_in_order(Table table, View view)  # as of that view, in the order of insertion

# Find what was read among the records. `index`: the address of a node -> the index of its record.
cdef int find_record(list sections, dict section_of, dict index, Node dep, Dependency *found) except -1

# Append a record to `out`. `packed` is where its key and its value stand, `scratch` is overwritten.
cdef int write_record(
    Buffer out, Record *record, Record *records, Dependency *deps, Buffer packed, Buffer scratch
) except -1

# Values that were interned meanwhile were read last, and stand behind `n_in_order` records: put them where they belong,
# behind the others of their sections. Those are the first `n_interned` ones.
cdef int join_arrived(
    list sections, Py_ssize_t n_interned, Record *records, Py_ssize_t n_in_order, Py_ssize_t n_records
) except -1

# Drop what depends on what was dropped, where dependencies go in circles; of how many records that is.
cdef Py_ssize_t drop_incomplete(list sections, Record *records, Dependency *deps, Py_ssize_t n_records) except -1

# Whether something that the memo of `node` has read has failed: failures are not stored, so it is not, either.
cdef bint saw_failure(Node node) noexcept
