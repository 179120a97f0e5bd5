"""Running user code: frames, steps, waiting, cancellation (r[cell.compute]).

A driver owns one access: it walks (`verify`) to the first node that must be computed, runs that query to its end,
commits the result, and walks on. Whoever awaits the driver runs these queries, step by step, on his own task: he is
their leader (r[cell.leader-local]). Others that need the same node at the same revision wait for the frame
and then look again (r[cell.waiter]). No lock is held anywhere (r[cell.no-lock-await]): a transition is a stretch
of code in which nothing else can run.

A leader that is cancelled leaves the cell as it was and wakes who waits; one of them goes on. So it is with one whose
event loop stands still. A query that is to be kept (`keep=True`) runs in a task of its own, which nobody's
cancellation reaches. What is no result of a query (cancellation, exhausted stack, interrupts) is only passed on.

Depth: a query that awaits a query that awaits a query ... nests on the interpreter's stack. When that is half used, the
next computation *hops*: it runs as a task of its own, on an empty stack, and its driver awaits the task.
"""

cimport cython
from functools import partial

from cpython.contextvars cimport PyContext_Enter
from cpython.ref cimport Py_DECREF, PyObject

from picante._core.adopt cimport adopt
from picante._core.awaitable cimport (
    PYGEN_ERROR, PYGEN_NEXT, PYGEN_RETURN, awaitable_iterator, is_one_shot, picante_check, picante_is_coroutine,
    picante_unref, take_raised, thrown_exception,
)
from picante._core.commit cimport commit, release_reads
from picante._core.failure cimport NO_RESULTS, failure_of, one_shot_error, take_failure
from picante._core.frame cimport (
    abandon_frame, add_waiter, begin_frame, end_frame, find_cycle, frame_at, remove_waiter, running_loop, stands_still,
    tell_abort, tell_begin, tell_end, tell_pause, tell_resume, tell_return, wake, watch,
)
from picante._core.frames cimport enter_context, new_frame, track_frame
from picante._core.hop cimport cancel_soon, error_of, is_under_way, keep_task, start_group, was_cancelled
from picante._core.hop import end_hop
from picante._core.inflight cimport cancel_entry, finish_entry
from picante._core.ingredient cimport Ingredient, cycle_error, describe
from picante._core.node cimport FAILED, NAMED, UNLINKED, VALUE, Failure, Table
from picante._core.observe cimport (
    ACCESS_BEGIN, ACCESS_END, ADOPTED, BY_GROUP, BY_HOP, BY_KEEP, ENDED_WITH_FAILURE, ENDED_WITH_VALUE,
    ENDED_WITHOUT, WAIT_BEGIN, WAIT_END, flush,
)
from picante._core.outcome cimport Outcome, open_version, outcome_at, outcome_of
from picante._core.raised cimport is_gone, new_raised
from picante._core.reasons cimport give_reason, reason_of
from picante._core.runtime cimport emit_query_changed
from picante._core.sharing cimport offer
from picante._core.steps cimport call_query, stack_is_low, take_made, take_step
from picante._core.store cimport enter_view, is_limited, leave_view, may_be_idle, sweep
from picante._core.verify cimport advance, stale_group
from picante._core.walk cimport DONE, EXECUTE, GROUP, WAIT, Step, begin_walk, last_node, new_walk

# `go` for who looks himself whether it has raised: to begin a `try` costs nearly as much as to look up a memo.
ctypedef PySendResult (*Go)(Driver, object, object, PyObject **) noexcept


