"""Bringing stored records back into a database (r[persist.load-order]).

Nothing is believed before it is checked, and nothing is changed before everything is: `step` has all records looked at
(`scan`) without building anything; `commit` makes keys and nodes, which change nothing by themselves, and then has all
outcomes put in place in one transition (`install`). Values stay packed until somebody reads them, but for numbers and
short texts.

Ids of interned values keep their meaning: those in the bytes are mapped to what they are here.
"""

cimport cython
from cpython.dict cimport PyDict_SetDefault
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport PyObject
from libc.string cimport memset

from picante._core.bulk cimport draw_waiting, forget_complete, install_complete, make_complete
from picante._core.change cimport PRESENCE
from picante._core.check cimport new_checker
from picante._core.errors import DecodeError, EncodeError, ForeignDatabaseError
from picante._core.events import RevisionSet
from picante._core.ingredient cimport Ingredient
from picante._core.input cimport InputIngredient
from picante._core.install cimport (
    Front, Part, Place, drop_doubles, find_changes, find_part, install, is_fresh_database,
    new_node, outside_part, read_front, refuse_doubles, spread_left_out, tell_changes,
)
from picante._core.interned cimport InternedIngredient
from picante._core.key import Revision
from picante._core.node cimport (
    ABSENT, OUTCOME, Edge, Table, begin_transition, count_tracked, end_transition, ensure_node,
)
from picante._core.recorder cimport record_load
from picante._core.records cimport MEMBERS_PART, OUTSIDE_PART, PRESENCE_PART, WHOLE
from picante._core.runtime cimport Runtime
from picante._core.scan cimport scan_record
from picante._core.store cimport sweep
from picante._core.stored cimport Source, is_text, new_origin, new_source
from picante._core.unpack cimport NO_SCALAR, unpack_scalar, unpack_value
from picante._core.wire cimport IS_TUPLE, Head, damaged, next_head, next_number

cdef enum:
    MAX_REPORTED = 20


