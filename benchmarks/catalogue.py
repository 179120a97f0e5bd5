"""All scenarios, in the order in which they are shown."""

import asyncio
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor

from . import (
    changes,
    classics,
    decorated,
    footprint,
    hits,
    misses,
    observed,
    scale,
    survival,
    together,
)
from .harness import SCENARIOS, race

_ORDER = (
    hits,
    decorated,
    misses,
    together,
    changes,
    classics,
    scale,
    survival,
    observed,
    footprint,
)
_MODULES = [module.__name__ for module in _ORDER]

CATALOGUE = {
    name: each
    for module in _MODULES
    for name, each in SCENARIOS.items()
    if each.build.__module__ == module
}


RECURSION = 50_000  # most peers follow a chain by recursion


def measure(name: str, rounds: int) -> dict[str, list[float]]:
    """The samples of one scenario, from a process of its own.

    In a heap that other scenarios have left behind, nodes lie far from each other, and verifying a chain
    took twice as long.
    """
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="picante-bench-") as folder,
        ProcessPoolExecutor(1, mp_context=spawn) as pool,
    ):
        return pool.submit(_measure, name, rounds, folder).result()


def _measure(name: str, rounds: int, folder: str) -> dict[str, list[float]]:
    sys.setrecursionlimit(RECURSION)
    tempfile.tempdir = folder  # what a scenario leaves there goes with it
    return asyncio.run(race(CATALOGUE[name], rounds))
