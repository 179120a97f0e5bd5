"""Spreadsheets: the graphs on which libraries that know what a value was made from are compared.

A sheet has inputs, which are set, and formulas over inputs and over other formulas. It knows nothing of who
computes it (`peers.engines`), so all of them compute the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

Formula = Callable[[list[int]], int]
Reads = tuple[int, ...]


@dataclass(frozen=True)
class Sheet:
    """`size` formulas over `inputs`.

    Formula `i` reads what `rule(i)` names: formulas by their number `k`, inputs by `~k`. All that it reads comes
    before it. The first formula computes `first` of what it has read, all others `rest`.
    """

    inputs: tuple[int, ...]
    size: int
    rule: Callable[[int], Reads]
    first: Formula = sum
    rest: Formula = sum

    @cached_property
    def reads(self) -> tuple[Reads, ...]:
        """The rule as a table."""
        return tuple(self.rule(i) for i in range(self.size))

    @cached_property
    def formulas(self) -> tuple[Formula, ...]:
        return (self.first, *((self.rest,) * (self.size - 1)))

    def evaluate(self, inputs: Sequence[int]) -> list[int]:
        """The values of all formulas, computed from nothing: what every engine has to find."""
        values: list[int] = []
        for reads, formula in zip(self.reads, self.formulas, strict=True):
            values.append(formula([values[k] if k >= 0 else inputs[~k] for k in reads]))
        return values


def same(values: list[int]) -> int:
    return values[0]


def one_more(values: list[int]) -> int:
    return 1 + values[0]


def positive(values: list[int]) -> int:
    """What stays as it is when a count goes up: dependents are spared (the early cutoff)."""
    return 1 if values[0] > 0 else 0


def trees(roots: int) -> Sheet:
    """`roots` trees of 7 formulas over one input each: 4 leaves, 2 branches, a root (salsa's own benchmark)."""

    def rule(i: int) -> Reads:
        root, place = divmod(i, 7)
        if place < 4:
            return (~root,)
        below = 2 * (place - 4) if place < 6 else 4
        return (7 * root + below, 7 * root + below + 1)

    return Sheet((1,) * roots, 7 * roots, rule)


def roots_of(sheet: Sheet) -> range:
    """The formulas of `trees` that are roots."""
    return range(6, sheet.size, 7)


def chain(length: int, first: Formula = one_more) -> Sheet:
    """Formulas of which each reads the one before; the first one reads the input."""

    def rule(i: int) -> Reads:
        return (~0,) if i == 0 else (i - 1,)

    return Sheet((1,), length, rule, first, one_more)


def list_sum(length: int) -> Sheet:
    """The sum of a list, by a balanced tree of sums of two; the last formula is the total. `length` is a power of 2."""

    def rule(i: int) -> Reads:
        left, right = 2 * i, 2 * i + 1  # the list, and behind it all sums, as they come
        return (~left, ~right) if left < length else (left - length, right - length)

    return Sheet(tuple(range(length)), length - 1, rule)


def table(rows: int, columns: int) -> Sheet:
    """What an office makes: rows of numbers with running sums, a total of each column, and a grand total.

    The cell of a row and a column is the number there plus the cell to its left; the total of a column is
    the sum of its cells.
    """
    cells = rows * columns

    def rule(i: int) -> Reads:
        if i < cells:
            return (~i,) if i % columns == 0 else (~i, i - 1)
        if i < cells + columns:
            return tuple(range(i - cells, cells, columns))
        return tuple(range(cells, cells + columns))

    return Sheet(tuple(range(cells)), cells + columns + 1, rule)


def diamond(width: int) -> Sheet:
    """One input, one formula over it, `width` formulas over that, and one over all of them."""

    def rule(i: int) -> Reads:
        if i == 0:
            return (~0,)
        return (0,) if i <= width else tuple(range(1, width + 1))

    return Sheet((1,), width + 2, rule)


def fan_in(width: int) -> Sheet:
    """One formula over `width` inputs."""

    def rule(_: int) -> Reads:
        return tuple(range(-width, 0))

    return Sheet(tuple(range(width)), 1, rule)


def fan_out(width: int) -> Sheet:
    """`width` formulas over one input."""

    def rule(_: int) -> Reads:
        return (~0,)

    return Sheet((1,), width, rule)


def apart(width: int) -> Sheet:
    """`width` formulas, each over an input of its own."""

    def rule(i: int) -> Reads:
        return (~i,)

    return Sheet((1,) * width, width, rule)
