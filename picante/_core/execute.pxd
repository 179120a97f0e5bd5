"""Running user code: one access of a derived cell, from its first miss to its outcome."""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.awaitable cimport PYGEN_ERROR, PySendResult
from picante._core.frame cimport Frame, number_of
from picante._core.node cimport NAMED, UNLINKED, Node, Version
from picante._core.observe cimport tell
from picante._core.runtime cimport Runtime
from picante._core.store cimport Store, View
from picante._core.walk cimport Walk


@cython.final
cdef class Driver:
    """Brings one node to hold at its view's revision. A coroutine: whoever drives it runs the queries below."""

    cdef Store store
    cdef Runtime runtime
    cdef View view               # in use from the start to the end
    cdef object db
    cdef Frame outer             # the query that asks, or None
    cdef Node node
    cdef Walk walk
    cdef Frame frame             # the query that is being computed now, or None
    cdef object inner            # what it, or the driver itself, awaits
    cdef Frame awaited           # the frame whose end is waited for, or None
    cdef object future           # ... and how that end is told
    cdef object task             # the task in which the computation goes on, or None; its end is told in `future`, too
    cdef list group              # of several tasks: each; `task` is then what gathers them
    cdef object leaving          # what to raise if that task ends cancelled
    cdef object left_by          # the exception that is to leave it, while it does
    cdef bint keeps              # that task goes on when this access is given up
    cdef bint kept               # this is the driver of such a task
    cdef Driver delegate         # the driver of that task, where it computes the node itself
    cdef Version result          # the outcome of the node, which may be evicted before it is taken
    cdef bint computed           # the walk stands at the node, which has just been computed
    cdef bint running            # a step is being taken
    cdef bint ended
    # -- the outcome, once ended
    cdef uint32_t flags
    cdef object value
    cdef uint64_t changed_at
    cdef uint64_t valid_since

    cdef object hand_out(self, object sent, object thrown)
    cdef PySendResult resume(self, object sent, object thrown, PyObject **result) except PYGEN_ERROR
    cdef PySendResult step_inner(self, object sent, object thrown, PyObject **result) noexcept
    cdef PySendResult end_step(self, PySendResult status, PyObject **result) except PYGEN_ERROR
    cdef PySendResult begin(self, Node node, PyObject **result) except PYGEN_ERROR
    cdef bint begin_kept(self) except -1
    cdef int begin_waiting(self, Node node) except -1
    cdef int hop(self, Node node, object loop, bint keep) except -1
    cdef int await_task(self, object loop) except -1
    cdef int begin_group(self) except -1
    cdef int finish_step(self, object value) except -1
    cdef int fail_step(self, object error) except -1
    cdef int end_computation(self, uint32_t outcome, object value) except -1
    cdef bint finish(self) except -1
    cdef int abort(self) except -1


# A driver that will bring `node` to hold at the revision of `view`, or of the present one if that is None.
cdef Driver new_driver(Store store, Runtime runtime, View view, object db, Frame outer, Node node, uint32_t cause)
# The same with one that is new, or has ended.
cdef Driver begin_driver(
    Driver driver, Store store, Runtime runtime, View view, object db, Frame outer, Node node, uint32_t cause
)


cdef inline void report(Driver driver, uint32_t kind, Node node, uint64_t extra, uint32_t detail) noexcept:
    """Let observers know how an access fares, if there are any."""
    if driver.store.observer is not None:
        tell(driver.store.observer, kind, node, driver.walk.number, number_of(driver.outer), extra, detail)


cdef inline bint stands_at_new(Driver driver) noexcept:
    """Whether it is plain that the walk would say EXECUTE, for the node that is asked for never had an outcome."""
    return (
        driver.walk.depth == 1 and PyList_GET_SIZE(driver.walk.path) == 1
        and not driver.node.flags & (NAMED | UNLINKED) and driver.node.n_edges == 0
        and driver.node.running is None and driver.node.history is None
    )
