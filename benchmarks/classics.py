"""Incremental computation as people use it: sheets with formulas, by picante and by all who can do the same.

Everybody computes the same sheet (`sheets`), and has to find the same values; `scratch` remembers nothing and computes
again what it is asked for, which is hard to beat where formulas cost nothing, as they do here. picante takes
part as its guide shows it, by decorators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from . import sheets
from .harness import Burst, Contestant, Figure, Timed, own, scenario
from .peers.engines import ENGINES, Engine, Running, installed
from .sheets import Sheet, chain, diamond, fan_in, fan_out, positive, roots_of, table, trees

ALL = tuple(ENGINES)
PEERS = tuple(name for name in ALL if name != "picante")
ROOTS = 256

# `pyinc` looks at all that a query captures and at all that it was made from whenever it is asked, which takes
# milliseconds for each. So its sheets are smaller where a figure is the cost of one of many.
SLOW = "pyinc"
QUICK = tuple(name for name in ALL if name != SLOW)

AGAINST_ALL = tuple(Figure("picante", name) for name in PEERS)


def asks(running: Running, formulas: Iterable[int]) -> Burst:
    """A burst that asks for each of `formulas`, in the way of its engine."""
    get = running.get

    async def awaiting() -> None:
        for i in formulas:
            await get(i)

    async def calling() -> None:
        for i in formulas:
            get(i)

    return own(awaiting) if running.asynchronous else own(calling)


def updates(running: Running, inputs: Sequence[int], formula: int) -> Burst:
    """A burst that sets one after the other of `inputs`, and asks for `formula` after each."""
    change, get = running.set, running.get
    value = 1_000_000

    async def awaiting() -> None:
        nonlocal value
        for i in inputs:
            value += 1
            change(i, value)
            await get(formula)

    async def calling() -> None:
        nonlocal value
        for i in inputs:
            value += 1
            change(i, value)
            get(formula)

    return own(awaiting) if running.asynchronous else own(calling)


async def checked(engine: Engine, sheet: Sheet, formulas: Sequence[int]) -> Running:
    """A new sheet in which `formulas` have been asked for, and found right before a change and after it."""
    running = engine(sheet)
    inputs = list(sheet.inputs)
    for number in (0, len(inputs) // 2):
        values = sheet.evaluate(inputs)
        for i in formulas:
            found = await running.value(i)
            assert found == values[i], (engine.__name__, i, found, values[i])
        inputs[number] += 1
        running.set(number, inputs[number])
    return running


async def _each(
    sheet_for: Callable[[str], Sheet],
    contestant: Callable[[Running, Sheet], Contestant],
    formulas: Callable[[Sheet], Sequence[int]],
    names: Iterable[str] = ALL,
) -> dict[str, Contestant]:
    """A contestant for each engine that is installed, and whose recursion is not too deep for the interpreter."""
    found = {}
    for name in names:
        if installed(name):
            sheet = sheet_for(name)
            with suppress(RecursionError):  # CPython 3.12 limits it however deep one allows it
                running = await checked(ENGINES[name], sheet, formulas(sheet))
                found[name] = contestant(running, sheet)
    return found


def _last(sheet: Sheet) -> Sequence[int]:
    return [sheet.size - 1]


# -- salsa's own benchmark


def _trees(name: str) -> Sheet:
    """With one input more than they read, the last one."""
    sheet = trees(8 if name == SLOW else ROOTS)
    return Sheet((*sheet.inputs, 1), sheet.size, sheet.rule)


@scenario(*ALL, figures=AGAINST_ALL, rounds=30)
async def trees_hot() -> Mapping[str, Contestant]:
    """One of 256 values, each at the root of a tree of 7 queries, that is there."""

    def contestant(running: Running, sheet: Sheet) -> Contestant:
        roots = roots_of(sheet)
        return Timed(asks(running, roots), len(roots), repeat=running.repeat)

    return await _each(_trees, contestant, roots_of)


@scenario(*ALL, figures=AGAINST_ALL, rounds=30)
async def trees_cold() -> Mapping[str, Contestant]:
    """One of 256 values, each at the root of a tree of 7 queries, computed for the first time."""
    found: dict[str, Contestant] = {}
    for name, engine in ENGINES.items():
        if installed(name):
            sheet = _trees(name)
            await checked(engine, sheet, roots_of(sheet))
            found[name] = _cold(engine, sheet)
    return found


def _cold(engine: Engine, sheet: Sheet) -> Contestant:
    state: Any = None

    def prepare() -> None:
        nonlocal state
        state = asks(engine(sheet), roots_of(sheet))

    async def burst() -> None:
        await state()

    return Timed(burst, len(roots_of(sheet)), prepare=prepare)


@scenario(*ALL, figures=AGAINST_ALL, rounds=30)
async def trees_deep_verify() -> Mapping[str, Contestant]:
    """One of 256 values, each at the root of a tree of 7 queries, after something unrelated was set."""

    def contestant(running: Running, sheet: Sheet) -> Contestant:
        number = 1
        unrelated = len(sheet.inputs) - 1

        def prepare() -> None:
            nonlocal number
            number += 1
            running.set(unrelated, number)

        roots = roots_of(sheet)
        return Timed(asks(running, roots), len(roots), prepare=prepare, repeat=running.repeat)

    return await _each(_trees, contestant, roots_of)


@scenario(*ALL, figures=AGAINST_ALL, rounds=30)
async def trees_verify_then_execute() -> Mapping[str, Contestant]:
    """One of 256 values, each at the root of a tree of 7 queries, after all that they were made from was set."""

    def contestant(running: Running, sheet: Sheet) -> Contestant:
        number = 1
        roots = roots_of(sheet)

        def prepare() -> None:
            nonlocal number
            number += 1
            for i in range(len(roots)):
                running.set(i, number)

        return Timed(asks(running, roots), len(roots), prepare=prepare, repeat=running.repeat)

    return await _each(_trees, contestant, roots_of)


# -- the classics


def _length(name: str) -> int:
    return 50 if name == SLOW else 500


def _asked_after_set(running: Running, sheet: Sheet) -> Contestant:
    """What asking for the last formula costs after the first input was set, for each formula of the sheet."""
    number = 1

    def prepare() -> None:
        nonlocal number
        number += 1
        running.set(0, number)

    return Timed(asks(running, _last(sheet)), sheet.size, prepare=prepare, repeat=running.repeat)


@scenario(*ALL, figures=AGAINST_ALL, rounds=30)
async def chain_500() -> Mapping[str, Contestant]:
    """A chain of 500 values, each made from the one before, when all have to be computed again: the cost of one."""
    return await _each(lambda name: chain(_length(name)), _asked_after_set, _last)


@scenario(*ALL, figures=AGAINST_ALL, rounds=30)
async def chain_500_cutoff() -> Mapping[str, Contestant]:
    """A chain of 500 values of which the first is computed again and is as it was, so that no other has to be."""
    return await _each(lambda name: chain(_length(name), positive), _asked_after_set, _last)


@scenario(*ALL, figures=AGAINST_ALL, rounds=30)
async def diamond_100() -> Mapping[str, Contestant]:
    """One input, 100 values made from it, one made from all of these; the input is set: the cost of each value."""
    return await _each(lambda _: diamond(100), _asked_after_set, _last)


@scenario(*ALL, figures=AGAINST_ALL, rounds=30)
async def fan_out_100() -> Mapping[str, Contestant]:
    """100 values made from one input, all asked for after it was set: the cost of each."""

    def contestant(running: Running, sheet: Sheet) -> Contestant:
        number = 1

        def prepare() -> None:
            nonlocal number
            number += 1
            running.set(0, number)

        return Timed(
            asks(running, range(sheet.size)), sheet.size, prepare=prepare, repeat=running.repeat
        )

    return await _each(lambda _: fan_out(100), contestant, lambda sheet: range(sheet.size))


def _updated(running: Running, sheet: Sheet) -> Contestant:
    """What it costs to set one input and to ask for the last formula."""
    inputs = range(0, len(sheet.inputs), len(sheet.inputs) // running.updates)
    return Timed(updates(running, inputs, sheet.size - 1), len(inputs))


@scenario(*ALL, figures=AGAINST_ALL, rounds=30)
async def fan_in_1000() -> Mapping[str, Contestant]:
    """One value made from 1,000 inputs, of which one is set: the input is set, the value asked for."""
    return await _each(lambda _: fan_in(1_000), _updated, _last)


@scenario(*ALL, figures=AGAINST_ALL, rounds=30)
async def list_sum() -> Mapping[str, Contestant]:
    """The sum of a list of 1,024 numbers, by a tree of sums of two: a number is set, the sum asked for."""
    return await _each(lambda _: sheets.list_sum(1_024), _updated, _last)


@scenario(*QUICK, figures=[each for each in AGAINST_ALL if each.peer != SLOW], rounds=30)
async def spreadsheet() -> Mapping[str, Contestant]:
    """A spreadsheet of 100 rows and 10 columns with running sums: a number is set, the grand total asked for."""
    return await _each(lambda _: table(100, 10), _updated, _last, QUICK)


# -- against the size

SIZES = (64, 512, 4_096)
LARGEST = {SLOW: 64}
AGAINST_SIZE = tuple(f"{name}_{size}" for name in ALL for size in SIZES)
FIGURES = tuple(
    Figure(f"picante_{size}", f"{name}_{size}")
    for size in SIZES
    for name in PEERS
    if size <= LARGEST.get(name, size)
)


async def _of_sizes(contestant: Callable[[Running, Sheet], Contestant]) -> dict[str, Contestant]:
    found: dict[str, Contestant] = {}
    for size in SIZES:

        def sheet(_: str, size: int = size) -> Sheet:
            plain = sheets.list_sum(size)
            return Sheet((*plain.inputs, 1), plain.size, plain.rule)

        names = [name for name in ALL if size <= LARGEST.get(name, size)]
        one_size = await _each(sheet, contestant, _last, names)
        found |= {f"{name}_{size}": each for name, each in one_size.items()}
    return found


@scenario(*AGAINST_SIZE, figures=FIGURES, rounds=20)
async def sum_after_update() -> Mapping[str, Contestant]:
    """The sum of a list, by a tree of sums of two, when a number is set and the sum asked for: at several lengths."""

    def contestant(running: Running, sheet: Sheet) -> Contestant:
        inputs = range(0, len(sheet.inputs) - 1, len(sheet.inputs) // running.updates)
        return Timed(updates(running, inputs, sheet.size - 1), len(inputs))

    return await _of_sizes(contestant)


@scenario(*AGAINST_SIZE, figures=FIGURES, rounds=20)
async def sum_after_unrelated_change() -> Mapping[str, Contestant]:
    """The sum of a list, by a tree of sums of two, when something else is set and the sum asked for."""

    def contestant(running: Running, sheet: Sheet) -> Contestant:
        unrelated = [len(sheet.inputs) - 1] * running.updates
        return Timed(updates(running, unrelated, sheet.size - 1), len(unrelated))

    return await _of_sizes(contestant)
