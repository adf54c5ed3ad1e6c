"""The moments that clients send: every form that is read, and what is no moment."""

import calendar
import contextlib
import json
import locale
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, formatdate, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.moment import MAX_CHARS, parse_time_ms

AT_MS = 1_758_104_130_000
"""2025-09-17, a Wednesday, at 10:15:30 UTC."""
FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999

AT_10_15_30 = [
    "2025-09-17T10:15:30Z",
    "2025-09-17t10:15:30z",
    "2025-09-17T10:15:30",
    "2025-09-17T10:15:30.000Z",
    "2025-09-17T10:15:30,000Z",
    "2025-09-17T10:15:30.000000000Z",
    "2025-09-17T10:15:30.000999999999999Z",
    " 2025-09-17T10:15:30Z\n",
    "2025-09-17 10:15:30 UTC",
    "2025-09-17 10:15:30 utc",
    "2025-09-17 10:15:30 GMT",
    "2025-09-17 10:15:30Z",
    "2025-09-17 10:15:30 +0000",
    "2025-09-17_10:15:30",
    "2025-09-17T12:15:30+02:00",
    "2025-09-17T12:15:30+0200",
    "2025-09-17T12:15:30+02",
    "2025-09-17T12:15:30 +02:00",
    "2025-09-17T15:45:30+05:30",
    "2025-09-17T06:45:30-0330",
    "2025-09-17T12:15:30+02:00[Europe/Paris]",
    "2025-09-17T12:15:30+02:00[!Europe/Paris][u-ca=hebrew]",
    "2025-09-17T10:15:30Z[UTC]",
    "2025-09-17T04:15:30-06:00[America/North_Dakota/New_Salem]",
    "20250917T101530Z",
    "20250917T101530",
    "20250917T121530+0200",
    "20250917101530",
    "2025-W38-3T10:15:30Z",
    "2025W383T101530Z",
    "2025-09-17 12:15:30.000000001 +0200 CEST m=+0.012345",
    "2025-09-17 12:15:30 +0200 +0200",
    "2025-09-17 12:15:30.0 +0200 +02 m=-0.5",
    "2025-09-17 10:15:30 +0000 UTC",
    "Wed, 17 Sep 2025 10:15:30 GMT",
    "wed, 17 sep 2025 10:15:30 gmt",
    "Wednesday, 17-Sep-25 10:15:30 GMT",
    "Wednesday, 17-Sep-2025 10:15:30 UTC",
    "Wed Sep 17 10:15:30 2025",
    "Wed, 17 Sep 2025 12:15:30 +0200",
    "Wed, 17 Sep 2025 12:15:30 +0200 (CEST)",
    "17 Sep 2025 10:15:30 -0000",
    "17 September 2025 10:15:30",
    "17 Sep 25 10:15:30 UT",
    "Wed Sep 17 10:15:30 UTC 2025",
    "Wed Sep 17 2025 12:15:30 GMT+0200 (Central European Summer Time)",
    "Wed Sep 17 2025 12:15:30 GMT+0200 (Mitteleuropäische Sommerzeit)",
    "1758104130",
    "1758104130.0",
    "1758104130,000",
    "1758104130000",
    "1758104130000000",
    "1758104130000000000",
    "1.75810413E+9",
    "+1758104130",
    1_758_104_130,
    1_758_104_130.0,
    1_758_104_130_000,
    1_758_104_130_000.0,
    1_758_104_130_000_000,
    1_758_104_130_000_000_000,
    1.75810413e18,
]


@pytest.mark.parametrize("sent", AT_10_15_30)
def test_one_moment_is_read_from_every_form(sent: object) -> None:
    assert AT_MS == parse_time_ms(sent)


