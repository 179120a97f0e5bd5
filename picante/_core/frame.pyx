"""The running query: its frame, what it reads, who waits for it, and cycles (r[frame.purpose]).

A frame travels in a context variable (r[frame.task-local]): every computation runs in a context of its own, a copy
of its caller's with the frame put in, which is entered around each of its steps. Child tasks and threads
that copy the context therefore record into the query that started them, and nothing needs to be reset where a
coroutine is closed from elsewhere. A frame that has ended is no frame: what outlives its query is outside.

Frames hold no locks (r[frame.no-lock-await]). Cycles are a matter of who waits for whom: a frame is awaited by the
one that asked for it (its parent) and by those that found it running (its waiters). Before anybody starts to wait,
`find_cycle` looks whether the other side already waits for him, over all tasks and threads; so no loop ever closes.
"""

cimport cython
import sys

from cpython.contextvars cimport PyContextVar_Get, PyContextVar_New
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_DECREF
from cpython.tuple cimport PyTuple_GET_ITEM

from picante._core.node cimport (
    FAILED, NO_OUTCOME, PyObject_GC_IsTracked, Version, begin_transition, end_transition, find_version,
    untrack_if_plain,
)
from picante._core.observe cimport (
    COMPUTE_BEGIN, COMPUTE_END, COMPUTE_PAUSE, COMPUTE_RESUME, COMPUTE_RETURN, RUN_CANCELLED, RUN_EQUAL, RUN_FAILED,
    RUN_NEW, RUN_NO_RESULT, flush, new_number, tell,
)

cdef extern from *:  # without counting a reference to the list
    Py_ssize_t list_size "PyList_GET_SIZE"(PyObject *list) noexcept
    PyObject *list_item "PyList_GET_ITEM"(PyObject *list, Py_ssize_t i) noexcept

cdef object frame_var = PyContextVar_New("picante_frame", NULL)
cdef Py_ssize_t n_running = 0
cdef str OUTSIDE = "outside"

LOOK_AGAIN = 0.05  # seconds between looks at the event loop of another thread that somebody here waits for


@cython.final
cdef class Frame:
    def __dealloc__(self):
        PyMem_Free(self.reads)
        PyMem_Free(self.index)


cdef Frame current_frame():
    """The query in whose context this runs, or None (r[frame.task-local])."""
    cdef PyObject *found = NULL
    cdef Frame frame
    if n_running == 0:
        return None
    PyContextVar_Get(frame_var, NULL, &found)
    if found == NULL:
        return None
    frame = <Frame> found
    Py_DECREF(frame)  # `frame` has a reference of its own
    return None if frame.ended else frame


# -- life


cdef Frame frame_at(Node node, View view):
    """The frame that computes `node` as of `view` just now, or None; one that is abandoned does not count."""
    cdef Frame frame = node.running
    while frame is not None and (frame.view is not view or frame.abandoned):
        frame = frame.sibling
    return frame


cdef object running_since(Node node):
    """The latest revision as of which `node` is being computed, or None."""
    cdef Frame frame = node.running
    since = None
    while frame is not None:
        if not frame.abandoned and (since is None or frame.view.revision > since):
            since = frame.view.revision
        frame = frame.sibling
    return since


cdef bint begin_frame(Frame frame) except -1:
    """Let `frame` be the one that computes its node; False if there is another one for its view by now."""
    global n_running
    if frame.nodes is None:
        frame.nodes = []  # first: making it may run anything
    # From here on nothing else runs until it is known that the node is being computed.
    if frame.node.running is not None and frame_at(frame.node, frame.view) is not None:
        return False
    if frame.node.parts is not None:
        read_outside(frame)  # for which there may be no memory: nothing has begun yet
    if frame.node.running is not None:
        frame.sibling = frame.node.running
    n_running += 1
    frame.node.running = frame
    return True


