"""The examples that people will copy run as printed."""

import doctest
import importlib
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTED = [
    "picante.database",
    "picante._core.batch",
    "picante._core.input",
    "picante._core.interned",
    "picante._core.key",
    "picante._core.runtime",
    "picante.debug.analysis",
    "picante.debug.collector",
    "picante.debug.dot",
    "picante.debug.graph",
    "picante.debug.names",
    "picante.debug.paths",
    "picante.debug.stats",
    "picante.testing.consistency",
    "picante.testing.outside",
    "picante.testing.runs",
    "picante.testing.values",
    "picante.reasons",
    "picante.report.page",
]


def snippets(name: str) -> Iterator[tuple[int, str]]:
    """The Python blocks of a Markdown file, each with the number of lines above it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, block.start(1)), block[1]


def test_the_quickstart_of_the_readme_runs_as_printed() -> None:
    blocks = list(snippets("README.md"))
    assert blocks
    for _, block in blocks:
        subprocess.run(
            [sys.executable, "-W", "error", "-c", block], check=True, timeout=60, cwd=ROOT
        )


@pytest.mark.parametrize(
    "name",
    ["docs/guide.md", "docs/debugging.md", "docs/profiling.md", "docs/benchmarking.md"],
)
def test_the_snippets_of_a_page_run_in_order(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(logging.getLogger(), "handlers", list(logging.getLogger().handlers))
    page = ModuleType(Path(name).stem)
    monkeypatch.setitem(sys.modules, page.__name__, page)
    blocks = list(snippets(name))
    assert blocks
    try:
        for n_lines, block in blocks:
            # The empty lines make a traceback show the line of the page.
            code = compile("\n" * n_lines + block, str(ROOT / name), "exec")
            exec(code, vars(page))
    finally:
        logging.getLogger("picante").setLevel(logging.NOTSET)


def belongs_to(module: ModuleType, test: doctest.DocTest) -> bool:
    """Whether what `test` documents was defined in `module`, not imported into it."""
    attribute = test.name.removeprefix(f"{module.__name__}").lstrip(".").partition(".")[0]
    documented = getattr(module, attribute) if attribute else module
    return getattr(documented, "__module__", module.__name__) == module.__name__


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(module, module=False)
    tests = [test for test in found if test.examples and belongs_to(module, test)]
    assert tests, f"{name} has no examples any more: take it off the list"
    for test in tests:
        test.globs = dict(vars(module))
        result = doctest.DocTestRunner().run(test)
        assert result.failed == 0, test.name
