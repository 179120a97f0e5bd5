"""All scenarios, in the order in which they are shown."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from . import changes, footprint, hits, misses, observed, survival
from .harness import SCENARIOS, race

_MODULES = [module.__name__ for module in (hits, misses, changes, survival, observed, footprint)]

CATALOGUE = {
    name: each
    for module in _MODULES
    for name, each in SCENARIOS.items()
    if each.build.__module__ == module
}


def measure(name: str, rounds: int) -> dict[str, list[float]]:
    """The samples of one scenario, from a process of its own.

    In a heap that other scenarios have left behind, nodes lie far from each other, and verifying a chain
    took twice as long.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_measure, name, rounds).result()


def _measure(name: str, rounds: int) -> dict[str, list[float]]:
    return asyncio.run(race(CATALOGUE[name], rounds))
