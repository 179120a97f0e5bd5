"""Entries of a log, from changes as they are recorded to the bytes of the file."""

cimport cython

from picante._core.buffer cimport Buffer
from picante._core.pack cimport Packer


@cython.final
cdef class ChangePacker:
    cdef dict heads
    cdef Packer packer
    cdef Buffer out       # the entry
    cdef Buffer changes   # its changes

    cdef list pack_changes(self, list changes)
