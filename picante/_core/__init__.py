"""The engine: compiled, self-contained, and the only place where a query's state changes.

Every fact that picante keeps is a *node*: an input slot, a part of one, the cell of a derived query. A
node has an outcome, which holds over an interval of revisions, and is linked to the nodes that it read
and to the nodes that read it.  The modules of this package are the steps of one algorithm
over these nodes: find the node of a key, see whether its outcome holds, and if not, verify it from the
bottom up or run user code in a frame that records what it reads.  ``docs/architecture.md`` is the map.

Everything else in picante (decorators, databases, persistence, debugging) is pure Python on top and uses
only names without a leading underscore.  The engine imports the standard library and itself, nothing more,
so each module can be imported, tested and profiled alone.

A module may import and ``cimport`` only what stands above it:

==============  =========================================================================
``errors``      every exception class
``ids``         revisions, kinds and ids; handles; FNV-1a
``extension``   which types keys and stored values may have besides those of MessagePack, and under which code
``classes``     the classes that keys and stored values may name
``buffer``      bytes that grow, and the heads of MessagePack
``encode``      canonical bytes of a key
``decode``      and back, from bytes that may be hostile
``key``         keys, and records by kind and key
``codecs``      how values of types that picante does not know are stored
``wire``        the format of stored values, and the head of the next one
``stored``      what all readers of stored values share: bytes, classes, values without parts
``check``       are these bytes a stored value? The answer, without the value
``unpack``      from stored bytes to the value
``place``       where in a value its parts stand, and the errors that say so
``references``  objects that may occur more than once in a value
``pack``        from a value to stored bytes
``equality``    typed structural equality: is the new outcome the old one?
``events``      event classes, and the receivers that get them
``states``      what ``cell_state`` and ``touch`` return
``protocols``   what the engine expects of a database
``databases``   all databases of the process
``awaitable``   how a compiled awaitable hands back its value on each CPython
``sizes``       how large a value is, about
``sieve``       in which order memos are evicted
``node``        nodes, edges, the tables that own them, marking
``recording``   observed events in compact form, and what they are about
``observe``     telling those who observe a database what happens in it
``store``       revisions, views, and which old outcomes are kept for whom
``outcome``     what a node is known to have as of a view
``raised``      what queries have raised, and whose it is
``sharing``     what snapshots have computed, for later readers; who belongs together
``packed``      loaded values that are not decoded yet
``evict``       bounded memory: which memos go, and what is left of them
``frame``       the running query: what it has read, whom it waits for, cycles
``frames``      frames that are used again, and the contexts in which they travel
``change``      how a change of an input takes effect
``recorder``    committed changes, for who must see every one of them
``graph``       the graph as it is looked at from outside
``runtime``     the public face: revisions, changes of inputs, the graph, events
``ingredient``  what every ingredient can be asked
``observers``   beginning and ending to observe
``batch``       several changes as one revision
``compare``     what a write would change
``input``       ingredients that are set from outside
``interned``    ingredients that give equal values one small id
``walk``        the way from a node down to what must be brought up to date first
``verify``      is a marked memo still good? The walk over dependencies
``reasons``     why a query runs
``failure``     what it means that a query has raised something
``commit``      the end of a computation: early cutoff, the place of its outcome
``adopt``       an earlier result whose dependencies are as they were then
``hop``         tasks in which the work of a driver goes on
``steps``       the steps of a query, each within its own context
``inflight``    who computes what: for leaders and followers outside of the engine
``execute``     running user code: steps, waiting, cancellation
``drivers``     drivers as the interpreter sees them, and that are used again
``map``         many keys of one query at once
``fetch``       the awaitable that a call of a query returns: the hit path
``derived``     memoized queries
``binding``     which ingredient a definition has in a database
``tracked``     the call of a tracked query: from arguments to a key
``record``      the getters of records: ``file.content(db)``
``records``     how a stored record is written
``dump``        what is stored of a database, as records
``entry``       entries of a log
``install``     putting stored outcomes in place, all at once
``bulk``        the same where nothing is: each node made once, complete
``scan``        checking stored records
``restore``     bringing them back
``memos``       new memos, for the log: reading them out, and putting them in place
``facts``       what is known of a query, and what depends on a record, for people
==============  =========================================================================

Python and Cython would both accept an import against this order, cycles included, without a word.
``tests/test_architecture.py`` reads the import lines and does not.
"""
