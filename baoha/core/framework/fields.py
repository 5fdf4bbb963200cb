"""
Typed request fields: what a client sent, converted the way OpenBao converts it.

Rules of this file:

1. A conversion never guesses silently; it converts or raises ``FieldError``, whose text is
   OpenBao's.
2. It costs a few milliseconds at most: what is larger than any use is refused before the work.

Source: OpenBao 2.7.2 as recorded ("config bad" and "metadata bad custom" of
tests/conformance/recordings/kv2.json) and measured. JSON numbers arrive as ``int`` or ``float`` and
are named "json.Number" to the client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from baoha.sansio.durations import SECOND_NS, DurationError, parse_duration_ns, parse_timestamp

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False", ""})
# Integers of the wire format have 64 bits.
_INT_MAX: Final = 2**63 - 1
# Numbers and moments; Python's own limit for decimal digits is 4300.
_NUMBER_CHARS_MAX: Final = 4300
# Of a list, or of a text that is split at its commas. The number is ours, each costs microseconds.
ITEMS_MAX: Final = 10_000
_INTEGER: Final = re.compile("[+-]?[0-9][0-9A-Za-z_]*")


class FieldError(ValueError):
    """A value does not fit its field."""


class FieldKind(Enum):
    """The type of a field; the value names what ``convert`` returns."""

    STRING = "str"
    LOWER = "str in lower case"
    INT = "int"
    INT64 = "int, named so in errors"
    BOOL = "bool"
    DURATION = "int seconds"
    DURATION_SIGNED = "int seconds, may be negative"
    TIME = "aware datetime, or None"
    MAP = "dict"
    STRINGS = "list of str, one text split at commas"
    LIST = "list of str, one text taken whole"
    INTS = "list of int"
    PAIRS = "dict of str to str"
    ANY = "as it came"


def convert(kind: FieldKind, name: str, value: Any) -> Any:
    """
    Convert one field.

    Raises:
        FieldError: with the text for the client, the field's name in it.
    """
    try:
        return _CONVERTERS[kind](value)
    except (FieldError, DurationError) as exc:
        where = f' in field "{name}"' if str(exc).startswith("invalid key pair") else ""
        raise FieldError(f'error converting input for field "{name}": {exc}{where}') from exc


def type_name(value: Any) -> str:
    """Return the name that clients know a JSON type by."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "[]interface {}"
    if isinstance(value, Mapping):
        return "map[string]interface {}"
    return "json.Number"


def _unconvertible(expected: str, value: Any, at: str = "") -> FieldError:
    return FieldError(
        f"'{at}' expected type '{expected}', got unconvertible type '{type_name(value)}'"
    )


def _number_text(value: Any) -> str:
    return str(value)


