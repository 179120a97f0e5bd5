"""`make profile KIND=trace`: tools for Python see into the compiled core, as docs/profiling.md says.

The build takes minutes the first time; later ones take what has changed.
"""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, output_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here"),
]


@pytest.fixture(scope="module")
def traced() -> Path:
    """The folder with the build. What it needs is in this environment: make shall install nothing."""
    version = ".".join(map(str, sys.version_info[:3]))
    needed = f"{sys.prefix}/.did-{version}/needs-dev"
    made = output_of(
        *("make", "-o", needed, "profile", "KIND=trace"),
        *(f"PYTHON={sys.executable}", f"VENV={sys.prefix}"),
        cwd=ROOT,
    )
    folder = ROOT / "build" / "profile" / "trace"
    assert f"Run with PYTHONPATH={folder}" in made
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The program of docs/profiling.md."""
    page = (ROOT / "docs" / "profiling.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n([^`]*class Number\([^`]*)```", page)
    path = tmp_path / "work.py"
    path.write_text(program)
    return path


def test_cprofile_names_functions_of_pyx_files_with_their_lines(traced: Path, work: Path) -> None:
    told = output_of(
        *(sys.executable, "-m", "cProfile", "-s", "tottime", work, "5"),
        cwd=work.parent,
        env={"PYTHONPATH": str(traced)},
    )
    for file, function in (("fetch", "probe"), ("frame", "record"), ("tracked", "call_tracked")):
        found = re.search(rf"^ +(\d+) .*{file}\.pyx:(\d+)\({function}\)", told, re.MULTILINE)
        assert found, told[:4000]
        assert int(found[1]) >= 5000  # a thousand records, in each of five rounds
        source = (ROOT / "picante" / "_core" / f"{file}.pyx").read_text().splitlines()
        assert f"{function}(" in source[int(found[2]) - 1]


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="line tracing does not work there")
def test_coverage_counts_lines_of_pyx_files(traced: Path, work: Path) -> None:
    data = f"--data-file={work.parent / 'coverage'}"
    env = {"COVERAGE_CORE": "ctrace", "PYTHONPATH": str(traced)}
    output_of(sys.executable, "-m", "coverage", "run", data, work, "1", cwd=traced, env=env)
    files = "--include=*/verify.pyx,*/frame.pyx"
    told = output_of(sys.executable, "-m", "coverage", "report", data, files, cwd=traced, env=env)
    for file in ("frame", "verify"):
        found = re.search(rf"picante/_core/{file}\.pyx +(\d+) +(\d+) ", told)
        assert found, told
        statements, missed = map(int, found.groups())
        assert statements > 100
        assert 0 < missed < statements
