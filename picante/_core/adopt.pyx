"""Adoption: an earlier result whose dependencies are now as they were then (r[inflight.shared-cache-adopt]).

A cell that must be computed may have been computed before from the very same outcomes: an input was changed and changed
back, and what lies between cut off early; or a snapshot that is gone computed it. Such results are at hand in two
places: among the versions that are kept for views, and among what snapshots have offered (`sharing`). One of them is
adopted if and only if every outcome that its computation saw is, by its name, the one that this view has now. The
rule of the specification asks whether revisions agree, which lets a reader of the past adopt what came after it.

Nothing is evaluated for it: where a dependency is not up to date, the cell is simply computed.
"""

from picante._core.commit cimport commit_as
from picante._core.frame cimport Frame, record
from picante._core.ingredient cimport ingredient_of
from picante._core.node cimport ADOPTED, NO_OUTCOME, UNLINKED, VALUE, Table, Version
from picante._core.outcome cimport Outcome, name_at
from picante._core.packed cimport UNREADABLE, readable
from picante._core.runtime cimport emit_query_changed
from picante._core.sharing cimport completed_result, reuse
from picante._core.store cimport Store, View


cdef bint adopt(Runtime runtime, Walk walk, Node node) except -1:
    """Make an earlier result of `node`, the last one on the way of `walk`, its outcome at the walk's view, if there is
    one that is known to be what computing it would give; whether so."""
    cdef Store store = runtime.store
    cdef View view = walk.view
    cdef Version version
    cdef Frame frame
    cdef bint is_new
    if walk.levels[walk.depth - 1].lost:
        return False
    cdef list candidates = []
    cdef Version completed
    if node.history is not None:
        # Not a slice: making its list may collect garbage, whose finalizers may shorten the history meanwhile.
        candidates.extend(node.history)
        candidates.reverse()
    completed = completed_result(store, node)
    if completed is not None:
        candidates.append(completed)
    for version in candidates:
        if version.flags & (VALUE | UNLINKED) == VALUE and _knows_all(walk, version):
            value = readable(version.value)
            frame = None if value is UNREADABLE else _as_computed(version, node, view)
            if frame is not None:
                is_new = commit_as(store, frame, VALUE, value, version.changed_at)
                if version is completed:
                    reuse(node)
                walk.interruptions += 1
                if is_new and runtime.hub is not None:
                    emit_query_changed(runtime, node, view.revision)
                return True
    return False


cdef bint _knows_all(Walk walk, Version version) except -1:
    """Whether the database knows the kinds of all that was read (r[cell.revalidate-missing])."""
    cdef Node dep
    for dep in version.deps:
        if dep is None or (<Table> dep.table).checked_by != walk.number and not walk.knows(dep):
            return False
    return True


cdef Frame _as_computed(Version version, Node node, View view):
    """The frame of a computation at `view` that read what `version` had read; None if it would see anything else."""
    cdef Py_ssize_t i
    cdef Node dep
    cdef Outcome outcome
    cdef Frame frame = Frame.__new__(Frame)
    frame.node = node
    frame.ingredient = ingredient_of(node)
    frame.view = view
    frame.why = ADOPTED
    frame.nodes = []
    for i, dep in enumerate(version.deps):
        if (
            version.seen[i] == NO_OUTCOME or not name_at(dep, view, &outcome)
            or outcome.changed_at != version.seen[i]
        ):
            return None
        record(frame, dep, outcome.changed_at, outcome.valid_since)
    return frame
