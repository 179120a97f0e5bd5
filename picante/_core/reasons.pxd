"""Why a query runs."""

from libc.stdint cimport uint32_t

from picante._core.frame cimport Frame
from picante._core.walk cimport Walk


cdef int give_reason(Walk walk, Frame frame) except -1
cdef uint32_t reason_of(Frame frame) noexcept