@cython.final
cdef class Driver:
    @property
    def __name__(self):
        return "query" if self.node is None else describe(self.node)

    @property
    def __qualname__(self):
        return self.__name__

    def __await__(self):
        return self

    def send(self, value):
        return self.hand_out(value, None)

    def throw(self, kind, value=None, traceback=None):
        return self.hand_out(None, thrown_exception(kind, value, traceback))

    def close(self):
        if self.running:
            raise RuntimeError("This query is running: it cannot be closed from within.")
        self.abort()

    def __del__(self):
        self.abort()

    cdef object hand_out(self, object sent, object thrown):
        cdef PyObject *result = NULL
        if self.resume(sent, thrown, &result) == PYGEN_RETURN:
            raise StopIteration
        awaited = <object> result
        Py_DECREF(awaited)  # `awaited` has a reference of its own
        return awaited

    # -- driving

    cdef PySendResult resume(self, object sent, object thrown, PyObject **result) except PYGEN_ERROR:
        """Go on until something must be awaited (PYGEN_NEXT: `result`) or the outcome is there (PYGEN_RETURN)."""
        cdef PySendResult status
        if self.ended or self.running:
            raise RuntimeError("This query is awaited already." if self.running else "This query was awaited already.")
        self.running = True
        status = (<Go> go)(self, sent, thrown, result)
        if status == PYGEN_ERROR:
            try:
                picante_check(-1)
            except BaseException:
                self.abort()
                raise
            finally:
                self.running = False
        self.running = False
        return status

    cdef PySendResult step_inner(self, object sent, object thrown, PyObject **result) noexcept:
        """One step of what is awaited; a query's within its own context."""
        inner = self.inner
        context = self.frame.context if self.frame is not None else None
        if self.store.observer is not None:
            tell_resume(self.store.observer, self.frame)
        if context is not None:
            PyContext_Enter(context)
        return take_step(inner, context, sent, thrown, result)

    cdef PySendResult end_step(self, PySendResult status, PyObject **result) except PYGEN_ERROR:
        """Go by what a step has come to: PYGEN_NEXT if something must be awaited, else there is more to do."""
        if status == PYGEN_NEXT:
            if self.frame is not None:
                track_frame(self.frame)  # from here on nobody's stack need hold what leads to it
                if self.frame.loop is None:
                    self.frame.loop = running_loop()
            if self.store.observer is not None:
                tell_pause(self.store.observer, self.frame)
            return PYGEN_NEXT
        if status == PYGEN_RETURN:
            value = <object> result[0]
            Py_DECREF(value)  # `value` has a reference of its own
            result[0] = NULL
            self.finish_step(value)
        else:
            self.fail_step(take_raised())
        return PYGEN_RETURN

    cdef PySendResult begin(self, Node node, PyObject **result) except PYGEN_ERROR:
        """Start to compute `node`: this driver's task is its leader from here on (r[cell.leader-local])."""
        cdef PyObject *found = (<Table> node.table).link.ingredient
        cdef PyObject *made
        cdef bint is_value = False
        cdef Ingredient ingredient
        cdef Frame frame
        if found == NULL:
            self.walk.give_up(node)
            return PYGEN_RETURN
        ingredient = <Ingredient> found
        if (node.history is not None or self.store.completed is not None) and adopt(self.runtime, self.walk, node):
            report(self, ADOPTED, node, 0, 0)
            return PYGEN_RETURN
        if stack_is_low():
            loop = running_loop()
            if loop is not None:
                self.hop(node, loop, False)
                return PYGEN_RETURN
        frame = new_frame()
        frame.node = node
        frame.ingredient = ingredient
        frame.view = self.view
        frame.runtime = self.runtime
        if self.outer is not None:
            frame.parent = self.outer
        frame.path = self.walk.path
        if not begin_frame(frame):
            self.walk.interruptions += 1
            return PYGEN_RETURN
        self.frame = frame
        if node.flags & (NAMED | UNLINKED) or node.ran_at:  # else it never ran, which is what a new frame says
            give_reason(self.walk, frame)
        if self.store.observer is not None:
            tell_begin(self.store.observer, frame, reason_of(frame))
            flush(self.store.observer)
        key = node.key  # the node may get another one for it
        enter_context(frame)
        context = frame.context
        made = call_query(ingredient.compute, self.db, key)
        if made != NULL and picante_is_coroutine(made) and self.store.observer is None:
            self.inner = <object> made  # it takes its first step in the context in which it was made
            picante_unref(made)  # `inner` has a reference of its own
            return self.end_step(take_step(<object> made, context, None, None, result), result)
        error = value = None
        try:
            value = take_made(made, context, &is_value)
        except BaseException as raised:
            error = raised
        if error is not None:
            self.fail_step(error)
        elif is_value:
            self.finish_step(value)
        else:
            self.inner = value  # for which the next step is
        return PYGEN_RETURN

    cdef bint begin_kept(self) except -1:
        """Leave the topmost query on the way that is to be kept to a task of its own, with all that is beneath it."""
        loop = running_loop()
        if loop is not None:
            while self.walk.depth > self.walk.keeps_from + 1:
                self.walk.pop()  # what is beneath is looked at again only if it still has to be
            self.hop(self.walk.path[self.walk.keeps_from], loop, True)
        return loop is not None

    cdef int begin_waiting(self, Node node) except -1:
        """Wait for the end of the computation of `node` that is under way (r[cell.waiter])."""
        cdef Frame frame
        cdef list stack
        loop = running_loop()
        if loop is None:
            raise RuntimeError(
                f"{describe(node)} is being computed elsewhere, and waiting for it takes a running asyncio event loop."
            )
        frame = frame_at(node, self.view)
        if frame is not None and frame.loop is not loop and stands_still(frame):
            self.walk.interruptions += 1
            wake(abandon_frame(frame), None)
            return cancel_entry(frame)
        self.future = loop.create_future()
        # From here on nothing else runs until this driver is among the waiters. It had to be made first: in making a
        # future the computation may have ended, and nobody would ever wake who came too late.
        frame = frame_at(node, self.view)
        if frame is None:
            self.walk.interruptions += 1
            return 0
        stack = find_cycle(self.outer, frame, self.walk.path)
        if stack is None:
            add_waiter(frame, self.future, loop, self.outer)
        else:
            raise cycle_error(stack)
        self.awaited = frame
        self.inner = awaitable_iterator(self.future)
        report(self, WAIT_BEGIN, node, frame.number, 0)
        return watch(frame, self.future, loop)

    cdef int hop(self, Node node, object loop, bint keep) except -1:
        """Compute `node` in a task of its own, on an empty stack; one that is to be kept goes on without this one."""
        import asyncio
        cdef uint32_t cause = BY_KEEP if keep else BY_HOP
        cdef Driver driver = new_driver(self.store, self.runtime, self.view, self.db, self.outer, node, cause)
        driver.kept = keep or self.kept
        driver.walk.by_name = self.walk.by_name or node is not self.node
        self.delegate = driver if node is self.node else None
        self.keeps = keep and not self.kept
        # Not loop.create_task(): a task factory may start tasks eagerly, on the stack that is full.
        self.task = asyncio.Task(driver, loop=loop)
        if self.keeps:
            keep_task(self.store, self.task)
        return self.await_task(loop)

    cdef int await_task(self, object loop) except -1:
        """Await the end of the task that goes on for this driver.

        By a future beside it: to cancel a task cancels what it awaits, and that what it awaits, and so forth, and a
        long chain of tasks that await each other is a recursion. This way cancelling goes from loop step to loop step.
        """
        self.future = loop.create_future()
        self.task.add_done_callback(partial(end_hop, self.future))
        self.inner = awaitable_iterator(self.future)
        return 0

    cdef int begin_group(self) except -1:
        """Bring what was read at once up to date side by side: at once what needs no computation, the rest in tasks."""
        cdef Driver driver
        cdef list drivers = [], stale = []
        loop = running_loop()
        for node in stale_group(self.walk):
            if not is_under_way(loop, self.view, node):
                driver = new_driver(self.store, self.runtime, self.view, self.db, self.outer, node, BY_GROUP)
                driver.walk.by_name = True
                if advance(driver.walk) == DONE and driver.finish():
                    continue
                driver.walk.interruptions += 1  # anything may happen before its task takes the first step
                drivers.append(driver)
            stale.append(node)
        if loop is None or not drivers or len(stale) == 1:
            # One by one, then. The first is where the walk goes next, so nothing is gained by a task for it.
            if stale:
                self.walk.push(<PyObject *> stale[0])
                self.walk.stand(WAIT)  # to abort a driver may run user code
            self.walk.interruptions += 1
            for driver in drivers:
                driver.abort()
            return 0
        self.group, self.task = start_group(loop, self.view, [(<Driver> each).node for each in drivers], drivers)
        return self.await_task(loop)

    cdef int finish_step(self, object value) except -1:
        """What was awaited has returned `value`."""
        self.inner = None
        self.walk.interruptions += 1
        if self.frame is None:
            task, leaving, group, delegate = self.task, self.leaving, self.group, self.delegate
            if self.awaited is not None:
                remove_waiter(self.awaited, self.future)
                report(self, WAIT_END, self.awaited.node, self.awaited.number, 0)
            self.future = self.awaited = self.task = self.leaving = self.group = self.delegate = None
            self.keeps = False
            for each in group or ():
                error = error_of(each)
                if error is not None:
                    raise error
            if leaving is not None and (task.cancelled() or not was_cancelled(task, group)):
                raise leaving  # else the query has caught it, and has come to an end
            if delegate is not None or type(value) is Version and self.walk.depth == 1:
                self.result = value if delegate is None else (<Driver> delegate).result
        elif is_one_shot(value):
            self.end_computation(FAILED, one_shot_error(self.frame.node, value))
        else:
            self.end_computation(VALUE, value)
        return 0

    cdef int fail_step(self, object error) except -1:
        """What was awaited has raised `error`: the failure of a query (r[cell.poison]), or nothing of its own."""
        self.inner = None
        self.walk.interruptions += 1
        if self.frame is not None and isinstance(error, Exception) and not isinstance(error, NO_RESULTS):
            return self.end_computation(FAILED, failure_of(self.frame.node, error))
        if self.frame is not None:
            self.left_by = error
        if self.task is None or self.task.done() or self.keeps:
            raise error
        # This access is cancelled while a task goes on for it. Cancel that too, and see what becomes of it.
        self.leaving = error
        loop = self.task.get_loop()
        loop.call_soon(self.task.cancel)
        return self.await_task(loop)

    # -- the end of a computation

    cdef int end_computation(self, uint32_t outcome, object value) except -1:
        """The query that was being computed has come to an end: make its outcome that of its node."""
        cdef Frame frame = self.frame
        cdef Node node = frame.node
        cdef Store store = self.store
        cdef Version result = None
        cdef bint is_new
        if store.observer is not None:
            tell_return(store.observer, frame)
        if outcome == FAILED:
            self.value = new_raised(value)  # held on to until it is handed out, whatever becomes of the cell
            is_new = commit(store, frame, outcome, self.value)
        else:
            is_new = commit(store, frame, outcome, value)
        if is_limited(<PyObject *> store, <PyObject *> node):
            result = outcome_of(node, self.view, False)
        if store.observer is not None:
            tell_end(store.observer, frame, outcome, is_new, value)
        waiters = end_frame(frame)
        self.frame = None
        self.computed = node is self.node and self.walk.depth == 1
        if self.result is not None or result is not None:
            self.result = result if node is self.node else None
        try:
            if frame.entry is not None:
                finish_entry(frame, self.view)
            release_reads(store, frame)
            if outcome == VALUE:
                if self.runtime.view is not None:
                    offer(store, node, self.view)
                if is_new and self.runtime.hub is not None:
                    emit_query_changed(self.runtime, node, self.view.revision)
            if store.idle:
                sweep(store)
        finally:
            if waiters is not None:
                wake(waiters, result)
            if store.observer is not None:
                flush(store.observer)
        return 0

    # -- the end of the access

    cdef bint finish(self) except -1:
        """Take the outcome of the node that was asked for, and leave the view."""
        cdef Outcome outcome
        cdef Store store = self.store
        cdef Node node = self.node
        cdef View view = self.view
        if self.result is None and is_limited(<PyObject *> store, <PyObject *> node):
            self.result = outcome_of(node, view, self.walk.by_name)
        if self.result is not None:
            open_version(self.result, &outcome)
            self.result = None if is_gone(&outcome) else self.result
            if may_be_idle(node):
                store.idle.append(node)
        if self.result is None and not outcome_at(node, view, &outcome):
            self.computed = False
            if not self.walk.depth:
                self.walk.push(<PyObject *> node)  # it was there a moment ago, and something has taken it away
            return False
        self.flags = outcome.flags
        if outcome.flags & FAILED:
            self.value = take_failure(<Failure> outcome.value, self.runtime, self.outer)
        else:
            self.value = <object> outcome.value
        self.changed_at = outcome.changed_at
        self.valid_since = outcome.valid_since
        self.ended = True
        report(self, ACCESS_END, node, 0, ENDED_WITH_FAILURE if self.flags & FAILED else ENDED_WITH_VALUE)
        leave_view(store, view)
        return True

    cdef int abort(self) except -1:
        """End the access without an outcome, wherever it stands; what it was computing is as before."""
        cdef Frame frame = self.frame
        cdef dict waiters = None
        if self.ended or self.view is None:  # or never begun
            return 0
        self.ended = True
        inner, self.inner = self.inner, None
        try:
            if inner is not None and frame is not None and hasattr(inner, "close"):
                if self.store.observer is not None:
                    tell_resume(self.store.observer, frame)
                frame.context.run(inner.close)
            if self.task is not None:
                if not self.keeps:
                    cancel_soon(self.task)
                cancel_soon(self.future)
        finally:
            if self.awaited is not None:
                remove_waiter(self.awaited, self.future)
            if frame is not None:
                self.frame = None
                if self.store.observer is not None:
                    tell_abort(self.store.observer, frame, self.left_by)
                waiters = end_frame(frame)
                release_reads(self.store, frame)
            if may_be_idle(self.node):
                self.store.idle.append(self.node)
            report(self, ACCESS_END, self.node, 0, ENDED_WITHOUT)
            self.walk = self.node = self.left_by = None
            leave_view(self.store, self.view)
            if self.store.idle:
                sweep(self.store)
            try:
                wake(waiters, None)
            finally:
                if frame is not None:
                    cancel_entry(frame)
                if self.store.observer is not None:
                    flush(self.store.observer)
        return 0