def to_string(value: Any, at: str = "") -> str:
    """Return text as it is, numbers as written, booleans as "1" and "0"."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, list | Mapping):
        raise _unconvertible("string", value, at)
    return _number_text(value)


def to_int(value: Any, at: str = "", *, name: str = "int") -> int:
    """Return a number, or the number that a text spells."""
    if value is None:
        return 0
    if type(value) is int:  # a list may have hundreds of thousands of them
        number: int | None = value
    elif isinstance(value, list | Mapping):
        raise _unconvertible(name, value, at)
    else:
        text = to_string(value)
        number = _parse_int(text) if text else 0
    if number is None:
        raise FieldError(f"'{at}' cannot parse value as '{name}': strconv.ParseInt: invalid syntax")
    if abs(number) > _INT_MAX:
        raise FieldError(
            f"'{at}' cannot parse value as '{name}': strconv.ParseInt: value out of range"
        )
    return number


def _parse_int(text: str) -> int | None:
    """Return what Go reads with base 0: "12", "-7", "0x1f", "017"; None: no integer."""
    if len(text) > _NUMBER_CHARS_MAX or not _INTEGER.fullmatch(text):
        return None
    for base in (0, 8):  # "017" is for Python no integer of base 0
        try:
            return int(text, base)
        except ValueError:
            continue
    return None


def to_bool(value: Any) -> bool:
    """Return a truth value, or the one that a text or number spells."""
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, list | Mapping):
        if not value:
            return False
        raise _unconvertible("bool", value)
    # Of numbers, too, the text counts: "1" spells a truth value, "2" and "1.0" spell none.
    text = to_string(value)
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise FieldError("'' cannot parse value as 'bool': strconv.ParseBool: invalid syntax")


def to_duration_ns(value: Any) -> int:
    """Return nanoseconds; numbers count seconds."""
    if value is None:
        return 0
    if isinstance(value, bool | list | Mapping):
        raise FieldError("could not parse duration from input")
    return parse_duration_ns(to_string(value))


def to_duration_signed_s(value: Any) -> int:
    """Return whole seconds; a fraction is cut off, towards zero."""
    duration_ns = to_duration_ns(value)
    seconds = abs(duration_ns) // SECOND_NS
    return -seconds if duration_ns < 0 else seconds


def to_duration_s(value: Any) -> int:
    """Return whole seconds, not negative."""
    seconds = to_duration_signed_s(value)
    if seconds < 0:
        raise FieldError(f"cannot provide negative value '{seconds}'")
    return seconds


def to_time(value: Any) -> datetime | None:
    """Return a moment; numbers count seconds since 1970, and null is none."""
    if value is None:
        return None
    text = to_string(value)
    if len(text) > _NUMBER_CHARS_MAX:
        raise FieldError("could not parse string as date and time")
    try:
        return datetime.fromtimestamp(int(text), UTC) if text.isdigit() else parse_timestamp(text)
    except (ValueError, OverflowError, OSError):
        raise FieldError("could not parse string as date and time") from None


def to_map(value: Any, at: str = "") -> dict[str, Any]:
    """Return a JSON object; a list of objects is all of them, merged. Source: measured"""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, list):
        raise _unconvertible("map[string]interface {}", value, at)
    merged: dict[str, Any] = {}
    _merge_maps(value, at, merged, [0])
    return merged


def _merge_maps(items: list[Any], at: str, into: dict[str, Any], seen: list[int]) -> None:
    """Merge what is in a list, and in the lists in it; count in ``seen`` how much that was."""
    seen[0] += len(items)
    _require_few(seen[0])
    for index, item in enumerate(items):
        if isinstance(item, list):
            _merge_maps(item, f"{at}[{index}]", into, seen)
        else:
            into |= to_map(item, f"{at}[{index}]")


def to_strings(value: Any) -> list[str]:
    """Return a list of texts; one text is split at its commas."""
    if value is None or value == {}:
        return []
    if isinstance(value, list):
        _require_few(len(value))
        return [to_string(item, f"[{index}]").strip() for index, item in enumerate(value)]
    text = to_string(value)
    _require_few(text.count(","))
    return [part.strip() for part in text.split(",")] if text else []


def _require_few(items: int) -> None:
    if items > ITEMS_MAX:
        raise FieldError(f"list of more than {ITEMS_MAX} items")


def to_list(value: Any) -> list[str]:
    """Return a list of texts; one text is a list of itself."""
    if value is None or isinstance(value, list):
        return to_strings(value)
    return [to_string(value)]


def to_ints(value: Any) -> list[int]:
    """Return a list of numbers; one text is split at its commas."""
    items = value if isinstance(value, list) else to_strings(value)
    _require_few(len(items))
    try:
        return [to_int(item, f"[{index}]") for index, item in enumerate(items)]
    except FieldError as exc:
        raise FieldError(f"decoding failed due to the following error(s):\n\n{exc}") from exc


def _texts(value: Any) -> list[str]:
    try:
        return to_list(value)
    except FieldError as exc:
        raise FieldError(f"decoding failed due to the following error(s):\n\n{exc}") from exc


def to_pairs(value: Any) -> dict[str, str]:
    """Return an object of texts; a list of "key=value" (or one of them) is one too."""
    try:
        return {key: to_string(text, key) for key, text in to_map(value).items()}
    except FieldError:
        # As texts, then; what is wrong with them is the complaint.
        texts = _texts([value] if isinstance(value, Mapping) else value)
    pairs: dict[str, str] = {}
    for index, item in enumerate(texts):
        key, separator, text = item.partition("=")
        if not separator:
            raise FieldError(f"invalid key pair at index {index}")
        pairs[key] = text
    return pairs


_CONVERTERS: Final[dict[FieldKind, Callable[[Any], Any]]] = {
    FieldKind.STRING: to_string,
    FieldKind.LOWER: lambda value: to_string(value).lower(),
    FieldKind.INT: to_int,
    FieldKind.INT64: lambda value: to_int(value, name="int64"),
    FieldKind.BOOL: to_bool,
    FieldKind.DURATION: to_duration_s,
    FieldKind.DURATION_SIGNED: to_duration_signed_s,
    FieldKind.TIME: to_time,
    FieldKind.MAP: to_map,
    FieldKind.STRINGS: to_strings,
    FieldKind.LIST: to_list,
    FieldKind.INTS: to_ints,
    FieldKind.PAIRS: to_pairs,
    FieldKind.ANY: lambda value: value,
}
