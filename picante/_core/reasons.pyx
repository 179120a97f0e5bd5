"""Why a query runs: what its cell is told of it for good (`facts`), and what observers are told at that moment."""

from cpython.ref cimport PyObject

from picante._core.node cimport (
    AFTER_FAILURE, CODE_CHANGED, DIFFERS, DROPPED, EVICTED, FAILED, FIRST, FORGOTTEN, GONE, INVALIDATED, LOADED,
    NO_OUTCOME, REASON, UNLINKED, UNSEEN, VALUE, Edge, Node, Table, is_own_part,
)
from picante._core.observe cimport (
    BECAUSE_DIFFERS, BECAUSE_EVICTED, BECAUSE_FAILED, BECAUSE_FIRST, BECAUSE_GONE, BECAUSE_INVALIDATED, BECAUSE_LOST,
    BECAUSE_OTHER_REVISION, BECAUSE_UNKNOWN, BECAUSE_UNLINKED,
)
from picante._core.verify cimport Level, Outcome, outcome_at


cdef int give_reason(Walk walk, Frame frame) except -1:
    """Tell `frame` why it computes the node at which `walk` stands (EXECUTE)."""
    cdef Node node = frame.node, outside
    cdef Level *level = &walk.levels[walk.depth - 1]
    cdef Edge *edge
    if not node.flags & VALUE:
        frame.why = AFTER_FAILURE if node.flags & FAILED else DROPPED if node.ran_at else FIRST
    elif node.flags & UNLINKED:
        frame.place = _failed_edge(node)
        frame.why = DIFFERS if frame.place < node.n_edges else FORGOTTEN
        if node.ran & REASON == LOADED:
            frame.why = CODE_CHANGED
        elif frame.why == DIFFERS:
            frame.cause = <Node> node.edges[frame.place].dep
        if node.parts is not None:
            for outside in node.parts.values():
                if outside.changed_at > node.ran_at:
                    frame.why = INVALIDATED
    elif level.edge < node.n_edges:
        edge = &node.edges[level.edge]
        frame.place = level.edge
        frame.why = GONE
        if level.lost or edge.dep == NULL:
            return 0
        frame.cause = <Node> edge.dep
        if is_own_part(frame.cause):
            frame.why = INVALIDATED
        elif edge.seen == NO_OUTCOME:
            frame.why = DIFFERS if node.ran & REASON == LOADED else UNSEEN
        elif _differs(walk, frame.cause, edge.seen):
            frame.why = DIFFERS
    return 0


cdef bint _differs(Walk walk, Node dep, uint64_t seen) noexcept:
    cdef Outcome outcome
    return outcome_at(dep, walk.view, &outcome) and outcome.changed_at != seen


cdef uint32_t reason_of(Walk walk, PyObject **cause) noexcept:
    """Why the node at which `walk` stands must be computed, a `RunReason`; and the dependency because of which."""
    cdef Level *level = &walk.levels[walk.depth - 1]
    cdef Node node = <Node> level.node
    cdef Edge *edge
    cause[0] = NULL
    if level.lost:
        return BECAUSE_LOST
    if node.flags & EVICTED:
        return BECAUSE_EVICTED
    if not node.flags & (VALUE | FAILED):
        return BECAUSE_FIRST
    if node.flags & FAILED:
        return BECAUSE_FAILED
    if node.flags & UNLINKED:
        if node.parts is not None:
            for part in node.parts.values():  # there is one: the world outside
                if (<Node> part).valid_since > node.verified_at:
                    return BECAUSE_INVALIDATED
        edge = node.edges + _failed_edge(node)
        if edge == node.edges + node.n_edges:
            return BECAUSE_UNLINKED
        cause[0] = edge.dep
        return BECAUSE_DIFFERS
    if node.valid_since > walk.view.revision:
        return BECAUSE_OTHER_REVISION
    if not level.begun or level.edge >= node.n_edges:
        return BECAUSE_UNKNOWN
    edge = &node.edges[level.edge]
    if edge.dep == NULL:
        return BECAUSE_GONE
    cause[0] = edge.dep
    if is_own_part(<Node> edge.dep):
        cause[0] = NULL
        return BECAUSE_INVALIDATED
    if edge.seen == NO_OUTCOME:
        return BECAUSE_LOST
    if (<Table> (<Node> edge.dep).table).checked_by != walk.number:
        return BECAUSE_GONE
    return BECAUSE_DIFFERS


cdef uint32_t _failed_edge(Node node) noexcept:
    """Where among the edges of `node`, which cannot be verified, the failure is that it has read; else their number."""
    cdef uint32_t i
    cdef Node dep
    for i in range(node.n_edges):
        if node.edges[i].dep != NULL:
            dep = <Node> node.edges[i].dep
            if dep.flags & FAILED or dep.changed_at != node.edges[i].seen:
                return i
    return node.n_edges