cdef PySendResult go(Driver self, object sent, object thrown, PyObject **result) except PYGEN_ERROR:
    """`Driver.resume`, but for what comes before and after."""
    cdef Step step
    while True:
        if self.inner is not None:
            if self.end_step(self.step_inner(sent, thrown, result), result) == PYGEN_NEXT:
                return PYGEN_NEXT
            sent = thrown = None
            continue
        if thrown is not None:
            raise thrown
        if self.computed or self.result is not None:
            step = DONE
        else:
            step = EXECUTE if stands_at_new(self) else advance(self.walk)
        if step != DONE and self.walk.keeps_from >= 0 and not self.kept and self.begin_kept():
            continue
        if step == EXECUTE:
            if self.begin(last_node(self.walk), result) == PYGEN_NEXT:
                return PYGEN_NEXT
        elif step == WAIT:
            self.begin_waiting(last_node(self.walk))
        elif step == GROUP:
            self.begin_group()
        elif self.finish():
            if self.store.observer is not None:
                flush(self.store.observer)
            return PYGEN_RETURN


cdef Driver new_driver(Store store, Runtime runtime, View view, object db, Frame outer, Node node, uint32_t cause):
    return begin_driver(Driver.__new__(Driver), store, runtime, view, db, outer, node, cause)


cdef Driver begin_driver(
    Driver driver, Store store, Runtime runtime, View view, object db, Frame outer, Node node, uint32_t cause
):
    if driver.walk is None:
        driver.walk = new_walk()
    driver.store = store
    driver.runtime = runtime
    driver.db = db
    if outer is not None:
        driver.outer = outer
    driver.node = node
    begin_walk(driver.walk, store, db, node)
    # The view is chosen last: making objects may collect garbage, whose finalizers may begin a revision.
    driver.view = driver.walk.view = store.present if view is None else view
    enter_view(driver.view)
    report(driver, ACCESS_BEGIN, node, driver.view.revision, cause)
    return driver
