"""The end of a computation: what its outcome is called, and whose it becomes."""

from libc.stdint cimport uint32_t, uint64_t

from picante._core.frame cimport Frame
from picante._core.node cimport Node
from picante._core.store cimport Store


cdef bint commit(Store store, Frame frame, uint32_t outcome, object value) except -1
cdef bint commit_as(Store store, Frame frame, uint32_t outcome, object value, uint64_t name) except -1
cdef int release_reads(Store store, Frame frame) except -1
