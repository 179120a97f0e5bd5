"""Derived queries: memoized, recorded, awaited (r[derived.type], r[cell.access]).

`DerivedIngredient.get` only makes a `Fetch`; all happens when that is awaited (`fetch`). One compiled state machine
serves every query (r[type-erasure.purpose]): user code is one call of one object, equality one call of another
(r[type-erasure.mechanism]).
"""

cimport cython
from types import GenericAlias

from picante._core cimport fetch
from picante._core.awaitable cimport picante_set_method
from picante._core.evict cimport checked_limit, new_limits
from picante._core.failure cimport take_failure
from picante._core.fetch cimport Method, fetched, get_quickly, poisoned, prepare
from picante._core.frame cimport Frame, current_frame, running_since
from picante._core.ingredient cimport init_ingredient, runtime_of, view_for
from picante._core.key cimport Key, new_dep
from picante._core.key import Revision
from picante._core.map cimport map_keys
from picante._core.node cimport (
    EVICTED, FAILED, MARKED, PACKED, UNVISITED, VALUE, Failure, Node, Table, find_node, node_key, read_by,
)
from picante._core.outcome cimport Outcome, outcome_at
from picante._core.packed cimport opened
from picante._core.raised cimport Raised, raised_by
from picante._core.runtime cimport Runtime
from picante._core.states import Poisoned, Ready, Running, Vacant
from picante._core.store cimport Store, View


