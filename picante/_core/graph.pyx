"""The dependency graph as it is looked at from outside: records, without their parts."""

from picante._core.node cimport (
    EVICTED, FAILED, MARKED, VALUE, Table, Version, collect_dependents, find_version, holds_at, is_own_part, node_key,
    read_by,
)


cdef void end_at(Node node, uint64_t revision) noexcept:
    """Let what marked `node` holds no longer be known to hold at `revision`, the present one."""
    if node.flags & MARKED and node.verified_at >= revision:
        if revision:
            node.verified_at = revision - 1
        else:
            node.valid_since = 1  # there is no revision before the first


cdef list dependents_of(Node record):
    """All that depends on `record` or on a part of it, directly or not."""
    cdef list found = []
    cdef set seen = set()
    collect_dependents(record, found, seen)
    if record.parts is not None:
        for part in record.parts.values():
            collect_dependents(<Node> part, found, seen)
    return found


cdef bint dates_from(Node node, uint64_t revision) noexcept:
    return node.flags & (VALUE | FAILED | EVICTED) and node.changed_at == revision


cdef tuple identity_of(Node node):
    """The kind and the encoded key of the record that `node` is, or is a part of."""
    return (<Table> node.table).kind, node_key(node)


cdef list all_nodes(Store store):
    nodes = []
    for table in list(store.tables.values()):
        nodes += (<Table> table).plain.values()
        nodes += (<Table> table).encoded.values()
    return nodes


cdef list deps_at(Node node, View view):
    """The nodes that the outcome of `node` read, for the present or as of `view`."""
    cdef Version version
    if view is None or holds_at(node, view.revision):
        return read_by(node)
    version = find_version(node, view.revision)
    if version is None:
        return None
    return [dep for dep in version.deps if dep is not None and not is_own_part(<Node> dep)]
