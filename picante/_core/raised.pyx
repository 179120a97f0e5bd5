"""Whose an exception is that queries have raised: a cell's own, or lent to it.

An exception refers to frames, and these to what was at hand when it was raised: the database that was asked, whoever
caught it. If a cell owned what was raised through a snapshot, that snapshot would live as long as its database. So
while a snapshot is open no cell owns a failure of that revision. It has it *lent*, and loses the outcome with the last
owner: snapshots that were given it, those that still read at its revision when another one ends or the database goes
on (or evaluations, if these are all that is left there), and, up to its next revision, the database.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t

from picante._core.awaitable cimport picante_set_traceback, picante_traceback
from picante._core.node cimport (
    MARKED, Version, begin_transition, drop_edges, end_transition, read_by, release_slot,
)
from picante._core.store cimport leave_to_pinned, mark_from


@cython.final
@cython.no_gc_clear  # whoever refers to it is cleared; it must still know its node when it goes
cdef class Raised:
    def __dealloc__(self):
        if self.failure is not None:
            _forget(self.store, self.node, self.failure)


cdef Raised new_raised(object error):
    """What a computation has raised, which belongs to nobody yet."""
    cdef Raised raised = Raised()
    raised.error = error
    raised.traceback = picante_traceback(error)
    return raised


cdef int lend(Store store, Node node, Failure failure) except -1:
    """Let what `node` has failed with belong to others, who have it already: it goes when they do."""
    cdef Raised raised = <Raised> failure.owned
    raised.store = store
    raised.node = node
    raised.failure = failure
    failure.lent = <PyObject *> raised
    failure.owned = None
    return 0


cdef int lend_failures(Store store) except -1:
    """A snapshot of the present was taken: from now on its failures belong to the database, up to the next revision."""
    cdef list failed = store.failed  # a later revision has another one
    cdef Version version
    cdef Node node
    cdef bint collecting
    if store.n_lent >= PyList_GET_SIZE(failed):
        return 0
    collecting = begin_transition()
    try:
        while store.failed is failed and store.n_lent < PyList_GET_SIZE(failed):
            node = <Node> PyList_GET_ITEM(failed, store.n_lent)
            if node.flags & FAILED:
                _lend_to_database(store, node, <Failure> node.value)
            if node.history is not None:
                for version in node.history:
                    if version.flags & FAILED:
                        _lend_to_database(store, node, <Failure> version.value)
            store.n_lent += 1
    finally:
        end_transition(collecting)
    return 0


cdef int _lend_to_database(Store store, Node node, Failure failure) except -1:
    if failure.owned is not None:
        give_to_database(store, <Raised> failure.owned)
        lend(store, node, failure)
    return 0


cdef int give_to_database(Store store, Raised raised) except -1:
    cdef set fresh
    if store.raised is None:
        fresh = set()  # making it may run finalizers, after which there may be one
        if store.raised is None:
            store.raised = fresh
    store.raised.add(raised)
    return 0


cdef int leave_to_others(Store store, View view, set raised) except -1:
    """Let what was raised at `view` last for those who still read there: the database, where it is the present one."""
    cdef set fresh = set()  # first: making it may run finalizers
    if view.pinned:
        return leave_to_pinned(view, raised)
    if store.raised is None:
        store.raised = fresh
    store.raised |= raised
    return 0


cdef void restore_traceback(Raised raised) noexcept:
    """Let the exception forget the way that it has gone: who has caught it would live as long as the failure."""
    picante_set_traceback(raised.error, raised.traceback)


cdef int _forget(Store store, Node node, Failure failure) except -1:
    """Nobody has what was raised any more: take the outcome away. Whoever read it is good for its revision only."""
    cdef Version version
    cdef uint64_t until
    cdef bint collecting = begin_transition()
    try:
        failure.lent = NULL
        if node.flags & FAILED and node.value is failure:
            until = node.verified_at if node.flags & MARKED else store.present.revision
            mark_from(store, node, until)
            store.idle.extend(read_by(node))
            drop_edges(node)
            release_slot(node)
            node.flags = 0
            node.value = None
        if node.history is not None:
            for version in node.history:
                if version.value is failure:
                    version.flags = 0  # it goes when its view does
            node.history = [version for version in node.history if version.flags] or None
        store.idle.append(node)
    finally:
        end_transition(collecting)
    return 0
