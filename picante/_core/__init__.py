"""The engine: compiled, self-contained, and the only place where a query's state changes.

Every fact that picante keeps is a *node*: an input slot, an interned value, the cell of a derived query.
A node carries *versions*, each of which holds over an interval of revisions, and is linked to the nodes
that it read and to the nodes that read it.  The modules of this package are the steps of one algorithm
over these nodes: encode a key, find the node, see whether a version holds, and if not, verify it from the
bottom up or run user code in a frame that records what it reads.

Everything else in picante (decorators, databases, persistence, debugging) is pure Python on top and uses
only names without a leading underscore.  The engine imports the standard library and itself, nothing more,
so each module can be imported, tested and profiled alone.

A module may import and ``cimport`` only what stands above it:

==============  =========================================================================
``errors``      every exception class
``key``         kinds, keys and dependencies: canonical encoding, FNV-1a
``equality``    typed structural equality: is the new outcome the old one?
``events``      event classes, and the receivers that get them
``states``      what ``cell_state`` and ``touch`` return
``awaitable``   how a compiled awaitable hands back its value on each CPython
``node``        nodes, versions and edges
``store``       the nodes of a database, found by kind and key
``frame``       the running query: what it has read, whom it waits for, cycles
``runtime``     revisions, views, pins, marking
``ingredient``  what every ingredient can be asked
``input``       ingredients that are set from outside
``interned``    ingredients that give equal values one small id
``verify``      is a marked memo still good? The walk over dependencies
``execute``     running user code: frame, cancellation, early cutoff, commit
``derived``     memoized queries: probe, verify, execute
==============  =========================================================================

Python and Cython would both accept an import against this order, cycles included, without a word.
``tests/test_architecture.py`` reads the import lines and does not.
"""
