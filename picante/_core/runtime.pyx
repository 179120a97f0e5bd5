"""Revisions, changes of inputs, the public view of the dependency graph, and events (r[runtime.components]).

`Runtime.commit` is the only way in which inputs change: it begins a revision, puts the new outcomes in
place, keeps the old for those who still read them, and marks what may be affected, all in one transition. Comparing
old and new, which runs user code, comes before it; telling subscribers comes after.
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE

from picante._core.change cimport Write, apply_write, change, collect_changed, is_up_to_date
from picante._core.databases import remember_database
from picante._core.errors import PicanteError, SnapshotClosedError, SnapshotFrozenError, WriteInQueryError
from picante._core.evict cimport new_limits
from picante._core.events import (
    EventHub, InputRemoved, InputSet, QueryChanged, QueryInvalidated, RevisionBumped, RevisionSet,
)
from picante._core.frame cimport OUTSIDE, Frame, current_frame, read_outside
from picante._core.graph cimport all_nodes, dates_from, dependents_of, deps_at, end_at, identity_of
from picante._core.key cimport Dep, DynKey
from picante._core.key cimport revision as new_revision
from picante._core.key import Revision
from picante._core.node cimport (
    ABSENT, EVICTED, FAILED, MARKED, NO_OUTCOME, PART, UNLINKED, VALUE, Edge, Table, begin_transition,
    collect_dependents, drop_edges, end_transition, name_holds_at, release_slot, replace_edges, reserve_edges,
    set_parts,
)
from picante._core.observe cimport INPUT_REMOVED, INPUT_SET, INVALIDATED, flush, tell
from picante._core.raised cimport leave_to_others, lend_failures
from picante._core.recorder import ChangeRecorder
from picante._core.recorder cimport record_invalidated, record_writes
from picante._core.sharing cimport share, unlink_versions
from picante._core.store cimport (
    add_reader, advance, claim, enter_view, leave_view, mark_from, node_for, remove_reader, sweep,
)


@cython.final
cdef class Runtime(Reader):
    """The state of one database: its revision counter, its dependency graph and its event channels.

    A database is any object that has one of these as its `runtime`.

    >>> runtime = Runtime()
    >>> runtime.current_revision
    Revision(0)
    >>> runtime.bump_revision()
    Revision(1)
    """

    def __cinit__(self, Store store=None):
        if store is None:
            self.store = Store()
            remember_database(self.store.id, self)
        else:
            self.store = store

    def __del__(self):
        if self.view is not None:
            self.close()

    def __repr__(self):
        return f"<Runtime {int(self.id)} at {self.current_revision!r}{', closed' if self.closed else ''}>"

    def __reduce__(self):
        raise TypeError("A Runtime cannot be pickled: it is the live state of a database. Save the cache instead.")

    @property
    def id(self):
        """The `RuntimeId`, shared by a database and its snapshots (r[snapshot.runtime-id])."""
        return self.store.id

    @property
    def current_revision(self):
        """The `Revision` that a read which begins now sees (r[revision.type])."""
        return new_revision(self.store.present.revision if self.view is None else self.view.revision)

    @property
    def limits(self):
        """How many memos are kept, and how many bytes they may take: `runtime.limits.max_memos = 10_000`."""
        return new_limits(self.store, None, self.view is not None)

    # -- revisions

    def bump_revision(self):
        """Begin the next revision without a change of any input, and return it (r[revision.bump]).

        Memos stay valid; only failures end with their revision.
        """
        self.check_writable()
        return new_revision(self.commit(None))

    def set_current_revision(self, revision):
        """Go forward to `revision`; meant for restoring a cache (r[revision.set]).

        Raises:
            ValueError: `revision` is lower than the current one, or none.
        """
        cdef uint64_t target = Revision(revision)
        cdef list trash = []  # dropped after the transition
        cdef bint collecting
        self.check_writable()
        if target < self.store.present.revision:
            raise ValueError(
                f"The revision cannot go back from {self.store.present.revision} to {target}: it only ever increases."
            )
        if target == <uint64_t> -1:
            raise OverflowError("The highest revision is 2**64 - 2: one more stands for reads without an outcome.")
        if target > self.store.present.revision:
            collecting = begin_transition()
            try:
                advance(self.store, target, trash)
            finally:
                end_transition(collecting)
            if self.store.observer is not None:
                flush(self.store.observer)
        if self.hub is not None:
            self.hub.publish_revision(Revision(target))
            if self.hub.has_event_receivers:
                self.hub.emit(RevisionSet(Revision(target)))

    # -- snapshots

    def snapshot(self):
        """The runtime of a snapshot: this one's state as it is now, frozen (r[snapshot.frozen]).

        It has the same `id` and its own events. A hand-made database that has it as its `runtime` is a snapshot;
        `picante.Snapshot.from_database(db)` makes one of any database. It costs the same for any size of it, and what
        it needs is kept for it until it is closed or dropped.
        """
        cdef Runtime frozen = Runtime.__new__(Runtime, self.store)
        share(self.store)
        frozen.view = view_of(self)  # chosen last: making objects may run finalizers, and those may begin a revision
        enter_view(frozen.view)
        claim(self.store, frozen.view)
        add_reader(frozen.view, frozen)
        lend_failures(self.store)
        return frozen

    @property
    def is_closed(self):
        """Whether this is the runtime of a snapshot that was closed: nothing more is read through it."""
        return self.closed

    def close(self):
        """End a snapshot: what was kept only for it is freed at once. Queries that run on it go on to their ends.

        Raises:
            PicanteError: this is the runtime of a database, which has no end.
        """
        if self.view is None:
            raise PicanteError("Only a snapshot can be closed: this is the runtime of the database itself.")
        if not self.closed:
            self.closed = True
            remove_reader(self.view, self)
            if self.raised is not None:
                leave_to_others(self.store, self.view, self.raised)
                self.raised = None
            leave_view(self.store, self.view)

    # -- events

    def subscribe_events(self):
        """A receiver of all `picante.events` from now on: the newest 1024 are kept for it (r[event.channel])."""
        return self._ensure_hub().subscribe_events()

    def subscribe_revisions(self):
        """A receiver of the newest revision (r[event.channel])."""
        return self._ensure_hub().subscribe_revisions(self.current_revision)

    def _ensure_hub(self):
        hub = EventHub()
        if self.hub is None:  # making one takes its time, in which another may have come
            self.hub = hub
        return self.hub

    def record_changes(self):
        """A recorder of every committed change from now on, in order and without a limit: see `ChangeRecorder`.

        What `subscribe_events` gives is for watching. This is for who would be wrong if he missed one.
        """
        self.check_writable()
        recorders = []
        if self.recorders is None:
            self.recorders = recorders
        return ChangeRecorder(self.recorders)

    cdef bint has_event_receivers(self) except -1:
        return self.hub is not None and self.hub.has_event_receivers

    # -- changes

    cdef int check_writable(self) except -1:
        frame = current_frame()
        if frame is not None:
            raise WriteInQueryError(
                "A query only reads, but this one tried to change the database. Make the change where the query is "
                "called, before or after it."
            )
        if self.view is not None:
            view_of(self)
            raise SnapshotFrozenError(
                f"This snapshot is frozen at revision {self.view.revision}. Change the database that it was taken from."
            )
        return 0

    cdef uint64_t commit(self, list writes) except? 0:
        """Apply `writes` as one revision and return it; 0 when one of them was compared with what is gone by now.

        With None the revision begins and nothing changes.
        """
        cdef Store store = self.store
        cdef uint64_t revision, until
        cdef list trash = [], invalidated = None
        cdef Write write
        cdef bint collecting, listening = self.has_event_receivers()
        if store.present.revision == <uint64_t> -2:
            raise OverflowError("The revision counter is exhausted.")
        if listening and writes is not None:
            invalidated = [([], set()) for _ in writes]
        collecting = begin_transition()
        try:
            if writes is not None:
                for write in writes:
                    if not is_up_to_date(write):
                        return 0
            revision = store.present.revision + 1
            until = advance(store, revision, trash)
            if writes is not None:
                for write in writes:
                    apply_write(store, write, revision, until, trash)
                    if store.observer is not None:
                        tell(
                            store.observer, INPUT_SET if write.flags & VALUE else INPUT_REMOVED, write.slot, 0, 0,
                            revision, 0,
                        )
                if self.recorders:
                    record_writes(self.recorders, revision, writes)
                if listening:
                    for write, (found, seen) in zip(writes, invalidated):
                        collect_changed(write, found, seen)
        finally:
            end_transition(collecting)
        if store.observer is not None:
            flush(store.observer)
        if self.hub is not None:
            self._announce(revision, writes, invalidated)
        return revision

    def _announce(self, uint64_t number, list writes, list invalidated):
        """Tell subscribers of a change, in order (r[event.types])."""
        revision = new_revision(number)
        self.hub.publish_revision(revision)
        if invalidated is None and not self.hub.has_event_receivers:
            return
        self.hub.emit(RevisionBumped(revision))
        if invalidated is None:
            return
        for write, (nodes, _) in zip(writes, invalidated):
            slot = (<Write> write).slot
            kind, key = identity_of(slot)
            if (<Write> write).flags & VALUE:
                self.hub.emit(InputSet(kind, key.hash, key, revision, revision))
            else:
                self.hub.emit(InputRemoved(kind, key.hash, key, revision))
            self._emit_invalidated(nodes, kind, key)

    def _emit_invalidated(self, list nodes, by_kind, by_key):
        revision = self.current_revision
        for node in nodes:
            kind, key = identity_of(<Node> node)
            self.hub.emit(QueryInvalidated(kind, key.hash, key, by_kind, by_key, revision))

    cdef uint64_t invalidate(self, Node cell) except? 0:
        """Begin a revision at which the derived `cell` must be computed again, whatever it has read.

        The world outside is a part of the cell: its computations read it first, and this changes it. A memo, and a
        computation that is under way, from before anybody spoke of the world outside, are told that they have read it.
        """
        cdef Store store = self.store
        cdef Node part = Node()
        cdef Frame frame
        cdef uint64_t revision, until
        cdef list trash = [], found = []
        cdef set seen = set()
        part.table = cell.table
        part.key = cell.key
        part.encoded = cell.encoded
        part.flags = VALUE | PART
        cdef bint collecting = begin_transition()
        try:
            if cell.parts is None:
                set_parts(cell, {OUTSIDE: part})
                cell.flags |= UNLINKED  # no edge of the memo leads to the new part
                unlink_versions(store, cell)
            part = cell.parts[OUTSIDE]
            frame = cell.running
            while frame is not None:
                read_outside(frame)
                frame = frame.sibling
            revision = store.present.revision + 1
            until = advance(store, revision, trash)
            change(store, part, VALUE | PART, None, revision, until, trash)
            if self.recorders:
                record_invalidated(self.recorders, revision, cell)
            if cell.flags & (VALUE | FAILED | EVICTED):
                if not cell.flags & MARKED:
                    cell.flags |= MARKED
                    cell.verified_at = until
                mark_from(store, cell, until)
            found.append(cell)
            collect_dependents(cell, found, seen)
            if store.observer is not None:
                tell(store.observer, INVALIDATED, cell, 0, 0, revision, 0)
        finally:
            end_transition(collecting)
        if store.observer is not None:
            flush(store.observer)
        if self.hub is not None:
            self._announce(revision, None, None)
            if self.hub.has_event_receivers:
                self._emit_invalidated(found, *identity_of(cell))
        return revision

    # -- the dependency graph

    def update_query_deps(self, query, deps):
        """Say what `query` depends on, in place of what was recorded (r[runtime.update-deps])."""
        self.check_writable()
        cdef Node node = self.node_of(query)
        cdef list nodes = list(dict.fromkeys([self.node_of(dep) for dep in deps]))
        cdef uint32_t i
        if (<Table> node.table).members is not None:
            raise ValueError("An input depends on nothing: only queries have dependencies.")
        cdef bint collecting = begin_transition()
        try:
            if node.parts is not None and (<Table> node.table).derived:
                nodes.insert(0, node.parts[OUTSIDE])  # nobody can say that it does not read the world outside
            edges = reserve_edges(nodes)
            _note_seen(node, edges, <uint32_t> PyList_GET_SIZE(nodes), self.store.present.revision)
            for i in range(node.n_edges):
                if node.edges[i].dep != NULL:
                    self.store.idle.append(<Node> node.edges[i].dep)
            replace_edges(node, edges, <uint32_t> PyList_GET_SIZE(nodes))
            unlink_versions(self.store, node)
            node.flags &= ~UNLINKED
            if node.flags & (VALUE | FAILED | EVICTED) and not node.flags & MARKED:
                # An unmarked node must not have marked dependencies; let it look at them when it is next asked for.
                node.flags |= MARKED
                node.verified_at = self.store.present.revision
            mark_from(self.store, node, self.store.present.revision)
        finally:
            end_transition(collecting)
        del nodes
        sweep(self.store)

    def clear_dependency_graph(self):
        """Forget all dependencies (r[runtime.clear-deps]).

        Memos stay hits at the present revision; from the next one on they are computed again.
        """
        self.check_writable()
        cdef Node node
        cdef bint collecting = begin_transition()
        try:
            self.store.marks += 1
            for node in all_nodes(self.store):
                drop_edges(node)
                unlink_versions(self.store, node)
                if node.flags & (VALUE | FAILED | EVICTED) and (<Table> node.table).derived:
                    node.flags |= UNLINKED
                    if not node.flags & MARKED:
                        node.flags |= MARKED
                        node.verified_at = self.store.present.revision
        finally:
            end_transition(collecting)

    def notify_input_set(self, kind, key, changed_at):
        """Announce that an input was set, and invalidate what depends on it (r[runtime.notify-input-set])."""
        self._notify(kind, key, Revision(changed_at), True)

    def notify_input_removed(self, kind, key, changed_at):
        """Announce that an input was removed, and invalidate what depends on it."""
        self._notify(kind, key, Revision(changed_at), False)

    def propagate_invalidation(self, kind, key):
        """Mark all that depends on `(kind, key)`, directly or not, as perhaps out of date.

        r[runtime.propagate-invalidation]. What is marked is verified when it is next asked
        for, and computed again only if something did change.
        """
        self.check_writable()
        node = self.node_of(DynKey(kind, key))
        self._invalidate(node)
        del node
        sweep(self.store)

    def _notify(self, kind, key, changed_at, bint present):
        self.check_writable()
        cdef Node node = self.node_of(DynKey(kind, key))
        if (<Table> node.table).link.ingredient == NULL:
            # A record that is kept elsewhere: this call is all we learn of it, and each call tells of another outcome.
            node.changed_at = max(<uint64_t> changed_at, node.changed_at + 1)
            node.valid_since = min(<uint64_t> changed_at, self.store.present.revision)
            release_slot(node)
            node.flags = VALUE if present else ABSENT
        if self.has_event_receivers():
            kind, key = identity_of(node)
            self.hub.emit(
                InputSet(kind, key.hash, key, changed_at, self.current_revision) if present
                else InputRemoved(kind, key.hash, key, self.current_revision)
            )
        self._invalidate(node)
        node = None
        sweep(self.store)

    def _invalidate(self, Node node):
        cdef uint64_t present
        cdef list found = dependents_of(node)
        if self.store.present.users or any([dates_from(each, self.store.present.revision) for each in found]):
            # Who reads at this revision goes on to see what was there; and two outcomes of one revision have one name.
            self.commit(None)
        cdef bint collecting = begin_transition()
        try:
            present = self.store.present.revision
            mark_from(self.store, node, present - 1 if present else 0)
            if node.parts is not None:
                for each in node.parts.values():
                    mark_from(self.store, <Node> each, present - 1 if present else 0)
            found = dependents_of(node)
            for each in found:
                end_at(<Node> each, present)
        finally:
            end_transition(collecting)
        if self.has_event_receivers():
            kind, key = identity_of(node)
            self._emit_invalidated(found, kind, key)
        self.store.idle.append(node)  # a caller that lets go of it sweeps

    def forward_deps(self):
        """What each query read: `dict[DynKey, tuple[Dep, ...]]`, made when asked for (r[dep.forward])."""
        deps = {}
        cdef Node node
        view_of(self)
        for node in all_nodes(self.store):
            read = deps_at(node, self.view)
            if read:
                deps[DynKey(*identity_of(node))] = tuple(dict.fromkeys([Dep(*identity_of(dep)) for dep in read]))
        return deps

    def reverse_deps(self):
        """Which queries read each record: `dict[DynKey, frozenset[DynKey]]`, made when asked for (r[dep.reverse])."""
        readers = {}
        for query, deps in self.forward_deps().items():
            for dep in deps:
                readers.setdefault(DynKey(dep.kind, dep.key), []).append(query)
        return {dep: frozenset(queries) for dep, queries in readers.items()}

    cdef Node node_of(self, dyn_key):
        """The node of a `DynKey` or `Dep`, made where there was none."""
        if type(dyn_key) is not DynKey and type(dyn_key) is not Dep:
            raise TypeError(f"Expected a DynKey or a Dep, not {type(dyn_key).__qualname__}.")
        return node_for(self.store, dyn_key.kind, dyn_key.key)


cdef int _note_seen(Node node, Edge *edges, uint32_t n_edges, uint64_t present) except -1:
    """Say of `edges`, which `node` is about to get, what its memo has seen: what is there now, if it holds now.

    Else what it is known to have seen, or what was there when it was last known to hold: it must not be taken for
    one that has seen what has changed since.
    """
    cdef uint32_t i
    cdef Node dep
    cdef bint holds = not node.flags & MARKED or node.verified_at >= present
    cdef dict seen = {}
    if not holds:
        seen = {<size_t> node.edges[i].dep: node.edges[i].seen for i in range(node.n_edges)}
    for i in range(n_edges):
        dep = <Node> edges[i].dep
        if holds:
            edges[i].seen = dep.changed_at
        elif <size_t> edges[i].dep in seen:
            edges[i].seen = seen[<size_t> edges[i].dep]
        elif (<Table> dep.table).derived and not dep.flags & PART and not name_holds_at(dep, node.verified_at):
            edges[i].seen = NO_OUTCOME
        else:
            edges[i].seen = dep.changed_at if dep.valid_since <= node.verified_at else NO_OUTCOME
    return 0


cdef object closed_error(Runtime runtime):
    return SnapshotClosedError(revision=Revision(runtime.view.revision))


cdef int emit_query_changed(Runtime runtime, Node node, uint64_t changed_at) except -1:
    """Tell subscribers of a new outcome (r[event.query-changed-cutoff]: the caller saw that it is new)."""
    if runtime.has_event_receivers():
        kind, key = identity_of(node)
        runtime.hub.emit(QueryChanged(kind, key.hash, key, new_revision(changed_at), runtime.current_revision))
    return 0
