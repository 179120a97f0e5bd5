"""The import direction, and other promises about the shape of the code that no compiler checks."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "picante"
CORE = PACKAGE / "_core"

# A module of `_core` imports only what stands before it.  docs/architecture.md shows the same order.
ORDER = (
    "errors",
    "ids",
    "extension",
    "classes",
    "buffer",
    "encode",
    "decode",
    "key",
    "codecs",
    "wire",
    "stored",
    "check",
    "unpack",
    "place",
    "references",
    "pack",
    "equality",
    "events",
    "states",
    "protocols",
    "databases",
    "awaitable",
    "sizes",
    "sieve",
    "node",
    "recording",
    "observe",
    "store",
    "outcome",
    "raised",
    "sharing",
    "packed",
    "evict",
    "frame",
    "frames",
    "change",
    "recorder",
    "graph",
    "runtime",
    "ingredient",
    "observers",
    "batch",
    "compare",
    "input",
    "interned",
    "walk",
    "verify",
    "reasons",
    "failure",
    "commit",
    "adopt",
    "hop",
    "steps",
    "inflight",
    "execute",
    "drivers",
    "map",
    "fetch",
    "derived",
    "binding",
    "tracked",
    "record",
    "records",
    "dump",
    "entry",
    "install",
    "bulk",
    "scan",
    "restore",
    "memos",
    "facts",
)
COMPILE_TIME = {"cython", "libc", "cpython"}  # exist only for `cimport`
MAX_LINES = 500

SOURCES = sorted(p for p in PACKAGE.rglob("*") if p.suffix in {".py", ".pyi", ".pyx", ".pxd"})
CYTHON_SOURCES = [p for p in SOURCES if p.suffix in {".pyx", ".pxd"}]
CORE_SOURCES = [p for p in SOURCES if p.parent == CORE]
CORE_MODULES = sorted({p.stem for p in CORE_SOURCES if p.suffix in {".py", ".pyx"}} - {"__init__"})


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


class Import(NamedTuple):
    """``from module import name``, absolute; without a name for ``import module``."""

    module: str
    name: str = ""
    compiled: bool = False
    typing: bool = False  # never runs: in a stub, or under `if TYPE_CHECKING:`

    def __str__(self) -> str:
        word = "cimport" if self.compiled else "import"
        return f"from {self.module} {word} {self.name}" if self.name else f"{word} {self.module}"


# Strings may hold C, examples and the word "import": they and the comments go first.
STRING_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"""'
    r"|'''(?:\\.|[^\\])*?'''"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'(?:\\.|[^'\\\n])*'"
    r"|#[^\n]*",
    re.DOTALL,
)
FROM_IMPORT = re.compile(
    r"^[ \t]*from[ \t]+([.\w]+)[ \t]+(c?)import\b[ \t]*(\([^)]*\)|[^\n;]*)", re.MULTILINE
)
IMPORT = re.compile(r"^[ \t]*(c?)import[ \t]+([^\n;]+)", re.MULTILINE)


def code_of(path: Path) -> str:
    """The text of a Cython source without strings and comments, each logical line on one line."""
    return STRING_OR_COMMENT.sub('""', path.read_text(encoding="utf-8")).replace("\\\n", " ")


def names_in(listing: str) -> list[str]:
    return [part.split()[0] for part in listing.strip("() \t\n").split(",") if part.strip()]


def absolute(module: str, path: Path) -> str:
    """A module name with its leading dots resolved."""
    dots = len(module) - len(module.lstrip("."))
    if not dots:
        return module
    package = path.parent.relative_to(ROOT).parts
    return ".".join([*package[: len(package) + 1 - dots], *filter(None, [module[dots:]])])


