"""Failures: what a query has raised is its outcome, for everybody who asks at that revision (r[cell.poison])."""

from picante._core.ingredient cimport describe
from picante._core.raised cimport Raised, give_to_database, leave_to_others, lend, raised_by

# Exceptions that say something about the machine, not about the query.
cdef tuple NO_RESULTS = (RecursionError, MemoryError)


cdef Failure new_failure(Store store, Frame frame, Raised raised):
    """The outcome of a computation from what it has raised, which gets a note where it arose.

    Hold on to `raised` for as long as the outcome is wanted: those to whom it belongs may be gone by then.
    """
    cdef Failure failure = Failure()
    cdef Runtime runtime = frame.runtime
    failure.owned = raised
    if not _arose_below(frame, raised.error):
        _add_note(raised.error, f"picante: in the query {describe(frame.node)} at revision {frame.view.revision}")
    if _belongs_to_others(store, frame, runtime):
        if runtime is not None:
            _own(runtime, raised)
        if runtime is None or runtime.view is None:
            leave_to_others(store, frame.view, {raised})
        lend(store, frame.node, failure)
    return failure


cdef bint _belongs_to_others(Store store, Frame frame, Runtime runtime) noexcept:
    """Whether what `frame` raised may refer to a snapshot, now or later: what its cell owns must not."""
    if runtime is not None and runtime.view is not None or frame.view.snapshots != NULL:
        return True
    return frame.raised is not None and store.completed is not None  # perhaps one that a snapshot has raised


cdef Raised take_failure(Failure failure, Runtime runtime, Frame reader):
    """What was raised; it lasts as long as `runtime`, through which somebody is given it, and as the query that is."""
    cdef Raised raised = raised_by(failure)
    cdef set fresh
    if reader is not None and not reader.ended:
        fresh = set()  # first: making it may run finalizers
        if reader.raised is None:
            reader.raised = fresh
        reader.raised.add(raised)
    if failure.lent != NULL:
        _own(runtime, raised)
    return raised


cdef int _own(Runtime runtime, Raised raised) except -1:
    cdef set alone = {raised}  # first: making it may run finalizers, and those may close the snapshot
    if runtime.view is None:
        return give_to_database(runtime.store, raised)
    if runtime.closed:  # its queries go on
        return leave_to_others(runtime.store, runtime.view, alone)
    if runtime.raised is None:
        runtime.raised = alone
    else:
        runtime.raised.add(raised)
    return 0


cdef bint _arose_below(Frame frame, object error) except -1:
    """Whether `error` came out of a query that this one has asked."""
    cdef Raised raised
    if frame.raised is not None:
        for raised in list(frame.raised):
            if raised.error is error:
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
