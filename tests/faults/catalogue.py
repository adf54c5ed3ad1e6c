"""Seventy mistakes, and the tests that should mind each: see `tests.faults`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake, as a replacement of text.

    Attributes:
        path: the file, from the root of the checkout.
        before, after: what stands there, exactly once, and what takes its place.
        meaning: the mistake in words.
        tests: files, or `file::test`, that should notice it.
        equivalent: why nobody can tell, where that is so; such a fault survives.
    """

    path: str
    before: str
    after: str
    meaning: str
    tests: tuple[str, ...]
    equivalent: str | None = None


_JOURNAL: Final = (
    Fault(
        "src/indelible/journal/commit.py",
        "mine = result if isinstance(result, IndelibleError) else result[start:end]",
        "mine = result if isinstance(result, IndelibleError) else result[: end - start]",
        "every request of a group is given the outcomes of the first",
        ("tests/journal/test_commit.py",),
    ),
    Fault(
        "src/indelible/journal/commit.py",
        "            self._waiting_bytes -= waiting.size_bytes\n",
        "",
        "what was answered goes on counting as waiting",
        ("tests/journal/test_commit.py",),
    ),
    Fault(
        "src/indelible/journal/commit.py",
        "if source is not None and source.lane is Lane.PRODUCT:",
        "if source is not None:",
        "audit events have no more room to wait than product events",
        ("tests/journal/test_commit.py",),
    ),
    Fault(
        "src/indelible/journal/commit.py",
        "    if answer.done():  # the client has left\n        return\n",
        "",
        "a request whose client went away is answered all the same, and those behind it are not",
        ("tests/journal/test_commit.py",),
    ),
    Fault(
        "src/indelible/journal/commit.py",
        "                self._late.add(waiting.number)\n",
        "",
        "who was told that storing is slow is told again and again",
        ("tests/journal/test_commit.py", "tests/edge/test_faults.py"),
    ),
    Fault(
        "src/indelible/journal/txids.py",
        "_VERSION | number & _COUNT_MASK",
        "_VERSION | number & 0xFFFF",
        "the counter of a transaction id runs over into its version",
        ("tests/journal/test_txids.py",),
    ),
    Fault(
        "src/indelible/journal/unique.py",
        "        self._settling = self._recent\n        self._recent = {}\n",
        "        recent, self._recent = self._recent, {}\n        self._settling = recent\n",
        "for a moment a key is in neither of the two places where it is looked for",
        ("tests/journal/test_unique.py",),
    ),
    Fault(
        "src/indelible/journal/unique.py",
        "if any(rows.tx_of(mark.last_id) != mark.last_tx for mark in marks.values()):",
        "if any(rows.tx_of(mark.last_id) is None for mark in marks.values()):",
        "the keys of another journal of the same length are believed",
        ("tests/journal/test_unique.py",),
    ),
    Fault(
        "src/indelible/journal/unique.py",
        "        self._sieve.put(list(keys))  # first: what it does not hold back is nowhere\n",
        "",
        "a key that was stored since the start is taken for new",
        ("tests/journal/test_unique.py",),
    ),
    Fault(
        "src/indelible/journal/sqlite.py",
        "                    self.database.must_sweep()\n",
        "",
        "what an erasure overwrote stays in the WAL",
        ("tests/journal/test_sqlite.py",),
    ),
    Fault(
        "src/indelible/journal/reading.py",
        'leaf.hmac_under(row.get, lane.encode() + b"\\x00")',
        'leaf.hmac_under(row.get, b"")',
        "an id of one lane is a duplicate in the other",
        ("tests/journal/test_sqlite.py", "tests/edge/test_isolation.py"),
    ),
    Fault(
        "src/indelible/journal/group.py",
        "used >= draft.monthly_limit",
        "used > draft.monthly_limit",
        "one event more than the month allows is stored",
        ("tests/journal/test_sqlite.py", "tests/edge/test_audit.py"),
    ),
    Fault(
        "src/indelible/journal/follow.py",
        "last = self._pauses.pop(project_id, _Pause(0.0, 0.0))",
        "last = self._pauses.get(project_id, _Pause(0.0, 0.0))",
        "a pause is not forgotten after a success, so the next one begins as long as it ended",
        ("tests/journal/test_follow.py",),
    ),
    Fault(
        "src/indelible/journal/follow.py",
        "                for project_id in failed:\n"
        "                    self._positions.pop(project_id, None)\n",
        "",
        "after a failure the loop goes on from where it was, not from where the sink is",
        ("tests/journal/test_follow.py",),
    ),
    Fault(
        "src/indelible/journal/moments.py",
        "if earliest < low or latest >= high or first < start:",
        "if earliest < low or latest > high or first < start:",
        "an entry received in the very millisecond where a search ends is found",
        ("tests/journal/test_sqlite.py", "tests/query/test_clock.py"),
    ),
    Fault(
        "src/indelible/registry/snapshot.py",
        "                    keys[row.digest] = row\n",
        "                    keys.setdefault(row.digest, row)\n",
        "a revoked key opens until something else changes",
        ("tests/registry/test_registry.py", "tests/api/test_manage.py"),
    ),
    Fault(
        "src/indelible/journal/disk.py",
        "self.floors = {Lane.PRODUCT: product_percent, Lane.AUDIT: audit_percent}",
        "self.floors = {Lane.PRODUCT: audit_percent, Lane.AUDIT: product_percent}",
        "on a disk that fills up audit events are refused first",
        ("tests/edge/test_faults.py", "tests/edge/test_health.py", "tests/edge/test_lost.py"),
    ),
    Fault(
        "src/indelible/journal/standing.py",
        "                    if self._ends[project_id] >= self._begun.get(project_id, 0):\n"
        "                        self._begun.pop(project_id, None)\n",
        "                    self._begun.pop(project_id, None)\n",
        "an entry whose transaction is not committed yet is never counted afterwards",
        ("tests/journal/test_sqlite.py", "tests/registry/test_registry.py"),
    ),
)

