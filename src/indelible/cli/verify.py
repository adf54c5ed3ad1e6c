"""``indelible verify``: check a receipt, offline."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from indelible.cli import options, screen
from indelible.cli.failure import ExitCode, called_wrongly
from indelible.clock import rfc3339
from indelible.errors import PolicyMalformed
from indelible.ledger.format.policy import MOST_POLICY_BYTES, Policy, parse_policy
from indelible.ledger.format.verify import Outcome, Verdict, Verification, verify_receipt
from indelible.untrusted import FileRefused, read_file

STDIN: Final = "-"
MOST_RECEIPT_BYTES: Final = 64 * 1024 * 1024
"""A receipt holds its event three times over: this is room for one of some ten megabytes."""

_CODES: Final = {
    Verdict.VERIFIED: ExitCode.FINE,
    Verdict.TAMPERED: ExitCode.CHECK_FAILED,
    Verdict.UNVERIFIABLE: ExitCode.BROKEN,
}
_STYLES: Final = {
    Outcome.OK: screen.GOOD,
    Outcome.FAILED: screen.BAD,
    Outcome.CANNOT: screen.UNSURE,
}
_VERDICT_STYLES: Final = {
    Verdict.VERIFIED: screen.GOOD,
    Verdict.TAMPERED: screen.BAD,
    Verdict.UNVERIFIABLE: screen.UNSURE,
}

PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="Which logs and witnesses you believe: a tlog-policy file.",
    ),
]


def register(app: typer.Typer) -> None:
    app.command(
        epilog=options.examples(
            "indelible verify order-1.tlog-proof --policy shop.policy",
            "curl -s …/receipt | indelible verify - --policy shop.policy --json",
        )
    )(verify)


def verify(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A receipt (.tlog-proof), or - for stdin.")
    ],
    policy: PolicyFile = None,
    as_json: options.Json = False,
) -> int:
    """Check a receipt without any server: needs the receipt and a policy, nothing else.

    Exit code 0 when it is verified, 1 when it was tampered with, 3 when it cannot be checked: it is
    cut short, of an unknown version, or from a log that the policy does not name.
    """
    if policy is None:
        raise called_wrongly(
            "A receipt proves nothing without knowing whose signature counts",
            hint="indelible verify FILE --policy POLICY; every log serves its own at "
            "/ledger/<log>/policy, which you fetch once and keep.",
        )
    found = verify_receipt(_content(file), read_policy(policy))
    if as_json:
        screen.raw(json.dumps(_body(found), ensure_ascii=False).encode())
    else:
        _show(found)
    return _CODES[found.verdict]


def read_policy(path: Path) -> Policy:
    """The policy in a file.

    Raises:
        Failure: there is no such file, or it is not one to read.
        PolicyMalformed: it is no policy; the message names the line.
    """
    content = named_file(path, most_bytes=MOST_POLICY_BYTES)
    try:
        return parse_policy(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise PolicyMalformed(f"{path}: byte {error.start} is not UTF-8") from None
    except PolicyMalformed as error:
        raise PolicyMalformed(f"{path}, {error.message}") from None


def named_file(path: Path, *, most_bytes: int) -> bytes:
    """A file that was named on the command line.

    Raises:
        Failure: there is none.
        OSError: it cannot be read, is no regular file, or is longer than `most_bytes`.
    """
    if path.is_dir():
        raise called_wrongly(f"{path} is no file", hint="Check the path.")
    try:
        return read_file(path, most_bytes=most_bytes)
    except (FileNotFoundError, NotADirectoryError):
        raise called_wrongly(f"{path} is no file", hint="Check the path.") from None


def _content(file: str) -> bytes:
    if file != STDIN:
        return named_file(Path(file), most_bytes=MOST_RECEIPT_BYTES)
    content = sys.stdin.buffer.read(MOST_RECEIPT_BYTES + 1)
    if len(content) > MOST_RECEIPT_BYTES:
        raise FileRefused(f"it is longer than {MOST_RECEIPT_BYTES:,} bytes", "stdin")
    return content


def _show(found: Verification) -> None:
    for step in found.steps:
        screen.line(
            (f"{step.outcome:<17}", _STYLES[step.outcome]), f"  {step.name:<9}  ", step.sentence
        )
    screen.facts(
        [
            ("verdict", [(found.verdict.value, _VERDICT_STYLES[found.verdict])]),
            *((name, str(value)) for name, value in _facts(found)),
        ]
    )


def _facts(found: Verification) -> list[tuple[str, str]]:
    """What the receipt says of its event, as far as it can be read."""
    received = found.received_at_ms
    facts: list[tuple[str, object]] = [
        ("log", found.origin),
        ("index", found.index),
        ("log size", found.size),
        ("transaction", found.tx_id),
        ("kind", found.kind),
        ("received", None if received is None else moment(received)),
        ("payload", _text(found.payload)),
        ("record", _text(found.record)),
        *(
            ("witnessed", f"{moment(seen.at_s * 1000)} by {seen.witness}")
            for seen in found.witnesses
        ),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def moment(at_ms: int) -> str:
    """A time that somebody claims: it may be one that no calendar has."""
    try:
        return rfc3339(at_ms)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms since 1970"


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "replace")


def _body(found: Verification) -> dict[str, Any]:
    received = found.received_at_ms
    return {
        "verdict": found.verdict.value,
        "steps": [
            {"step": step.name, "outcome": step.outcome.value, "sentence": step.sentence}
            for step in found.steps
        ],
        "log": found.origin,
        "index": found.index,
        "log_size": found.size,
        "tx_id": found.tx_id,
        "kind": found.kind,
        "received_at": None if received is None else moment(received),
        "payload": _text(found.payload),
        "record": _text(found.record),
        "witnesses": [
            {"witness": seen.witness, "at": moment(seen.at_s * 1000)} for seen in found.witnesses
        ],
    }
