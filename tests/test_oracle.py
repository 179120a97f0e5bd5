"""Thousands of random programs: see `oracle`. A failure prints the seed and a program that was made small."""

import contextvars
import re
import sys
from typing import Any

import pytest

from tests.oracle import Read, Runner, Setting, Taste, WrongError, check

USUAL = Setting()
EXACT = Setting(exact=True)
EAGER = Setting(eager=True)

KINDS = {
    "small": (Taste(queries=4, inputs=2, actions=12), USUAL),
    "usual": (Taste(), USUAL),
    "large": (Taste(queries=9, inputs=5, actions=50), USUAL),
    "busy": (Taste(pauses=0.8, writes=0.5, inputs=2, queries=4), USUAL),
    "failing": (Taste(failures=0.5, inputs=2, queries=4), USUAL),
    "giving up": (Taste(abandon=0.3, pauses=0.6, queries=5, inputs=2, bumps=6), USUAL),
    "transient": (Taste(transient=True), USUAL),
    "transient and busy": (Taste(transient=True, pauses=0.7, queries=4, inputs=2, bumps=20), USUAL),
    "sequential": (Taste(overlap=False, actions=16), EXACT),
    "sequential and failing": (Taste(overlap=False, failures=0.4, inputs=3), EXACT),
    "snapshots": (Taste(snapshots=0.5), USUAL),
    "snapshots and busy": (
        Taste(snapshots=0.5, pauses=0.8, writes=0.5, inputs=2, queries=4),
        USUAL,
    ),
    "snapshots and failing": (Taste(snapshots=0.4, failures=0.5, inputs=2, queries=4), USUAL),
    "snapshots and transient": (
        Taste(snapshots=0.4, transient=True, pauses=0.7, inputs=2, queries=4),
        USUAL,
    ),
    "snapshots and giving up": (
        Taste(snapshots=0.4, abandon=0.3, pauses=0.6, queries=5, inputs=2, bumps=6),
        USUAL,
    ),
    "eager": (Taste(), EAGER),
    "eager and giving up": (Taste(abandon=0.3, pauses=0.6, queries=5, inputs=2), EAGER),
}
if sys.version_info < (3, 12):
    KINDS = {name: kind for name, kind in KINDS.items() if not kind[1].eager}


# r[derived.memoization], r[cell.revalidate], r[dep.invalidation], r[revision.early-cutoff]
@pytest.mark.parametrize("name", KINDS)
def test_random_programs_agree_with_an_evaluation_from_scratch(name: str) -> None:
    check(range(300), *KINDS[name])


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("name", KINDS)
def test_many_random_programs_agree_with_an_evaluation_from_scratch(name: str, block: int) -> None:
    check(range(1000 * (block + 1), 1000 * (block + 2)), *KINDS[name])


# -- would it notice?


class Unrecorded(Runner):
    """Reads of presence bypass the frame: they see the present, and are no dependencies."""

    def fact(self, db: Any, read: Read) -> Any:
        if read[0] == "has":
            return contextvars.Context().run(super().fact, db, read)
        return super().fact(db, read)


class Forgetful(Runner):
    """With some revisions all memos end, for no reason."""

    def act(self, action: Any) -> None:
        super().act(action)
        if action[0] == "bump":
            self.db.runtime.clear_dependency_graph()

    def check_cells(self) -> None:
        """They would show that nothing is known any more of what was read."""


class Retaining(Runner):
    """Every value is kept by somebody."""

    def value(self, n: int) -> Any:
        value = super().value(n)
        self.__dict__.setdefault("all", []).append(value)
        return value


@pytest.mark.parametrize(
    ("runner", "complaint"),
    [
        (Unrecorded, r"query \d+ at \d+ is .*, not |the dependencies"),
        (Forgetful, r"had no reason to run"),
        (Retaining, r"values are kept"),
    ],
)
def test_what_is_wrong_is_noticed_and_shown_by_a_small_program(
    runner: type[Runner], complaint: str
) -> None:
    with pytest.raises(WrongError) as caught:
        check(range(200), Taste(), Setting(runner))
    shown = str(caught.value)
    first, shrunk, *program = shown.splitlines()
    assert re.match(r"seed \d+ of Taste\(", first)
    assert re.search(complaint, shrunk)
    assert program[0].startswith("Program(")
    assert len(program) < 25
