"""Why a query runs: what its cell is told of it for good (`facts`), and what observers are told at that moment."""

from libc.stdint cimport uint64_t

from picante._core.node cimport (
    AFTER_FAILURE, CODE_CHANGED, DIFFERS, DROPPED, EVICTED, FAILED, FIRST, FORGOTTEN, GONE, INVALIDATED, LOADED,
    NO_OUTCOME, REASON, UNLINKED, UNSEEN, VALUE, Edge, Node, is_own_part,
)
from picante._core.observe cimport (
    BECAUSE_DIFFERS, BECAUSE_EVICTED, BECAUSE_FAILED, BECAUSE_FIRST, BECAUSE_GONE, BECAUSE_INVALIDATED, BECAUSE_LOST,
    BECAUSE_OTHER_REVISION, BECAUSE_UNLINKED,
)
from picante._core.outcome cimport Outcome, name_at
from picante._core.walk cimport Level


cdef int give_reason(Walk walk, Frame frame) except -1:
    """Tell `frame` why it computes the node at which `walk` stands (EXECUTE)."""
    cdef Node node = frame.node, outside
    cdef Level *level = &walk.levels[walk.depth - 1]
    cdef Edge *edge
    if node.flags & EVICTED:
        frame.why = DROPPED
    elif not node.flags & VALUE:
        frame.why = AFTER_FAILURE if node.flags & FAILED else DROPPED if node.ran_at else FIRST
    elif node.flags & UNLINKED:
        if node.ran & REASON == LOADED:
            frame.why = CODE_CHANGED
        else:
            _look_for_failure(node, frame)
        if node.parts is not None:
            for outside in node.parts.values():
                if outside.changed_at > node.ran_at:
                    frame.why = INVALIDATED
                    frame.cause = None
    elif level.edge >= node.n_edges:
        frame.why = DIFFERS  # its edges are other ones by now
    else:
        edge = &node.edges[level.edge]
        frame.place = level.edge
        frame.why = GONE
        if edge.dep == NULL:
            return 0
        frame.cause = <Node> edge.dep
        if is_own_part(frame.cause):
            frame.why = INVALIDATED
            frame.cause = None
        elif edge.seen == NO_OUTCOME:
            frame.why = DIFFERS if node.ran & REASON == LOADED else UNSEEN
        elif level.lost:
            frame.why = UNSEEN
        elif _differs(walk, frame.cause, edge.seen):
            frame.why = DIFFERS
    return 0


cdef bint _differs(Walk walk, Node dep, uint64_t seen) noexcept:
    cdef Outcome outcome
    return name_at(dep, walk.view, &outcome) and outcome.changed_at != seen


cdef int _look_for_failure(Node node, Frame frame) except -1:
    """What cannot be verified had read a failure, or its edges were cleared."""
    cdef uint32_t i
    cdef Node dep
    frame.why = FORGOTTEN
    for i in range(node.n_edges):
        if node.edges[i].dep != NULL:
            dep = <Node> node.edges[i].dep
            if dep.flags & FAILED or dep.changed_at != node.edges[i].seen:
                frame.why = DIFFERS
                frame.place = i
                frame.cause = dep
                return 0
    return 0


cdef uint32_t reason_of(Frame frame) noexcept:
    """For observers: the `RunReason` of what `give_reason` has told `frame`."""
    cdef uint32_t why = frame.why
    if why == FIRST:
        return BECAUSE_FIRST
    if why == AFTER_FAILURE:
        return BECAUSE_FAILED
    if why == DROPPED:
        return BECAUSE_EVICTED
    if why == FORGOTTEN or why == CODE_CHANGED:
        return BECAUSE_UNLINKED
    if why == INVALIDATED:
        return BECAUSE_INVALIDATED
    if frame.node.valid_since > frame.view.revision:
        return BECAUSE_OTHER_REVISION
    if why == UNSEEN:
        return BECAUSE_LOST
    return BECAUSE_GONE if why == GONE else BECAUSE_DIFFERS
