from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

from picante._core.key import Dep, Revision
from picante._core.states import InFlightKey, InFlightState

@final
class InFlightEntry:
    @property
    def key(self) -> InFlightKey: ...
    @property
    def state(self) -> InFlightState: ...
    @property
    def value(self) -> Any: ...
    @property
    def deps(self) -> tuple[Dep, ...] | None: ...
    @property
    def changed_at(self) -> Revision | None: ...
    @property
    def error(self) -> Exception | None: ...
    async def wait(self) -> InFlightState: ...

@final
class InFlightGuard:
    @property
    def entry(self) -> InFlightEntry: ...
    def complete(self, value: Any, deps: Iterable[Dep], changed_at: int) -> None: ...
    def fail(self, error: Exception) -> None: ...
    def cancel(self) -> None: ...

@dataclass(frozen=True)
class Leader:
    guard: InFlightGuard

@dataclass(frozen=True)
class Follower:
    entry: InFlightEntry

@final
class InFlightRegistry:
    def __len__(self) -> int: ...
    def try_lead(self, key: InFlightKey) -> Leader | Follower: ...

registry: InFlightRegistry
