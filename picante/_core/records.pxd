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
    PyObject *node          # borrowed from its section; of an interned value NULL
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
    cdef bint is_interned
    cdef list todo                   # its nodes, which must not go meanwhile, or its values; ...
    cdef Py_ssize_t n_looked_at      # ... so many of them were looked at
    cdef Py_ssize_t first            # the index of its first record
    cdef Py_ssize_t last             # ... and the one after its last


# How many bytes a record takes in the file, at most; `n_records`: of how many it may be one.
cdef Py_ssize_t record_size(Record *record, Dependency *deps, Py_ssize_t n_records) noexcept

# An array that has room for `n` elements of `size` bytes, with what was in `array`, which is given up for it.
cdef void *grown(void *array, Py_ssize_t *capacity, Py_ssize_t n, size_t size) except? NULL

cdef list nodes_in_order(Table table, View view)  # as of that view, in the order of insertion


# Values that were interned meanwhile were read last, and stand behind `n_in_order` records: put them where they belong,
# behind the others of their sections. Those are the first `n_interned` ones.
cdef int join_arrived(
    list sections, Py_ssize_t n_interned, Record *records, Py_ssize_t n_in_order, Py_ssize_t n_records
) except -1

cdef bint saw_failure(Node node) noexcept  # something that its memo has read has failed

# Whether all that a record depends on is stored: so it is with most of them, in the order of the file.
cdef bint is_ready(Record *record, Record *records, Dependency *deps) noexcept

# Drop what depends on what was dropped, where dependencies go in circles; of how many records that is.
cdef Py_ssize_t drop_incomplete(list sections, Record *records, Dependency *deps, Py_ssize_t n_records) except -1


@cython.final
cdef class Index:
    """Which record is that of a node, and which section that of a table."""

    cdef list sections
    cdef dict section_of    # address of a Table -> the place of its section
    cdef PyObject *table    # that was asked for last, or NULL ...
    cdef Section section    # ... its section, or None, ...
    cdef Py_ssize_t place   # ... and the place of that
    cdef uint32_t *slots    # hash table: address of a Node -> 1 + index of its record
    cdef Py_ssize_t n_slots  # a power of two, at least twice as many as records

    cdef int make_room(self, Py_ssize_t n_records) except -1
    cdef void enter(self, Record *records, Py_ssize_t at) noexcept
    cdef Py_ssize_t find(self, Record *records, Node node) noexcept  # -1: it has none
    cdef int look_up(self, Table table) except -1
    cdef int find_read(self, Record *records, Node dep, Dependency *found) except -1  # what was read


# Append a record to `out`. `packed` is where its key and its value stand.
cdef int write_record(Buffer out, Record *record, Record *records, Dependency *deps, Buffer packed) except -1
