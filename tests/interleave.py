"""Every order in which concurrent tasks can take their steps.

A *scenario* is an async function. It prepares what it needs, lets its actors loose with `await stage.play(...)`, and
checks what has become of it. Before and after `play` everything runs in asyncio's own order. In between, an event
loop of our own runs one handle at a time, and a *chooser* says which:

    async def scenario(stage: Stage) -> None:
        ...
        await stage.play(reader=read(), writer=write())
        ...

    explore(scenario)                  # all orders, depth first; returns how many there are
    sample(scenario, seed, count)      # some, at random
    replay(scenario, (0, 2, 1))        # one, as the message of a failure names it

This is stateless model checking: a run is determined by its list of choices, so the next run repeats all but the
last of them that has an alternative left. Nothing is pruned; small programs stay small because a task's stretch
from one await to the next is one step.

What may come next:

* *Ready handles*: steps of tasks that were woken, first steps of tasks that others have started, callbacks. asyncio
  runs them in the order in which they became ready. With `overtaking=0` so do we, which leaves exactly the orders that
  an event loop can show. Each overtaking that is allowed lets one of them go ahead of others once; None, the default,
  allows any order. (Several loops and threads come close to that. Who loops until others have had their turn never
  ends where these may be put off for ever: then allow a few.)
* *Arrivals*: what comes from outside whenever it likes, before or after anything else. An actor begins; a task at a
  `checkpoint()` goes on; one at a `gate()` is woken, and so goes on one step later, so that something can happen to it
  in between; the earliest timer goes off.

Time is virtual: it stands still until a timer goes off. `stage.choose(n)` lets a scenario itself do one of n things.

A run fails if the scenario raises, if actors wait with nothing left that could wake them, if a task outlives the
play, and if anything is complained about that Python only logs: exceptions that nobody retrieved, tasks destroyed
while pending, awaitables never awaited. The garbage of each run is collected at once, so that the right one is blamed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import sys
import types
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Scenario = Callable[["Stage"], Awaitable[None]]


class InterleavingError(AssertionError):
    """An order in which a scenario fails: `replay(scenario, error.choices)` does it again."""

    def __init__(self, message: str, choices: tuple[int, ...]) -> None:
        super().__init__(message)
        self.choices = choices


class DeadlockError(AssertionError):
    """Some wait, and nothing is left that could wake them."""


class LivelockError(AssertionError):
    """They go on and on."""


MOST_STEPS = 2_000  # of one run
MOST_SHOWN = 100  # in a message


# -- choosing


class Chooser:
    """Repeats `prefix`, then takes the first option; remembers how many there were."""

    def __init__(self, prefix: tuple[int, ...] = ()) -> None:
        self.prefix = prefix
        self.taken: list[int] = []
        self.widths: list[int] = []

    def choose(self, n: int) -> int:
        if n == 1:  # no choice
            return 0
        i = self.pick(n)
        self.taken.append(i)
        self.widths.append(n)
        return i

    def pick(self, n: int) -> int:
        if len(self.taken) >= len(self.prefix):
            return 0
        i = self.prefix[len(self.taken)]
        if i >= n:
            raise AssertionError(f"Choice {len(self.taken)} is {i} of {n}: not the same program.")
        return i

    def next_prefix(self) -> tuple[int, ...] | None:
        """The choices of the next run, depth first; None after the last."""
        for position in reversed(range(len(self.taken))):
            if self.taken[position] + 1 < self.widths[position]:
                return (*self.taken[:position], self.taken[position] + 1)
        return None


class RandomChooser(Chooser):
    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng

    def pick(self, n: int) -> int:
        return self.rng.randrange(n)


# -- stepping


class SteppedTask(asyncio.Task[Any]):
    """A task whose hash does not depend on where it lies in memory: sets of tasks have the same order in each run."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class SteppedLoop(asyncio.BaseEventLoop):
    """An event loop that runs one handle at a time, and while `playing` the one that is chosen."""

    _ready: Any  # what BaseEventLoop has, and typeshed does not show
    _scheduled: Any

    def __init__(self, chooser: Chooser, overtaking: int | None) -> None:
        super().__init__()
        self.chooser = chooser
        self.overtaking = overtaking
        self.now = 0.0
        self.steps = 0
        self.playing = False
        self.ended = False  # nothing is awaited any more but the end
        self.rest: asyncio.Future[None] | None = None  # done when nothing can go on
        self.after_step: Callable[[], None] | None = None
        self.parked: set[Any] = set()  # tasks at checkpoints
        self.gates: list[asyncio.Future[None]] = []
        self.trace: list[str] | None = None
        self.problems: list[str] = []
        self.set_task_factory(lambda loop, coro, **kw: SteppedTask(coro, loop=loop, **kw))
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self.now

    def _write_to_self(self) -> None:
        """`call_soon_threadsafe` wants a loop that sleeps to be woken. This one does not sleep."""

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.problems.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _run_once(self) -> None:
        """One step: called again and again by `run_forever`."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            self.steps = 0  # enough for an orderly end
            raise LivelockError(f"after {MOST_STEPS} steps there is no end in sight")
        options = self._arrivals_and_ready() if self.playing else self._first()
        if not options:
            self._come_to_rest()
            return
        what = options[self.chooser.choose(len(options)) if self.playing else 0]
        if self.trace is not None and self.playing:
            self.trace.append(f"{label(what)}  (of {', '.join(map(label, options))})")
        if isinstance(what, asyncio.Future):
            self.gates.remove(what)
            what.set_result(None)
        elif isinstance(what, asyncio.TimerHandle):
            self._scheduled.remove(what)
            self._scheduled.sort()
            what._scheduled = False  # type: ignore[attr-defined]
            self.now = max(self.now, what.when())
            what._run()
        else:
            if self.playing and self.overtaking and what is not options[0]:
                self.overtaking -= not self._is_parked(what)
            self._ready.remove(what)
            self.parked.discard(task_of(what))
            what._run()
        if self.after_step is not None:
            self.after_step()

    def _first(self) -> list[Any]:
        """What asyncio would run next."""
        while self._ready:
            if not self._ready[0]._cancelled:
                return [self._ready[0]]
            self._ready.popleft()
        return self._open_gates()[:1] or self._timers()

    def _arrivals_and_ready(self) -> list[Any]:
        ready = [each for each in self._ready if not each._cancelled]
        if self.overtaking == 0:
            inside = [each for each in ready if not self._is_parked(each)]
            ready = inside[:1] + [each for each in ready if self._is_parked(each)]
        else:
            ready.sort(key=self._is_parked)
        return ready + self._open_gates() + self._timers()

    def _open_gates(self) -> list[Any]:
        return [each for each in self.gates if not each.done()]

    def _timers(self) -> list[Any]:
        """The earliest timer."""
        timers = [each for each in self._scheduled if not each._cancelled]
        return [min(timers)] if timers else []

    def _is_parked(self, handle: Any) -> bool:
        return task_of(handle) in self.parked

    def _come_to_rest(self) -> None:
        rest, self.rest = self.rest, None
        self.playing = False
        self.after_step = None
        if rest is not None:
            rest.set_result(None)
        elif self.ended:
            self.stop()
        else:
            raise DeadlockError("the scenario itself waits for what never comes")

    def drain(self) -> None:
        """Let every task end."""
        self.playing = False
        self.ended = True
        self.rest = self.after_step = None
        for _ in range(3):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.run_forever()


def task_of(handle: Any) -> Any:
    """The task of which `handle` is a step, or None."""
    owner = getattr(handle._callback, "__self__", None)
    if not isinstance(owner, asyncio.Task) or getattr(handle._callback, "__name__", "") == "cancel":
        return None
    return owner


def label(what: Any) -> str:
    """What `what` is, for people."""
    if isinstance(what, asyncio.Future):
        return f"open {getattr(what, 'owner', 'a gate')}"
    task = task_of(what)
    if isinstance(task, SteppedTask) and not task.get_name().startswith(("Task-", "None")):
        return str(task.get_name())
    if task is not None:
        return f"task {task.get_coro().__qualname__}"
    callback = getattr(what._callback, "func", what._callback)
    return f"callback {getattr(callback, '__qualname__', callback)}"


# -- what scenarios use


@types.coroutine
def checkpoint() -> Generator[None, None, None]:
    """Wait for something outside, which may come at any time."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, SteppedLoop):
        loop.parked.add(asyncio.current_task())
    yield


