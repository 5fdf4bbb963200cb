"""
From what a file says to what the program uses: one converter for each kind of value.

Rules of this file: a converter accepts what OpenBao accepts for the kind (numbers and booleans as
text among them) and nothing else; the text of ``BadValue`` never repeats the value, which may be a
secret that stands in the wrong place.

Source: OpenBao 2.7.2, measured with ``bao operator validate-config``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from baoha.sansio.durations import SECOND_NS, DurationError, parse_duration_ns
from baoha.sansio.formats.hcl import Block, Value

Headers: TypeAlias = Mapping[str, Mapping[str, tuple[str, ...]]]

DURATION_S_MAX: Final = 100 * 365 * 86_400.0
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_SIZE: Final = re.compile(r"([0-9]{1,19})\s*([A-Za-z]*)")
_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "kib": 1024,
    "mb": 1000**2,
    "mib": 1024**2,
    "gb": 1000**3,
    "gib": 1024**3,
    "tb": 1000**4,
    "tib": 1024**4,
}
_SIZE_MAX: Final = 2**63 - 1
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
_HEADER_STATUS: Final = re.compile(r"default|[1-5]xx|[1-5][0-9][0-9]")
_MODE: Final = re.compile(r"(?:0o?)?[0-7]{1,4}")


class BadValue(Exception):
    """A value has not the kind that its key asks for; the message says which kind that is."""


@dataclass(frozen=True, slots=True)
class OptionKind:
    """
    A kind of value: the name it has in the documentation, and its converter.
    """

    name: str
    convert: Callable[[Value], object]


def to_text(value: Value) -> str:
    """
    Return text; a number stands for its digits.

    Raises:
        BadValue: neither, or the text holds a control character.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadValue("must be a string")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
        raise BadValue("must not contain control characters")
    return value


def to_bool(value: Value) -> bool:
    """
    Return a boolean; also from the spellings of Go's ParseBool, and from numbers (0 is false).

    Raises:
        BadValue: none of these.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value != 0
    if isinstance(value, str) and value in _TRUE:
        return True
    if isinstance(value, str) and value in _FALSE:
        return False
    raise BadValue("must be true or false")


def to_count(value: Value) -> int:
    """
    Return an integer that is not negative.

    Raises:
        BadValue: not an integer, or negative.
    """
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _SIZE_MAX:
        raise BadValue("must be a whole number that is not negative")
    return value


def to_positive(value: Value) -> int:
    """
    Return an integer above zero.

    Raises:
        BadValue: not an integer, or not above zero.
    """
    count = to_count(value)
    if count == 0:
        raise BadValue("must be above zero")
    return count


def to_nice(value: Value) -> int:
    """
    Return a nice value.

    Raises:
        BadValue: not a whole number from -20 to 19.
    """
    if isinstance(value, str) and re.fullmatch("-?[0-9]{1,2}", value.strip()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -20 <= value <= 19:
        raise BadValue("must be a whole number from -20 to 19")
    return value


def to_duration_s(value: Value) -> float:
    """
    Return seconds, from a number of them or from text such as "1m30s", "500ms", "2d".

    Raises:
        BadValue: no duration, negative, or longer than a century.
    """
    seconds = -1.0
    if isinstance(value, str) and value.strip():
        try:
            seconds = parse_duration_ns(value) / SECOND_NS
        except DurationError as exc:
            raise BadValue('must be a duration such as "1m30s" or a number of seconds') from exc
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    # NaN fails this comparison too, as it should.
    if not 0 <= seconds <= DURATION_S_MAX:
        raise BadValue('must be a duration such as "1m30s" or a number of seconds')
    return seconds


def to_size(value: Value) -> int:
    """
    Return bytes, from a number of them or from text such as "32MiB" (1024) and "32MB" (1000).

    Raises:
        BadValue: no size, or negative.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        unit = _SIZE_UNITS.get(match[2].lower()) if match is not None else None
        if match is None or unit is None:
            raise BadValue('must be a size such as "32MiB" or a number of bytes')
        value = int(match[1]) * unit
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _SIZE_MAX:
        raise BadValue('must be a size such as "32MiB" or a number of bytes')
    return value