cdef dict end_frame(Frame frame):
    """Nothing is recorded from here on, and the node can be computed again. Returns who is to be woken."""
    cdef Frame before
    cdef dict waiters
    global n_running
    if frame.ended:
        return None
    frame.ended = True
    n_running -= 1
    if frame.node.running is frame:
        frame.node.running = frame.sibling
    else:
        before = frame.node.running
        while before.sibling is not frame:
            before = before.sibling
        before.sibling = frame.sibling
    if frame.sibling is not None:
        frame.sibling = None
    if PyObject_GC_IsTracked(frame.node):
        untrack_if_plain(frame.node)
    # A task that outlives the query keeps its frame, which keeps nothing else. The context even refers to the frame.
    frame.context = frame.path = frame.runtime = frame.view = frame.ingredient = None
    if frame.parent is not None:
        frame.parent = None
    if frame.loop is not None:
        frame.loop = None
    if frame.waiters is None:
        return None
    waiters, frame.waiters = frame.waiters, None
    return waiters


cdef dict abandon_frame(Frame frame):
    """Let the node be computed by others, whether or not this ever comes to an end. Returns who is to be woken."""
    cdef dict waiters
    frame.abandoned = True
    waiters, frame.waiters = frame.waiters, None
    return waiters


cdef bint stands_still(Frame frame) except -1:
    """Whether the event loop that `frame` needs is closed, or stopped, perhaps for good."""
    return frame.loop is not None and not frame.loop.is_running()


# -- reads


cdef int record(Frame frame, Node node, uint64_t changed_at, uint64_t valid_since) except -1:
    """Note that the query read `node` and what it saw (r[frame.record-dep], r[dep.recording]).

    A node is noted once, where it was read first. A read that is under way, and one that failed or was
    cancelled, is noted as NO_OUTCOME, until and unless it is repeated with success.
    """
    cdef PyObject *nodes = <PyObject *> frame.nodes
    cdef uint32_t n, i
    cdef uint32_t slot = 0
    if frame.ended:
        return 0
    n = <uint32_t> list_size(nodes)
    if n <= 8:
        for i in range(n):
            if list_item(nodes, i) == <PyObject *> node:
                break
        else:
            i = n
    else:
        i = _position(frame, <PyObject *> node, n, &slot)
    if i == n:
        if n == frame.capacity:
            _grow(frame)
            if n >= 8:
                slot = _vacant(frame, <PyObject *> node)
        picante_append(nodes, <PyObject *> node)
        if n >= 8:
            frame.index[slot] = n + 1
        frame.reads[n].group = frame.group
    elif changed_at == NO_OUTCOME:
        return 0
    frame.reads[i].changed_at = changed_at
    frame.reads[i].valid_since = valid_since
    return 0


cdef int _grow(Frame frame) except -1:
    """Double the room for reads, and from nine on their index with it."""
    cdef uint32_t capacity = 2 * frame.capacity if frame.capacity else 8, i
    cdef uint32_t *index = NULL
    cdef void *grown
    if capacity > 8:
        index = <uint32_t *> PyMem_Calloc(2 * capacity, sizeof(uint32_t))
        if index == NULL:
            raise MemoryError
    grown = PyMem_Realloc(frame.reads, capacity * sizeof(Read))
    if grown == NULL:
        PyMem_Free(index)
        raise MemoryError
    frame.reads = <Read *> grown
    frame.capacity = capacity
    if index != NULL:
        PyMem_Free(frame.index)
        frame.index = index
        frame.index_mask = 2 * capacity - 1
        for i in range(<uint32_t> PyList_GET_SIZE(frame.nodes)):
            index[_vacant(frame, list_item(<PyObject *> frame.nodes, i))] = i + 1
    return 0


cdef inline uint32_t _slot(Frame frame, PyObject *node) noexcept:
    cdef uint64_t address = <size_t> node
    # Nodes stand side by side in memory, and it is the highest bits of the product that spread these most evenly.
    return <uint32_t> (((address * 0x9E3779B97F4A7C15ULL) >> 32) * (<uint64_t> frame.index_mask + 1) >> 32)


cdef inline uint32_t _position(Frame frame, PyObject *node, uint32_t n, uint32_t *vacant) noexcept:
    """Where `node` stands among the reads; `n`, their number, where it does not, and then its place in the index."""
    cdef uint32_t slot = _slot(frame, node), entry
    while True:
        entry = frame.index[slot]
        if entry == 0:
            vacant[0] = slot
            return n
        if list_item(<PyObject *> frame.nodes, entry - 1) == node:
            return entry - 1
        slot = (slot + 1) & frame.index_mask


