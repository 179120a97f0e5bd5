"""Scenarios, and how they are measured.

A contestant is sampled in *bursts*: one coroutine that performs many operations in a plain loop, so that neither the
clock nor the event loop is asked once for each operation. The same loop without the operation (the baseline) is
timed right before it, and the median of these times is taken off. What a burst uses up (memos that must be
absent, or marked) is restored by `prepare`, which is not timed.

The clock is the processor time of this thread: what other programs take from it does not count, what they do to its
caches still does. So all contestants of a scenario take turns in every round, a ratio is the median of the ratios of
the rounds, and a figure says nothing about a single run. A scenario in which somebody is very slow has fewer rounds:
it ends with the first one after `SECONDS`. The garbage collector is on, as it is for users; what
was built before the first round is frozen, so that one scenario does not pay for the objects of another.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from types import FunctionType
from typing import Any, Protocol, TypeVar

SECONDS = 6.0  # after so long a scenario has had its last round,
FEWEST = 3  # but these it has

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., object])
Burst = Callable[[], Coroutine[Any, Any, object]]


class Contestant(Protocol):
    """Whatever can be asked for one figure, in the unit of its scenario."""

    async def sample(self) -> float: ...


async def _nothing() -> None:
    """What the clock costs."""


@dataclass(frozen=True)
class Timed:
    """The nanoseconds of one operation, from a burst of `size` of them."""

    burst: Burst
    size: int
    baseline: Burst = _nothing  # what to take off: the clock, the loop, what is not of interest
    prepare: Callable[[], Awaitable[object] | None] | None = None  # before each burst, untimed
    clock: Callable[[], int] = time.thread_time_ns  # another one where work goes to other threads
    repeat: int = 1  # so often in one sample: short bursts would meet nothing but cold caches
    baselines: list[int] = field(default_factory=list, init=False, repr=False)

    async def sample(self) -> float:
        spent = 0
        for _ in range(self.repeat):
            if self.prepare is not None:
                prepared = self.prepare()
                if prepared is not None:
                    await prepared
            self.baselines.append(await self._spent(self.baseline))
            spent += await self._spent(self.burst)
        return (spent / self.repeat - median(self.baselines)) / self.size

    async def _spent(self, burst: Burst) -> int:
        began = self.clock()
        await burst()
        return self.clock() - began


@dataclass(frozen=True)
class Reading:
    """A figure that some function finds out, such as a number of bytes."""

    read: Callable[[], float]

    async def sample(self) -> float:
        return self.read()


@dataclass(frozen=True)
class Figure:
    """A ratio to look at: `ours` to `peer`, and what it should be at most (None: good to know).

    With `absolute` it is not a ratio but what `ours` measured.
    """

    ours: str
    peer: str
    at_most: float | None = None
    absolute: bool = False


@dataclass(frozen=True)
class Scenario:
    """One workload, and who performs it."""

    name: str
    build: Callable[[], Coroutine[Any, Any, Mapping[str, Contestant]]]
    contestants: tuple[str, ...]
    figures: tuple[Figure, ...]
    rounds: int
    unit: str
    large: bool  # takes gigabytes and minutes: only where it is asked for

    @property
    def doc(self) -> str:
        return self.build.__doc__ or ""

    @property
    def title(self) -> str:
        return self.doc.partition("\n")[0].rstrip(".")


SCENARIOS: dict[str, Scenario] = {}

Build = Callable[[], Coroutine[Any, Any, Mapping[str, Contestant]]]


def scenario(
    *contestants: str,
    figures: Iterable[Figure] = (),
    rounds: int = 100,
    unit: str = "ns",
    large: bool = False,
) -> Callable[[Build], Build]:
    """Make a scenario of a coroutine function that builds its contestants, named like that function.

    What it builds may lack a contestant whose library is not installed.
    """

    def add(build: Build) -> Build:
        name = build.__name__
        SCENARIOS[name] = Scenario(name, build, contestants, tuple(figures), rounds, unit, large)
        return build

    return add


async def race(each: Scenario, rounds: int) -> dict[str, list[float]]:
    """The samples of all contestants: they take turns, and who begins changes from round to round.

    All have as many samples, `rounds` or fewer.
    """
    contestants = await built(each)
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    gc.collect()
    gc.freeze()
    try:
        for name in order if rounds > 1 else ():  # the interpreter adapts to what it runs
            await contestants[name].sample()
        began = time.perf_counter()
        for done in range(rounds):
            if done >= FEWEST and time.perf_counter() - began > SECONDS:
                break
            for name in order:
                samples[name].append(await contestants[name].sample())
            order.append(order.pop(0))
    finally:
        gc.unfreeze()
    return samples


async def built(each: Scenario) -> Mapping[str, Contestant]:
    """The contestants of a scenario that can take part, in their order."""
    found = await each.build()
    unknown = set(found) - set(each.contestants)
    assert not unknown, f"{each.name} does not name its contestants {unknown}"
    return {name: found[name] for name in each.contestants if name in found}


def ratio(figure: Figure, samples: Mapping[str, list[float]]) -> float | None:
    """What was measured for `figure`; None where one of the two did not take part."""
    if figure.ours not in samples or figure.peer not in samples:
        return None
    if figure.absolute:
        return median(samples[figure.ours])
    pairs = zip(samples[figure.ours], samples[figure.peer], strict=True)
    return median(ours / peer for ours, peer in pairs if peer)


# -- bursts


def own(burst: AnyFunction) -> AnyFunction:
    """`burst` with instructions of its own.

    The interpreter adapts the instructions of a loop to what they meet. Two contestants that share
    them would spoil it for each other.
    """
    assert isinstance(burst, FunctionType)
    burst.__code__ = burst.__code__.replace()
    return burst


def empty(keys: Iterable[Any]) -> Burst:
    """The bare loop."""

    async def burst() -> None:
        for _ in keys:
            pass

    return own(burst)


def awaits(
    function: Callable[[Any, Any], Awaitable[object]], db: Any, keys: Iterable[Any]
) -> Burst:
    """`await function(db, key)` for each of `keys`."""

    async def burst() -> None:
        for key in keys:
            await function(db, key)

    return own(burst)


def awaits_key(function: Callable[[Any], Awaitable[object]], keys: Iterable[Any]) -> Burst:
    """`await function(key)` for each of `keys`: for caches to which the database would be a part of the key."""

    async def burst() -> None:
        for key in keys:
            await function(key)

    return own(burst)


def calls(function: Callable[[Any, Any], object], db: Any, keys: Iterable[Any]) -> Burst:
    """`function(db, key)` for each of `keys`."""

    async def burst() -> None:
        for key in keys:
            function(db, key)

    return own(burst)


def calls_key(function: Callable[[Any], object], keys: Iterable[Any]) -> Burst:
    """`function(key)` for each of `keys`."""

    async def burst() -> None:
        for key in keys:
            function(key)

    return own(burst)
