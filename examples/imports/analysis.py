"""What Python's import statements mean, as plain functions on plain values.

Everything is static: nothing is imported and no code of the tree is run. What the functions
return says nothing of lines and columns (those are looked up when something is shown,
`import_lines`), so that an edit which moves code without changing it changes no result.

An import leads to the module that it names, not to the packages around it: `import a.b` is an
edge to `a/b.py`. In `from a import b` the submodule `a.b` comes before a name `b` in `a`. An edge
is deferred if it is not taken while the importing module loads: inside a function, under `if
TYPE_CHECKING` or under `if __name__ == "__main__"`. Only the other edges make import cycles.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

# --- One file -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Import:
    """One name that an import statement asks for: `import a, b` makes two of these."""

    level: int
    """How many dots stand in front."""
    module: str
    """The dotted name, without them; empty in `from . import a`."""
    name: str | None
    """What `from` takes from the module, `*` included; None in `import a`."""
    deferred: bool
    """Not executed while the module loads."""
    optional: bool
    """In a `try` that catches the failure."""

    def __str__(self) -> str:
        if self.name is None:
            return f"import {self.module}"
        return f"from {'.' * self.level}{self.module} import {self.name}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the other files need to know of one file."""

    imports: tuple[Import, ...] = ()
    names: frozenset[str] = frozenset()
    """Bound at the top level of the module."""
    dynamic: bool = False
    """It may have other names, too: by `import *`, `__getattr__`, `globals()` and the like."""
    problem: str | None = None
    """Why the file could not be read or parsed."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for the text of a file that has none."""

    reason: str


Text: TypeAlias = str | Unreadable


def parse(text: Text) -> Parsed:
    """The imports and top-level names of one file."""
    if isinstance(text, Unreadable):
        return Parsed(problem=text.reason)
    try:
        tree = _tree(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # The message without the place, which a comment would move. A null byte is a ValueError,
        # too many brackets are one of the last two.
        what = error.msg if isinstance(error, SyntaxError) else str(error)
        return Parsed(problem=f"{type(error).__name__}: {what}" if what else type(error).__name__)
    imports: list[Import] = []
    names: set[str] = set()
    for statement, place in _statements(tree):
        imports.extend(_imports(statement, place))
        if place.top:
            names.update(_bound(statement))
        elif isinstance(statement, ast.Global):
            names.update(statement.names)
    dynamic = (
        any(x.name == "*" for x in imports) or "__getattr__" in names or _is_dynamic(tree, text)
    )
    return Parsed(tuple(imports), frozenset(names), dynamic)


def import_lines(text: Text) -> tuple[int, ...]:
    """The line of each of `parse(text).imports`, counted from 1."""
    if parse(text).problem is not None or isinstance(text, Unreadable):
        return ()
    return tuple(
        statement.lineno
        for statement, place in _statements(_tree(text))
        for _ in _imports(statement, place)
    )


def _tree(text: str) -> ast.Module:
    with warnings.catch_warnings():  # of invalid escapes and the like, which are not our business
        warnings.simplefilter("ignore")
        return ast.parse(text)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a statement stands."""

    top: bool = True
    deferred: bool = False
    optional: bool = False


def _statements(tree: ast.Module) -> Iterator[tuple[ast.stmt, _Place]]:
    """All statements in the order of the text. A loop: a long `elif` chain is a deep tree."""
    waiting = [(statement, _Place()) for statement in reversed(tree.body)]
    while waiting:
        statement, place = waiting.pop()
        yield statement, place
        inner = [(child, where) for block, where in _blocks(statement, place) for child in block]
        waiting.extend(reversed(inner))


def _blocks(statement: ast.stmt, place: _Place) -> Iterator[tuple[list[ast.stmt], _Place]]:
    top, deferred, optional = place.top, place.deferred, place.optional
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield statement.body, _Place(False, True, optional)
        case ast.ClassDef():
            yield statement.body, _Place(False, deferred, optional)
        case ast.If():
            yield statement.body, _Place(top, deferred or _is_false(statement.test), optional)
            yield statement.orelse, place
        case ast.For() | ast.AsyncFor() | ast.While():
            yield statement.body, place
            yield statement.orelse, place
        case ast.With() | ast.AsyncWith():
            yield statement.body, place
        case ast.Try() | ast.TryStar():
            caught = any(_catches_import_error(handler) for handler in statement.handlers)
            yield statement.body, _Place(top, deferred, optional or caught)
            for handler in statement.handlers:
                yield handler.body, place
            yield statement.orelse, place
            yield statement.finalbody, place
        case ast.Match():
            for case in statement.cases:
                yield case.body, place


def _is_false(test: ast.expr) -> bool:
    """Whether a condition never holds in a module that is being imported."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.Compare(ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")]):
            return True
    return False


