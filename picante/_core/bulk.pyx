"""Loading into a database in which nothing is, which is what most loads are.

Such a load is bound by memory, so each node is made with its outcome and its edges while it is in the cache, and none
of them is known to the garbage collector for a moment. All this can be done before the transition, because nobody finds
the nodes before they are in their tables: there it only remains to give each table its dict. And as no user code runs
in between, nothing can come into the database meanwhile.

What is not so simple is left to `restore` and `install`: records that are left out, and keys that are neither texts nor
numbers. Memos that have read something else than whole records that stand before them, as they were then, get
their edges later (`Part.waiting`).
"""

from cpython.list cimport PyList_GET_ITEM, PyList_New, PyList_SET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint32_t

from picante._core.change cimport change
from picante._core.evict cimport make_room
from picante._core.install cimport (
    Front, dict_of, draw_edges_of, find_part, first_revision, has_stale, loaded_value, read_front, stored_twice,
)
from picante._core.node cimport (
    ABSENT, EVICTED, LOADED, MARKED, NOWHERE, PART, UNLINKED, VALUE, Edge, Node, Table, hide_nodes, new_note,
    replace_edges, reserve_dependent,
)
from picante._core.store cimport admit, advance, mark_from
from picante._core.stored cimport is_text, read_plain
from picante._core.unpack cimport NO_SCALAR, unpack_scalar
from picante._core.wire cimport IS_STR, Head, Span, next_head, next_number

cdef enum:
    FEW_DEPS = 8  # of a memo whose edges are made at once: so few are compared with each other


cdef extern from *:
    """
    /* A copy of an object that has no references but to None. The collector does not know it. */
    static PyObject *picante_copy_of(PyObject *model) {
        PyTypeObject *type = Py_TYPE(model);
        PyObject *made = PyObject_GC_New(PyObject, type);
        if (made != NULL)
            memcpy(made + 1, model + 1, (size_t) type->tp_basicsize - sizeof(PyObject));
        return made;
    }
    """
    object picante_copy_of(object model)


cdef Node _vacant = Node()


cdef inline Node new_hidden_node(Table table, object key, object value):
    """A node that the collector does not know; made by hand, since the general way takes as long as all the rest."""
    cdef Node node = <Node> picante_copy_of(_vacant)
    # Its six references, all to None, have just been copied.
    Py_INCREF(None)
    Py_INCREF(None)
    Py_INCREF(None)
    Py_INCREF(None)
    Py_INCREF(None)
    Py_INCREF(None)
    node.table = <PyObject *> table
    node.key = key
    node.value = value
    return node


cdef bint make_complete(Store store, Source source, list parts, Place *places, uint64_t stored_at) except -1:
    cdef Part part
    cdef bint done = True
    cdef uint64_t revision = first_revision(store, parts, stored_at)
    cdef uint64_t latest = revision  # that names an outcome
    if revision and has_stale(parts, places):
        latest -= 1  # the next outcome of a memo may be another one, and will be named by this very revision
    for part in parts:
        if part.ingredient is None or part.lacks_some:
            return False
        if not part.is_interned and (
            len((<Table> part.ingredient.table).plain) or len((<Table> part.ingredient.table).encoded)
        ):
            return False
    try:
        for part in parts:
            if done and part.is_input:
                done = _make_part(source, parts, part, places, revision, latest)
        for part in parts:
            if done and part.is_derived:
                done = _make_part(source, parts, part, places, revision, latest)
    except BaseException:
        forget_complete(parts, places)
        raise
    return done or forget_complete(parts, places)


cdef int forget_complete(list parts, Place *places) except -1:
    cdef Part part
    cdef Py_ssize_t i
    for part in reversed(parts):
        part.made = part.waiting = part.nodes = None
        part.n_made = 0
        for i in range(part.first, part.first + part.n_records):
            PyMem_Free(places[i].edges)
            places[i].edges = NULL
            places[i].n_edges = 0
    return 0


cdef bint _make_part(
    Source source, list parts, Part part, Place *places, uint64_t revision, uint64_t latest
) except -1:
    """The nodes of the records of one ingredient, and the dict in which they are; whether that could be done."""
    cdef Table table = part.ingredient.table
    cdef Py_ssize_t i, n = part.n_records, n_deps
    cdef uint64_t ordinal = table.last_ordinal
    cdef Node node
    cdef Place *place
    cdef Front front
    cdef PyObject *deps[FEW_DEPS]
    cdef uint32_t flags
    cdef bint all_texts = True
    cdef list nodes = PyList_New(n)
    cdef tuple keys = PyTuple_New(n)
    part.nodes = nodes
    part.waiting = []
    for i in range(n):
        place = &places[part.first + i]
        read_front(source, part, place, &front)
        n_deps = 0
        key = None
        if part.is_derived:
            n_deps = _find_few(source, parts, place, &front, deps)
            if n_deps > 0:
                key = (<Node> deps[0]).key  # often the same text: one object for both
                if not is_text(source.data + front.key, front.key_end - front.key, key):
                    key = None
        if key is None:
            key = _read_key(source, &front)
        if type(key) is not str:
            if type(key) is not int:
                return False
            all_texts = False
        flags = EVICTED if part.is_derived else ABSENT
        node = new_hidden_node(table, key, loaded_value(source, place, &flags))
        node.flags = flags
        if part.is_derived:
            if n_deps > 0:
                _draw_few(node, deps, n_deps)
            elif n_deps < 0:
                part.waiting.append(i)
            node.ran = node.turned = new_note(LOADED, NOWHERE)
            node.ran_at = node.valid_since = node.verified_at = revision
            node.changed_at = min(front.changed_at, latest)
            if part.rerun or place.is_old:
                node.flags |= MARKED | (UNLINKED if part.rerun else 0)
                node.verified_at = min(front.verified_at, revision - 1)  # with memos it is not 0
        else:
            node.changed_at = node.valid_since = front.changed_at
            if flags & VALUE:
                ordinal += 1
                node.verified_at = ordinal
        Py_INCREF(key)
        PyTuple_SET_ITEM(keys, i, key)
        Py_INCREF(node)
        PyList_SET_ITEM(nodes, i, node)
        part.n_made = i + 1
    if all_texts and n:
        part.made = dict_of(keys, nodes)
    else:
        part.made = dict(zip(keys, nodes))
    if len(part.made) < n:
        raise stored_twice(part)
    return True


