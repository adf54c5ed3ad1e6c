"""Policies: both ways, every rule, and who satisfies a quorum."""

import contextlib
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.errors import PolicyMalformed
from indelible.ledger.format.cosignature import Cosigner
from indelible.ledger.format.note import Signer
from indelible.ledger.format.policy import (
    MOST_LINES,
    Group,
    KnownLog,
    Policy,
    Witness,
    parse_policy,
)
from tests.ledger.format import worked

LOGS = [Signer(f"log.example/{n}", bytes([n]) * 32).key for n in range(40)]
KEYS = [Cosigner(f"witness.example/{n}", bytes([100 + n]) * 32).key for n in range(40)]
LOG = f"log {LOGS[0].text}\n"
WITNESSES = "".join(f"witness w{n} {KEYS[n].text}\n" for n in range(1, 6))

WHOLE = (
    f"# whom we believe\n\n{LOG}log\t{LOGS[1].text}  https://log.example/1/ \n"
    f"{WITNESSES}"
    f"witness w6 {KEYS[6].text} https://witness.example/6/\n"
    "group near all w1 w2\n"
    "group far any w3 w4\n"
    "  group\tboth 2 near far w5 \t\n"
    "quorum both"
)
READ = Policy(
    (KnownLog(LOGS[0]), KnownLog(LOGS[1], "https://log.example/1/")),
    (
        *(Witness(f"w{n}", KEYS[n]) for n in range(1, 6)),
        Witness("w6", KEYS[6], "https://witness.example/6/"),
    ),
    (
        Group("near", 2, ("w1", "w2")),
        Group("far", 1, ("w3", "w4")),
        Group("both", 2, ("near", "far", "w5")),
    ),
    "both",
)


def test_a_policy_is_read_line_by_line() -> None:
    assert READ == parse_policy(WHOLE)


@pytest.mark.parametrize(
    "policy",
    [
        READ,
        Policy(),
        Policy((KnownLog(LOGS[0]),), (Witness("w", KEYS[0]),), (), "w"),
        Policy(
            tuple(KnownLog(key) for key in LOGS),
            tuple(Witness(f"w{n}", key, f"http://w/{n}") for n, key in enumerate(KEYS)),
            tuple(Group(f"g{n}", 1, (f"w{n}",)) for n in range(40)),
            "g39",
        ),
    ],
)
def test_a_policy_is_read_as_it_was_written(policy: Policy) -> None:
    assert policy == parse_policy(policy.text)
    assert policy.text == parse_policy(policy.text).text


def test_a_policy_cut_anywhere_before_its_quorum_is_none() -> None:
    complete = len(READ.text) - 1  # without the last line feed it says the same
    for cut in worked.cuts(READ.text):
        if len(cut) == complete:
            assert READ == parse_policy(cut)
        else:
            with pytest.raises(PolicyMalformed):
                parse_policy(cut)


def test_every_single_bit_of_a_policy_counts() -> None:
    text = Policy(
        (KnownLog(LOGS[0]),), (Witness("w", KEYS[0]),), (Group("g", 1, ("w",)),), "g"
    ).text
    for flipped in worked.flips(text):
        with contextlib.suppress(PolicyMalformed):
            assert parse_policy(text) != parse_policy(flipped)


def test_a_quorum_is_met_by_those_who_satisfy_it() -> None:
    names = [witness.name for witness in READ.witnesses]
    for count in range(len(names) + 1):
        for some in combinations(names, count):
            cosigned = set(some)
            near = {"w1", "w2"} <= cosigned
            far = bool({"w3", "w4"} & cosigned)
            expected = near + far + ("w5" in cosigned) >= 2
            assert expected == READ.is_met(cosigned), cosigned


def test_the_name_of_a_group_or_of_a_stranger_satisfies_nothing() -> None:
    assert not READ.is_met({"both"})
    assert not READ.is_met({"near", "far"})
    assert not READ.is_met({"w1", "nobody"})
    alone = parse_policy(f"{WITNESSES}quorum w2")
    assert alone.is_met({"w2"})
    assert not alone.is_met({"w1", "w3", "w4", "w5"})


def test_no_quorum_is_met_by_nobody() -> None:
    policy = parse_policy(f"{LOG}{WITNESSES}quorum none\n")
    assert policy.quorum is None
    assert policy.is_met(set())


