"""Projects, keys and signed logs: everything that people set, as values of one immutable snapshot.

Data flows through four modules. `values` is the vocabulary, `snapshot` all of it at one moment,
`store` what a database owes to it, and `registry` the one door for changes, with `projects`, `keys`
and `logs` over it. Only the process that owns the journal has a `Registry`; any other gets the
encoded snapshot.
"""
