"""Computations as others see them: leaders and followers outside of the engine."""

cimport cython
from libc.stdint cimport uint32_t

from picante._core.frame cimport Frame
from picante._core.store cimport Store, View


@cython.final
cdef class InFlightEntry:
    """One computation that is followed from outside of the engine, or led from there."""

    cdef readonly object key         # InFlightKey
    cdef readonly object state       # InFlightState
    cdef readonly object value       # once DONE ...
    cdef readonly object deps        # ... the Deps that it read,
    cdef readonly object changed_at  # ... and the Revision that names the outcome
    cdef readonly object error       # once FAILED: the exception
    cdef tuple identity              # the key in built-in types, whose hash and equality run no user code
    cdef dict waiters                # as those of frames
    cdef Frame followed              # the computation of a cell that it stands for, while that runs
    cdef object __weakref__

    cdef int join(self, Frame frame) except -1
    cdef int end(self, object state) except -1


@cython.final
cdef class InFlightGuard:
    """What the leader of a computation holds until it has come to an end."""

    cdef readonly InFlightEntry entry
    cdef Store store                 # with snapshots: the family's, ...
    cdef Frame frame                 # ... and the frame that readers in there wait for
    cdef View view
    cdef Frame holder                # the query in which it is held: readers wait for that one as well
    cdef bint ended

    cdef int begin_end(self) except -1
    cdef int end_in_cell(self, uint32_t outcome, object value, list nodes) except -1
    cdef int release(self) except -1


cdef int finish_entry(Frame frame, View view) except -1
cdef int cancel_entry(Frame frame) except -1