_LEDGER: Final = (
    Fault(
        "src/indelible/ledger/sealer.py",
        "        self._publish(seal.log, head)\n        del self._unpublished[seal.log.origin]\n",
        "        del self._unpublished[seal.log.origin]\n        self._publish(seal.log, head)\n",
        "a checkpoint that could not be published is forgotten",
        ("tests/ledger/test_sealer.py",),
    ),
    Fault(
        "src/indelible/ledger/recomputing.py",
        "        if content != encode_entries(entries) or len(entries) != bundle.width:\n",
        "        if len(entries) != bundle.width:\n",
        "bundles are signed that are not what the journal holds",
        ("tests/ledger/test_sealer.py",),
    ),
    Fault(
        "src/indelible/ledger/recomputing.py",
        "            if not was_compared and root_of_full(self._tile(level, number)) != root:\n",
        '            if not was_compared and root_of_full(self._tile(level, number)) == b"":\n',
        "full tiles that no root is made from are signed unseen",
        ("tests/ledger/test_sealer.py",),
    ),
    Fault(
        "src/indelible/ledger/recomputing.py",
        '        if self._tile(0, number)[begun * HASH_SIZE :] != b"".join(hashes):\n',
        "        if len(self._tile(0, number)) < begun:\n",
        "full tiles are signed that do not hold the hashes of their bundles",
        ("tests/ledger/test_sealer.py",),
    ),
    Fault(
        "src/indelible/ledger/lockstore.py",
        '" WHERE origin = ? AND size = ? AND root = ?"\n',
        '" WHERE origin = ? AND size = ? AND ? IS NOT NULL"\n',
        "a head goes on from another root of the same size",
        ("tests/ledger/test_lockstore.py",),
    ),
    Fault(
        "src/indelible/ledger/witness/rules.py",
        "if request.old > request.checkpoint.size:",
        "if request.old >= request.checkpoint.size:",
        "a witness refuses to cosign the same checkpoint again",
        ("tests/ledger/witness/test_witness.py",),
    ),
    Fault(
        "src/indelible/ledger/witness/rules.py",
        "            if kept < self._most_evidence:\n",
        "            if kept <= self._most_evidence:\n",
        "a witness keeps one piece of evidence more than its limit",
        ("tests/ledger/witness/test_witness.py",),
    ),
    Fault(
        "src/indelible/erasure/retention.py",
        "        if behind >= stored:\n",
        "        if behind <= stored:\n",
        "retention moves on past events that are too young, and never comes back for them",
        ("tests/erasure/test_retention.py",),
    ),
    Fault(
        "src/indelible/erasure/retention.py",
        "entry.kind in ERASABLE and entry.received_at_ms < oldest_kept_ms",
        "entry.kind in ERASABLE and entry.received_at_ms <= oldest_kept_ms",
        "an event that has its last millisecond left is erased",
        ("tests/erasure/test_retention.py",),
    ),
    Fault(
        "src/indelible/ledger/receipts.py",
        "            if check_inclusion(index, size, hashed, hashes, head.root):\n"
        "                return hashes\n",
        "            return hashes\n",
        "a proof is handed out unchecked",
        ("tests/ledger/test_damage.py",),
    ),
    Fault(
        "src/indelible/ledger/progress.py",
        "            if one.size <= head.size:\n",
        "            if one.size < head.size:\n",
        "whoever waits for the last event of a checkpoint is not woken",
        ("tests/ledger/test_progress.py", "tests/ledger/test_waiting.py"),
    ),
    Fault(
        "src/indelible/ledger/progress.py",
        "            if newest is not None and newest.size > head.size:\n                return\n",
        "",
        "a checkpoint that comes late takes the place of a newer one",
        ("tests/ledger/test_progress.py",),
    ),
    Fault(
        "src/indelible/ledger/witness/cosigners.py",
        "for alarm in self.alarms() if alarm.origin == origin}",
        "for alarm in self.alarms()}",
        "witnesses that have seen a fork of one log are missed in the quorum of every other",
        ("tests/ledger/witness/test_cosigners.py", "tests/ledger/test_forked.py"),
    ),
    Fault(
        "src/indelible/ledger/ledger.py",
        "            if head.size >= self._published.get(log.name, 0):\n",
        "            if head.size >= 0:\n",
        "witnesses that answer late put an older checkpoint before the log's readers",
        ("tests/ledger/witness/test_witnessed.py",),
    ),
    Fault(
        "src/indelible/ledger/format/verify.py",
        "if not any(signature.name == origin for signature in signed):",
        "if not signed:",
        "a checkpoint is believed that another log of the policy has signed",
        ("tests/ledger/format/test_verify.py",),
    ),
    Fault(
        "src/indelible/ledger/restore.py",
        "if entry.leaf_entry == leaf and entry.leaf.kind in ERASABLE",
        "if entry.leaf.kind in ERASABLE",
        "a restore erases whatever stands at the index of an erased event",
        ("tests/cli/test_restore.py",),
    ),
    Fault(
        "src/indelible/ledger/seals.py",
        'f" WHERE origin = ? AND size > ? AND {column} IS NOT NULL"',
        'f" WHERE origin = ? AND size >= ? AND {column} IS NOT NULL"',
        "an event seems sealed by the checkpoint that ends just before it",
        ("tests/ledger/test_progress.py",),
    ),
    Fault(
        "src/indelible/ledger/damages.py",
        "if self._found.get((log, number), ()) != tuple(sentences):",
        "if sentences:",
        "health stays red after a damaged place is sound again",
        ("tests/ledger/test_damage.py",),
    ),
    Fault(
        "src/indelible/ledger/progress.py",
        "        with self._lock:\n"
        "            if index < self.size(project_id, level):\n"
        "                return True\n"
        "            self._waiting",
        "        if index < self.size(project_id, level):\n"
        "            return True\n"
        "        with self._lock:\n"
        "            self._waiting",
        "a checkpoint that comes between the look and the wait wakes nobody",
        ("tests/ledger/test_progress.py",),
    ),
    Fault(
        "src/indelible/erasure/retention.py",
        "received_between(project_id, 0, done.before_ms, start=done.stored)",
        "received_between(project_id, 0, 0, start=done.stored)",
        "events received while the clock was behind are never erased",
        ("tests/erasure/test_retention.py",),
    ),
    Fault(
        "src/indelible/ledger/recomputing.py",
        "    if root != growing.root():\n",
        "    if not root:\n",
        "a root is signed that the tiles give and the bundles do not",
        ("tests/ledger/test_sealer.py",),
    ),
    Fault(
        "src/indelible/ledger/scrub.py",
        "(*again, *range(first, count), *range(first))",
        "(*again, *range(first, count))",
        "a pass that begins in the middle of a log leaves out what is before",
        ("tests/ledger/test_damage.py",),
    ),
    Fault(
        "src/indelible/ledger/witness/rules.py",
        "        with self._writing:\n",
        "        if self._writing:\n",
        "two requests look at what was cosigned last before either has changed it",
        ("tests/ledger/witness/test_witness.py",),
    ),
)

