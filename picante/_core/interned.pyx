"""Interned values: small numbers for immutable values, given out once and for good (r[interned.type]).

The numbers mean the same in a database and all its snapshots, at every revision, so reading one can never make
anything run again; it is recorded only so that tools can show it.
"""

cimport cython
import dataclasses
from types import GenericAlias

from libc.stdint cimport uint32_t

from picante._core.errors import InternIdNotFoundError
from picante._core.frame cimport Frame, current_frame, number_of, record
from picante._core.ingredient cimport init_ingredient, runtime_of, view_for
from picante._core.key cimport encode_key, intern_id, is_plain_key
from picante._core.key import InternId, QueryKindId
from picante._core.node cimport (
    VALUE, PyObject_GC_IsTracked, PyObject_GC_Track, PyObject_GC_UnTrack, begin_transition, end_transition, ensure_node,
    leads_nowhere, untrack_if_plain,
)
from picante._core.observe cimport INTERNED, READ, Observation, flush, tell
from picante._core.runtime cimport Runtime


@cython.final
cdef class InternedIngredient(Ingredient):
    """An append-only map from values to numbers and back (r[interned.constraints]: values are what keys may be).

    Args:
        kind: a number or `QueryKindId` that no other ingredient of the database has.
        name: what messages call it.
        value_type: what values are made of: the classes that a stored cache may name.
        handle_kind: of which kind the handles are that hold its ids, if not of its own.
        record_type: the class of its values, if these are records: a frozen dataclass that refers to its fields only.

    >>> words = InternedIngredient(3, "Words")
    >>> words.intern("a"), words.intern("b"), words.intern("a")
    (InternId(0), InternId(1), InternId(0))
    """

    def __init__(self, kind, name, *, value_type=None, handle_kind=None, record_type=None):
        init_ingredient(self, kind, name, None)
        self.value_type = value_type
        self.handle_kind = self.kind if handle_kind is None else QueryKindId(handle_kind)
        self.record_type = record_type
        self.fields = () if record_type is None else tuple([each.name for each in dataclasses.fields(record_type)])
        self.values = []
        self.plain = {}
        self.encoded = {}
        self.records = {}
        self.is_plain = True
        PyObject_GC_UnTrack(<void *> self.values)

    def __len__(self):
        """How many values were interned."""
        return len(self.values)

    def __bool__(self):
        return True

    @classmethod
    def __class_getitem__(cls, item):
        """`InternedIngredient[str]`, for annotations."""
        return GenericAlias(cls, item)

    def intern(self, value):
        """The `InternId` of `value`, the same for the same typed value every time (r[interned.intern]).

        Begins no revision and records nothing; queries may intern too.

        Raises:
            EncodeError: `value` is not of a type that keys may have.
        """
        if self.record_type is not None and type(value) is self.record_type:
            return self.intern_record(self.fields_of(value), value)
        if is_plain_key(value):
            return self.id_for(self.plain, value, value)
        return self.id_for(self.encoded, encode_key(value), value)

    def intern_fields(self, tuple fields not None):
        """The same for the record with these fields, in their order; it is made only if it is new."""
        if self.record_type is None:
            raise TypeError(f"The values of {self.name} are no records, and have no fields.")
        return self.intern_record(fields, None)

    cdef tuple fields_of(self, object value):
        return tuple([getattr(value, name) for name in self.fields])

    cdef object intern_record(self, tuple fields, object value):
        if is_plain_key(fields):
            number = self.known(self.records, fields)
            if number is not None:
                return number
        value = self.record_type(*fields) if value is None else value
        if not is_plain_key(fields):
            return self.id_for(self.encoded, encode_key(value), value)
        if leads_nowhere(fields) and PyObject_GC_IsTracked(value):
            PyObject_GC_UnTrack(<void *> value)  # it refers to nothing else
        return self.id_for(self.records, fields, value)

    cdef object known(self, dict ids, object key):
        number = ids.get(key)
        if number is not None and self.store is not None and self.store.observer is not None:
            self.tell_interned(number, False)
        return number

    cdef object id_for(self, dict ids, object key, object value):
        while True:
            number = self.known(ids, key)
            if number is not None:
                return number
            next_one = len(self.values)
            if next_one > 0xFFFF_FFFF:
                raise OverflowError(f"{self.name} has given out all of its 4,294,967,296 ids.")
            number = intern_id(<uint32_t> next_one)
            # Making the id may have collected garbage, whose finalizers may have interned something.
            if len(self.values) == next_one and key not in ids:
                ids[key] = number
                self.values.append(value)
                self.hide(ids, value)
                if self.store is not None and self.store.observer is not None:
                    self.tell_interned(number, True)
                return number

    cdef void hide(self, dict ids, object value) noexcept:
        """Hide the containers from the collector while `value` and all before lead nowhere: they may be very large."""
        if self.is_plain and leads_nowhere(value):
            PyObject_GC_UnTrack(<void *> ids)  # what it was given has made it known
        elif self.is_plain:
            self.is_plain = False
            for container in (self.plain, self.encoded, self.records, self.values):
                if not PyObject_GC_IsTracked(container):
                    PyObject_GC_Track(<void *> container)

    cdef Node node_of(self, object id):
        """The node that stands for "has been read"."""
        cdef Node node = ensure_node(self.table, int(id))
        if not node.flags & VALUE:
            node.flags = VALUE
            untrack_if_plain(node)
        return node

    cdef int tell_interned(self, object number, bint is_new) except -1:
        """Let observers know. The node is made for it, as it would be when a query reads the value."""
        cdef Node node = self.node_of(number)
        cdef Observation hub = self.store.observer  # now: making the node may run finalizers, and those may close it
        if hub is not None:
            tell(hub, INTERNED, node, 0, number_of(current_frame()), int(number), is_new)
            flush(hub)
        return 0

    cdef list between(self, Py_ssize_t start, Py_ssize_t stop):
        """Values by id. Of one moment: making the list might run finalizers, and those might take back some of them."""
        cdef bint collecting = begin_transition()
        try:
            return self.values[start:stop]
        finally:
            end_transition(collecting)

    cdef int forget(self, Py_ssize_t n, Py_ssize_t n_now) except -1:
        """Take back all ids from `n` on, which nobody knows yet; nothing if there are not `n_now` of them any more."""
        if len(self.values) != n_now:
            return 0
        for value in self.between(n, n_now):
            if is_plain_key(value):
                del self.plain[value]
            elif type(value) is self.record_type and is_plain_key(self.fields_of(value)):
                del self.records[self.fields_of(value)]
            else:
                del self.encoded[encode_key(value)]
        del self.values[n:]
        return 0

    def get(self, db, id):
        """The value that `id` stands for (r[interned.get]).

        Raises:
            InternIdNotFoundError: no value has this id.
        """
        cdef Runtime runtime = runtime_of(self, db)
        cdef Frame frame = current_frame()
        cdef Node node
        view_for(self, runtime, frame)
        if not isinstance(id, int) or isinstance(id, bool):
            raise TypeError(f"{self.name} is asked for values by InternId, not by {type(id).__qualname__}.")
        if not 0 <= id < len(self.values):
            raise InternIdNotFoundError(
                f"{self.name} has no value with the id {int(id)}. Ids come from intern() of the same ingredient.",
                kind=self.kind, id=InternId(id) if 0 <= id <= 0xFFFF_FFFF else id,
            )
        if frame is not None:
            node = self.node_of(id)
            record(frame, node, 0, 0)
            if self.store.observer is not None:
                tell(self.store.observer, READ, node, 0, frame.number, 0, 0)
                flush(self.store.observer)
        return self.values[id]
