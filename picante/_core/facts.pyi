from collections.abc import Iterable

from picante._core.key import Key, QueryKindId
from picante._core.runtime import Runtime
from picante._core.states import QueryFacts

def query_facts(runtime: Runtime, kind: int, key: object, limit: int = 20) -> QueryFacts | None: ...
def dependents(
    runtime: Runtime, records: Iterable[tuple[int, object, str | int | None]]
) -> list[tuple[QueryKindId, Key, int, bool]]: ...
def contradictions(runtime: Runtime) -> list[str]: ...
