"""Derived queries: memoized, recorded, awaited (r[derived.type], r[cell.access]).

`DerivedIngredient.get` only makes a `Fetch`; all happens when that is awaited, in the context in which it
is. A memo that is known to hold is handed out at once: one look into a dict and one at a flag. Everything else
is left to a driver (`execute`). One compiled state machine serves every query (r[type-erasure.purpose]): user code is
one call of one object, equality one call of another (r[type-erasure.mechanism]).
"""

cimport cython
from types import GenericAlias

from cpython.contextvars cimport PyContextVar_Get
from cpython.dict cimport PyDict_GetItemWithError
from cpython.exc cimport PyErr_WarnEx
from cpython.object cimport PyTypeObject, destructor
from cpython.ref cimport Py_DECREF, Py_INCREF

from picante._core.awaitable cimport (
    PYGEN_NEXT, PYGEN_RETURN, PyObject_GC_Del, PyObject_GC_IsTracked, PyObject_GC_Track, PyObject_GC_UnTrack,
    picante_forbid_new, picante_raise, picante_revive, picante_set_slots, stop_with, thrown_exception,
)
from picante._core.drivers cimport take_driver
from picante._core.errors import QueryPoisonedError
from picante._core.evict cimport checked_limit, new_limits, recount
from picante._core.failure cimport take_failure
from picante._core.frame cimport current_frame, frame_var, n_running, number_of, record, running_since
from picante._core.ingredient cimport describe, init_ingredient, picante_referent, runtime_of, view_for
from picante._core.key cimport Key, is_plain_key, new_dep, revision as new_revision
from picante._core.key import Revision
from picante._core.map cimport map_keys
from picante._core.node cimport (
    EVICTED, FAILED, MARKED, NO_OUTCOME, PACKED, UNVISITED, VALUE, Failure, Table, ensure_node, find_node, node_key,
    read_by,
)
from picante._core.observe cimport BY_CALL, HIT, flush, tell
from picante._core.outcome cimport Outcome, is_unknown, name_at, outcome_at
from picante._core.raised cimport Raised, raised_by
from picante._core.packed cimport opened, unpack_node
from picante._core.states import Poisoned, Ready, Running, Touch, Vacant
from picante._core.store cimport Store, View, may_be_idle


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
        return new_fetch(self, db, key, False)

    def touch(self, db, key):
        """Await it to bring `key` up to date, for the `Touch` that says since when its value is what it is.

        Raises:
            QueryPoisonedError: the query failed; its exception is the cause.
        """
        return new_fetch(self, db, key, True)

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


