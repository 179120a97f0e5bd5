"""What queries have raised, and whose it is."""

cimport cython

from picante._core.node cimport FAILED, Failure, Node
from picante._core.outcome cimport Outcome
from picante._core.store cimport Store, View


@cython.final
cdef class Raised:
    """An exception that is the outcome of a query."""

    cdef readonly object error
    cdef readonly object traceback  # as it was when the computation failed: raising adds to it every time
    cdef Failure failure       # where it is lent: the outcome that lasts as long as this
    cdef Node node             # whose outcome that is
    cdef Store store


cdef inline Raised raised_by(Failure failure):
    """What was raised, or None where all that it belonged to is gone."""
    if failure.owned is not None:
        return <Raised> failure.owned
    return <Raised> failure.lent if failure.lent != NULL else None


cdef inline bint is_gone(Outcome *outcome):
    """Whether `outcome`, which was at hand for a while, is a failure that nobody has any more."""
    return outcome.flags & FAILED and raised_by(<Failure> outcome.value) is None


cdef Raised new_raised(object error)
cdef int lend(Store store, Node node, Failure failure) except -1
cdef int lend_failures(Store store) except -1
cdef int leave_to_others(Store store, View view, set raised) except -1
cdef int give_to_database(Store store, Raised raised) except -1
cdef void restore_traceback(Raised raised) noexcept
