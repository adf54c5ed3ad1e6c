"""Witnesses, as C2SP tlog-witness 1.0.0 has them.

rules        being one: what is cosigned, what is refused, and the little that it remembers
http         the same over HTTP
cosigners    the log's side: asking those of a policy
"""
