"""Revalidation: is what a memo read still what it would read? (r[cell.revalidate])

A walk goes from a node that may be out of date down its edges, *in the order in which they were read*, and
brings each up to date before it looks at the next. At the first outcome that differs from the one seen it stands
still: that node must be computed again, and nothing behind that edge is touched, for a rerun may not even
ask for it. Where all are as they were, the node settles and the walk returns to who led to it.

The walk itself never awaits (its driver does, in `execute`), is a loop over a stack of its own, and allocates
nothing per edge. Other code can run only where the driver awaits and where the database is asked for an ingredient;
each counts as an interruption, and a level that was interrupted looks at all of its edges once more before it settles:
a node settles only on what is true at that very instant.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport PyObject

from picante._core.frame cimport frame_at
from picante._core.node cimport (
    ABSENT, MARKED, NO_OUTCOME, OUTCOME, PART, UNLINKED, VALUE, Edge, Table, Version, begin_transition, copy_current,
    end_transition, find_version, holds_at,
)
from picante._core.store cimport fits_node, keep_current, keep_version

cdef uint64_t _walks = 0


@cython.final
@cython.freelist(16)
cdef class Walk:
    def __dealloc__(self):
        PyMem_Free(self.levels)

    cdef int push(self, Node node) except -1:
        cdef Py_ssize_t n = PyList_GET_SIZE(self.path), capacity
        cdef void *grown
        if n == self.capacity:
            capacity = 2 * n if n else 8
            grown = PyMem_Realloc(self.levels, capacity * sizeof(Level))
            if grown == NULL:
                raise MemoryError
            self.levels = <Level *> grown
            self.capacity = capacity
        self.path.append(node)
        self.levels[n].begun = False
        return 0

    cdef Step advance(self) except? WAIT:
        """Settle all that can be settled at once; says what must happen to the last node of the path next."""
        cdef Py_ssize_t n
        cdef Node node
        cdef Level *level
        cdef Outcome outcome
        cdef Step step
        while True:
            n = PyList_GET_SIZE(self.path)
            if n == 0:
                return DONE
            node = <Node> PyList_GET_ITEM(self.path, n - 1)
            level = &self.levels[n - 1]
            if not level.begun or level.interruptions != self.interruptions:  # others may have seen to it
                if outcome_at(node, self.view, &outcome):
                    del self.path[n - 1]
                    continue
                if frame_at(node, self.view) is not None:
                    return WAIT
                if not node.flags & VALUE or node.flags & UNLINKED:
                    return EXECUTE
                if not level.begun:
                    self.start(level)
            step = self.look(node, level)
            if step == EXECUTE:
                return EXECUTE
            if step == DONE:
                if level.interruptions == self.interruptions:
                    self.settle(node, level)
                    del self.path[n - 1]
                else:
                    self.start(level)

    cdef void start(self, Level *level) noexcept:
        level.begun = True
        level.edge = 0
        level.clean = True
        level.since = 0
        level.interruptions = self.interruptions

    cdef Step look(self, Node node, Level *level) except? WAIT:
        """Compare what `node` saw with what is there: EXECUTE at the first difference, WAIT to look once more."""
        cdef Edge *edge
        cdef Node dep
        cdef Outcome outcome
        cdef uint64_t changed_at, since
        cdef uint64_t revision = self.view.revision
        while level.edge < node.n_edges:
            edge = &node.edges[level.edge]
            if edge.dep == NULL or edge.seen == NO_OUTCOME:
                return EXECUTE
            dep = <Node> edge.dep
            if self.number and (<Table> dep.table).checked_by != self.number:
                if not self.knows(dep):
                    return EXECUTE
                return WAIT  # the database was asked, which may have run anything
            if not dep.flags & MARKED and dep.valid_since <= revision and dep.flags & OUTCOME:
                changed_at = dep.changed_at
                since = dep.valid_since
            elif outcome_at(dep, self.view, &outcome):
                changed_at = outcome.changed_at
                since = outcome.valid_since
                level.clean = level.clean and outcome.clean
            elif (<Table> dep.table).ingredient == NULL:
                return EXECUTE
            else:
                self.push(dep)
                return WAIT
            if changed_at != edge.seen:
                return EXECUTE
            if since > level.since:
                level.since = since
            level.edge += 1
        return DONE

    cdef bint knows(self, Node node) except -1:
        """Whether the database knows the kind of `node` (r[cell.revalidate-missing]); asked once a walk."""
        cdef Table table = <Table> node.table
        self.interruptions += 1
        if self.db.ingredient(table.kind) is None:
            return False
        table.checked_by = self.number
        return True

    cdef int settle(self, Node node, Level *level) except -1:
        """All that `node` read is as it was, so it holds at the view's revision as well (r[revision.verified-at])."""
        cdef uint64_t revision = self.view.revision, since = level.since
        cdef bint clean = level.clean, collecting
        cdef Version version
        collecting = begin_transition()
        try:
            if fits_node(node, revision, &since, &clean):
                keep_current(self.store, node, node.verified_at, since, <uint64_t> -1 if clean else revision)
                node.valid_since = since
                if clean:
                    node.flags &= ~MARKED
                else:
                    node.verified_at = revision
            else:
                version = copy_current(node, revision)
                version.valid_since = since
                keep_version(self.store, node, self.view, version)
        finally:
            end_transition(collecting)
        return 0


cdef Walk new_walk(Store store, View view, db, Node root):
    global _walks
    cdef Walk walk = Walk()
    walk.store = store
    walk.view = view
    walk.db = db
    walk.path = []
    if hasattr(db, "ingredient"):
        _walks += 1
        walk.number = _walks
    walk.push(root)
    return walk


cdef bint outcome_at(Node node, View view, Outcome *outcome) noexcept:
    """The outcome of `node` as of `view`; False if it is not known."""
    cdef Version version
    if holds_at(node, view.revision):
        outcome.flags = node.flags & OUTCOME
        outcome.value = <PyObject *> node.value
        outcome.changed_at = node.changed_at
        outcome.valid_since = node.valid_since
        outcome.clean = not node.flags & MARKED
        return True
    outcome.clean = False
    version = find_version(node, view.revision)
    if version is not None:
        outcome.flags = version.flags & OUTCOME
        outcome.value = <PyObject *> version.value
        outcome.changed_at = version.changed_at
        outcome.valid_since = version.valid_since
        return True
    if (<Table> node.table).derived:
        return False
    # An input that came after this revision. Of a part of one nothing is known, which differs from everything.
    outcome.flags = ABSENT
    outcome.value = <PyObject *> None
    outcome.changed_at = NO_OUTCOME if node.flags & PART else 0
    outcome.valid_since = 0
    return True
