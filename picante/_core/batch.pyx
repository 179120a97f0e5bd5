"""Batches: several changes as one revision, all or nothing (decision: a reader never sees half of one).

A batch belongs to the context that opened it, and to its child tasks: a context variable holds it. Their changes wait
in the batch, where their own direct reads find them; everybody else, queries included, goes on seeing what is
committed. At the end of the block all changes are compared with what is there then, and those that do change something
become one revision. A batch that is opened inside another joins it, and takes back only its own part when it fails.
"""

cimport cython
from contextvars import ContextVar

from picante._core.errors import InputNotFoundError
from picante._core.ingredient cimport describe
from picante._core.key import Revision
from picante._core.node cimport VALUE, Table, begin_transition, end_transition, node_key
from picante._core.observe cimport INPUT_SAME, tell
from picante._core.store cimport sweep

_batch_var = ContextVar("picante_batch", default=None)


@cython.final
cdef class Batch:
    """What `with db.batch():` enters.

    >>> from picante import InputIngredient, Runtime
    >>> class Db:
    ...     def __init__(self):
    ...         self.runtime = Runtime()
    >>> db, text = Db(), InputIngredient(1, "Text")
    >>> with Batch(db.runtime) as batch:
    ...     _ = text.set(db, "a", 1)
    ...     _ = text.set(db, "b", 2)
    >>> batch.revision
    Revision(1)
    """

    def __init__(self, Runtime runtime not None):
        self.runtime = runtime

    @property
    def revision(self):
        """The `Revision` that the changes became, or the present one where nothing changed; None while it is open."""
        return self.committed if self.outer is None else self.outer.revision

    def __enter__(self):
        global n_open
        self.runtime.check_writable()
        if self.was_entered:
            raise RuntimeError("A batch is entered once; open another one with db.batch().")
        self.was_entered = True
        self.outer = current_batch(self.runtime.store)
        if self.outer is not None:
            self.writes = self.outer.writes
            self.saved = dict(self.writes)
        else:
            self.writes = {}
            self.is_open = True
            n_open += 1
            self.before = _batch_var.get()
            _set_current(self)
        return self

    def __exit__(self, kind, error, traceback):
        global n_open
        if self.outer is not None:
            if kind is not None and self.writes is self.outer.writes:
                self.take_back()
            self.writes = self.saved = None
            return None
        self.is_open = False
        n_open -= 1
        if _batch_var.get() is self:
            _set_current(self.before)
        try:
            if kind is None:
                self.committed = Revision(self.commit())
        finally:
            slots = list(self.writes)  # first: making objects may run finalizers, and those may replace the list
            self.runtime.store.idle.extend(slots)  # they may have been made for nothing
            self.writes = slots = None  # who holds them keeps them
            sweep(self.runtime.store)
        return None

    cdef int take_back(self) except -1:
        """Let the batch that this one has joined be as it was then. Dropping what was to be set may run anything."""
        cdef dict _dropped = None  # until here
        cdef bint collecting = begin_transition()
        try:
            _dropped = dict(self.writes)
            self.writes.clear()
            self.writes.update(self.saved)
        finally:
            end_transition(collecting)
        return 0

    cdef uint64_t commit(self) except? 0:
        """Make what changes something one revision; the present one where nothing does."""
        cdef uint64_t revision = 0
        cdef Write write
        cdef list writes
        while revision == 0:
            writes = []
            for write in self.writes.values():
                if write.compare(write):
                    writes.append(write)
                elif self.runtime.store.observer is not None:
                    tell(self.runtime.store.observer, INPUT_SAME, write.slot, 0, 0, write.replaces, 0)
            if not writes:
                return self.runtime.store.present.revision
            revision = self.runtime.commit(writes)
        return revision

    cdef int add(self, Write write) except -1:
        """Let `write` wait; later ones win, and a partial one is merged into what waits for its record."""
        cdef Write earlier = None
        cdef bint collecting = begin_transition()  # a finalizer may change the same record
        try:
            earlier = self.writes.get(write.slot)
            if earlier is not None and write.fields is not None:
                if not earlier.flags & VALUE:  # since the caller has looked
                    raise InputNotFoundError(
                        f"{describe(write.slot)} was removed in this batch.",
                        kind=(<Table> write.slot.table).kind, key=node_key(write.slot),
                    )
                if earlier.fields is not None:
                    write.fields = {**earlier.fields, **write.fields}
                else:
                    write.value = merged(earlier.value, write.fields)
                    write.fields = None
            self.writes[write.slot] = write
        finally:
            end_transition(collecting)
        return 0


cdef tuple merged(tuple record, dict fields):
    """`record` with some items replaced, by position."""
    items = list(record)
    for position, item in fields.items():
        items[position] = item
    return tuple(items)


cdef int _set_current(Batch batch) except -1:
    """Let `batch`, or None, be that of this context. A transition, for the reason that `frame.enter_context` gives."""
    cdef bint collecting = begin_transition()
    try:
        _batch_var.set(batch)
    finally:
        end_transition(collecting)
    return 0


cdef Batch current_batch(Store store):
    """The open batch of this context for the database of `store`, or None."""
    cdef Batch batch
    if n_open == 0:
        return None
    batch = _batch_var.get()
    while batch is not None and not (batch.is_open and batch.runtime.store is store):
        batch = batch.before
    return batch


cdef Write pending_write(Store store, Node slot):
    """The change of `slot` that waits in the batch of this context, or None."""
    cdef Batch batch = current_batch(store)
    return None if batch is None or slot is None else batch.writes.get(slot)
