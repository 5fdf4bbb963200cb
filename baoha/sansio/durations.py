"""
Durations and timestamps as they are written on the wire.

Rule of this file: whatever is accepted is exact; durations are whole nanoseconds.

Source: OpenBao 2.7.2 as measured: durations are Go's ("1h30m", "250ms") or plain seconds, with
"d" for days; timestamps are RFC 3339 in UTC with trailing zeros of the fraction left out.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

SECOND_NS: Final = 1_000_000_000
_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3600 * SECOND_NS,
}
_DAY_NS: Final = 24 * 3600 * SECOND_NS
# The largest number of the wire format; a duration is such a count of nanoseconds.
_INT64_MAX: Final = 2**63 - 1
_TEXT_MAX: Final = 128  # characters; longer input is refused before any arithmetic
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([^0-9.]*)")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_OVERFLOW: Final = "multiplication of durations resulted in overflow, one operand may be too large"


class DurationError(ValueError):
    """The text is not a duration; the message is the one that clients are shown."""


def parse_duration_ns(text: str) -> int:
    """
    Return a duration in nanoseconds. A plain number counts seconds; "" is zero.

    Raises:
        DurationError: not a duration, or too long to represent.
    """
    if len(text) > _TEXT_MAX:
        raise DurationError("time: invalid duration")
    if not text:
        return 0
    if text.endswith("d"):
        return _times(text.removesuffix("d"), _DAY_NS)
    is_count = _INTEGER.fullmatch(text) is not None
    if is_count and abs(int(text)) <= _INT64_MAX:
        return _times(text, SECOND_NS)
    value = _INT64_MAX + 1 if is_count else _parse_units(text)
    if abs(value) > _INT64_MAX:
        raise DurationError(f'time: invalid duration "{text}"')
    return value


def _times(count: str, unit_ns: int) -> int:
    if not _INTEGER.fullmatch(count):
        raise DurationError(f'strconv.ParseInt: parsing "{count}": invalid syntax')
    if abs(int(count)) > _INT64_MAX:
        raise DurationError(f'strconv.ParseInt: parsing "{count}": value out of range')
    value = int(count) * unit_ns
    if abs(value) > _INT64_MAX:
        raise DurationError(_OVERFLOW)
    return value


def _parse_units(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    rest = text.removeprefix("-") if sign < 0 else text.removeprefix("+")
    total = 0
    if not rest:
        raise DurationError(f'time: invalid duration "{text}"')
    while rest:
        part = _PART.match(rest)
        if part is None:
            raise DurationError(f'time: invalid duration "{text}"')
        number, unit = part[1], part[2]
        if not unit:
            raise DurationError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS_NS:
            raise DurationError(f'time: unknown unit "{unit}" in duration "{text}"')
        whole, _, fraction = number.partition(".")
        total += int(whole or "0") * _UNITS_NS[unit]
        if fraction:
            total += int(fraction) * _UNITS_NS[unit] // 10 ** len(fraction)
        rest = rest[part.end() :]
    return sign * total


def format_duration(duration_ns: int) -> str:
    """Return the canonical text: "0s", "1.5s", "3h25m19s", "250ms"."""
    sign = "-" if duration_ns < 0 else ""
    rest = abs(duration_ns)
    if rest == 0:
        return "0s"
    if rest < SECOND_NS:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if rest >= size:
                return f"{sign}{_decimal(rest, size)}{unit}"
    minutes, rest = divmod(rest, 60 * SECOND_NS)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, SECOND_NS) + "s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def format_duration_short(duration_ns: int) -> str:
    """Return the text without the parts that are zero at its end: "768h", "1m"."""
    text = format_duration(duration_ns)
    if text.endswith("m0s"):
        text = text.removesuffix("0s")
    if text.endswith("h0m"):
        text = text.removesuffix("0m")
    return text


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    if not fraction:
        return str(whole)
    digits = str(fraction).zfill(len(str(unit)) - 1).rstrip("0")
    return f"{whole}.{digits}"


def format_timestamp(moment: datetime) -> str:
    """Return an aware moment as RFC 3339 in UTC, the fraction without trailing zeros."""
    utc = moment.astimezone(UTC)
    text = utc.strftime("%Y-%m-%dT%H:%M:%S")
    if utc.microsecond:
        text += f".{utc.microsecond:06d}".rstrip("0")
    return text + "Z"


def parse_timestamp(text: str) -> datetime:
    """Return the moment of an RFC 3339 text; digits below a microsecond are dropped."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
