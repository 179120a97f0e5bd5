"""Tasks in which the work of a driver goes on."""

from picante._core.node cimport Node
from picante._core.store cimport Store, View


cdef int keep_task(Store store, object task) except -1
cdef bint is_under_way(object loop, View view, Node node) except -1
cdef tuple start_group(object loop, View view, list nodes, list drivers)
cdef int cancel_soon(future) except -1
cdef bint was_cancelled(task, list group) except -1
cdef object error_of(task)
