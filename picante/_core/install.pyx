"""Putting stored outcomes in place, all at once (r[persist.load-order]).

A database that is empty becomes what was stored, at the revision at which it was stored. For one that has state a load
is a change like any other: what is loaded holds from the next revision on, what the stored database lacks is removed,
and views of the past go on to see what they saw.

A memo whose dependencies are all stored as it read them, and hold, is valid; any other is marked, and is verified or
computed again when it is asked for. Where the code of its query has changed it is kept only to be compared with.
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t

from picante._core.change cimport change
from picante._core.evict cimport make_room
from picante._core.node cimport (
    ABSENT, EVICTED, FAILED, LOADED, MARKED, NAMED, NO_OUTCOME, NOWHERE, OUTCOME, PACKED, PART, UNLINKED, VALUE, Edge,
    Node, Table, drop_edges, new_note, release_slot, replace_edges, reserve_edges,
)
from picante._core.packed cimport new_packed
from picante._core.store cimport admit, advance, keep_current, mark_from


@cython.final
cdef class Part:
    """The stored records of one ingredient."""


cdef int install(Store store, Source source, list parts, Place *places, uint64_t stored_at, list trash) except -1:
    """Put all outcomes in place (in a transition)."""
    cdef Part part
    cdef Node node
    cdef uint64_t until, revision
    cdef bint is_fresh = is_fresh_database(store, stored_at), has_stale = _has_stale(parts, places, stored_at)
    revision = store.present.revision + (0 if is_fresh else 1)
    if is_fresh:
        revision = max(revision, stored_at)
        if revision == 0 and _has_memos(parts):
            revision = 1  # what holds up to the one before could not be said of the first
    elif has_stale:
        revision += 1  # nothing is named by the one before yet
    until = revision - 1 if revision else 0
    if revision > store.present.revision:
        advance(store, revision, trash)
    for part in parts:
        if part.ingredient is not None and part.type != "interned" and not is_fresh:
            clear(store, part, revision, until, trash)
    for part in parts:
        if part.ingredient is not None and part.type == "input":
            place_inputs(store, source, part, places, is_fresh, revision, until, trash)
    for part in parts:
        if part.ingredient is not None and part.type == "derived":
            place_memos(store, source, part, places, stored_at, is_fresh, has_stale, revision, until, trash)
    for part in parts:
        if part.ingredient is not None and part.type == "derived":
            draw_edges(part, revision)
    for part in parts:
        if part.ingredient is not None and part.type == "derived":
            for node in part.nodes:
                if node is not None and node.flags & MARKED:
                    mark_from(store, node, until)
    return make_room(store, None, trash)


cdef bint _has_stale(list parts, Place *places, uint64_t stored_at) except -1:
    """Whether some memo will have to be verified: what depends on it may have to run at this very revision, too."""
    cdef Part part
    cdef Py_ssize_t i
    for part in parts:
        if part.ingredient is None or part.type != "derived":
            continue
        for i in range(part.n_records):
            if part.deps[i] is not None and (
                part.rerun or places[part.first + i].verified_at < stored_at or False in part.deps[i][1::2]
            ):
                return True
    return False


cdef bint _has_memos(list parts) except -1:
    return any([(<Part> part).type == "derived" and (<Part> part).n_records > 0 for part in parts])


cdef bint is_fresh_database(Store store, uint64_t stored_at) except -1:
    """Whether nothing is there that anybody could have seen."""
    cdef Node node
    if store.present.users or store.pins or store.present.revision > stored_at:
        return False
    for table in store.tables.values():
        for nodes in ((<Table> table).plain, (<Table> table).encoded):
            for node in nodes.values():
                if node.flags & (VALUE | FAILED | EVICTED) and (<Table> table).link.ingredient != NULL:
                    return False
    return True


cdef int clear(Store store, Part part, uint64_t revision, uint64_t until, list trash) except -1:
    """Remove what the database has and the file has not."""
    cdef Table table = part.ingredient.table
    cdef Node node
    cdef set stored = {<size_t> <PyObject *> node for node in part.nodes if node is not None}
    for nodes in (table.plain, table.encoded):
        for node in nodes.values():
            if <size_t> <PyObject *> node in stored:
                continue
            if part.type == "input" and node.flags & VALUE:
                change_input(store, node, ABSENT, None, revision, until, trash)
                store.idle.append(node)
            elif part.type == "derived" and node.flags & NAMED:
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


cdef int place_inputs(
    Store store, Source source, Part part, Place *places, bint is_fresh, uint64_t revision, uint64_t until, list trash
) except -1:
    cdef Table table = part.ingredient.table
    cdef Py_ssize_t i
    cdef Place *place
    cdef Node node, each
    cdef uint32_t flags
    table.n_present = 0
    for i in range(part.n_records):
        node = part.nodes[i]
        place = &places[part.first + i]
        if node is None:
            continue
        flags = VALUE | PACKED if place.value < place.end else ABSENT
        value = new_packed(source, place.value, place.end) if flags & VALUE else None
        change_input(store, node, flags, value, revision, until, trash)
        if is_fresh:
            node.changed_at = node.valid_since = place.changed_at
            if node.parts is not None:
                for each in node.parts.values():
                    each.changed_at = each.valid_since = place.changed_at
        if flags & VALUE:
            table.last_ordinal += 1
            node.verified_at = table.last_ordinal
            table.n_present += 1
    table.in_order = False
    change(store, table.members, VALUE | PART, None, revision, until, trash)
    return 0


cdef int place_memos(
    Store store, Source source, Part part, Place *places, uint64_t stored_at, bint is_fresh, bint has_stale,
    uint64_t revision, uint64_t until, list trash,
) except -1:
    cdef Py_ssize_t i
    cdef Place *place
    cdef Node node, outside
    for i in range(part.n_records):
        node = part.nodes[i]
        place = &places[part.first + i]
        if node is None or part.deps[i] is None:
            continue
        if node.flags & OUTCOME:
            keep_current(store, node, node.verified_at if node.flags & MARKED else until, revision, revision)
        mark_from(store, node, until)
        drop_memo(store, node, trash)
        node.value = new_packed(source, place.value, place.end)
        node.flags = VALUE | PACKED
        node.ran = node.turned = new_note(LOADED, NOWHERE)
        node.ran_at = revision
        node.changed_at = place.changed_at if is_fresh else revision
        if has_stale:  # its next outcome may be another one, and will be named by this very revision
            node.changed_at = min(node.changed_at, until)
        node.valid_since = revision
        node.verified_at = revision
        if node.parts is not None:
            for outside in node.parts.values():
                change(store, outside, VALUE | PART, None, revision, until, trash)
        admit(store, node, place.end - place.value)
        if part.rerun or place.verified_at < stored_at:
            node.flags |= MARKED | (UNLINKED if part.rerun else 0)
            node.verified_at = min(place.verified_at, until)
    return 0


cdef int draw_edges(Part part, uint64_t revision) except -1:
    cdef Py_ssize_t i
    cdef uint32_t n
    cdef Edge *edges
    cdef Node node, dep
    cdef list deps, found
    for i in range(part.n_records):
        node = part.nodes[i]
        if node is None or part.deps[i] is None:
            continue
        found = part.deps[i]
        deps = found[::2]
        edges = reserve_edges(deps)
        replace_edges(node, edges, <uint32_t> PyList_GET_SIZE(deps))
        n = 0
        for dep, is_fresh in zip(deps, found[1::2]):
            if (<Table> dep.table).members is None and not (<Table> dep.table).derived:
                dep.flags = VALUE  # the record of an interned value
            edges[n].seen = dep.changed_at if is_fresh else NO_OUTCOME
            if not is_fresh and not node.flags & MARKED:
                node.flags |= MARKED
                node.verified_at = revision - 1
            n += 1
    return 0