BROKEN = [
    # what, its line, the message names
    ("quorum w1", 1, "w1"),
    (f"{WITNESSES}quorum w1\nquorum w1", 7, "quorum"),
    (f"{WITNESSES}quorum none\nquorum w1", 7, "quorum"),
    ("quorum", 1, "quorum"),
    ("quorum none none", 1, "quorum"),
    ("log", 1, "log"),
    (f"{LOG.strip()} url more", 1, "log"),
    ("log nothing", 1, "nothing"),
    (f"\n\nlog {LOGS[0].text[:-1]}", 3, "log.example/0"),
    (f"log {KEYS[0].text}", 1, "0x01"),
    (f"{LOG}{LOG}", 2, "already"),
    ("witness w", 1, "witness"),
    (f"witness w {KEYS[0].text} url more", 1, "witness"),
    (f"witness w {LOGS[0].text}", 1, "0x04"),
    (f"witness none {KEYS[0].text}", 1, "none"),
    (f"witness w {KEYS[0].text}\nwitness v {KEYS[0].text}", 2, "already"),
    (f"witness w {KEYS[0].text}\nwitness w {KEYS[1].text}", 2, "'w' is defined"),
    (f"{WITNESSES}group w1 any w2", 6, "w1"),
    (f"{WITNESSES}group none any w2", 6, "none"),
    (f"{WITNESSES}group g any", 6, "group"),
    (f"{WITNESSES}group g w1", 6, "group"),
    (f"{WITNESSES}group g any g", 6, "'g'"),
    (f"{WITNESSES}group g any h\ngroup h any w1", 6, "'h'"),
    (f"{WITNESSES}group g any w1 w1", 6, "w1"),
    (f"{WITNESSES}group g any w1\ngroup h any w1", 7, "w1"),
    (f"{WITNESSES}group g 0 w1", 6, "'0'"),
    (f"{WITNESSES}group g 3 w1 w2", 6, "'3'"),
    (f"{WITNESSES}group g 01 w1 w2", 6, "'01'"),
    (f"{WITNESSES}group g -1 w1 w2", 6, "'-1'"),
    (f"{WITNESSES}group g 1.0 w1 w2", 6, "'1.0'"),
    (f"{WITNESSES}group g ² w1 w2", 6, "²"),
    (f"{WITNESSES}group g {'9' * 5000} w1 w2", 6, "999"),
    (f"{WITNESSES}group g ALL w1 w2", 6, "ALL"),
    (f"{LOG}Quorum none", 2, "Quorum"),
    (f"{LOG}quorums none", 2, "quorums"),
    ("# fine\nquorum none\r", 2, "CR LF"),
    ("quo\rrum none", 1, "control"),
    ("quorum\x0bnone", 1, "control"),
    ("\x00", 1, "control"),
    ("# a\x7fcomment", 1, "control"),
    ("\ufeffquorum none", 1, "quorum"),
    ("# \ud800", 1, "control"),
]


@pytest.mark.parametrize(("text", "line", "named"), BROKEN, ids=range(len(BROKEN)))
def test_every_broken_rule_is_named_with_its_line(text: str, line: int, named: str) -> None:
    with pytest.raises(PolicyMalformed) as refused:
        parse_policy(text)
    assert line == refused.value.line
    assert refused.value.message.startswith(f"line {line}: ")
    assert named in refused.value.message


@pytest.mark.parametrize("text", ["", "\n", "# only words\n", LOG + WITNESSES])
def test_a_policy_says_what_its_quorum_is(text: str) -> None:
    with pytest.raises(PolicyMalformed, match="quorum none") as refused:
        parse_policy(text)
    assert refused.value.line is None


def test_a_policy_has_a_largest_length() -> None:
    longest = "\n" * (MOST_LINES - 1) + "quorum none"
    assert Policy() == parse_policy(longest)
    with pytest.raises(PolicyMalformed, match="4,096"):
        parse_policy("\n" + longest)


def test_names_are_opaque() -> None:
    text = f"witness ü/#! {KEYS[0].text}\nquorum ü/#!\n"
    assert parse_policy(text).is_met({"ü/#!"})


def test_a_key_may_have_another_name_than_its_witness() -> None:
    assert "witness.example/1" == READ.witnesses[0].key.name
    assert "w1" == READ.witnesses[0].name


@given(worked.FUZZ | worked.pieces(WHOLE, "group ", "quorum ", "witness ", "log ", "any", "2"))
def test_any_text_is_a_policy_or_malformed(text: str) -> None:
    with contextlib.suppress(PolicyMalformed):
        policy = parse_policy(text)
        assert policy == parse_policy(policy.text)


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.sets(st.integers(0, 11), min_size=1, max_size=4)),
        max_size=5,
    ),
    st.sets(st.integers(0, 6)),
)
def test_a_cosignature_more_never_breaks_a_quorum(
    groups: list[tuple[int, set[int]]], cosigned: set[int]
) -> None:
    """Names 0 to 6 are witnesses, 7 to 11 the groups in their order; a member is taken once."""
    lines = [f"witness {n} {KEYS[n].text}" for n in range(7)]
    taken: set[int] = set()
    last = "0"
    for number, (needed, members) in enumerate(groups, start=7):
        members = {member for member in members if member < number} - taken
        if members:
            taken |= members
            names = " ".join(map(str, sorted(members)))
            lines.append(f"group {number} {min(needed, len(members))} {names}")
            last = str(number)
        else:
            lines.append(f"witness {number} {KEYS[number].text}")
    policy = parse_policy("\n".join([*lines, f"quorum {last}"]))
    fewer = {str(n) for n in cosigned}
    for more in range(7):
        assert policy.is_met(fewer) <= policy.is_met(fewer | {str(more)})
    assert policy.is_met({witness.name for witness in policy.witnesses})
