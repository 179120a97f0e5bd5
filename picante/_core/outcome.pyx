"""What a node is known to have as of a view: the outcome, or where it was evicted at least its name."""

from picante._core.node cimport (
    ABSENT, EVICTED, MARKED, NAMED, NO_OUTCOME, OUTCOME, PART, Table, find_version, holds_at, name_holds_at,
)


cdef bint outcome_at(Node node, View view, Outcome *outcome) noexcept:
    """The outcome of `node` as of `view`; False if it is not known."""
    cdef Version version = None
    if holds_at(node, view.revision):
        outcome.flags = node.flags & OUTCOME
        outcome.value = <PyObject *> node.value
        outcome.changed_at = node.changed_at
        outcome.valid_since = node.valid_since
        outcome.clean = not node.flags & MARKED
        outcome.valid_until = node.verified_at if node.flags & MARKED else <uint64_t> -1
        return True
    outcome.clean = False
    if node.history is not None:
        version = find_version(node, view.revision)
    if version is not None:
        open_version(version, outcome)
        return True
    if (<Table> node.table).derived and not node.flags & PART:
        return False
    # An input that came after this revision. Of a part of one nothing is known, which differs from everything.
    outcome.flags = ABSENT
    outcome.value = <PyObject *> None
    outcome.changed_at = NO_OUTCOME if node.flags & PART else 0
    outcome.valid_since = 0
    outcome.valid_until = view.revision
    return True


cdef bint name_at(Node node, View view, Outcome *outcome) noexcept:
    """The same, where it is enough to know the name: the value may be evicted."""
    if outcome_at(node, view, outcome):
        return True
    if not node.flags & EVICTED or not name_holds_at(node, view.revision):
        return False
    outcome.flags = EVICTED
    outcome.value = <PyObject *> None
    outcome.changed_at = node.changed_at
    outcome.valid_since = node.valid_since
    outcome.clean = not node.flags & MARKED
    outcome.valid_until = node.verified_at if node.flags & MARKED else <uint64_t> -1
    return True


cdef Version outcome_of(Node node, View view, bint by_name):
    """The outcome of `node` at `view`, or None, for who waits for it: it may be evicted before he gets his turn."""
    cdef Outcome outcome
    cdef Version version = Version()  # first: making it may run finalizers, and those may evict
    if not outcome_at(node, view, &outcome) and not (by_name and name_at(node, view, &outcome)):
        return None
    version.flags = outcome.flags
    version.value = <object> outcome.value
    version.changed_at = outcome.changed_at
    version.valid_since = outcome.valid_since
    version.valid_until = outcome.valid_until
    return version


cdef void open_version(Version version, Outcome *outcome) noexcept:
    outcome.flags = version.flags & NAMED
    outcome.value = <PyObject *> version.value
    outcome.changed_at = version.changed_at
    outcome.valid_since = version.valid_since
    outcome.valid_until = version.valid_until
    outcome.clean = False


cdef uint64_t valid_until(Node dep, uint64_t seen, View view) noexcept:
    """Up to where `dep` is known to have the outcome `seen` that it has at `view`; at least the view's revision."""
    cdef Outcome outcome
    if seen == NO_OUTCOME or not name_at(dep, view, &outcome) or outcome.changed_at != seen:
        return view.revision
    return outcome.valid_until