_EDGE: Final = (
    Fault(
        "src/indelible/serving/head.py",
        '_ONCE: Final = (b"host", b"content-length", b"transfer-encoding")',
        '_ONCE: Final = (b"host", b"transfer-encoding")',
        "of two Content-Lengths the last one counts",
        ("tests/serving/test_head.py",),
    ),
    Fault(
        "src/indelible/serving/framing.py",
        "if end > MOST_TRAILER_BYTES or not are_fields(data[:end]):",
        "if not are_fields(data[:end]):",
        "a trailer that comes at once may be as long as it likes",
        ("tests/serving/test_framing.py",),
    ),
    Fault(
        "src/indelible/serving/connection.py",
        '        headers = [*headers, (b"connection", b"close")]\n',
        "",
        "an answer after which the connection ends does not say so",
        ("tests/edge/test_http.py", "tests/edge/test_connections.py"),
    ),
    Fault(
        "src/indelible/serving/connection.py",
        '        if exchange is not None and exchange.head.method == "HEAD":\n'
        '            body = b""\n',
        "",
        "HEAD is refused with a body",
        ("tests/edge/test_http.py", "tests/edge/test_stopping.py", "tests/serving"),
    ),
    Fault(
        "src/indelible/serving/connection.py",
        '            rest, self._unread = bytes(self._unread), b""\n'
        "            self._read_head(rest)\n",
        '            self._unread = b""\n',
        "requests that were sent ahead are never answered",
        ("tests/edge/test_http.py",),
    ),
    Fault(
        "src/indelible/serving/connection.py",
        "        self.due = self._server.now + self._server.patience.idle_s\n",
        "",
        "a connection that is idle after an answer is never closed",
        ("tests/edge/test_patience.py",),
    ),
    Fault(
        "src/indelible/serving/exchange.py",
        "closes = not (self.head.is_persistent and self.is_arrived)",
        "closes = not self.head.is_persistent",
        "after an early answer the rest of the body is read as the next request",
        ("tests/edge/test_http.py", "tests/serving", "tests/edge/test_connections.py"),
    ),
    Fault(
        "src/indelible/serving/server.py",
        "        self._held -= connection.held\n",
        "",
        "the memory of an answered request goes on counting",
        ("tests/edge/test_patience.py",),
    ),
    Fault(
        "src/indelible/serving/server.py",
        "            next(iter(self.waiting)).close_idle(CloseReason.CROWDED_OUT)\n",
        "            next(reversed(self.waiting)).close_idle(CloseReason.CROWDED_OUT)\n",
        "the last one that came gives way, and not the one that has waited longest",
        ("tests/edge/test_patience.py",),
    ),
    Fault(
        "src/indelible/edge/rates.py",
        "        self.level = min(self.rate.burst, filled)\n",
        "        self.level = filled\n",
        "a bucket fills for as long as its key is silent",
        ("tests/edge/test_rates.py",),
    ),
    Fault(
        "src/indelible/edge/rates.py",
        "wait_s = ceil((1.0 - self._bucket(key).level) / key.rate.per_s)",
        "wait_s = int((1.0 - self._bucket(key).level) / key.rate.per_s)",
        "Retry-After is rounded down, to a time when nothing may pass yet",
        ("tests/edge/test_rates.py",),
    ),
    Fault(
        "src/indelible/edge/asgi.py",
        'return origin if origin and _root_of(path) in self._open_roots else ""',
        "return origin",
        "pages of any origin may read the errors of every route",
        ("tests/edge/test_cors.py", "tests/edge/test_http.py"),
    ),
    Fault(
        "src/indelible/edge/asgi.py",
        '        (b"vary", b"Origin"),\n',
        "",
        "a cache may give one page the answer that names another",
        ("tests/edge/test_cors.py",),
    ),
    Fault(
        "src/indelible/edge/body.py",
        "        left -= len(text)\n",
        "",
        "each layer of a body has the budget of all",
        ("tests/edge/test_product.py", "tests/edge/test_body.py"),
    ),
    Fault(
        "src/indelible/edge/gate.py",
        "        if name is not None and name != own.name:\n",
        "        if name is not None and name not in self._known.snapshot.projects:\n",
        "an application key may name another project, and is not told that it stays in its own",
        ("tests/edge/test_audit.py", "tests/api/test_manage.py"),
    ),
    Fault(
        "src/indelible/registry/caller.py",
        "        if scope not in self.scopes:\n",
        "        if not self.scopes:\n",
        "a key does what it has no scope for",
        ("tests/api/test_access.py",),
    ),
    Fault(
        "src/indelible/edge/gate.py",
        "        caller.require(Scope.MANAGE)\n        return server\n",
        "        return server\n",
        "an application key reads the server's own log",
        ("tests/api/test_server_log.py",),
    ),
    Fault(
        "src/indelible/api/ledger.py",
        "Scope.MANAGE if is_servers else Scope.READ",
        "Scope.READ",
        "the files of the server's own log open for a key that reads a project",
        ("tests/api/test_server_log.py",),
    ),
    Fault(
        "src/indelible/registry/keys.py",
        "                scopes=old.scopes,\n",
        "                scopes=old.role.scopes,\n",
        "a narrowed key gets all scopes back when it is rotated",
        ("tests/api/test_access.py",),
    ),
    Fault(
        "src/indelible/registry/snapshot.py",
        "else role.scopes,\n",
        "else frozenset(),\n",
        "a key of an older journal opens nothing",
        ("tests/registry/test_registry.py",),
    ),
    Fault(
        "src/indelible/registry/registry.py",
        "                listener(self.snapshot, rows)\n",
        "                pass\n",
        "another process is not told of a key that was revoked",
        ("tests/registry/test_snapshot.py",),
    ),
    Fault(
        "src/indelible/journal/registry_tables.py",
        "_draft(event)) for event in events]\n",
        "_draft(event)) for event in events[1:]]\n",
        "a change is stored without the event that tells of it",
        ("tests/registry/test_store.py",),
    ),
    Fault(
        "src/indelible/ledger/restore.py",
        "        fits += _fits_of_ordered(",
        "        _fits_of_ordered(",
        "a backup from before the server's own log leaves a folder that does not start",
        ("tests/api/test_server_log.py",),
    ),
    Fault(
        "src/indelible/edge/large.py",
        "            self._waiting_bytes -= one.size_bytes\n",
        "",
        "large bodies that had their turn go on counting as waiting",
        ("tests/edge/test_large_bodies.py",),
    ),
    Fault(
        "src/indelible/edge/dialects/immutablelog.py",
        "payload_hash = None if result.is_erased else hashlib",
        "payload_hash = hashlib",
        "of an erased event a resend is told a hash that nobody can know any more",
        ("tests/erasure/test_erasure.py", "tests/edge/test_audit.py"),
    ),
    Fault(
        "src/indelible/edge/lost.py",
        "    if isinstance(outcome, Stored):\n        for reason",
        "    if outcome is not None:\n        for reason",
        "losses that are reported twice are counted twice",
        ("tests/edge/test_lost.py",),
    ),
    Fault(
        "src/indelible/serving/exchange.py",
        "                self._owes_continue = False\n",
        "",
        "a client that was told to continue is told so again for each part of its body",
        ("tests/edge/test_http.py", "tests/serving"),
    ),
    Fault(
        "src/indelible/serving/connection.py",
        "                self._is_half_closed = True  # the dropped requests are never answered\n",
        "",
        "a connection goes on after requests that it had sent ahead were dropped",
        ("tests/edge/test_patience.py", "tests/edge/test_http.py", "tests/serving"),
    ),
    Fault(
        "src/indelible/edge/intake.py",
        "                    if not outcomes:\n                        raise\n",
        "",
        "a large request waits for room that may never come, and is never refused",
        ("tests/edge/test_large_bodies.py", "tests/edge/test_faults.py"),
    ),
    Fault(
        "src/indelible/edge/large.py",
        "            if self._is_stopped:\n"
        '                raise Unavailable("The server is stopping")\n',
        "",
        "a large body that waited for its turn while the server stopped is a fault of ours",
        ("tests/edge/test_large_bodies.py", "tests/edge/test_stopping.py"),
    ),
)

