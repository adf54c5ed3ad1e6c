"""The journal: the one durable, ordered, de-duplicated record that everything else is made from.

`contract` says what any journal must do; `sqlite` is the one that ships; `commit` gathers requests
into groups that share a sync; `follow` is the loop that every reader of the log uses;
`registry_tables` keeps the rows of `indelible.registry` in the same file.
"""
