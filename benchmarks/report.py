"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from .harness import Figure, Scenario, ratio
from .peers import PEERS

COLUMNS = "{:<28}{:<17}{:>12} {:>12}  {:<19}{:>12} {:>12}{:>9}  {}"
HEADINGS = ("scenario", "ours", "median", "min", "peer", "median", "min", "ratio", "to reach")


def headings() -> str:
    return COLUMNS.format(*HEADINGS)


def rows(scenario: Scenario, samples: Mapping[str, list[float]]) -> list[str]:
    """A line for each figure of `scenario`."""
    lines = []
    for figure in scenario.figures:
        found = ratio(figure, samples)
        if found is None:
            lines.append(
                f"{scenario.name:<28}not measured: {figure.peer} is not installed, or cannot do it"
            )
            continue
        ours, peer = samples[figure.ours], samples[figure.peer]
        lines.append(
            COLUMNS.format(
                scenario.name,
                figure.ours,
                *_both(ours),
                "" if figure.absolute else figure.peer,
                *(("", "") if figure.absolute else _both(peer)),
                "" if figure.absolute else f"{found:.3f}",
                f"{_verdict(figure, found)} {scenario.unit if scenario.unit != 'ns' else ''}",
            ).rstrip()
        )
    return lines


def _both(values: list[float]) -> tuple[str, str]:
    return _shown(median(values)), _shown(min(values))


def _shown(value: float) -> str:
    return f"{value:,.1f}" if value < 100_000 else f"{value:,.0f}"


def _verdict(figure: Figure, found: float) -> str:
    if figure.at_most is None:
        return ""
    return f"<= {figure.at_most:<5g} {'met' if found <= figure.at_most else 'MISSED'}"


def as_json(scenario: Scenario, samples: Mapping[str, list[float]]) -> dict[str, Any]:
    """What is known of one scenario. Absolute figures stand under `ratio`, too."""
    figures = []
    for figure in scenario.figures:
        found = ratio(figure, samples)
        figures.append(
            {
                "ours": figure.ours,
                "peer": None if figure.absolute else figure.peer,
                "ratio": found,
                "at_most": figure.at_most,
                "met": None if None in (found, figure.at_most) else found <= figure.at_most,  # type: ignore[operator]  # neither is None
            }
        )
    return {
        "title": scenario.title,
        "unit": scenario.unit,
        "rounds": max(map(len, samples.values()), default=0),
        "contestants": {
            name: {"median": median(values), "min": min(values)} for name, values in samples.items()
        },
        "figures": figures,
    }


def machine() -> dict[str, Any]:
    """Where and with what this was measured."""
    return {
        "python": sys.version.split()[0],
        "platform": " ".join((platform.system(), platform.machine(), *platform.libc_ver())),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {
            "picante": _version("picante") or "of this folder",
            **{name: _version(name) for name in PEERS},
        },
    }


def absent(about: Mapping[str, Any]) -> list[str]:
    """The libraries that do not take part."""
    return [name for name in PEERS if about["versions"][name] is None]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
