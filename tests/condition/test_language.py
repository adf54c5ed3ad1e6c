"""The text form: what is read, what is refused, where, and what is said."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from indelible import condition as c

PAGE = Path(__file__).parents[2] / "docs/reference/conditions.md"


def refused(source: str) -> c.InvalidCondition:
    with pytest.raises(c.InvalidCondition) as caught:
        c.read(source)
    assert "invalid_condition" == caught.value.code
    return caught.value


def test_and_binds_closer_than_or_and_not_closest() -> None:
    a, b, d = (c.Test(("event",), c.Op.EQUAL, name) for name in "abd")

    assert c.Any((a, c.All((b, c.Not(d))))) == c.parse(
        "event = 'a' or event = 'b' and not event = 'd'"
    )
    assert c.All((c.Any((a, b)), d)) == c.parse("(event='a' OR event='b')\nAND event='d'")
    assert c.Not(a) == c.parse("event != 'a'") == c.parse("not event = 'a'")
    assert c.Not(c.Test(("event",), c.Op.IN, ("a",))) == c.parse("event not in ('a')")


@pytest.mark.parametrize(
    ("source", "position", "message", "hint"),
    [
        ("", 0, "empty", "leave the filter out"),
        ("  \n", 0, "empty", ""),
        ("event", 5, "`contains`", ""),
        ("event = purchase", 8, "not `purchase`", '"purchase"'),
        ("event == 'x'", 7, "not `=`", "Write = for equal"),
        ("event <> 'x'", 7, "not `>`", "!="),
        ("event =~ 'x'", 7, "`~`", "no regular expressions"),
        ("event = 'x' && index = 1", 12, "`&&`", "`and`"),
        ("event = 'x' || index = 1", 12, "`||`", "`or`"),
        ("!exists(event)", 0, "`!exists(event)`", "`not`"),
        ("event = 'x", 8, "no end", "End it with '"),
        ("event = 'x\x01'", 8, "control character", ""),
        ("event = 'x' index = 1", 12, "`and`, `or` or the end", ""),
        ("(event = 'x'", 12, "`)`, not the end", ""),
        ("event = 'x')", 11, "not `)`", ""),
        ("event = 'x' or", 14, "not the end", ""),
        ("event not = 'x'", 10, "`in`, `contains`", ""),
        ("event in ()", 10, "a value", ""),
        ("event contains 1", 15, "text in quotes", ""),
        ("index contains 'a'", 15, "`index` is a number", ""),
        ("properties.a > 'x'", 15, "a number or a time, not text", "without quotes"),
        ("properties.a > true", 15, "not bool", ""),
        ("meta.http_status >= 400", 20, "is text", "no order"),
        ("index = '1'", 8, "a number, and is never equal to text", "without quotes"),
        ("received_at > '2026-01-31'", 14, "not text", "2026-01-31"),
        ("index = 1 and\n  event in ('a', 2)", 31, "(line 2, column 18)", ""),
        ("event = null", 8, "never equal to null", ""),
        ("propertis.a = 1", 0, "`propertis`", "Did you mean `properties`?"),
        ("amount > 1", 0, "`amount`", "properties.NAME"),
        ("properties = 1", 0, "an object", "properties.NAME"),
        ("$unset = 1", 0, "a list", "exists($unset)"),
        ("event.name = 'x'", 0, "no members", "`event` itself"),
        ("meta.a.b = 'x'", 0, "no members", "`meta.a`"),
        ("properties.größe = 1", 13, "`öße`", 'properties."größe"'),
        ("properties. a = 1", 10, "`.`", ""),
        ("index = 2026-13-01", 8, "no time 2026-13-01", ""),
        ("index = 2026-1-2", 8, "Cannot read", ""),
        ("index = 01", 8, "Cannot read", ""),
        ("index = 1e999", 8, "out of range", ""),
        ("index = .5", 8, "Cannot read", ""),
        ("index = NaN", 8, "not `NaN`", ""),
        ("index = ٣", 8, "`٣`", ""),
        ("index = \uff11", 8, "`\uff11`", ""),
        ("event = '\\x41'", 9, "no escape", ""),
        ("event = 'a\\ud800'", 8, "lone surrogate", ""),
        ("properties.'\\ud800' = 1", 0, "lone surrogate", ""),
        ("event = '\ud800'", 8, "lone surrogate", ""),
        ("in_cohort(vip)", 10, "in quotes", '"vip"'),
        ("exists event", 7, "`(`", ""),
        ("\0", 0, "Cannot read `\N{REPLACEMENT CHARACTER}`", ""),
        ("\u00a0event = 'x'", 0, "Cannot read", ""),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_at_its_place(
    source: str, position: int, message: str, hint: str
) -> None:
    error = refused(source)

    assert position == error.position
    assert message in error.message
    assert hint in error.advice
    assert re.search(r"\(line \d+, column \d+\)$", error.message)
    assert len(error.message) < 300


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{", "not JSON"),
        ("{}", "no condition (at the top)"),
        ('{"all":[]}', "one or more conditions (at /all)"),
        ('{"all":[{"path":"event","op":"like","value":"x"}]}', "no op `like` (at /all/0/op)"),
        ('{"path":"event","op":"=","value":"x","valu":1}', "no condition"),
        ('{"path":"event","op":"="}', "needs a value"),
        ('{"path":"event","op":"exists","value":null}', "takes no value"),
        ('{"path":"event","op":"=","op":"=","value":"x"}', "`op` is given twice"),
        ('{"path":"evnt","op":"=","value":"x"}', "`evnt` (at /path)"),
        ('{"path":"event","op":["="],"value":"x"}', "no op"),
        ('{"path":["event"],"op":"=","value":"x"}', "A path is text"),
        ('{"path":"event = 1","op":"exists"}', "end of the path"),
        ('{"path":"index","op":"in","value":[1,"2"]}', "never equal to text (at /value)"),
        ('{"path":"index","op":"in","value":1}', "a list of values"),
        ('{"path":"index","op":"in","value":[]}', "1 to 1,000"),
        ('{"path":"index","op":"=","value":[1]}', "A value is"),
        ('{"path":"properties.a","op":"=","value":NaN}', "NaN is not JSON"),
        ('{"path":"properties.a","op":"=","value":1e999}', "out of range"),
        ('{"path":"properties.a","op":"=","value":-Infinity}', "not JSON"),
        ('{"path":"properties.a","op":"=","value":"\\ud800"}', "lone surrogate"),
        ('{"path":"received_at","op":">","value":{"time":"noon"}}', "no time noon"),
        ('{"path":"received_at","op":">","value":{"time":"2026-01-31","a":1}}', "A value is"),
        ('{"cohort":1}', "named by text"),
        ('{"not":[]}', "(at /not)"),
        ('{"all":' + "[" * 9_000, "nested more than 32 deep"),
    ],
)
def test_json_that_is_no_condition_is_refused_at_its_place(source: str, message: str) -> None:
    assert message in refused(source).message


def test_one_condition_in_a_list_stands_for_itself() -> None:
    one = '{"path":"event","op":"=","value":"a"}'
    assert c.from_json(one) == c.from_json(f'{{"any":[{{"all":[{one}]}}]}}')


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("event = '" + "x" * 10_000_000 + "'", "longer than 16,384 bytes"),
        ("event = '" + "ü" * 9_000 + "'", "longer than 16,384 bytes"),
        ("(" * 100_000, "longer than"),
        ("(" * 10_000, "nested more than 32 deep"),
        ("not " * 4_000 + "exists(event)", "nested more than 32 deep"),
        ('{"not":' * 2_000 + "1", "nested more than 32 deep"),
        ('{"not":' * 2_000 + "1" + "}" * 2_000, "nested more than 32 deep"),
        (" or ".join(["exists(uuid)"] * 101), "101 tests"),
        (f"index in ({','.join(['1'] * 1_001)})", "1,001 values"),
        ("index = " + "9" * 400, "out of range"),
        ("index = " + "9" * 16_000, "out of range"),
        ("index = 1" + ".1" * 8_000, "Cannot read"),
        ('event = "' + "\\" * 16_001, "no end"),
        ("properties" + '."' * 8_000, "Expected"),
        ('{"path":"index","op":"=","value":' + "9" * 16_000 + "}", "out of range"),
    ],
    ids=range(15),
)
def test_whatever_is_too_large_is_refused_at_once(source: str, message: str) -> None:
    assert message in refused(source).message


def test_what_is_just_within_the_limits_is_read() -> None:
    for source in (
        "(" * 31 + "exists(event)" + ")" * 31,
        "not " * 31 + "exists(event)",
        " or ".join(["exists(event)"] * 100),
        f"index in ({','.join(['1'] * 1_000)})",
        f"event = '{'x' * (16_384 - 10)}'",
    ):
        condition = c.parse(source)
        assert condition == c.parse(c.text(condition))


def facts(**properties: Any) -> dict[str, Any]:
    return {"event": "e", "index": 7, "properties": properties}


@pytest.mark.parametrize(
    ("source", "properties", "wanted"),
    [
        ("properties.plan != 'pro'", {}, True),  # not equal is the complement of equal
        ("properties.a = null", {}, False),  # missing is not null
        ("properties.a = null", {"a": None}, True),
        ("exists(properties.a)", {"a": None}, True),
        ("properties.a = 1", {"a": "1"}, False),  # nothing is converted
        ("properties.a = 1", {"a": True}, False),
        ("properties.a = true", {"a": 1}, False),
        ("properties.a = 1.0", {"a": 1}, True),
        ("properties.a = 0.1", {"a": 0.1}, True),
        ("properties.a = 9007199254740993", {"a": 2**53}, False),
        ("properties.a > 9007199254740992.0", {"a": 2**53 + 1}, True),
        ("properties.a = 1e30", {"a": 10**30}, True),
        ("properties.a > 1", {"a": 10**400}, False),  # no finite double
        ("properties.a >= 2026-01-31", {"a": "2026-01-31T01:00:00+01:00"}, True),
        ("properties.a > 2026-01-31", {"a": "2026-01-31T01:00:00+02:00"}, False),
        ("properties.a = 2026-01-31T00:00:00Z", {"a": "2026-01-31 00:00:00.0009"}, True),
        ("properties.a > 2026-01-31", {"a": "tomorrow"}, False),
        ("properties.a > 2020-01-31", {"a": 1769817600}, False),
        ("properties.a.b = 1", {"a": {"b": 1}}, True),
        ('properties."a.b" = 1', {"a.b": 1}, True),
        ("properties.a.0 = 1", {"a": [1]}, False),
        ("properties.a contains 'B'", {"a": "abc"}, False),
        ("properties.a contains '\\u00e9'", {"a": "caf\N{LATIN SMALL LETTER E WITH ACUTE}"}, True),
        ("properties.a = '\\ud83d\\ude00'", {"a": "😀"}, True),
        ("properties.a in (1, 'x', null, 2026-01-31)", {"a": "2026-01-31"}, True),
        ("properties.a in (1, 'x', null)", {}, False),
    ],
)
def test_what_a_test_means(source: str, properties: dict[str, Any], wanted: bool) -> None:
    assert wanted is c.matches(c.parse(source), facts(**properties))


def test_every_filter_in_the_reference_is_read() -> None:
    blocks = re.findall(r"```(text|json)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    sources = [line for kind, block in blocks for line in block.splitlines() if line]
    assert len(sources) > 10
    for source in sources:
        condition = c.read(source)
        assert condition == c.parse(c.text(condition)) == c.from_json(c.to_json(condition))
        json.loads(c.to_json(condition))
