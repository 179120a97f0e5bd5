"""Tasks in which the work of a driver goes on."""

from picante._core.store cimport Store


cdef int keep_task(Store store, object task) except -1
cdef int cancel_soon(future) except -1
cdef bint was_cancelled(task, list group) except -1
cdef object error_of(task)
