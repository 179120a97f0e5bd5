"""The same shapes with the Rust crates picante and salsa: `python -m benchmarks.rust`.

Builds the Cargo project `benchmarks/peers/rust` (the first time takes minutes), runs it, and prints JSON:

    {"machine": {...}, "versions": {"rustc": ..., "picante": ..., "salsa": ..., "tokio": ...},
     "shapes": {"hit": {"picante": {"median_ns": ..., "min_ns": ..., "operations": ..., "rounds": ...},
                        "salsa": {...}}}}

Times are nanoseconds of processor time for one operation. A library that has no such thing lacks the shape. Where
`cargo` is missing, or cannot get the crates, nothing is measured, and one line says why.

=========================  ======================================================================  ===========
shape                      what                                                                    operation
=========================  ======================================================================  ===========
`hit`                      one value that is there                                                  a get
`miss`                     500 values for the first time, by a query that reads nothing            a get
`recompute`                500 values, each made from an input of its own, all of which were set   a get
`input_get`                an input, read outside of queries                                       a get
`set_0`                    an input that nothing was made from                                     a set
`set_1000`                 an input that 1,000 values were made from                               a set
`trees_hot`                256 roots, each 2 branches, 4 leaves, 4 reads of an input: all there    a root
`trees_cold`               the same for the first time                                             a root
`trees_deep_verify`        the same after something unrelated has changed                          a root
`trees_verify_then_execute` the same after all inputs have changed                                 a root
`chain_500`                500 values, each made from the one before, after the first has changed  a value
`chain_500_cutoff`         the same, where the first is computed and comes out equal               a value
`list_sum`                 a binary tree of sums over 1,024 inputs, of which one is set            set and get
`snapshot`                 taking and dropping a snapshot of 1,000 inputs and 1,000 values         a snapshot
`create_inputs`            inputs that are new                                                     an input
`intern`                   256 distinct values                                                     a value
`field_access`             256 records, each read for the first time by a query of its own         a query
=========================  ======================================================================  ===========

Keys and values are 64-bit integers, but for the key of `hit`, a string; in salsa, keys are input records.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent / "peers" / "rust"
TARGET = Path(__file__).parent.parent / "build" / "rust"
LIBRARIES = ("picante", "salsa", "tokio")


def measure(rounds: int | None = None) -> dict[str, Any] | None:
    """Build, run, and read what was measured; None, and a line on standard error, where that is not possible."""
    cargo = shutil.which("cargo")
    if cargo is None:
        skipped("cargo is not installed")
        return None
    command = [cargo, "build", "--release", "--target-dir", str(TARGET)]
    built = _run(command)
    if built.returncode:
        skipped(f"cargo could not build it: {_reason(built.stderr)}")
        return None
    program = TARGET / "release" / f"picante-peers{'.exe' if os.name == 'nt' else ''}"
    ran = _run([str(program), *([] if rounds is None else [str(rounds)])])
    if ran.returncode:
        skipped(f"the program failed: {_reason(ran.stderr)}")
        return None
    return {
        "machine": {"system": platform.system(), "architecture": platform.machine()},
        "versions": {"rustc": _rustc(), **pinned()},
        **json.loads(ran.stdout),
    }


def pinned() -> dict[str, str]:
    """The versions of the libraries, which the manifest fixes."""
    dependencies = tomllib.loads((PROJECT / "Cargo.toml").read_text())["dependencies"]
    found = {}
    for name in LIBRARIES:
        given = dependencies[name]
        version: str = given if isinstance(given, str) else given["version"]
        found[name] = version.removeprefix("=")
    return found


def _rustc() -> str | None:
    try:
        words = _run(["rustc", "--version"]).stdout.split()
    except OSError:
        return None
    return words[1] if len(words) > 1 else None


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def _reason(errors: str) -> str:
    """The first line that says `error`, else the last one."""
    lines = errors.strip().splitlines() or ["it said nothing"]
    return next((line for line in lines if line.startswith("error")), lines[-1])


def skipped(why: str) -> None:
    print(f"Rust peers are not measured: {why}.", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured, or write it to a file. Nothing to measure with is no error."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rust",
        description="Runs shapes of the benchmarks with the Rust crates picante and salsa; prints JSON.",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each shape (default 50)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write to FILE, not to the terminal"
    )
    given = parser.parse_args(arguments)
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds must be at least 1")
    measured = measure(given.rounds)
    if measured is not None:
        text = json.dumps(measured, indent=2) + "\n"
        if given.json is None:
            print(text, end="")
        else:
            given.json.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
