"""How a change of an input takes effect: the new outcome is put in place, and what it may affect is marked.

All of it runs in a transition (`Runtime.commit`). Comparing the new with the old, which runs user code, came before; a
write says with which outcome it was compared, so that one that has been overtaken can be told.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.ref cimport PyObject

from picante._core.node cimport (
    KNOWN, PART, VALUE, Table, collect_dependents, know_dependents, track, untrack_if_plain,
)
from picante._core.store cimport keep_current, mark_from

cdef str PRESENCE = "presence"


@cython.final
@cython.freelist(8)
cdef class Write:
    pass


cdef bint is_up_to_date(Write write) except -1:
    """Whether what `write` was compared with is still there."""
    return write.slot.changed_at == write.replaces and write.slot.parts is write.compared and (
        write.compared is None or write.n_parts == len(write.compared)
    )


cdef int apply_write(Store store, Write write, uint64_t revision, uint64_t until, list trash) except -1:
    cdef Node slot = write.slot
    cdef Table table = <Table> slot.table
    cdef bint was_there = slot.flags & VALUE, is_there = write.flags & VALUE
    cdef Py_ssize_t i
    change(store, slot, write.flags, write.value, revision, until, trash)
    if was_there != is_there:
        change(store, table.members, VALUE | PART, None, revision, until, trash)
        if is_there:
            if table.newest != <PyObject *> slot:  # others stand behind it in the dict
                table.in_order = False
            table.last_ordinal += 1
            slot.verified_at = table.last_ordinal
            table.n_present += 1
        else:
            table.n_present -= 1
            store.idle.append(slot)
    if write.parts is not None:
        for i in range(PyList_GET_SIZE(write.parts)):
            change(store, <Node> PyList_GET_ITEM(write.parts, i), VALUE | PART, None, revision, until, trash)
    return 0


cdef int change(
    Store store, Node node, uint32_t flags, object value, uint64_t revision, uint64_t until, list trash
) except -1:
    """Give `node` another outcome from `revision` on. What it had held up to `until`, and goes to the `trash`."""
    if node.valid_since < revision:  # else another write of the same batch has changed it already
        keep_current(store, node, until, revision, revision)
    trash.append(node.value)
    node.value = value
    node.flags = flags | node.flags & KNOWN
    node.changed_at = node.valid_since = revision
    if not untrack_if_plain(node):
        track(node)
    mark_from(store, node, until)
    know_dependents(node)
    return 0


cdef int collect_changed(Write write, list found, set seen) except -1:
    """Append to `found` all that depends on what an applied `write` has changed, each node once."""
    cdef Py_ssize_t i
    cdef Table table = <Table> write.slot.table
    collect_dependents(write.slot, found, seen)
    if write.parts is not None:
        for i in range(PyList_GET_SIZE(write.parts)):
            collect_dependents(<Node> PyList_GET_ITEM(write.parts, i), found, seen)
    if table.members.changed_at == write.slot.changed_at:
        collect_dependents(table.members, found, seen)
    return 0


cdef tuple value_of(Node slot):
    """What `slot` holds just now, in a tuple, or None."""
    value = slot.value  # held on to: making a tuple may run finalizers, and those may set this very input
    return (value,) if slot.flags & VALUE else None