cdef uint32_t _vacant(Frame frame, PyObject *node) noexcept:
    """The place in the index for a `node` that is not there."""
    cdef uint32_t slot = _slot(frame, node)
    while frame.index[slot]:
        slot = (slot + 1) & frame.index_mask
    return slot


cdef int read_outside(Frame frame) except -1:
    """Record that the query reads the world outside of the database, as of its view."""
    cdef Node part = frame.node.parts[OUTSIDE]
    cdef Version version
    if part.valid_since <= frame.view.revision:
        return record(frame, part, part.changed_at, part.valid_since)
    version = find_version(part, frame.view.revision)
    if version is None:
        return record(frame, part, 0, 0)
    return record(frame, part, version.changed_at, version.valid_since)


# -- for observers


cdef void tell_begin(Observation hub, Frame frame, uint32_t reason) noexcept:
    """The query of `frame` is about to run. Delivers nothing."""
    frame.number = new_number()
    if hub.wanted >> COMPUTE_BEGIN & 1:
        hub.emit(
            COMPUTE_BEGIN, <PyObject *> frame.node, frame.number, number_of(frame.parent), frame.view.revision, reason,
            NULL if frame.cause is None else <PyObject *> frame.cause, NULL,
        )


cdef void tell_pause(Observation hub, Frame frame) noexcept:
    if frame is not None and frame.number:
        frame.paused = True
        tell(hub, COMPUTE_PAUSE, frame.node, frame.number, number_of(frame.parent), 0, 0)
    flush(hub)


cdef void tell_resume(Observation hub, Frame frame) noexcept:
    if frame is not None and frame.paused:
        frame.paused = False
        tell(hub, COMPUTE_RESUME, frame.node, frame.number, number_of(frame.parent), 0, 0)
    flush(hub)


cdef void tell_return(Observation hub, Frame frame) noexcept:
    if frame.number:
        tell(hub, COMPUTE_RETURN, frame.node, frame.number, number_of(frame.parent), 0, 0)
    flush(hub)


cdef void tell_end(Observation hub, Frame frame, uint32_t outcome, bint is_new, object value) noexcept:
    """There is an outcome: the value, or the exception, `value`. What is told is delivered later."""
    cdef bint failed = outcome & FAILED
    cdef uint32_t detail = RUN_FAILED if failed else RUN_NEW if is_new else RUN_EQUAL
    if frame.number and hub.wanted >> COMPUTE_END & 1:
        hub.emit(
            COMPUTE_END, <PyObject *> frame.node, frame.number, number_of(frame.parent), frame.view.revision, detail,
            NULL, <PyObject *> value if failed else NULL,
        )
    frame.number = 0


cdef void tell_abort(Observation hub, Frame frame, object error) noexcept:
    """There is no outcome, for the computation ended by `error`, or was given up (None)."""
    cdef uint32_t detail = RUN_CANCELLED
    if error is not None and type(error).__name__ not in ("CancelledError", "GeneratorExit"):
        detail = RUN_NO_RESULT
    if frame.number:
        tell(hub, COMPUTE_END, frame.node, frame.number, number_of(frame.parent), frame.view.revision, detail)
    frame.number = 0


# -- waiting


cdef object running_loop():
    """The event loop that runs in this thread, or None."""
    asyncio = sys.modules.get("asyncio")  # who has not imported it runs no loop of it
    return None if asyncio is None else asyncio._get_running_loop()


cdef int add_waiter(Frame frame, object future, object loop, Frame waiting) except -1:
    """Let `future` of `loop` be done once `frame` has ended; `waiting` is the query that waits, or None."""
    cdef bint collecting = begin_transition()  # nobody may slip in between the search for a cycle and this
    try:
        if frame.waiters is None:
            frame.waiters = {}
        frame.waiters[<size_t> <PyObject *> future] = (future, loop, waiting)
    finally:
        end_transition(collecting)
    return 0


cdef int watch(Frame frame, object future, object loop) except -1:
    """Wake `future`, which waits for `frame`, should that one come to stand still: nobody would tell."""
    if frame.loop is not loop and not frame.fleeting:
        loop.call_later(LOOK_AGAIN, _look_again, frame, future, loop)
    return 0


def _look_again(Frame frame, future, loop):
    if frame.ended or future.done():
        return
    if stands_still(frame):
        future.set_result(None)
    else:
        watch(frame, future, loop)


