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

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport PyObject
from libc.string cimport memcpy

from picante._core.errors import IngredientNotFoundError
from picante._core.frame cimport frame_at, picante_append, picante_references, picante_shorten
from picante._core.ingredient cimport Ingredient, cycle_error, describe
from picante._core.node cimport (
    EVICTED, MARKED, NO_OUTCOME, OUTCOME, UNLINKED, VALUE, Edge, Table, Version, begin_transition,
    copy_current, end_transition, name_holds_at,
)
from picante._core.observe cimport VERIFIED, VERIFY_DIFFERENT, VERIFY_SAME, Observation, tell
from picante._core.outcome cimport Outcome, is_unknown, name_at, outcome_at, valid_until
from picante._core.store cimport fits_node, keep_current, keep_version

cdef uint64_t _walks = 0

# The levels of an earlier walk, for the next one: growing them afresh costs as much as looking at an edge or two.
cdef Level *_spare = NULL
cdef Py_ssize_t _spare_capacity = 0
cdef enum:
    MAX_SPARE = 1 << 14
    FEW = 64  # levels that a walk which has ended may keep for itself


@cython.final
cdef class Walk:
    def __dealloc__(self):
        _spare_levels(self)

    cdef int push(self, PyObject *node) except -1:
        """Go down to `node`, whose outcome at the view's revision is not known."""
        if self.depth == self.capacity:
            self.grow()
        self.levels[self.depth].node = node
        self.levels[self.depth].begun = False
        self.levels[self.depth].lost = False
        self.levels[self.depth].checked = self.interruptions
        self.depth += 1
        return 0

    cdef int grow(self) except -1:
        global _spare, _spare_capacity
        cdef Py_ssize_t capacity
        cdef void *grown
        self.refuse_cycle()
        if _spare_capacity > self.capacity and self.capacity:
            memcpy(_spare, self.levels, self.depth * sizeof(Level))
            PyMem_Free(self.levels)
            self.levels = _spare
            self.capacity = _spare_capacity
            _spare = NULL
            _spare_capacity = 0
            return 0
        capacity = 2 * self.capacity if self.capacity else 8
        grown = PyMem_Realloc(self.levels, capacity * sizeof(Level))
        if grown == NULL:
            raise MemoryError
        self.levels = <Level *> grown
        self.capacity = capacity
        return 0

    cdef int refuse_cycle(self) except -1:
        """A path that is longer than there are nodes goes in circles: dependencies made by hand can do that."""
        cdef Py_ssize_t n_nodes = 0, first
        if self.depth < 1024:
            return 0
        for table in self.store.tables.values():
            n_nodes += len((<Table> table).plain) + len((<Table> table).encoded)
        if self.depth > n_nodes:
            self.stand(WAIT)
            first = self.path.index(self.path[-1])
            raise cycle_error(self.path[first:self.path.index(self.path[-1], first + 1) + 1])
        return 0

    cdef int give_up(self, Node node) except -1:
        """The last node of the path has lost its ingredient, so who read it must be computed again.

        Raises:
            IngredientNotFoundError: it is the node that was asked for.
        """
        if self.depth == 1:
            raise IngredientNotFoundError(
                f"{describe(node)} cannot be computed: its ingredient is gone.", kind=(<Table> node.table).kind
            )
        self.pop()
        self.levels[self.depth - 1].lost = True
        return 0

    cdef int pop(self) except -1:
        """Go back up: the outcome of the last node is known."""
        self.depth -= 1
        if PyList_GET_SIZE(self.path) > self.depth:
            picante_shorten(self.path, self.depth)
            if self.keeps_from >= self.depth:
                self.keeps_from = -1
        return 0

    cdef Step stand(self, Step step) except BROKEN:
        """Stop for other code to run: from here on, hold on to the nodes on the way."""
        cdef Py_ssize_t i
        cdef PyObject *node
        cdef PyObject *table = NULL
        cdef PyObject *path = <PyObject *> self.path
        picante_reserve(self.path, self.depth)
        for i in range(PyList_GET_SIZE(self.path), self.depth):
            node = self.levels[i].node
            if (<Node> node).table != table and self.keeps_from < 0:
                table = (<Node> node).table
                self.look_for_kept(table, i)
            picante_append(path, node)
        return step

    cdef void look_for_kept(self, PyObject *table, Py_ssize_t position) noexcept:
        """The node at `position` of the path is one of `table`: perhaps its computation is to be kept."""
        cdef PyObject *ingredient = (<Table> table).link.ingredient
        if ingredient != NULL and (<Ingredient> ingredient).keep:
            self.keeps_from = position

    cdef Step advance(self) except BROKEN:
        """Settle all that can be settled at once; says what must happen to the last node of the path next."""
        cdef Level *level
        cdef Outcome outcome
        cdef Step step
        while self.rush():
            level = &self.levels[self.depth - 1]
            if not level.begun or level.lost or level.checked != self.interruptions:
                if (
                    level.checked != self.interruptions and not is_stale(level.node, self.view)
                    and (not is_unknown(level.node, self.view.revision) or (<Node> level.node).flags & EVICTED)
                    and (
                        outcome_at(<Node> level.node, self.view, &outcome)
                        or (self.depth > 1 or self.by_name) and name_at(<Node> level.node, self.view, &outcome)
                    )
                ):
                    self.pop()  # somebody has seen to it meanwhile, or its computation has just ended
                    continue
                if (<Node> level.node).running is not None and frame_at(<Node> level.node, self.view) is not None:
                    return self.stand(WAIT)
                if level.lost or (
                    (<Node> level.node).flags & (VALUE | UNLINKED) != VALUE and not self.is_evicted(level.node)
                ):
                    return self.stand(EXECUTE)
                level.checked = self.interruptions
                if not level.begun:
                    self.start(level)
            step = self.look(<Node> level.node, level)
            if step == EXECUTE or step == GROUP:
                return self.stand(step)
            if step == DONE:
                if level.marks == self.store.marks and level.verified_at == (<Node> level.node).verified_at:
                    self.settle(<Node> level.node, level)
                    if self.depth == 1 and (<Node> level.node).flags & EVICTED and not self.by_name:
                        return self.stand(EXECUTE)  # for the value; its name is known to hold
                    self.pop()
                else:
                    self.start(level)  # changes came in meanwhile
        return DONE

    cdef bint is_evicted(self, PyObject *node) noexcept:
        """Whether `node`, the last one, was evicted, and it is of use to find out whether its name holds."""
        cdef uint64_t revision = self.view.revision
        return (
            (<Node> node).flags & (EVICTED | UNLINKED) == EVICTED and (<Node> node).valid_since <= revision
            and not name_holds_at(<Node> node, revision)  # else it is the value that is wanted
        )

    cdef Py_ssize_t rush(self) except -1:
        """Do what `advance` does as long as all is plain, in one loop in which nothing else can run; the depth then.

        Plain is what is read in the present, where nobody reads in the past; `advance` does the rest. Most of what
        verifying costs is spent here (`verify_wide`, `verify_chain`), so only what the way leads on from gets a level.
        """
        cdef uint64_t revision = self.view.revision, marks = self.store.marks, number = self.number, since
        cdef Level *level
        cdef Level *last
        cdef Level *own                 # from here on, levels are as this loop has left them, and off the path
        cdef bint has_level = True      # `level` is already that of `node`, but for the edge
        cdef PyObject *node
        cdef PyObject *dep
        cdef PyObject *table
        cdef PyObject *known = NULL     # the last table that the database was found to know ...
        cdef PyObject *entered = NULL   # ... and, of those, that has an ingredient
        cdef Edge *edge
        cdef Edge *end
        if (
            not self.depth or self.view.pinned or PyList_GET_SIZE(self.store.pins) or self.store.observer is not None
            or not _resumes(self, &self.levels[self.depth - 1])
        ):
            return self.depth
        level = own = &self.levels[self.depth - 1]
        last = &self.levels[self.capacity - 1]  # `look` makes room for more
        node = level.node
        edge = (<Node> node).edges + level.edge
        since = level.since
        while True:
            dep = NULL
            end = (<Node> node).edges + (<Node> node).n_edges
            while edge < end:
                dep = edge.dep
                if dep == NULL:
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
                (<Node> node).valid_since = since
                (<Node> node).flags = (<Node> node).flags & ~MARKED  # `&=` would hold on to it meanwhile
                if level == self.levels:
                    self.depth = 0
                    return self.forget_path(0)
                level -= 1
                if level < own:
                    own = level
                    if not _resumes(self, level):
                        break
                has_level = True
                edge = (<Node> level.node).edges + level.edge
                end = (<Node> level.node).edges + (<Node> level.node).n_edges
                if edge < end and edge.dep == node and (<Node> node).changed_at == edge.seen:
                    edge += 1  # the way has led to it by this edge, so the database knows its kind
                    since = max(since, level.since)
                else:
                    since = level.since
                node = level.node
                continue
            level.edge = level.told = <uint32_t> (edge - (<Node> node).edges)
            level.since = since
            level.checked = self.interruptions
            if not has_level:
                level.node = node
                level.begun = level.clean = True
                level.lost = False
                level.verified_at = (<Node> node).verified_at
                level.marks = marks
            if dep == NULL or edge.group or edge.seen == NO_OUTCOME or not is_plain(dep, revision) or level == last:
                break
            table = (<Node> dep).table
            if table != entered:
                if (<Table> table).checked_by != number or (<Table> table).link.ingredient == NULL:
                    break
                entered = table
            level += 1
            node = dep
            has_level = False
            edge = (<Node> node).edges
            since = 0
        self.depth = level - self.levels + 1
        self.forget_path(own - self.levels + 1)
        return self.depth

    cdef int forget_path(self, Py_ssize_t depth) except -1:
        """All of the path from `depth` on is not the way any more."""
        if PyList_GET_SIZE(self.path) > depth:
            if self.keeps_from >= depth:
                self.keeps_from = -1
            del self.path[depth:]
        return 0

    cdef void start(self, Level *level) noexcept:
        level.begun = True
        level.edge = level.told = 0
        level.clean = True
        level.since = 0
        level.verified_at = (<Node> level.node).verified_at
        level.marks = self.store.marks

    cdef Step look(self, Node node, Level *level) except BROKEN:
        """Compare what `node` saw with what is there: EXECUTE at the first difference, WAIT to look once more.

        Where somebody reads in the past, this loop is what verifying an edge costs, hence the borrowed pointers:
        nothing in it can drop a node, up to the call after which it returns.
        """
        cdef Edge *edge = node.edges + level.edge
        cdef Edge *end = node.edges + node.n_edges
        cdef PyObject *dep
        cdef Outcome outcome
        cdef uint64_t changed_at, valid_since, since = level.since, revision = self.view.revision
        cdef Step step = DONE
        while edge < end:
            dep = edge.dep
            if dep == NULL or edge.seen == NO_OUTCOME:
                step = EXECUTE
                break
            if (<Table> (<Node> dep).table).checked_by != self.number:
                if is_current(dep, revision) and (<Node> dep).changed_at != edge.seen:
                    step = EXECUTE  # whether or not the database knows its kind
                    break
                # Asking the database may run anything, so look once more from here.
                level.edge = <uint32_t> (edge - node.edges)
                level.since = since
                self.stand(WAIT)
                return WAIT if self.knows(<Node> dep) else EXECUTE
            if is_current(dep, revision):
                changed_at = (<Node> dep).changed_at
                valid_since = (<Node> dep).valid_since
            elif is_stale(dep, self.view):
                step = WAIT
                break
            elif name_at(<Node> dep, self.view, &outcome):
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
        if self.store.observer is not None:
            self.tell_edges(node, level, step)
        else:
            level.told = level.edge
        if step == WAIT:
            if (<Table> (<Node> dep).table).link.ingredient == NULL:
                return EXECUTE  # nobody is left who could bring it up to date
            if edge.group and self.leads_to_group(node, level):
                return GROUP
            self.push(dep)
        return step

    cdef void tell_edges(self, Node node, Level *level, Step step) noexcept:
        """Let observers know what was found at the edges of `node`, up to where the walk stands."""
        cdef uint32_t i
        cdef Observation hub = self.store.observer
        if hub.wanted >> VERIFY_SAME & 1:
            # Where the database was asked for an ingredient, `node` may have got other edges, and fewer.
            for i in range(level.told, min(level.edge, node.n_edges)):
                hub.emit(
                    VERIFY_SAME, <PyObject *> node, self.number, 0, self.view.revision, 0, node.edges[i].dep, NULL
                )
        level.told = level.edge
        if step == EXECUTE and hub.wanted >> VERIFY_DIFFERENT & 1:
            hub.emit(
                VERIFY_DIFFERENT, <PyObject *> node, self.number, 0, self.view.revision, 0, node.edges[level.edge].dep,
                NULL,
            )

    cdef bint leads_to_group(self, Node node, Level *level) noexcept:
        """Whether more than the next edge of its group leads to what may be out of date."""
        cdef uint32_t i
        cdef Edge *edge
        for i in range(level.edge + 1, node.n_edges):
            edge = &node.edges[i]
            if edge.group != node.edges[level.edge].group:
                return False
            if edge.dep != NULL and self.must_update(edge.dep):
                return True
        return False

    cdef bint must_update(self, PyObject *node) noexcept:
        """Whether the outcome of `node` is not known at this view, and there is somebody who can find it out."""
        cdef Outcome outcome
        if (<Table> (<Node> node).table).link.ingredient == NULL:
            return False
        return is_stale(node, self.view) or self.view.pinned and not name_at(<Node> node, self.view, &outcome)

    cdef list stale_group(self):
        """The nodes of the group at which the walk stands that may be out of date: they were read at once, whatever
        one of them had turned out to be, so that all may be brought up to date at once."""
        cdef Level *level = &self.levels[self.depth - 1]
        cdef Node node = <Node> level.node
        cdef list nodes = []
        cdef uint32_t i
        for i in range(level.edge, node.n_edges):
            if node.edges[i].group != node.edges[level.edge].group:
                break
            if node.edges[i].dep != NULL and self.must_update(node.edges[i].dep):
                nodes.append(<Node> node.edges[i].dep)
        return nodes

    cdef bint knows(self, Node node) except -1:
        """Whether the database knows the kind of `node` (r[cell.revalidate-missing]); asked once a walk.

        A database that cannot be asked knows all that its queries have read.
        """
        cdef Table table = <Table> node.table
        lookup = getattr(self.db, "ingredient", None)
        self.interruptions += 1
        if lookup is not None and lookup(table.kind) is None:
            return False
        table.checked_by = self.number
        return True

    cdef int settle(self, Node node, Level *level) except -1:
        """All that `node` read is as it was, so it holds at the view's revision as well (r[revision.verified-at])."""
        cdef uint64_t since = level.since, until = self.store.present.revision
        cdef bint clean = level.clean, collecting
        cdef Version version
        cdef uint32_t i
        if self.store.observer is not None:
            tell(self.store.observer, VERIFIED, node, self.number, 0, self.view.revision, 0)
        if clean and node.history is None and not PyList_GET_SIZE(self.store.pins):
            node.valid_since = since  # nobody reads in the past
            node.flags &= ~MARKED
            return 0
        collecting = begin_transition()
        try:
            for i in range(node.n_edges):
                until = min(until, valid_until(<Node> node.edges[i].dep, node.edges[i].seen, self.view))
            if fits_node(node, node.changed_at, self.view.revision, &since, &until, &clean):
                keep_current(self.store, node, node.verified_at, since, <uint64_t> -1 if clean else until)
                node.valid_since = since
                if clean:
                    node.flags &= ~MARKED
                else:
                    node.verified_at = until
            elif node.flags & OUTCOME:
                version = copy_current(node, until)
                version.valid_since = since
                keep_version(self.store, node, self.view, version)
        finally:
            end_transition(collecting)
        return 0


