from types import TracebackType
from typing import Self, final

from picante._core.key import Revision
from picante._core.runtime import Runtime

@final
class Batch:
    def __init__(self, runtime: Runtime) -> None: ...
    @property
    def revision(self) -> Revision | None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
