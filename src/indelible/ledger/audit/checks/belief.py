"""Whose signature counts: a log never chooses that for an auditor who has seen it before.

The policy that the caller gives is believed; without one, that of the auditor's last visit; and the
one that the log publishes itself only when it is seen for the first time.
"""

from dataclasses import dataclass
from functools import lru_cache

from indelible.errors import KeyMalformed, PolicyMalformed
from indelible.layout import JOURNAL_FILE
from indelible.ledger.audit.checks.rows import JOURNAL
from indelible.ledger.audit.findings import Report, cannot, tampered
from indelible.ledger.audit.known import Known
from indelible.ledger.audit.memory import Remembered
from indelible.ledger.format.layout import POLICY
from indelible.ledger.format.note import LogKey
from indelible.ledger.format.policy import Policy, parse_policy
from indelible.ledger.format.verify import log_keys


@dataclass(frozen=True, slots=True)
class Belief:
    """Whose signatures count, and whose word was taken for it, in a sentence."""

    policy: Policy
    why: str


def read_own(published: str | None, known: Known, report: Report) -> Policy | None:
    """The policy that the log publishes itself, which names the key that the journal has.

    None when there is none that can be read.
    """
    if published is None:
        return None
    try:
        own = parsed(published)
    except PolicyMalformed as error:
        number = None if error.line is None else error.line - 1
        sentence = f"The log's own policy: {error.message}."
        report.add(cannot(POLICY, sentence, file=POLICY, number=number))
        return None
    if known.policy is not None and own != known.policy:
        report.note("The log's own policy is another than the one that was given.")
    if known.vkey is not None:
        _compare_key(own, known.vkey, report)
    return own


def believe(
    known: Known,
    remembered: Remembered | None,
    own: Policy | None,
    published: str | None,
    report: Report,
) -> Belief | None:
    """Choose whom to believe; None when there is nobody."""
    if known.policy is not None:
        return Belief(known.policy, "the policy that was given")
    if remembered is not None:
        if published != remembered.published_policy:
            report.add(
                cannot(
                    POLICY,
                    "The log's own policy is not the one that it had at the last audit: compare"
                    " it with what its operator announced, then name the one to believe with"
                    " --policy.",
                    file=POLICY,
                )
            )
        return Belief(parsed(remembered.policy), "the policy that this auditor remembers")
    if own is not None:
        return Belief(own, "the log's own policy, as this auditor has not seen the log before")
    return None


def _compare_key(own: Policy, vkey: str, report: Report) -> None:
    try:
        key = LogKey.parse(vkey)
    except KeyMalformed as error:
        report.add(cannot(JOURNAL, f"{error.message}.", file=JOURNAL_FILE))
        return
    if key not in log_keys(own):
        sentence = "It names another key for this log than the journal does."
        report.add(tampered(POLICY, sentence, file=POLICY))


parsed = lru_cache(maxsize=64)(parse_policy)
