"""Objects that may occur more than once in a value."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int32_t


cdef struct Met:
    PyObject* object  # owned: its address must stay its own
    Py_ssize_t number  # -1: it is still being written


@cython.final
cdef class References:
    cdef Met* entries
    cdef Py_ssize_t n_entries
    cdef int32_t* slots  # hash table: address -> 1 + index in `entries`
    cdef Py_ssize_t n_slots  # a power of two, twice the room in `entries`

    # The object's index in `entries`, where it is put if it is not there.
    cdef Py_ssize_t find(self, object value, bint* is_new) except -1
    cdef int clear(self) except -1
    cdef int grow(self) except -1