async def gate() -> None:
    """The same, but by way of a future: that it comes, and that the task goes on, are two steps."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    future: Any = loop.create_future()
    future.owner = name_of_task()
    loop.gates.append(future)
    try:
        await future
    finally:
        if future in loop.gates:
            loop.gates.remove(future)


def name_of_task() -> str:
    task = asyncio.current_task()
    return "?" if task is None else task.get_name()


@dataclass
class Stage:
    """What a scenario is given."""

    loop: SteppedLoop
    tasks: dict[str, asyncio.Task[Any]] = field(default_factory=dict)  # the actors, by name

    def choose(self, n: int) -> int:
        """One of 0 to n - 1: each of them in a run of its own."""
        return self.loop.chooser.choose(n)

    async def play(
        self, *, after_step: Callable[[], None] | None = None, **actors: Coroutine[Any, Any, Any]
    ) -> dict[str, asyncio.Task[Any]]:
        """Run the actors in the chosen order until nothing can go on, and return their tasks.

        `after_step` is called after each step: what it raises is the end of the run.
        """
        loop = self.loop
        before = asyncio.all_tasks(loop)
        self.tasks |= {name: loop.create_task(each, name=name) for name, each in actors.items()}
        loop.parked |= set(self.tasks.values())  # they come from outside as well
        loop.rest = loop.create_future()
        loop.playing = True
        loop.after_step = after_step
        await loop.rest
        waiting = asyncio.all_tasks(loop) - before
        if waiting:
            raise DeadlockError("\n".join(["nobody can go on:", *map(where, waiting)]))
        tasks, self.tasks = self.tasks, {}
        return tasks


def where(task: asyncio.Task[Any]) -> str:
    """In what a task waits, from the outside in."""
    chain: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        chain.append(getattr(awaited, "__qualname__", None) or type(awaited).__name__)
        awaited = getattr(awaited, "cr_await", None)
    return f"    {task.get_name()} waits in {' > '.join(chain)}"


# -- running


def explore(scenario: Scenario, *, overtaking: int | None = None, most: int = 1_000_000) -> int:
    """Run all orders and return how many there are.

    Raises:
        InterleavingError: one of them fails: the first.
    """
    count = 0
    prefix: tuple[int, ...] | None = ()
    with watched() as lost:
        while prefix is not None:
            if count == most:
                raise AssertionError(f"There are more than {most} orders of {scenario}.")
            count += 1
            chooser = Chooser(prefix)
            problem = _run(scenario, chooser, overtaking, lost)
            if problem is not None:
                _fail(scenario, chooser, overtaking, problem, lost, f"order {count}")
            prefix = chooser.next_prefix()
    return count


def sample(scenario: Scenario, seed: Any, count: int, *, overtaking: int | None = None) -> None:
    """Run `count` orders at random.

    Raises:
        InterleavingError: one of them fails: the first.
    """
    with watched() as lost:
        for n in range(count):
            chooser = RandomChooser(random.Random(f"{seed}/{n}"))
            problem = _run(scenario, chooser, overtaking, lost)
            if problem is not None:
                _fail(scenario, chooser, overtaking, problem, lost, f"order {n} of seed {seed!r}")


def replay(
    scenario: Scenario, choices: tuple[int, ...] = (), *, overtaking: int | None = None
) -> None:
    """Run one order.

    Raises:
        InterleavingError: it fails.
    """
    with watched() as lost:
        chooser = Chooser(choices)
        problem = _run(scenario, chooser, overtaking, lost)
        if problem is not None:
            _fail(scenario, chooser, overtaking, problem, lost, "the order")


def _fail(
    scenario: Scenario,
    chooser: Chooser,
    overtaking: int | None,
    problem: BaseException,
    lost: list[str],
    which: str,
) -> None:
    """Say what is wrong, and who took his steps when."""
    choices = tuple(chooser.taken)
    trace: list[str] = []
    again = _run(scenario, Chooser(choices), overtaking, lost, trace)
    lines = [f"{which} fails: {type(problem).__name__}: {problem}"]
    if again is None:
        lines.append("(not when repeated)")
    lines.append(f"replay(scenario, {choices}, overtaking={overtaking}):")
    lines += [f"    {step}" for step in trace[:MOST_SHOWN]]
    lines += ["    ..."] * (len(trace) > MOST_SHOWN)
    raise InterleavingError("\n".join(lines), choices) from problem


_watching: list[list[str]] = []


@contextmanager
def watched() -> Iterator[list[str]]:
    """What is reported to nobody in particular meanwhile; garbage is collected on demand only.

    Entering it takes as long as many runs. Do it once around many short explorations.
    """
    if _watching:
        yield _watching[0]
        return
    lost: list[str] = []
    hook = sys.unraisablehook
    enabled = gc.isenabled()
    frozen = gc.get_freeze_count() > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
        gc.disable()
        gc.freeze()  # so that collecting the garbage of one run takes no longer than the run
        sys.unraisablehook = lambda args: lost.append(f"{args.err_msg or ''} {args.exc_value!r}")
        _watching.append(lost)
        try:
            yield lost
        finally:
            _watching.clear()
            sys.unraisablehook = hook
            if not frozen:  # else others want what was there before to stay aside: see `conftest`
                gc.unfreeze()
            if enabled:
                gc.enable()


def _run(
    scenario: Scenario,
    chooser: Chooser,
    overtaking: int | None,
    lost: list[str],
    trace: list[str] | None = None,
) -> BaseException | None:
    """Run one order; what is wrong with it, or None."""
    loop = SteppedLoop(chooser, overtaking)
    loop.trace = trace
    problem: BaseException | None = None
    try:
        loop.run_until_complete(_main(scenario, loop))
    except Exception as error:
        problem = error
    loop.drain()
    loop.close()
    gc.collect()
    if problem is None and (loop.problems or lost):
        problem = AssertionError("; ".join(loop.problems + lost))
    lost.clear()
    return problem


async def _main(scenario: Scenario, loop: SteppedLoop) -> None:
    await scenario(Stage(loop))
    left = asyncio.all_tasks(loop) - {asyncio.current_task()}
    if left:
        raise AssertionError("\n".join(["these tasks have outlived all:", *map(where, left)]))
