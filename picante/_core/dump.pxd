"""What is stored of a database."""

cimport cython
from libc.stdint cimport uint32_t

from picante._core.buffer cimport Buffer
from picante._core.ingredient cimport Ingredient
from picante._core.node cimport Node
from picante._core.pack cimport Packer
from picante._core.records cimport Dependency, Index, Record, Section
from picante._core.runtime cimport Runtime
from picante._core.store cimport HeldView, Store, View


@cython.final
cdef class Dump:
    """One reading out of a database, as of one revision, in steps that can be interleaved with anything else."""

    cdef Runtime runtime
    cdef Store store
    cdef View view
    cdef HeldView held
    cdef Packer packer
    cdef Buffer packed
    cdef Buffer out              # the records that are being written
    cdef list all                # the sections, in the order of the file
    cdef Index index
    cdef Py_ssize_t n_interned   # how many sections of interned values there are, which come first
    cdef Py_ssize_t turn         # how many sections were begun, those of interned values twice
    cdef Py_ssize_t current      # the section that is being read, or written
    cdef Py_ssize_t written      # the record that is written next
    cdef Py_ssize_t n_looked_at
    cdef list dep_nodes          # what they read
    cdef Record *records
    cdef Py_ssize_t n_records
    cdef Py_ssize_t records_capacity
    cdef Py_ssize_t n_in_order   # how many are in the order of the file: without the values that arrived
    cdef Py_ssize_t size_of_interned
    cdef uint32_t *reads         # of each of `dep_nodes`: whether it is as it was read, and above that bit its group
    cdef Dependency *deps
    cdef Py_ssize_t fresh_capacity
    cdef Py_ssize_t n_indexed    # how far each part of deciding has come
    cdef Py_ssize_t n_linked
    cdef Py_ssize_t n_decided
    cdef Py_ssize_t n_numbered
    cdef Py_ssize_t n_stored
    cdef bint has_cycle
    cdef Py_ssize_t room         # for how many more bytes of records there is room; -1: for all
    cdef object max_bytes
    cdef object max_records
    cdef object max_record_bytes
    cdef bint strict
    cdef readonly list unstorable    # (what, why) of records that could not be packed; the first few
    cdef readonly Py_ssize_t n_unstorable
    cdef readonly Py_ssize_t n_too_large
    cdef readonly Py_ssize_t n_over_limit
    cdef readonly Py_ssize_t n_incomplete  # dropped because of what they depend on

    cdef int begin_section(self, Section section) except -1
    cdef int read_interned(self, Section section, value) except -1
    cdef int read_node(self, Section section, Node node) except -1
    cdef int add(self, Section section, Node node, key, value, bint has_value) except -1
    cdef int refuse(self, Ingredient ingredient, key, error) except -1
    cdef int keep_deps(self, Node node, object version) except -1
    cdef int accept_ids(self, Section section, Py_ssize_t n) except -1
    cdef int take_arrived(self) except -1
    cdef Py_ssize_t room_for_records(self) except -2
    cdef int decide_one(self, Py_ssize_t index) except -1
    cdef int settle(self, Record *record, bint is_complete) except -1
