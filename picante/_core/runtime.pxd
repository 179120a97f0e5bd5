"""The public face of a database's state: revisions, the graph, events; and how inputs change."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from picante._core.node cimport Node
from picante._core.store cimport Store, View


@cython.final
cdef class Runtime:
    cdef Store store
    cdef View view             # the pinned view of a snapshot; None: the present one
    cdef object hub            # the EventHub, once somebody has subscribed
    cdef object __weakref__

    cdef bint has_event_receivers(self) except -1
    cdef uint64_t commit(self, list writes) except? 0
    cdef int check_writable(self) except -1
    cdef uint64_t invalidate(self, Node cell) except? 0
    cdef Node node_of(self, dyn_key)


cdef int emit_query_changed(Runtime runtime, Node node, uint64_t changed_at) except -1
