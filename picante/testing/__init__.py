"""Testing queries: what ran and why, are results right, does anything happen behind picante's back?

`docs/testing.md` shows it all with examples. Nothing here needs pytest: what fails raises an `AssertionError`. With
pytest, a plugin that is installed with picante adds fixtures (`picante_runs`, `picante_unmutated`), the mark
`picante_untracked`, and options: `pytest --help` and `pytest --markers` list them.
"""

from picante.testing.consistency import InconsistentError, check_consistency, check_edits
from picante.testing.expected import assert_ran, assert_reused
from picante.testing.mutations import Mutation, MutationError, Mutations, assert_unmutated
from picante.testing.outside import Outside, OutsideRead, UntrackedReadError, assert_tracked
from picante.testing.runs import QueryRuns, Runs, record_runs

__all__ = [
    "InconsistentError",
    "Mutation",
    "MutationError",
    "Mutations",
    "Outside",
    "OutsideRead",
    "QueryRuns",
    "Runs",
    "UntrackedReadError",
    "assert_ran",
    "assert_reused",
    "assert_tracked",
    "assert_unmutated",
    "check_consistency",
    "check_edits",
    "record_runs",
]
