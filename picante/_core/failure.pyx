"""Failures: what a query has raised is its outcome, for everybody who asks at that revision (r[cell.poison]).

An exception refers to frames, and these to what was at hand when it was raised: the database that was asked, whoever
caught it. If a cell owned what was raised on a snapshot, that snapshot would live as long as its database. So there
the snapshot owns it, and every other one that was given it; the cell has it *lent*, and loses the outcome with the last
of them. A snapshot that ends leaves it to those who still read at its revision. The database owns what it was given of
that kind up to its next revision, when it is out of date.
"""

cimport cython
from cpython.ref cimport PyObject

from picante._core.ingredient cimport describe
from picante._core.node cimport (
    FAILED, MARKED, Version, begin_transition, drop_edges, end_transition, read_by, release_slot,
)
from picante._core.outcome cimport Outcome, outcome_at
from picante._core.runtime cimport leave_to_others
from picante._core.store cimport mark_from

# Exceptions that say something about the machine, not about the query.
cdef tuple NO_RESULTS = (RecursionError, MemoryError)


@cython.final
@cython.no_gc_clear  # whoever refers to it is cleared; it must still know its node when it goes
cdef class Raised:
    def __dealloc__(self):
        if self.failure is not None:
            _forget(self.store, self.node, self.failure)


cdef Failure new_failure(Store store, Frame frame, object error):
    """The outcome of a computation that raised `error`, which gets a note where it arose."""
    cdef Failure failure = Failure()
    cdef Raised raised = Raised()
    cdef Runtime runtime = frame.runtime
    cdef bint is_lent = runtime is not None and (runtime.view is not None or frame.saw_lent)
    raised.error = error
    raised.traceback = error.__traceback__
    if not _arose_below(frame, error):
        _add_note(error, f"picante: in the query {describe(frame.node)} at revision {frame.view.revision}")
    if not is_lent:
        failure.owned = raised
        return failure
    raised.store = store
    raised.node = frame.node
    _own(runtime, raised)
    if runtime.view is None:
        leave_to_others(store, frame.view, {raised})
    raised.failure = failure
    failure.lent = <PyObject *> raised
    return failure


cdef Raised take_failure(Failure failure, Runtime runtime, Frame reader):
    """What was raised; it lasts as long as `runtime`, through which somebody, perhaps a query, is given it."""
    cdef Raised raised = raised_by(failure)
    if reader is not None:
        reader.saw_failure = True
        reader.saw_lent = reader.saw_lent or failure.lent != NULL
    if failure.lent != NULL:
        _own(runtime, raised)
    return raised


cdef int _own(Runtime runtime, Raised raised) except -1:
    cdef Store store = runtime.store
    if runtime.view is None:
        if store.raised is None:
            store.raised = set()
        store.raised.add(raised)
    else:
        if runtime.raised is None:
            runtime.raised = set()
        runtime.raised.add(raised)
        if runtime.closed:  # its queries go on
            leave_to_others(store, runtime.view, {raised})
    return 0


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
            store.idle += read_by(node)
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


cdef bint _arose_below(Frame frame, object error) except -1:
    """Whether `error` came out of a query that this one has asked."""
    cdef Node node
    cdef Outcome outcome
    cdef Raised raised
    if not frame.saw_failure:
        return False
    for node in frame.nodes:
        if outcome_at(node, frame.view, &outcome) and outcome.flags & FAILED:
            raised = raised_by(<Failure> outcome.value)
            if raised is not None and raised.error is error:
                return True
    return False


cdef int _add_note(object error, str text) except -1:
    try:
        notes = getattr(error, "__notes__", None)
        if type(notes) is list:  # the same object may be raised again and again
            notes[:] = [each for each in notes if type(each) is not _Note]
        error.add_note(_Note(text))
    except Exception:  # a user's add_note: the error matters more than the note
        pass
    return 0


cdef int restore_traceback(Failure failure) except -1:
    """Let the exception forget the way that it has gone: who has caught it would live as long as the failure."""
    cdef Raised raised = raised_by(failure)
    if raised is not None and raised.error.__traceback__ is not raised.traceback:
        raised.error.__traceback__ = raised.traceback
    return 0


class _Note(str):
    """A note that picante has added."""


cdef object failure_of(Node node, object error):
    """What a query has failed with that raised `error`: as of coroutines, no StopIteration gets out of it (PEP 479)."""
    if not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(f"{describe(node)} raised StopIteration")
    failure.__cause__ = error
    return failure


cdef object one_shot_error(Node node, object value):
    """Why a query must not return `value`, an iterator or the like."""
    kind = type(value).__qualname__
    if hasattr(type(value), "__await__") and hasattr(value, "close"):
        value.close()  # nobody will ever await it
    return TypeError(
        f"{describe(node)} returned a {kind}, which can be consumed only once and so cannot be kept. "
        "Return a list or a tuple of its items, or await it first."
    )