@cython.final
cdef class Restore:
    """A load of `data` into the database of `runtime`.

    Args:
        data: what a `Dump` has written, perhaps damaged, perhaps by somebody else.
        names: the classes and codecs that values name by number.
        revision: at which it was stored.
        db: whom to ask for the classes that records name; may be None.
    """

    def __init__(self, Runtime runtime not None, data, names, revision, *, db=None):
        runtime.check_writable()
        self.runtime = runtime
        self.store = runtime.store
        self.db = db
        # Checked now, and read later: nobody may change it meanwhile.
        self.source = new_source(data if type(data) is bytes else bytes(data), db, None, names, None)
        self.checker = new_checker(self.source)
        self.kept = []
        self.revision = Revision(revision)
        self.parts = []
        self.left_out = []
        self.unknown_handles = []

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.n_records):
            PyMem_Free(self.places[i].edges)
        PyMem_Free(self.places)

    def add(
        self, Ingredient ingredient, str type, Py_ssize_t start, Py_ssize_t end, Py_ssize_t n_records, *, rerun=False,
        handle_kind=None,
    ):
        """The next section of the data: `n_records` of `ingredient` between two places; None for one that is not here.

        `rerun`: its code is another one now, so nothing of it holds before it has run. `handle_kind`: the kind of the
        handles that hold the ids of an interned ingredient.
        """
        cdef Part part = Part()
        cdef void *grown
        if not 0 <= start <= end <= self.source.size:
            raise damaged(start, "a section lies outside of the file")
        if not 0 <= n_records <= end - start:
            raise damaged(start, f"a section of {end - start} bytes cannot have {n_records} records")
        if ingredient is not None and ingredient.store is not None and ingredient.store is not self.store:
            raise ForeignDatabaseError(
                f"{ingredient.name} belongs to another database than the one that is loaded into.", name=ingredient.name
            )
        if ingredient is None and handle_kind is not None:
            self.unknown_handles.append(handle_kind)
        part.ingredient = ingredient
        part.type = type
        part.is_interned = type == "interned"
        part.is_input = type == "input"
        part.is_derived = type == "derived"
        part.rerun = rerun
        part.start = start
        part.end = end
        part.n_records = n_records
        part.first = self.n_records
        grown = PyMem_Realloc(self.places, max(self.n_records + n_records, 1) * sizeof(Place))
        if grown == NULL:
            raise MemoryError
        self.places = <Place *> grown
        memset(&self.places[self.n_records], 0, n_records * sizeof(Place))
        self.n_records += n_records
        self.parts.append(part)

    # -- checking

    def step(self, Py_ssize_t n):
        """Check `n` more records; whether there are more. DecodeError where the data is not what it should be."""
        cdef Part part
        cdef Py_ssize_t last
        while n > 0:
            if self.current == PyList_GET_SIZE(self.parts):
                return False
            part = self.parts[self.current]
            if part.checked == part.n_records:
                if part.start != part.end:
                    raise damaged(part.start, "bytes are left over after the last record of a section")
                self.current += 1
                continue
            last = min(part.n_records, part.checked + n)
            n -= last - part.checked
            while part.checked < last:
                try:
                    self.check_up_to(part, last)
                except LookupError as error:
                    self.leave_out(part, &self.places[part.first + part.checked], error.__cause__)
                    part.checked += 1
        return True

    cdef int check_up_to(self, Part part, Py_ssize_t last) except -1:
        while part.checked < last:
            scan_record(
                self.checker, self.parts, part, &self.places[part.first + part.checked], self.n_records, self.revision
            )
            part.checked += 1
        return 0

    cdef int leave_out(self, Part part, Place *place, error) except -1:
        place.is_left_out = part.lacks_some = True
        self.n_left_out += 1
        if error is not None and PyList_GET_SIZE(self.left_out) < MAX_REPORTED:
            self.left_out.append((part.ingredient.name if part.ingredient is not None else "", str(error)))
        return 0

    # -- putting in place

    def commit(self):
        """Put everything in place, at once; the revision from which it holds. Or raise, and change nothing.

        Raises:
            DecodeError: keys are not what they should be after all.
        """
        cdef list trash = [], changes = None
        cdef Part part
        (<Runtime> self.runtime).check_writable()
        # The collector would go over a growing number of new objects again and again, and none of them is garbage.
        cdef bint collecting = begin_transition()
        try:
            try:
                self.origin = new_origin(self.source) if self.origin is None else self.origin
                self.make_all()
                # Keys may have run the user's code, and another thread may have let the collector in since.
                collecting = begin_transition() or collecting
                if (<Runtime> self.runtime).has_event_receivers():
                    changes = find_changes(self.store, self.parts, self.places, self.revision)
                self.store.sources = [each for each in self.store.sources if (<Source> each).origin != NULL]
                self.store.sources.append(self.source)
                if self.is_complete:
                    draw_waiting(self.store, self.parts, self.places, self.revision, trash)
            except BaseException:
                self.undo()
                raise
            if self.is_complete:
                install_complete(self.store, self.parts, self.places, trash)
            else:
                install(
                    self.store, self.source, self.parts, self.places, self.revision,
                    self.was_fresh and not self.ran_code, trash,
                )
            if (<Runtime> self.runtime).recorders:
                record_load((<Runtime> self.runtime).recorders, self.store.present.revision)
        finally:
            end_transition(collecting)
        for part in self.parts:
            part.nodes = part.made = None  # they are in their tables: the collector need not go over them once more
        revision = Revision(self.store.present.revision)
        del trash
        sweep(self.store)
        hub = (<Runtime> self.runtime).hub
        if hub is not None:
            hub.publish_revision(revision)
            if changes is not None:
                tell_changes(hub, changes, revision)
            elif hub.has_event_receivers:
                hub.emit(RevisionSet(revision))
        return revision

    cdef int undo(self) except -1:
        """Take back what was made, as if nothing had been tried."""
        cdef Part part
        if self.is_complete:
            forget_complete(self.parts, self.places)
        for part in reversed(self.parts):
            if part.ids is not None:
                (<InternedIngredient> part.ingredient).forget(part.n_before, part.n_interned)
            if part.nodes is not None:
                self.store.idle.extend([node for node in part.nodes if node is not None])
                part.nodes = None
        return sweep(self.store)

    cdef int make_all(self) except -1:
        """Make all that is needed: ids, keys, nodes. Runs the code of codecs, so it comes before the transition."""
        cdef Part part
        for part in self.parts:
            if part.ingredient is not None and part.ingredient.store is None:
                part.ingredient.adopt(self.store)
        self.was_fresh = is_fresh_database(self.store, self.revision)
        self.intern_all()
        if self.make_at_once():
            return 0
        for part in self.parts:
            if part.ingredient is not None and not part.is_interned:
                self.make_nodes(part)
        for part in self.parts:
            if part.ingredient is not None and part.is_derived:
                self.find_deps(part)
        if self.n_left_out:
            self.n_left_out += spread_left_out(self.parts, self.places)
        return 0

    cdef bint make_at_once(self) except -1:
        """The same in one go for a database in which nothing is, if it can be done so; if not, nothing has happened."""
        cdef bint collecting = begin_transition()  # interning may have run the user's code; from here on nothing does
        self.is_complete = False
        try:
            if self.n_left_out or self.unknown_handles or not is_fresh_database(self.store, self.revision):
                return False
            if make_complete(self.store, self.source, self.parts, self.places, self.revision):
                self.find_waiting_deps()
            return self.is_complete
        finally:
            end_transition(collecting)

    cdef int find_waiting_deps(self) except -1:
        cdef Part part
        try:
            for part in self.parts:
                for i in part.waiting or ():
                    self.find_deps_of(part, i)
            self.is_complete = not self.n_left_out  # it may have turned out that something must be, after all
        finally:
            if not self.is_complete:
                forget_complete(self.parts, self.places)
        return 0

    # -- interned values

    cdef int intern_all(self) except -1:
        """Intern what was interned, in an order in which handles inside of values are known before they are met."""
        cdef Part part
        cdef dict new_ids = {}
        cdef list waiting = [part for part in self.parts if part.is_interned and part.ingredient is not None]
        for part in waiting:
            part.ids = []
            part.n_before = part.n_interned = len((<InternedIngredient> part.ingredient).values)
            new_ids[int((<InternedIngredient> part.ingredient).handle_kind)] = {}
        for kind in self.unknown_handles:
            new_ids.setdefault(int(kind), {})
        self.source.new_ids = new_ids
        self.ran_code = len(waiting) > 0
        while waiting:
            progress = False
            for part in waiting:
                n = len(part.ids)
                error = self.intern_part(part, new_ids)
                progress = progress or len(part.ids) > n
            waiting = [part for part in waiting if len(part.ids) < part.n_records]
            if waiting and not progress:  # a handle of a value that is not there
                part = waiting[0]
                self.leave_out(part, &self.places[part.first + len(part.ids)], error)
        return 0

    cdef object intern_part(self, Part part, dict new_ids):
        """Go on with one ingredient up to a value that holds a handle which is not known yet; what it said."""
        cdef InternedIngredient ingredient = part.ingredient
        cdef Place *place
        cdef dict ids = new_ids[int(ingredient.handle_kind)]
        while len(part.ids) < part.n_records:
            place = &self.places[part.first + len(part.ids)]
            if not place.is_left_out:
                try:
                    number = ingredient.intern(unpack_value(self.source, place.start, place.start + place.size))
                except EncodeError as error:
                    raise DecodeError(f"A stored value of {ingredient.name} cannot be interned: {error}") from error
                except DecodeError as error:
                    return error
                ids[len(part.ids)] = int(number)
                part.n_interned = max(part.n_interned, <Py_ssize_t> int(number) + 1)
            else:
                number = None
            part.ids.append(number)
        return None

    # -- nodes

    cdef int make_nodes(self, Part part) except -1:
        """Find or make the nodes of the records, vacant where they are new."""
        cdef Py_ssize_t i
        cdef Place *place
        cdef Node node
        cdef bint is_new, all_new = True
        cdef bint lacks_ids = bool(self.unknown_handles) or any(
            [(<Part> each).lacks_some for each in self.parts if (<Part> each).is_interned]
        )
        part.nodes = []
        for i in range(part.n_records):
            place = &self.places[part.first + i]
            node = None
            if not place.is_left_out:
                node = self.make_node(part, place, lacks_ids, &is_new)
                all_new = all_new and is_new
            part.nodes.append(node)
        return 0 if all_new else refuse_doubles(part)

    cdef object read_key(self, Part part, const Place *place):
        """The key of a record, or NO_SCALAR if that is no number and no short text."""
        cdef Front front
        cdef object key = None
        read_front(self.source, part, place, &front)
        if part.is_derived:
            key = self.key_of_first(part, &front, place.start + place.value)
        return unpack_scalar(self.source, front.key, front.key_end) if key is None else key

    cdef Node make_node(self, Part part, Place *place, bint lacks_ids, bint *is_new):
        """The node of a record, or None if it is left out after all."""
        cdef Table table = part.ingredient.table
        cdef Py_ssize_t before
        cdef Node node, made
        cdef Front front
        key = NO_SCALAR if lacks_ids else self.read_key(part, place)
        if type(key) is str or type(key) is int:  # as most of them are
            made = new_node(table, key)
            node = <Node> PyDict_SetDefault(table.plain, key, made)
            is_new[0] = node is made
            if node is made:
                count_tracked(node, 1)
        else:
            self.ran_code = True
            before = len(table.plain) + len(table.encoded)
            read_front(self.source, part, place, &front)
            try:
                node = ensure_node(table, unpack_value(self.source, front.key, front.key_end))
                if lacks_ids and place.value < place.size:
                    unpack_value(self.source, place.start + place.value, place.start + place.size)
            except EncodeError as error:
                raise DecodeError(f"A stored key of {part.ingredient.name} is no key: {error}") from error
            except DecodeError as error:  # a handle of a record that was left out
                is_new[0] = True
                self.leave_out(part, place, error)
                return None
            is_new[0] = len(table.plain) + len(table.encoded) > before
        if is_new[0]:
            table.newest = <PyObject *> node
        if part.is_input and not node.flags & OUTCOME:
            node.flags |= ABSENT
        return node

    cdef object key_of_first(self, Part part, const Front *front, Py_ssize_t value):
        """The key of what a memo has read first, if that is here and its own is the same text: one object for both."""
        cdef Span span = self.source.span(front.deps, value)
        cdef Head head
        cdef uint64_t number
        cdef Part other
        cdef Node dep
        next_head(&span, &head)
        if head.size == 0 or not next_number(&span, &number):
            return None
        number >>= 1
        other = self.part_of(number)
        if other.nodes is None or <Py_ssize_t> number - other.first >= PyList_GET_SIZE(other.nodes):
            return None
        dep = <Node> PyList_GET_ITEM(other.nodes, <Py_ssize_t> number - other.first)
        if dep is None or not is_text(self.source.data + front.key, front.key_end - front.key, dep.key):
            return None
        return dep.key

    cdef int find_deps(self, Part part) except -1:
        """Find, or make, the nodes that the memos have read."""
        cdef Py_ssize_t i
        for i in range(part.n_records):
            if not self.places[part.first + i].is_left_out:
                self.find_deps_of(part, i)
        return 0

    cdef int find_deps_of(self, Part part, Py_ssize_t i) except -1:
        cdef Place *place = &self.places[part.first + i]
        cdef Span span
        cdef Head head
        cdef Front front
        cdef Node dep
        cdef bint is_fresh
        cdef uint32_t group
        cdef Py_ssize_t n, k
        read_front(self.source, part, place, &front)
        span = self.source.span(front.deps, place.start + place.value)
        next_head(&span, &head)
        n = head.size
        if n > 0x7FFF_FFFF:
            raise DecodeError("A memo has more dependencies than a query can have.")
        if n == 0:
            return 0
        place.edges = <Edge *> PyMem_Malloc(n * sizeof(Edge))
        if place.edges == NULL:
            raise MemoryError
        for k in range(n):
            dep = self.read_dep(&span, part.nodes[i], &is_fresh, &group)
            if dep is None:
                self.leave_out(part, place, None)
                PyMem_Free(place.edges)
                place.edges = NULL
                place.n_edges = 0
                return 0
            place.edges[k].dep = <PyObject *> dep
            place.edges[k].seen = is_fresh
            place.edges[k].group = group
            place.n_edges = <uint32_t> k + 1
            place.has_stale = place.has_stale or not is_fresh
        if n > 1:
            drop_doubles(place)
        return 0

    cdef Node read_dep(self, Span *span, Node reader, bint *is_fresh, uint32_t *group):
        """The node that the next dependency names; None if its record is left out."""
        cdef Head head
        cdef Part part
        cdef Node record
        cdef uint64_t number
        cdef int name = WHOLE
        cdef bint has_group
        group[0] = 0
        if not next_number(span, &number):
            next_head(span, &head)
            if head.form == IS_TUPLE:
                has_group = head.size == 3
                next_head(span, &head)
                number = <uint64_t> head.number
                next_head(span, &head)
                name = <int> head.number
                if has_group:
                    next_head(span, &head)
                    group[0] = <uint32_t> head.number
            else:
                number = <uint64_t> head.number
        is_fresh[0] = not number & 1
        number >>= 1
        if name == MEMBERS_PART:
            part = self.parts[number]
            if part.ingredient is None or not part.is_input:
                return None
            is_fresh[0] = is_fresh[0] and not part.lacks_some
            return part.ingredient.table.members
        part = self.part_of(number)
        if self.places[number].is_left_out:
            return None
        if part.is_interned:
            record = ensure_node(part.ingredient.table, int(part.ids[<Py_ssize_t> number - part.first]))
            self.kept.append(record)
            return record
        record = <Node> PyList_GET_ITEM(part.nodes, <Py_ssize_t> number - part.first)
        if name == WHOLE:
            return record
        if name == OUTSIDE_PART:
            if record is not reader:
                return None
            record = outside_part(record)
        elif not part.is_input or name >= len((<InputIngredient> part.ingredient).fields):
            return None
        else:
            record = (<InputIngredient> part.ingredient).part(record, PRESENCE if name == PRESENCE_PART else name)
        self.kept.append(record)
        return record

    cdef Part part_of(self, uint64_t number):
        """The section of a record."""
        cdef Part part = self.last_part
        if part is None or not part.first <= <Py_ssize_t> number < part.first + part.n_records:
            self.last_part = part = find_part(self.parts, <Py_ssize_t> number)
        return part
