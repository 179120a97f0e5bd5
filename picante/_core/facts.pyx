"""What is known of a query at this moment, and what depends on a record: plain facts, for `picante.debug`.

Nothing here computes, waits, records, or makes a node. All of one answer is of one moment: it is gathered in a
transition, as numbers, encoded keys and tuples, and no node leaves this module.

Why a query ran last is told by two notes of four bytes in its node (`node`): one for the last run, one for the run that
gave it the outcome it has. A note names the dependency by its place among the edges, so it keeps nothing alive and
costs nothing while nobody asks. Everything else follows from the names of outcomes: an edge says what was seen, and for
an input that is the revision of the change itself. So the way from a query to the input whose change made it run can
be found afterwards, as far as what lies on it has not run again for another reason since; where it has, that is said.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.errors import DecodeError, SnapshotFrozenError
from picante._core.frame cimport OUTSIDE, Frame
from picante._core.key cimport Key
from picante._core.node cimport (
    AFRESH, EVICTED, FAILED, KNOWN, LOADED, MARKED, NO_OUTCOME, NOWHERE, OUTCOME, PART, REASON, UNLINKED, VALUE,
    Edge, Failure, Node, Table, Version, begin_transition, end_transition, find_node, find_version, holds_at,
    is_own_part, node_key, record_of,
)
from picante._core.outcome cimport Outcome, name_at, outcome_at
from picante._core.raised cimport raised_by
from picante._core.runtime cimport Runtime, view_of
from picante._core.store cimport Store, View

cdef tuple REASONS = (
    "first", "differs", "unseen", "gone", "invalidated", "failed", "dropped", "forgotten", "code", "loaded", "adopted",
    "handed_in",
)
cdef enum:
    LONGEST = 1000  # steps of a trail, and of a way to a change


def query_facts(Runtime runtime not None, kind, key, Py_ssize_t limit=20):
    """What is known of the query of this kind and key, as `QueryFacts`; None where nothing is.

    Args:
        limit: how many changes, and how many cutoffs, are looked for.
    """
    cdef Node node = _find(runtime.store, kind, key)
    cdef View view = view_of(runtime)
    cdef dict facts
    if node is None or not (<Table> node.table).derived:
        return None
    cdef bint collecting = begin_transition()
    try:
        facts = _facts(node, view, limit)
    finally:
        end_transition(collecting)
    return facts


def dependents(Runtime runtime not None, records):
    """All memos that depend on `records`, each as `(kind, key, distance, is_marked)`, the nearest first.

    Args:
        records: triples of kind, key and part, as in `QueryFacts`. Part None: only what depends on the whole.

    Raises:
        SnapshotFrozenError: nothing can change in a snapshot.
    """
    cdef list found = [], nodes = []
    cdef set seen = set()
    cdef Node node
    cdef bint collecting
    if runtime.view is not None:
        raise SnapshotFrozenError("Nothing changes in a snapshot: ask the database that it was taken from.")
    for kind, key, part in list(records):
        node = _find(runtime.store, kind, key) if part != "keys" else None
        if part == "keys" and kind in runtime.store.tables:
            node = (<Table> runtime.store.tables[kind]).members
        if node is not None and part is not None and part != "keys":
            node = None if node.parts is None else node.parts.get(part)
        if node is not None:
            nodes.append(node)
    collecting = begin_transition()
    try:
        _collect(nodes, found, seen)
    finally:
        end_transition(collecting)
    return found


cdef Node _find(Store store, kind, key):
    """The node of a key, or of a `Key`, if there is one."""
    cdef Table table = store.tables.get(kind)
    if table is None:
        return None
    if type(key) is Key:
        try:
            key = key.decode()
        except DecodeError:
            pass
    return find_node(table, key)


cdef int _collect(list sources, list found, set seen) except -1:
    cdef list level = sources, deeper
    cdef Node source, reader
    cdef uint32_t i
    cdef Py_ssize_t distance = 0
    while level:
        distance += 1
        deeper = []
        for source in level:
            for i in range(source.n_dependents):
                reader = <Node> source.dependents[i].reader
                address = <size_t> <PyObject *> reader
                if address not in seen:
                    seen.add(address)
                    deeper.append(reader)
                    if reader.flags & OUTCOME:
                        found.append((
                            (<Table> reader.table).kind, node_key(reader), distance, reader.flags & MARKED != 0
                        ))
        level = deeper
    return 0


def contradictions(Runtime runtime not None):
    """Where the graph is not as `node` says that it always is, in words. For tests: it looks at all of it."""
    cdef Node node
    cdef list nodes = [], found = []
    for table in list(runtime.store.tables.values()):
        if (<Table> table).members is not None:
            nodes.append((<Table> table).members)
        nodes += list((<Table> table).plain.values()) + list((<Table> table).encoded.values())
    for each in nodes[:]:
        node = each
        if node.parts is not None:
            nodes += list(node.parts.values())
    for each in nodes:
        _contradict(each, found)
    return found


cdef int _contradict(Node node, list found) except -1:
    cdef uint32_t i
    cdef Node reader, dep
    cdef Edge *edge
    label = f"{_record(node)}"
    for i in range(node.n_edges):
        if node.edges[i].dep != NULL:
            dep = <Node> node.edges[i].dep
            if node.edges[i].slot >= dep.n_dependents or dep.dependents[node.edges[i].slot].reader != <PyObject *> node:
                found.append(f"{_record(dep)} does not know that {label} has read it")
    for i in range(node.n_dependents):
        reader = <Node> node.dependents[i].reader
        edge = &reader.edges[node.dependents[i].edge]
        if edge.dep != <PyObject *> node or edge.slot != i:
            found.append(f"{_record(reader)} does not know that it has read {label}")
        if not reader.flags & MARKED and (node.flags & MARKED or node.flags & KNOWN and i < node.ran_at):
            found.append(f"{_record(reader)} is unmarked, but no change of {label} would reach it")
        if node.flags & KNOWN and i < node.ran_at and edge.seen == node.changed_at:
            found.append(f"{_record(reader)} has seen what {label} has, and may be verified")
    if node.flags & KNOWN and node.ran_at > node.n_dependents:
        found.append(f"{label} claims to know of {node.ran_at} marked dependents")
    return 0


# -- one query


cdef dict _facts(Node node, View view, Py_ssize_t limit):
    cdef Version version = None if holds_at(node, view.revision) else find_version(node, view.revision)
    cdef Outcome outcome
    cdef Frame frame = node.running
    cdef bint is_known = (<bint> (node.flags & OUTCOME or version is not None)) and outcome_at(node, view, &outcome)
    cdef uint32_t flags = node.flags if version is None else version.flags
    cdef uint32_t ran = node.ran if version is None else version.ran
    cdef uint64_t ran_at = node.ran_at if version is None else version.ran_at
    cdef uint64_t changed_at = node.changed_at if version is None else version.changed_at
    cdef uint64_t since = node.valid_since if version is None else version.valid_since
    cdef uint64_t until = 0
    cdef list running = [], edges = _edges(node, version)
    while frame is not None:
        if not frame.abandoned:
            running.append(frame.view.revision)
        frame = frame.sibling
    if version is not None:
        until = version.valid_until
    elif node.flags & OUTCOME:
        until = node.verified_at if node.flags & MARKED else view.revision
    value = node.value if version is None else version.value
    return {
        "revision": view.revision,
        "outcome": "value" if flags & VALUE else "failed" if flags & FAILED else None,
        "error": raised_by(<Failure> value).error if flags & FAILED else None,
        "is_known": is_known,
        "is_linked": not flags & UNLINKED,
        "running": running,
        "changed_at": changed_at,
        "valid_since": since,
        "valid_until": min(until, view.revision),
        "ran_at": ran_at,
        "reason": REASONS[ran & REASON],
        "place": _place(ran),
        "reads": [_read(dep, seen, view) for dep, seen in edges],
        "trail": _trail(node, edges, _place(ran), ran_at),
        "is_new": ran & AFRESH != 0,
        "cutoffs": _cutoffs(node, edges, ran_at, view, limit) if is_known and flags & VALUE else [],
        "changes": [] if is_known else _changes(node, edges, view, limit),
    }


cdef object _place(uint32_t why):
    return None if why >> 5 == NOWHERE >> 5 else why >> 5


cdef list _edges(Node node, Version version):
    """What was read, in order: pairs of a node, or None, and the name of the outcome that was seen."""
    cdef uint32_t i
    cdef list edges = []
    if version is None:
        for i in range(node.n_edges):
            edges.append((
                <Node> node.edges[i].dep if node.edges[i].dep != NULL else None, node.edges[i].seen
            ))
    else:
        for i in range(<uint32_t> PyList_GET_SIZE(version.deps)):
            edges.append((version.deps[i], version.seen[i]))
    return edges


cdef bint _is_query(Node node) noexcept:
    return (<Table> node.table).derived and not node.flags & PART


cdef tuple _record(Node node):
    """The kind, the `Key`, and what part of that record it is: a name, the position of a field, or None."""
    cdef Table table = <Table> node.table
    cdef Node record
    part = None
    if table.members is node:
        part = "keys"
    elif node.flags & PART:
        record = record_of(node)
        if record is not None and record.parts is not None:
            for name, each in record.parts.items():
                if each is node:
                    part = name
    return table.kind, node_key(node), part


cdef tuple _read(Node dep, uint64_t seen, View view):
    """One dependency: the record, what was seen of it, the verdict, and the name of what it has now."""
    cdef Outcome outcome
    name = None if seen == NO_OUTCOME else seen
    if dep is None or name is None:
        return None if dep is None else _record(dep), name, "different", None
    if not name_at(dep, view, &outcome):
        return _record(dep), name, "unknown", None
    now = None if outcome.changed_at == NO_OUTCOME else outcome.changed_at
    return _record(dep), name, "same" if outcome.changed_at == seen else "different", now


# -- why


cdef list _trail(Node node, list edges, object place, uint64_t ran_at):
    """The way from a run to the change that led to it: what differed, and why that did, and so forth.

    Each step is a record, the name of its outcome (None: not known any more), and, if it is a query, why it ran for
    that.
    """
    cdef list trail = []
    cdef Node dep
    cdef Version version
    cdef uint64_t name
    cdef uint32_t why
    cdef object each
    cdef set visited = {<size_t> <PyObject *> node}
    while place is not None and place < PyList_GET_SIZE(edges) and PyList_GET_SIZE(trail) < LONGEST:
        each, seen = <tuple> PyList_GET_ITEM(edges, place)
        if each is None:
            break
        dep = each
        address = <size_t> <PyObject *> dep
        name = seen
        if not _is_query(dep):
            # An edge that was drawn afresh later on, by a run with an equal result, may name a later change.
            trail.append((_record(dep), name if name <= ran_at else None, None))
            break
        if address in visited or name == NO_OUTCOME or name > ran_at:
            trail.append((_record(dep), None, "unknown"))
            break
        visited.add(address)
        version = None
        if dep.changed_at != name:
            version = _version_named(dep, name)
            if version is None:
                trail.append((_record(dep), name, "unknown"))
                break
        why = dep.turned if version is None else version.turned
        trail.append((_record(dep), name, REASONS[why & REASON]))
        edges = _edges(dep, version)
        place = _place(why)
        ran_at = name
    return trail


cdef Version _version_named(Node node, uint64_t name):
    cdef Version version
    if node.history is not None:
        for version in node.history:
            if version.changed_at == name:
                return version
    return None


cdef list _cutoffs(Node node, list edges, uint64_t ran_at, View view, Py_ssize_t limit):
    """Where changes beneath a memo, since it was computed, came to nothing: queries that ran with an equal result.

    Each with the revision of that run and with the trail of it.
    """
    cdef list found = [], queue = [edges]
    cdef set visited = {<size_t> <PyObject *> node}
    cdef Node dep
    cdef Py_ssize_t next_one = 0
    while next_one < PyList_GET_SIZE(queue) and PyList_GET_SIZE(found) < limit:
        for each, _ in <list> PyList_GET_ITEM(queue, next_one):
            dep = each
            address = <size_t> <PyObject *> dep
            if (
                dep is None or address in visited or not _is_query(dep)
                or not ran_at < dep.valid_since <= view.revision or dep.ran_at > view.revision
            ):
                continue
            visited.add(address)
            edges = _edges(dep, None)
            if dep.ran_at > ran_at:
                if dep.ran & REASON != LOADED and PyList_GET_SIZE(found) < limit:
                    found.append((_record(dep), dep.ran_at, _trail(dep, edges, _place(dep.ran), dep.ran_at)))
            else:
                queue.append(edges)
        next_one += 1
    return found


# -- what has changed since


cdef list _changes(Node node, list edges, View view, Py_ssize_t limit):
    """Why the outcome of `node` may be another one at `view`: what has changed beneath it, the nearest first.

    Each is what happened ("changed", "failed", "unseen", "invalidated", "forgotten" or "dropped"), the name of the
    present outcome, and the records on the way there, without `node` itself.
    """
    cdef list found = [], queue = [(node, -1, edges)]
    cdef set visited = {<size_t> <PyObject *> node}
    cdef Node dep
    cdef Outcome outcome
    cdef Py_ssize_t next_one = 0
    cdef uint64_t seen
    while next_one < PyList_GET_SIZE(queue) and PyList_GET_SIZE(found) < limit:
        for each, name in (<tuple> PyList_GET_ITEM(queue, next_one))[2]:
            dep, seen = each, name
            address = <size_t> <PyObject *> dep
            if dep is None or address in visited:
                continue
            if seen == NO_OUTCOME:
                visited.add(address)
                found.append(("unseen", None, _way(queue, next_one, [dep])))
            elif not name_at(dep, view, &outcome):
                visited.add(address)
                queue.append((dep, next_one, _edges(dep, None)))
                what = _needs_run(dep)
                if what is not None:
                    found.append((what, None, _way(queue, next_one, [dep])))
            elif outcome.changed_at != seen:
                visited.add(address)
                if is_own_part(dep):
                    found.append(("invalidated", outcome.changed_at, _way(queue, next_one, [])))
                elif _is_query(dep):
                    found.append(_changed_query(queue, next_one, dep, outcome.changed_at))
                else:
                    found.append((
                        "changed", None if outcome.changed_at == NO_OUTCOME else outcome.changed_at,
                        _way(queue, next_one, [dep]),
                    ))
            if PyList_GET_SIZE(found) >= limit:
                break
        next_one += 1
    return found


cdef str _needs_run(Node node):
    """Why a marked query has to run whatever it depends on."""
    if node.flags & FAILED:
        return "failed"
    if not node.flags & (VALUE | EVICTED):
        return "dropped" if node.running is None else None
    if node.flags & UNLINKED:
        return "invalidated" if node.parts is not None and OUTSIDE in node.parts else "forgotten"
    return None


cdef tuple _changed_query(list queue, Py_ssize_t position, Node dep, uint64_t name):
    """A query that has run for somebody else and has another outcome: down to what led to that."""
    cdef list trail, way = _way(queue, position, [dep])
    since = name
    cdef Version version = None if dep.changed_at == name else _version_named(dep, name)
    trail = _trail(
        dep, _edges(dep, version), _place(dep.turned if version is None else version.turned), name
    )
    for step in trail:
        way.append(step[0])
        since = step[1]
    return "changed", since, way


cdef list _way(list queue, Py_ssize_t position, list last):
    """The records from the root of `queue`, without it, to the one at `position`, and `last`."""
    cdef list way = [_record(<Node> each) for each in last]
    while position > 0:
        node, position, _ = <tuple> PyList_GET_ITEM(queue, position)
        way.append(_record(node))
    way.reverse()
    return way
