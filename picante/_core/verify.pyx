"""Revalidation: is what a memo read still what it would read? (r[cell.revalidate])

A walk goes from a node that may be out of date down its edges, *in the order in which they were read*, and
brings each up to date before it looks at the next. At the first outcome that differs from the one seen it stands
still: that node must be computed again, and nothing behind that edge is touched, for a rerun may not even
ask for it. Where all are as they were, the node settles and the walk returns to who led to it.

The walk itself never awaits (its driver does, in `execute`), is a loop over a stack of its own, and allocates
nothing per edge. Other code can run only where the driver awaits and where the database is asked for an ingredient;
each counts as an interruption. A level settles only on what is true at that very instant: where anything was marked
since it looked at its first edge, it looks at all of them once more.
"""

from cpython.list cimport PyList_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.frame cimport frame_at
from picante._core.node cimport (
    EVICTED, MARKED, NAMED, NO_OUTCOME, OUTCOME, UNLINKED, VALUE, Edge, Node, Table, Version, begin_transition,
    copy_current, end_transition, name_holds_at,
)
from picante._core.observe cimport VERIFIED, VERIFY_DIFFERENT, VERIFY_SAME, Observation, tell
from picante._core.outcome cimport Outcome, is_unknown, name_at, outcome_at, valid_until
from picante._core.store cimport View, fits_node, keep_current, keep_version
from picante._core.walk cimport BROKEN, DONE, EXECUTE, GROUP, WAIT, Level


cdef Step advance(Walk walk) except BROKEN:
    """Settle all that can be settled at once; says what must happen to the last node of the path next."""
    cdef Level *level
    cdef Outcome outcome
    cdef Step step
    while rush(walk):
        level = &walk.levels[walk.depth - 1]
        if not level.begun or level.lost or level.checked != walk.interruptions:
            if (
                level.checked != walk.interruptions and not is_stale(level.node, walk.view)
                and (not is_unknown(level.node, walk.view.revision) or (<Node> level.node).flags & EVICTED)
                and (
                    outcome_at(<Node> level.node, walk.view, &outcome)
                    or (walk.depth > 1 or walk.by_name) and name_at(<Node> level.node, walk.view, &outcome)
                )
            ):
                walk.pop()  # somebody has seen to it meanwhile, or its computation has just ended
                continue
            if (<Node> level.node).running is not None and frame_at(<Node> level.node, walk.view) is not None:
                return walk.stand(WAIT)
            if level.lost or (
                (<Node> level.node).flags & (VALUE | UNLINKED) != VALUE and not is_evicted(walk, level.node)
            ):
                return walk.stand(EXECUTE)
            level.checked = walk.interruptions
            if not level.begun:
                walk.start(level)
        step = look(walk, <Node> level.node, level)
        if step == EXECUTE or step == GROUP:
            return walk.stand(step)
        if step == DONE:
            if level.marks == walk.store.marks and level.verified_at == (<Node> level.node).verified_at:
                settle(walk, <Node> level.node, level)
                if walk.depth == 1 and (<Node> level.node).flags & EVICTED and not walk.by_name:
                    return walk.stand(EXECUTE)  # for the value; its name is known to hold
                walk.pop()
            else:
                walk.start(level)  # changes came in meanwhile
    return DONE


cdef bint is_evicted(Walk walk, PyObject *node) noexcept:
    """Whether `node`, the last one, was evicted, and it is of use to find out whether its name holds."""
    cdef uint64_t revision = walk.view.revision
    return (
        (<Node> node).flags & (EVICTED | UNLINKED) == EVICTED and (<Node> node).valid_since <= revision
        and not name_holds_at(<Node> node, revision)  # else it is the value that is wanted
    )


