"""Failures: what a query has raised is its outcome, for everybody who asks at that revision (r[cell.poison])."""

from picante._core.ingredient cimport describe
from picante._core.node cimport FAILED
from picante._core.outcome cimport Outcome, outcome_at
from picante._core.raised cimport Raised, give_to_database, leave_to_others, lend, new_owned, raised_by

# Exceptions that say something about the machine, not about the query.
cdef tuple NO_RESULTS = (RecursionError, MemoryError)


cdef Failure new_failure(Store store, Frame frame, object error):
    """The outcome of a computation that raised `error`, which gets a note where it arose."""
    cdef Failure failure = new_owned(error)
    cdef Raised raised = <Raised> failure.owned
    cdef Runtime runtime = frame.runtime
    if not _arose_below(frame, error):
        _add_note(error, f"picante: in the query {describe(frame.node)} at revision {frame.view.revision}")
    if runtime is not None and _belongs_to_others(store, frame, runtime):
        _own(runtime, raised)
        if runtime.view is None:
            leave_to_others(store, frame.view, {raised})
        lend(store, frame.node, failure)
    return failure


cdef bint _belongs_to_others(Store store, Frame frame, Runtime runtime) noexcept:
    """Whether what `frame` raised may refer to a snapshot, now or later: what its cell owns must not."""
    if runtime.view is not None or frame.view.snapshots != NULL:
        return True
    return frame.saw_failure and store.completed is not None  # perhaps one that a snapshot has raised


cdef Raised take_failure(Failure failure, Runtime runtime, Frame reader):
    """What was raised; it lasts as long as `runtime`, through which somebody, perhaps a query, is given it."""
    cdef Raised raised = raised_by(failure)
    if reader is not None:
        reader.saw_failure = True
    if failure.lent != NULL:
        _own(runtime, raised)
    return raised


cdef int _own(Runtime runtime, Raised raised) except -1:
    if runtime.view is None:
        return give_to_database(runtime.store, raised)
    if runtime.closed:  # its queries go on
        return leave_to_others(runtime.store, runtime.view, {raised})
    if runtime.raised is None:
        runtime.raised = set()
    runtime.raised.add(raised)
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
