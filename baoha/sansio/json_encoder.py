"""
Write JSON as Go's encoder does: what OpenBao's clients and scripts have seen byte for byte.

Rule of this file: a plain ``dict`` is a map (keys sorted), ``Fields`` is a record (keys in the
order given).

Source: measured on OpenBao 2.7.2. No spaces; "<", ">", "&", U+2028 and U+2029 escaped; floats in
the shortest form, with an exponent only below 1e-6 and from 1e21 on; a newline at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from json.encoder import encode_basestring  # a C function: quotes and escapes, non-ASCII as it is
from math import isfinite
from typing import Any, Final

_SPECIAL: Final = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


class Fields(dict[str, Any]):
    """An object whose keys keep their order."""


def encode(value: Any) -> bytes:
    """
    Return a value as JSON text with a newline at the end.

    Raises:
        TypeError: something in it has no JSON form.
        ValueError: a number in it is not finite.
    """
    parts: list[str] = []
    _write(value, parts.append)
    parts.append("\n")
    return "".join(parts).encode()


def _write(value: Any, put: Callable[[str], None]) -> None:
    """Write a value. One frame per level: what the decoder lets in must get out."""
    if isinstance(value, str):
        put(_string(value))
    elif value is None:
        put("null")
    elif isinstance(value, bool):
        put("true" if value else "false")
    elif isinstance(value, int):
        put(str(value))
    elif isinstance(value, float):
        put(_number(value))
    elif isinstance(value, dict):
        separator = "{"
        for key in value if isinstance(value, Fields) else sorted(value):
            put(f"{separator}{_string(key)}:")
            _write(value[key], put)
            separator = ","
        put("}" if value else "{}")
    elif isinstance(value, list | tuple):
        separator = "["
        for item in value:
            put(separator)
            _write(item, put)
            separator = ","
        put("]" if value else "[]")
    else:
        raise TypeError(f"{type(value).__name__} has no JSON form")


def _string(text: str) -> str:
    quoted = encode_basestring(text)
    return _SPECIAL.sub(_escaped, quoted) if _SPECIAL.search(quoted) else quoted


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def _number(value: float) -> str:
    if not isfinite(value):
        raise ValueError("a number that is not finite has no JSON form")
    digits, _, exponent_text = repr(value).removesuffix(".0").partition("e")
    if not exponent_text:
        return digits
    exponent = int(exponent_text)
    if exponent < -6 or exponent >= 21:
        return f"{digits}e{exponent:+d}"
    return _without_exponent(digits, exponent)


def _without_exponent(digits: str, exponent: int) -> str:
    """Write 1.5e-05 as 0.000015 and 1.5e+16 as 15000000000000000."""
    sign = "-" if digits.startswith("-") else ""
    plain = digits.lstrip("-").replace(".", "")
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{plain}"
    return sign + plain.ljust(exponent + 1, "0")