cdef int remove_waiter(Frame frame, object future) except -1:
    if frame.waiters is not None:
        frame.waiters.pop(<size_t> <PyObject *> future, None)
    return 0


cdef int hold(Frame holder, Frame frame) except -1:
    """`frame` goes on when `holder` has ended, or has said so: it waits for that one, though by no future in here."""
    if holder.waiters is None:
        holder.waiters = {}
    holder.waiters[<size_t> <PyObject *> frame] = (None, None, frame)
    return 0


cdef int let_go(Frame holder, Frame frame) except -1:
    if holder.waiters is not None:
        holder.waiters.pop(<size_t> <PyObject *> frame, None)
    return 0


cdef int wake(dict waiters, object result) except -1:
    """Let all who waited look again (r[cell.waiter]): all of them, whatever waking one of them raises.

    `result` is the outcome, where it may be gone from the cell when they look.
    """
    if waiters is None:
        return 0
    here = running_loop()
    interrupt = None
    for future, loop, _ in waiters.values():
        if future is None:
            continue  # a frame that was held
        try:
            _tell(future, loop, here, result)
        except BaseException as error:  # Ctrl-C, for instance, comes wherever Python code runs
            interrupt = error
            _tell(future, loop, here, result)
    if interrupt is not None:
        raise interrupt
    return 0


cdef int _tell(future, loop, here, result) except -1:
    try:
        if loop is here:
            _set_done(future, result)
        else:
            loop.call_soon_threadsafe(_set_done, future, result)
    except Exception:
        pass  # that loop is closed, or not of sound mind: nobody waits there any more
    return 0


def _set_done(future, result):
    if not future.done():
        future.set_result(result)


# -- cycles


cdef uint64_t _searches = 0


cdef list find_cycle(Frame waiting, Frame wanted, list path):
    """The nodes from the outermost query to `wanted` again if `waiting` must not wait for it, else None.

    `path` is what `waiting` was verifying on its way, `wanted.node` last. Searches from `waiting` to those that wait
    for it: if `wanted` is among them, a loop would close (r[frame.cycle-detect]). A breadth-first search, hence the
    shortest loop; it allocates nothing before its verdict, so nobody can start or end waiting meanwhile.
    """
    cdef bint collecting
    if waiting is None or not _reaches(waiting, wanted):
        return None
    collecting = begin_transition()  # the way that was found is made of borrowed pointers
    try:
        return _cycle_stack(wanted, path)
    finally:
        end_transition(collecting)


cdef bint _reaches(Frame waiting, Frame wanted) except -1:
    """Whether `wanted` waits for `waiting`; then `came_from` leads the way back."""
    global _searches
    cdef Frame each, other
    cdef PyObject *last
    cdef PyObject *entry
    cdef Py_ssize_t position
    _searches += 1
    waiting.visited = _searches
    waiting.came_from = NULL
    waiting.next_visited = NULL
    last = <PyObject *> waiting
    each = waiting
    while each is not wanted:
        if each.parent is not None:
            last = _visit(each.parent, each, last)
        if each.waiters is not None:
            position = 0
            while PyDict_Next(each.waiters, &position, NULL, &entry):
                other = <object> PyTuple_GET_ITEM(<tuple> entry, 2)
                if other is not None:
                    last = _visit(other, each, last)
        if each.next_visited == NULL:
            return False
        each = <Frame> each.next_visited
    return True


cdef PyObject *_visit(Frame frame, Frame came_from, PyObject *last) noexcept:
    if frame.visited == _searches or frame.ended:
        return last
    frame.visited = _searches
    frame.came_from = <PyObject *> came_from
    frame.next_visited = NULL
    (<Frame> last).next_visited = <PyObject *> frame
    return <PyObject *> frame


cdef list _cycle_stack(Frame wanted, list path):
    """The found loop as nodes, with what led to it in front."""
    cdef list ancestors = [], stack = []
    cdef Frame frame = wanted, waited_for
    while frame is not None and not frame.ended:
        ancestors.append(frame)
        frame = frame.parent
    for frame in reversed(ancestors):
        stack += frame.path
    frame = wanted
    while frame.came_from != NULL:
        waited_for = <Frame> frame.came_from
        if waited_for.parent is frame:
            stack += waited_for.path
        else:
            stack.append(waited_for.node)
        frame = waited_for
    stack += path
    return stack
