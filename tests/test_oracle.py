"""Thousands of random programs: see `oracle`. A failure prints the seed and a program that was made small."""

import pytest

from tests.oracle import Taste, check

SMALL = Taste(queries=4, inputs=2, actions=12)
LARGE = Taste(queries=9, inputs=5, actions=50)
TRANSIENT = Taste(transient=True)
SEQUENTIAL = Taste(overlap=False, actions=16)

KINDS = {
    "small": (SMALL, False),
    "usual": (Taste(), False),
    "large": (LARGE, False),
    "busy": (Taste(pauses=0.8, writes=0.5, inputs=2, queries=4), False),
    "failing": (Taste(failures=0.5, inputs=2, queries=4), False),
    "transient": (TRANSIENT, False),
    "sequential": (SEQUENTIAL, True),
    "sequential and failing": (Taste(overlap=False, failures=0.4, inputs=3), True),
}


# r[derived.memoization], r[cell.revalidate], r[dep.invalidation], r[revision.early-cutoff]
@pytest.mark.parametrize("name", KINDS)
def test_random_programs_agree_with_an_evaluation_from_scratch(name: str) -> None:
    taste, exact = KINDS[name]
    check(range(600), taste, exact)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("name", KINDS)
def test_many_random_programs_agree_with_an_evaluation_from_scratch(name: str, block: int) -> None:
    taste, exact = KINDS[name]
    check(range(1000 * (block + 1), 1000 * (block + 2)), taste, exact)
