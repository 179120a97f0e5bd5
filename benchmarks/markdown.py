"""The report, `RESULTS.md`: what was promised, what is lost at, and everything beside its peers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import plots
from .peers import engines
from .plots import duration
from .promises import ABOUT, LIBRARIES, PROMISES, REASONS
from .results import FOLDER, Results, recorded, recorded_rust

REPORT = Path(__file__).parent / "RESULTS.md"
ENGINES = tuple(engines.ENGINES)
SHEETS = {  # and how they are called in a plot
    "trees_hot": "256 trees: there",
    "trees_cold": "256 trees: for the first time",
    "trees_deep_verify": "256 trees: unrelated change",
    "trees_verify_then_execute": "256 trees: all changed",
    "chain_500": "chain of 500: all changed",
    "chain_500_cutoff": "chain of 500: early cutoff",
    "diamond_100": "diamond of 100: changed",
    "fan_in_1000": "one of 1,000 inputs changed",
    "fan_out_100": "100 values of one input",
    "list_sum": "sum of a list: one changed",
    "spreadsheet": "spreadsheet: one changed",
    "memory_sheet": "",
}
AHEAD = 1.05  # a ratio below is no difference that one could see

All = Mapping[str, Results]  # by version


def write(report: Path = REPORT, folder: Path = FOLDER) -> None:
    """Make the report and its plots of what is recorded in `folder`."""
    found = recorded(folder)
    if not found:
        raise FileNotFoundError(f"Nothing is recorded in {folder}.")
    for name, text in drawn(found).items():
        (folder / name).write_text(text, encoding="utf-8")
    report.write_text(text_of(found, recorded_rust(folder)), encoding="utf-8")


def text_of(found: All, rust: Results | None) -> str:
    """The report."""
    parts = [
        _introduction(found),
        _promised(found),
        _lost(found),
        _sheets(found),
        _rust(found, rust),
        _everything(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# -- the parts


def _introduction(found: All) -> str:
    rows = []
    for version, each in found.items():
        spent = sum(one.get("seconds", 0) for one in each["scenarios"].values())
        rows.append(
            [
                version,
                each["python"],
                f"{each['cpus']} x {each['cpu']}",
                each["platform"],
                f"{each['load']:.1f}",
                f"{spent / 60:.0f} min",
            ]
        )
    versions: dict[str, set[str]] = {}
    for each in found.values():
        for name, number in each["versions"].items():
            versions.setdefault(name, set()).add(number or "not installed")
    return "\n\n".join(
        [
            "# What was measured",
            "`make bench` writes this page and the files in [results/](results); [README.md](README.md) says how to "
            "read it, and what each scenario is. All contestants of a scenario take turns in one process. A time is "
            "the median of its rounds, for one operation; a ratio is the median of the ratios of the rounds, below 1 "
            "picante is quicker. Ratios hold where times do not: compare no times of different columns.",
            _table(["", "CPython", "machine", "system", "load", "took"], rows),
            f"The longest: {_longest(found)}.",
            "Compared with "
            + ", ".join(f"{name} {'/'.join(sorted(all))}" for name, all in versions.items())
            + ".",
            "![Times as long as picante](results/peers.svg)",
            "![A sum after an unrelated change, against the length of its list](results/unrelated.svg)",
            "![A sum after an update, against the length of its list](results/update.svg)",
            "![Paths of picante, against the size of the database](results/sizes.svg)",
        ]
    )


def _longest(found: All, many: int = 6) -> str:
    """The scenarios that take longest, of the newest version: what to leave out when time is short."""
    scenarios = list(found.values())[-1]["scenarios"]
    seconds = {name: each.get("seconds", 0.0) for name, each in scenarios.items()}
    longest = sorted(seconds, key=lambda name: -seconds[name])[:many]
    return ", ".join(f"`{name}` {seconds[name]:.0f} s" for name in longest)


def _promised(found: All) -> str:
    rows, reasons = [], {}
    score = {version: [0, 0] for version in found}
    for promise, scenarios in PROMISES:
        for name in scenarios:
            for index, figure in _figures(found, name):
                if figure["at_most"] is None:
                    continue
                cells = []
                for version in found:
                    one = _figure(found, version, name, index)
                    if one is None or one["ratio"] is None:
                        cells.append("")
                        continue
                    score[version][0] += one["met"]
                    score[version][1] += 1
                    cells.append(_number(one["ratio"]) if one["met"] else _missed(one["ratio"]))
                    if not one["met"]:
                        reasons[name] = REASONS.get(name)
                if any(cells):
                    rows.append(
                        [
                            promise,
                            f"`{name}`",
                            _compared(figure),
                            _limits(found, name, index),
                            *cells,
                        ]
                    )
                    promise = ""
    met = ", ".join(f"{a} of {b} on {version}" for version, (a, b) in score.items())
    parts = [
        "## What picante has promised",
        f"Kept: {met}. What is missed stands in bold.",
        _table(["promise", "scenario", "figure", "to reach", *found], rows),
    ]
    if reasons:
        parts.append("Where a figure is missed, as far as we know why:")
        parts.append(
            "\n".join(f"* `{name}`: {why or 'not known.'}" for name, why in reasons.items())
        )
    return "\n\n".join(parts)


def _lost(found: All) -> str:
    """The worst of the figures of each scenario and peer, if picante is behind on any version."""
    worst: dict[tuple[str, str], tuple[float, list[str]]] = {}
    for name in _names(found):
        for index, figure in _figures(found, name):
            peer = _engine(figure["peer"] or "")
            if peer not in ABOUT or _engine(figure["ours"]) != "picante":
                continue
            ratios = [_ratio(_figure(found, version, name, index)) for version in found]
            most = max((each for each in ratios if each is not None), default=0)
            if most >= max(AHEAD, worst.get((name, peer), (0,))[0]):
                cells = ["" if each is None else _number(each) for each in ratios]
                row = [_title(found, name), f"`{name}`", *cells, ABOUT[peer]]
                worst[name, peer] = most, row
    rows = sorted(((peer, *each) for (_, peer), each in worst.items()), key=lambda each: -each[1])
    heads = ["what", "scenario", *found, "the peer"]
    libraries = [row for peer, _, row in rows if peer in LIBRARIES]
    plain = [row for peer, _, row in rows if peer not in LIBRARIES]
    parts = [
        "## What picante loses at",
        "Where a peer is quicker or smaller, on any version: the ratio of picante to it, the greatest first, "
        "and what the peer does not do. Libraries:",
        _table(heads, libraries) if libraries else "None.",
        "And plain Python, which shows what all that is recorded costs:",
        _table(heads, plain) if plain else "Nothing.",
    ]
    return "\n\n".join(parts)


def _sheets(found: All) -> str:
    parts = [
        "## The same work, done by others",
        "Sheets of formulas that cost nothing, so that all one sees is the cost of remembering. Everybody finds the "
        "same values. In bold who is quickest of those that remember.",
    ]
    for version in found:
        measured = [one["contestants"] for one in found[version]["scenarios"].values()]
        present = [engine for engine in ENGINES if any(engine in each for each in measured)]
        rows = []
        for name in SHEETS:
            each = found[version]["scenarios"].get(name)
            if each is None:
                continue
            medians = {
                n: each["contestants"][n]["median"] for n in ENGINES if n in each["contestants"]
            }
            best = min((m for n, m in medians.items() if n != "scratch"), default=None)
            cells = []
            for engine in present:
                median = medians.get(engine)
                shown = "" if median is None else _amount(median, each["unit"])
                cells.append(f"**{shown}**" if median == best and engine != "scratch" else shown)
            rows.append([each["title"], f"`{name}`", *cells])
        if rows:
            parts += [f"CPython {version}:", _table(["what", "scenario", *present], rows)]
    return "\n\n".join(parts) if len(parts) > 2 else ""


def _rust(found: All, rust: Results | None) -> str:
    parts = ["## The original, and salsa"]
    if rust is None:
        parts.append("The program in Rust was not run: `cargo` or its registry was not there.")
        return "\n\n".join(parts)
    of = ", ".join(f"{name} {number}" for name, number in rust.get("versions", {}).items())
    parts.append(
        f"The same shapes in Rust ({of}), by wall-clock time, beside picante for Python. There every key and value is "
        "a number of 64 bits, the compiler knows all types, and no interpreter stands between two queries. In `miss` "
        "and `recompute` the figures of Python are less what the user's own coroutine costs, some 0.1 µs. In bold who "
        "is quickest."
    )
    rows = []
    for shape, peers in rust["shapes"].items():
        times: list[float | None] = []
        for version in found:
            each = found[version]["scenarios"].get(shape, {"contestants": {}})
            ours = (m for n, m in each["contestants"].items() if n in {"picante", "cells_1000"})
            times.append(next((measured["median"] for measured in ours), None))
        times += [peers[n]["median_ns"] if n in peers else None for n in ("picante", "salsa")]
        best = min(time for time in times if time is not None)
        cells = [
            "" if t is None else f"**{duration(t)}**" if t == best else duration(t) for t in times
        ]
        rows.append([_title(found, shape), f"`{shape}`", *cells])
    heads = [f"Python {version}" for version in found]
    parts.append(_table(["what", "shape", *heads, "picante (Rust)", "salsa"], rows))
    return "\n\n".join(parts)


def _everything(found: All) -> str:
    rows = []
    for name in _names(found):
        title, label = _title(found, name), f"`{name}`"
        contestants: dict[str, None] = {}
        for each in found.values():
            contestants |= dict.fromkeys(
                each["scenarios"].get(name, {"contestants": ()})["contestants"]
            )
        for contestant in contestants:
            cells = []
            for each in found.values():
                one = each["scenarios"].get(name, {"contestants": {}})
                measured = one["contestants"].get(contestant)
                cells.append("" if measured is None else _amount(measured["median"], one["unit"]))
            rows.append([title, label, contestant.replace("_", " "), *cells])
            title = label = ""
    return "\n\n".join(
        ["## Everything", "Medians.", _table(["what", "scenario", "who", *found], rows)]
    )


# -- the plots


def drawn(found: All) -> dict[str, str]:
    """The plots, of the newest version that has what they show."""
    pictures = {}
    version, each = list(found.items())[-1]
    whole, largest = next(
        ((v, e) for v, e in reversed(list(found.items())) if "snapshot_large" in e["scenarios"]),
        (version, each),
    )
    scenarios = each["scenarios"]
    where = f"CPython {version}, logarithmic scales"
    rows: dict[str, dict[str, float]] = {}
    for name, label in SHEETS.items():
        if label and name in scenarios:
            medians = {n: m["median"] for n, m in scenarios[name]["contestants"].items()}
            rows[label] = {n: medians[n] / medians["picante"] for n in ENGINES if n in medians}
    if rows:
        title = "How many times as long as picante"
        about = f"left of 1 × is quicker than picante; CPython {version}, a logarithmic scale"
        pictures["peers.svg"] = plots.marks(title, about, rows)
    for file, name, title in (
        (
            "unrelated.svg",
            "sum_after_unrelated_change",
            "Asking for the sum of a list after something else was set",
        ),
        ("update.svg", "sum_after_update", "Setting a number of a list and asking for the sum"),
    ):
        if name in scenarios:
            lines = _lines(scenarios[name]["contestants"])
            pictures[file] = plots.lines(title, where, "numbers in the list", lines)
    paths = {
        "hit": ("hit_among", "picante_"),
        "miss": ("miss_among", "cells_"),
        "recompute": ("recompute_among", "cells_"),
        "set": ("set_10", "cells_"),
        "snapshot": ("snapshot", "cells_"),
        "verify an edge": ("verify_among", "cells_"),
    }
    lines = {}
    for label, (name, prefix) in paths.items():
        points: dict[int, float] = {}
        for part in (f"{name}_large", name):  # where both have a size, the usual run counts
            for contestant, measured in (
                largest["scenarios"].get(part, {"contestants": {}})["contestants"].items()
            ):
                if contestant.startswith(prefix):
                    points[int(contestant.removeprefix(prefix))] = measured["median"]
        if points:
            lines[label] = sorted(points.items())
    if lines:
        title = "What picante costs, against the size of the database"
        where = f"CPython {whole}, logarithmic scales"
        pictures["sizes.svg"] = plots.lines(title, where, "values in the database", lines)
    return pictures


def _lines(contestants: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for contestant, measured in contestants.items():
        name, _, size = contestant.rpartition("_")
        lines.setdefault(name, []).append((int(size), measured["median"]))
    return lines


# -- small things


def _names(found: All) -> Iterable[str]:
    return dict.fromkeys(name for each in found.values() for name in each["scenarios"])


def _figures(found: All, name: str) -> Iterator[tuple[tuple[str, str | None], dict[str, Any]]]:
    """The figures of a scenario, on whichever version it was measured, each with its contestants."""
    seen = set()
    for each in found.values():
        for figure in each["scenarios"].get(name, {"figures": ()})["figures"]:
            index = figure["ours"], figure["peer"]
            if index not in seen:
                seen.add(index)
                yield index, figure


def _figure(found: All, version: str, name: str, index: tuple[str, str | None]) -> Any:
    for figure in found[version]["scenarios"].get(name, {"figures": ()})["figures"]:
        if (figure["ours"], figure["peer"]) == index:
            return figure
    return None


def _ratio(figure: Any) -> float | None:
    return None if figure is None else figure["ratio"]


def _limits(found: All, name: str, index: tuple[str, str | None]) -> str:
    """What is to be reached: one number, or one for each version where they differ."""
    figures = [_figure(found, version, name, index) for version in found]
    return " / ".join(dict.fromkeys(f"{one['at_most']:g}" for one in figures if one is not None))


def _engine(contestant: str) -> str:
    """`reaktiv` of `reaktiv_64`."""
    return re.sub(r"_\d+$", "", contestant)


def _title(found: All, name: str) -> str:
    return next(
        (e["scenarios"][name]["title"] for e in found.values() if name in e["scenarios"]), ""
    )


def _compared(figure: Mapping[str, Any]) -> str:
    if figure["peer"] is None:
        return str(figure["ours"])
    return f"{figure['ours']} / {figure['peer']}".replace("_", " ")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _missed(value: float) -> str:
    return f"**{_number(value)}**"


def _amount(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value:,.0f} B"
    return duration(value * {"ns": 1, "ms": 1e6}[unit])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
