"""What was counted before, in files, and what is dearer now.

There is one file for each minor version of the interpreter and each architecture. Runs are compared exactly; what is
held, within a few percent. Both are the same wherever that version runs. Instructions depend on how the interpreter,
picante and the C library were compiled, so a file says with what (`toolchain`): where that is the same, they are
compared within a few percent; where not, they are first multiplied by what the yardstick (awaiting a trivial
coroutine) costs here and cost there, and may differ by more, since two compilers do not treat all code alike.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "baselines"
YARDSTICK = "coroutine: instructions for an await"
TOLERANCE = 0.03
OTHER_TOOLCHAIN = 0.15
SLACK = 0.02  # of a block or object, where there are hardly any

Counts = Mapping[str, float]


@dataclass
class Comparison:
    """Lines for people."""

    regressions: list[str] = field(default_factory=list)
    improvements: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def compare(
    now: Counts, before: Counts, *, same_toolchain: bool = True, tolerance: float = TOLERANCE
) -> Comparison:
    """What has become dearer, or cheaper, by more than `tolerance`.

    Counts that only one of the two has are new, or gone. A name says after a colon what was counted.
    """
    found = Comparison()
    factor = 1.0
    if not same_toolchain and before.get(YARDSTICK) and YARDSTICK in now:
        factor = now[YARDSTICK] / before[YARDSTICK]
    for name, count in now.items():
        if name not in before:
            found.new.append(f"{name}: {count:,.2f}")
            continue
        expected, allowed, slack, calibrated = before[name], tolerance, SLACK, ""
        if _unit(name) == "runs":
            allowed = slack = 0.0
        elif _unit(name) == "instructions" and not same_toolchain:
            expected *= factor
            allowed = max(OTHER_TOOLCHAIN, tolerance)
            calibrated = ", calibrated: another toolchain"
        text = f"{name}: {count:,.2f}, was {expected:,.2f}{_percent(count, expected)}{calibrated}"
        if count > expected * (1 + allowed) + slack:
            found.regressions.append(text)
        elif count < expected * (1 - allowed) - slack:
            found.improvements.append(text)
    found.gone = [name for name in before if name not in now]
    return found


def _unit(name: str) -> str:
    """What was counted: the first word after the colon."""
    return name.partition(": ")[2].split()[0]


def _percent(count: float, expected: float) -> str:
    return f" ({100 * (count / expected - 1):+.1f}%)" if expected else ""


def counted_here(counts: Counts, units: set[str]) -> dict[str, float]:
    """Those of `counts` whose unit is one of `units`: what could be counted on this machine."""
    return {name: count for name, count in counts.items() if _unit(name) in units}


def file_name() -> str:
    return f"cpython-{sys.version_info[0]}.{sys.version_info[1]}-{platform.machine()}.json"


def read(file: Path) -> dict[str, Any] | None:
    """A file of baselines, or None where there is none."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return None
    found: dict[str, Any] = json.loads(text)
    return found


def write(file: Path, counts: Counts) -> None:
    """Replace `file`; counts that could not be made here, or were not asked for, stay as they are."""
    here = toolchain()
    before = read(file)
    kept: dict[str, float] = {}
    if before is not None:
        same = before["toolchain"] == here
        kept = {k: v for k, v in before["counts"].items() if same or _unit(k) != "instructions"}
    merged = {**kept, **{name: round(count, 2) for name, count in counts.items()}}
    content = {"toolchain": here, "counts": dict(sorted(merged.items()))}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")


def toolchain() -> dict[str, str]:
    """All that instruction counts depend on, beside the code."""
    import Cython

    return {
        "python": " ".join([platform.python_version(), platform.python_compiler()]),
        "flags": " ".join([str(sysconfig.get_config_var(name)) for name in _FLAGS]),
        "libc": " ".join(platform.libc_ver()),
        "compiler": _first_line([*str(sysconfig.get_config_var("CC")).split(), "--version"]),
        "cython": str(vars(Cython)["__version__"]),
        "valgrind": _first_line(["valgrind", "--version"]),
    }


_FLAGS = ("OPT", "PY_CFLAGS_NODIST", "PY_CORE_CFLAGS", "Py_ENABLE_SHARED")


def _first_line(command: list[str]) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "none"
    return ran.stdout.partition("\n")[0]