_CATCHING = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(x, ast.Name) and x.id in _CATCHING for x in caught)


def _imports(statement: ast.stmt, place: _Place) -> Iterator[Import]:
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield Import(0, alias.name, None, place.deferred, place.optional)
    elif isinstance(statement, ast.ImportFrom):
        level, module = statement.level, statement.module or ""
        for alias in statement.names:
            yield Import(level, module, alias.name, place.deferred, place.optional)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement binds by itself (its blocks come as statements of their own)."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Import():
            for alias in statement.names:
                yield alias.asname or alias.name.partition(".")[0]
        case ast.ImportFrom():
            yield from (
                alias.asname or alias.name for alias in statement.names if alias.name != "*"
            )
        case ast.Assign():
            for target in statement.targets:
                yield from _stored(target)
        case ast.AnnAssign() if statement.value is not None:
            yield from _stored(statement.target)
        case ast.AugAssign() | ast.For() | ast.AsyncFor():
            yield from _stored(statement.target)
        case ast.With() | ast.AsyncWith():
            for item in statement.items:
                if item.optional_vars is not None:
                    yield from _stored(item.optional_vars)
        case ast.If() | ast.While():
            yield from _stored(statement.test)  # `:=`
        case ast.Match():
            for case in statement.cases:
                yield from _stored(case.pattern)
        case _ if type(statement).__name__ == "TypeAlias":  # Python 3.12
            for child in ast.iter_child_nodes(statement):
                yield from _stored(child)


def _stored(target: ast.AST) -> Iterator[str]:
    for node in ast.walk(target):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name


_DYNAMIC = ("globals", "vars", "locals", "exec", "setattr", "modules", "global_enum", "_convert_")


def _is_dynamic(tree: ast.Module, text: str) -> bool:
    if not any(word in text for word in _DYNAMIC):  # most files; a walk costs half of the parsing
        return False
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in _DYNAMIC:
                return True
            case ast.Subscript(value=ast.Attribute(attr="modules")):
                return True
            case ast.Attribute(attr="global_enum" | "_convert_"):  # an enum's members, as constants
                return True
    return False


# --- Names and files ------------------------------------------------------------------------------

STANDARD = sys.stdlib_module_names | {"__main__", "test"}
"""What can be imported without being in the tree. (Those names leave out the tests.)"""


@dataclass(frozen=True, slots=True)
class Layout:
    """How names of modules and paths of files (relative to the root, with `/`) belong together."""

    package: str = ""
    """The dotted name of the package that the root itself is, if it is one."""
    sources: tuple[str, ...] = ("",)
    """The folders in which absolute imports look, first to last: `""`, or with a `/` at the end."""
    standard: frozenset[str] = STANDARD

    def module(self, path: str) -> tuple[str, bool]:
        """The dotted name of a file, and whether it is a package."""
        source = max((s for s in self.sources if path.startswith(s)), key=len, default="")
        parts = path[len(source) :].removesuffix(".py").split("/")
        is_package = parts[-1] == "__init__"
        if is_package:
            parts.pop()
        if self.package:
            parts.insert(0, self.package)
        return ".".join(parts), is_package

    def stems(self, name: str) -> tuple[str, ...]:
        """Where the module may be: paths without `/__init__.py` or `.py`, empty for the root."""
        if self.package:
            if name == self.package:
                return ("",)
            if not name.startswith(self.package + "."):
                return ()
            name = name[len(self.package) + 1 :]
        return tuple(source + name.replace(".", "/") for source in self.sources)

    def candidates(self, name: str) -> tuple[Location, ...]:
        """The files that may be the module, in the order in which Python looks for them."""
        found: list[Location] = []
        for stem in self.stems(name):
            found.append(Location(f"{stem}/__init__.py" if stem else "__init__.py", True))
            if stem:
                found.append(Location(f"{stem}.py", False))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Location:
    """The module of a name."""

    path: str
    """Empty for a namespace package, which is a folder, or several."""
    is_package: bool


