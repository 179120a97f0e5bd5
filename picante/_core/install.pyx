"""Putting stored outcomes in place, all at once (r[persist.load-order]).

A database that is empty becomes what was stored, at the revision at which it was stored. For one that has state a load
is a change like any other: what is loaded holds from the next revision on, what the stored database lacks is removed,
and views of the past go on to see what they saw.

A memo whose dependencies are all stored as it read them, and hold, is valid; any other is marked, and is verified or
computed again when it is asked for. Where the code of its query has changed it is kept only to be compared with.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy

from picante._core.change cimport change
from picante._core.errors import DecodeError
from picante._core.events import InputRemoved, InputSet, QueryInvalidated, RevisionBumped
from picante._core.evict cimport make_room
from picante._core.frame cimport OUTSIDE
from picante._core.node cimport (
    ABSENT, EVICTED, FAILED, LOADED, MARKED, NAMED, NO_OUTCOME, NOWHERE, OUTCOME, PACKED, PART, UNLINKED, VALUE, Edge,
    Node, Table, collect_dependents, drop_edges, hide_nodes, new_note, node_key, release_slot, replace_edges,
    reserve_dependent, set_parts, untrack_if_plain,
)
from picante._core.packed cimport new_packed
from picante._core.stored cimport Origin
from picante._core.store cimport admit, advance, keep_current, mark_from
from picante._core.unpack cimport NO_SCALAR, unpack_scalar


cdef extern from *:
    """
    static PyObject *picante_keep(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args), PyObject *keywords) {
        return keywords == NULL ? PyDict_New() : Py_NewRef(keywords);
    }

    static PyMethodDef picante_keep_def = {
        "keep", (PyCFunction) (void (*)(void)) picante_keep, METH_VARARGS | METH_KEYWORDS, NULL
    };

    static PyObject *picante_keywords(PyObject *names, PyObject *values) {
        PyObject *keep = PyCFunction_New(&picante_keep_def, NULL), *keywords;
        if (keep == NULL)
            return NULL;
        keywords = PyObject_Vectorcall(keep, ((PyListObject *) values)->ob_item, 0, names);
        Py_DECREF(keep);
        return keywords;
    }
    """
    dict picante_keywords(object names, object values)


@cython.final
cdef class Part:
    """The stored records of one ingredient."""


cdef int install(
    Store store, Source source, list parts, Place *places, uint64_t stored_at, bint is_fresh, list trash
) except -1:
    try:
        return _install(store, source, parts, places, stored_at, is_fresh, trash)
    except BaseException:
        _distrust(store, parts)
        raise


cdef int _install(
    Store store, Source source, list parts, Place *places, uint64_t stored_at, bint is_fresh, list trash
) except -1:
    cdef Part part
    cdef Node node
    cdef Py_ssize_t i
    cdef uint64_t until, revision
    cdef bint is_stale = has_stale(parts, places)
    is_fresh = is_fresh or is_fresh_database(store, stored_at)
    if is_fresh:
        revision = first_revision(store, parts, stored_at)
    else:
        revision = store.present.revision + (2 if is_stale else 1)  # stale: nothing is named by the one before yet
    until = revision - 1 if revision else 0
    if revision > store.present.revision:
        advance(store, revision, trash)
    store.marks += 1
    for part in parts:
        if part.ingredient is not None and not part.is_interned and not is_fresh:
            clear(store, part, revision, until, trash)
    for part in parts:
        if part.ingredient is not None and part.is_input:
            place_inputs(store, source, part, places, is_fresh, revision, until, trash)
    for part in parts:
        if part.ingredient is not None and part.is_derived:
            place_memos(store, source, part, places, is_fresh, is_stale, revision, until, trash)
    for part in parts:
        if part.ingredient is not None and part.is_derived:
            for i in range(part.n_records):
                draw_edges_of(part, places, i, revision)
    for part in parts:
        if part.ingredient is not None and not part.is_interned:
            hide_nodes(part.ingredient.table)
    for part in parts:
        if part.ingredient is not None and part.is_derived and is_stale:  # or else nothing is marked
            for i in range(part.n_records):
                node = <Node> PyList_GET_ITEM(part.nodes, i)
                if node is not None and node.flags & MARKED and node.n_dependents:
                    mark_from(store, node, until)
                elif node is not None and node.flags & EVICTED and not node.n_dependents:
                    store.idle.append(node)  # it is of no use to anybody
    return make_room(store, None, trash)


cdef int _distrust(Store store, list parts) except -1:
    """Have all memos of a load that memory did not suffice for computed again: some may lack what they have read."""
    cdef Part part
    cdef Node node
    cdef uint64_t until = store.present.revision - 1 if store.present.revision else 0
    for part in parts:
        for node in part.nodes if part.is_derived and part.nodes is not None else ():
            if node is not None and node.flags & NAMED:
                node.flags |= MARKED | UNLINKED
                node.verified_at = min(node.verified_at, until)
                mark_from(store, node, until)
    return 0


cdef uint64_t first_revision(Store store, list parts, uint64_t stored_at) except? 0xDEAD:
    cdef uint64_t revision = max(store.present.revision, stored_at)
    if revision == 0 and _has_memos(parts):
        revision = 1  # what holds up to the one before could not be said of the first
    return revision


cdef bint has_stale(list parts, Place *places) except -1:
    cdef Part part
    cdef Place *place
    cdef Py_ssize_t i
    for part in parts:
        if part.ingredient is None or not part.is_derived:
            continue
        for i in range(part.n_records):
            place = &places[part.first + i]
            if not place.is_left_out and (part.rerun or place.is_old or place.has_stale):
                return True
    return False


cdef bint _has_memos(list parts) except -1:
    return any([(<Part> part).is_derived and (<Part> part).n_records > 0 for part in parts])


cdef bint is_fresh_database(Store store, uint64_t stored_at) except -1:
    cdef Node node
    if store.present.users or store.pins or store.present.revision > stored_at:
        return False
    if store.completed:
        return False  # what snapshots have computed knows outcomes by the names that they have here
    for table in store.tables.values():
        for nodes in ((<Table> table).plain, (<Table> table).encoded):
            for node in nodes.values():
                if node.flags & (VALUE | FAILED | EVICTED) and (<Table> table).link.ingredient != NULL:
                    return False
    return True


cdef int compare_edges(const void *one, const void *other) noexcept nogil:
    cdef size_t a = <size_t> (<const Edge *> one).dep, b = <size_t> (<const Edge *> other).dep
    return (a > b) - (a < b)


cdef int drop_doubles(Place *place) except -1:
    """Each dependency once: two ids in the file may be one here, and whoever wrote it may not have cared."""
    cdef size_t size = place.n_edges * sizeof(Edge)
    cdef Edge *edges = place.edges
    cdef Edge *ordered
    cdef uint32_t i, n = 0
    cdef bint found = False
    cdef dict positions = {}
    if place.n_edges == 2:
        found = edges[0].dep == edges[1].dep
    else:
        ordered = <Edge *> PyMem_Malloc(size)
        if ordered == NULL:
            raise MemoryError
        memcpy(ordered, edges, size)
        qsort(ordered, place.n_edges, sizeof(Edge), compare_edges)
        for i in range(1, place.n_edges):
            found = found or ordered[i].dep == ordered[i - 1].dep
        PyMem_Free(ordered)
    if not found:
        return 0
    for i in range(place.n_edges):
        at = positions.setdefault(<size_t> edges[i].dep, n)
        if at == n:
            edges[n] = edges[i]
            n += 1
        elif not edges[i].seen:
            edges[<uint32_t> at].seen = 0
    place.n_edges = n
    return 0


cdef int refuse_doubles(Part part) except -1:
    cdef set seen = set()
    cdef Py_ssize_t n = 0
    for node in part.nodes:
        if node is not None:
            seen.add(<size_t> <PyObject *> node)
            n += 1
    if len(seen) < n:
        raise stored_twice(part)
    return 0


cdef object stored_twice(Part part):
    return DecodeError(f"A key of {part.ingredient.name} is stored twice.")


cdef dict dict_of(tuple texts, list values):
    """A dict of texts, made at once: with room for all, and without other work in between that takes it from the cache.

    Of all ways to such a dict only keyword arguments know beforehand how many there are, and that all are texts.
    """
    return picante_keywords(texts, values)


cdef Part find_part(list parts, Py_ssize_t number):
    cdef Py_ssize_t low = 0, high = PyList_GET_SIZE(parts) - 1, middle
    while low < high:
        middle = (low + high + 1) // 2
        if (<Part> PyList_GET_ITEM(parts, middle)).first <= number:
            low = middle
        else:
            high = middle - 1
    return <Part> PyList_GET_ITEM(parts, low)


cdef Py_ssize_t spread_left_out(list parts, Place *places) except -1:
    cdef Part part
    cdef Py_ssize_t i, n = 0
    cdef uint32_t k
    cdef Place *place
    cdef dict readers = {}
    cdef list gone = []
    for part in parts:
        if not part.is_derived or part.nodes is None:
            continue
        for i in range(part.n_records):
            place = &places[part.first + i]
            if place.is_left_out:
                gone.append(part.nodes[i])
            else:
                for k in range(place.n_edges):
                    readers.setdefault(<Node> place.edges[k].dep, []).append((part, i))
    while gone:
        for part, i in readers.pop(gone.pop(), ()):
            place = &places[part.first + <Py_ssize_t> i]
            if not place.is_left_out:
                place.is_left_out = part.lacks_some = True
                gone.append(part.nodes[i])
                n += 1
    return n


cdef Node outside_part(Node cell):
    """What stands for the world outside of the database that the query of `cell` reads."""
    cdef Node part
    if cell.parts is None:
        part = Node()
        part.table = cell.table
        part.key = cell.key
        part.encoded = cell.encoded
        part.flags = VALUE | PART
        set_parts(cell, {OUTSIDE: part})
    return cell.parts[OUTSIDE]


cdef list find_changes(Store store, list parts, Place *places, uint64_t stored_at):
    cdef Part part
    cdef Place *place
    cdef Node node
    cdef Py_ssize_t i
    cdef set stored, seen = set()  # each query is told of once, however much of what it read has changed
    cdef list changes = [], found
    if is_fresh_database(store, stored_at):
        return None
    for part in parts:
        if part.ingredient is None or not part.is_input:
            continue
        stored = set()
        for i in range(part.n_records):
            node = <Node> PyList_GET_ITEM(part.nodes, i)
            place = &places[part.first + i]
            if node is not None:
                stored.add(<size_t> <PyObject *> node)
                if node.flags & VALUE or place.value < place.size:
                    changes.append((node, place.value < place.size, []))
        for nodes in (part.ingredient.table.plain, part.ingredient.table.encoded):
            for node in nodes.values():
                if node.flags & VALUE and <size_t> <PyObject *> node not in stored:
                    changes.append((node, False, []))
    for node, _, found in changes:
        collect_dependents(node, found, seen)
        if node.parts is not None:
            for each in node.parts.values():
                collect_dependents(each, found, seen)
    return changes


cdef int tell_changes(object hub, list changes, object revision) except -1:
    """Tell subscribers of a load as of any change (r[event.types])."""
    cdef Node node, query
    hub.emit(RevisionBumped(revision))
    for node, is_set, queries in changes:
        kind, key = (<Table> node.table).kind, node_key(node)
        if is_set:
            hub.emit(InputSet(kind, key.hash, key, revision, revision))
        else:
            hub.emit(InputRemoved(kind, key.hash, key, revision))
        for query in queries:
            of = node_key(query)
            hub.emit(QueryInvalidated((<Table> query.table).kind, of.hash, of, kind, key, revision))
    return 0


cdef int clear(Store store, Part part, uint64_t revision, uint64_t until, list trash) except -1:
    """Remove what the database has and the file has not."""
    cdef Table table = part.ingredient.table
    cdef Node node
    cdef set stored = {<size_t> <PyObject *> node for node in part.nodes if node is not None}
    for nodes in (table.plain, table.encoded):
        for node in nodes.values():
            if <size_t> <PyObject *> node in stored:
                continue
            if part.is_input and node.flags & VALUE:
                change_input(store, node, ABSENT, None, revision, until, trash)
                store.idle.append(node)
            elif part.is_derived and node.flags & NAMED:
                keep_current(store, node, node.verified_at if node.flags & MARKED else until, revision, revision)
                drop_memo(store, node, trash)
                mark_from(store, node, until)
                store.idle.append(node)
    return 0


cdef int change_input(
    Store store, Node node, uint32_t flags, object value, uint64_t revision, uint64_t until, list trash
) except -1:
    change(store, node, flags, value, revision, until, trash)
    if node.parts is not None:
        for part in node.parts.values():
            change(store, part, VALUE | PART, None, revision, until, trash)
    return 0


cdef int drop_memo(Store store, Node node, list trash) except -1:
    cdef uint32_t i
    for i in range(node.n_edges):
        if node.edges[i].dep != NULL:
            store.idle.append(<Node> node.edges[i].dep)
    drop_edges(node)
    trash.append(node.value)
    node.value = None
    release_slot(node)
    node.flags = 0
    return 0


cdef inline bint _is_new(Node node) noexcept:
    """Whether `node` was made for this load, or is as if it were: nobody has seen anything of it."""
    return (
        not node.flags & (VALUE | FAILED | EVICTED) and node.valid_since == 0
        and not node.n_edges and not node.n_dependents and node.history is None and node.parts is None
    )


cdef object loaded_value(Source source, const Place *place, uint32_t *flags):
    cdef Py_ssize_t start = place.start + place.value, end = place.start + place.size
    if start == end:
        return None
    flags[0] = VALUE
    value = unpack_scalar(source, start, end)
    if value is NO_SCALAR:
        flags[0] = VALUE | PACKED
        value = new_packed(<Origin> source.origin, start, end)
    return value


cdef int place_inputs(
    Store store, Source source, Part part, Place *places, bint is_fresh, uint64_t revision, uint64_t until, list trash
) except -1:
    cdef Table table = part.ingredient.table
    cdef Py_ssize_t i
    cdef Place *place
    cdef Node node, each
    cdef Front front
    cdef uint32_t flags
    table.n_present = 0
    for i in range(part.n_records):
        node = <Node> PyList_GET_ITEM(part.nodes, i)
        place = &places[part.first + i]
        if node is None:
            continue
        read_front(source, part, place, &front)
        flags = ABSENT
        value = loaded_value(source, place, &flags)
        if _is_new(node) and (is_fresh or not store.pins):
            node.value = value
            node.flags = flags
            node.changed_at = node.valid_since = front.changed_at if is_fresh else revision
            untrack_if_plain(node)
        else:
            change_input(store, node, flags, value, revision, until, trash)
            if is_fresh:
                node.changed_at = node.valid_since = front.changed_at
                if node.parts is not None:
                    for each in node.parts.values():
                        each.changed_at = each.valid_since = front.changed_at
        if flags & VALUE:
            table.last_ordinal += 1
            node.verified_at = table.last_ordinal
            table.n_present += 1
    table.in_order = False
    change(store, table.members, VALUE | PART, None, revision, until, trash)
    return 0


cdef int place_memos(
    Store store, Source source, Part part, Place *places, bint is_fresh, bint has_stale, uint64_t revision,
    uint64_t until, list trash,
) except -1:
    cdef Py_ssize_t i
    cdef Place *place
    cdef Node node, outside
    cdef uint32_t flags
    cdef Front front
    for i in range(part.n_records):
        node = <Node> PyList_GET_ITEM(part.nodes, i)
        place = &places[part.first + i]
        if node is None or place.is_left_out:
            continue
        if not _is_new(node):
            if node.flags & OUTCOME:
                keep_current(store, node, node.verified_at if node.flags & MARKED else until, revision, revision)
            mark_from(store, node, until)
            drop_memo(store, node, trash)
        read_front(source, part, place, &front)
        flags = EVICTED
        node.value = loaded_value(source, place, &flags)
        if _is_new(node) and node.running is None:
            untrack_if_plain(node)
        node.flags = flags
        node.ran = node.turned = new_note(LOADED, NOWHERE)
        node.ran_at = revision
        node.changed_at = front.changed_at if is_fresh else revision
        if has_stale:  # its next outcome may be another one, and will be named by this very revision
            node.changed_at = min(node.changed_at, until)
        node.valid_since = revision
        node.verified_at = revision
        if node.parts is not None:
            for outside in node.parts.values():
                change(store, outside, VALUE | PART, None, revision, until, trash)
        if flags & VALUE:
            admit(store, node, place.size - place.value)
        if part.rerun or place.is_old:
            node.flags |= MARKED | (UNLINKED if part.rerun else 0)
            node.verified_at = min(front.verified_at, until)
    return 0


cdef int draw_edges_of(Part part, Place *places, Py_ssize_t i, uint64_t revision) except -1:
    cdef uint32_t k
    cdef Edge *edge
    cdef Place *place = &places[part.first + i]
    cdef Node node = <Node> PyList_GET_ITEM(part.nodes, i), dep
    cdef Table table
    if node is None or place.is_left_out:
        return 0
    for k in range(place.n_edges):
        reserve_dependent(<Node> place.edges[k].dep)
    replace_edges(node, place.edges, place.n_edges)
    place.edges = NULL  # they are the node's now
    for k in range(place.n_edges):
        edge = &node.edges[k]
        dep = <Node> edge.dep
        table = <Table> dep.table
        if table.members is None and not table.derived:
            dep.flags = VALUE  # the record of an interned value
        edge.seen = dep.changed_at if edge.seen else NO_OUTCOME
    if place.has_stale and not node.flags & MARKED:
        node.flags |= MARKED
        node.verified_at = revision - 1
    return 0
