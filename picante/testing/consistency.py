"""Does a database that has lived through edits answer as a new one with the same inputs does?

That is what picante promises, as long as queries depend on nothing but what they read through it. What breaks it is
in the queries: a global that changes, a file, a clock, a result that somebody changes after it was cached, an `eq`
that calls different values equal. `check_consistency` looks for such a query by trying.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from picante.testing.programs import Ask, Edit, Program, Step, Wrong, named, run, shrink

__all__ = ["InconsistentError", "check_consistency", "check_edits"]

T = TypeVar("T")


class InconsistentError(AssertionError):
    """Results depend on more than the inputs. The message shows the shortest sequence of steps that was found.

    Attributes:
        seed: what `check_consistency(seed=...)` takes to do the same again; None if there was no chance in it.
    """

    seed: int | None

    def __init__(self, message: str, seed: int | None = None) -> None:
        super().__init__(message)
        self.seed = seed


def check_consistency(
    make_db: Callable[[], Any],
    edits: Mapping[str, Edit] | Sequence[Edit],
    queries: Mapping[str, Ask] | Sequence[Ask],
    *,
    seed: int | None = None,
    steps: int = 30,
    programs: int = 10,
    same: Callable[[Any, Any], bool] | None = None,
    snapshots: bool = True,
    overlaps: bool = True,
) -> None:
    """Edit a database at random, ask it now and then, and compare each answer with that of a new database.

    Snapshots are asked, too, which must answer as of when they were taken; and some edits are made while questions are
    under way, which must not notice.

    >>> import picante
    >>> from picante.testing import check_consistency
    >>> class Page(picante.Input):
    ...     name: picante.KeyField[str]
    ...     text: picante.Field[str]
    >>> @picante.tracked
    ... async def length(db: picante.Database) -> int:
    ...     return sum([len(page.text(db)) for page in Page.all(db)])
    >>> def write(db, rng):
    ...     Page(db, name=rng.choice("abc"), text="x" * rng.randrange(5))
    >>> check_consistency(picante.Database, [write], [length], steps=10)

    Args:
        make_db: makes a new database, empty or with what all of them begin with.
        edits: functions `edit(db, rng)` that change inputs. They may depend on the inputs and on `rng`, a
            `random.Random`, and on nothing else: each is done again in new databases. By name, or by their `__name__`.
        queries: functions `ask(db)` that return, or return an awaitable of, what is to be compared: queries without
            parameters, or for instance `lambda db: length.map(db, Page.all(db))`. An exception is an answer, too.
        seed: of what is tried. By default that of `pytest --picante-seed`, or another one each time; failures tell it.
        steps: how many steps (edits and questions) a program has.
        programs: how many programs are tried.
        same: compares two answers, where the queries have an `eq` that takes different values for equal. Handles are
            replaced by what they stand for.
        snapshots: whether snapshots are taken and asked.
        overlaps: whether edits are made while questions are under way. A question that is an `async def` of yours is
            answered before, since it may ask for several things, of which each is as of when it is asked for.

    Raises:
        InconsistentError: an answer differs. The message shows the smallest sequence of steps found, and the seed.
    """
    __tracebackhide__ = True
    program = Program(
        make_db, named(edits, "edits"), named(queries, "queries"), same, snapshots, overlaps
    )
    if seed is None:
        seed = _usual_seed()
    wrong: Wrong | None = None
    rng = random.Random(seed)
    for n in range(programs):
        made = program.steps(rng, steps)
        found = _complete(run(program, made))
        if found is not None:
            wrong = _complete(shrink(program, found))
            _fail(wrong, f"seed={seed}, program {n + 1}", len(found.steps), seed)


def check_edits(
    make_db: Callable[[], Any],
    edits: Sequence[Callable[[Any], object]],
    queries: Mapping[str, Ask] | Sequence[Ask],
    *,
    same: Callable[[Any, Any], bool] | None = None,
) -> None:
    """Do `edits` one after the other, ask all after each, and compare the answers with those of new databases.

    The same as `check_consistency` with a sequence that the caller has chosen, for instance by Hypothesis, which
    then does the shrinking: `@given(st.lists(st.builds(partial, st.just(write), name=names, text=st.text())))`.

    Raises:
        InconsistentError: an answer differs.
    """
    __tracebackhide__ = True
    asks = named(queries, "queries")
    known: dict[str, Edit] = {}
    made = [Step(asks=tuple(asks))]
    for n, edit in enumerate(edits):
        (name,) = named([edit], "edits")
        known[f"{name} ({n + 1})"] = _without_chance(edit)
        made += [Step(f"{name} ({n + 1})"), made[0]]
    found = _complete(run(Program(make_db, known, asks, same), made))
    if found is not None:
        _fail(found, "the edits as given", len(found.steps), None)


def _without_chance(edit: Callable[[Any], object]) -> Edit:
    return lambda db, rng: edit(db)


def _fail(wrong: Wrong, which: str, n_before: int, seed: int | None) -> None:
    __tracebackhide__ = True
    size = f"{len(wrong.steps)} steps"
    if n_before != len(wrong.steps):
        size += f", made smaller from {n_before}"
    lines = [
        f"{wrong.ask} gives another result after edits than in a new database ({which}; {size}):",
        *wrong.lines(),
    ]
    if seed is not None:
        lines.append(f"Try the same again with seed={seed}.")
    raise InconsistentError("\n".join(lines), seed)


def _usual_seed() -> int:
    """What `pytest --picante-seed` says, or a new one."""
    plugin = sys.modules.get("_picante_pytestplugin")
    chosen: int | None = getattr(plugin, "chosen_seed", None)
    return random.randrange(2**32) if chosen is None else chosen


def _complete(main: Coroutine[Any, Any, T]) -> T:
    """The result of `main`, in a loop of its own; in another thread where one is running here."""
    __tracebackhide__ = True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main)
    result: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            result.append(asyncio.run(main))
        except BaseException as error:
            errors.append(error)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,))
    thread.start()
    thread.join()
    for error in errors:
        raise error
    return result[0]
