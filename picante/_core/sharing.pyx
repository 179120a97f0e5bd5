"""Families, and the results that their snapshots have computed (r[inflight.shared-cache]).

A database and its snapshots are a *family*: one store, one `RuntimeId`. What a snapshot computes is in the cells that
all of the family share, as a version that is kept while a view needs it. Besides, the newest result of each cell that a
snapshot computed is offered here and outlives the snapshot, up to a bound that holds for the whole process. A later
reader whose dependencies have the very outcomes which that computation saw adopts it (`adopt`).

Stores own their results, and a list of the whole process says only in which order they go: so nothing here keeps a
family alive, and a family takes all that is its own with it. A database that never had a snapshot is in none of this.
"""

cimport cython
import os
import warnings
import weakref
from collections import OrderedDict
from functools import partial

from cpython.ref cimport PyObject

from picante._core.node cimport (
    UNLINKED, VALUE, begin_transition, copy_current, end_transition, find_version, holds_at,
)
from picante._core.store cimport release_version, sweep

DEFAULT_MAX_ENTRIES = 20_000

cdef dict _families = {}           # RuntimeId as an int -> weak reference to its Store
cdef object _order = OrderedDict()  # address of a Node -> the same weak reference; least recently used first
cdef Py_ssize_t _max_entries = DEFAULT_MAX_ENTRIES


# -- families


cdef int share(Store store) except -1:
    """Let the family of `store`, which is getting a snapshot, share."""
    number = int(store.id)
    if store.completed is None:
        store.completed = {}
    if number not in _families:
        _families.setdefault(number, weakref.ref(store, partial(_forget_family, number)))
    return 0


cdef Store find_family(object runtime_id):
    """The store of the family with this `RuntimeId`, or None if it has no snapshots, or is gone."""
    ref = _families.get(int(runtime_id))
    return None if ref is None else ref()


def _forget_family(number, gone):
    del _families[number]
    for address in [address for address, ref in list(_order.items()) if ref is gone]:
        _order.pop(address, None)


# -- completed results


cdef int offer(Store store, Node node, View view) except -1:
    """Keep the value that `node` has at `view`, which a snapshot has computed, for later readers."""
    cdef Version version
    cdef object address = <size_t> <PyObject *> node
    cdef bint collecting
    if _max_entries == 0:
        return 0
    collecting = begin_transition()  # what is copied is of one moment
    try:
        if holds_at(node, view.revision):
            version = copy_current(node, view.revision)
        else:
            version = find_version(node, view.revision)
    finally:
        end_transition(collecting)
    if version is None or not version.flags & VALUE:
        return 0
    _drop(store, address)
    store.completed[address] = (node, version)
    _order[address] = _families[int(store.id)]
    _order.move_to_end(address)
    return _shrink_to(_max_entries)


cdef Version completed_result(Store store, Node node):
    """The result of `node` that a snapshot has computed last, or None."""
    if store.completed is None:
        return None
    entry = store.completed.get(<size_t> <PyObject *> node)
    return None if entry is None else entry[1]


cdef int reuse(Node node) except -1:
    """The result of `node` was of use: let it go later than others."""
    address = <size_t> <PyObject *> node
    if address in _order:
        _order.move_to_end(address)
    return 0


cdef int forget_result(Store store, Node node, list trash) except -1:
    """Drop what is kept of `node` for later readers (in a transition): it is evicted."""
    cdef object address = <size_t> <PyObject *> node
    entry = store.completed.pop(address, None)
    if entry is not None:
        trash.append(entry)
        _order.pop(address, None)
        release_version(store, node, <Version> entry[1])
    return 0


cdef int unlink_versions(Store store, Node node) except -1:
    """Let no earlier result of `node` be adopted (in a transition): what it depends on is not what it had read."""
    cdef Version version
    if node.history is not None:
        for version in node.history:
            version.flags |= UNLINKED
    version = completed_result(store, node)
    if version is not None:
        version.flags |= UNLINKED
    return 0


cdef int _shrink_to(Py_ssize_t n_entries) except -1:
    cdef Store store
    while len(_order) > n_entries:
        address, ref = _order.popitem(last=False)
        store = ref()
        if store is not None:
            _drop(store, address)
    return 0


cdef int _drop(Store store, object address) except -1:
    cdef Node node
    cdef Version version
    entry = store.completed.pop(address, None)
    if entry is not None:
        node, version = entry
        release_version(store, node, version)
        del entry, node, version
        sweep(store)
    return 0


@cython.final
cdef class SharedCache:
    """The results of snapshots that are kept for later ones, of all databases of the process.

    The least recently used go first when there are more than `max_entries`: 20,000, or what the environment
    variable `PICANTE_SHARED_CACHE_MAX_ENTRIES` said when picante was imported (r[inflight.shared-cache-size]).
    """

    def __len__(self):
        return len(_order)

    def __repr__(self):
        return f"<SharedCache {len(_order)} of {_max_entries} entries>"

    @property
    def max_entries(self):
        """How many results are kept at most. May be set; 0 keeps none."""
        return _max_entries

    @max_entries.setter
    def max_entries(self, value):
        global _max_entries
        if type(value) is not int or value < 0:
            raise ValueError(f"max_entries is a number of results, from 0 on, not {value!r}.")
        _max_entries = min(value, 0x7FFF_FFFF)
        _shrink_to(_max_entries)

    def clear(self):
        """Drop all results. The memos of databases and snapshots stay."""
        _shrink_to(0)


cdef int _read_environment() except -1:
    global _max_entries
    text = os.environ.get("PICANTE_SHARED_CACHE_MAX_ENTRIES", "").strip()
    if text.isascii() and text.isdigit():
        _max_entries = min(int(text[:12]), 0x7FFF_FFFF)
    elif text:
        warnings.warn(
            f"PICANTE_SHARED_CACHE_MAX_ENTRIES is {text!r}, which is no number from 0 on: "
            f"up to {DEFAULT_MAX_ENTRIES} results are kept.", RuntimeWarning, stacklevel=2,
        )
    return 0


shared_cache = SharedCache()
_read_environment()
