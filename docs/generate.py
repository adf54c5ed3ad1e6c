"""Writes the pages of docs/reference that are made from the code. `make docs`; `--check` compares."""

import dataclasses
import inspect
import re
import sys
from pathlib import Path

from indelible.access import ROUTES, Door
from indelible.cli.main import make_app
from indelible.cli.reference import reference
from indelible.client import Counts, Options
from indelible.client.options import ENVIRONMENT
from indelible.condition import (
    FACTS,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_TESTS,
    MAX_VALUES,
    Fact,
    Op,
    Type,
    parse,
    to_json,
)
from indelible.condition.language import GRAMMAR
from indelible.edge.dialects import DIALECTS
from indelible.edge.lost import LostWarning
from indelible.errors import IndelibleError, catalogue
from indelible.event import DropReason, Lane, LossReason, WarnReason
from indelible.metrics import REGISTRY
from indelible.serving.patience import CloseReason
from indelible.settings import Settings

CONDITION_EXAMPLES = (
    'event = "purchase" and properties.amount >= 100 and not exists(properties.coupon)',
    'kind = "audit" and meta.service in ("billing", "ledger") and meta.type != "info"',
    'event starts_with "user." or distinct_id = "user_42"',
    "received_at >= 2026-01-31 and received_at < 2026-02-01T12:00:00Z",
    'properties.plan = null or properties."price (EUR)" > 9.99',
    'properties.url contains "/pricing" and properties.country not in ("DE", "AT")',
    "index > 1000 and not (properties.$bot = true or exists(erased))",
)

FOLDER = Path(__file__).parent / "reference"

_PRODUCT_PATHS = [
    path.path for dialect in DIALECTS if dialect.lane is Lane.PRODUCT for path in dialect.paths
]


