"""The pytest plugin: what it adds to a test run, and that a run that does not use it does not pay for it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAD = """
import time
import pytest
import picante

class Page(picante.Input):
    name: picante.KeyField[str]
    text: picante.Field[str]

@picante.tracked
async def words(db: picante.Database, page: Page) -> list[str]:
    return page.text(db).split()

@picante.tracked
async def stamp(db: picante.Database) -> float:
    return time.time()

@pytest.fixture
def db():
    return picante.Database()

def wait(awaitable):
    with pytest.raises(StopIteration) as stop:
        awaitable.send(None)
    return stop.value.value
"""


class Runner:
    """Runs a file of tests in this process, with the plugin whether or not picante is installed."""

    def __init__(self, pytester: pytest.Pytester, installed: bool) -> None:
        self.pytester = pytester
        self.options = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
        self.options += ["-W", "default", "-W", "ignore::pytest.PytestDeprecationWarning"]
        self.options += [] if installed else ["-p", "_picante_pytestplugin"]

    def __call__(self, body: str, *options: str, head: str = HEAD) -> pytest.RunResult:
        self.pytester.makepyfile(head + body)
        return self.pytester.runpytest_inprocess(*self.options, *options)


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> Runner:
    return Runner(pytester, request.config.pluginmanager.has_plugin("picante"))


def test_help_and_markers_name_what_there_is(run: Runner) -> None:
    told = run("", "--help").stdout.str()
    for name in ("--picante-untracked", "--picante-seed", "picante_untracked_allow"):
        assert name in told
    run("", "--markers").stdout.fnmatch_lines(["@pytest.mark.picante_untracked(*"])
    run("", "--fixtures").stdout.fnmatch_lines(["picante_runs*", "picante_unmutated*"])


def test_fixtures_record_runs_and_find_mutations(run: Runner) -> None:
    result = run("""
def test_runs(db, picante_runs):
    page = Page(db, "a", "x")
    runs = picante_runs(db)
    wait(words(db, page))
    with picante_runs(db) as again:
        wait(words(db, page))
    assert runs.ran == {'words(Page("a"))': 1}
    assert again.reused == {'words(Page("a"))': 1}

def test_mutated(db, picante_unmutated):
    page = Page(db, "a", "x")
    picante_unmutated(db)
    wait(words(db, page)).append("y")

def test_mutated_and_failing(db, picante_unmutated):
    page = Page(db, "a", "x")
    picante_unmutated(db)
    wait(words(db, page)).append("y")
    assert page is None

def test_not_mutated(db, picante_unmutated):
    page = Page(db, "a", "x")
    assert picante_unmutated(db).found == []
    wait(words(db, page))
""")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*MutationError: Values were changed*", "*assert *is None"])


def test_a_failed_expectation_is_shown_where_the_block_stands(run: Runner) -> None:
    result = run(
        """
from picante.testing import assert_ran

def test_it(db):
    page = Page(db, "a", "x")
    with assert_ran(db, {words: 2}):
        wait(words(db, page))
""",
        "--tb=short",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*.py:*: in test_it", "*with assert_ran(db, {words: 2}):"])
    assert "runs.py" not in result.stdout.str()


MARKED = """
@pytest.mark.picante_untracked
def test_marked(db):
    wait(stamp(db))

@pytest.mark.picante_untracked(allow=["clock"])
def test_allowed(db):
    wait(stamp(db))

@pytest.mark.picante_untracked("warn")
def test_warned(db):
    wait(stamp(db))

@pytest.mark.picante_untracked(action="off")
def test_off(db):
    wait(stamp(db))

def test_usual(db):
    wait(stamp(db))
"""


def test_the_mark_the_ini_option_and_the_command_line_decide_what_untracked_reads_do(
    run: Runner, pytester: pytest.Pytester
) -> None:
    run(MARKED).assert_outcomes(passed=4, failed=1, warnings=1)
    run(MARKED, "--picante-untracked=error").assert_outcomes(passed=3, failed=2, warnings=1)
    pytester.makeini("[pytest]\npicante_untracked = warn\npicante_untracked_allow =\n    open(*\n")
    result = run(MARKED)
    result.assert_outcomes(passed=4, failed=1, warnings=2)
    result.stdout.fnmatch_lines(["*UntrackedReadError: *", "*stamp() reads time.time at *.py:15"])
    pytester.makeini("[pytest]\npicante_untracked_allow = clock\n")
    run(MARKED).assert_outcomes(passed=5)


@pytest.mark.parametrize("where", ["ini", "mark"])
def test_an_unknown_action_is_an_error(run: Runner, pytester: pytest.Pytester, where: str) -> None:
    if where == "ini":
        pytester.makeini("[pytest]\npicante_untracked = yes\n")
    result = run("@pytest.mark.picante_untracked('yes')\ndef test_it(): pass")
    assert result.ret
    assert "must be one of off, warn, error" in result.stdout.str() + result.stderr.str()


def test_a_misspelt_category_is_an_error_of_the_test_that_names_it(run: Runner) -> None:
    result = run("@pytest.mark.picante_untracked(allow=['file'])\ndef test_it(): pass")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*picante_untracked at *::test_it: *Did you mean 'files'?"])


def test_the_seed_of_the_command_line_is_used(run: Runner) -> None:
    result = run(
        """
import random
from picante.testing import check_consistency

@picante.tracked
async def noise(db: picante.Database) -> float:
    Page.all(db)
    return random.random()

def test_it():
    check_consistency(picante.Database, [lambda db, rng: Page(db, "a", "x")], [noise])
""",
        "--picante-seed=12345",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Try the same again with seed=12345."])


def test_it_works_with_pytest_asyncio(run: Runner) -> None:
    pytest.importorskip("pytest_asyncio")
    result = run(
        """
import asyncio

@pytest.mark.asyncio
@pytest.mark.picante_untracked
async def test_it(db, picante_runs):
    runs = picante_runs(db)
    await asyncio.create_task(stamp(db))
    assert runs.ran == {"stamp()": 1}
""",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*stamp() reads time.time*"])


def test_the_snippets_of_the_page_about_testing_pass(run: Runner) -> None:
    pytest.importorskip("pytest_asyncio")
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    result = run("\n".join(blocks), "-o", "asyncio_mode=auto", head="")
    result.assert_outcomes(passed="\n".join(blocks).count("def test_"))


def test_a_run_that_does_not_use_it_does_not_import_picante(pytester: pytest.Pytester) -> None:
    """In a process of its own: here picante is loaded. Loading the plugin alone imports nothing but pytest."""
    pytester.makepyfile("""
        import sys

        def test_it():
            assert not [name for name in sys.modules if name.split(".")[0] == "picante"]
    """)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "_picante_pytestplugin"]
    command += ["-p", "no:cacheprovider"]
    ran = subprocess.run(
        command,
        cwd=pytester.path,
        env={"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
