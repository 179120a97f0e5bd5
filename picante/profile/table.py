"""The statistics as a table for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from picante.debug.names import cells, shortened
from picante.profile.stats import SORT_KEYS, QueryStats, SortKey

__all__ = ["bytes_text", "sorted_stats", "table", "time_text"]

LONGEST_NAME: Final = 40

COLUMNS: Final[list[tuple[str, Callable[[QueryStats], str]]]] = [
    ("calls", lambda s: str(s.calls or s.reads)),
    ("hits", lambda s: str(s.hits)),
    ("verified", lambda s: str(s.verifications)),
    ("followed", lambda s: str(s.followed)),
    ("runs", lambda s: str(s.runs)),
    ("equal", lambda s: str(s.equal)),
    ("failed", lambda s: str(s.failures)),
    ("cancelled", lambda s: str(s.cancellations)),
    ("own", lambda s: time_text(s.own)),
    ("total", lambda s: time_text(s.total)),
    ("waiting", lambda s: time_text(s.waiting)),
    ("verifying", lambda s: time_text(s.verifying)),
    ("saved", lambda s: "-" if s.saved is None else time_text(s.saved)),
    ("size", lambda s: "-" if s.size is None else bytes_text(s.size)),
]
OPTIONAL: Final = {"followed", "failed", "cancelled", "size"}
"""Columns that are left out where they say nothing."""


def sorted_stats(stats: Sequence[QueryStats], sort: SortKey) -> list[QueryStats]:
    """`stats`, the greatest first; by name in the order of the alphabet."""
    if sort not in SORT_KEYS:
        raise ValueError(f"sort= is one of {', '.join(SORT_KEYS)}, not {sort!r}.")
    if sort == "name":
        return sorted(stats, key=lambda s: s.name)
    return sorted(stats, key=lambda s: (-(getattr(s, sort) or 0), s.name))


def table(stats: Sequence[QueryStats], sort: SortKey, limit: int | None) -> str:
    """A table of queries, one line each, and a line that says what was left out."""
    if limit is not None and limit < 1:
        raise ValueError(
            f"limit= is how many lines are shown: a positive int or None, not {limit!r}."
        )
    queries = sorted_stats([s for s in stats if s.kind in {"query", "unknown"}], sort)
    shown = queries[:limit]
    columns = [
        (title, text)
        for title, text in COLUMNS
        if title not in OPTIONAL or any(text(s) not in {"0", "-"} for s in shown)
    ]
    rows = [["query", *[title for title, _ in columns]]]
    rows += [[shortened(s.short, LONGEST_NAME), *[text(s) for _, text in columns]] for s in shown]
    widths = [max(cells(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(_padded(row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    if len(queries) > len(shown):
        rest = len(queries) - len(shown)
        lines.append(f"... and {rest} more {'query' if rest == 1 else 'queries'}")
    return "\n".join(lines)


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The name to the left, numbers to the right."""
    blanks = [" " * (width - cells(text)) for text, width in zip(row, widths, strict=True)]
    return [row[0] + blanks[0], *[b + text for b, text in zip(blanks[1:], row[1:], strict=True)]]


def time_text(seconds: float) -> str:
    """Three digits and a unit: `1.23 ms`."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if abs(seconds) * factor >= 0.9995:
            return f"{_three_digits(seconds * factor)} {unit}"
    return "0" if abs(seconds) < 5e-10 else f"{seconds * 1e9:.0f} ns"


def bytes_text(number: int) -> str:
    """Three digits and a unit: `1.23 MB`."""
    if number < 1000:
        return f"{number} B"
    for factor, unit in ((1e3, "kB"), (1e6, "MB"), (1e9, "GB")):
        if number < factor * 999.5:
            return f"{_three_digits(number / factor)} {unit}"
    return f"{number / 1e12:.2f} TB"


def _three_digits(value: float) -> str:
    return f"{value:.{0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2}f}"