_PROCESSES: Final = (
    Fault(
        "src/indelible/processes/feed.py",
        "            if not taken.done.wait(TAKEN_WITHIN_S):\n",
        "            if False:\n",
        "a change is acknowledged before the edges go by it",
        ("tests/processes/test_family.py",),
    ),
    Fault(
        "src/indelible/processes/feed.py",
        "            self._end(line.name)\n",
        "            pass\n",
        "an edge that hangs keeps a revoked key alive",
        ("tests/processes/test_family.py",),
    ),
    Fault(
        "src/indelible/processes/frames.py",
        "        self._begun += data[start:]\n",
        "        self._begun = bytearray()\n",
        "the beginning of a frame is forgotten where the stream was cut",
        ("tests/processes/test_frames.py",),
    ),
    Fault(
        "src/indelible/processes/zygote.py",
        "            die_with(zygote)\n",
        "",
        "an edge that reads nothing outlives its server",
        ("tests/processes/test_family.py",),
    ),
    Fault(
        "src/indelible/processes/zygote.py",
        "    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):"
        "  # the writer says when to end\n",
        "    for number in ():\n",
        "Ctrl-C ends the process that forks before the server has answered what is under way",
        ("tests/processes/test_family.py",),
    ),
    Fault(
        "src/indelible/processes/edge.py",
        "                stored.set_exception(StoringSlow())\n",
        "                pass\n",
        "a request waits for as long as the writer hangs",
        ("tests/processes/test_family.py",),
    ),
    Fault(
        "src/indelible/processes/relay.py",
        "                    case None if client.has_left:\n                        return\n",
        "",
        "a client that leaves is told of as a fault of ours",
        ("tests/processes/test_relay.py",),
    ),
    Fault(
        "src/indelible/processes/relay.py",
        "        if self._bytes > _MOST_UNSENT_BYTES:\n            self.line.pause()\n",
        "",
        "an answer that nobody reads gathers in the memory of the edge",
        ("tests/processes/test_relay.py",),
    ),
    Fault(
        "src/indelible/processes/messages.py",
        "        vars(made).update(self.facts)\n",
        "",
        "an error loses its hint on the way",
        ("tests/processes/test_frames.py",),
    ),
    Fault(
        "src/indelible/processes/family.py",
        "                if receipts is not None:\n",
        "                if True:\n",
        "who waits for a receipt is told nothing where the reader ends",
        ("tests/processes/test_reader.py",),
    ),
    Fault(
        "src/indelible/processes/family.py",
        "            if unable is not None:\n                self._fail(unable)\n",
        "            if False:\n                pass\n",
        "a start that the reader refuses is tried again and again",
        ("tests/processes/test_reader.py",),
    ),
    Fault(
        "src/indelible/processes/relay.py",
        "        if not self._is_there():\n            raise _NoLine\n",
        "",
        "without a reader requests wait, and nobody says that one should come again",
        ("tests/processes/test_reader.py",),
    ),
    Fault(
        "src/indelible/processes/children.py",
        "        metrics.keep(place.name)\n",
        "",
        "what an ended process had counted is counted no more",
        ("tests/processes/test_family.py", "tests/processes/test_reader.py"),
    ),
    Fault(
        "src/indelible/app/serving.py",
        "        await house.stop()\n    house.close()\n    writer.leave()\n",
        "        await house.stop()\n",
        "a reader that is told to stop is taken for one that was killed",
        ("tests/processes/test_reader.py",),
    ),
    Fault(
        "src/indelible/edge/rates.py",
        "                bucket.level = max(bucket.level - count, -bucket.rate.burst)\n",
        "                pass\n",
        "every process lets the whole rate pass",
        ("tests/edge/test_rates.py",),
    ),
    Fault(
        "src/indelible/metrics.py",
        "_sum([kept, ended[family.name]])\n",
        "ended[family.name]\n",
        "a counter falls when a process ends for the second time",
        ("tests/processes/test_family.py",),
    ),
)

