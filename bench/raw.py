"""The floor of batch ingest: the same rows, index and hashes straight into SQLite.

One transaction for each group, synced; no HTTP, no JSON, no admission. What it writes is what the
journal writes (a project's table), with the unique key as an ordinary index of the table.
Run: ``python -m bench.raw FILE SECONDS GROUP``.
"""

import os
import secrets
import sys
import time
from importlib import resources

import apsw
import msgspec

from bench.load import event
from indelible import leaf
from indelible.clock import now_ms
from indelible.event import Kind
from indelible.journal.tables import create_table, table_of


def insert(path: str, *, seconds: float, group: int) -> float:
    """Rows a second."""
    connection = apsw.Connection(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute(
        resources.files("indelible.journal").joinpath("schema.sql").read_text("utf-8")
    )
    table = table_of(1)
    create_table(connection, 1)
    connection.execute(f"CREATE UNIQUE INDEX event_by_unique_key ON {table} (unique_key)")
    sent = event("token", 1)
    payload = msgspec.json.encode(sent["properties"])
    record = msgspec.json.encode(
        {
            "distinct_id": sent["distinct_id"],
            "event": sent["event"],
            "request": {"route": "/api/e"},
            "uuid": sent["uuid"],
        }
    )
    secret = os.urandom(32)
    run = secrets.token_hex(12)
    rows = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        batch = []
        for _ in range(group):
            salts = os.urandom(64)
            entry = leaf.encode(
                Kind.PRODUCT,
                received_at_ms=now_ms(),
                tx=os.urandom(16),
                payload=leaf.commit(salts[:32], leaf.PAYLOAD, payload),
                record=leaf.commit(salts[32:], leaf.RECORD, record),
            )
            key = leaf.hmac_sha256(secret, b"product\x00%s%012d" % (run.encode(), rows))
            batch.append((rows, entry, key, salts, record, payload))
            rows += 1
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)", batch)
        connection.execute("COMMIT")
    return rows / (time.perf_counter() - began)


if __name__ == "__main__":
    print(insert(sys.argv[1], seconds=float(sys.argv[2]), group=int(sys.argv[3])))
