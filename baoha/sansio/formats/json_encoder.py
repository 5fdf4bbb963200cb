"""
Write JSON as Go's encoder does: what OpenBao's clients and scripts have seen byte for byte.

Rules of this file:

1. A plain ``dict`` is a map (keys sorted), ``Fields`` is a record (keys in the order given).
2. The cost is linear in what is written, whatever characters it has, and no single call into C
   takes long: a long text is written piece by piece, with a ``pause`` after each.

Source: measured on OpenBao 2.7.2. No spaces; "<", ">", "&", U+2028 and U+2029 escaped; floats in
the shortest form, with an exponent only below 1e-6 and from 1e21 on; a newline at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from io import BytesIO
from json.encoder import encode_basestring  # a C function: quotes and escapes, non-ASCII as it is
from math import isfinite
from typing import Any, Final

# Nothing larger is made for a client: it is also what one message of the cluster channel holds.
ENCODED_BYTES_MAX: Final = 64 * 1024 * 1024
# How much is looked at before ``cost`` calls a value as heavy as any.
_COST_VALUES_MAX: Final = 10_000
_VALUE_COST_BYTES: Final = 32  # what takes as long as one value, however short
_HEAVY: Final = 1 << 40
# A text above this is written in pieces of it: a millisecond each at most.
_PIECE_CHARS: Final = 32 * 1024
# So many short parts are joined at once.
_PARTS_MAX: Final = 1024

# Of texts that are not ASCII it takes the others, too.
_ASCII_ESCAPES: Final = (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"))
_OTHER_ESCAPES: Final = (("\u2028", "\\u2028"), ("\u2029", "\\u2029"))
# Asked by identity only: 1 equals True.
_WORDS: Final = {None: "null", True: "true", False: "false"}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Fields(dict[str, Any]):
    """An object whose keys keep their order."""


class TooLargeError(ValueError):
    """The text would be longer than it may be."""


def _go_on() -> None:
    return


def cost(value: Any) -> int:
    """
    Return about how many bytes encoding a value has to look at, without looking at all of it.
    """
    chars, values = 0, 1
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            chars += len(item)
        elif item is None or isinstance(item, int):
            continue  # counted by what it is in
        elif isinstance(item, dict | Mapping):  # dict first: the other question is a slow one
            values += len(item)
            if values > _COST_VALUES_MAX:
                return _HEAVY
            chars += sum(map(len, item))
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            values += len(item)
            if values > _COST_VALUES_MAX:
                return _HEAVY
            pending.extend(item)
    return chars + values * _VALUE_COST_BYTES


def encode(
    value: Any, *, pause: Callable[[], None] = _go_on, bytes_max: int = ENCODED_BYTES_MAX
) -> bytes:
    """
    Return a value as JSON text with a newline at the end.

    Args:
        pause: called after every piece; what it raises ends the work.
        bytes_max: of the text.

    Raises:
        TypeError: something in it has no JSON form.
        TooLargeError: the text is longer than ``bytes_max``.
        ValueError: a number in it is not finite.
    """
    out = _Output(_go_string, pause, bytes_max)
    _write(value, out)
    out.parts.append("\n")
    return out.finish()


def encode_plain(value: Any, *, pause: Callable[[], None] = _go_on) -> bytes:
    """
    Return a JSON value as text that reads back as the same value, lone surrogates included: keys
    in their order, nothing escaped that need not be. Raises as ``encode``, but at no size.
    """
    out = _Output(encode_basestring, pause, None)
    _write(value, out)
    return out.finish()


class _Output:
    """
    The text so far. Short parts may be appended to ``parts`` directly.
    """

    __slots__ = ("_bytes", "_bytes_max", "_pause", "is_go", "parts", "quoted")

    def __init__(
        self, quoted: Callable[[str], str], pause: Callable[[], None], bytes_max: int | None
    ) -> None:
        self.quoted = quoted
        self.is_go = quoted is _go_string
        self.parts: list[str] = []
        # Grows in place, and gives its content away without a copy.
        self._bytes = BytesIO()
        self._pause = pause
        self._bytes_max = bytes_max

    def long_string(self, text: str) -> None:
        self.parts.append('"')
        for at in range(0, len(text), _PIECE_CHARS):
            self.parts.append(self.quoted(text[at : at + _PIECE_CHARS])[1:-1])
            self.flush()
        self.parts.append('"')

    def flush(self) -> None:
        self._bytes.write("".join(self.parts).encode("utf-8", "surrogatepass"))
        self.parts.clear()
        if self._bytes_max is not None and self._bytes.tell() > self._bytes_max:
            raise TooLargeError(f"JSON text of more than {self._bytes_max} bytes")
        self._pause()

    def finish(self) -> bytes:
        self.flush()
        return self._bytes.getvalue()


def _write(value: Any, out: _Output) -> None:
    """Write a value. One frame per level: what the decoder lets in must get out."""
    put = out.parts.append
    if isinstance(value, str):
        if len(value) > _PIECE_CHARS:
            out.long_string(value)
        else:
            put(out.quoted(value))
    elif value is None or value is True or value is False:
        put(_WORDS[value])
    elif isinstance(value, int):
        put(str(value))
    elif isinstance(value, float):
        put(_number(value) if out.is_go else repr(value))
    elif isinstance(value, dict):
        separator = "{"
        is_sorted = out.is_go and not isinstance(value, Fields)
        for key in sorted(value) if is_sorted else value:
            put(separator)
            if key.isascii() and key.isidentifier() and len(key) <= _PIECE_CHARS:
                put(f'"{key}"')  # a plain word, as most are: nothing to escape
            elif len(key) > _PIECE_CHARS:
                out.long_string(key)
            else:
                put(out.quoted(key))
            put(":")
            item = value[key]
            # Most are one of these: no frame for them.
            if isinstance(item, str) and len(item) <= _PIECE_CHARS:
                put(out.quoted(item))
            elif item is None or item is True or item is False:
                put(_WORDS[item])
            elif type(item) is int:
                put(str(item))
            else:
                _write(item, out)
            separator = ","
        put("}" if value else "{}")
    elif isinstance(value, list | tuple):
        separator = "["
        for item in value:
            put(separator)
            _write(item, out)
            separator = ","
        put("]" if value else "[]")
    else:
        raise TypeError(f"{type(value).__name__} has no JSON form")
    if len(out.parts) > _PARTS_MAX:
        out.flush()


def _go_string(text: str) -> str:
    quoted = encode_basestring(text)
    if "<" in quoted or ">" in quoted or "&" in quoted:
        for char, escape in _ASCII_ESCAPES:
            quoted = quoted.replace(char, escape)
    if quoted.isascii():
        return quoted
    for char, escape in _OTHER_ESCAPES:
        if char in quoted:
            quoted = quoted.replace(char, escape)
    return _SURROGATE.sub("\ufffd", quoted)


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
