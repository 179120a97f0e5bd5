"""Committed changes, in order, for who must see every one of them: the log on the disk.

Events would not do: a receiver keeps the newest only, and they go out after the change, so that two threads may tell of
theirs in the wrong order. Here every change is noted in the transition that makes it. Nothing is ever dropped: whoever
has a recorder takes what it has, now and then, or closes it.
"""

cimport cython

from picante._core.change cimport Write
from picante._core.node cimport VALUE, Table

__all__ = ["INVALIDATED", "REMOVED", "SET", "ChangeRecorder"]

REMOVED = 0
SET = 1
INVALIDATED = 2


@cython.final
cdef class ChangeRecorder:
    """What has been committed since it was made: see `Runtime.record_changes`."""

    def __init__(self, list recorders not None):
        self.recorders = recorders
        self.entries = []
        recorders.append(self)

    def __len__(self):
        """How many revisions wait to be taken."""
        return len(self.entries)

    def __bool__(self):
        return True

    def take(self):
        """All that came since the last call, in order: a revision, and what it changed.

        Changes are a list of `(SET, kind, key, value)`, `(REMOVED, kind, key, None)`, and `(INVALIDATED, kind, key,
        None)` for a query whose world outside has changed; or None where a cache was loaded: then anything may be new.
        Revisions that change nothing are not told.
        """
        cdef list fresh = []
        cdef list taken = self.entries  # nothing is called from here on: nothing is lost or taken twice
        self.entries = fresh
        return taken

    def close(self):
        """Note nothing from now on. What was not taken can still be."""
        if self in self.recorders:
            self.recorders.remove(self)


cdef int record_writes(list recorders, uint64_t revision, list writes) except -1:
    """Note a commit (in its transition)."""
    cdef Write write
    cdef list changes = []
    for write in writes:
        kind = (<Table> write.slot.table).kind
        if write.flags & VALUE:
            changes.append((SET, kind, write.slot.key, write.value))
        else:
            changes.append((REMOVED, kind, write.slot.key, None))
    return _record(recorders, (revision, changes))


cdef int record_invalidated(list recorders, uint64_t revision, Node cell) except -1:
    """Note that a derived cell must run again whatever it has read (in the transition)."""
    return _record(recorders, (revision, [(INVALIDATED, (<Table> cell.table).kind, cell.key, None)]))


cdef int record_load(list recorders, uint64_t revision) except -1:
    """Note that anything may be new (in the transition)."""
    return _record(recorders, (revision, None))


cdef int _record(list recorders, tuple entry) except -1:
    cdef ChangeRecorder recorder
    for recorder in recorders:
        recorder.entries.append(entry)
    return 0
