"""The public face of a database's state: revisions, the graph, events; and how inputs change."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from picante._core.node cimport Node
from picante._core.store cimport Store, View


@cython.final
cdef class Write:
    """One input slot that is to hold something else, compared with what it holds beforehand."""

    cdef Node slot
    cdef uint32_t flags        # VALUE or ABSENT
    cdef object value
    cdef uint64_t replaces     # the outcome that it was compared with
    cdef bint is_last          # the slot was made for this write: it is the last of its table
    cdef list parts            # the parts that change: Node, its value, Node, its value, ...
    cdef Py_ssize_t n_parts    # how many parts there were to compare


@cython.final
cdef class Runtime:
    cdef Store store
    cdef View view             # the pinned view of a snapshot; None: the present one
    cdef object hub            # the EventHub, once somebody has subscribed
    cdef object __weakref__

    cdef bint has_event_receivers(self) except -1
    cdef uint64_t commit(self, list writes) except? 0
    cdef int check_writable(self) except -1
    cdef Node node_of(self, dyn_key)


cdef int emit_query_changed(Runtime runtime, Node node, uint64_t changed_at) except -1