def settings_page() -> str:
    """One row a setting."""
    rows = [
        "# Settings",
        "",
        "Environment variables of `indelible serve`. An unknown `INDELIBLE_…` variable, or a value "
        "that cannot be read, refuses to start.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for field in dataclasses.fields(Settings):
        default = field.default
        shown = "" if default is None else default
        if isinstance(default, tuple):
            shown = ",".join(map(str, default))
        variable, meaning = field.metadata["variable"], field.metadata["meaning"]
        rows.append(f"| `{variable}` | {f'`{shown}`' if shown != '' else ''} | {meaning} |")
    return "\n".join(rows) + "\n"


def errors_page() -> str:
    """Every code that leaves the server, and the reasons of events."""
    rows = [
        "# Errors and reasons",
        "",
        "Every error is one flat JSON object: `ok: false`, `code` (also as `reason` and `error`), "
        "`message`, `hint`, `request_id`. Codes are permanent; messages may be reworded.",
        "",
        "## Codes",
        "",
        "| code | status | meaning | what to do |",
        "| --- | --- | --- | --- |",
    ]
    seen = set()
    for error in catalogue():
        if error.code in seen:
            continue  # a special case of the one above, on the wire the same
        seen.add(error.code)
        rows.append(f"| `{error.code}` | {_status(error)} | {error.summary} | {error.hint} |")
    rows += ["", "## Why an event was dropped", "", "| reason | meaning |", "| --- | --- |"]
    rows += [f"| `{reason}` | {reason.meaning} |" for reason in DropReason]
    rows += ["", "## Warnings on events", "", "| reason | meaning |", "| --- | --- |"]
    rows += [f"| `{reason}` | {reason.meaning} |" for reason in WarnReason]
    rows += ["", "## Why an event never left its sender", ""]
    rows += ["Counted and reported by the sender; any other reason is counted as `other`.", ""]
    rows += ["| reason | meaning |", "| --- | --- |"]
    rows += [f"| `{reason}` | {reason.meaning} |" for reason in LossReason]
    rows += ["", "## Why a report of losses was not taken", ""]
    rows += ["In `lost_warning` of the answer; the events beside it were taken all the same.", ""]
    rows += ["| reason | meaning |", "| --- | --- |"]
    rows += [f"| `{reason}` | {reason.meaning} |" for reason in LostWarning]
    return "\n".join(rows) + "\n"


def access_page() -> str:
    """Every route, and the keys that open it."""
    rows = [
        "# Who may do what",
        "",
        "A key has scopes. An application key has `write`, `read` and `query` for its project, or "
        "those that `indelible keys create application --scope …` named; an admin key has all four "
        "for every project. A caller whose key lacks the scope gets 403, and the code names it: "
        "`write_scope_missing`, `read_scope_missing`, `query_scope_missing`, "
        "`manage_scope_missing`. Without a valid key the answer is 401 `invalid_api_key`.",
        "",
        "Product ingest takes the public project token instead, which opens nothing else.",
        "",
        "| route | needs |",
        "| --- | --- |",
    ]
    doors = {
        Door.OPEN: "nothing",
        Door.TOKEN: "a project token",
        Door.METRICS: "the metrics key, else `manage`",
        Door.LEDGER: "nothing if the project's ledger is public, else `read`",
    }
    rows += [
        f"| `{route}` | {doors[access] if isinstance(access, Door) else f'`{access}`'} |"
        for route, access in ROUTES.items()
    ]
    rows += [f"| `POST {path}` | {doors[Door.TOKEN]} |" for path in _PRODUCT_PATHS]
    return "\n".join(rows) + "\n"


def metrics_page() -> str:
    """Every metric, by the name that it has at /metrics."""
    rows = [
        "# Metrics",
        "",
        inspect.cleandoc(
            """
            Served at `/metrics` in the Prometheus text format, [with a key or by a listener of
            their own](../how-to/monitor.md). In each lane, events received =
            stored + duplicate + dropped + those of requests that were refused as a whole after
            they were read (`unavailable`, `overloaded`) or are still under way.
            """
        ).replace("\n", " "),
        "",
        "| name | type | meaning |",
        "| --- | --- | --- |",
    ]
    for family in REGISTRY.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append(f"| `{name}` | {family.type} | {family.documentation} |")
    rows += ["", "## Why a connection ended", "", "| reason | meaning |", "| --- | --- |"]
    rows += [f"| `{reason}` | {reason.meaning} |" for reason in CloseReason]
    return "\n".join(rows) + "\n"


def client_page() -> str:
    """Every option of the client, every reason for a loss, every count."""
    rows = [
        "# The Python client",
        "",
        "Arguments of `Indelible(…)`, `AsyncIndelible(…)` and `indelible.configure(…)`. Sizes are "
        "in bytes, times in seconds. An argument outweighs the variables, which count in the order "
        "in which they stand here. An option that means nothing raises "
        "`InvalidOption` at construction, and nothing raises after that but the durable audit "
        "calls.",
        "",
        "## Options",
        "",
        "| option | default | variables | meaning |",
        "| --- | --- | --- | --- |",
    ]
    defaults = {field.name: field.default for field in dataclasses.fields(Options)}
    for name, meaning in _attributes(Options).items():
        default = defaults.pop(name)
        shown = "" if default is None or default == () else f"`{default}`"
        variables = ", ".join(f"`{variable}`" for variable in ENVIRONMENT.get(name, ()))
        rows.append(f"| `{name}` | {shown} | {variables} | {meaning} |")
    assert not defaults, f"options without a meaning: {defaults.keys()}"
    rows += [
        "",
        "`INDELIBLE_HEADERS` is written `Name=value,Name=value`; switches are `1`, `true`, `yes`, "
        "`on` or `0`, `false`, `no`, `off`. Where a service is configured for both vendors, "
        "`IMTBL_URL` becomes `audit_host`.",
        "",
        "## Why an event was lost",
        "",
        "In `counts().lost`, told to `on_drop`, and reported to the server with the next batch. "
        "The [reasons](errors.md#why-an-event-never-left-its-sender).",
        "",
        "## Counts",
        "",
        "`client.counts()` has those of the product events of this process, "
        "`client.audit.counts()` those of its audit events. "
        "captured = delivered + waiting + the sum of lost, always.",
        "",
        "| count | meaning |",
        "| --- | --- |",
        *(f"| `{name}` | {meaning} |" for name, meaning in _attributes(Counts).items()),
    ]
    return "\n".join(rows) + "\n"


def conditions_page() -> str:
    """The language of filters: grammar, facts, ops and limits."""
    rows = [
        "# Conditions",
        "",
        "One typed language for filters: `GET /v1/events?filter=`, `GET /v1/export?filter=`, "
        "`indelible export --filter`, `indelible tail --filter`.",
        "",
        "```text",
        *CONDITION_EXAMPLES,
        "```",
        "",
        "A test compares one fact of an event with a constant. It is false if the fact is missing "
        "or has another type: nothing is converted. `!=` and `not …` are the exact complement, so "
        '`properties.plan != "pro"` is true of an event without that property.',
        "",
        "## Facts",
        "",
        "A path begins with one of these names, which are those of the event's JSON. Members "
        'follow after a dot; a name with other characters stands in quotes: `properties."a.b"`. '
        "An erased event has `index`, `tx_id`, `kind`, `received_at` and `erased` only.",
        "",
        "| name | type | meaning |",
        "| --- | --- | --- |",
        *(f"| `{name}` | {_type(fact)} | {fact.meaning} |" for name, fact in FACTS.items()),
        "",
        "## Tests",
        "",
        "| op | true of |",
        "| --- | --- |",
        *(f"| `{op}` | {op.meaning} |" for op in Op),
        "",
        '`in_cohort("name")` is part of the language; no cohort is known to a search yet, so '
        "there it is refused. There are no regular expressions: only RE2's are safe with a pattern "
        "that somebody else typed, and they would need a C++ library on every server. Use "
        "`contains`, `starts_with`, `ends_with` and `in`.",
        "",
        "## Values",
        "",
        "| type | values |",
        "| --- | --- |",
        *(f"| {kind} | {kind.meaning} |" for kind in Type),
        "",
        "Lists and objects have no value: only `exists` is ever true of them. Of a member that an "
        "object has twice, the last one counts.",
        "",
        "## Grammar of the text form",
        "",
        "Space between words is ignored, and words are read in any case. Letters and digits are "
        "ASCII. Text has the escapes of JSON and no control characters.",
        "",
        "```ebnf",
        GRAMMAR,
        "```",
        "",
        "## JSON form",
        "",
        "For machines. A filter that begins with `{` is read as JSON. `!=` is written with `not`.",
        "",
        "```json",
        *(to_json(parse(example)) for example in CONDITION_EXAMPLES),
        "```",
        "",
        "## Limits",
        "",
        "| what | limit |",
        "| --- | --- |",
        f"| a condition, in either form | {MAX_BYTES:,} bytes in UTF-8 |",
        f"| nesting of `and`, `or`, `not` and parentheses | {MAX_DEPTH} |",
        f"| tests | {MAX_TESTS} |",
        f"| values of one `in` | {MAX_VALUES:,} |",
        "",
        "What cannot be read is 400 `invalid_condition`: `message` names the line and column, and "
        "`position` is the character, from 0.",
    ]
    return "\n".join(rows) + "\n"


def _type(fact: Fact) -> str:
    if fact.is_object:
        return "object" if fact.members is None else f"object of {fact.members}"
    return "list" if fact.type is None else str(fact.type)


def _attributes(described: type) -> dict[str, str]:
    """The attributes of a class and their meanings, from its docstring."""
    text = inspect.getdoc(described) or ""
    lines = text.partition("Attributes:\n")[2].splitlines()
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        match = re.fullmatch(r"    (\w+(?:, \w+)*): (.*)", line)
        if match is not None:
            names = match[1].split(", ")
            found |= dict.fromkeys(names, match[2])
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return {name: _as_markdown(meaning) for name, meaning in found.items()}


def _as_markdown(meaning: str) -> str:
    return meaning.strip().replace("``", "`")


PAGES = {
    "settings.md": settings_page,
    "access.md": access_page,
    "errors.md": errors_page,
    "metrics.md": metrics_page,
    "client.md": client_page,
    "conditions.md": conditions_page,
    "commands.md": lambda: reference(make_app()),
}


def _status(error: type[IndelibleError]) -> str:
    """Errors of the command line and of start-up never have a status."""
    return str(error.http_status) if error.on_the_wire else "-"


def main() -> int:
    stale = []
    for name, page in PAGES.items():
        path = FOLDER / name
        text = page()
        if "--check" in sys.argv:
            if not path.exists() or path.read_text() != text:
                stale.append(name)
        else:
            path.write_text(text)
    if stale:
        print(f"not as the code says: {', '.join(stale)}; run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
