"""The contexts in which computations run."""

from picante._core.frame cimport Frame


cdef Frame new_frame()
cdef int retire_frame(Frame frame, object context, object variables) except -1
