"""The awaitable that a call of a query returns, and the hit path (r[cell.access]).

A call only makes a `Fetch`; all happens when that is awaited, in the context in which it is. A memo that is known to
hold is handed out at once: one look into a dict and one at a flag. Everything else is left to a driver (`execute`).
"""

cimport cython
from cpython.exc cimport PyErr_WarnEx
from cpython.object cimport PyTypeObject, destructor
from cpython.ref cimport Py_DECREF, Py_INCREF

from picante._core.awaitable cimport (
    PYGEN_NEXT, PYGEN_RETURN, PyObject_GC_Del, PyObject_GC_IsTracked, PyObject_GC_Track, PyObject_GC_UnTrack,
    picante_check, picante_forbid_new, picante_raise, picante_ref, picante_revive, picante_set_slots, picante_unref,
    stop_with, thrown_exception,
)
from picante._core.drivers cimport take_driver
from picante._core.encode cimport is_plain_object
from picante._core.errors import QueryPoisonedError
from picante._core.evict cimport recount
from picante._core.failure cimport take_failure
from picante._core.frame cimport current_frame, frame_var, n_running, number_of, picante_references, record
from picante._core.ingredient cimport describe, picante_referent, runtime_of, view_for
from picante._core.key cimport revision as new_revision
from picante._core.key import Revision
from picante._core.node cimport (
    FAILED, NO_OUTCOME, PACKED, UNVISITED, VALUE, Failure, Table, count_tracked, ensure_node, find_node, leads_nowhere,
    node_key,
)
from picante._core.observe cimport BY_CALL, HIT, flush, tell
from picante._core.outcome cimport Outcome, is_unknown, name_at, outcome_at
from picante._core.packed cimport opened, unpack_node
from picante._core.raised cimport Raised
from picante._core.states import Touch
from picante._core.store cimport Store, View, may_be_idle

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(PyObject *dict, PyObject *key) except? NULL
    PyObject *PyDict_SetDefault(object dict, object key, object default) except NULL
    int PyContextVar_Get(PyObject *variable, PyObject *default, PyObject **value) except -1
    bint is_str "PyUnicode_CheckExact"(PyObject *value) noexcept
    bint is_int "PyLong_CheckExact"(PyObject *value) noexcept

# Functions of other modules as the hit path calls them: with borrowed references that are nobody's variables.
ctypedef bint (*IsPlain)(PyObject *) noexcept
ctypedef int (*Record)(PyObject *, PyObject *, uint64_t, uint64_t) except -1
# `go_on`, called by who looks himself whether it has raised an exception.
ctypedef PySendResult (*GoOn)(Fetch, object, object, PyObject **) noexcept

cdef Method get_generally = NULL


@cython.final
cdef class Fetch:
    """What a call of a query returns: await it, once. It behaves like the coroutine of an `async def`."""

    def __dealloc__(self):
        if self.state <= FLEETING and self.ingredient is not None:
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
        if self.state <= FLEETING:
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
        if self.state <= FLEETING:
            status = fetch_send(<PyObject *> self, <PyObject *> sent, &result)
        else:
            status = go_on(self, sent, thrown, &result)
        value = <object> result
        Py_DECREF(value)  # `value` has a reference of its own
        if status == PYGEN_RETURN:
            raise StopIteration(value)
        return value

    cdef PyObject *await_with_care(self) except NULL:
        if self.state == DRIVEN:
            raise RuntimeError(f"{self!r} is being awaited already")
        if self.state <= FLEETING:
            self.become_known()
        return picante_ref(<PyObject *> self)

    cdef void become_known(self) noexcept:
        if not PyObject_GC_IsTracked(self):
            PyObject_GC_Track(<PyObject *> self)
        self.state = KEPT

    cdef PySendResult step(self, PyObject *sent, PyObject **result) except PYGEN_ERROR:
        """A step that is no hit."""
        if self.state > FLEETING:
            return go_on(self, <object> sent, None, result)
        if sent != <PyObject *> None:
            raise TypeError("can't send non-None value to a just-started query")
        return self.begin(result)

    cdef PySendResult begin(self, PyObject **result) except PYGEN_ERROR:
        """The first step: look for a memo that holds, for whoever asks."""
        cdef Ingredient ingredient = self.ingredient
        cdef Runtime runtime
        cdef Frame frame
        cdef Node node = None
        cdef View view
        cdef Outcome outcome
        global _probed
        cdef PyObject *probed = _probed
        if self.state == NEW:  # a task steps it, which may be kept, and keep it
            self.become_known()
        self.state = ENDED
        _probed = NULL
        if probed != NULL and probed != <PyObject *> None:
            node = <Node> probed
        runtime = runtime_of(ingredient, self.db)
        frame = current_frame() if n_running else None
        if node is None:
            if frame is not None or runtime.view is not None:
                view_for(ingredient, runtime, frame)  # first: who may not read makes no cell
            node = ensure_node(ingredient.table, self.key) if probed == NULL else add_cell(ingredient.table, self.key)
        if node.flags & (PACKED | UNVISITED):
            prepare(runtime.store, node)
        # Last: encoding a key may run anything, and end the query.
        if frame is None and runtime.view is None:
            view = runtime.store.present
        else:
            view = view_for(ingredient, runtime, frame)
            if frame is not None and frame.ended:
                frame = None
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
        cdef Ingredient ingredient = self.ingredient
        if frame is not None:
            record(frame, node, NO_OUTCOME, 0)
        cdef PySendResult status
        cdef Driver driver = take_driver(
            ingredient.store, runtime, runtime.view if frame is None else frame.view, self.db, frame, node, BY_CALL
        )
        driver.walk.by_name = self.touches
        self.driver = driver
        self.state = DRIVEN
        status = (<GoOn> go_on)(self, None, None, result)
        if status == PYGEN_ERROR and may_be_idle(node):
            try:
                picante_check(-1)
            finally:  # the driver has let go of it, but could not forget it, for it is held here
                ingredient.store.idle.append(node)
        return status

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


