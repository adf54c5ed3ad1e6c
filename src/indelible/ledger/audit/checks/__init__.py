"""The checks of an audit, in the order in which `indelible.ledger.audit.whole` makes them.

    files          what lies in the log's folder, and what does not belong there
    belief         whose signature counts
    heads          the signed notes: checkpoint, witnessed note, lock
    ranges         a range of events: what is asked of it, and what came of it
    events, rows   its bundles, tiles and journal, against each other
    computed       all ranges together, on every core, and the root at any size
    tiles, levels  tiles of every width and level, against the hashes of the events
    roots          the signed roots, against the computed ones, and the heads against each other
    remembered     what this auditor saw before
    erasures       what has no payload, against what later erasures list

`alone` is none of them: it holds events against their own leaves only, for `indelible doctor`.

What is wrong goes into a `Report`; nothing is raised for it. Like the rest of the verifier they
need nothing but `cryptography`.
"""
