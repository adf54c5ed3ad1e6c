"""The journal: the one durable, ordered, de-duplicated record that everything else is made from.

`contract` says what any journal must do, and what any reader of it; `sqlite` is the one that ships,
`reader` reads it from another process, `outside` looks at a file that may be hostile. `commit`
gathers requests into groups that share a sync; `follow` is the loop that every follower of the log
runs in; `registry_tables` keeps the rows of `indelible.registry` in the same file. `project_rows`
is what an audit reads, `opening` serves commands that run without a server, and `forgeable` changes
the rows of a copy, to see who notices.
"""
