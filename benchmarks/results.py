"""What was measured, kept: one JSON file for each version of Python, from which the report is made.

A run adds to the file of its interpreter what it has measured and leaves there what it has not, so that runs of several
interpreters, and of scenarios that take long, make one report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .catalogue import CATALOGUE

FOLDER = Path(__file__).parent / "results"
RUST = "rust.json"

Results = dict[str, Any]


def record(measured: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Merge one run (`report.machine` and its `scenarios`) into the file of its version."""
    version = ".".join(measured["python"].split(".")[:2])
    path = folder / f"cpython-{version}.json"
    before = json.loads(path.read_text()) if path.exists() else {"scenarios": {}}
    both = {**before["scenarios"], **measured["scenarios"]}
    scenarios = {name: _rounded(both[name]) for name in CATALOGUE if name in both}
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, {**measured, "scenarios": scenarios})
    return path


def record_rust(measured: Mapping[str, Any], folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / RUST, _rounded(measured))


def recorded(folder: Path = FOLDER) -> dict[str, Results]:
    """What is there, by version ("3.11"), the oldest first."""
    found = {}
    for path in folder.glob("cpython-*.json"):
        version = path.stem.removeprefix("cpython-")
        found[version] = json.loads(path.read_text())
    return dict(sorted(found.items(), key=lambda each: [int(n) for n in each[0].split(".")]))


def recorded_rust(folder: Path = FOLDER) -> Results | None:
    path = folder / RUST
    return json.loads(path.read_text()) if path.exists() else None


def _write(path: Path, what: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(what, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rounded(what: Any) -> Any:
    """With four digits of every number: more would only say how restless the machine was."""
    if isinstance(what, Mapping):
        return {key: _rounded(value) for key, value in what.items()}
    if isinstance(what, list):
        return [_rounded(value) for value in what]
    return float(f"{what:.4g}") if isinstance(what, float) else what
