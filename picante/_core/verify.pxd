"""Revalidation: is what a memo read still what it would read?"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.frame cimport Frame
from picante._core.node cimport MARKED, NAMED, UNLINKED, VALUE, Node, Version
from picante._core.store cimport Store, View, is_limited


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
    bint begun
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
    cdef Step advance(self) except BROKEN
    cdef bint is_evicted(self, PyObject *node) noexcept
    cdef Py_ssize_t rush(self) except -1
    cdef int forget_path(self, Py_ssize_t depth) except -1
    cdef void start(self, Level *level) noexcept
    cdef Step look(self, Node node, Level *level) except BROKEN
    cdef void tell_edges(self, Node node, Level *level, Step step) noexcept
    cdef bint leads_to_group(self, Node node, Level *level) noexcept
    cdef bint must_update(self, PyObject *node) noexcept
    cdef list stale_group(self)
    cdef bint knows(self, Node node) except -1
    cdef int settle(self, Node node, Level *level) except -1


cdef inline bint is_stale(PyObject *node, View view) noexcept:
    """Whether it is plain that the outcome of `node` at `view` is not known: another common case."""
    return (
        not view.pinned and (<Node> node).flags & MARKED and (<Node> node).verified_at < view.revision
    )


cdef inline bint is_plain(PyObject *node, uint64_t revision) noexcept:
    """Whether `node` has a memo that may be out of date, and is neither computed nor kept for anybody just now."""
    return (
        (<Node> node).flags & (VALUE | MARKED | UNLINKED) == VALUE | MARKED and (<Node> node).verified_at < revision
        and (<Node> node).running is None and (<Node> node).history is None
    )


cdef inline bint is_current(PyObject *node, uint64_t revision) noexcept:
    """Whether the current outcome of `node` is unmarked and holds at `revision`: the common case of `name_at`."""
    return (
        (<Node> node).valid_since <= revision and (<Node> node).flags & NAMED and not (<Node> node).flags & MARKED
    )


cdef inline Node last_node(Walk walk):
    """That at which the walk stands."""
    return <Node> PyList_GET_ITEM(walk.path, PyList_GET_SIZE(walk.path) - 1)


cdef Walk new_walk()
cdef int begin_walk(Walk walk, Store store, object db, Node root) except -1  # its view is set by the driver
cdef int end_walk(Walk walk) except -1
