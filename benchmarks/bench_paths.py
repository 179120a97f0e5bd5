"""All scenarios for pytest-benchmark: `pytest benchmarks`, one test for each contestant, one group for each scenario.

The times are those of one operation, as in `python -m benchmarks`: a clock that goes forward only by what a sample
says. Here contestants run one after the other; for ratios, let them take turns there.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from .catalogue import CATALOGUE, RECURSION
from .harness import Contestant, Scenario, built

pytest.importorskip("pytest_benchmark")

SECONDS = {"ns": 1e-9, "ms": 1e-3}


class Clock:
    """A timer that shows the sum of the samples."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """The event loop of all scenarios."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(RECURSION)
    with asyncio.Runner() as runner:
        yield runner
    sys.setrecursionlimit(limit)
    _contestants.cache_clear()


@functools.lru_cache(maxsize=1)
def _contestants(runner: asyncio.Runner, scenario: Scenario) -> Mapping[str, Contestant]:
    """The contestants of a scenario: built for the first of them, gone with the next scenario."""
    contestants = runner.run(built(scenario))
    gc.collect()
    return contestants


def _test_of(scenario: Scenario) -> Any:
    """The test functions of `scenario`, with its name and docstring."""
    clock = Clock()

    @pytest.mark.benchmark(group=scenario.name, timer=clock, disable_gc=False)
    @pytest.mark.parametrize("contestant", scenario.contestants)
    def test(benchmark: Any, runner: asyncio.Runner, contestant: str) -> None:
        contestants = _contestants(runner, scenario)
        if contestant not in contestants:
            pytest.skip(f"{contestant} is not installed")
        sample = contestants[contestant].sample

        def operation() -> None:
            clock.now += runner.run(sample()) * SECONDS[scenario.unit]

        gc.freeze()
        try:
            benchmark.pedantic(operation, rounds=scenario.rounds, warmup_rounds=1)
        finally:
            gc.unfreeze()

    test.__name__ = f"test_{scenario.name}"
    test.__doc__ = scenario.doc
    return pytest.mark.slow(test) if scenario.large else test


for _each in CATALOGUE.values():
    if _each.unit in SECONDS:
        globals()[f"test_{_each.name}"] = _test_of(_each)
