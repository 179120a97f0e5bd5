"""The public face of a database's state: revisions, the graph, events; and how inputs change."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.node cimport Node
from picante._core.store cimport Reader, Store, View


@cython.final
cdef class Runtime(Reader):
    cdef Store store
    cdef View view             # that of a snapshot, in use until it is closed; None: the present one
    cdef bint closed           # snapshots: nothing more is read through it
    cdef object hub            # the EventHub, once somebody has subscribed
    cdef list recorders        # of those who must see every change; None while there was nobody
    cdef object __weakref__

    cdef bint has_event_receivers(self) except -1
    cdef uint64_t commit(self, list writes) except? 0
    cdef int check_writable(self) except -1
    cdef uint64_t invalidate(self, Node cell) except? 0
    cdef Node node_of(self, dyn_key)


cdef inline View view_of(Runtime runtime):
    """The view that a read through `runtime` sees, outside of all queries."""
    if runtime.view is None:
        return runtime.store.present
    if runtime.closed:
        raise closed_error(runtime)
    return runtime.view


cdef object closed_error(Runtime runtime)

cdef int emit_query_changed(Runtime runtime, Node node, uint64_t changed_at) except -1
