"""
Decode request bodies as OpenBao does, with its error texts.

Rules of this file:

1. What is refused, is refused with the text that OpenBao's clients know.
2. The cost of a body is bounded before anything is built from it: strings, values and depth.

Theory of operation. For a small body the C decoder of the standard library does the work; it is as
strict as Go's once constants, control characters and numbers beyond a float are refused. Only when
it fails, or when the body *may* be over a limit (cheap counts of its bytes), ``_Scanner`` reads the
text token by token, builds nothing, and finds the exact complaint. What runs in C holds the
interpreter lock, and strangers could stop the clock with it: a larger body is read by
``json_pieces``. It counts as it goes, and a malformed one is read once more for the complaint, if
it is not so large that it gets no more than "invalid JSON".

Integers stay exact, whatever their size; other numbers become floats; "-0" stays negative.

Source: Go's JSON error texts as measured on OpenBao 2.7.2 (the table is
tests/conformance/recordings/json-errors.json); docs/decisions/012-own-json-decoder.md. The depth
limit is ours, Go's is 10000.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from math import isinf
from typing import Any, Final

from baoha.errors import InvalidRequest
from baoha.sansio.formats.json_pieces import (
    JSONLimits,
    MalformedError,
    PiecewiseDecoder,
    TooComplexError,
)

STRINGS_MAX: Final = 1000  # keys included. Source: measured
VALUES_MAX: Final = 250_000  # half a second; OpenBao stops between 1 and 3 million
# Larger bodies are decoded piece by piece.
WHOLE_BYTES_MAX: Final = 16 * 1024
# Bodies up to here are read once more when they are malformed.
SCAN_BYTES_MAX: Final = 256 * 1024
# Python's own recursion limit (1000) must not be reached by whoever walks the result.
DEPTH_MAX: Final = 700
MAP_TYPE: Final = "map[string]interface {}"

_PREFIX: Final = "failed to decode JSON input: "
_COMPLEX: Final = "refused JSON input due to high complexity: exceeded maximum "
_WHITESPACE: Final = " \t\r\n"
_UNDECODABLE: Final = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")


_LIMITS: Final = JSONLimits(strings=STRINGS_MAX, values=VALUES_MAX, depth=DEPTH_MAX)
_TOO_COMPLEX: Final = {
    "strings": f"{_COMPLEX}number of strings",
    "values": f"{_COMPLEX}estimated memory limits",
    "depth": f"{_PREFIX}exceeded max depth",
}


def _go_on() -> None:
    return


class NumberText(str):
    """A number as it was written."""

    __slots__ = ()


def decode_object(body: bytes, *, pause: Callable[[], None] = _go_on) -> dict[str, Any]:
    """
    Return the object in a body; an empty body and ``null`` are the empty object.

    Args:
        pause: called between pieces of a large body; what it raises ends the work.

    Raises:
        InvalidRequest: with OpenBao's text.
    """
    value = _decode(body, _VALUES, _value_number, pause)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"{_PREFIX}json: cannot unmarshal {_kind(value)} into Go value of type {MAP_TYPE}"
        )
    return value


def decode_record(
    body: bytes,
    name: str,
    fields: Mapping[str, str],
    *,
    pause: Callable[[], None] = _go_on,
) -> dict[str, Any]:
    """
    Return the fields of a fixed record; names match in any case, unknown ones are ignored.

    Args:
        name: what OpenBao calls the record in its error texts, e.g. "UnsealRequest".
        fields: field name to type: "string", "int", "bool" or "[]string".
        pause: as for ``decode_object``.

    Raises:
        InvalidRequest: with OpenBao's text.
    """
    value = _decode(body, _TEXTS, _text_number, pause)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"{_PREFIX}json: cannot unmarshal {_kind(value)} into Go value of type http.{name}"
        )
    found: dict[str, Any] = {}
    for key, item in value.items():
        if (field := key.lower()) in fields and item is not None:
            found[field] = _converted(item, fields[field], f"{name}.{key}")
    return found


def _converted(item: Any, wanted: str, where: str) -> Any:
    if wanted == "[]string" and isinstance(item, list):
        for index, element in enumerate(item):
            if element is not None and _kind(element) != "string":
                raise InvalidRequest(
                    f"{_PREFIX}json: cannot unmarshal {_kind(element)} into {where}.{index} "
                    "of type string"
                )
        return [element or "" for element in item]
    kind = _kind(item)
    if wanted == kind:
        return item
    if wanted == "int" and kind == "number":
        if re.fullmatch("-?[0-9]+", item) and -(2**63) <= int(item) < 2**63:
            return int(item)
        kind = f"number {item}"
    raise InvalidRequest(
        f"{_PREFIX}json: cannot unmarshal {kind} into Go struct field {where} of type {wanted}"
    )


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, NumberText | int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


# --- the fast path -----------------------------------------------------------------------------


def _integer(text: str) -> int | float:
    if text == "-0":
        return -0.0
    if len(text) > 300:  # float's range ends at 309 digits, int()'s at 4300
        _finite(text)
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError(text)
    return number


def _number_text(text: str) -> NumberText:
    _finite(text)
    return NumberText(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_VALUES: Final = json.JSONDecoder(
    parse_int=_integer, parse_float=_finite, parse_constant=_refuse_constant
)
_TEXTS: Final = json.JSONDecoder(
    parse_int=_number_text, parse_float=_number_text, parse_constant=_refuse_constant
)


def _value_number(text: str, is_integer: bool) -> int | float:
    return _integer(text) if is_integer else _finite(text)


def _text_number(text: str, is_integer: bool) -> NumberText:
    return _number_text(text)


def _decode(
    body: bytes,
    decoder: json.JSONDecoder,
    number: Callable[[str, bool], Any],
    pause: Callable[[], None],
) -> Any:
    if len(body) <= WHOLE_BYTES_MAX:
        return _decode_whole(body, decoder)
    try:
        return PiecewiseDecoder(body, _LIMITS, number=number, pause=pause).run()
    except TooComplexError as exc:
        raise InvalidRequest(_TOO_COMPLEX[str(exc)]) from exc
    except MalformedError as exc:
        if len(body) > SCAN_BYTES_MAX:
            raise InvalidRequest(f"{_PREFIX}invalid JSON") from exc
        raise _complaint(body.decode("utf-8", "surrogateescape")) from exc


def _decode_whole(body: bytes, decoder: json.JSONDecoder) -> Any:
    # A byte that is not UTF-8 becomes one replacement character, as in Go; until then it is a
    # surrogate, so that the scanner can name it.
    text = body.decode("utf-8", "surrogateescape")
    start = len(text) - len(text.lstrip(_WHITESPACE))
    if start == len(text):
        return None
    if _may_be_complex(body):
        _Scanner(text).run()
    clean = _UNDECODABLE.sub("\ufffd", text)
    try:
        value, end = decoder.raw_decode(clean, start)
    except (ValueError, RecursionError) as exc:
        raise _complaint(text) from exc
    if clean[end:].strip(_WHITESPACE):
        # More values may follow; the first one counts, but all must be well-formed.
        _Scanner(text).run()
    return _mended(value) if _SURROGATE_ESCAPE.search(clean) else value


def _complaint(text: str) -> InvalidRequest:
    """Return what is wrong with a malformed text, exactly."""
    try:
        _Scanner(text).run()
    except InvalidRequest as exc:
        return exc
    return InvalidRequest(f"{_PREFIX}invalid JSON")


def _may_be_complex(body: bytes) -> bool:
    """Count what a string, a value or a level costs at least; strings may hold such bytes too."""
    nested = body.count(b"[") + body.count(b"{")
    return (
        body.count(b'"') > 2 * STRINGS_MAX
        or body.count(b",") + nested > VALUES_MAX
        or nested > DEPTH_MAX
    )


def _mended(value: Any) -> Any:
    """Replace the surrogates that no escape sequence completed. One frame per level."""
    if isinstance(value, NumberText):
        return value
    if isinstance(value, str):
        return _UNDECODABLE.sub("\ufffd", value)
    if isinstance(value, list):
        for index, item in enumerate(value):
            value[index] = _mended(item)
    elif isinstance(value, dict):
        for key in list(value):
            # In this order: of keys that become the same one, the last counts.
            item = _mended(value.pop(key))
            value[_mended(key)] = item
    return value


# --- the exact path ----------------------------------------------------------------------------

_SPACE: Final = re.compile(r"[ \t\r\n]*+")
_STRING: Final = re.compile(
    r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
)
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+")
_NUMBER_START: Final = re.compile(r"-?(?:(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?+(?:[eE][+-]?)?+)?+")
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}
_CLOSING: Final = {"[": "]", "{": "}"}


class _Scanner:
    """
    Reads a whole text, keeps nothing but counts, and complains about the first thing wrong.

    A comma is looked at together with what follows it: Go names the comma, not the bracket, in
    ``[1,]``.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.strings = 0
        self.values = 0

    def run(self) -> None:
        """
        Check every value in the text.

        Raises:
            InvalidRequest: with OpenBao's text.
        """
        brackets: list[str] = []
        while brackets or self._peek():
            if self._opens(brackets):
                continue
            while brackets and not self._continues(brackets[-1]):
                brackets.pop()

    def _opens(self, brackets: list[str]) -> bool:
        """Read a scalar or an empty bracket (False), or open a bracket up to its first value."""
        char = self._require()
        if char not in "[{":
            self._scalar(char)
            return False
        self._count_value()
        if len(brackets) == DEPTH_MAX:
            raise InvalidRequest(f"{_PREFIX}exceeded max depth")
        self.position += 1
        if self._require() == _CLOSING[char]:
            self.position += 1
            return False
        if char == "{":
            self._member_name()
        brackets.append(char)
        return True

    def _continues(self, bracket: str) -> bool:
        """Step over what follows a value in a bracket; False when that closes it."""
        char = self._require()
        if char == _CLOSING[bracket]:
            self.position += 1
            return False
        if char != ",":
            place = "array element" if bracket == "[" else "object key:value pair"
            raise self._invalid(char, f"after {place}")
        self.position += 1
        if self._require() in "]}":
            raise self._invalid(",", "looking for beginning of value")
        if bracket == "{":
            self._member_name()
        return True

    def _member_name(self) -> None:
        char = self._require()
        if char not in "[{":
            self._scalar(char)
        if char != '"':
            raise InvalidRequest(f"{_PREFIX}object member name must be a string")
        if (char := self._require()) != ":":
            raise self._invalid(char, "after object key")
        self.position += 1
        if self._require() == "}":
            raise InvalidRequest(f"{_PREFIX}missing value after object key")

    def _scalar(self, char: str) -> None:
        self._count_value()
        if char == '"':
            self._string()
        elif char in "-0123456789":
            self._number()
        elif char in _LITERALS:
            self._literal(_LITERALS[char])
        else:
            raise self._invalid(char, "looking for beginning of value")

    def _string(self) -> None:
        self.strings += 1
        if self.strings > STRINGS_MAX:
            raise InvalidRequest(f"{_COMPLEX}number of strings")
        match = _STRING.match(self.text, self.position)
        assert match is not None  # the caller saw the quote
        end = match.end()
        if end == len(self.text):
            raise self._ended()
        if (char := self.text[end]) == '"':
            self.position = end + 1
            return
        if char != "\\":
            raise self._invalid(char, "in string")
        length = 6 if self.text[end + 1 : end + 2] == "u" else 2
        escape = self.text[end : end + length]
        if len(escape) < length:
            raise self._ended()
        raise InvalidRequest(f"{_PREFIX}invalid escape sequence `{escape}` in string")

    def _number(self) -> None:
        start = self.position
        attempt = _NUMBER_START.match(self.text, start)
        match = _NUMBER.match(self.text, start)
        assert attempt is not None  # it matches the empty text too
        if match is None or match.end() < attempt.end():
            if attempt.end() == len(self.text):
                raise self._ended()
            raise self._invalid(self.text[attempt.end()], "in numeric literal")
        self.position = match.end()
        if isinf(float(match.group())):
            raise InvalidRequest(
                f"{_PREFIX}json: cannot unmarshal number {match.group()} into Go value of type "
                "float64"
            )

    def _literal(self, literal: str) -> None:
        for expected in literal:
            if self.position == len(self.text):
                raise self._ended()
            if (char := self.text[self.position]) != expected:
                raise self._invalid(char, f"in literal {literal} (expecting '{expected}')")
            self.position += 1

    def _count_value(self) -> None:
        self.values += 1
        if self.values > VALUES_MAX:
            raise InvalidRequest(f"{_COMPLEX}estimated memory limits")

    def _peek(self) -> str:
        """Return the next character that is not space, "" at the end."""
        match = _SPACE.match(self.text, self.position)
        assert match is not None  # it matches the empty text too
        self.position = match.end()
        return self.text[self.position : self.position + 1]

    def _require(self) -> str:
        char = self._peek()
        if not char:
            raise self._ended()
        return char

    @staticmethod
    def _ended() -> InvalidRequest:
        return InvalidRequest(f"{_PREFIX}unexpected EOF")

    @staticmethod
    def _invalid(char: str, context: str) -> InvalidRequest:
        return InvalidRequest(f"{_PREFIX}invalid character '{_quoted(char)}' {context}")


_ESCAPES: Final = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
    "'": r"\'",
}


def _quoted(char: str) -> str:
    """Return a character as Go quotes one."""
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
