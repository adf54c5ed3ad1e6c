"""docs/reference/limits.md says what the code does: each figure of a row is the code's own."""

import re
from pathlib import Path

import pytest

from indelible import outlet, serving
from indelible.accounting import account, accounting
from indelible.api import deadline, erasures, listing, reading
from indelible.api import live as live_routes
from indelible.api import schema as schema_routes
from indelible.cli import audit as audit_command
from indelible.cli import server as way_to_server
from indelible.cli import verify
from indelible.condition import terms
from indelible.edge import (
    admission,
    body,
    bots,
    brackets,
    http,
    intake,
    large,
    lost,
    notice,
    shallow,
    waiting,
)
from indelible.edge.dialects import immutablelog, immutablelog_schema, vtilt, vtilt_unread
from indelible.event import MAX_COUNT
from indelible.identity import decisions, facts, person, persons
from indelible.journal import commit, fair, outside, sqlite
from indelible.journal.tables import INDEX_BITS
from indelible.ledger import damages, growth, part, sealer, witnessing
from indelible.ledger.audit import findings, sources
from indelible.ledger.audit.checks import files
from indelible.ledger.format import layout, note, policy
from indelible.ledger.witness import rules
from indelible.live import active, budget, live, messages, ring, rings, streams, windows
from indelible.live import facts as live_facts
from indelible.moment import MAX_CHARS as MOST_TIME_CHARS
from indelible.network import MOST_HOPS
from indelible.processes import children, feed, notices, relay
from indelible.quality import book, contract, schema, shape, walk
from indelible.query import erasures as query_erasures
from indelible.query import events as search
from indelible.query import persons as query_persons
from indelible.query import schema as schemas
from indelible.query import senders
from indelible.record import MAX_REASONS
from indelible.serving import framing, head
from indelible.serving.patience import Patience
from indelible.settings import Settings

PAGE = Path(__file__).parents[1] / "docs/reference/limits.md"
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
MOST_COUNTED = f"2{str((MAX_COUNT + 1).bit_length() - 1).translate(RAISED)} \N{MINUS SIGN} 1"
PATIENCE, SETTINGS = Patience(), Settings()


