"""
The JSON form of HCL 1: RFC 8259 with positions, duplicate keys kept, and a depth limit.

Rules of this file: as in hcl.py, linear time and no exception but HCLError. ``null`` is refused:
no key of ours has a meaning for it.

Source: RFC 8259; ours.
"""

from __future__ import annotations

import re
from typing import Final

from baoha.sansio.formats.hcl_tree import Block, HCLError, Item, Text, Value

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_RUN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPES: Final = {
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "\\": "\\",
    '"': '"',
    "/": "/",
}


class JSONParser:
    """
    One document; ``document`` is called once.
    """

    def __init__(self, text: Text, depth_max: int) -> None:
        self._text = text
        self._depth_left = depth_max

    def document(self) -> Block:
        """
        Return the object that the text is.

        Raises:
            HCLError: the text is malformed or nested too deeply.
        """
        if self._char() != "{":
            raise self._error("expected '{'")
        block = self._object()
        if self._char() != "":
            raise self._error("unexpected text after the document")
        return block

    def _char(self) -> str:
        text = self._text
        text.skip_space()
        return text.text[text.at : text.at + 1]

    def _error(self, message: str) -> HCLError:
        return self._text.error(message, self._text.at)

    def _expect(self, char: str) -> None:
        if self._char() != char:
            raise self._error(f"expected '{char}'")
        self._text.at += 1

    def _value(self) -> Value:
        text = self._text
        char = self._char()
        if char == "{":
            return self._object()
        if char == "[":
            return self._array()
        if char == '"':
            return self._string()
        for word, value in (("true", True), ("false", False)):
            if text.text.startswith(word, text.at):
                text.at += len(word)
                return value
        match = _NUMBER.match(text.text, text.at)
        if match is None:
            raise self._error("expected a string, a number, a boolean, an object or an array")
        at, text.at = text.at, match.end()
        return text.number(match[0], at)

    def _open(self) -> None:
        self._depth_left -= 1
        if self._depth_left < 0:
            raise self._error("document is nested too deeply")
        self._text.at += 1

    def _close(self) -> None:
        self._depth_left += 1
        self._text.at += 1

    def _object(self) -> Block:
        items: list[Item] = []
        self._open()
        while self._char() != "}":
            if items:
                self._expect(",")
                self._char()
            line, column = self._text.position(self._text.at)
            key = self._string()
            self._expect(":")
            items.append(Item(key, (), self._value(), line, column))
        self._close()
        return Block(tuple(items), folded=True)

    def _array(self) -> list[Value]:
        values: list[Value] = []
        self._open()
        while self._char() != "]":
            if values:
                self._expect(",")
            values.append(self._value())
        self._close()
        return values

    def _string(self) -> str:
        text = self._text
        self._expect('"')
        parts: list[str] = []
        while True:
            match = _RUN.match(text.text, text.at)
            assert match is not None
            parts.append(match[0])
            text.at = match.end()
            char = text.text[text.at : text.at + 1]
            if char == '"':
                text.at += 1
                return "".join(parts)
            if char != "\\":
                raise self._error("literal not terminated")
            parts.append(self._escape())

    def _escape(self) -> str:
        """
        Decode the escape at the position; two of them where they are a surrogate pair.
        """
        text = self._text
        char = text.text[text.at + 1 : text.at + 2]
        if char in _ESCAPES:
            text.at += 2
            return _ESCAPES[char]
        code = self._code_unit()
        if 0xD800 <= code < 0xDC00:
            low = self._code_unit()
            if not 0xDC00 <= low < 0xE000:
                raise self._error("illegal char escape")
            return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
        if 0xDC00 <= code < 0xE000:
            raise self._error("illegal char escape")
        return chr(code)

    def _code_unit(self) -> int:
        text = self._text
        literal = text.text[text.at : text.at + 6]
        if re.fullmatch(r"\\u[0-9a-fA-F]{4}", literal) is None:
            raise self._error("illegal char escape")
        text.at += 6
        return int(literal[2:], 16)