cdef PySendResult go_on(Fetch self, object sent, object thrown, PyObject **result) except PYGEN_ERROR:
    """A step of the driver."""
    cdef Driver driver = self.driver
    if self.state != DRIVEN:
        raise RuntimeError(f"cannot reuse already awaited query {self!r}")
    try:
        if driver.resume(sent, thrown, result) == PYGEN_NEXT:
            if not PyObject_GC_IsTracked(self):
                PyObject_GC_Track(<PyObject *> self)  # from here on it may be part of a cycle for long
            return PYGEN_NEXT
    finally:
        if driver.ended:
            self.state = ENDED
            self.driver = None
    if driver.outer is not None:
        record(driver.outer, driver.node, driver.changed_at, driver.valid_since)
    return self.deliver(driver.flags, driver.value, driver.changed_at, result)


cdef int prepare(Store store, Node node) except -1:
    """Somebody asks for `node`: decode what was loaded, and note that it is of use."""
    if node.flags & PACKED:
        unpack_node(store, node)
        recount(store, node)
    node.flags &= ~UNVISITED
    return 0


# -- the hit path: what stands here runs once for every await of a query (benchmarks: `test_hit`)


# A `Fetch` as this path sees it: the same memory, in which references are counted by hand, once for each that is held.
cdef struct Bare:
    PyObject head
    void *methods
    PyObject *ingredient
    PyObject *db
    PyObject *key
    PyObject *driver
    FetchState state
    bint touches


# Objects whose access ended at the first step. By hand, because the general way to make and free an object
# costs as much as all the rest of a hit. None is tracked by the collector before it is suspended: till then, a
# stack holds what it is part of. While it waits here, what its fields refer to is not its own.
cdef enum:
    MAX_FREE = 64
cdef PyObject *_free[MAX_FREE]
cdef Py_ssize_t _n_free = 0


cdef PyObject *new_fetch(PyObject *ingredient, PyObject *db, PyObject *key, bint touches) except NULL:
    global _n_free
    cdef Bare *fetch
    if not _n_free:
        return new_fetch_in_new_memory(ingredient, db, key, touches)
    _n_free -= 1
    fetch = <Bare *> _free[_n_free]
    picante_revive(<PyObject *> fetch)
    fetch.ingredient = picante_ref(ingredient)
    fetch.db = picante_ref(db)
    fetch.key = picante_ref(key)
    fetch.state = NEW
    fetch.touches = touches
    return <PyObject *> fetch


cdef PyObject *new_fetch_in_new_memory(PyObject *ingredient, PyObject *db, PyObject *key, bint touches) except NULL:
    fetch = Fetch.__new__(Fetch)
    PyObject_GC_UnTrack(<PyObject *> fetch)
    (<Fetch> fetch).ingredient = <Ingredient> ingredient
    (<Fetch> fetch).db = <object> db
    (<Fetch> fetch).key = <object> key
    (<Fetch> fetch).touches = touches
    return picante_ref(<PyObject *> fetch)


cdef void free_fetch(PyObject *self) noexcept:
    global _n_free
    cdef Bare *fetch = <Bare *> self
    if fetch.state != AT_ONCE:
        if fetch.state != ENDED or fetch.driver != <PyObject *> None:
            _free_generally(self)
            return
        if PyObject_GC_IsTracked(<Fetch> self):
            PyObject_GC_UnTrack(self)
    picante_unref(fetch.ingredient)
    picante_unref(fetch.db)
    picante_unref(fetch.key)
    if _n_free < MAX_FREE:  # dropping a key or a database may have freed others
        _free[_n_free] = self
        _n_free += 1
    else:
        picante_unref(fetch.driver)
        PyObject_GC_Del(self)


cdef PyObject *get_quickly(PyObject *self, PyObject **args, Py_ssize_t n, PyObject *names) except NULL:
    """`DerivedIngredient.get`, called as it nearly always is; any other call goes the general way."""
    if n == 2 and names == NULL:
        return new_fetch(self, args[0], args[1], False)
    return get_generally(self, args, n, names)


