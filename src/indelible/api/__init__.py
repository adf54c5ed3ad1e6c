"""Everything over HTTP that is not ingest: reading, management, health, and the description of it.

Litestar serves it; the rules live in `query`, `registry` and the gate.
"""
