"""Frames that are used again."""

from picante._core.frame cimport Frame


cdef Frame new_frame()
cdef void track_frame(Frame frame) noexcept
cdef void release_nodes(Frame frame) noexcept
cdef int enter_context(Frame frame) except -1
