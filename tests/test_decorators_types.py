"""What type checkers make of the public API: `tests/typing` holds what they are to accept and to reject."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
TYPING = Path(__file__).parent / "typing"
STUBS = sorted(p.stem for p in (ROOT / "picante/_core").glob("*.pyi"))
ALLOWED = [
    r"picante\._core\..*\.(__test__|__pyx_capi__)",  # Cython adds them
    # Compiled classes that are derived from. To say so in a stub takes typing_extensions, a dependency.
    r"picante\._core\.(key\.DynKey|ids\.Handle|ingredient\.Ingredient)",
]


def check(command: list[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a type checker as a user would: with its defaults, and nothing of this project's settings."""
    env = {**os.environ, "MYPYPATH": str(ROOT), "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    return subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False
    )


def mypy(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    return check([sys.executable, "-m", "mypy", "--strict", *arguments], tmp_path)


def pyright(tmp_path: Path, name: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("pyright") or shutil.which("pyright", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("pyright is not installed")
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{ROOT}"]}}')
    shutil.copy(TYPING / name, tmp_path)
    ran = check([program, "--pythonpath", sys.executable, name], tmp_path)
    if ran.returncode not in {0, 1}:
        pytest.skip(f"pyright does not run here: {ran.stderr}")
    return ran


def lines_with_errors(output: str) -> set[int]:
    """By line number, from `rejected.py:12: error: ...` or `rejected.py:12:5 - error: ...`."""
    return {int(n) for n in re.findall(r"rejected\.py:(\d+)(?::\d+ -|:) error", output)}


def expected_errors() -> set[int]:
    lines = (TYPING / "rejected.py").read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# E")}


def test_mypy_accepts_and_infers_right_uses(tmp_path):
    ran = mypy(tmp_path, str(TYPING / "accepted.py"))
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout


def test_mypy_rejects_wrong_uses(tmp_path):
    ran = mypy(tmp_path, str(TYPING / "rejected.py"))
    assert lines_with_errors(ran.stdout) == expected_errors(), ran.stdout


def test_pyright_accepts_and_infers_right_uses(tmp_path):
    ran = pyright(tmp_path, "accepted.py")
    assert ran.returncode == 0, ran.stdout


def test_pyright_rejects_wrong_uses(tmp_path):
    ran = pyright(tmp_path, "rejected.py")
    assert lines_with_errors(ran.stdout) == expected_errors(), ran.stdout


def test_stubs_say_what_the_compiled_modules_have(tmp_path):
    pytest.importorskip("mypy")
    config, allowed = tmp_path / "mypy.ini", tmp_path / "allowed"
    config.write_text("[mypy]\n")
    allowed.write_text("\n".join(ALLOWED))
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy.stubtest",
            *[f"picante._core.{module}" for module in STUBS],
            "--mypy-config-file",
            str(config),
            "--allowlist",
            str(allowed),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
