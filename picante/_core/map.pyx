"""Many keys of one query at once: hits without a task, the rest side by side, all as of one revision.

Keys are looked up in order when the map is awaited. What is known is recorded and done with; what is missing is
brought up to date by one driver a key, each in a task of its own, at most `limit` at a time. After the first error
nothing new is started, the rest is cancelled, and the error is raised once all have ended: no task outlives the map.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.ref cimport PyObject

from picante._core.awaitable cimport raise_again
from picante._core.drivers cimport take_driver
from picante._core.evict cimport recount
from picante._core.execute cimport Driver
from picante._core.failure cimport take_failure
from picante._core.frame cimport current_frame, number_of, record
from picante._core.hop cimport cancel_soon, error_of
from picante._core.ingredient cimport runtime_of, view_for
from picante._core.node cimport FAILED, NO_OUTCOME, PACKED, UNVISITED, Failure, Node, Version, ensure_node
from picante._core.observe cimport BY_MAP, HIT, flush, tell
from picante._core.outcome cimport Outcome, open_version, outcome_at, outcome_of
from picante._core.raised cimport Raised
from picante._core.packed cimport opened, unpack_node
from picante._core.store cimport Store, enter_view, leave_view, may_be_idle, sweep


@cython.final
cdef class Members:
    cdef int look_up(self, keys) except -1:
        """Find the nodes, choose the view, and see which of them have to be brought up to date."""
        cdef Node node
        cdef Outcome outcome
        cdef list nodes = []
        cdef set missing = set()
        cdef list ready = []
        self.runtime = runtime_of(self.ingredient, self.db)
        self.frame = current_frame()
        view_for(self.ingredient, self.runtime, self.frame)
        self.nodes = nodes
        try:
            for key in keys:  # may run user code, as making nodes may, so the view comes after
                node = ensure_node(self.ingredient.table, key)
                nodes.append(node)
                if node.flags & PACKED:
                    unpack_node(self.runtime.store, node)
                    recount(self.runtime.store, node)
            self.view = view_for(self.ingredient, self.runtime, self.frame)
        except BaseException:
            nodes = node = None
            self.give_up()
            raise
        enter_view(self.view)
        self.waiting = []
        self.raised = []
        if self.runtime.store.sieve is not None or self.ingredient.table.sieve is not None:
            self.found = {}
        if self.frame is not None:
            self.frame.n_groups += 1
            self.frame.group = self.frame.n_groups
        for node in nodes:
            node.flags &= ~UNVISITED
            if outcome_at(node, self.view, &outcome):
                ready.append(<object> outcome.value)
                if self.frame is not None:
                    record(self.frame, node, outcome.changed_at, outcome.valid_since)
                if outcome.flags & FAILED:
                    self.raised.append(take_failure(<Failure> outcome.value, self.runtime, self.frame))
                if self.found is not None:  # last: it makes an object, and so may run finalizers
                    self.found[<size_t> <PyObject *> node] = outcome_of(node, self.view, False)
                if self.runtime.store.observer is not None:
                    tell(self.runtime.store.observer, HIT, node, 0, number_of(self.frame), self.view.revision, 0)
            elif <size_t> <PyObject *> node not in missing:
                missing.add(<size_t> <PyObject *> node)
                self.waiting.append(node)
                if self.frame is not None:
                    record(self.frame, node, NO_OUTCOME, 0)
        if self.frame is not None:
            self.frame.group = 0
        self.waiting.reverse()
        if self.runtime.store.observer is not None:
            flush(self.runtime.store.observer)
        if not self.waiting and not self.raised and self.found is None:
            self.ready = ready
        return 0

    cdef int launch(self) except -1:
        """Start what may run by now."""
        import asyncio
        cdef Driver driver
        while self.waiting and self.error is None and len(self.running) < self.limit:
            driver = take_driver(
                self.runtime.store, self.runtime, self.view, self.db, self.frame, <Node> self.waiting.pop(),
                BY_MAP,
            )
            task = asyncio.Task(driver)  # not create_task(): a task factory may run it at once, inside of this loop
            self.running[task] = (driver, driver.node)
            task.add_done_callback(self.end)
        return 0

    def end(self, task):
        """One of the tasks has ended."""
        cdef Driver driver
        driver, node = self.running.pop(task)
        error = error_of(task)
        if error is not None:
            self.fail(error)
        elif driver.flags & FAILED:
            self.fail(driver.value)
        elif self.found is not None and driver.result is not None:
            self.found[<size_t> <PyObject *> node] = driver.result
        elif task.cancelled() and self.error is None and not self.finished.done():
            self.waiting.append(node)  # somebody has cancelled it, not we: once more
        self.launch()
        if not self.running and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, error):
        if self.error is None:
            self.error = error
            self.cancel()

    cdef int close(self, closed) except -1:
        """Nothing can be awaited any more: this may even be another thread, or the loop be closed."""
        self.error = closed
        self.waiting.clear()
        for task in list(self.running):
            cancel_soon(task)
        return 0

    cdef int cancel(self) except -1:
        self.waiting.clear()
        for task in list(self.running):
            task.cancel()
        return 0

    cdef int give_up(self) except -1:
        """The cells that were asked for in vain, or evicted meanwhile, may be of use to nobody."""
        cdef Node node
        cdef Store store = self.runtime.store
        for node in self.nodes:
            if may_be_idle(node):
                store.idle.append(node)
        self.nodes = node = None
        self.waiting = []  # tasks that end later on may still clear it
        sweep(store)
        return 0

    cdef bint look_again(self) except -1:
        """Whether something is missing: a limit was set meanwhile. What is there is held on to from now on."""
        cdef Node node
        cdef Outcome outcome
        cdef Version known
        cdef dict found = self.found
        if self.error is not None:
            return False
        if found is None:
            for node in self.nodes:
                if not outcome_at(node, self.view, &outcome):
                    break
            else:
                return False
            found = {}
        for node in dict.fromkeys(self.nodes):
            known = found.get(<size_t> <PyObject *> node)
            if known is None:
                known = outcome_of(node, self.view, False)
                found[<size_t> <PyObject *> node] = known
            if known is None:
                self.waiting.append(node)
            elif known.flags & FAILED:
                self.raised.append(take_failure(<Failure> known.value, self.runtime, self.frame))
        self.found = found
        self.waiting.reverse()
        return len(self.waiting) > 0

    cdef list values(self):
        """The values of all keys; raises the first error."""
        cdef Py_ssize_t i
        cdef Outcome outcome
        cdef list values = []
        cdef Node node
        error = self.error
        for i in range(PyList_GET_SIZE(self.nodes)):
            node = <Node> PyList_GET_ITEM(self.nodes, i)
            known = None if self.found is None else self.found.get(<size_t> <PyObject *> node)
            if known is not None:
                open_version(known, &outcome)
            elif not outcome_at(node, self.view, &outcome):
                continue  # there is an error, then
            if self.frame is not None:
                record(self.frame, node, outcome.changed_at, outcome.valid_since)
            if outcome.flags & FAILED:
                raised = take_failure(<Failure> outcome.value, self.runtime, self.frame)
                if error is None:
                    error = raised
            else:
                values.append(opened(<object> outcome.value))
        if isinstance(error, Raised):
            raise_again((<Raised> error).error, (<Raised> error).traceback)
        if error is not None:
            raise error
        return values


cdef object map_keys(Ingredient ingredient, object db, object keys, object limit):
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(f"limit= is how many keys are computed at a time: a positive int or None, not {limit!r}.")
    return _map(ingredient, db, keys, limit)


async def _map(Ingredient ingredient, db, keys, limit):
    cdef Members members = Members.__new__(Members)
    members.ingredient = ingredient
    members.db = db
    members.running = {}
    members.limit = 0x7FFF_FFFF if limit is None else limit
    members.look_up(keys)
    try:
        if members.ready is not None:  # as nearly always
            return [opened(value) for value in members.ready]
        while members.waiting or members.look_again():
            import asyncio
            members.finished = asyncio.get_running_loop().create_future()
            members.launch()
            try:
                await members.finished
            except GeneratorExit as closed:
                members.close(closed)
                raise
            except BaseException as left:
                members.error = left  # so that nothing more is launched, even if nobody waits for what runs
                members.cancel()
                while members.running:
                    await asyncio.wait(list(members.running))
                raise
        values = members.values()
        if members.found is not None:
            members.give_up()
        return values
    except BaseException:
        members.give_up()
        raise
    finally:
        leave_view(members.runtime.store, members.view)