cdef inline object _read_key(Source source, const Front *front):
    """The key of a record if it is a number or a text; else anything but these."""
    cdef Span span
    cdef Head head
    key = unpack_scalar(source, front.key, front.key_end)
    if key is NO_SCALAR:
        span = source.span(front.key, front.key_end)
        next_head(&span, &head)
        if head.form == IS_STR:  # a long one
            span.at = front.key
            key = read_plain(&span)
    return key


cdef inline Py_ssize_t _find_few(
    Source source, list parts, const Place *place, const Front *front, PyObject **deps
) except -2:
    """The nodes that a memo has read, and how many these are; -1: too many, or not only records that are made."""
    cdef Span span
    cdef Head head
    cdef Part part = None
    cdef uint64_t number
    cdef Py_ssize_t n, k, at
    span.data = source.data
    span.at = front.deps
    span.end = place.start + place.value
    next_head(&span, &head)
    n = head.size
    if n > FEW_DEPS:
        return -1
    for k in range(n):
        if not next_number(&span, &number) or number & 1:
            return -1
        at = <Py_ssize_t> (number >> 1)
        if part is None or not part.first <= at < part.first + part.n_records:
            part = find_part(parts, at)
        if at - part.first >= part.n_made:
            return -1
        deps[k] = PyList_GET_ITEM(part.nodes, at - part.first)
        for at in range(k):
            if deps[at] == deps[k]:
                return -1
    return n


cdef inline int _draw_few(Node node, PyObject **deps, Py_ssize_t n) except -1:
    """Give `node` edges to what it has read, which has the outcomes that it saw."""
    cdef Py_ssize_t k
    cdef Edge *edges
    for k in range(n):
        reserve_dependent(<Node> deps[k])
    edges = <Edge *> PyMem_Malloc(n * sizeof(Edge))
    if edges == NULL:
        raise MemoryError
    for k in range(n):
        edges[k].dep = deps[k]
        edges[k].seen = (<Node> deps[k]).changed_at
        edges[k].group = 0
    replace_edges(node, edges, <uint32_t> n)
    return 0


cdef int draw_waiting(Store store, list parts, Place *places, uint64_t stored_at, list trash) except -1:
    cdef Part part
    cdef Node node
    cdef uint64_t revision = first_revision(store, parts, stored_at), until = revision - 1 if revision else 0
    if revision > store.present.revision:
        advance(store, revision, trash)
    store.marks += 1
    for part in parts:
        if part.is_input:
            change(store, (<Table> part.ingredient.table).members, VALUE | PART, None, revision, until, trash)
    for part in parts:
        for i in part.waiting or ():
            node = <Node> PyList_GET_ITEM(part.nodes, i)
            if node.parts is not None and part.is_derived:
                for outside in node.parts.values():
                    change(store, outside, VALUE | PART, None, revision, until, trash)
            draw_edges_of(part, places, i, revision)
    return 0


cdef int install_complete(Store store, list parts, Place *places, list trash) except -1:
    cdef Part part
    cdef Table table
    cdef Node node
    cdef Py_ssize_t i
    cdef uint64_t until = store.present.revision - 1 if store.present.revision else 0
    cdef bint is_stale = has_stale(parts, places)
    # What follows needs no memory, up to the nodes of no use: nothing is put in place by halves.
    for part in parts:
        if part.is_interned:
            continue
        table = part.ingredient.table
        table.plain = part.made
        table.n_tracked = 0
        hide_nodes(table)
        if part.n_records:
            table.newest = PyList_GET_ITEM(part.nodes, part.n_records - 1)
        if part.is_input:
            for i in range(part.n_records):
                if (<Node> PyList_GET_ITEM(part.nodes, i)).flags & VALUE:
                    table.n_present += 1
            table.last_ordinal += <uint64_t> table.n_present
            table.in_order = True
    for part in parts:
        if not part.is_derived:
            continue
        table = part.ingredient.table
        for i in range(part.n_records if store.sieve is not None or table.sieve is not None else 0):
            node = <Node> PyList_GET_ITEM(part.nodes, i)
            if node.flags & VALUE:
                admit(store, node, places[part.first + i].size - places[part.first + i].value)
    for part in parts if is_stale else ():
        for i in range(part.n_records if part.is_derived else 0):
            node = <Node> PyList_GET_ITEM(part.nodes, i)
            if node.flags & MARKED and node.n_dependents:
                mark_from(store, node, until)
    for part in parts if is_stale else ():
        for i in range(part.n_records if part.is_derived else 0):
            node = <Node> PyList_GET_ITEM(part.nodes, i)
            if node.flags & EVICTED and not node.n_dependents:
                store.idle.append(node)  # it is of no use to anybody
    return make_room(store, None, trash)
