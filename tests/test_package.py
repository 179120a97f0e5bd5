"""The wheel and the sdist, as someone gets them who only installs them."""

import importlib.metadata
import os
import re
import shutil
import sys
import tarfile
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.helpers import ROOT, output_of

pytestmark = pytest.mark.slow

CORE_MODULES = sorted(
    p.stem for p in (ROOT / "picante/_core").glob("*.py*") if p.suffix in {".py", ".pyx"}
)
NOT_COPIED = shutil.ignore_patterns(
    ".git",
    ".venv*",
    "build",
    "dist",
    "*.egg-info",
    "*.so",
    "*.c",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, made from a copy of the sources, and the wheel made from that sdist."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_COPIED)
    output_of(
        *(sys.executable, "-m", "build", "--no-isolation"),
        *("--outdir", folder / "dist", folder / "source"),
    )
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("picante-*.whl")
    return path


def test_the_wheel_has_modules_stubs_and_licences_but_no_sources_in_c_or_cython(
    wheel: Path,
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [PurePosixPath(name) for name in archive.namelist()]
    ours = [n for n in names if n.parts[0] == "picante"]
    parts = {".html", ".css", ".js"}  # of the page that shows a profile
    page = {str(n) for n in ours if n.suffix in parts}
    report = ROOT / "picante/report"
    assert page == {f"picante/report/{p.name}" for p in report.iterdir() if p.suffix in parts}
    others = {n.suffix for n in ours if str(n) not in page and n.name != "py.typed"}
    assert others <= {".py", ".pyi", ".so", ".pyd"}
    assert PurePosixPath("picante/py.typed") in ours
    stubs = {str(p.relative_to(ROOT).as_posix()) for p in (ROOT / "picante").rglob("*.pyi")}
    assert stubs == {str(n) for n in ours if n.suffix == ".pyi"}
    others = [n for n in names if n.parts[0] != "picante" and not n.parts[0].endswith(".dist-info")]
    assert others == [PurePosixPath("_picante_pytestplugin.py")]
    assert {"LICENSE-MIT", "LICENSE-APACHE"} <= {n.name for n in names}


def test_the_sdist_has_all_that_a_build_and_a_test_run_need(dist: Path) -> None:
    (path,) = dist.glob("picante-*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    kept = {"setup.py", "Makefile", "LICENSE-MIT", "picante/py.typed", "tests/conftest.py"}
    kept |= {str(p.relative_to(ROOT).as_posix()) for p in (ROOT / "picante/_core").glob("*.p[yx]*")}
    assert kept <= names
    assert not [n for n in names if n.endswith((".so", ".pyd", ".pyc", ".c", ".o"))]


def test_the_wheel_installs_into_an_empty_environment_and_imports(
    wheel: Path, tmp_path: Path
) -> None:
    """Beside the wheel stands only what its metadata requires, linked from this environment: no network."""
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=os.name != "nt")
    (python,) = [p for p in environment.glob("*/python*") if p.stem == "python"]
    site = Path(
        output_of(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    output_of(
        *(sys.executable, "-m", "pip", "--python", python),
        *("install", "--no-deps", "--no-index", wheel),
    )
    for requirement in (
        importlib.metadata.PathDistribution(next(site.glob("picante-*.dist-info"))).requires or []
    ):
        if "extra ==" not in requirement:
            distribution = importlib.metadata.distribution(re.split(r"[^\w-]", requirement)[0])
            for top in {
                f.parts[0]
                for f in distribution.files or []
                if f.parts[0] not in {"..", "__pycache__"}
            }:
                (site / top).symlink_to(distribution.locate_file(top))
    imports = "import picante; " + "".join(
        f"import picante._core.{m}; " for m in CORE_MODULES if m != "__init__"
    )
    where = output_of(
        python, "-I", "-W", "error", "-c", imports + "print(picante.__file__)"
    ).strip()
    assert Path(where).is_relative_to(site)
    entry_points = next(site.glob("picante-*.dist-info")) / "entry_points.txt"
    assert entry_points.read_text().split() == [
        "[pytest11]",
        "picante",
        "=",
        "_picante_pytestplugin",
    ]