cdef Py_ssize_t rush(Walk walk) except -1:
    """Do what `advance` does as long as all is plain, in one loop in which nothing else can run; the depth then.

    Plain is what is read in the present, where nobody reads in the past; `advance` does the rest. Most of what
    verifying costs is spent here (`verify_wide`, `verify_chain`), so only what the way leads on from gets a level.
    """
    cdef uint64_t revision = walk.view.revision, marks = walk.store.marks, number = walk.number, since
    cdef uint64_t interruptions = walk.interruptions
    cdef Level *first = walk.levels
    cdef Level *last = &first[walk.capacity - 1]  # `look` makes room for more
    cdef Level *level
    cdef Level *own                 # from here on, levels are as this loop has left them, and off the path
    cdef PyObject *node
    cdef PyObject *dep
    cdef PyObject *table
    cdef PyObject *known = NULL     # the last table that the database was found to know ...
    cdef PyObject *entered = NULL   # ... and, of those, that has an ingredient
    cdef Edge *edge
    cdef Edge *end
    if (
        not walk.depth or walk.view.pinned or PyList_GET_SIZE(walk.store.pins) or walk.store.observer is not None
        or not _resumes(walk, &first[walk.depth - 1])
    ):
        return walk.depth
    level = own = &first[walk.depth - 1]
    node = level.node
    edge = (<Node> node).edges + level.edge
    since = level.since if level.begun else 0
    while True:
        dep = NULL
        end = (<Node> node).edges + (<Node> node).n_edges
        while edge < end:
            dep = edge.dep
            if dep == NULL or (<Node> dep).flags & MARKED:
                break
            if (<Node> dep).changed_at != edge.seen or not is_current(dep, revision):
                break
            table = (<Node> dep).table
            if table != known:
                if (<Table> table).checked_by != number:
                    break
                known = table
            since = max(since, (<Node> dep).valid_since)
            edge += 1
        if edge == end:
            while True:  # settle, and go back up: on and on where nothing else was read
                (<Node> node).valid_since = since
                (<Node> node).flags = (<Node> node).flags & ~MARKED  # `&=` would hold on to it meanwhile
                if level == first:
                    walk.depth = 0
                    return walk.forget_path(0)
                dep = node
                level -= 1
                if level < own:
                    own = level
                    if not _resumes(walk, level):
                        node = NULL
                        break
                node = level.node
                edge = (<Node> node).edges
                if (
                    level.begun or (<Node> node).n_edges != 1 or edge.dep != dep
                    or edge.seen != (<Node> dep).changed_at
                ):
                    break
            if node == NULL:
                break
            edge += level.edge
            if not level.begun:
                level.since = 0
            if (
                edge < (<Node> node).edges + (<Node> node).n_edges and edge.dep == dep
                and edge.seen == (<Node> dep).changed_at
            ):
                since = max(since, level.since)
                edge += 1  # the way has led to it by this edge, so the database knows its kind
            else:
                since = level.since
            continue
        if edge == (<Node> node).edges:
            level.begun = False
        else:
            level.edge = level.told = <uint32_t> (edge - (<Node> node).edges)
            level.since = since
            if not level.begun:
                level.begun = level.clean = True
                level.verified_at = (<Node> node).verified_at
                level.marks = marks
        if dep == NULL or edge.group or edge.seen == NO_OUTCOME or not is_plain(dep, revision) or level == last:
            break
        table = (<Node> dep).table
        if table != entered:
            if (<Table> table).checked_by != number or (<Table> table).link.ingredient == NULL:
                break
            entered = table
        while True:  # further down, as long as what was read first is the next to look at
            level += 1
            node = dep
            level.node = node
            level.edge = level.told = 0
            level.checked = interruptions
            level.begun = level.lost = False
            edge = (<Node> node).edges
            if level == last or not (<Node> node).n_edges:
                break
            dep = edge.dep
            if dep == NULL or not (<Node> dep).flags & MARKED:
                break
            if (
                edge.group or edge.seen == NO_OUTCOME or not is_plain(dep, revision)
                or (<Node> dep).table != entered
            ):
                break
        since = 0
    walk.depth = level - first + 1
    walk.forget_path(own - first + 1)
    return walk.depth


cdef inline bint _resumes(Walk walk, Level *level) noexcept:
    """Whether `rush` may go on at `level`, the last but for those it has come from, which then says from where."""
    if level.lost or not is_plain(level.node, walk.view.revision):
        return False
    if level.begun and (
        level.marks != walk.store.marks or level.verified_at != (<Node> level.node).verified_at or not level.clean
    ):
        level.begun = False
    if not level.begun:
        level.edge = level.told = 0
    level.checked = walk.interruptions
    return True


cdef Step look(Walk walk, Node node, Level *level) except BROKEN:
    """Compare what `node` saw with what is there: EXECUTE at the first difference, WAIT to look once more.

    Where somebody reads in the past, this loop is what verifying an edge costs, hence the borrowed pointers:
    nothing in it can drop a node, up to the call after which it returns.
    """
    cdef Edge *edge = node.edges + level.edge
    cdef Edge *end = node.edges + node.n_edges
    cdef PyObject *dep
    cdef Outcome outcome
    cdef uint64_t changed_at, valid_since, since = level.since, revision = walk.view.revision
    cdef Step step = DONE
    while edge < end:
        dep = edge.dep
        if dep == NULL or edge.seen == NO_OUTCOME:
            step = EXECUTE
            break
        if (<Table> (<Node> dep).table).checked_by != walk.number:
            if is_current(dep, revision) and (<Node> dep).changed_at != edge.seen:
                step = EXECUTE  # whether or not the database knows its kind
                break
            # Asking the database may run anything, so look once more from here.
            level.edge = <uint32_t> (edge - node.edges)
            level.since = since
            walk.stand(WAIT)
            return WAIT if walk.knows(<Node> dep) else EXECUTE
        if is_current(dep, revision):
            changed_at = (<Node> dep).changed_at
            valid_since = (<Node> dep).valid_since
        elif is_stale(dep, walk.view):
            step = WAIT
            break
        elif name_at(<Node> dep, walk.view, &outcome):
            changed_at = outcome.changed_at
            valid_since = outcome.valid_since
            level.clean = level.clean and outcome.clean
        else:
            step = WAIT
            break
        if changed_at != edge.seen:
            step = EXECUTE
            break
        if valid_since > since:
            since = valid_since
        edge += 1
    level.edge = <uint32_t> (edge - node.edges)
    level.since = since
    if walk.store.observer is not None:
        tell_edges(walk, node, level, step)
    else:
        level.told = level.edge
    if step == WAIT:
        if (<Table> (<Node> dep).table).link.ingredient == NULL:
            return EXECUTE  # nobody is left who could bring it up to date
        if edge.group and leads_to_group(walk, node, level):
            return GROUP
        walk.push(dep)
    return step


