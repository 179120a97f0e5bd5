"""Inputs: what the user sets, and what everything else is computed from (r[input.type]).

A slot that holds nothing is a record too: a query that found a key missing depends on that. What a query asked of a
slot besides its value (is it there?) is a *part*, a node of its own, and so is the list of all keys: a new value alone
does not rerun who only asked for those.
"""

cimport cython
from types import GenericAlias

from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.equality cimport outcomes_equal
from picante._core.errors import InputNotFoundError
from picante._core.frame cimport Frame, current_frame, record
from picante._core.ingredient cimport check_view, describe, init_ingredient, runtime_of
from picante._core.key cimport Key
from picante._core.key import Revision
from picante._core.node cimport (
    ABSENT, OUTCOME, PART, VALUE, Table, Version, ensure_node, find_node, find_version,
)
from picante._core.runtime cimport Runtime, Write
from picante._core.store cimport Store, View

cdef str PRESENCE = "presence"


@cython.final
cdef class InputIngredient(Ingredient):
    """A mutable map that remembers who read what (r[input.constraints]: keys are encodable, values are anything).

    Values are shared, not copied: do not change one after it was set.

    Args:
        kind: a number or `QueryKindId` that no other ingredient of the database has.
        name: what messages call it.
        eq: decides whether a new value equals the old one; by default types and structure do.

    >>> class Db:
    ...     def __init__(self):
    ...         self.runtime = Runtime()
    >>> from picante import Runtime
    >>> db, text = Db(), InputIngredient(1, "Text")
    >>> text.set(db, "a", "hello")
    Revision(1)
    >>> text.get(db, "a")
    'hello'
    """

    def __init__(self, kind, name, *, eq=None):
        init_ingredient(self, kind, name, eq)

    cdef int adopt(self, Store store) except -1:
        Ingredient.adopt(self, store)
        cdef Node members = Node()
        members.table = <PyObject *> self.table
        members.key = Key.from_bytes(b"")
        members.flags = VALUE | PART
        self.table.members = members
        return 0

    def __len__(self):
        """How many keys the database has now."""
        return 0 if self.table is None else self.table.n_present

    def __bool__(self):
        return True

    @classmethod
    def __class_getitem__(cls, item):
        """`InputIngredient[str, int]`, for annotations."""
        return GenericAlias(cls, item)

    # -- writing

    def set(self, db, key, value):
        """Set the input `key` to `value` and return the `Revision` since which it holds (r[input.set]).

        A value equal to the present one changes nothing and begins no revision (r[input.revision-on-change]).

        Raises:
            EncodeError: `key` cannot be a key.
            WriteInQueryError: called inside a query.
            SnapshotFrozenError: `db` is a snapshot.
        """
        return Revision(self.write(runtime_of(self, db), key, VALUE, value))

    def remove(self, db, key):
        """Remove the input `key`; whether there was one (r[input.remove]). Raises as `set` does."""
        cdef Runtime runtime = runtime_of(self, db)
        runtime.check_writable()
        cdef Node slot = find_node(self.table, key)
        if slot is None or not slot.flags & VALUE:
            return False
        self.write(runtime, key, ABSENT, None)
        return True

    cdef uint64_t write(self, Runtime runtime, key, uint32_t flags, value) except? 0:
        runtime.check_writable()
        cdef Write write = Write()
        cdef uint64_t revision = 0
        write.is_last = find_node(self.table, key) is None
        write.slot = self.slot(key)
        write.flags = flags
        write.value = value
        while revision == 0:
            write.replaces = write.slot.changed_at
            if write.slot.flags & OUTCOME == flags and (
                flags == ABSENT or outcomes_equal(self.eq, write.slot.value, value)
            ):
                if write.slot.changed_at == write.replaces:
                    return write.replaces
                continue  # the user's __eq__ has set this very input
            self.compare_parts(write)
            revision = runtime.commit([write])
        return revision

    cdef int compare_parts(self, Write write) except -1:
        """Find the parts of the slot that `write` changes."""
        cdef dict parts = write.slot.parts
        write.parts = None
        write.n_parts = 0
        if parts is None:
            return 0
        write.n_parts = len(parts)
        if (write.slot.flags ^ write.flags) & VALUE:
            write.parts = [parts[PRESENCE], bool(write.flags & VALUE)]
        return 0

    # -- reading

    def get(self, db, key, default=None):
        """The value of `key`, or `default` where there is none (r[input.get])."""
        cdef Runtime runtime = runtime_of(self, db)
        cdef Node slot
        if runtime.view is None and current_frame() is None:
            slot = find_node(self.table, key)
            return slot.value if slot is not None and slot.flags & VALUE else default
        found = self.read(runtime, key)
        return default if found is None else found[0]

    def require(self, db, key):
        """The value of `key`.

        Raises:
            InputNotFoundError: there is none.
        """
        found = self.read(runtime_of(self, db), key)
        if found is None:
            raise InputNotFoundError(
                f"{describe(self.slot(key))} was never set, or was removed. Set it, or use get(), which has a default.",
                kind=self.kind, key=Key.encode(key),
            )
        return found[0]

    def contains(self, db, key):
        """Whether there is an input `key`. A query that asked reruns when the answer changes, not with the value."""
        cdef Runtime runtime = runtime_of(self, db)
        cdef Frame frame = current_frame()
        cdef View view = view_of(self, runtime, frame)
        if frame is None:
            return self.value_at(find_node(self.table, key), view) is not None
        cdef Node slot = self.slot(key)
        there = self.value_at(slot, view) is not None
        if slot.parts is None:
            slot.parts = {}
        cdef Node part = slot.parts.get(PRESENCE)
        if part is None:
            part = slot.parts.setdefault(PRESENCE, self.new_part(slot, bool(slot.flags & VALUE)))
        record_at(frame, part, slot, view)
        return there

    def keys(self, db):
        """All keys, in the order in which they were inserted. A query that listed them reruns when the list changes."""
        cdef Runtime runtime = runtime_of(self, db)
        cdef Frame frame = current_frame()
        cdef View view = view_of(self, runtime, frame)
        cdef Table table = self.table
        cdef Node slot
        cdef list found = []
        cdef Version version
        if frame is not None:
            record_at(frame, table.members, table.members, view)
        for nodes in (table.plain, table.encoded):
            for slot in list(nodes.values()):
                if slot.valid_since <= view.revision:
                    if slot.flags & VALUE:
                        found.append((slot.verified_at, slot.key))
                else:
                    version = find_version(slot, view.revision)
                    if version is not None and version.flags & VALUE:
                        found.append((version.ordinal, slot.key))
        if not table.in_order or view.pinned or table.plain and table.encoded:
            found.sort(key=_ordinal)
        return [key for _, key in found]

    # -- the pieces

    cdef Node slot(self, key):
        """The node of `key`, made with "absent since ever" where there was none."""
        cdef Node node = ensure_node(self.table, key)
        if not node.flags & OUTCOME:
            node.flags |= ABSENT
        return node

    cdef Node new_part(self, Node slot, value):
        """What a slot is asked for besides its value, as it is now and as long as it is known to have been so."""
        cdef Node part = Node()
        cdef Version version
        part.table = slot.table
        part.key = slot.key
        part.value = value
        part.flags = VALUE | PART
        part.changed_at = slot.changed_at
        part.valid_since = slot.valid_since
        if slot.flags & VALUE and slot.history is not None:
            for version in slot.history:  # other values of the same stay: same place in the order of insertion
                if (
                    version.flags & VALUE and version.ordinal == slot.verified_at
                    and version.valid_since < part.valid_since
                ):
                    part.changed_at = version.changed_at
                    part.valid_since = version.valid_since
        return part

    cdef tuple read(self, Runtime runtime, key):
        """The value of `key` in a tuple, recorded as read, or None where it is absent."""
        cdef Frame frame = current_frame()
        cdef View view = view_of(self, runtime, frame)
        cdef Node slot
        if frame is None:
            return self.value_at(find_node(self.table, key), view)
        slot = self.slot(key)
        record_at(frame, slot, slot, view)
        return self.value_at(slot, view)

    cdef tuple value_at(self, Node slot, View view):
        cdef Version version
        if slot is None:
            return None
        if slot.valid_since <= view.revision:
            return (slot.value,) if slot.flags & VALUE else None
        version = find_version(slot, view.revision)
        return (version.value,) if version is not None and version.flags & VALUE else None


