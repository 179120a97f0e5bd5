"""Entries of a log, from changes as they are recorded to the bytes of the file."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t

from picante._core.buffer cimport Buffer
from picante._core.pack cimport Packer


cdef enum:
    MOST_KINDS = 15  # of ingredients in one entry, so that the head of their array is one byte


@cython.final
cdef class ChangePacker:
    cdef dict heads
    cdef Packer packer
    cdef Buffer out       # the entry
    cdef Buffer changes   # its changes ...
    cdef PyObject *kinds[MOST_KINDS]  # ... and those of what kinds they are, borrowed
    cdef Py_ssize_t n_kinds

    cdef object pack(self, uint64_t revision, list changes)
    cdef bint pack_changes(self, list changes) except -1
    cdef bint is_new(self, object kind) except -1