# The node that `probe` has found in vain, or None if there is none yet, for `begin`, which comes next.
cdef PyObject *_probed = NULL


cdef inline PyObject *probe(Bare *fetch) except? NULL:
    """The value of a memo that is known to hold now, recorded where a query asks; NULL if there is more to do."""
    global _probed
    cdef PyObject *node
    cdef PyObject *frame = NULL
    if (
        (<Ingredient> fetch.ingredient).database is None
        or picante_referent(<PyObject *> (<Ingredient> fetch.ingredient).database) != fetch.db
        or not (is_str(fetch.key) or is_int(fetch.key) or (<IsPlain> is_plain_object)(fetch.key))  # `is_plain_key`
        or fetch.touches
    ):
        return NULL
    node = PyDict_GetItemWithError(<PyObject *> (<Ingredient> fetch.ingredient).table.plain, fetch.key)
    if node == NULL or (<Node> node).flags != VALUE:
        _probed = node if node != NULL else <PyObject *> None
        return NULL
    if n_running:
        PyContextVar_Get(<PyObject *> frame_var, NULL, &frame)
        if frame != NULL:
            picante_unref(frame)  # the context keeps it
            if not (<Frame> frame).ended:
                if (
                    (<Frame> frame).view.pinned
                    or (<Frame> frame).runtime is not (<Ingredient> fetch.ingredient).runtime
                ):
                    return NULL
                (<Record> record)(frame, node, (<Node> node).changed_at, (<Node> node).valid_since)
    fetch.state = AT_ONCE
    return <PyObject *> (<Node> node).value


cdef PyObject *fetch_await(PyObject *self) except NULL:
    if (<Bare *> self).state != NEW or picante_references(self) > 1:
        return (<Fetch> self).await_with_care()
    (<Bare *> self).state = FLEETING
    return picante_ref(self)


cdef PySendResult fetch_send(PyObject *self, PyObject *sent, PyObject **result) except PYGEN_ERROR:
    """One step of an awaited query; the first one is where hits end."""
    cdef PyObject *value
    if (<Bare *> self).state == FLEETING and sent == <PyObject *> None:
        value = probe(<Bare *> self)
        if value != NULL:
            result[0] = picante_ref(value)
            return PYGEN_RETURN
    return (<Fetch> self).step(sent, result)


cdef PyObject *fetch_next(PyObject *self) except? NULL:
    """The same step for who asks an iterator."""
    cdef PyObject *result = NULL
    if (<Bare *> self).state == FLEETING:
        result = probe(<Bare *> self)
        if result != NULL:
            return stop_with(picante_ref(result))
    if (<Fetch> self).step(<PyObject *> None, &result) == PYGEN_RETURN:
        return stop_with(result)  # from here: on the way through another function it would get a traceback
    return result


picante_forbid_new(Fetch)
cdef destructor _free_generally = (<PyTypeObject *> Fetch).tp_dealloc
(<PyTypeObject *> Fetch).tp_dealloc = <destructor> free_fetch
picante_set_slots(Fetch, <void *> fetch_await, <void *> fetch_send, <void *> fetch_next)
cdef object _sample = Fetch.__new__(Fetch)
assert &(<Bare *> <PyObject *> _sample).touches == &(<Fetch> _sample).touches
(<Fetch> _sample).state = ENDED
_sample = None


# -- the same, for who has time


cdef object fetched(object ingredient, object db, object key, bint touches):
    fetch = <object> new_fetch(<PyObject *> ingredient, <PyObject *> db, <PyObject *> key, touches)
    Py_DECREF(fetch)  # `fetch` has a reference of its own
    return fetch


cdef Node add_cell(Table table, object key):
    """The node of `key`, which is plain, and had none when it was looked for. Unknown to the collector, as many are."""
    cdef Node fresh = <Node> Node.__new__(Node), node
    cdef bint is_plain = leads_nowhere(key)
    fresh.table = <PyObject *> table
    fresh.key = key
    if is_plain:
        PyObject_GC_UnTrack(<PyObject *> fresh)
    node = <Node> PyDict_SetDefault(table.plain, key, fresh)
    if node is fresh:
        table.newest = <PyObject *> fresh
        if not is_plain:
            count_tracked(node, 1)
    return node


cdef object poisoned(Node node, Raised raised, uint64_t revision):
    """The error of who only asked about a query that failed (decision: the failure itself is its cause)."""
    error = QueryPoisonedError(
        f"{describe(node)} failed at revision {revision} with {type(raised.error).__qualname__}: {raised.error}",
        kind=(<Table> node.table).kind, key=node_key(node), revision=Revision(revision),
    )
    error.__cause__ = raised.error
    return error


cdef int _warn_never_awaited(Fetch fetch) except -1:
    """What an `async def` would warn of, in the middle of whatever is going on."""
    PyErr_WarnEx(RuntimeWarning, f"query '{fetch.__qualname__}' was never awaited".encode(), 1)
    return 0
