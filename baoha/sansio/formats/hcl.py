"""
HCL 1 and its JSON form, parsed into one small tree.

Rules of this file: the time is linear in the length of the text, because a policy is written by a
client (no regular expression here can backtrack, heredocs are scanned line by line); no input makes
``parse`` raise anything but ``HCLError``.

A document is a ``Block``: items in the order of the text, duplicates kept, each with its position.
What a key means is decided above. The syntax and the wording of the errors are those that
``bao policy fmt`` shows; ``tests/conformance/test_hcl_against_bao.py`` compares the two.

Where a text starts with "{" it is JSON. JSON has no labels, so ``{"path": {"a": {...}}}`` says what
``path "a" {...}`` says: ``Block.blocks`` reads both, and only JSON objects (``folded``) may be read
that way: HCL's ``path = {"a" = {...}}`` is refused, as OpenBao refuses it.

Source: ours; accepted and refused cases measured with OpenBao 2.7.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from baoha.sansio.formats.hcl_json import JSONParser
from baoha.sansio.formats.hcl_tree import Block, HCLError, Item, Plain, Text, Value

__all__ = ["DEPTH_MAX", "SIZE_MAX", "Block", "HCLError", "Item", "Plain", "Value", "parse"]

SIZE_MAX: Final = 1 << 20  # characters; a policy or a configuration file is far smaller
_QUOTED_CHARACTERS_MAX: Final = 100
DEPTH_MAX: Final = 64  # nesting of blocks and lists; bounds our own recursion

_ILLEGAL_UTF8: Final = "illegal UTF-8 encoding"
_FORBIDDEN: Final = re.compile("[\x00\ue123\ud800-\udfff]")
_FORBIDDEN_WHY: Final = {
    "\x00": "unexpected null character (0x00)",
    "\ue123": "unicode code point U+E123 reserved for internal use",
}
_IDENT: Final = re.compile(r"[A-Za-z0-9_.\-]*")
_NUMBER: Final = re.compile(
    r"-?(?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
)
_STRING_RUN: Final = re.compile(r'[^"\\\n${}]*')
_PUNCTUATION: Final = {
    "{": "LBRACE",
    "}": "RBRACE",
    "[": "LBRACK",
    "]": "RBRACK",
    ",": "COMMA",
    "=": "ASSIGN",
    "+": "ADD",
    "-": "SUB",
}
_ESCAPES: Final = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
    '"': b'"',
}


def parse(source: str | bytes, *, size_max: int = SIZE_MAX, depth_max: int = DEPTH_MAX) -> Block:
    """
    Parse HCL 1, or JSON if the first character that is not white space is "{".

    Args:
        size_max: longest text, in characters (bytes for bytes).
        depth_max: deepest nesting of blocks, objects and lists.

    Raises:
        HCLError: the text is too long, too deep or malformed.
    """
    if len(source) > size_max:
        raise HCLError(f"document is longer than {size_max} characters", 1, 1)
    text = _decode(source) if isinstance(source, bytes) else source
    text = text.replace("\r\n", "\n")
    scanner = _Scanner(text)
    forbidden = _FORBIDDEN.search(text)
    if forbidden is not None:
        raise scanner.error(_FORBIDDEN_WHY.get(forbidden[0], _ILLEGAL_UTF8), forbidden.start())
    if text.lstrip().startswith("{"):
        return JSONParser(scanner, depth_max).document()
    return _Parser(scanner, depth_max).document()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    at: int
    value: str | int | float | bool = ""


class _Scanner(Text):
    """Tokens of the text from its position on."""

    def token(self) -> _Token:
        self._skip_comments()
        at = self.at
        if at == len(self.text):
            return _Token("EOF", at)
        char = self.text[at]
        if char == '"':
            return _Token("STRING", at, self._string())
        if char == "<":
            return _Token("HEREDOC", at, self._heredoc())
        if char in "0123456789.-" and (match := _NUMBER.match(self.text, at)) is not None:
            self.at = match.end()
            return _Token("NUMBER", at, self.number(match[0], at))
        if char == "_" or char.isalpha():
            return self._word(at)
        kind = _PUNCTUATION.get(char)
        if kind is None:
            raise self.error("illegal char", at)
        self.at = at + 1
        return _Token(kind, at)

    def _skip_comments(self) -> None:
        text = self.text
        while True:
            self.skip_space()
            at = self.at
            if text.startswith(("#", "//"), at):
                end = text.find("\n", at)
                self.at = len(text) if end < 0 else end
            elif text.startswith("/*", at):
                end = text.find("*/", at + 2)
                if end < 0:
                    raise self.error("comment not terminated", len(text))
                self.at = end + 2
            elif text.startswith("/", at):
                raise self.error("expected '/' for comment", at)
            else:
                return

    def _word(self, at: int) -> _Token:
        text = self.text
        end = at + 1
        while True:
            match = _IDENT.match(text, end)
            assert match is not None
            end = match.end()
            if end == len(text) or not (text[end].isalpha() or text[end].isdecimal()):
                break
            end += 1
        self.at = end
        word = text[at:end]
        if word in ("true", "false"):
            return _Token("BOOL", at, word == "true")
        return _Token("IDENT", at, word)

    def _string(self) -> str:
        """
        Read a quoted string. Inside ``${ }`` quotes and line ends are plain text, escapes stay.
        """
        text = self.text
        parts: list[bytes] = []
        braces = 0
        start, at = self.at, self.at + 1
        while True:
            match = _STRING_RUN.match(text, at)
            assert match is not None
            parts.append(match[0].encode())
            at = match.end()
            char = text[at : at + 1]
            if not char or (char == "\n" and braces == 0):
                raise self.error("literal not terminated", at)
            if char == '"' and braces == 0:
                break
            if char == "\\":
                decoded, end = self._escape(at)
                verbatim = braces > 0 and text[at + 1] != '"'
                parts.append(text[at:end].encode() if verbatim else decoded)
                at = end
                continue
            if braces == 0 and text.startswith("${", at):
                braces, char = 1, "${"
            elif braces > 0 and char in "{}":
                braces += 1 if char == "{" else -1
            parts.append(char.encode())
            at += len(char)
        self.at = at + 1
        try:
            return b"".join(parts).decode()
        except UnicodeDecodeError as exc:
            raise self.error(_ILLEGAL_UTF8, start) from exc

    def _escape(self, at: int) -> tuple[bytes, int]:
        """
        Decode the escape whose backslash is at ``at``; return its bytes and where it ends.
        """
        text = self.text
        char = text[at + 1 : at + 2]
        if char in _ESCAPES:
            return _ESCAPES[char], at + 2
        digits_at, length, base = at + 2, {"x": 2, "u": 4, "U": 8}.get(char, 0), 16
        if char and char in "01234567":
            digits_at, length, base = at + 1, 3, 8
        elif not length:
            raise self.error("illegal char escape", at + 1)
        allowed = "01234567" if base == 8 else "0123456789abcdefABCDEF"
        for offset in range(digits_at, digits_at + length):
            if offset >= len(text) or text[offset] not in allowed:
                raise self.error("illegal char escape", offset)
        code = int(text[digits_at : digits_at + length], base)
        if char not in ("u", "U"):
            if code > 0xFF:
                raise self.error("illegal char escape", digits_at)
            return bytes((code,)), digits_at + length
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self.error("illegal char escape", digits_at)
        return chr(code).encode(), digits_at + length

    def _heredoc(self) -> str:
        text = self.text
        at = self.at + 2
        if not text.startswith("<<", self.at):
            raise self.error("heredoc expected second '<', didn't see it", self.at + 1)
        unindent = text.startswith("-", at)
        at += unindent
        end = text.find("\n", at)
        anchor = text[at : len(text) if end < 0 else end]
        for offset, char in enumerate(anchor):
            if not (char == "_" or char.isalpha() or char.isdecimal()):
                raise self.error("invalid characters in heredoc anchor", at + offset)
        if not anchor:
            raise self.error("zero-length heredoc anchor", at)
        lines: list[str] = []
        while end >= 0:
            start = end + 1
            end = text.find("\n", start)
            line = text[start : len(text) if end < 0 else end]
            if end >= 0 and line.rstrip("\r").lstrip(" \t\v\f\r") == anchor:
                self.at = end + 1
                indent = line.rstrip("\r")[: -len(anchor)]
                return _heredoc_text(lines, indent, unindent=unindent)
            lines.append(line)
        raise self.error("heredoc not terminated", len(text))


def _heredoc_text(lines: list[str], indent: str, *, unindent: bool) -> str:
    """
    Join the lines of a heredoc; ``indent`` is the white space before the closing anchor.
    """
    if not unindent:
        return "".join(f"{line}\n" for line in lines) + indent
    if all(line.startswith(indent) for line in lines):
        lines = [line[len(indent) :] for line in lines]
    return "".join(f"{line}\n" for line in lines)


class _Parser:
    """Recursive descent over the tokens, with one token of look-ahead."""

    def __init__(self, scanner: _Scanner, depth_max: int) -> None:
        self._scanner = scanner
        self._depth = 0
        self._depth_max = depth_max
        self._next = scanner.token()

    def document(self) -> Block:
        return Block(tuple(self._items()))

    def _take(self) -> _Token:
        token = self._next
        self._next = self._scanner.token()
        return token

    def _items(self) -> Iterator[Item]:
        while self._next.kind not in ("EOF", "RBRACE"):
            yield self._item()
            if self._next.kind == "COMMA":
                self._take()
        if self._next.kind == "RBRACE" and self._depth == 0:
            raise self._key_error(self._next)

    def _item(self) -> Item:
        keys: list[_Token] = []
        while self._next.kind in ("IDENT", "STRING"):
            keys.append(self._take())
        token = self._next
        if not keys:
            if token.kind == "ASSIGN":
                raise self._scanner.error("no object keys found!", token.at)
            raise self._key_error(token)
        if token.kind == "EOF":
            raise self._end_error(keys)
        if token.kind == "ASSIGN":
            if len(keys) > 1:
                raise self._scanner.error("nested object expected: LBRACE got: ASSIGN", token.at)
            self._take()
            value = self._value()
        elif token.kind == "LBRACE":
            value = self._block(levels=len(keys))
        else:
            raise self._key_error(token)
        names = tuple(str(key.value) for key in keys)
        return Item(names[0], names[1:], value, *self._scanner.position(keys[0].at))

    def _value(self) -> Value:
        token = self._next
        if token.kind == "LBRACE":
            return self._block(levels=1)
        if token.kind == "LBRACK":
            return self._list()
        if token.kind in ("STRING", "HEREDOC", "NUMBER", "BOOL"):
            return self._take().value
        line, column = self._scanner.position(token.at)
        word = f" {_quoted(str(token.value))}" if token.value else ""
        raise self._scanner.error(f"Unknown token: {line}:{column} {token.kind}{word}", token.at)

    def _enter(self, levels: int) -> None:
        self._depth += levels
        if self._depth > self._depth_max:
            raise self._scanner.error("document is nested too deeply", self._next.at)
        self._take()

    def _leave(self, levels: int) -> None:
        self._depth -= levels
        self._take()

    def _block(self, *, levels: int) -> Block:
        # Every label is a level of its own: as plain dicts, labels are nested.
        self._enter(levels)
        items = tuple(self._items())
        if self._next.kind == "EOF":
            line, column = self._scanner.position(self._next.at)
            raise HCLError("object expected closing RBRACE got: EOF", line, column + 1)
        self._leave(levels)
        return Block(items)

    def _list(self) -> list[Value]:
        self._enter(1)
        values: list[Value] = []
        comma_needed = False
        while (token := self._next).kind != "RBRACK":
            if token.kind == "COMMA":
                self._take()
                comma_needed = False
            elif comma_needed:
                raise self._scanner.error(
                    f"error parsing list, expected comma or list end, got: {token.kind}", token.at
                )
            elif token.kind in ("STRING", "HEREDOC", "NUMBER", "BOOL", "LBRACE", "LBRACK"):
                values.append(self._value())
                comma_needed = True
            else:
                raise self._scanner.error(
                    f"unexpected token while parsing list: {token.kind}", token.at
                )
        self._leave(1)
        return values

    def _key_error(self, token: _Token) -> HCLError:
        return self._scanner.error(
            f"expected: IDENT | STRING | ASSIGN | LBRACE got: {token.kind}", token.at
        )

    def _end_error(self, keys: list[_Token]) -> HCLError:
        text = self._scanner.text
        written = _quoted(text[keys[0].at : self._next.at].strip())
        line, column = self._scanner.position(self._next.at)
        expected = "expected start of object ('{') or assignment ('=')"
        return HCLError(f"key '{written}' {expected}", line, column + 1)


def _quoted(text: str) -> str:
    """Return so much of a text that an error stays short."""
    return text if len(text) <= _QUOTED_CHARACTERS_MAX else text[:_QUOTED_CHARACTERS_MAX] + "..."


def _decode(source: bytes) -> str:
    try:
        return source.decode()
    except UnicodeDecodeError as exc:
        good = source[: exc.start].decode()
        line = good.count("\n") + 1
        raise HCLError(_ILLEGAL_UTF8, line, len(good) - good.rfind("\n")) from exc
