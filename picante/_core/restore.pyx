"""Bringing stored records back into a database (r[persist.load-order]).

Nothing is believed before it is checked, and nothing is changed before everything is: `step` walks over the records
without building anything; `commit` makes keys and nodes, which change nothing by themselves, and then has all outcomes
put in place in one transition (`install`). Values stay packed until somebody reads them.

Ids of interned values keep their meaning: those in the bytes are mapped to what they are here.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport PyObject

from picante._core.check cimport check_structure, check_value
from picante._core.errors import DecodeError, EncodeError, ForeignDatabaseError
from picante._core.events import RevisionSet
from picante._core.extension cimport SHARED
from picante._core.frame cimport OUTSIDE
from picante._core.ingredient cimport Ingredient
from picante._core.input cimport PRESENCE, InputIngredient
from picante._core.install cimport Part, Place, install
from picante._core.interned cimport InternedIngredient
from picante._core.key import Revision
from picante._core.node cimport PART, VALUE, begin_transition, end_transition, ensure_node
from picante._core.recorder cimport record_load
from picante._core.records cimport MEMBERS_PART, OUTSIDE_PART, PRESENCE_PART, WHOLE
from picante._core.runtime cimport Runtime
from picante._core.store cimport sweep
from picante._core.stored cimport new_source
from picante._core.unpack cimport unpack_value
from picante._core.wire cimport (
    IS_BYTES, IS_EXTENSION, IS_LARGE, IS_LIST, IS_SMALL, IS_TUPLE, Head, damaged, next_head,
)

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
        self.source = new_source(data, db, None, names, None)
        self.revision = Revision(revision)
        self.parts = []
        self.left_out = []
        self.unknown_handles = []

    def __dealloc__(self):
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
        part.rerun = rerun
        part.start = start
        part.end = end
        part.n_records = n_records
        part.first = self.n_records
        self.n_records += n_records
        grown = PyMem_Realloc(self.places, max(self.n_records, 1) * sizeof(Place))
        if grown == NULL:
            raise MemoryError
        self.places = <Place *> grown
        self.parts.append(part)

    # -- checking

    def step(self, Py_ssize_t n):
        """Check `n` more records; whether there are more. DecodeError where the data is not what it should be."""
        cdef Part part
        while n > 0:
            if self.current == PyList_GET_SIZE(self.parts):
                return False
            part = self.parts[self.current]
            if part.checked == part.n_records:
                if part.start != part.end:
                    raise damaged(part.start, "bytes are left over after the last record of a section")
                self.current += 1
                continue
            self.check_one(part)
            part.checked += 1
            n -= 1
        return True

    cdef int check_one(self, Part part) except -1:
        cdef Span span = self.source.span(part.start, part.end)
        cdef Head head
        cdef Place *place = &self.places[part.first + part.checked]
        next_head(&span, &head)
        if head.form != IS_BYTES:
            raise damaged(part.start, "a record is not where it should be")
        place.start = place.key = span.at
        place.end = span.end = part.start = span.at + head.size
        place.key_end = place.deps = place.value = place.key
        place.changed_at = place.verified_at = 0
        place.is_left_out = part.ingredient is None
        try:
            if part.type != "interned":
                next_head(&span, &head)
                if head.form != IS_SMALL or not 0 < head.number <= span.end - span.at:
                    raise damaged(span.at, "the key of a record has no size")
                place.key = span.at
                span.at += <Py_ssize_t> head.number
                place.key_end = span.at
                place.changed_at = self.read_revision(&span)
                if part.type == "derived":
                    place.verified_at = self.read_revision(&span)
                    place.deps = span.at
                    self.check_deps(&span, part)
                place.value = span.at
                self.check_stored(place, place.key, place.key_end)
            if part.type != "input" or place.value < place.end:
                if part.ingredient is not None and part.type == "input":
                    self.check_fields(part, place)
                self.check_stored(place, place.value, place.end)
        except LookupError as error:
            self.leave_out(part, place, error.__cause__)
        return 0

    cdef uint64_t read_revision(self, Span *span) except? 0xDEAD:
        cdef Head head
        next_head(span, &head)
        if head.form != IS_SMALL and head.form != IS_LARGE or <uint64_t> head.number > self.revision or (
            head.form == IS_SMALL and head.number < 0
        ):
            raise damaged(span.at, "a revision stands there that had not come yet")
        return <uint64_t> head.number

    cdef int check_stored(self, Place *place, Py_ssize_t start, Py_ssize_t end) except -1:
        """LookupError for what is well-formed and names what nobody knows here."""
        try:
            check_value(self.source, start, end)
        except DecodeError as error:
            check_structure(self.source.span(start, end))
            raise LookupError from error
        return 0

    cdef int check_fields(self, Part part, Place *place) except -1:
        cdef Span span = self.source.span(place.value, place.end)
        cdef Head head
        cdef Py_ssize_t n = len((<InputIngredient> part.ingredient).fields)
        if n:
            next_head(&span, &head)
            if head.form == IS_EXTENSION and head.code == SHARED:
                next_head(&span, &head)
            if head.form != IS_TUPLE or head.size != n:
                raise damaged(span.at, f"a record of {part.ingredient.name} has {n} fields")
        return 0

    cdef int check_deps(self, Span *span, Part part) except -1:
        cdef Head head
        cdef Py_ssize_t n_deps, n_of
        cdef int64_t number
        cdef bint is_part
        next_head(span, &head)
        if head.form != IS_TUPLE and head.form != IS_LIST:
            raise damaged(span.at, "the dependencies of a record are not there")
        n_deps = head.size
        for _ in range(n_deps):
            next_head(span, &head)
            is_part = head.form == IS_TUPLE and head.size == 2
            if is_part:
                next_head(span, &head)
            if head.form != IS_SMALL or head.number < 0:
                raise damaged(span.at, "a dependency names no record")
            number = head.number >> 1
            n_of = self.n_records
            if is_part:
                next_head(span, &head)
                if head.form != IS_SMALL or not MEMBERS_PART <= head.number <= 0x7FFF_FFFF or head.number == WHOLE:
                    raise damaged(span.at, "a dependency names no part of a record")
                if head.number == MEMBERS_PART:
                    n_of = PyList_GET_SIZE(self.parts)
            if number >= n_of:
                raise damaged(span.at, "a dependency names a record that is not there")
            if is_part and head.number == MEMBERS_PART and (<Part> self.parts[number]).type != "input":
                raise damaged(span.at, "a dependency is on the keys of what has none")
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
        cdef list trash = []
        (<Runtime> self.runtime).check_writable()
        # The collector would go over a growing number of new objects again and again, and none of them is garbage.
        cdef bint collecting = begin_transition()
        try:
            try:
                self.make_all()
            except BaseException:
                self.undo()
                raise
            install(self.store, self.source, self.parts, self.places, self.revision, trash)
            if (<Runtime> self.runtime).recorders:
                record_load((<Runtime> self.runtime).recorders, self.store.present.revision)
        finally:
            end_transition(collecting)
        revision = Revision(self.store.present.revision)
        del trash
        sweep(self.store)
        hub = (<Runtime> self.runtime).hub
        if hub is not None:
            hub.publish_revision(revision)
            if hub.has_event_receivers:
                hub.emit(RevisionSet(revision))
        return revision

    cdef int undo(self) except -1:
        """Take back what was made, as if nothing had been tried."""
        cdef Part part
        for part in reversed(self.parts):
            if part.ids is not None:
                (<InternedIngredient> part.ingredient).forget(part.n_before, part.n_interned)
            if part.nodes is not None:
                self.store.idle.extend([node for node in part.nodes if node is not None])
                part.nodes = part.deps = None
        return sweep(self.store)

    cdef int make_all(self) except -1:
        """Make all that is needed: ids, keys, nodes. Runs the code of codecs, so it comes before the transition."""
        cdef Part part
        for part in self.parts:
            if part.ingredient is not None and part.ingredient.store is None:
                part.ingredient.adopt(self.store)
        self.intern_all()
        for part in self.parts:
            if part.ingredient is not None and part.type != "interned":
                self.make_nodes(part)
        for part in self.parts:
            if part.type == "derived":
                self.find_deps(part)
        return self.spread_left_out()

    # -- interned values

    cdef int intern_all(self) except -1:
        """Intern what was interned, in an order in which handles inside of values are known before they are met."""
        cdef Part part
        cdef dict new_ids = {}
        cdef list waiting = [part for part in self.parts if part.type == "interned" and part.ingredient is not None]
        for part in waiting:
            part.ids = []
            part.n_before = part.n_interned = len((<InternedIngredient> part.ingredient).values)
            new_ids[int((<InternedIngredient> part.ingredient).handle_kind)] = {}
        for kind in self.unknown_handles:
            new_ids.setdefault(int(kind), {})
        self.source.new_ids = new_ids
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
                    number = ingredient.intern(unpack_value(self.source, place.value, place.end))
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
        cdef set seen = set()
        cdef bint lacks_ids = bool(self.unknown_handles) or any(
            [(<Part> each).lacks_some for each in self.parts if (<Part> each).type == "interned"]
        )
        part.nodes = []
        for i in range(part.n_records):
            place = &self.places[part.first + i]
            node = None
            if not place.is_left_out:
                try:
                    key = unpack_value(self.source, place.key, place.key_end)
                    if part.type == "input":
                        node = (<InputIngredient> part.ingredient).slot(key)
                    else:
                        node = ensure_node(part.ingredient.table, key)
                    if lacks_ids and place.value < place.end:
                        unpack_value(self.source, place.value, place.end)
                except EncodeError as error:
                    raise DecodeError(f"A stored key of {part.ingredient.name} is no key: {error}") from error
                except DecodeError as error:  # a handle of a record that was left out
                    node = None
                    self.leave_out(part, place, error)
                if node is not None:
                    if <size_t> <PyObject *> node in seen:
                        raise DecodeError(f"A key of {part.ingredient.name} is stored twice.")
                    seen.add(<size_t> <PyObject *> node)
            part.nodes.append(node)
        return 0

    cdef int find_deps(self, Part part) except -1:
        """Find, or make, the nodes that the memos have read."""
        cdef Py_ssize_t i
        cdef Place *place
        cdef Span span
        cdef Head head
        cdef Node node, dep
        cdef bint is_fresh
        cdef list deps
        part.deps = []
        for i in range(part.n_records):
            place = &self.places[part.first + i]
            deps = None
            if not place.is_left_out:
                node = part.nodes[i]
                span = self.source.span(place.deps, place.value)
                next_head(&span, &head)
                deps = []
                for _ in range(head.size):
                    dep = self.read_dep(&span, node, &is_fresh)
                    if dep is None:
                        self.leave_out(part, place, None)
                        deps = None
                        break
                    deps.append(dep)
                    deps.append(is_fresh)
                if deps is not None and head.size > 1:
                    deps = _without_doubles(deps)
            part.deps.append(deps)
        return 0

    cdef Node read_dep(self, Span *span, Node reader, bint *is_fresh):
        """The node that the next dependency names; None if its record is left out."""
        cdef Head head
        cdef Part part
        cdef Node record
        cdef int64_t number
        cdef int name = WHOLE
        next_head(span, &head)
        if head.form == IS_TUPLE:
            next_head(span, &head)
            number = head.number
            next_head(span, &head)
            name = <int> head.number
        else:
            number = head.number
        is_fresh[0] = not number & 1
        number >>= 1
        if name == MEMBERS_PART:
            part = self.parts[number]
            if part.ingredient is None or part.type != "input":
                return None
            is_fresh[0] = is_fresh[0] and not part.lacks_some
            return part.ingredient.table.members
        part = self.part_of(number)
        if self.places[number].is_left_out:
            return None
        if part.type == "interned":
            return ensure_node(part.ingredient.table, int(part.ids[number - part.first]))
        record = part.nodes[number - part.first]
        if name == WHOLE:
            return record
        if name == OUTSIDE_PART:
            return _outside_part(record) if record is reader else None
        if part.type != "input" or name >= len((<InputIngredient> part.ingredient).fields):
            return None
        return (<InputIngredient> part.ingredient).part(record, PRESENCE if name == PRESENCE_PART else name)

    cdef Part part_of(self, int64_t number):
        """The section of a record."""
        cdef Py_ssize_t low = 0, high = PyList_GET_SIZE(self.parts) - 1, middle
        while low < high:
            middle = (low + high + 1) // 2
            if (<Part> PyList_GET_ITEM(self.parts, middle)).first <= number:
                low = middle
            else:
                high = middle - 1
        return self.parts[low]

    cdef int spread_left_out(self) except -1:
        """Leave out all memos that depend on one that is left out."""
        cdef Part part
        cdef Node node
        cdef Py_ssize_t i
        cdef dict readers = {}
        cdef list gone = []
        if not self.n_left_out:
            return 0
        for part in self.parts:
            if part.type != "derived" or part.nodes is None:
                continue
            for i in range(part.n_records):
                if part.deps[i] is None:
                    gone.append(part.nodes[i])
                else:
                    for node in part.deps[i][::2]:
                        readers.setdefault(node, []).append((part, i))
        while gone:
            for part, i in readers.pop(gone.pop(), ()):
                if part.deps[i] is not None:
                    part.deps[i] = None
                    self.leave_out(part, &self.places[part.first + i], None)
                    gone.append(part.nodes[i])
        return 0


cdef list _without_doubles(list deps):
    """Each dependency once: two ids in the file may be one here, and whoever wrote it may not have cared."""
    cdef dict found = {}
    for dep, is_fresh in zip(deps[::2], deps[1::2]):
        found[dep] = found.get(dep, True) and is_fresh
    return deps if 2 * len(found) == PyList_GET_SIZE(deps) else [x for pair in found.items() for x in pair]


cdef Node _outside_part(Node cell):
    """What stands for the world outside of the database that the query of `cell` reads."""
    cdef Node part
    if cell.parts is None:
        part = Node()
        part.table = cell.table
        part.key = cell.key
        part.encoded = cell.encoded
        part.flags = VALUE | PART
        cell.parts = {OUTSIDE: part}
    return cell.parts[OUTSIDE]
