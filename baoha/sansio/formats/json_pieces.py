"""
Decode a large JSON text piece by piece.

Rules of this file:

1. No single call into C looks at more than a piece, so that other threads, the event loop's first
   of all, get the interpreter lock in between. (Only the last step of a long string, joining its
   pieces, cannot be divided.)
2. Time is linear in the length, memory is bounded by the counts of strings, values and levels.
   They are counted while the text is read, so what is over a limit is refused where it is over.

Strictness and results are those of the C decoder in json_decoder.py; a test compares the two.

Source: RFC 8259; ours.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

PIECE_BYTES: Final = 32 * 1024
_TOKENS_A_PIECE: Final = 1024
# A number that is longer is malformed.
NUMBER_BYTES_MAX: Final = 32 * 1024

_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_SCALAR: Final = re.compile(
    rb"(?P<integer>-?(?:0|[1-9][0-9]*+))(?P<rest>(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)"
    rb"|(?P<word>true|false|null)"
)
_STRING_RUN: Final = re.compile(
    rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
)
_SURROGATES: Final = re.compile("[\ud800-\udfff]+")
_WORDS: Final = {b"true": True, b"false": False, b"null": None}
_QUOTE, _COMMA, _COLON = b'",:'
_OBJECT, _OBJECT_END, _ARRAY, _ARRAY_END = b"{}[]"


class MalformedError(ValueError):
    """The text is no JSON."""


class TooComplexError(ValueError):
    """The text is over a limit; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JSONLimits:
    """What a text may have at most; keys count as strings and as values."""

    strings: int
    values: int
    depth: int


class PiecewiseDecoder:
    """
    One text; ``run`` is called once.

    Args:
        number: makes the value of a number from its text; the second argument says whether it is
            written as an integer. It may raise ValueError.
        pause: called after every piece; what it raises ends the work.
        piece_bytes: of a string or of white space; at least 6, the length of an escape.
    """

    def __init__(
        self,
        body: bytes,
        limits: JSONLimits,
        *,
        number: Callable[[str, bool], Any],
        pause: Callable[[], None],
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self._body = body
        self._at = 0
        self._number = number
        self._pause = pause
        self._piece_bytes = piece_bytes
        self._limits = limits
        self._strings = 0
        self._values = 0

    def run(self) -> Any:
        """
        Return the first value of the text, None if there is none. Those that follow are checked.

        Raises:
            MalformedError: the text is malformed, or ``number`` said so.
            TooComplexError: it is over a limit.
        """
        first: Any = None
        is_first = True
        while self._peek() >= 0:
            value = self._document()
            if is_first:
                first, is_first = value, False
        return first

    def _document(self) -> Any:
        """Read one value. Open brackets are kept in lists: depth costs no stack."""
        containers: list[Any] = []
        keys: list[str] = []
        while True:
            value, is_open = self._value(keys, len(containers))
            if is_open:
                containers.append(value)
                continue
            while containers:
                container = containers[-1]
                is_array = type(container) is list
                if is_array:
                    container.append(value)
                else:
                    container[keys.pop()] = value
                char = self._peek()
                self._at += 1
                if char == _COMMA:
                    if not is_array:
                        keys.append(self._key())
                    break
                if char != (_ARRAY_END if is_array else _OBJECT_END):
                    self._malformed()
                value = containers.pop()
            else:
                return value

    def _value(self, keys: list[str], depth: int) -> tuple[Any, bool]:
        """Read a scalar or an empty bracket, or (True) open a bracket up to its first value."""
        self._count_value()
        char = self._peek()
        if char == _QUOTE:
            return self._string(), False
        if char not in (_OBJECT, _ARRAY):
            return self._scalar(), False
        if depth == self._limits.depth:
            raise TooComplexError("depth")
        self._at += 1
        container: Any = {} if char == _OBJECT else []
        if self._peek() == (_OBJECT_END if char == _OBJECT else _ARRAY_END):
            self._at += 1
            return container, False
        if char == _OBJECT:
            keys.append(self._key())
        return container, True

    def _key(self) -> str:
        self._count_value()
        if self._peek() != _QUOTE:
            self._malformed()
        key = self._string()
        if self._peek() != _COLON:
            self._malformed()
        self._at += 1
        return key

    def _peek(self) -> int:
        """Return the next byte that is not space, -1 at the end."""
        body = self._body
        while self._at < len(body):
            if (char := body[self._at]) > 0x20:
                return char
            match = _SPACE.match(body, self._at, self._at + self._piece_bytes)
            assert match is not None  # it matches nothing, too
            if match.end() == self._at:
                return char
            self._at = match.end()
            self._pause()
        return -1

    def _scalar(self) -> Any:
        end = self._at + NUMBER_BYTES_MAX
        match = _SCALAR.match(self._body, self._at, end)
        if match is None or match.end() == end:
            self._malformed()
        self._at = match.end()
        if match["word"]:
            return _WORDS[match["word"]]
        try:
            return self._number(match.group().decode(), not match["rest"])
        except ValueError as exc:
            raise MalformedError(f"number at byte {match.start()}") from exc

    def _string(self) -> str:
        self._strings += 1
        if self._strings > self._limits.strings:
            raise TooComplexError("strings")
        text = _StringText()
        at = self._at + 1
        while True:
            match = _STRING_RUN.match(self._body, at, at + self._piece_bytes)
            assert match is not None  # it matches nothing, too
            end = match.end()
            if self._body[end : end + 1] == b'"':
                self._at = end + 1
                return text.finish(match.group())
            if end == at:
                self._at = at
                self._malformed()
            text.add(match.group())
            self._pause()
            at = end

    def _count_value(self) -> None:
        self._values += 1
        if self._values > self._limits.values:
            raise TooComplexError("values")
        if self._values % _TOKENS_A_PIECE == 0:
            self._pause()

    def _malformed(self) -> NoReturn:
        raise MalformedError(f"byte {self._at}")


class _StringText:
    """
    The text of one string, from pieces of it that end between two escapes.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._parts: list[str] = []
        # A high surrogate at the end of a piece: the next one may begin with its other half.
        self._high = ""

    def add(self, piece: bytes, *, is_last: bool = False) -> None:
        # A byte that is not UTF-8 becomes one replacement character, as in Go.
        part = _replaced(self._decoder.decode(piece, is_last))
        if b"\\" in piece:
            part = json.loads(f'"{part}"')
        if self._high:
            if "\udc00" <= part[:1] <= "\udfff":
                pair = f"{self._high}{part[0]}"
                part = pair.encode("utf-16", "surrogatepass").decode("utf-16") + part[1:]
            else:
                part = self._high + part
            self._high = ""
        if not is_last and "\ud800" <= part[-1:] <= "\udbff":
            self._high, part = part[-1], part[:-1]
        self._parts.append(_replaced(part))

    def finish(self, piece: bytes) -> str:
        self.add(piece, is_last=True)
        return "".join(self._parts)


def _replaced(text: str) -> str:
    """Replace every surrogate that stands alone."""
    if text.isascii():
        return text
    return _SURROGATES.sub(lambda match: "\ufffd" * len(match.group()), text)