NAMESPACE = Location("", True)


def folders(paths: Iterable[str]) -> frozenset[str]:
    """All folders above the files."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return frozenset(found)


# --- Resolving ------------------------------------------------------------------------------------

Question: TypeAlias = tuple[str, str | None]
"""A module's absolute name, and what is wanted from it, as in `Import`."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an import leads."""

    kind: Literal["file", "namespace", "outside", "missing"]
    where: str = ""
    """The path of a file in the tree, or the top-level name of a module outside."""


MISSING = Target("missing")


def question(wanted: Import, module: str, is_package: bool) -> Question | None:
    """What `wanted` means in `module`; None if it has more dots than there are packages."""
    if not wanted.level:
        return wanted.module, wanted.name
    package = module if is_package else module.rpartition(".")[0]
    parts = package.split(".") if package else []
    if wanted.level > len(parts):
        return None
    base = parts[: len(parts) - wanted.level + 1]
    return ".".join([*base, wanted.module] if wanted.module else base), wanted.name


def submodule(asked: Question, here: Location | None) -> str | None:
    """The module that has to be looked for besides the one asked for, if any."""
    module, name = asked
    if here is not None and here.is_package and name not in (None, "*"):
        return f"{module}.{name}"
    return None


def holder(
    asked: Question, here: Location | None, below: Location | None, above: Location | None
) -> tuple[str, str] | None:
    """The file that would have to bind the name, and the name; None if that settles nothing.

    `here` is the module asked for, `below` its `submodule`, `above` the package of a module that
    is not there: `import os.path` works because `os` binds `path`.
    """
    module, name = asked
    if here is not None:
        return (
            (here.path, name) if name not in (None, "*") and below is None and here.path else None
        )
    return (above.path, module.rpartition(".")[2]) if above is not None and above.path else None


def may_bind(parsed: Parsed, name: str) -> bool:
    """Whether a module has a name, as far as one can tell without running it."""
    implicit = name.startswith("__") and name.endswith("__")
    return name in parsed.names or parsed.dynamic or implicit or parsed.problem is not None


def target(
    asked: Question,
    here: Location | None,
    below: Location | None,
    held: str | None,
    standard: frozenset[str],
) -> Target:
    """Where the import leads; `held` is the path of the `holder` if that does bind the name."""
    module, name = asked
    top = module.partition(".")[0]
    if below is not None:
        return Target("file", below.path) if below.path else Target("namespace")
    if held is not None:
        return Target("file", held)
    if here is not None and here.path:
        return Target("file", here.path) if name in (None, "*") else MISSING
    if top in standard:  # comes before a namespace package, as on Python's own path
        return Target("outside", top)
    if here is not None and name is None:
        return Target("namespace")
    return MISSING


