"""What a query has raised, and whose it is."""

cimport cython
from libc.stdint cimport uint64_t

from picante._core.frame cimport Frame
from picante._core.node cimport FAILED, Failure, Node
from picante._core.outcome cimport Outcome
from picante._core.runtime cimport Runtime
from picante._core.store cimport Store


@cython.final
cdef class Raised:
    """An exception that is the outcome of a query."""

    cdef readonly object error
    cdef readonly object traceback  # as it was when the computation failed: raising adds to it every time
    cdef Failure failure       # where it is lent: the outcome that lasts as long as this
    cdef Node node             # whose outcome that is
    cdef Store store


cdef inline Raised raised_by(Failure failure):
    """What was raised, or None where all snapshots that it belonged to are gone."""
    if failure.owned is not None:
        return <Raised> failure.owned
    return <Raised> failure.lent if failure.lent != NULL else None


cdef inline bint is_gone(Outcome *outcome):
    """Whether `outcome`, which was at hand for a while, is a failure that nobody has any more."""
    return outcome.flags & FAILED and raised_by(<Failure> outcome.value) is None


cdef tuple NO_RESULTS

cdef Failure new_failure(Store store, Frame frame, object error)
cdef Raised take_failure(Failure failure, Runtime runtime, Frame reader)
cdef int restore_traceback(Failure failure) except -1

cdef object failure_of(Node node, object error)
cdef object one_shot_error(Node node, object value)
