"""The command line: `python -m benchmarks [SCENARIO ...]`, which is what `make bench` runs."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import markdown, results
from .catalogue import CATALOGUE, measure
from .harness import Scenario
from .report import absent, as_json, headings, machine, rows

QUICK = 7  # rounds


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write: 0, or 1 if a scenario failed.

    A figure that was missed is no error: one noisy run proves nothing.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures picante beside its peers. All contestants of a scenario take turns, so ratios "
        "hold where the machine is noisy; a ratio is the median of those of the rounds.",
    )
    parser.add_argument(
        "scenario", nargs="*", help="names or patterns (hit, 'verify_*'); without one, all"
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, for a first look")
    parser.add_argument(
        "--large", action="store_true", help="also 1,000,000 values (gigabytes, minutes)"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="at most so many rounds")
    parser.add_argument(
        "--record",
        action="store_true",
        help="write what was measured to RESULTS.md, also with the arguments above, with which that is left "
        "alone; what was not measured stays there as it is",
    )
    parser.add_argument(
        "--report", action="store_true", help="measure nothing; make RESULTS.md of what is recorded"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured to FILE")
    parser.add_argument("--list", action="store_true", help="say what there is to measure")
    given = parser.parse_args(arguments)
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds must be at least 1")
    if given.report:
        markdown.write()
        return 0
    chosen = chosen_scenarios(given.scenario, given.large)
    if not chosen:
        parser.error(f"no scenario is named {' or '.join(given.scenario)}; --list names all")
    if given.list:
        for each in chosen:
            print(f"{each.name:<26}{each.title}")
        return 0

    about = machine()
    print(f"CPython {about['python']}, {about['cpus']} x {about['cpu']}, load {about['load']:.1f}")
    for name in absent(about):
        print(f"{name} is not installed and takes no part")
    print("ns for one operation where no other unit is named; garbage collector on")
    print(headings())
    measured = {}
    failed = []
    for each in chosen:
        rounds = min(each.rounds, given.rounds or (QUICK if given.quick else each.rounds))
        began = time.perf_counter()
        try:
            samples = measure(each.name, rounds)
        except Exception as error:  # of a peer, maybe: the others go on
            failed.append(each.name)
            print(f"{each.name:<28}failed: {type(error).__name__}: {error}", flush=True)
            continue
        seconds = time.perf_counter() - began
        print(*rows(each, samples), sep="\n", flush=True)
        measured[each.name] = {**as_json(each, samples), "seconds": seconds}
    whole = {**about, "scenarios": measured}
    if given.json is not None:
        given.json.write_text(json.dumps(whole, indent=2) + "\n")
    if given.record or not (given.scenario or given.quick or given.rounds or given.large):
        _record(whole, with_rust=not given.scenario)
    return 1 if failed else 0


def _record(measured: dict[str, Any], with_rust: bool) -> None:
    results.record(measured)
    if with_rust:
        _record_rust()
    markdown.write()
    print(f"\nwritten: {markdown.REPORT}")


def _record_rust() -> None:
    """What the original and salsa take, where their program can be built; else what is recorded stays."""
    try:
        from . import rust
    except ImportError:
        return
    shapes = rust.measure()
    if shapes is not None:
        results.record_rust(shapes)


def chosen_scenarios(patterns: Sequence[str], large: bool) -> list[Scenario]:
    """Those that match a pattern; large ones only where they are asked for."""
    return [
        each
        for name, each in CATALOGUE.items()
        if (large or not each.large or name in patterns)
        and (not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns))
    ]


if __name__ == "__main__":
    if sys.flags.hash_randomization and "PYTHONHASHSEED" not in os.environ:
        # The same collisions in every run, and in every process that is started from here.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]])
    sys.exit(main())
