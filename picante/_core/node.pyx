"""Nodes, edges and tables: the dependency graph itself (r[dep.forward], r[dep.reverse]).

Owns three invariants:

* *Ways forth and back agree*: `reader.edges[e].dep is dep` exactly where `dep.dependents[s]` is
  `(reader, e)` with `s == reader.edges[e].slot`. Whoever changes one side changes the other in the same breath.
* *A marked node has only marked dependents*, which is why marking may stop at what is marked already.
* *The first dependents of an input are marked, and saw another outcome than it has*: as many as it knows of (KNOWN), so
  that a change need not even look at them. An input never gets an earlier outcome's name again, so verifying cannot
  take the marks of these away, only computing can: it lets go of the knowledge (`expose`) where it keeps the edges.

Edges are borrowed pointers. Tables own nodes and let go of one only when nothing reads it, so a pointer cannot
dangle while the database lives; when the whole graph is freed, in whatever order, a dying node first cuts its edges on
both sides. Only what encodes a key (`find_node`, `ensure_node`) may run user code; all the rest can be called in the
middle of a transition.
"""

cimport cython
from cpython.dict cimport PyDict_GetItemWithError
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE

from picante._core.key cimport Handle, Key, encode_key, is_plain_key, new_key
from picante._core.sieve cimport free_slot


@cython.final
cdef class Version:
    def __dealloc__(self):
        PyMem_Free(self.seen)


@cython.final
cdef class Failure:
    pass


@cython.final
cdef class Node:
    def __dealloc__(self):
        cdef uint32_t i
        release_slot(self)
        drop_edges(self)
        for i in range(self.n_dependents):
            (<Node> self.dependents[i].reader).edges[self.dependents[i].edge].dep = NULL
        PyMem_Free(self.dependents)


@cython.final
cdef class Link:
    pass


@cython.final
@cython.no_gc_clear  # its dicts break all cycles; a node that is on its way out may still ask for its link
cdef class Table:
    def __cinit__(self, kind):
        self.link = Link()
        self.kind = kind
        self.plain = {}
        self.encoded = {}
        self.in_order = True


# -- versions


cdef Version find_version(Node node, uint64_t revision):
    """The kept outcome of `node` at `revision`, or None."""
    cdef Py_ssize_t i
    cdef Version version
    if node.history is None:
        return None
    for i in range(PyList_GET_SIZE(node.history) - 1, -1, -1):
        version = <Version> PyList_GET_ITEM(node.history, i)
        if version.valid_since <= revision <= version.valid_until:
            return version
    return None


cdef Version copy_current(Node node, uint64_t valid_until):
    """The current outcome of `node`, good up to `valid_until`, as a version of its own."""
    cdef uint32_t i
    cdef Version version = Version()
    version.deps = []
    if node.n_edges:
        version.seen = <uint64_t *> PyMem_Malloc(node.n_edges * sizeof(uint64_t))
        if version.seen == NULL:
            raise MemoryError
    for i in range(node.n_edges):
        version.seen[i] = node.edges[i].seen
        version.deps.append(<Node> node.edges[i].dep if node.edges[i].dep != NULL else None)
    version.value = node.value
    version.flags = node.flags & (OUTCOME | UNLINKED)
    version.ran = node.ran
    version.turned = node.turned
    version.ran_at = node.ran_at
    version.changed_at = node.changed_at
    version.valid_since = node.valid_since
    version.valid_until = valid_until
    version.ordinal = node.verified_at
    return version


# -- tables


cdef inline bytes _encoding(object key):
    """What finds `key` among the encoded, or None if it is found by itself."""
    if is_plain_key(key):
        return None
    return (<Key> key).bytes if type(key) is Key else encode_key(key)


cdef inline Node _find(Table table, object key, bytes encoded):
    cdef PyObject *found
    if encoded is None:
        found = PyDict_GetItemWithError(table.plain, key)
    else:
        found = PyDict_GetItemWithError(table.encoded, encoded)
    return <Node> found if found != NULL else None


cdef Node find_node(Table table, object key):
    return _find(table, key, _encoding(key))


cdef Node ensure_node(Table table, object key):
    """The node of `key`, made and vacant where there was none. Encodes once: encoding may run user code."""
    cdef bytes encoded = _encoding(key)
    cdef Node node = _find(table, key, encoded), fresh
    if node is None:
        fresh = Node()
        fresh.table = <PyObject *> table
        fresh.key = key
        fresh.encoded = encoded
        node = table.plain.setdefault(key, fresh) if encoded is None else table.encoded.setdefault(encoded, fresh)
        if node is fresh:
            table.newest = <PyObject *> fresh
            count_tracked(node, 1)
        return node
    if type(node.key) is Key and type(key) is not Key:
        track(node)
        node.key = key  # it was made for bytes that nobody could decode then
    return node


