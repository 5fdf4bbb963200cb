"""Durations and timestamps of the wire format; the texts are those of OpenBao 2.7.2."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.sansio.durations import (
    SECOND_NS,
    DurationError,
    format_duration,
    format_duration_short,
    format_timestamp,
    parse_duration_ns,
    parse_timestamp,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0),
        ("0", 0),
        ("60", 60),
        ("-60", -60),
        ("1h30m", 5400),
        ("3h25m19s", 12319),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("250ms", 0.25),
        ("-1s", -1),
        ("2d", 172800),
        ("768h", 2764800),
    ],
)
def test_parse_duration_known_text_gives_seconds(text: str, seconds: float) -> None:
    assert parse_duration_ns(text) == seconds * SECOND_NS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("xyz", 'time: invalid duration "xyz"'),
        ("-", 'time: invalid duration "-"'),
        ("1.5", 'time: missing unit in duration "1.5"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("5y", 'time: unknown unit "y" in duration "5y"'),
        ("99999999999999999999h", 'time: invalid duration "99999999999999999999h"'),
        ("9" * 10_000, "time: invalid duration"),
    ],
)
def test_parse_duration_bad_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(DurationError) as caught:
        parse_duration_ns(text)
    assert str(caught.value) == message


@given(st.integers(min_value=-(2**62), max_value=2**62))
def test_duration_round_trip_any_value(value: int) -> None:
    assert parse_duration_ns(format_duration(value)) == value


@pytest.mark.parametrize(
    ("value", "text", "short"),
    [
        (0, "0s", "0s"),
        (12319 * SECOND_NS, "3h25m19s", "3h25m19s"),
        (3600 * SECOND_NS, "1h0m0s", "1h"),
        (60 * SECOND_NS, "1m0s", "1m"),
        (10 * SECOND_NS, "10s", "10s"),
        (1_500_000_000, "1.5s", "1.5s"),
        (1_500_000, "1.5ms", "1.5ms"),
        (-SECOND_NS, "-1s", "-1s"),
    ],
)
def test_format_duration_known_value(value: int, text: str, short: str) -> None:
    assert format_duration(value) == text
    assert format_duration_short(value) == short


@pytest.mark.parametrize(
    ("microsecond", "text"),
    [
        (0, "2026-11-23T09:28:13Z"),
        (457_366, "2026-11-23T09:28:13.457366Z"),
        (940_100, "2026-11-23T09:28:13.9401Z"),
    ],
)
def test_timestamp_trailing_zeros_are_left_out(microsecond: int, text: str) -> None:
    moment = datetime(2026, 11, 23, 9, 28, 13, microsecond, tzinfo=UTC)
    assert format_timestamp(moment) == text
    assert parse_timestamp(text) == moment


def test_timestamp_other_zone_is_shown_in_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert format_timestamp(datetime(2026, 1, 1, 1, tzinfo=zone)) == "2025-12-31T23:00:00Z"


def test_timestamp_nanoseconds_of_another_server_are_read() -> None:
    expected = datetime(2026, 11, 23, 9, 28, 13, 457_366, tzinfo=UTC)
    assert parse_timestamp("2026-11-23T09:28:13.457366194Z") == expected