def _ordinal(pair):
    return pair[0]


cdef View view_of(InputIngredient ingredient, Runtime runtime, Frame frame):
    """The view that a read through `runtime` sees, inside the query of `frame` or outside of any."""
    if frame is None:
        return runtime.store.present if runtime.view is None else runtime.view
    check_view(frame, runtime, ingredient)
    return frame.view


cdef int record_at(Frame frame, Node node, Node slot, View view) except -1:
    """Record that `node`, `slot` or a part of it, was read as of `view`."""
    cdef Version version
    if node.valid_since <= view.revision:
        return record(frame, node, node.changed_at, node.valid_since)
    version = find_version(node, view.revision)
    if version is None and node is not slot:
        # The part was first asked for after this revision: it is what the slot was, under the slot's name for it.
        return record_at_slot(frame, node, slot, view)
    if version is None:
        return record(frame, node, 0, 0)  # absent since ever
    return record(frame, node, version.changed_at, version.valid_since)


cdef int record_at_slot(Frame frame, Node part, Node slot, View view) except -1:
    cdef Version version
    if slot.valid_since <= view.revision:
        return record(frame, part, slot.changed_at, slot.valid_since)
    version = find_version(slot, view.revision)
    if version is None:
        return record(frame, part, 0, 0)
    return record(frame, part, version.changed_at, version.valid_since)