@cython.final
cdef class Fetch:
    """What a call of a query returns: await it, once. It behaves like the coroutine of an `async def`."""

    def __dealloc__(self):
        if self.state == NEW and self.ingredient is not None:
            _warn_never_awaited(self)

    def __repr__(self):
        return f"<query {self.__qualname__}({self.key!r})>"

    @property
    def __name__(self):
        return self.ingredient.name.rpartition(".")[2]

    @property
    def __qualname__(self):
        return self.ingredient.name.rpartition(".")[2]

    @property
    def cr_running(self):
        """Whether a step is being taken at this moment."""
        return self.driver is not None and self.driver.running

    @property
    def cr_await(self):
        """What is awaited, or None."""
        return None if self.driver is None else self.driver.inner

    def __await__(self):
        return self

    def send(self, value):
        return self.hand_out(value, None)

    def throw(self, kind, value=None, traceback=None):
        error = thrown_exception(kind, value, traceback)
        if self.state == NEW:
            self.state = ENDED
            raise error
        return self.hand_out(None, error)

    def close(self):
        if self.driver is not None and self.state == DRIVEN:
            self.driver.close()
        self.state = ENDED

    cdef object hand_out(self, object sent, object thrown):
        cdef PyObject *result = NULL
        cdef PySendResult status
        if self.state == NEW:
            status = fetch_send(self, <PyObject *> sent, &result)
        else:
            status = self.go_on(sent, thrown, &result)
        value = <object> result
        Py_DECREF(value)  # `value` has a reference of its own
        if status == PYGEN_RETURN:
            raise StopIteration(value)
        return value

    cdef PySendResult begin(self, PyObject **result) except PYGEN_ERROR:
        """The first step: look for a memo that holds, for whoever asks."""
        cdef DerivedIngredient ingredient = self.ingredient
        cdef Runtime runtime
        cdef Frame frame
        cdef Node node = None
        cdef View view
        cdef Outcome outcome
        global _probed
        self.state = ENDED
        if _probed != NULL:
            node = <Node> _probed
            _probed = NULL
        runtime = runtime_of(ingredient, self.db)
        frame = current_frame()
        if node is None:
            view_for(ingredient, runtime, frame)  # first: who may not read makes no cell
            node = ensure_node(ingredient.table, self.key)
        if node.flags & (PACKED | UNVISITED):
            prepare(runtime.store, node)
        view = view_for(ingredient, runtime, frame)  # last: encoding a key may run anything, and end the query
        frame = None if frame is not None and frame.ended else frame
        if (self.touches or not is_unknown(<PyObject *> node, view.revision)) and (
            outcome_at(node, view, &outcome) or self.touches and name_at(node, view, &outcome)
        ):
            if frame is not None:
                record(frame, node, outcome.changed_at, outcome.valid_since)
            if outcome.flags & FAILED:
                value = take_failure(<Failure> outcome.value, runtime, frame)
            else:
                value = <object> outcome.value
            if ingredient.store.observer is not None:
                tell(ingredient.store.observer, HIT, node, 0, number_of(frame), view.revision, 0)
                flush(ingredient.store.observer)
            return self.deliver(outcome.flags, value, outcome.changed_at, result)
        return self.start(runtime, frame, node, result)

    cdef PySendResult start(self, Runtime runtime, Frame frame, Node node, PyObject **result) except PYGEN_ERROR:
        """The memo is not there, or may be out of date: begin to bring it up to date."""
        cdef DerivedIngredient ingredient = self.ingredient
        if frame is not None:
            record(frame, node, NO_OUTCOME, 0)
        if not PyObject_GC_IsTracked(self):
            PyObject_GC_Track(<PyObject *> self)  # from here on it may be part of a cycle for long
        self.driver = take_driver(
            ingredient.store, runtime, runtime.view if frame is None else frame.view, self.db, frame, node, BY_CALL
        )
        self.driver.walk.by_name = self.touches
        self.state = DRIVEN
        try:
            return self.go_on(None, None, result)
        except BaseException:
            if may_be_idle(node):  # the driver has let go of it, but could not forget it, for it is held here
                ingredient.store.idle.append(node)
            raise

    cdef PySendResult go_on(self, object sent, object thrown, PyObject **result) except PYGEN_ERROR:
        cdef Driver driver = self.driver
        if self.state == ENDED:
            raise RuntimeError(f"cannot reuse already awaited query {self!r}")
        try:
            if driver.resume(sent, thrown, result) == PYGEN_NEXT:
                return PYGEN_NEXT
        finally:
            if driver.ended:
                self.state = ENDED
                self.driver = None
        if driver.outer is not None:
            record(driver.outer, driver.node, driver.changed_at, driver.valid_since)
        return self.deliver(driver.flags, driver.value, driver.changed_at, result)

    cdef PySendResult deliver(
        self, uint32_t flags, object value, uint64_t changed_at, PyObject **result
    ) except PYGEN_ERROR:
        """Hand out an outcome: the value, the `Touch`, or the failure with the traceback that it had."""
        if flags & FAILED:
            if self.touches:
                raise poisoned(find_node(self.ingredient.table, self.key), value, changed_at)
            picante_raise((<Raised> value).error, (<Raised> value).traceback)
            return PYGEN_ERROR
        if self.touches:
            value = Touch(new_revision(changed_at))
        else:
            value = opened(value)
        Py_INCREF(value)
        result[0] = <PyObject *> value
        return PYGEN_RETURN


cdef int prepare(Store store, Node node) except -1:
    """Somebody asks for `node`: decode what was loaded, and note that it is of use."""
    if node.flags & PACKED:
        unpack_node(store, node)
        recount(store, node)
    node.flags &= ~UNVISITED
    return 0


# -- the hit path: what stands here runs once for every await of a query (benchmarks: `test_hit`)


# Objects whose access ended at the first step. By hand, because the general way to make and free an object
# costs as much as all the rest of a hit. One that is used again is tracked by the collector only once it has more to do
# than a hit: before, it refers to nothing but what its caller gave it.
cdef enum:
    MAX_FREE = 64
cdef PyObject *_free[MAX_FREE]
cdef Py_ssize_t _n_free = 0


cdef object new_fetch(DerivedIngredient ingredient, object db, object key, bint touches):
    global _n_free
    cdef PyObject *memory
    if _n_free:
        _n_free -= 1
        memory = _free[_n_free]
        picante_revive(memory)
        fetch = <Fetch> memory
        Py_DECREF(fetch)  # `fetch` has a reference of its own
        (<Fetch> fetch).state = NEW
    else:
        fetch = Fetch.__new__(Fetch)
    (<Fetch> fetch).ingredient = ingredient
    (<Fetch> fetch).db = db
    (<Fetch> fetch).key = key
    (<Fetch> fetch).touches = touches
    return fetch


