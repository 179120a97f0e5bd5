"""`python -m picante graph FILE`: the dependency graph of a cache file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Final

from picante._core.errors import CacheCorruptError, PersistenceError
from picante._core.key import DynKey
from picante.commands.shared import DAMAGED, EXIT_CODES, Commands, count, refuse, write
from picante.debug.graph import DependencyGraph

__all__ = ["add"]

LIMITS: Final[dict[str, int | None]] = {"svg": 500, "dot": 5000, "text": 200, "json": None}
"""How many nodes (of a text: lines) are shown unless `--max-nodes` says otherwise: what a person can look at."""
ENDINGS: Final = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".json": "json"}

EXAMPLES = """\
examples:
  python -m picante graph app.cache                               an outline, on the terminal
  python -m picante graph app.cache --by-query -o queries.svg     what reads what, whatever the keys
  python -m picante graph app.cache --reaching 'Page("a.md")'     what a change of it may affect
  python -m picante graph app.cache --root 'report(' --depth 2    what a query reads, two steps down
  python -m picante graph app.cache --query 'words' --json        all nodes of one query, as JSON

"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "graph",
        help="draw the dependency graph of a cache file: outline, SVG, DOT, JSON",
        description="Draw which query has read what, as a cache file has it. Selections may be combined: what is "
        "drawn passes all of them. No code runs for what the file holds, and no class is looked for: "
        "it may come from anywhere.",
        epilog=EXAMPLES + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("file", metavar="FILE", help="written by `db.save`")
    command.add_argument(
        "-o", "--output", metavar="OUT", help="where to write it (standard output)"
    )
    command.add_argument(
        "--format",
        choices=sorted(LIMITS),
        help="what to write; without it, what the name of OUT ends with, or a text",
    )
    command.add_argument(
        "--json",
        action="store_const",
        const="json",
        dest="format",
        help="the same as --format json",
    )
    command.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="LABEL",
        help="only nodes that read LABEL leads to: itself, what it read, and so on. LABEL is part of what a node "
        "is called, `words(Page`; may be given several times",
    )
    command.add_argument(
        "--reaching",
        action="append",
        default=[],
        metavar="LABEL",
        help="only nodes that lead to LABEL: what a change of it may affect; may be given several times",
    )
    command.add_argument(
        "--depth", type=count, metavar="N", help="go only so many steps from --root and --reaching"
    )
    command.add_argument(
        "--query",
        action="append",
        default=[],
        metavar="NAME",
        help="only nodes of this query or input; `*` and `?` stand for any text; may be given several times",
    )
    command.add_argument(
        "--no-interned", action="store_true", help="without interned values, which never change"
    )
    command.add_argument(
        "--by-query", action="store_true", help="one node for each query or input, not for each key"
    )
    command.add_argument(
        "--max-nodes",
        type=count,
        metavar="N",
        help="show the N most connected nodes (svg 500, dot 5000, json all), or N lines (text 200)",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The exit code."""
    form = options.format or ENDINGS.get(PurePath(options.output or "").suffix.lower(), "text")
    try:
        whole = DependencyGraph.from_file(options.file)
        graph = selected(whole, options)
    except CacheCorruptError as error:
        return refuse(
            f"{options.file!r} is damaged: {str(error.reason).rstrip('.')} "
            "(`python -m picante inspect` says more)",
            DAMAGED,
        )
    except (FileNotFoundError, PersistenceError, LookupError) as error:
        return refuse(error.args[0] if isinstance(error, LookupError) else error)
    except MemoryError:
        return refuse(f"{options.file!r} is larger than the memory that there is")
    limit: int | None = LIMITS[form] if options.max_nodes is None else options.max_nodes
    if form == "text":
        return write(
            head(options.file, graph) + graph.to_text(max_lines=limit or 0), options.output
        )
    if limit is not None and len(graph) > limit:
        print(
            f"note: shows the {limit:,} most connected of {len(graph):,} nodes; --by-query, --root, --reaching and "
            "--query select, --max-nodes shows more",
            file=sys.stderr,
        )
    n_nodes = len(graph)
    if limit is not None:
        graph = graph.limited(limit)
    if form == "svg":
        return write(graph.to_svg(max_nodes=len(graph)), options.output)
    if form == "dot":
        return write(graph.to_dot(), options.output)
    return write(as_json(graph, n_nodes), options.output)


def selected(graph: DependencyGraph, options: argparse.Namespace) -> DependencyGraph:
    """The part that was asked for.

    Raises:
        LookupError: nothing is called so.
    """
    if options.root:
        graph = graph.reached_from(*_labelled(graph, options.root), depth=options.depth)
    if options.reaching:
        graph = graph.reaching(*_labelled(graph, options.reaching), depth=options.depth)
    if options.query:
        names = {kind: graph.names.full_name(kind) for kind in {key.kind for key in graph.nodes}}
        kinds = [
            kind
            for kind, name in names.items()
            if any(fnmatchcase(n, p) for p in options.query for n in (name, graph.names.name(kind)))
        ]
        if not kinds:
            known = ", ".join(sorted({graph.names.name(kind) for kind in names})) or "none"
            raise LookupError(
                f"No query or input is called {' or '.join(map(repr, options.query))}; there are: {known}"
            )
        graph = graph.of_kinds(*kinds)
    if options.no_interned:
        graph = graph.without_interned()
    return graph.by_query() if options.by_query else graph


def _labelled(graph: DependencyGraph, texts: Sequence[str]) -> list[DynKey]:
    """The nodes whose labels contain one of the texts. Either kind of quotes will do."""
    wanted = [text.replace('"', "'") for text in texts]
    found = [
        node
        for node, label in zip(graph.nodes, graph.labels, strict=True)
        if any(text in label.replace('"', "'") for text in wanted)
    ]
    if not found:
        raise LookupError(f"No node is called {' or '.join(map(repr, texts))}")
    return found


def head(file: str, graph: DependencyGraph) -> str:
    """One line above an outline."""
    return f"{file}: {len(graph):,} nodes and {graph.n_edges:,} dependencies at revision {graph.revision}\n\n"


def as_json(graph: DependencyGraph, n_nodes: int) -> str:
    """What `--json` shows, a line for each node: an edge leads from the place of a query to that of what it read."""
    names = graph.names
    kinds = {
        kind: {"name": names.full_name(kind), "type": names.sort(kind)}
        for kind in {node.kind for node in graph.nodes}
    }
    first = {"type": "graph", "revision": graph.revision, "left_out": n_nodes - len(graph)}
    nodes = ",\n".join(
        json.dumps({"label": label, **kinds[node.kind]})
        for node, label in zip(graph.nodes, graph.labels, strict=True)
    )
    edges = ",".join(f"[{i},{j}]" for i, read in enumerate(graph.reads) for j in read)
    return f'{json.dumps(first)[:-1]},\n"nodes": [\n{nodes}\n],\n"edges": [{edges}]}}\n'