def imports_of(path: Path) -> Iterator[Import]:
    """All imports of a source, wherever they stand in it."""
    if path in CYTHON_SOURCES:
        code = code_of(path)
        for module, c, listing in FROM_IMPORT.findall(code):
            yield from (Import(absolute(module, path), name, bool(c)) for name in names_in(listing))
        for c, listing in IMPORT.findall(code):
            yield from (Import(name, compiled=bool(c)) for name in names_in(listing))
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)
    ]
    guarded = {id(n) for guard in guards for statement in guard.body for n in ast.walk(statement)}
    for node in ast.walk(tree):
        typing = path.suffix == ".pyi" or id(node) in guarded
        if isinstance(node, ast.ImportFrom):
            module = absolute("." * node.level + (node.module or ""), path)
            yield from (Import(module, alias.name, typing=typing) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (Import(alias.name, typing=typing) for alias in node.names)


def core_module(imported: Import) -> str | None:
    """Which module of the engine an import reaches; an empty string for the package itself."""
    if not f"{imported.module}.".startswith("picante._core."):
        return None
    below = imported.module.removeprefix("picante._core").removeprefix(".")
    if not below and imported.name in {*ORDER, *CORE_MODULES}:
        return imported.name
    return below.split(".")[0]


def is_allowed_in_core(imported: Import, module: str) -> bool:
    reached = core_module(imported)
    if reached is not None:
        return imported.typing or reached == module or reached in ORDER[: ORDER.index(module)]
    top = imported.module.split(".")[0]
    return (imported.compiled and top in COMPILE_TIME) or (
        not imported.compiled and top in sys.stdlib_module_names
    )


def test_every_module_of_the_engine_has_a_place_in_the_order() -> None:
    unknown = sorted({p.stem for p in CORE_SOURCES} - {"__init__", *ORDER})
    assert not unknown, (
        f"picante/_core has modules without a place in the import order: {', '.join(unknown)}. "
        "Add them to ORDER in this test and to the list in docs/architecture.md."
    )


def test_the_maps_of_the_engine_list_its_modules_in_their_order() -> None:
    map_ = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = map_[map_.index("| module of `picante/_core` |") :].split("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == list(ORDER)
    listed = (CORE / "__init__.py").read_text(encoding="utf-8")
    assert re.findall(r"^``(\w+)``", listed, re.MULTILINE) == list(ORDER)


def test_the_map_names_every_module_outside_of_the_engine() -> None:
    map_ = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)(?:\.py|/)?`", map_[map_.index("Outside `_core`") :]))
    folders = [p.parent.name for p in SOURCES if p.parent not in (PACKAGE, CORE)]
    modules = [p.stem for p in SOURCES if p.parent != CORE and not p.stem.startswith("__")]
    in_decorators = {p.stem for p in SOURCES if p.parent.name == "decorators"}
    assert not {*folders, *modules} - in_decorators - named


@pytest.mark.parametrize("path", CORE_SOURCES, ids=name_of)
def test_the_engine_imports_only_what_stands_before_it(path: Path) -> None:
    if path.stem == "__init__":
        wrong = list(imports_of(path))
    elif path.stem in ORDER:
        wrong = [i for i in imports_of(path) if not is_allowed_in_core(i, path.stem)]
    else:
        pytest.skip("has no place in the order, which another test reports")
    assert not wrong, (
        f"{name_of(path)} may import the standard library and what stands before it in ORDER, but has: "
        + "; ".join(map(str, wrong))
    )


@pytest.mark.parametrize("path", [p for p in SOURCES if p not in CORE_SOURCES], ids=name_of)
def test_nobody_reaches_into_the_engine(path: Path) -> None:
    assert path not in CYTHON_SOURCES, f"{name_of(path)}: compiled modules belong to picante/_core"
    private = [
        i
        for i in imports_of(path)
        if core_module(i) is not None
        and any(part.startswith("_") for part in f"{i.module}.{i.name}".split(".")[2:])
    ]
    assert not private, f"{name_of(path)} uses private names of the engine: " + "; ".join(
        map(str, private)
    )


ALONE = """
import importlib, sys, types
package = types.ModuleType("picante")  # not the real one, which imports everything
package.__path__ = [sys.argv[1]]
sys.modules["picante"] = package
importlib.import_module(sys.argv[2])
outside = [m for m in sys.modules if m.startswith("picante.") and not f"{m}.".startswith("picante._core.")]
assert not outside, outside
"""


@pytest.mark.parametrize("module", CORE_MODULES)
def test_each_module_of_the_engine_imports_alone_and_silently(module: str) -> None:
    command = [sys.executable, "-W", "error", "-c", ALONE, str(PACKAGE), f"picante._core.{module}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("path", CYTHON_SOURCES, ids=name_of)
def test_a_cython_source_says_itself_what_it_uses(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    textual = re.findall(
        r"^[ \t]*(?:include[ \t]+\"\".*|DEF[ \t].*|IF[ \t].*:)$", code_of(path), re.MULTILINE
    )
    assert not textual, f"{name_of(path)} has textual includes or compile-time names: {textual}"
    assert not any(i.name == "*" for i in imports_of(path)), f"{name_of(path)} imports *"
    lines = text.count("\n")
    assert lines <= MAX_LINES, (
        f"{name_of(path)} has {lines} lines, more than {MAX_LINES}: split it by step"
    )


def test_nothing_generated_is_in_the_repository() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(
            command, cwd=ROOT, capture_output=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git repository")
    paths = [ROOT / name for name in listing.decode().split("\0") if name]
    generated = [
        p
        for p in paths
        if p.suffix in {".so", ".pyd", ".o", ".pxi", ".whl"}
        or (
            p.suffix in {".c", ".cpp", ".html"}
            and p.is_file()
            and b"Generated by Cython" in p.read_bytes()[:2000]
        )
    ]
    assert not generated, "generated files do not belong in the repository: " + ", ".join(
        map(name_of, generated)
    )