cdef list read_by(Node node):
    """The nodes that the current memo of `node` read, for people: without the parts of its own (`invalidate`)."""
    cdef uint32_t i
    cdef list nodes = []
    for i in range(node.n_edges):
        if node.edges[i].dep != NULL and not is_own_part(<Node> node.edges[i].dep):
            nodes.append(<Node> node.edges[i].dep)
    return nodes


cdef bint is_own_part(Node node) noexcept:
    return node.flags & PART and (<Table> node.table).derived


cdef Node record_of(Node part):
    """The node of the record that `part` is a part of, or None."""
    return _find(<Table> part.table, part.key, part.encoded)


cdef bint is_bare(object value, int depth) noexcept:
    cdef Py_ssize_t i
    if not PyObject_GC_IsTracked(value):
        return type(value) is not dict  # the collector is told of one when it is given something that matters
    if type(value) is not tuple or PyTuple_GET_SIZE(value) > 8 or depth == 0:
        return False
    for i in range(PyTuple_GET_SIZE(value)):  # the collector will find that out itself, once it comes by
        if not is_bare(<object> PyTuple_GET_ITEM(value, i), depth - 1):
            return False
    return True


cdef int forget_node(Node node) except -1:
    """Take `node` out of its table; runs no user code."""
    cdef Table table = <Table> node.table
    if record_of(node) is node:
        if node.encoded is None:
            del table.plain[node.key]
            if PyObject_GC_IsTracked(node):
                count_tracked(node, -1)
        else:
            del table.encoded[node.encoded]
    return 0


cdef object node_key(Node node):
    """The `Key` of the record that `node` is, or is a part of."""
    return Key.encode(node.key) if node.encoded is None else new_key(node.encoded)


cdef str label_of(object kind, object name, object key):
    """The record `key` of the ingredient `name` as a person would write it: line_count('a.md')."""
    path, _, name = name.rpartition(".")
    if name == "keys" and path and isinstance(key, int):  # of an input class: notes.SourceFile.keys
        name = f"{path.rpartition('.')[2]}.keys"
    if type(key) is tuple:
        return f"{name}({', '.join([safe_repr(part) for part in key])})"
    if isinstance(key, Handle) and type(key)._kind == kind:
        return safe_repr(key)  # a record: its handle says all
    return f"{name}({safe_repr(key)})"


cdef str safe_repr(object value):
    try:
        return repr(value)
    except Exception:  # a user's __repr__; what it is needed for matters more
        return f"<{type(value).__qualname__}>"


cdef void release_slot(Node node) noexcept:
    """What `node` holds is no memo any more that could be evicted."""
    if node.slot != NULL:
        free_slot(node.slot)
        node.slot = NULL
        node.flags &= ~UNVISITED


# -- edges


cdef int reserve_dependent(Node dep) except -1:
    """Room for one more reader of `dep`."""
    cdef uint32_t capacity
    cdef void *grown
    if dep.n_dependents < dep.dependents_capacity:
        return 0
    if dep.n_dependents > 0x7FFF_FFFF:
        raise OverflowError("A record can have at most 2,147,483,647 dependents.")
    capacity = 2 * dep.dependents_capacity if dep.dependents_capacity else 1
    grown = PyMem_Realloc(dep.dependents, capacity * sizeof(Backref))
    if grown == NULL:
        raise MemoryError
    dep.dependents = <Backref *> grown
    dep.dependents_capacity = capacity
    return 0


cdef Edge *reserve_edges(list deps) except? NULL:
    """Room for edges to `deps`, on both sides; afterwards `replace_edges` cannot fail."""
    cdef Py_ssize_t n = PyList_GET_SIZE(deps), i
    cdef Edge *edges
    cdef Node dep
    if n == 0:
        return NULL
    if n > 0x7FFF_FFFF:
        raise OverflowError("A query can read at most 2,147,483,647 records.")
    edges = <Edge *> PyMem_Malloc(n * sizeof(Edge))
    if edges == NULL:
        raise MemoryError
    for i in range(n):
        dep = <Node> PyList_GET_ITEM(deps, i)
        edges[i].dep = <PyObject *> dep
        edges[i].group = 0
        if dep.n_dependents == dep.dependents_capacity:
            try:
                reserve_dependent(dep)
            except BaseException:
                PyMem_Free(edges)
                raise
    return edges


cdef bint same_deps(Node node, list deps) noexcept:
    """Whether the edges of `node` lead to `deps`, in this order."""
    cdef uint32_t i
    if node.n_edges != <uint32_t> PyList_GET_SIZE(deps):
        return False
    for i in range(node.n_edges):
        if node.edges[i].dep != PyList_GET_ITEM(deps, i):
            return False
    return True


cdef void replace_edges(Node node, Edge *edges, uint32_t n_edges) noexcept:
    """Make the reserved `edges` those of `node`, and be found by what they lead to."""
    cdef uint32_t i
    cdef Node dep
    drop_edges(node)
    node.edges = edges
    node.n_edges = n_edges
    for i in range(n_edges):
        dep = <Node> edges[i].dep
        edges[i].slot = dep.n_dependents
        dep.dependents[dep.n_dependents].reader = <PyObject *> node
        dep.dependents[dep.n_dependents].edge = i
        dep.n_dependents += 1


