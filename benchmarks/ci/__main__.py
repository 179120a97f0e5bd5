"""The command line: `python -m benchmarks.ci [NAME ...]`, which is what `make bench-ci` runs."""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

from . import baselines, callgrind
from .baselines import YARDSTICK
from .executions import SCENARIOS, executions
from .holdings import holdings
from .workloads import WORKLOADS, Workload


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, compare, or write down: 1 where something has become dearer."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ci",
        description="Counts what operations cost (instructions, memory, query runs), and fails where "
        "one has become dearer than the baseline says.",
    )
    parser.add_argument(
        "name", nargs="*", help="names or patterns (hit, 'verify_*'); without one, all"
    )
    parser.add_argument(
        "--update", action="store_true", help="write what was counted as the baseline"
    )
    parser.add_argument("--baselines", type=Path, metavar="FOLDER", default=baselines.FOLDER)
    parser.add_argument(
        "--tolerance",
        type=float,
        default=baselines.TOLERANCE,
        metavar="SHARE",
        help="by how much a count may grow (default %(default)s)",
    )
    parser.add_argument("--no-instructions", action="store_true", help="do not run valgrind")
    parser.add_argument(
        "--jobs",
        type=int,
        default=cpu_count() or 1,
        metavar="N",
        help="processes under valgrind at a time (default: one for each processor)",
    )
    parser.add_argument("--list", action="store_true", help="say what there is to count")
    given = parser.parse_args(arguments)
    names = chosen(given.name)
    if not names:
        parser.error(f"nothing is named {' or '.join(given.name)}; --list names all")
    if given.list:
        print(*names, sep="\n")
        return 0

    skipped = "it was asked for" if given.no_instructions else callgrind.why_not()
    counts = asyncio.run(_quick_counts(names))
    if skipped is None:
        counts |= _instructions(
            [WORKLOADS[name] for name in names if name in WORKLOADS], given.jobs
        )
    else:
        print(f"Instructions are not counted: {skipped}.")
    for name, count in sorted(counts.items()):
        print(f"{count:14,.2f}  {name}")

    file = given.baselines / baselines.file_name()
    if given.update:
        baselines.write(file, counts)
        print(f"Written: {file}")
        return 0
    return _compared(counts, file, names, given.tolerance, skipped is None)


def chosen(patterns: list[str]) -> list[str]:
    """The names that match a pattern, and with a workload the yardstick, which may be needed to compare it."""
    found = [
        name
        for name in (*WORKLOADS, *SCENARIOS)
        if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    ]
    yardstick = YARDSTICK.partition(":")[0]
    if yardstick not in found and any(name in WORKLOADS for name in found):
        found.insert(0, yardstick)
    return found


async def _quick_counts(names: list[str]) -> dict[str, float]:
    """What an ordinary process can count."""
    counts: dict[str, float] = {}
    for name in names:
        if name in SCENARIOS:
            counts[f"{name}: runs"] = await executions(name)
        elif WORKLOADS[name].holds:
            for unit, count in (await holdings(WORKLOADS[name])).items():
                counts[f"{name}: {unit} for {_a(WORKLOADS[name].each)}"] = count
    return counts


def _instructions(workloads: list[Workload], jobs: int) -> dict[str, float]:
    shares = [share for i in range(jobs) if (share := workloads[i::jobs])]
    with ThreadPoolExecutor(jobs) as pool:
        counted = {
            name: n for part in pool.map(callgrind.instructions, shares) for name, n in part.items()
        }
    return {
        f"{each.name}: instructions for {_a(each.each)}": counted[each.name] for each in workloads
    }


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _compared(
    counts: dict[str, float], file: Path, names: list[str], tolerance: float, instructions: bool
) -> int:
    found = baselines.read(file)
    if found is None:
        print(f"There is no baseline {file}: write one with --update.")
        return 1
    same = found["toolchain"] == baselines.toolchain()
    units = {"runs", "blocks", "bytes", "tracked"} | ({"instructions"} if instructions else set())
    asked = {k: v for k, v in found["counts"].items() if k.partition(":")[0] in names}
    before = baselines.counted_here(asked, units)
    comparison = baselines.compare(counts, before, same_toolchain=same, tolerance=tolerance)
    if instructions and not same:
        print("The baseline was made with another toolchain: instructions are calibrated.")
    for title, lines in (
        ("Cheaper (write it down with --update)", comparison.improvements),
        ("Not in the baseline (write it down with --update)", comparison.new),
        ("In the baseline, but not counted", comparison.gone),
        ("DEARER", comparison.regressions),
    ):
        if lines:
            print(f"{title}:", *lines, sep="\n  ")
    if comparison.regressions or comparison.gone:
        return 1
    print(f"Nothing of {len(counts)} counts is dearer than in {file}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
