"""The way of a walk: from a node down to what must be brought up to date first."""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.node cimport Node
from picante._core.store cimport Store, View


cdef extern from *:
    """
    /* Room for `n` items. It only moves the items, so no garbage is collected. */
    static inline void picante_reserve(PyObject *list, Py_ssize_t n) {
        PyListObject *self = (PyListObject *)list;
    #ifndef Py_GIL_DISABLED
        PyObject **items;
        if (n - self->allocated < 64 || (size_t)n > PY_SSIZE_T_MAX / sizeof(PyObject *))
            return;
        items = (PyObject **)PyMem_Realloc(self->ob_item, n * sizeof(PyObject *));
        if (items != NULL) {
            self->ob_item = items;
            self->allocated = n;
        }
    #endif
    }
    """
    void picante_reserve(list items, Py_ssize_t n) noexcept


cdef enum Step:
    BROKEN = -1  # an exception is raised
    DONE      # the node holds at the view's revision
    EXECUTE   # the walk stands at a node that must be computed
    WAIT      # the walk stands at a node that is being computed by another
    GROUP     # the walk stands at a node that read several others at once, of which some may be out of date


cdef struct Level:
    PyObject *node           # borrowed: while nothing else runs, the one above keeps it; then `path` does
    uint32_t edge            # the next edge to look at
    uint32_t told            # ... and that which observers are to be told of next
    uint64_t since           # the greatest valid_since of the outcomes so far
    uint64_t checked         # the walk's interruptions when it was last looked whether the node is seen to
    uint64_t verified_at     # that of the node ...
    uint64_t marks           # ... and those of the store when the first edge was looked at
    bint begun               # else no edge was looked at: `since`, `verified_at`, `marks` and `clean` say nothing
    bint clean               # all outcomes so far are their nodes' current, unmarked ones
    bint lost                # something it read cannot be brought up to date any more


@cython.final
cdef class Walk:
    """The way from a node down to what must be brought up to date first."""

    cdef Store store
    cdef View view
    cdef object db
    cdef Level *levels            # one for each node on the way, where the walk stands last
    cdef Py_ssize_t depth
    cdef Py_ssize_t capacity
    cdef list path                # the same nodes, whenever the walk is interrupted
    cdef Py_ssize_t keeps_from    # where the first node on the path stands whose computation is to be kept; -1: none
    cdef uint64_t interruptions   # how often other code could run since the walk began
    cdef uint64_t number          # tells walks apart
    cdef bint by_name             # whoever asked wants to know the name of the outcome, the value may be evicted

    cdef int push(self, PyObject *node) except -1
    cdef int grow(self) except -1
    cdef int refuse_cycle(self) except -1
    cdef int give_up(self, Node node) except -1
    cdef int pop(self) except -1
    cdef Step stand(self, Step step) except BROKEN
    cdef void look_for_kept(self, PyObject *table, Py_ssize_t position) noexcept
    cdef int forget_path(self, Py_ssize_t depth) except -1
    cdef void start(self, Level *level) noexcept
    cdef bint knows(self, Node node) except -1


cdef inline Node last_node(Walk walk):
    """That at which the walk stands."""
    return <Node> PyList_GET_ITEM(walk.path, PyList_GET_SIZE(walk.path) - 1)


cdef Walk new_walk()
cdef int begin_walk(Walk walk, Store store, object db, Node root) except -1  # its view is set by the driver
cdef int end_walk(Walk walk) except -1
