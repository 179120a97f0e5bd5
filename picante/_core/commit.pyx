"""The end of a computation: early cutoff, the place of the outcome, failures (r[cell.compute], r[cell.poison]).

First comes what runs user code: the outcome is compared with the known ones, for its name. `changed_at` names an
outcome; an equal one keeps the name, so that who read the other need not run again (r[revision.early-cutoff]). A new
one is named by the revision of the view that computed it.

Then, in one transition, the outcome is put where it belongs. It is *clean*, and good from now on, only if all that the
computation read is at this very instant current, unmarked and as it was when it was read: changes that came
in meanwhile did not find the way here, for the edges are only drawn now. Else it is known to hold as far as all that
it read is known to: as the node's marked outcome if it has no newer one, as its view's otherwise.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Malloc
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.equality cimport outcomes_equal
from picante._core.evict cimport count_memo, make_room, size_of
from picante._core.failure cimport new_failure
from picante._core.frames cimport release_nodes
from picante._core.ingredient cimport Ingredient
from picante._core.node cimport (
    AFRESH, EVICTED, FAILED, KNOWN, MARKED, NAMED, NO_OUTCOME, NOWHERE, OUTCOME, PART, UNLINKED, VALUE, Edge, Table,
    Version, begin_transition, end_transition, expose, leads_nowhere, name_holds_at, new_note, release_slot,
    replace_edges, reserve_edges, same_deps, track, untrack_if_plain,
)
from picante._core.outcome cimport Outcome, is_unknown, outcome_at, valid_until
from picante._core.packed cimport UNREADABLE, readable
from picante._core.raised cimport Raised, restore_traceback
from picante._core.sharing cimport completed_result
from picante._core.store cimport fits_node, is_limited, keep_current, keep_version, mark_from, may_be_idle


cdef bint commit(Store store, Frame frame, uint32_t outcome, object value) except -1:
    """Make `value` the outcome of the computation of `frame`; whether it is another than there was.

    With FAILED, `value` is what was `Raised`.
    """
    cdef uint64_t name = frame.view.revision
    if outcome == VALUE:
        _name_value(store, frame, value, &name)
    else:
        value = new_failure(store, frame, <Raised> value)
    return commit_as(store, frame, outcome, value, name)


cdef bint commit_as(Store store, Frame frame, uint32_t outcome, object value, uint64_t name) except -1:
    """The same for an outcome that has a name."""
    cdef Node node = frame.node
    cdef object _before  # what it held is dropped after the transition, and so is what must make room
    cdef list trash
    cdef bint collecting, is_new
    cdef uint64_t size = 0
    if outcome == VALUE and is_limited(<PyObject *> store, <PyObject *> node):
        size = size_of(store, node, value)
    collecting = begin_transition()
    try:
        _before = node.value
        is_new = _place(store, frame, outcome, value, name)
        if is_limited(<PyObject *> store, <PyObject *> node):
            if node.flags & VALUE and node.value is value:
                count_memo(store, node, size)
            trash = []
            make_room(store, node, trash)
        untrack_if_plain(node)  # an adopted one; others are being computed
        return is_new
    finally:
        end_transition(collecting)


cdef int _name_value(Store store, Frame frame, object value, uint64_t *name) except -1:
    """Give `value` the name of a known outcome that it equals, if there is one.

    Comparing may run user code, so the known ones may be gone afterwards; that they were equal stays true.
    """
    cdef Node node = frame.node
    cdef Version version
    cdef uint64_t known = node.changed_at
    cdef list versions, history
    eq = (<Ingredient> frame.ingredient).eq
    if node.flags & VALUE and _equals(eq, node.value, value):
        name[0] = known
        return 0
    if node.history is None and store.completed is None:
        return 0
    history = node.history  # held on to: making a list may run finalizers, and those may drop this one
    versions = [] if history is None else list(history)
    version = completed_result(store, node)
    if version is not None:
        versions.append(version)
    for version in versions:
        if version.flags & VALUE and _equals(eq, version.value, value):
            name[0] = version.changed_at
            return 0
    return 0


cdef bint _equals(object eq, object known, object value) except -1:
    known = readable(known)
    return known is not UNREADABLE and outcomes_equal(eq, known, value)


cdef bint _place(Store store, Frame frame, uint32_t outcome, object value, uint64_t name) except -1:
    """Put the outcome where it belongs (in a transition); whether it is another than there was."""
    cdef Node node = frame.node
    cdef uint64_t revision = frame.view.revision, since, until
    cdef bint clean, fits, is_new, was_evicted = node.flags & EVICTED
    cdef Py_ssize_t n = PyList_GET_SIZE(frame.nodes), i
    cdef uint32_t ran = _note(frame), turned
    cdef Edge *edges
    cdef Outcome known
    if not is_unknown(<PyObject *> node, revision) and outcome_at(node, frame.view, &known):
        return False
    if was_evicted and outcome == VALUE and name_holds_at(node, revision):
        name = node.changed_at  # what was evicted has been computed once more, from the same outcomes
    is_new = not node.flags & (VALUE | EVICTED) or node.changed_at != name
    clean = _is_clean(frame, &since)
    until = revision
    if outcome == FAILED:  # a failure holds at its own revision only
        since = revision
        clean = clean and not frame.view.pinned
    elif not clean and not frame.fleeting:
        until = _known_until(store, frame)
    if frame.fleeting or frame.raised is not None:
        outcome |= UNLINKED  # what it has read, or is said to have read, proves nothing later on
    fits = (
        node.history is None and not node.flags & NAMED  # it never had an outcome that this one could meet
        or fits_node(node, name, revision, &since, &until, &clean)
    )
    if not fits and was_evicted and (clean or not frame.view.pinned):
        fits = True  # nothing but a name is in the way
        since = min(since, revision)
        if not node.flags & MARKED and not (clean and outcome == VALUE):
            mark_from(store, node, revision)  # a marked node has only marked dependents
    if not fits:
        since = min(since, revision)  # a failure may meet the name of what was evicted: it counts as well
        if outcome & FAILED:
            store.failed.append(node)
        keep_version(store, node, frame.view, _version(frame, outcome, value, name, since, until))
        return name == revision
    if node.flags & OUTCOME:
        keep_current(store, node, node.verified_at, since, <uint64_t> -1 if clean else until)
    if same_deps(node, frame.nodes):
        edges = node.edges
        turned = node.turned
        for i in range(n):
            if (<Node> edges[i].dep).flags & KNOWN:
                expose(&edges[i])
    else:
        edges = reserve_edges(frame.nodes)
        turned = _still_there(node, frame, node.turned)
        for i in range(node.n_edges):
            if node.edges[i].dep != NULL and (<Node> node.edges[i].dep).flags & (PART | VALUE) != VALUE:
                store.idle.append(<Node> node.edges[i].dep)
        replace_edges(node, edges, <uint32_t> n)
    for i in range(n):
        edges[i].seen = frame.reads[i].changed_at
        edges[i].group = frame.reads[i].group
    node.ran = ran | AFRESH if is_new else ran
    node.turned = ran if is_new else turned
    node.ran_at = revision
    if not leads_nowhere(value):
        track(node)
    node.value = value
    node.flags = outcome if clean else outcome | MARKED
    node.changed_at = name
    node.valid_since = since
    node.verified_at = until
    if outcome & FAILED:
        release_slot(node)  # while its revision lasts it stays
        store.failed.append(node)
    return is_new


cdef uint32_t _note(Frame frame) noexcept:
    """Why `frame` ran, with the place of the dependency that led to it among those that it has read.

    A query reads what it read before up to the first difference, so it stands where it stood; unless the order of its
    reads is a matter of chance.
    """
    cdef Py_ssize_t n = PyList_GET_SIZE(frame.nodes), i
    cdef PyObject *cause = <PyObject *> frame.cause
    if frame.cause is None:
        return new_note(frame.why, NOWHERE)
    if frame.place < n and PyList_GET_ITEM(frame.nodes, frame.place) == cause:
        return new_note(frame.why, frame.place)
    for i in range(n):
        if PyList_GET_ITEM(frame.nodes, i) == cause:
            return new_note(frame.why, <uint32_t> i)
    return new_note(frame.why, NOWHERE)


cdef uint32_t _still_there(Node node, Frame frame, uint32_t earlier) noexcept:
    """The `earlier` note, which speaks of the edges of `node`, for those that `frame` has read."""
    cdef uint32_t place = earlier >> 5
    if place < node.n_edges and place < <size_t> PyList_GET_SIZE(frame.nodes) and (
        PyList_GET_ITEM(frame.nodes, place) == node.edges[place].dep
    ):
        return earlier
    return earlier | NOWHERE


cdef bint _is_clean(Frame frame, uint64_t *since) noexcept:
    """Whether all that was read is current, unmarked and as it was; `since`: since when it was as it was read."""
    cdef Py_ssize_t i
    cdef Node dep
    cdef bint clean = not frame.fleeting
    since[0] = frame.view.revision if frame.fleeting else 0
    for i in range(PyList_GET_SIZE(frame.nodes)):
        dep = <Node> PyList_GET_ITEM(frame.nodes, i)
        if frame.reads[i].changed_at == NO_OUTCOME:
            clean = False
            since[0] = frame.view.revision
        elif (
            dep.flags & MARKED or dep.changed_at != frame.reads[i].changed_at
            or dep.valid_since != frame.reads[i].valid_since
            or not dep.flags & NAMED and (<Table> dep.table).derived  # what was dropped still has its name
        ):
            clean = False
        since[0] = max(since[0], frame.reads[i].valid_since)
    return clean


cdef uint64_t _known_until(Store store, Frame frame) noexcept:
    """Up to which revision all that was read is known to be as it was read."""
    cdef Py_ssize_t i
    cdef uint64_t until = store.present.revision
    for i in range(PyList_GET_SIZE(frame.nodes)):
        until = min(until, valid_until(<Node> PyList_GET_ITEM(frame.nodes, i), frame.reads[i].changed_at, frame.view))
    return until


cdef Version _version(Frame frame, uint32_t outcome, object value, uint64_t name, uint64_t since, uint64_t until):
    """The outcome of `frame` as a version of its own."""
    cdef Py_ssize_t n = PyList_GET_SIZE(frame.nodes), i
    cdef Version version = Version()
    version.seen = <uint64_t *> PyMem_Malloc(max(n, 1) * sizeof(uint64_t))
    if version.seen == NULL:
        raise MemoryError
    for i in range(n):
        version.seen[i] = frame.reads[i].changed_at
    version.deps = list(frame.nodes)
    version.value = value
    version.flags = outcome
    version.turned = _note(frame)
    version.ran = version.turned | AFRESH if name == frame.view.revision else version.turned
    version.ran_at = frame.view.revision
    version.changed_at = name
    version.valid_since = since
    version.valid_until = until
    return version


cdef int release_reads(Store store, Frame frame) except -1:
    """What an ended frame has read, and what it was for, may be of use to nobody any more: absent slots, for one."""
    cdef Py_ssize_t i
    cdef Node node
    cdef Raised raised
    for i in range(PyList_GET_SIZE(frame.nodes)):
        node = <Node> PyList_GET_ITEM(frame.nodes, i)
        if may_be_idle(node):
            store.idle.append(node)
    if may_be_idle(frame.node):
        store.idle.append(frame.node)
    release_nodes(frame)
    frame.node = None
    if frame.cause is not None:
        frame.cause = None
    if frame.raised is not None:
        for raised in list(frame.raised):
            restore_traceback(raised)
        frame.raised = None
    return 0