cdef inline bint _resumes(Walk walk, Level *level) noexcept:
    """Whether `rush` may go on at `level`, the last but for those it has come from, which then says from where."""
    if level.lost or not is_plain(level.node, walk.view.revision):
        return False
    if (
        level.marks != walk.store.marks or level.verified_at != (<Node> level.node).verified_at
        or not level.begun or not level.clean
    ):
        walk.start(level)
    return True


cdef Walk new_walk():
    return Walk()


cdef int begin_walk(Walk walk, Store store, object db, Node root) except -1:
    """Let `walk`, which is new or has ended, be one from `root`."""
    global _walks
    if walk.path is None:
        walk.path = []
    walk.store = store
    walk.db = db
    _walks += 1
    walk.number = _walks
    walk.interruptions = 0
    walk.by_name = False
    walk.push(<PyObject *> root)
    walk.keeps_from = -1
    walk.stand(WAIT)
    walk.levels[0].checked = <uint64_t> -1  # what was known of it may be old when the walk takes its first step
    return 0


cdef int end_walk(Walk walk) except -1:
    """Let go of all that `walk` refers to; another one may begin with it."""
    walk.depth = 0
    walk.store = None
    walk.view = None
    walk.db = None
    if walk.capacity > FEW:
        _spare_levels(walk)
        walk.path = None
    elif picante_references(<PyObject *> walk.path) == 1:
        picante_shorten(walk.path, 0)
    else:
        walk.path = None
    return 0


cdef void _spare_levels(Walk walk) noexcept:
    global _spare, _spare_capacity
    if _spare_capacity < walk.capacity <= MAX_SPARE:
        _spare, walk.levels = walk.levels, _spare
        _spare_capacity = walk.capacity
    PyMem_Free(walk.levels)
    walk.levels = NULL
    walk.capacity = 0