cdef void free_fetch(PyObject *self) noexcept:
    global _n_free
    if (<Fetch> self).state != ENDED or (<Fetch> self).driver is not None or _n_free == MAX_FREE:
        _free_generally(self)
        return
    if PyObject_GC_IsTracked(<Fetch> self):
        PyObject_GC_UnTrack(self)
    (<Fetch> self).ingredient = None
    (<Fetch> self).db = None
    (<Fetch> self).key = None
    if _n_free < MAX_FREE:  # dropping a key or a database may have freed others
        _free[_n_free] = self
        _n_free += 1
    else:
        PyObject_GC_Del(self)


# The node that `probe` has found in vain, for `begin`, which comes next.
cdef PyObject *_probed = NULL


cdef inline PyObject *probe(Fetch self) except? NULL:
    """The value of a memo that is known to hold now, recorded where a query asks; NULL if there is more to do."""
    global _probed
    cdef PyObject *node
    cdef PyObject *found = NULL
    cdef PyObject *frame
    if (
        self.ingredient.database is None
        or picante_referent(<PyObject *> self.ingredient.database) != <PyObject *> self.db
        or not is_plain_key(self.key) or self.touches
    ):
        return NULL
    node = PyDict_GetItemWithError(self.ingredient.table.plain, self.key)
    if node == NULL or (<Node> node).flags != VALUE:
        _probed = node
        return NULL
    if n_running:
        PyContextVar_Get(frame_var, NULL, &found)
        if found != NULL:
            frame = found
            Py_DECREF(<object> found)  # the context keeps it
            if not (<Frame> frame).ended:
                if (<Frame> frame).view.pinned or (<Frame> frame).runtime is not self.ingredient.runtime:
                    return NULL
                record(<Frame> frame, <Node> node, (<Node> node).changed_at, (<Node> node).valid_since)
    self.state = ENDED
    return <PyObject *> (<Node> node).value


cdef PyObject *fetch_await(Fetch self) except NULL:
    if self.state == DRIVEN:
        raise RuntimeError(f"{self!r} is being awaited already")
    Py_INCREF(self)
    return <PyObject *> self


cdef PySendResult fetch_send(Fetch self, PyObject *sent, PyObject **result) except PYGEN_ERROR:
    """One step of an awaited query; the first one is where hits end."""
    if self.state != NEW:
        return self.go_on(<object> sent, None, result)
    if sent != <PyObject *> None:
        raise TypeError("can't send non-None value to a just-started query")
    result[0] = probe(self)
    if result[0] != NULL:
        Py_INCREF(<object> result[0])
        return PYGEN_RETURN
    return self.begin(result)


cdef PyObject *fetch_next(Fetch self) except? NULL:
    """The same step for who asks an iterator."""
    cdef PyObject *result = NULL
    if self.state == NEW:
        result = probe(self)
        if result != NULL:
            Py_INCREF(<object> result)
            return stop_with(result)
        if self.begin(&result) == PYGEN_RETURN:
            return stop_with(result)
    elif self.go_on(None, None, &result) == PYGEN_RETURN:
        return stop_with(result)
    return result


picante_forbid_new(Fetch)
cdef destructor _free_generally = (<PyTypeObject *> Fetch).tp_dealloc
(<PyTypeObject *> Fetch).tp_dealloc = <destructor> free_fetch
picante_set_slots(Fetch, <void *> fetch_await, <void *> fetch_send, <void *> fetch_next)


# -- messages and states


cdef object poisoned(Node node, Raised raised, uint64_t revision):
    """The error of who only asked about a query that failed (decision: the failure itself is its cause)."""
    error = QueryPoisonedError(
        f"{describe(node)} failed at revision {revision} with {type(raised.error).__qualname__}: {raised.error}",
        kind=(<Table> node.table).kind, key=node_key(node), revision=Revision(revision),
    )
    error.__cause__ = raised.error
    return error


cdef tuple _deps(list nodes):
    deps = [new_dep(int((<Table> (<Node> node).table).kind), node_key(<Node> node)) for node in nodes]
    return tuple(dict.fromkeys(deps))


cdef int _warn_never_awaited(Fetch fetch) except -1:
    """What an `async def` would warn of, in the middle of whatever is going on."""
    PyErr_WarnEx(RuntimeWarning, f"query '{fetch.__qualname__}' was never awaited".encode(), 1)
    return 0