def size(count: int) -> str:
    """Bytes as the page writes them."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count % factor == 0:
            return f"{count // factor:,} {unit}"
    return f"{count:,} bytes"


def s(seconds: float) -> str:
    """Seconds as the page writes them."""
    return f"{seconds:,.10g} s"


def n(count: float) -> str:
    """A number as the page writes it."""
    return f"{count:,}"


# The beginning of each row, and the figures of its limit; every digit there is one of them.
FIGURES: dict[str, tuple[str, ...]] = {
    "open connections": (
        f"{serving._SHARE_OF_DESCRIPTORS:.0%}".replace("%", " %"),
        n(serving._MOST_CONNECTIONS),
    ),
    "requests of other routes than ingest": (n(relay.MOST_RELAYED),),
    "a change of keys or projects until": (s(feed.TAKEN_WITHIN_S),),
    "a process of the server without a word": (s(children.HANGS_S),),
    "the process that answers other requests than ingest": (s(children.SILENT_S),),
    "connection to its first byte": (s(PATIENCE.first_byte_s),),
    "head of a request": (s(PATIENCE.head_s),),
    "idle connection": (s(PATIENCE.idle_s),),
    "body under way": (
        f"{size(PATIENCE.body_bytes_per_s)}/s",
        s(PATIENCE.body_grace_s),
        f"{PATIENCE.body_s / 60:g} minutes",
    ),
    "answer that a client does not read": (
        f"{size(PATIENCE.answer_bytes_per_s)}/s",
        s(PATIENCE.answer_window_s),
    ),
    "what a client sends after a last answer": (s(PATIENCE.linger_quiet_s), s(PATIENCE.linger_s)),
    "requests under way at the stop": (s(PATIENCE.stop_s),),
    "bytes held of requests under way": (
        size(SETTINGS.max_receiving_bytes),
        size(PATIENCE.small_bytes),
    ),
    "request line and header fields": (size(head.MOST_HEAD_BYTES), f"{head.MOST_FIELDS} fields"),
    "query parameters of a request": (n(http.MOST_PARAMETERS),),
    "hops of X-Forwarded-For": (n(MOST_HOPS),),
    "line with the size of a chunk": (
        size(framing.MOST_SIZE_LINE_BYTES),
        size(framing.MOST_TRAILER_BYTES),
    ),
    "body on the wire": (size(SETTINGS.max_body_bytes),),
    "body unpacked": (size(body.FREE_BYTES), f"{body.MOST_RATIO} times"),
    "layers of gzip, form, base64": (n(body._LAYERS),),
    "members of a gzip stream": (n(body._GZIP_MEMBERS),),
    "members of a body; of an event": (n(shallow.MAX_MEMBERS),),
    f"large bodies (over {size(body.SMALL_BYTES)} unpacked)": (
        "1 of",
        size(large.SHORT_BYTES),
        "1 longer",
    ),
    "large bodies waiting for their turn": (
        size(SETTINGS.max_waiting_bytes),
        s(large.LONGEST_WAIT_S),
    ),
    "`sent_at`, `historical_migration`": (size(vtilt._LONGEST_FIELD_BYTES),),
    "a token in a body": (f"{vtilt_unread.LONGEST_TOKEN_BYTES:,} bytes",),
    "product events a batch": (n(SETTINGS.max_batch),),
    "audit events a batch": (n(immutablelog_schema.MAX_BATCH),),
    "one product event": (
        size(SETTINGS.max_event_bytes),
        f"{admission.MAX_PROPERTIES:,} property keys",
        f"{brackets.MAX_VALUES:,} values",
    ),
    "nesting": (n(brackets.MAX_DEPTH),),
    "event name, `distinct_id`": (f"{admission.MAX_NAME_CHARS} characters",),
    "`uuid`": (f"{admission.MAX_CLIENT_ID_CHARS} characters",),
    "`timestamp`": (f"{MOST_TIME_CHARS} characters", "the years 1 to 9999"),
    "User-Agent": (f"{bots._LOOKED_AT_CHARS} characters",),
    "audit payload": (size(SETTINGS.max_payload_bytes),),
    "unknown members of an audit event": (f"nesting {brackets.MAX_DEPTH}",),
    "meta": (
        f"{immutablelog_schema.MAX_META_KEYS} keys",
        f"{immutablelog_schema.MAX_META_KEY_CHARS} characters",
        n(immutablelog_schema.MAX_META_VALUE_CHARS),
        size(immutablelog._LONGEST_META_BYTES),
    ),
    "Idempotency-Key": (f"1 to {immutablelog._LONGEST_KEY}",),
    "`lost` of a batch": (
        size(lost.MAX_REPORT_BYTES),
        f"{MAX_REASONS} reasons",
        "64 characters",
        MOST_COUNTED,
    ),
    "`sequence` of an event": (MOST_COUNTED,),
    "gaps of an account": (n(account.MAX_GAPS),),
    "account of a silent process": (f"{accounting.KEPT_DAYS} days",),
    "names of events in a schema": (
        f"{schema.MAX_EVENTS:,} of product",
        f"{schema.MAX_EVENTS:,} of audit",
        f"{shape.MAX_NAME_CHARS} characters",
    ),
    "properties in a schema": (
        f"{schema.MAX_PROPERTIES_OF_EVENT} of an event",
        f"{schema.MAX_PROPERTIES:,} of product",
        f"{schema.MAX_PROPERTIES:,} of audit",
        f"{schema.MAX_SHAPES} shapes",
    ),
    "events that a schema looks into": (
        f"{schema.LOOKED_OF_NAME} of a name in a second",
        f"after {schema.WELL_KNOWN:,} of it",
        f"in {schema._LONGER} seconds",
        f"{schema.LOOKED_OF_LANE} of a project's",
        f"first {schema.ALWAYS_LOOKED} of a name",
    ),
    "what a schema looks at of one event": (
        size(schema.LARGEST_LOOKED_BYTES),
        f"{walk.MAX_VALUES} values",
        f"{walk.MAX_DEPTH} names deep",
        f"{walk.MAX_ELEMENTS} elements",
    ),
    "page of a schema": (f"{schemas.MAX_LIMIT} events",),
    "contract of an event": (
        size(contract.MAX_BYTES),
        f"{contract.MAX_PROPERTIES} properties",
        f"{contract.MAX_VALUES} values",
        f"{contract.MAX_TEXT_CHARS} characters",
        f"{book.MAX_CONTRACTS} contracts",
    ),
    "events that are held to contracts": (f"{schema.CHECKED_OF_LANE} of a project's",),
    "what a contract counts": (
        f"{schema.MAX_RULES} rules",
        f"newest {schema.MAX_TX_IDS} transaction ids",
    ),
    "time that a change of a contract waits": (s(schema_routes._IN_FORCE_WITHIN_S),),
    "properties of a person": (
        n(person.PROPERTIES_KEPT),
        size(person.PROPERTY_BYTES_KEPT),
    ),
    "properties read for a person": (n(persons.PROPERTIES_READ), n(persons.WRITES_READ)),
    "groups of an event": (str(facts.MAX_UNITS), f"{facts.MAX_UNIT_CHARS} characters"),
    "`actor` of an audit event": (f"{facts.MAX_ACTOR_CHARS} characters",),
    "ids of one unmerge": (n(decisions.MAX_TAKEN_OUT),),
    "persons of one merge": (str(decisions.MAX_MERGED),),
    "persons that one page of a search looks at": (n(persons.LOOKED_AT),),
    "page of senders": (f"{senders.MAX_LIMIT} accounts", f"{senders.GAPS_PER_PAGE:,} gaps"),
    "events of one request that are stored": (n(intake._RUN_DRAFTS), size(intake._RUN_BYTES)),
    "events waiting for their sync": (size(SETTINGS.max_waiting_bytes), n(commit._BATCH_EVENTS)),
    "events of one source in a group": (n(fair.QUANTUM),),
    "time until a sync": (s(commit.ANSWERED_WITHIN_S),),
    "a sync under way": (s(commit.STUCK_S),),
    "time until a read begins to answer": (s(deadline.READ_WITHIN_S),),
    "time until a change begins to answer": (s(deadline.CHANGE_WITHIN_S), "4 s"),
    "time that the receipts of a `?wait=`": (s(waiting._READ_WITHIN_S),),
    "events a second of a token or key": ("0.001 to 1,000,000",),
    "origins of a token, networks": ("64 each",),
    "free disk": (
        f"{SETTINGS.product_min_free_percent:g} % for product",
        f"{SETTINGS.audit_min_free_percent:g} % for audit",
    ),
    "page of a search": (
        f"{search.MAX_LIMIT} events",
        size(search.PAGE_BYTES),
        f"{search.SCANNED_PER_PAGE:,} events",
        size(search.SCANNED_BYTES_PER_PAGE),
        s(search.SCANNING_S),
    ),
    "page of projects, of keys": (n(listing.MOST_LISTED), size(listing.MOST_LISTED_BYTES)),
    "a filter": (
        size(terms.MAX_BYTES),
        f"{terms.MAX_TESTS} tests",
        f"{terms.MAX_DEPTH} levels",
        f"{terms.MAX_VALUES:,} values",
    ),
    "excerpt of what was refused": (
        size(notice.EXCERPT_BYTES),
        f"{notice.MOST_EXCERPTS_A_SECOND} a second",
    ),
    "what was refused or dropped and one": (f"{notice.MOST_UNREAD} excerpts",),
    "notices of it under way": (size(notices.MOST_UNSENT_BYTES),),
    "messages that the debug stream remembers": (
        f"{ring.MOST_ENTRIES:,},",
        f"{ring.LONGEST_MS // 60_000} minutes",
        size(rings.MOST_BYTES),
    ),
    "streams of the debug view": (
        f"{streams.MOST_STREAMS},",
        f"{streams.MOST_STREAMS_OF_PROJECT} ",
    ),
    "a stream of the debug view": (
        f"{live_routes.MOST_SECONDS // 3600} hours",
        f"{size(streams._MOST_BYTES_PER_S)}/s",
        f"{streams._FILTERING_SHARE:.0%}".replace("%", " %"),
    ),
    "an event in the debug stream": (size(messages.SHOWN_BYTES), size(messages.EXCERPT_BYTES)),
    "realtime figures of a project": (
        f"{windows.MOST_NAMES:,} names",
        f"{windows.MOST_NAMES:,} pathnames",
        f"{live_facts.MOST_PATH_CHARS:,} characters",
        f"{active.MOST_TEXTS:,} distinct ids",
    ),
    "realtime figures of all projects": (
        size(budget.MOST_TEXT_BYTES),
        f"{budget.MOST_ROWS:,} rows",
        "12 bytes",
        f"{budget.MOST_IDS:,} hashes",
        f"{budget.MOST_ID_TEXTS:,} ids",
    ),
    "entries that a start reads again": (n(live.MOST_REFILLED),),
    "piece of an export": (size(search.PIECE_BYTES),),
    "pages and pieces made at the same time": (n(reading.MADE_AT_ONCE),),
    "events of a request with `?wait=`": (n(waiting.MOST_RECEIPTS),),
    "`timeout` of a wait": (s(waiting.LONGEST_WAIT_S),),
    "time between two checkpoints": (f"{SETTINGS.seal_interval_ms} ms",),
    "events that one checkpoint adds": (n(growth.MOST_ENTRIES),),
    "logs that are sealed together": (n(sealer.Sealer.together), n(growth.MOST_ENTRIES)),
    "what the scrub reads": (size(SETTINGS.scrub_bytes_per_s),),
    "`ledger.alarms` in `/healthz`": (
        f"{part.MOST_ALARMS};",
        f"{damages._MOST_SHOWN},",
        n(damages._MOST_KEPT),
    ),
    "transaction ids of an erasure": (n(erasures.MOST_TX_IDS), size(erasures._MAX_BODY_BYTES)),
    "actors of an erasure": (n(erasures.MOST_ACTORS), n(erasures.MOST_IDS_SHOWN)),
    "wait for the persons to be up to date": (
        s(query_erasures.CAUGHT_UP_WITHIN_S),
        s(query_persons.FOLDED_WITHIN_S),
        s(query_persons.FRESH_WITHIN_S),
        s(query_erasures.SWEPT_WITHIN_S),
    ),
    "persons, merge facts, writes, events of a page": (
        n(query_persons.MAX_LIMIT),
        size(query_persons.PAGE_BYTES),
        n(query_persons.MAX_IDS),
    ),
    "merge facts shown with a person": (n(query_persons.MERGES_SHOWN),),
    "events erased in one transaction": (n(sqlite._MOST_ERASED),),
    "a witness's time for an answer": (s(witnessing._TIMEOUT_S),),
    "signature lines of a note": (n(note.MOST_SIGNATURES),),
    "refused requests that a witness keeps": (n(rules.MOST_EVIDENCE),),
    "findings of an audit": (n(findings.MOST_FINDINGS),),
    "a tile, an entry bundle": (
        "8 KiB",
        size(layout.MOST_BUNDLE_BYTES),
        size(note.MOST_NOTE_BYTES),
        size(policy.MOST_POLICY_BYTES),
    ),
    "a receipt that `verify` reads": (size(verify.MOST_RECEIPT_BYTES),),
    "a value in a journal": (size(outside.MOST_VALUE_BYTES),),
    "one file from an address": (s(sources._TIMEOUT_S), s(audit_command._LONGEST_S)),
    "files in a log's folder": (n(files._MOST_BESIDES), f"{sources._DEEPEST} folders"),
    "an answer that a command holds": (
        size(way_to_server.MOST_ANSWER_BYTES),
        s(2 * way_to_server._TIMEOUT_S),
    ),
    "lines of the log that wait": (size(outlet.MOST_WAITING_BYTES), s(outlet.LAST_WORDS_S)),
    "projects, events of a project": ("2²²", f"2{str(INDEX_BITS).translate(RAISED)}"),
}


def rows() -> list[tuple[str, str]]:
    """What is limited, and the limit, of the server's table."""
    table = PAGE.read_text().split("## The client")[0]
    cells = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return [(what.strip(), limit.strip()) for what, limit, *_ in cells[1:]]


def figures_of(what: str) -> tuple[str, ...]:
    (found,) = [figures for begin, figures in FIGURES.items() if what.startswith(begin)]
    return found


@pytest.mark.parametrize(("what", "limit"), rows(), ids=[str(i) for i in range(len(rows()))])
def test_every_figure_of_a_row_is_the_codes(what: str, limit: str) -> None:
    has_figures = re.search(r"[0-9²³⁰⁴-⁹]", limit)
    if not has_figures:
        return
    left = limit.replace("base64", "")
    for figure in figures_of(what):
        assert figure in left, (what, figure)
        left = left.replace(figure, "", 1)
    assert not re.search(r"[0-9²³⁰⁴-⁹]", left), (what, left)


def test_every_figure_has_its_row() -> None:
    for begin in FIGURES:
        assert 1 == sum(what.startswith(begin) for what, _ in rows()), begin
