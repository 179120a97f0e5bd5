"""Inputs: what the user sets, and what everything else is computed from (r[input.type]).

A slot that holds nothing is a record too: a query that found a key missing depends on that. What a query asked of a
slot besides its value (is it there?) is a *part*, a node of its own, and so is the list of all keys: a new value alone
does not rerun who only asked for those.
"""

cimport cython
from types import GenericAlias

from cpython.ref cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport uint32_t, uint64_t

from picante._core.batch cimport Batch, current_batch, merged, n_open, pending_write
from picante._core.change cimport PRESENCE, Write, value_of
from picante._core.compare cimport compare_write, not_found, same_fields
from picante._core.frame cimport Frame, current_frame, number_of, record
from picante._core.ingredient cimport init_ingredient, runtime_of, view_for
from picante._core.key cimport Key, revision
from picante._core.node cimport (
    ABSENT, OUTCOME, PACKED, PART, VALUE, Table, Version, begin_transition, end_transition, ensure_node, find_node,
    find_version, set_parts, untrack_if_plain,
)
from picante._core.observe cimport INPUT_SAME, READ, flush, tell
from picante._core.packed cimport opened, unpack_node
from picante._core.runtime cimport Runtime
from picante._core.store cimport Store, View, sweep


@cython.final
cdef class InputIngredient(Ingredient):
    """A mutable map that remembers who read what (r[input.constraints]: keys are encodable, values are anything).

    Values are shared, not copied: do not change one after it was set.

    Args:
        kind: a number or `QueryKindId` that no other ingredient of the database has.
        name: what messages call it.
        eq: decides whether a new value equals the old one; by default types and structure do.
        fields: names, where values are records: tuples of so many items that can be read one by one (`get_field`).
        key_type, value_type: what they are made of: the classes that a stored cache may name.

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

    def __init__(self, kind, name, *, eq=None, fields=(), key_type=None, value_type=None):
        init_ingredient(self, kind, name, eq)
        self.key_type = key_type
        self.value_type = value_type
        self.fields = tuple(fields)
        self.positions = {name: position for position, name in enumerate(self.fields)}
        self.positions.update({position: position for position in range(len(self.fields))})

    cdef int adopt(self, Store store) except -1:
        cdef Node members = Node(), node
        members.key = Key.from_bytes(b"")
        members.encoded = b""
        members.flags = VALUE | PART
        Ingredient.adopt(self, store)
        self.table.fields = self.fields
        members.table = <PyObject *> self.table
        self.table.members = members
        for nodes in (self.table.plain, self.table.encoded):
            for node in nodes.values():  # known by dependencies that were made by hand
                node.flags = ABSENT
                self.table.in_order = False
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
        if self.fields and (type(value) is not tuple or len(value) != len(self.fields)):
            raise TypeError(f"A record of {self.name} is a tuple of {len(self.fields)}: {', '.join(self.fields)}.")
        cdef Runtime runtime = runtime_of(self, db)
        runtime.check_writable()
        return revision(self.write(runtime, self.slot(key), VALUE, value, None))

    def set_fields(self, db, key, fields):
        """Set some fields of the record `key`, by name or by position: `{"content": "# hello"}`, `{1: "# hello"}`.

        Raises:
            InputNotFoundError: there is no such record. In a batch others may remove it; then the batch raises.
            IndexError: it has no field at this position.
            KeyError: it has no field of this name.
        """
        cdef Runtime runtime = runtime_of(self, db)
        cdef dict by_position = {}
        cdef Node slot
        runtime.check_writable()
        for field, value in fields.items():
            by_position[self.position_of(field)] = value
        slot = find_node(self.table, key)
        if slot is None or not slot.flags & VALUE or n_open:
            if self.value_now(slot) is None:
                raise not_found(self, key)
        return revision(self.write(runtime, slot, VALUE, None, by_position))

    cdef object position_of(self, field):
        found = self.positions.get(field)
        if found is not None:
            return found
        if isinstance(field, str):
            raise KeyError(f"A record of {self.name} has no field {field!r}, but {', '.join(self.fields)}.")
        raise IndexError(f"A record of {self.name} has {len(self.fields)} fields, and none at {field!r}.")

    def remove(self, db, key):
        """Remove the input `key`; whether there was one (r[input.remove]). Raises as `set` does."""
        cdef Runtime runtime = runtime_of(self, db)
        cdef Node slot
        runtime.check_writable()
        was_there = self.value_now(find_node(self.table, key)) is not None
        if was_there or n_open:  # a batch removes also what others set meanwhile
            slot = self.slot(key)
            self.write(runtime, slot, ABSENT, None, None)
            self.store.idle.append(slot)
            slot = None  # only now it may be of no use to anybody
            sweep(self.store)
        return was_there

    cdef uint64_t write(self, Runtime runtime, Node slot, uint32_t flags, value, dict fields) except? 0:
        cdef Write write = Write.__new__(Write)
        cdef Batch batch = current_batch(self.store)
        cdef uint64_t began = 0
        write.ingredient = self
        write.compare = compare_write
        write.slot = slot
        write.flags = flags
        write.value = value
        write.fields = fields
        if batch is not None:
            batch.add(write)
            return self.store.present.revision
        while began == 0:
            if not write.compare(write):
                began = write.replaces
                if self.store.observer is not None:
                    tell_same(self.store, write)
                break
            began = runtime.commit([write])
        write.slot = None  # it may be of no use to anybody any more
        if self.store.idle:
            sweep(self.store)
        return began

    # -- reading

    def get(self, db, key, default=None):
        """The value of `key`, or `default` where there is none (r[input.get])."""
        cdef Runtime runtime = runtime_of(self, db)
        cdef Frame frame = current_frame()
        cdef Node slot
        if frame is not None:
            if frame.runtime is not runtime:
                view_for(self, runtime, frame)  # who may not read makes no slot
            slot = self.slot(key)  # may run anything, and the query may end meanwhile
            if (
                frame.runtime is runtime and slot.valid_since <= frame.view.revision and not slot.flags & PACKED
                and self.store.observer is None
            ):
                record(frame, slot, slot.changed_at, slot.valid_since)
                return slot.value if slot.flags & VALUE else default
        elif runtime.view is None and not n_open:
            slot = find_node(self.table, key)
            if self.store.observer is not None:
                tell_read(self.store, slot, None)
            return opened(slot.value) if slot is not None and slot.flags & VALUE else default
        found = self.read(runtime, key)
        return default if found is None else found[0]

    def require(self, db, key):
        """The value of `key`.

        Raises:
            InputNotFoundError: there is none.
        """
        found = self.read(runtime_of(self, db), key)
        if found is None:
            raise not_found(self, key)
        return found[0]

    def get_field(self, db, key, Py_ssize_t position):
        """One field of the record `key`. A query that read it reruns when this field changes, and for no other.

        Raises:
            InputNotFoundError: there is no such record.
            IndexError: it has no field at `position`.
        """
        if not 0 <= position < len(self.fields):
            raise IndexError(f"A record of {self.name} has {len(self.fields)} fields, and none at {position}.")
        return self.field_at(db, key, position)

    cdef object field_at(self, db, key, Py_ssize_t position):
        cdef Runtime runtime = runtime_of(self, db)
        cdef Frame frame = current_frame()
        cdef Node slot
        cdef View view
        if frame is None:
            if runtime.view is None and not n_open and self.store.observer is None:
                slot = find_node(self.table, key)
                if slot is not None and slot.flags & PACKED:
                    unpack_node(self.store, slot)
                if slot is not None and slot.flags & (VALUE | PACKED) == VALUE:
                    return <object> PyTuple_GET_ITEM(slot.value, position)
            found = self.read(runtime, key)
        else:
            view = view_for(self, runtime, frame)
            slot = self.slot(key)
            found = self.read_at(frame, self.part(slot, position), slot, view)
        if found is None:
            raise not_found(self, key)
        return opened(found[0])[position]

    def contains(self, db, key):
        """Whether there is an input `key`. A query that asked reruns when the answer changes, not with the value."""
        cdef Runtime runtime = runtime_of(self, db)
        cdef Frame frame = current_frame()
        if frame is None:
            return self.found(runtime, key) is not None
        cdef View view = view_for(self, runtime, frame)
        cdef Node slot = self.slot(key)
        return self.read_at(frame, self.part(slot, PRESENCE), slot, view) is not None

    def keys(self, db):
        """All keys, in the order in which they were inserted. A query that listed them reruns when the list changes."""
        cdef Runtime runtime = runtime_of(self, db)
        cdef Frame frame = current_frame()
        cdef View view = view_for(self, runtime, frame)
        cdef Table table = self.table
        cdef Node slot
        cdef list found = []
        cdef Version version
        cdef bint collecting = begin_transition()  # all of one moment
        try:
            if frame is not None:
                record_at(frame, table.members, table.members, view)
            for nodes in (table.plain, table.encoded):
                for slot in nodes.values():
                    if slot.valid_since <= view.revision:
                        if slot.flags & VALUE:
                            found.append((slot.verified_at, slot.key))
                        continue
                    version = find_version(slot, view.revision)
                    if version is not None and version.flags & VALUE:
                        found.append((version.ordinal, slot.key))
        finally:
            end_transition(collecting)
        if self.store.observer is not None:
            tell_read(self.store, table.members, frame)
        if not table.in_order or view.pinned or table.plain and table.encoded:
            found.sort(key=_ordinal)
        keys = [key for _, key in found]
        if n_open and frame is None and runtime.view is None:
            keys = self.keys_in_batch(keys)
        return keys

    cdef list keys_in_batch(self, list keys):
        """`keys` as they are to be once the batch of this context is committed."""
        cdef Batch batch = current_batch(self.store)
        cdef Write write
        if batch is None:
            return keys
        writes = batch.writes
        there = {Key.encode(key): key for key in keys}
        for write in list(writes.values()):  # encoding a key may run anything
            if write.ingredient is self and write.flags & VALUE:
                there.setdefault(Key.encode(write.slot.key), write.slot.key)
            elif write.ingredient is self:
                there.pop(Key.encode(write.slot.key), None)
        return list(there.values())

    # -- the pieces

    cdef Node slot(self, key):
        """The node of `key`, made with "absent since ever" where there was none."""
        cdef Node node = ensure_node(self.table, key)
        if not node.flags & OUTCOME:
            node.flags |= ABSENT
            untrack_if_plain(node)
        return node

    cdef Node part(self, Node slot, name):
        """The node of a part of `slot`: PRESENCE, or the position of a field."""
        cdef Node fresh
        cdef dict parts
        cdef uint64_t changed_at
        while True:
            if slot.parts is not None and name in slot.parts:
                return slot.parts[name]
            changed_at = slot.changed_at
            fresh = self.new_part(slot, name)  # may run user code, which may set this very input
            parts = {name: fresh}
            if slot.changed_at == changed_at:
                if slot.parts is not None:
                    parts = slot.parts
                    fresh = parts.setdefault(name, fresh)
                set_parts(slot, parts)
                return fresh

    cdef Node new_part(self, Node slot, name):
        """A part as it is now, and as long as it is known to have been so."""
        cdef Node part = Node()
        cdef Version version
        cdef list history = slot.history  # held on to: making a list may run finalizers, and those may drop this one
        cdef list versions = [] if history is None else list(history)
        part.table = slot.table
        part.key = slot.key
        part.encoded = slot.encoded
        part.flags = VALUE | PART
        part.changed_at = slot.changed_at
        part.valid_since = slot.valid_since
        versions.sort(key=_valid_since, reverse=True)
        for version in versions:
            if not slot.flags & version.flags & VALUE:
                break
            if name == PRESENCE:
                if version.ordinal != slot.verified_at:
                    break  # it was removed in between
            elif version.valid_until + 1 != part.valid_since or not same_fields(
                version.value, slot.value, name
            ):
                break  # nothing is known of the time in between
            part.changed_at = version.changed_at
            part.valid_since = version.valid_since
        untrack_if_plain(part)
        return part

    cdef tuple value_now(self, Node slot):
        """What a direct read sees, outside of any query: what waits in the batch of this context goes first."""
        cdef Write write = pending_write(self.store, slot)
        if write is None:
            return None if slot is None else value_of(slot)
        if write.fields is None:
            return (write.value,) if write.flags & VALUE else None
        found = value_of(slot)
        return None if found is None else (merged(opened(found[0]), write.fields),)

    cdef tuple read(self, Runtime runtime, key):
        """The value of `key` in a tuple, recorded as read, or None where it is absent."""
        found = self.found(runtime, key)
        return None if found is None else (opened(found[0]),)

    cdef tuple found(self, Runtime runtime, key):
        """The same with a value that may be packed."""
        cdef Frame frame = current_frame()
        if frame is not None:
            view_for(self, runtime, frame)  # who may not read makes no slot
        # The view comes last: encoding a key may run anything.
        cdef Node slot = find_node(self.table, key) if frame is None else self.slot(key)
        cdef View view = view_for(self, runtime, frame)
        if frame is not None:
            return self.read_at(frame, slot, slot, view)
        if self.store.observer is not None:
            tell_read(self.store, slot, None)
        return self.value_now(slot) if runtime.view is None else self.value_at(slot, view)

    cdef tuple read_at(self, Frame frame, Node node, Node slot, View view):
        """Record that `node`, `slot` or a part of it, was read, and return the value of `slot` of the same moment."""
        cdef bint collecting = begin_transition()
        try:
            record_at(frame, node, slot, view)
            found = self.value_at(slot, view)
        finally:
            end_transition(collecting)
        if self.store.observer is not None:
            tell_read(self.store, node, frame)
        return found

    cdef tuple value_at(self, Node slot, View view):
        cdef Version version
        if slot is None:
            return None
        if slot.valid_since <= view.revision:
            return value_of(slot)
        version = find_version(slot, view.revision)
        return (version.value,) if version is not None and version.flags & VALUE else None


cdef int tell_read(Store store, Node node, Frame frame) except -1:
    """Let observers know of a read; outside of all queries not of what does not exist."""
    if node is not None:
        tell(store.observer, READ, node, 0, number_of(frame), 0, 0)
        flush(store.observer)
    return 0


cdef int tell_same(Store store, Write write) except -1:
    tell(store.observer, INPUT_SAME, write.slot, 0, 0, store.present.revision, 0)
    flush(store.observer)
    return 0


def _ordinal(pair):
    return pair[0]


def _valid_since(version):
    return (<Version> version).valid_since


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
