"""Witnesses, as C2SP tlog-witness 1.0.0 has them.

request      the one request that there is: a checkpoint, and the proof from the last one. Pure
rules        being a witness: what is cosigned, and what is refused
store        what a witness keeps on disk
http         a witness over HTTP
cosigners    the log's side: asking the witnesses of a policy
"""
