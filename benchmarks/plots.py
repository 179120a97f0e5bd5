"""Plots as SVG: lines against a size, and marks on rows, both on logarithmic scales, readable in light and dark.

A line or a mark is named where it stands, not by its colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 64, 56
ROW = 34  # of marks
COLOURS = {  # on light, on dark; the first one stands out
    "a": ("#b3261e", "#ff8a80"),
    "b": ("#1f5fa8", "#7db8f5"),
    "c": ("#2e7d32", "#81c784"),
    "d": ("#8a5a00", "#e0b050"),
    "e": ("#6a3fa0", "#c3a1f0"),
    "f": ("#00727a", "#67d0d8"),
    "g": ("#5f6368", "#b0b5ba"),
    "h": ("#b0307f", "#f09acb"),
    "i": ("#5d6b00", "#c2cf5a"),
}

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """From a value to a place, logarithmic."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> Scale:
        """From the power of ten below the least to the one above the greatest."""
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return cls(low, max(high, low + 1), start, end)

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        return [10.0**power for power in range(round(self.low), round(self.high) + 1)]


def duration(ns: float) -> str:
    """A time as people write it: three digits and a unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{_three(ns / size)} {unit}"
    return f"{_three(ns)} ns"


def _three(number: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(abs(number)))) if number else 0
    return f"{number:.{min(digits, 2)}f}".rstrip("0").rstrip(".") if digits else f"{number:.0f}"


def lines(title: str, subtitle: str, x_label: str, series: Mapping[str, Points]) -> str:
    """Times against a size; the y axis has the unit."""
    height = 440
    x = Scale.over([p[0] for s in series.values() for p in s], LEFT, WIDTH - RIGHT)
    y = Scale.over([p[1] for s in series.values() for p in s], height - BOTTOM, TOP)
    parts = []
    for tick in x.ticks:
        parts.append(_tick(x(tick), height - BOTTOM + 20, f"{tick:,.0f}", "middle"))
        parts.append(_line("grid", x(tick), TOP, x(tick), height - BOTTOM))
    for tick in y.ticks:
        parts.append(_tick(LEFT - 8, y(tick) + 4, duration(tick), "end"))
        parts.append(_line("grid", LEFT, y(tick), WIDTH - RIGHT, y(tick)))
    parts.append(_tick((LEFT + WIDTH - RIGHT) / 2, height - 14, x_label, "middle"))
    last = max(points[-1][0] for points in series.values())
    whole = {name: y(points[-1][1]) for name, points in series.items() if points[-1][0] == last}
    ends = _apart(whole)
    for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
        places = [(x(size), y(ns)) for size, ns in points]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        parts.append(f'<polyline class="line s{colour}" points="{path}"/>')
        for (px, py), (_, ns) in zip(places, points, strict=True):
            parts.append(_dot(colour, px, py, f"{name}: {duration(ns)}"))
        end_x, end_y = places[-1]
        if name in ends:
            edge, end = WIDTH - RIGHT + 12, ends[name]
            parts.append(_line(f"lead s{colour}", end_x + 6, end_y, edge, end))
            parts.append(_text(f"name t{colour}", edge + 4, end + 4, name, "start"))
        else:  # it ends before the others do
            parts.append(_text(f"name t{colour}", end_x + 10, end_y + 4, name, "start"))
    return _page(title, subtitle, height, parts)


def marks(title: str, subtitle: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """For each row, how many times as long as the first one everybody takes; 1 is a line from top to bottom."""
    left, right, per_line = 250, 30, 5
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    colour_of = dict(zip(names, COLOURS, strict=False))
    top = TOP + 4 + 20 * math.ceil(len(names) / per_line)
    bottom = top + ROW * len(rows)
    x = Scale.over([each for row in rows.values() for each in row.values()], left, WIDTH - right)
    parts = []
    for tick in x.ticks:
        parts.append(_tick(x(tick), bottom + 20, f"{tick:,g} ×", "middle"))
        parts.append(_line("one" if tick == 1 else "grid", x(tick), top, x(tick), bottom))
    for number, (name, colour) in enumerate(colour_of.items()):
        line, column = divmod(number, per_line)
        spot, level = 20 + 140 * column, TOP + 1 + 20 * line
        parts.append(_dot(colour, spot, level, name))
        parts.append(_text(f"name t{colour}", spot + 9, level + 4, name, "start"))
    for number, (row, values) in enumerate(rows.items()):
        middle = top + ROW * (number + 0.5)
        parts.append(_tick(left - 14, middle + 4, row, "end"))
        parts.append(_line("grid", left, middle, WIDTH - right, middle))
        for name, times in values.items():
            about = f"{name}: {times:.3g} ×"
            parts.append(_dot(colour_of[name], x(times), middle, about))
    return _page(title, subtitle, bottom + BOTTOM, parts)


def _apart(places: Mapping[str, float], least: float = 16) -> dict[str, float]:
    """The same places, moved so that what stands there does not overlap."""
    found: dict[str, float] = {}
    last = -math.inf
    for name, place in sorted(places.items(), key=lambda each: each[1]):
        last = found[name] = max(place, last + least)
    return found


def _text(kind: str, x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return _text("tick", x, y, text, anchor)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(colour: str, x: float, y: float, about: str) -> str:
    title = f"<title>{escape(about)}</title>"
    return f'<circle class="dot f{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{title}</circle>'


def _page(title: str, subtitle: str, height: float, parts: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">',
            f"<style>{_style(0)}@media (prefers-color-scheme: dark){{{_style(1)}}}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            _text("title", 16, 26, title, "start"),
            _text("tick", 16, 45, subtitle, "start"),
            *parts,
            "</svg>\n",
        ]
    )


def _style(dark: int) -> str:
    paper, ink, soft, grid = (("#ffffff", "#1f2328", "#59636e", "#e3e6ea"),
                              ("#0d1117", "#e6edf3", "#9198a1", "#2a3038"))[dark]  # fmt: skip
    rules = [
        "text{font:12px system-ui,sans-serif}",
        f".paper{{fill:{paper}}}",
        f".title{{font-size:15px;font-weight:600;fill:{ink}}}",
        f".tick{{fill:{soft}}}",
        ".name{font-weight:600}",
        f".grid{{stroke:{grid}}}",
        f".one{{stroke:{soft};stroke-width:1.5}}",
        ".line{fill:none;stroke-width:2}",
        ".lead{stroke-width:1;opacity:.5}",
        f".dot{{stroke:{paper};stroke-width:1}}",
    ]
    for name, both in COLOURS.items():
        rules.append(f".s{name}{{stroke:{both[dark]}}}")
        rules.append(f".t{name},.f{name}{{fill:{both[dark]}}}")
    return "".join(rules)