@dataclass(frozen=True, slots=True)
class Missing:
    """An import that leads nowhere: not in the tree, and not in the standard library."""

    path: str
    index: int
    """Which of the file's imports it is."""
    statement: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where the imports of one file lead; all sorted, none twice."""

    eager: tuple[str, ...] = ()
    """The files of the tree that are imported while this one loads."""
    deferred: tuple[str, ...] = ()
    """Those that are imported later only, or for type checkers."""
    outside: tuple[str, ...] = ()
    """The top-level modules of the standard library that are not in the tree."""
    missing: tuple[Missing, ...] = ()
    absent: int = 0
    """How many optional imports lead nowhere."""


def collect(path: str, imports: Iterable[Import], targets: Iterable[Target]) -> Resolved:
    """Put together what the imports of a file lead to."""
    eager: set[str] = set()
    deferred: set[str] = set()
    outside: set[str] = set()
    missing: list[Missing] = []
    absent = 0
    for index, (wanted, found) in enumerate(zip(imports, targets, strict=True)):
        if found.kind == "file":
            (deferred if wanted.deferred else eager).add(found.where)
        elif found.kind == "outside":
            outside.add(found.where)
        elif found.kind == "missing":
            if wanted.optional:
                absent += 1
            else:
                missing.append(Missing(path, index, str(wanted)))
    eager.discard(path)  # `from . import name` in a package's own `__init__.py`
    deferred -= eager | {path}
    return Resolved(
        tuple(sorted(eager)),
        tuple(sorted(deferred)),
        tuple(sorted(outside)),
        tuple(missing),
        absent,
    )


# --- The tree -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """One file of the graph and what it imports from the tree."""

    path: str
    eager: tuple[str, ...]
    deferred: tuple[str, ...]


Graph: TypeAlias = tuple[Node, ...]


def graph(resolved: Mapping[str, Resolved]) -> Graph:
    """The import graph, by path."""
    return tuple(Node(path, x.eager, x.deferred) for path, x in sorted(resolved.items()))


def cycles(nodes: Graph) -> tuple[tuple[str, ...], ...]:
    """Groups of files that import each other while they load, the largest first, each sorted.

    The strongly connected components with more than one member, by R. E. Tarjan, "Depth-first
    search and linear graph algorithms", 1972; with a stack of its own instead of recursion.
    """
    edges = {node.path: node.eager for node in nodes}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    components: list[tuple[str, ...]] = []

    def enter(path: str) -> tuple[str, Iterator[str]]:
        index[path] = low[path] = len(index)
        stack.append(path)
        on_stack.add(path)
        return path, iter(edges[path])

    for root in edges:
        if root in index:
            continue
        work = [enter(root)]
        while work:
            path, successors = work[-1]
            for successor in successors:
                if successor not in index:
                    work.append(enter(successor))
                    break
                if successor in on_stack:
                    low[path] = min(low[path], index[successor])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[path])
                if low[path] == index[path]:
                    component = [stack.pop()]
                    while component[-1] != path:
                        component.append(stack.pop())
                    on_stack.difference_update(component)
                    if len(component) > 1:
                        components.append(tuple(sorted(component)))
    return tuple(sorted(components, key=lambda component: (-len(component), component)))


def shortest_cycle(nodes: Graph, component: tuple[str, ...]) -> tuple[str, ...]:
    """A shortest way from a component's first member back to it, with both ends."""
    inside = set(component)
    edges = {x.path: [y for y in x.eager if y in inside] for x in nodes if x.path in inside}
    start = component[0]
    came_from: dict[str, str] = {}
    waiting = deque([start])
    while start not in came_from:
        path = waiting.popleft()
        for successor in edges[path]:
            if successor not in came_from:
                came_from[successor] = path
                waiting.append(successor)
    way = [start, came_from[start]]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))


def unresolved(resolved: Mapping[str, Resolved]) -> tuple[Missing, ...]:
    """All imports that lead nowhere, by path; optional ones left out."""
    return tuple(missing for _, x in sorted(resolved.items()) for missing in x.missing)


@dataclass(frozen=True, slots=True)
class Summary:
    """The tree in numbers."""

    files: int
    packages: int
    problems: tuple[tuple[str, str], ...]
    """The files that could not be read or parsed, and why."""
    names: int
    imports: int
    edges: int
    deferred: int
    outside: tuple[str, ...]
    cycles: int
    in_cycles: int
    unresolved: int
    absent: int
    most_imported: tuple[tuple[str, int], ...]


def summary(
    parsed: Mapping[str, Parsed],
    resolved: Mapping[str, Resolved],
    nodes: Graph,
    groups: tuple[tuple[str, ...], ...],
) -> Summary:
    """The tree in numbers."""
    importers = Counter(path for node in nodes for path in (*node.eager, *node.deferred))
    ranked = sorted(importers.items(), key=lambda item: (-item[1], item[0]))
    return Summary(
        files=len(parsed),
        packages=sum(path.rpartition("/")[2] == "__init__.py" for path in parsed),
        problems=tuple((p, x.problem) for p, x in sorted(parsed.items()) if x.problem is not None),
        names=sum(len(x.names) for x in parsed.values()),
        imports=sum(len(x.imports) for x in parsed.values()),
        edges=sum(len(node.eager) for node in nodes),
        deferred=sum(len(node.deferred) for node in nodes),
        outside=tuple(sorted({name for x in resolved.values() for name in x.outside})),
        cycles=len(groups),
        in_cycles=sum(map(len, groups)),
        unresolved=sum(len(x.missing) for x in resolved.values()),
        absent=sum(x.absent for x in resolved.values()),
        most_imported=tuple(ranked[:5]),
    )


@dataclass(frozen=True, slots=True)
class Report:
    """All there is to say about a tree."""

    summary: Summary
    graph: Graph
    cycles: tuple[tuple[str, ...], ...]
    unresolved: tuple[Missing, ...]