@cython.final
cdef class DerivedIngredient(Ingredient):
    """A memoized query of one database (r[derived.compute-fn]).

    Args:
        kind: a number or `QueryKindId` that no other ingredient of the database has.
        name: what messages call it.
        compute: `async def compute(db, key)`, or a plain function. It must read only through the database, and
            return something that can be kept: no generator, no coroutine.
        eq: decides whether a new value equals the old one; by default types and structure do.
        version: stands for the code of `compute` in stored caches: change it to have stored results computed again.
        keep: a computation that has begun goes on, for the cache, when its caller is cancelled or gone. It runs in
            a task of its own, which costs more than the computation of a small query.
        key_type, value_type: what they are made of: the classes that a stored cache may name.
        max_memos: how many of its memos are kept; None for any number. May be set later on, too.
        size: called with a value for how many bytes it counts as, where the database limits those.
    """

    def __init__(
        self, kind, name, compute, *, eq=None, version=None, keep=False, key_type=None, value_type=None,
        max_memos=None, size=None,
    ):
        init_ingredient(self, kind, name, eq)
        if not callable(compute):
            raise TypeError(f"The compute function of {name} must be callable with (db, key), not {compute!r}.")
        self.compute = compute
        self.version = version
        self.keep = keep
        self.key_type = key_type
        self.value_type = value_type
        checked_limit("max_memos", max_memos)
        if size is not None and not callable(size):
            raise TypeError(f"size= of {name} must be callable with a value, not {size!r}.")
        self.limit = max_memos
        self.size = size

    @property
    def function(self):
        """The user's function, whose code stands for the query."""
        return self.compute if self.definition is None else self.definition.__wrapped__

    cdef int adopt(self, Store store) except -1:
        Ingredient.adopt(self, store)
        self.table.derived = True
        self.table.sizer = self.size
        if self.limit is not None:
            new_limits(store, self.table, False).max_memos = self.limit
        return 0

    @property
    def max_memos(self):
        """How many memos of this query are kept at most; None: any number. What is over is evicted at once."""
        return self.limit if self.table is None else new_limits(self.store, self.table, False).max_memos

    @max_memos.setter
    def max_memos(self, limit):
        checked_limit("max_memos", limit)
        self.limit = limit
        if self.table is not None:
            new_limits(self.store, self.table, False).max_memos = limit

    @classmethod
    def __class_getitem__(cls, item):
        """`DerivedIngredient[str, int]`, for annotations."""
        return GenericAlias(cls, item)

    @cython.binding(False)  # a plain method descriptor: the interpreter calls it a tenth of a hit faster
    def get(self, db, key):
        """Await it for the value of `key`: the memo where it holds, else computed (r[derived.get]).

        Nothing happens before it is awaited.

        Raises:
            Whatever the query raises: at one revision the same exception for everybody.
            CycleError: the query, directly or not, waits for itself.
        """
        return fetched(self, db, key, False)

    def touch(self, db, key):
        """Await it to bring `key` up to date, for the `Touch` that says since when its value is what it is.

        Raises:
            QueryPoisonedError: the query failed; its exception is the cause.
        """
        return fetched(self, db, key, True)

    def map(self, db, keys, *, limit=None):
        """Await it for the values of all `keys`, a list in their order, all as of one revision.

        What is known costs no task; the rest is computed side by side, at most `limit` keys at a time. After an
        error the rest is cancelled, and has ended before the error, the first one, is raised.
        """
        return map_keys(self, db, keys, limit)

    def invalidate(self, db, key):
        """Have the memo of `key` computed again, as a revision of its own, which is returned.

        For what lives outside of the database: a file, a server. Queries that read this one run again only if its value
        turns out to be another one. Where there is no memo, nothing happens.

        Raises:
            WriteInQueryError: called inside a query.
            SnapshotFrozenError: `db` is a snapshot.
        """
        cdef Runtime runtime = runtime_of(self, db)
        runtime.check_writable()
        cdef Node node = find_node(self.table, key)
        if node is None or not node.flags & (VALUE | FAILED | EVICTED) and node.running is None:
            return runtime.current_revision
        return Revision(runtime.invalidate(node))

    def peek(self, db, key, default=None):
        """The value of `key` if a memo is known to hold now, else `default`. Computes, waits and records nothing.

        Raises:
            QueryPoisonedError: the query failed at this revision.
        """
        cdef Runtime runtime = runtime_of(self, db)
        cdef Frame frame = current_frame()
        cdef Node node = find_node(self.table, key)
        if node is not None and node.flags & (PACKED | UNVISITED):
            prepare(runtime.store, node)
        cdef View view = view_for(self, runtime, frame)
        cdef Outcome outcome
        if node is None or not outcome_at(node, view, &outcome):
            return default
        if outcome.flags & FAILED:
            raise poisoned(node, take_failure(<Failure> outcome.value, runtime, None), view.revision)
        return opened(<object> outcome.value)

    def cell_state(self, key):
        """The state of the cell of `key`, the latest one: Vacant, Running, Ready or Poisoned (r[cell.states])."""
        cdef Node node = None
        cdef uint64_t verified_at
        if self.table is not None:
            node = find_node(self.table, key)
        if node is None:
            Key.encode(key)  # refuse what cannot be a key here as well
            return Vacant()
        started_at = running_since(node)
        if started_at is not None:
            return Running(Revision(started_at))
        if node.flags & PACKED:
            prepare(self.store, node)
        # All of one moment, once the list is made; encoding keys, below, may run anything.
        deps = read_by(node)
        flags, value, changed_at, valid_since = node.flags, node.value, node.changed_at, node.valid_since
        raised = raised_by(<Failure> value) if flags & FAILED else None
        verified_at = node.verified_at if node.flags & MARKED else self.store.present.revision
        if flags & VALUE:
            return Ready(opened(value), _deps(deps), Revision(verified_at), Revision(changed_at))
        if flags & FAILED:
            return Poisoned((<Raised> raised).error, Revision(valid_since))
        return Vacant()


fetch.get_generally = <Method> picante_set_method(DerivedIngredient, "get", <void *> get_quickly)


cdef tuple _deps(list nodes):
    deps = [new_dep(int((<Table> (<Node> node).table).kind), node_key(<Node> node)) for node in nodes]
    return tuple(dict.fromkeys(deps))
