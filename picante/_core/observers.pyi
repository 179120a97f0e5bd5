from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Never, Self, final

from picante._core.observe import Event, EventKind
from picante._core.recording import Recording, Subject
from picante._core.runtime import Runtime

__all__ = ["Observer", "current_query", "observe"]

@final
class Observer:
    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def kinds(self) -> frozenset[EventKind]: ...
    def close(self) -> None: ...

def observe(
    runtime: Runtime,
    target: Recording | Callable[[Event], Any],
    *,
    kinds: Iterable[EventKind] | None = None,
) -> Observer: ...
def current_query() -> Subject | None: ...