cdef int settle(Walk walk, Node node, Level *level) except -1:
    """All that `node` read is as it was, so it holds at the view's revision as well (r[revision.verified-at])."""
    cdef uint64_t since = level.since, until = walk.store.present.revision
    cdef bint clean = level.clean, collecting
    cdef Version version
    cdef uint32_t i
    if walk.store.observer is not None:
        tell(walk.store.observer, VERIFIED, node, walk.number, 0, walk.view.revision, 0)
    if clean and node.history is None and not PyList_GET_SIZE(walk.store.pins):
        node.valid_since = since  # nobody reads in the past
        node.flags &= ~MARKED
        return 0
    collecting = begin_transition()
    try:
        for i in range(node.n_edges):
            until = min(until, valid_until(<Node> node.edges[i].dep, node.edges[i].seen, walk.view))
        if fits_node(node, node.changed_at, walk.view.revision, &since, &until, &clean):
            keep_current(walk.store, node, node.verified_at, since, <uint64_t> -1 if clean else until)
            node.valid_since = since
            if clean:
                node.flags &= ~MARKED
            else:
                node.verified_at = until
        elif node.flags & OUTCOME:
            version = copy_current(node, until)
            version.valid_since = since
            keep_version(walk.store, node, walk.view, version)
    finally:
        end_transition(collecting)
    return 0


cdef void tell_edges(Walk walk, Node node, Level *level, Step step) noexcept:
    """Let observers know what was found at the edges of `node`, up to where the walk stands."""
    cdef uint32_t i
    cdef Observation hub = walk.store.observer
    if hub.wanted >> VERIFY_SAME & 1:
        # Where the database was asked for an ingredient, `node` may have got other edges, and fewer.
        for i in range(level.told, min(level.edge, node.n_edges)):
            hub.emit(
                VERIFY_SAME, <PyObject *> node, walk.number, 0, walk.view.revision, 0, node.edges[i].dep, NULL
            )
    level.told = level.edge
    if step == EXECUTE and hub.wanted >> VERIFY_DIFFERENT & 1:
        hub.emit(
            VERIFY_DIFFERENT, <PyObject *> node, walk.number, 0, walk.view.revision, 0, node.edges[level.edge].dep,
            NULL,
        )


cdef list stale_group(Walk walk):
    """The nodes of the group at which the walk stands that may be out of date: they were read at once, whatever
    one of them had turned out to be, so that all may be brought up to date at once."""
    cdef Level *level = &walk.levels[walk.depth - 1]
    cdef Node node = <Node> level.node
    cdef list nodes = []
    cdef uint32_t i
    for i in range(level.edge, node.n_edges):
        if node.edges[i].group != node.edges[level.edge].group:
            break
        if node.edges[i].dep != NULL and must_update(walk, node.edges[i].dep):
            nodes.append(<Node> node.edges[i].dep)
    return nodes


cdef bint leads_to_group(Walk walk, Node node, Level *level) noexcept:
    """Whether more than the next edge of its group leads to what may be out of date."""
    cdef uint32_t i
    cdef Edge *edge
    for i in range(level.edge + 1, node.n_edges):
        edge = &node.edges[i]
        if edge.group != node.edges[level.edge].group:
            return False
        if edge.dep != NULL and must_update(walk, edge.dep):
            return True
    return False


cdef bint must_update(Walk walk, PyObject *node) noexcept:
    """Whether the outcome of `node` is not known at this view, and there is somebody who can find it out."""
    cdef Outcome outcome
    if (<Table> (<Node> node).table).link.ingredient == NULL:
        return False
    return is_stale(node, walk.view) or walk.view.pinned and not name_at(<Node> node, walk.view, &outcome)


# -- what is told from the fields of a node alone


cdef inline bint is_stale(PyObject *node, View view) noexcept:
    """Whether it is plain that the outcome of `node` at `view` is not known: another common case."""
    return (
        not view.pinned and (<Node> node).flags & MARKED and (<Node> node).verified_at < view.revision
    )


cdef inline bint is_plain(PyObject *node, uint64_t revision) noexcept:
    """Whether `node` has a memo that may be out of date, and is neither computed nor kept for anybody just now."""
    return (
        (<Node> node).flags & (VALUE | MARKED | UNLINKED) == VALUE | MARKED and (<Node> node).verified_at < revision
        and (<Node> node).running is None and (<Node> node).history is None
    )


cdef inline bint is_current(PyObject *node, uint64_t revision) noexcept:
    """Whether the current outcome of `node` is unmarked and holds at `revision`: the common case of `name_at`."""
    return (
        (<Node> node).valid_since <= revision and (<Node> node).flags & NAMED and not (<Node> node).flags & MARKED
    )