def to_limit(value: Value) -> int:
    """
    Return a size above zero.

    Raises:
        BadValue: as ``to_size``, or zero: OpenBao's "no limit", which is not offered here.
    """
    size = to_size(value)
    if size == 0:
        raise BadValue("must be above zero: every request has a limit")
    return size


def to_texts(value: Value) -> tuple[str, ...]:
    """
    Return texts, from a list or from one text with commas between them.

    Raises:
        BadValue: something else.
    """
    parts = value if isinstance(value, list) else [value]
    texts: list[str] = []
    for part in parts:
        if not isinstance(part, str):
            raise BadValue("must be a list of strings, or one string with commas")
        texts += to_text(part).split(",")
    return tuple(text.strip() for text in texts if text.strip())


def to_networks(value: Value) -> tuple[str, ...]:
    """
    Return IP addresses and CIDR ranges, as text.

    Raises:
        BadValue: one of them is neither.
    """
    networks = to_texts(value)
    for network in networks:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as exc:
            raise BadValue("must be a list of IP addresses and CIDR ranges") from exc
    return networks


def to_file_mode(value: Value) -> int:
    """
    Return permission bits from octal text such as "0600".

    Raises:
        BadValue: not octal text.
    """
    if not isinstance(value, str) or _MODE.fullmatch(value) is None:
        raise BadValue('must be octal permission bits as text, such as "0600"')
    return int(value.removeprefix("0o"), 8)


def to_response_headers(value: Value) -> Headers:
    """
    Return status ("default", "2xx", "404") to header name to its values.

    Raises:
        BadValue: another shape, or something that cannot stand in a response.
    """
    result: dict[str, dict[str, tuple[str, ...]]] = {}
    for block in _blocks(value):
        for status in block.items:
            if status.labels or _HEADER_STATUS.fullmatch(status.key) is None:
                raise BadValue('must be grouped by "default", "2xx" or a status such as "404"')
            group = result.setdefault(status.key, {})
            for headers in _blocks(status.value):
                for header in headers.items:
                    group[_header_name(header.key)] = _header_values(header.value)
    return MappingProxyType({key: MappingProxyType(group) for key, group in result.items()})


def _blocks(value: Value) -> list[Block]:
    parts = value if isinstance(value, list) else [value]
    blocks = [part for part in parts if isinstance(part, Block)]
    if len(blocks) != len(parts):
        raise BadValue("must be a block of headers")
    return blocks


def _header_name(name: str) -> str:
    if _HEADER_NAME.fullmatch(name) is None:
        raise BadValue("contains a header name that is not valid")
    if name.lower().startswith("x-vault-"):
        raise BadValue("must not set headers that start with X-Vault-")
    return name


def _header_values(value: Value) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BadValue("headers must be given in a list of strings")
    return tuple(to_text(part) for part in value)


TEXT: Final = OptionKind("string", to_text)
BOOL: Final = OptionKind("bool", to_bool)
COUNT: Final = OptionKind("int", to_count)
POSITIVE: Final = OptionKind("int > 0", to_positive)
NICE: Final = OptionKind("int, -20 to 19", to_nice)
DURATION: Final = OptionKind("duration", to_duration_s)
SIZE: Final = OptionKind("size", to_size)
LIMIT: Final = OptionKind("size > 0", to_limit)
TEXTS: Final = OptionKind("list of strings", to_texts)
NETWORKS: Final = OptionKind("list of CIDRs", to_networks)
FILE_MODE: Final = OptionKind("octal mode", to_file_mode)
RESPONSE_HEADERS: Final = OptionKind("headers", to_response_headers)


def choice(*allowed: str) -> OptionKind:
    """
    Return the kind of value that is one of a few words, whatever their case.
    """

    def convert(value: Value) -> str:
        word = to_text(value).lower()
        if word not in allowed:
            raise BadValue(f"must be one of {', '.join(allowed)}")
        return word

    return OptionKind(" / ".join(allowed), convert)


TLS_VERSIONS: Final = choice("tls10", "tls11", "tls12", "tls13")
LOG_LEVELS: Final = choice("trace", "debug", "info", "warn", "error")
LOG_FORMATS: Final = choice("standard", "json")
