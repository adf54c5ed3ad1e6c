"""The ``indelible`` command: one fact a line, ``--json`` for machines.

Exit codes: 0 fine, 1 a check failed, 2 called wrongly, 3 the world is broken, or
it cannot be checked.
"""