cdef void drop_edges(Node node) noexcept:
    """Take `node` out of the dependents of all that it read, each in constant time."""
    cdef uint32_t i, last
    cdef Edge *edge
    cdef Node dep
    node.ran |= NOWHERE
    node.turned |= NOWHERE
    for i in range(node.n_edges):
        edge = &node.edges[i]
        if edge.dep == NULL:
            continue
        dep = <Node> edge.dep
        if dep.flags & KNOWN and edge.slot < dep.ran_at:
            dep.ran_at -= 1
            _swap_dependents(dep, edge.slot, <uint32_t> dep.ran_at)
        last = dep.n_dependents - 1
        if edge.slot != last:
            _swap_dependents(dep, edge.slot, last)
        dep.n_dependents = last
    PyMem_Free(node.edges)
    node.edges = NULL
    node.n_edges = 0


cdef inline void _swap_dependents(Node dep, uint32_t one, uint32_t other) noexcept:
    cdef Backref first = dep.dependents[one], second = dep.dependents[other]
    dep.dependents[one] = second
    dep.dependents[other] = first
    (<Node> first.reader).edges[first.edge].slot = other
    (<Node> second.reader).edges[second.edge].slot = one


# -- marking


# Nodes that are marked and whose dependents are still to be visited. One stack for all: walks run
# to their end under the interpreter's lock, and keep their room for the next.
cdef PyObject **_stack = NULL
cdef Py_ssize_t _stack_capacity = 0
cdef enum:
    STACK_KEPT = 1 << 16
    FEW = 2  # dependents, which are looked at in less time than it takes to know of them


cdef bint mark_dependents(Node node, uint64_t until) noexcept:
    """Mark what may be affected by a change of `node`; it is known to hold up to `until` (r[dep.invalidation]).

    Stops at what is marked already, so the cost is that of the newly affected. False when memory ran
    out on the way: then some are unmarked that must not be, and the caller has to mark everything.
    """
    global _stack, _stack_capacity
    cdef Py_ssize_t depth = 0, needed, capacity
    cdef uint32_t i
    cdef uint32_t first = <uint32_t> node.ran_at if node.flags & KNOWN else 0
    cdef PyObject *source = <PyObject *> node
    cdef PyObject *reader
    cdef void *grown
    while True:
        needed = depth + (<Node> source).n_dependents - first
        if needed > _stack_capacity:
            capacity = max(needed, 2 * _stack_capacity, 64)
            grown = PyMem_Realloc(_stack, capacity * sizeof(PyObject *))
            if grown == NULL:
                return False
            _stack = <PyObject **> grown
            _stack_capacity = capacity
        for i in range(first, (<Node> source).n_dependents):
            reader = (<Node> source).dependents[i].reader
            if not (<Node> reader).flags & MARKED:
                (<Node> reader).flags = (<Node> reader).flags | MARKED  # `|=` would hold on to it meanwhile
                (<Node> reader).verified_at = until
                _stack[depth] = reader
                depth += 1
        first = 0
        if depth == 0:
            break
        depth -= 1
        source = _stack[depth]
    if _stack_capacity > STACK_KEPT:
        PyMem_Free(_stack)
        _stack = NULL
        _stack_capacity = 0
    return True


cdef void know_dependents(Node node) noexcept:
    """All dependents of `node`, an input or a part, are marked, and none of them has seen the outcome that it has."""
    if node.n_dependents > FEW:
        node.flags |= KNOWN
        node.ran_at = node.n_dependents


cdef void expose(Edge *edge) noexcept:
    """Who read the KNOWN node at the end of `edge` is about to lose its mark: the next change has to look at it.

    Those that are not known to be marked stand last. Once they are many they may be all: to look at each of them at
    the next change costs no more, for each one that has lost its mark, than to put them there.
    """
    cdef Node dep = <Node> edge.dep
    cdef uint32_t known = <uint32_t> dep.ran_at
    if edge.slot >= known:
        return
    known -= 1
    if dep.n_dependents - known > known >> 2:
        dep.flags &= ~KNOWN
        return
    _swap_dependents(dep, edge.slot, known)
    dep.ran_at = known


cdef int collect_dependents(Node node, list found, set seen) except -1:
    """Append to `found` all direct and indirect dependents of `node`, each once, marked or not."""
    cdef Py_ssize_t next_one = PyList_GET_SIZE(found)
    cdef uint32_t i
    cdef Node source = node
    while True:
        for i in range(source.n_dependents):
            address = <size_t> source.dependents[i].reader
            if address not in seen:
                seen.add(address)
                found.append(<Node> source.dependents[i].reader)
        if next_one == PyList_GET_SIZE(found):
            return 0
        source = <Node> PyList_GET_ITEM(found, next_one)
        next_one += 1
