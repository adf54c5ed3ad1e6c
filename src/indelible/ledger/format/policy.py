"""Policies as the C2SP draft tlog-policy defines them: which logs and witnesses to believe. Pure.

A policy is lines of items with spaces or tabs between them; ``#`` begins a comment line.

    log <vkey> [url]
    witness <name> <vkey> [url]
    group <name> all|any|<k> <member> ...
    quorum <name>|none

A group names witnesses and groups above it; each name is a member once at most. The quorum is one
witness or group that must be satisfied, or none.

>>> from indelible.ledger.format.cosignature import Cosigner
>>> from indelible.ledger.format.note import Signer
>>> log = Signer("log.example/x", bytes(32)).key
>>> w1, w2, w3 = (Cosigner(f"w{i}", bytes([i]) * 32).key for i in (1, 2, 3))
>>> policy = parse_policy(f'''
... log {log.text}
... witness w1 {w1.text}
... witness w2 {w2.text}
... witness w3 {w3.text}
... group two 2 w1 w2 w3
... quorum two
... ''')
>>> policy.is_met({"w1"}), policy.is_met({"w1", "w3"})
(False, True)
"""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from indelible.errors import KeyMalformed, PolicyMalformed
from indelible.ledger.format.cosignature import WitnessKey
from indelible.ledger.format.note import COSIGNATURE, ED25519, LogKey, PublicKey

MOST_LINES: Final = 4_096
MOST_POLICY_BYTES: Final = 1024 * 1024
"""The longest file that is read as a policy."""
NO_QUORUM: Final = "none"

_FORBIDDEN: Final = re.compile("[^\t\n\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]")
_ITEMS: Final = re.compile("[ \t]+")


@dataclass(frozen=True, slots=True)
class KnownLog:
    """A log whose signature counts, and where it is served, if the policy says so."""

    key: LogKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness by the name that the policy gives it; `url` is where it takes checkpoints."""

    name: str
    key: WitnessKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Satisfied when `needed` of `members`, names of witnesses or groups, are."""

    name: str
    needed: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom to believe; `quorum` names a witness or a group, None for no cosignature at all."""

    logs: tuple[KnownLog, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str | None = None

    def is_met(self, witnesses: AbstractSet[str]) -> bool:
        """Whether the cosignatures of `witnesses`, by their names here, are enough."""
        satisfied = {one.name for one in self.witnesses if one.name in witnesses}
        for group in self.groups:  # a group refers to names above it only
            if sum(member in satisfied for member in group.members) >= group.needed:
                satisfied.add(group.name)
        return self.quorum is None or self.quorum in satisfied

    @property
    def text(self) -> str:
        """The policy as a file."""
        lines = [_line("log", log.key.text, log.url) for log in self.logs]
        lines += [_line("witness", one.name, one.key.text, one.url) for one in self.witnesses]
        for group in self.groups:
            lines.append(_line("group", group.name, _needed(group), *group.members))
        lines.append(_line("quorum", self.quorum or NO_QUORUM))
        return "".join(lines)


def parse_policy(text: str) -> Policy:
    """
    Raises:
        PolicyMalformed: it breaks one of the rules above; the message names the line.
    """
    lines = text.split("\n")
    if len(lines) > MOST_LINES:
        raise PolicyMalformed(f"A policy has at most {MOST_LINES:,} lines")
    reading = _Reading()
    for number, line in enumerate(lines, start=1):
        try:
            reading.take(line)
        except (PolicyMalformed, KeyMalformed) as error:
            raise PolicyMalformed(error.message, line=number) from None
    return reading.policy()


class _Reading:
    """The rules of the format, line by line."""

    def __init__(self) -> None:
        self._logs: list[KnownLog] = []
        self._witnesses: list[Witness] = []
        self._groups: list[Group] = []
        self._quorums: list[str] = []
        self._names: set[str] = set()
        self._members: set[str] = set()
        self._keys: set[bytes] = set()

    def take(self, line: str) -> None:
        if line.endswith("\r"):
            raise PolicyMalformed("it ends with CR LF; save the file with LF line endings")
        if _FORBIDDEN.search(line):
            raise PolicyMalformed("a control character that a policy may not hold")
        items = [item for item in _ITEMS.split(line) if item]
        if not items or items[0].startswith("#"):
            return
        match items:
            case ["log", vkey, *url] if len(url) <= 1:
                self._logs.append(KnownLog(self._log_key(vkey), url[0] if url else None))
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._define(name)
                key = self._witness_key(vkey)
                self._witnesses.append(Witness(name, key, url[0] if url else None))
            case ["group", name, needed, *members] if members:
                self._take_members(members)
                self._define(name)
                count = _count(needed, len(members))
                self._groups.append(Group(name, count, tuple(members)))
            case ["quorum", name]:
                self._take_quorum(name)
            case [("log" | "witness" | "group" | "quorum") as word, *_]:
                raise PolicyMalformed(f"`{word}` has too few or too many items")
            case [word, *_]:
                raise PolicyMalformed(f"{word!r} is none of log, witness, group, quorum")

    def policy(self) -> Policy:
        if not self._quorums:
            raise PolicyMalformed("there is no line `quorum`; write `quorum none` if none is meant")
        name = self._quorums[0]
        return Policy(
            tuple(self._logs),
            tuple(self._witnesses),
            tuple(self._groups),
            None if name == NO_QUORUM else name,
        )

    def _take_quorum(self, name: str) -> None:
        if self._quorums:
            raise PolicyMalformed("a second line `quorum`; there is exactly one")
        if name != NO_QUORUM and name not in self._names:
            raise PolicyMalformed(f"{name!r} is neither a witness nor a group above this line")
        self._quorums.append(name)

    def _take_members(self, members: list[str]) -> None:
        for member in members:
            if member not in self._names:
                raise PolicyMalformed(
                    f"{member!r} is neither a witness nor a group above this line"
                )
            if member in self._members:
                raise PolicyMalformed(f"{member!r} is a member already; each name is one once")
            self._members.add(member)

    def _define(self, name: str) -> None:
        if name == NO_QUORUM:
            raise PolicyMalformed(f"{NO_QUORUM!r} cannot be a name")
        if name in self._names:
            raise PolicyMalformed(f"{name!r} is defined already")
        self._names.add(name)

    def _log_key(self, vkey: str) -> LogKey:
        return LogKey.parse(self._key(vkey, ED25519, "a log"))

    def _witness_key(self, vkey: str) -> WitnessKey:
        return WitnessKey.parse(self._key(vkey, COSIGNATURE, "a witness"))

    def _key(self, vkey: str, kind: int, whose: str) -> str:
        key = PublicKey.parse(vkey)
        if key.kind != kind:
            raise PolicyMalformed(f"{key.name}: the key of {whose} is of type {kind:#04x}")
        if key.public in self._keys:
            raise PolicyMalformed(f"{key.name}: this key stands in the policy already")
        self._keys.add(key.public)
        return vkey


def _count(needed: str, members: int) -> int:
    if needed == "all":
        return members
    if needed == "any":
        return 1
    if needed.isascii() and needed.isdigit() and needed[0] != "0" and len(needed) <= 4:
        count = int(needed)
        if count <= members:
            return count
    raise PolicyMalformed(f"{needed!r} is none of all, any, and 1 to {members}")


def _needed(group: Group) -> str:
    if group.needed == len(group.members):
        return "all"
    return "any" if group.needed == 1 else str(group.needed)


def _line(*items: str | None) -> str:
    return " ".join(item for item in items if item is not None) + "\n"