_VOICE: Final = (
    Fault(
        "src/indelible/outlet.py",
        "            if self._dropped or self._waiting_bytes + len(line) > MOST_WAITING_BYTES:\n",
        "            if self._waiting_bytes + len(line) > MOST_WAITING_BYTES:\n",
        "lines come after a gap that is told later",
        ("tests/test_outlet.py",),
    ),
    Fault(
        "src/indelible/outlet.py",
        "        if not self._is_running and not _has_others_to_serve():\n",
        "        if not self._is_running:\n",
        "a log that no one reads stops the server",
        ("tests/test_outlet.py",),
    ),
    Fault(
        "src/indelible/edge/notice.py",
        "            self._missed[lost.project_id] += max(1, lost.count)\n",
        "",
        "a slow listener never learns that it missed something",
        ("tests/edge/test_notice.py",),
    ),
    Fault(
        "src/indelible/api/listing.py",
        "= bisect_right(listed, _read_cursor(cursor, name), key=place_of)\n",
        "= max(0, bisect_right(listed, _read_cursor(cursor, name), key=place_of) - 1)\n",
        "a page begins with the last of the page before",
        ("tests/api/test_lists.py",),
    ),
    Fault(
        "src/indelible/ledger/witness/store.py",
        "(apsw.CorruptError, apsw.NotADBError, apsw.SQLError)",
        "(apsw.Error,)",
        "a full disk retires a witness for good",
        ("tests/ledger/witness/test_witness.py",),
    ),
)

FAULTS: Final = (*_JOURNAL, *_LEDGER, *_EDGE, *_PROCESSES, *_VOICE)