@pytest.mark.parametrize(
    ("sent", "same"),
    [
        ("2025-09-17", "2025-09-17T00:00:00Z"),
        ("20250917", "2025-09-17T00:00:00Z"),
        ("2025-W38", "2025-09-15T00:00:00Z"),
        ("2025-09-17Z", "2025-09-17T00:00:00Z"),
        ("2025-09-17+02:00", "2025-09-16T22:00:00Z"),
        ("2025-09-17T10", "2025-09-17T10:00:00Z"),
        ("2025-09-17T10:15", "2025-09-17T10:15:00Z"),
        ("2025-09-16T24:00:00Z", "2025-09-17T00:00:00Z"),
        ("17 Sep 2025 10:15 +0000", "2025-09-17T10:15:00Z"),
        ("Sun Sep  7 01:02:03 2025", "2025-09-07T01:02:03Z"),
        ("1990-12-31T23:59:60Z", "1991-01-01T00:00:00Z"),
        ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00Z"),
        ("1990-12-31T23:59:60.5Z", "1991-01-01T00:00:00.500Z"),
        ("Mon, 31 Dec 1990 23:59:60 GMT", "1991-01-01T00:00:00Z"),
        ("2025-09-17T10:15:30.1239Z", "2025-09-17T10:15:30.123Z"),
        ("Thursday, 01-Jan-70 00:00:00 GMT", "1970-01-01T00:00:00Z"),
        ("Sunday, 01-Jan-50 00:00:00 GMT", "1950-01-01T00:00:00Z"),
        ("Friday, 01-Jan-49 00:00:00 GMT", "2049-01-01T00:00:00Z"),
        (1758104130.123, "2025-09-17T10:15:30.123Z"),
        ("1758104130,123", "2025-09-17T10:15:30.123Z"),
        (1758104130123456, "2025-09-17T10:15:30.123Z"),
        (1758104130123456789, "2025-09-17T10:15:30.123Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        ("-86400", "1969-12-31T00:00:00Z"),
        (-86_400, "1969-12-31T00:00:00Z"),
        (-946_771_200_000, "1940-01-01T00:00:00Z"),
        (99_999_999_999, "5138-11-16T09:46:39Z"),
        (100_000_000_000, "1973-03-03T09:46:40Z"),
    ],
)
def test_what_a_form_leaves_out_is_nought_and_what_it_has_too_much_is_cut(
    sent: object, same: str
) -> None:
    assert parse_time_ms(same) is not None
    assert parse_time_ms(same) == parse_time_ms(sent)


@pytest.mark.parametrize(
    ("sent", "at_ms"),
    [
        ("0001-01-01T00:00:00Z", FIRST_MS),
        (-62_135_596_800, FIRST_MS),
        ("9999-12-31T23:59:59.999Z", LAST_MS),
    ],
)
def test_the_first_and_the_last_moment(sent: object, at_ms: int) -> None:
    assert at_ms == parse_time_ms(sent)


@pytest.mark.parametrize(
    "sent",
    [
        *("", " ", "soon", "now", "null", "NaN", "inf", "-", "T", "Z", ":", "1_000", "²", "१२३४५६"),
        *("0000-00-00 00:00:00", "0000-01-01T00:00:00Z", "99999-01-01T00:00:00Z"),
        *("+010000-01-01T00:00:00Z", "-000001-01-01T00:00:00Z"),
        *("0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "9999-12-31T24:00:00Z"),
        *("2025-13-01", "2025-02-29", "2025-09-31T00:00:00Z", "2025-09-17T24:00:01Z"),
        *("2025-09-17T24:00:00.001Z", "2025-09-17T25:00Z", "2025-09-17T10:60Z"),
        *(
            "2025-09-17T10:15:61Z",
            "2025-09-17T10:15:30+24:00",
            "2025-09-17T10:15:30+02:60",
            "2025-09-17T10:15:30+02:00:60",
        ),
        *("2025-09-17T10:15:30 02:00", "2025-09-17T10:15:30+2", "2025-W38-10", "2025-W54-1"),
        *("09/17/2025", "17/09/2025 10:15", "17.09.2025", "10:15:30", "2025-09", "2025"[:3] + "x"),
        *("2025-09-17 10:15:30 +0200 PM", "2025-09-17 10:15:30 UTC CEST", "Foo, 17 Sep 2025 10:15"),
        *("2025-09-17 10:15:30 PM", "2025-09-17 10:15:30 CEST", "2025-09-17 10:15:30 EST"),
        *("Wed Sep 17 10:15:30 CST 2025", "Wed, 17 Sep 2025 10:15:30 Europe/Paris"),
        *("2025-09-17T12:15:30[Europe/Paris]", "2025-09-17T12:15:30+02:00[Europe/Paris"),
        *("Wed, 31 Sep 2025 10:15:30 GMT", "Wed, 17 Foo 2025 10:15:30 GMT", "1e999", "0x10"),
        *(
            -62_135_596_801,
            10**20,
            -(10**20),
            10**4000,
            1e20,
            float("nan"),
            float("inf"),
            -float("inf"),
        ),
        *(None, True, False, [], {}, [AT_MS], {"$date": AT_MS}, b"2025-09-17"),
    ],
)
def test_anything_else_is_no_moment(sent: object) -> None:
    assert None is parse_time_ms(sent)


def test_no_more_than_128_characters_are_looked_at() -> None:
    text = "Wed Sep 17 2025 12:15:30 GMT+0200 (" + "x" * MAX_CHARS
    assert AT_MS == parse_time_ms(text[: MAX_CHARS - 1] + ")")
    assert None is parse_time_ms(text[:MAX_CHARS] + ")")


def test_a_text_of_digits_is_a_date_where_it_can_be_one() -> None:
    assert parse_time_ms("2025-09-17") == parse_time_ms("20250917")
    assert 20_259_999_000 == parse_time_ms("20259999")
    assert 20_250_917_000 == parse_time_ms(20_250_917)
    assert 17_581_041_300_000 == parse_time_ms("17581041300000")


def seconds_east(offset_s: int) -> timezone:
    return timezone(timedelta(seconds=offset_s))


MOST_MINUTES = 24 * 60 - 1
OFFSETS = st.integers(-MOST_MINUTES, MOST_MINUTES).map(lambda minutes: seconds_east(60 * minutes))
ODD_OFFSETS = st.integers(-60 * MOST_MINUTES, 60 * MOST_MINUTES).map(seconds_east)
MOMENTS = st.datetimes(
    # After the year 1973 a number tells its unit; until 2262 nanoseconds have 64 bits.
    datetime(1973, 3, 4),  # noqa: DTZ001 — hypothesis wants them naive
    datetime(2262, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000))


def java_script(at: datetime) -> str:
    return f"{at:%a %b %d %Y %H:%M:%S} GMT{at:%z} (Somewhere)"


def exact_ms(at: datetime) -> int:
    return calendar.timegm(at.utctimetuple()) * 1000 + at.microsecond // 1000


TO_THE_MS: list[Callable[[datetime], object]] = [
    datetime.isoformat,
    str,
    lambda at: f"{at:%Y%m%dT%H%M%S}.{at.microsecond:06d}{at:%z}",
    lambda at: f"{at:%G-W%V-%uT%H:%M:%S},{at.microsecond:06d}{at:%z}",
    lambda at: at.astimezone(UTC).isoformat().replace("+00:00", "Z").lower(),
    lambda at: f"{at.isoformat(sep=' ')}[Mars/Olympus][u-ca=iso8601]",
    lambda at: f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond:06d}000 {at:%z} MEZ m=+1.5",
    exact_ms,
    lambda at: str(exact_ms(at)),
    lambda at: exact_ms(at) / 1000,
    lambda at: f"{exact_ms(at) / 1000:.3f}",
    lambda at: exact_ms(at) * 1000,
    lambda at: exact_ms(at) * 1_000_000 + 999_999,
    lambda at: json.loads(json.dumps(exact_ms(at) / 1000)),
]
TO_THE_SECOND: list[Callable[[datetime], str]] = [
    lambda at: format_datetime(at),
    lambda at: formatdate(at.timestamp() // 1, usegmt=True),
    lambda at: at.astimezone(UTC).ctime(),
    java_script,
    lambda at: f"{at.astimezone(UTC):%A, %d-%b-%Y %H:%M:%S UTC}",
    lambda at: f"{at.astimezone(UTC):%a %b %e %H:%M:%S UTC %Y}",
]


@given(MOMENTS, OFFSETS)
def test_every_form_of_a_moment_says_the_same(at: datetime, zone: timezone) -> None:
    local = at.astimezone(zone)
    for write in TO_THE_MS:
        assert exact_ms(at) == parse_time_ms(write(local)), write(local)
    for write in TO_THE_SECOND:
        assert exact_ms(at) // 1000 * 1000 == parse_time_ms(write(local)), write(local)


@given(st.datetimes(), st.one_of(OFFSETS, ODD_OFFSETS))
def test_what_python_writes_is_read_as_python_reads_it(at: datetime, zone: timezone) -> None:
    for moment in (at, at.replace(tzinfo=zone)):
        known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        whole_ms = (known - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        expected = whole_ms if FIRST_MS <= whole_ms <= LAST_MS else None
        assert expected == parse_time_ms(moment.isoformat())


PIECES = st.sampled_from(
    [
        *("2025-09-17", "20250917", "2025-W38-3", "17 Sep 2025", "Sep 17", "2025", "Wed,", "Sep"),
        *("T", "t", " ", "_", "-", ":", ".", ",", "+", "[", "]", "(", ")", "m=+1", "e9", "W"),
        *("10:15:30", "10:15", "101530", "24:00", "23:59:60", "1758104130", "999999999", "7"),
        *("Z", "UTC", "GMT", "+02:00", "+0200", "-05", "CEST", "[Europe/Paris]", "\u0661", "é"),
    ]
)


@given(
    st.from_regex(
        r"[0129]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,9})?"
        r"(Z|[+-][0-2][0-9]:[0-6][0-9])",
        fullmatch=True,
    )
)
def test_whatever_rfc_3339_text_says_it_says_in_small_letters_too(text: str) -> None:
    assert parse_time_ms(text) == parse_time_ms(text.lower())


@given(st.one_of(st.text(), st.lists(PIECES, max_size=8).map("".join)))
def test_no_text_raises_and_what_is_read_is_in_the_years_1_to_9999(text: str) -> None:
    at_ms = parse_time_ms(text)

    assert at_ms is None or FIRST_MS <= at_ms <= LAST_MS


@given(st.one_of(st.integers(), st.floats(), st.integers(-(10**25), 10**25)))
def test_no_number_raises(number: float) -> None:
    at_ms = parse_time_ms(number)

    assert at_ms is None or FIRST_MS <= at_ms < 10**14


@given(st.lists(PIECES, max_size=8).map("".join))
def test_a_text_that_email_reads_with_a_zone_is_read_alike_or_not_at_all(text: str) -> None:
    at_ms = parse_time_ms(text)
    try:
        theirs = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return
    if at_ms is not None and theirs.tzinfo is not None and text.startswith("Wed,"):
        assert int(theirs.timestamp() * 1000) == at_ms


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10**6,
        "9" * 10**6,
        " " * 10**6,
        "2025-09-17T10:15:30." + "0" * 10**6,
        "-" * MAX_CHARS,
        "Wed, " * 25,
        "2025-09-17 10:15:30Z" + "[a]" * 36,
        "1" + " " * 126,
        "Sep" + " " * 125,
        "17 Sep 2025 10:15:30 +0200 " + "(" * 100,
    ],
)
def test_no_text_costs_more_than_a_moment(text: str) -> None:
    """100 µs are 20 times what the longest form takes, and what a quadratic one would exceed."""

    def took_s() -> float:
        began = time.perf_counter()
        parse_time_ms(text)
        return time.perf_counter() - began

    assert 0.000_1 > min(took_s() for _ in range(50))


def test_the_names_of_months_are_english_in_every_locale() -> None:
    try:
        for name in sorted(set(locale.locale_alias.values())):
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_TIME, name)
            if time.strftime("%b", time.gmtime(AT_MS / 1000)) != "Sep":
                break
        else:
            pytest.skip("this machine knows no other language")
        assert AT_MS == parse_time_ms("Wed, 17 Sep 2025 10:15:30 GMT")
    finally:
        locale.setlocale(locale.LC_TIME, "C")
