"""
The tree that HCL 1 and its JSON form are parsed into, and the text they are read from.

Rule of this file: nothing here knows either syntax. Positions count from 1, as in OpenBao's errors.

Source: ours.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from baoha.errors import BaohaError

Value: TypeAlias = "str | int | float | bool | list[Value] | Block"
Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain]"

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBER_CHARACTERS_MAX: Final = 64  # no int64 and no useful float is longer


class HCLError(BaohaError):
    """
    The text is not HCL 1. ``str()`` gives ``At line:column: message``; both count from 1.
    """

    status_hint = 400

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"At {line}:{column}: {message}")
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Item:
    """
    ``key = value`` or ``key "label" ... { }``; line and column are those of the key.
    """

    key: str
    labels: tuple[str, ...]
    value: Value
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Block:
    """
    Items in the order of the text, duplicates kept.

    ``folded``: a JSON object, whose keys may be labels of the block it stands for.
    """

    items: tuple[Item, ...]
    folded: bool = False

    def blocks(self, key: str, *, labels: int) -> Iterator[tuple[tuple[str, ...], Block, Item]]:
        """
        Yield (labels, block, item) for every block named ``key``, in order.

        Args:
            labels: how many labels such a block has; fewer or more is an error.

        Raises:
            HCLError: something named ``key`` is no block, or has another number of labels.
        """
        for item in self.items:
            if item.key == key:
                yield from _unfold(item, item, item.labels, item.value, labels)

    def to_plain(self) -> dict[str, Plain]:
        """
        Return nested dicts: labels become keys, blocks of one name merge, the last scalar wins.
        """
        result: dict[str, Plain] = {}
        for item in self.items:
            value = _plain(item.value)
            for label in reversed(item.labels):
                value = {label: value}
            _merge(result, item.key, value)
        return result


class Text:
    """
    A text and the position a parser has reached in it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def position(self, at: int) -> tuple[int, int]:
        """
        Return the line and the column of an offset.
        """
        line = bisect_right(self._line_starts, at)
        return line, at - self._line_starts[line - 1] + 1

    def error(self, message: str, at: int) -> HCLError:
        """
        Return an error that points at an offset.
        """
        return HCLError(message, *self.position(at))

    def skip_space(self) -> None:
        """
        Move behind the white space at the position.
        """
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def number(self, literal: str, at: int) -> int | float:
        """
        Read a number literal that starts at ``at``; integers are those of 64 bits, as in Go.

        Raises:
            HCLError: it is out of range, or has a leading zero and is not octal.
        """
        digits = literal.removeprefix("-")
        if len(literal) > _NUMBER_CHARACTERS_MAX:
            raise self.error("number out of range", at)
        if digits[:2] in ("0x", "0X"):
            number: int | float = int(literal, 16)
        elif digits.isdecimal():
            octal = len(digits) > 1 and digits[0] == "0"
            if octal and not set(digits) <= set("01234567"):
                raise self.error("invalid number", at)
            number = int(literal, 8 if octal else 10)
        else:
            number = float(literal)
        if math.isinf(number) or (isinstance(number, int) and not -(2**63) <= number < 2**63):
            raise self.error("number out of range", at)
        return number


def _unfold(
    outer: Item, item: Item, labels: tuple[str, ...], value: Value, count: int
) -> Iterator[tuple[tuple[str, ...], Block, Item]]:
    if isinstance(value, list) and value and all(isinstance(part, Block) for part in value):
        for part in value:
            yield from _unfold(outer, item, labels, part, count)
        return
    if isinstance(value, Block) and len(labels) == count:
        yield labels, value, item
        return
    if isinstance(value, Block) and len(labels) < count and value.folded:
        for inner in value.items:
            yield from _unfold(outer, inner, (*labels, inner.key), inner.value, count)
        return
    plural = "" if count == 1 else "s"
    raise HCLError(
        f"'{outer.key}' must be a block with {count} label{plural}", item.line, item.column
    )


def _plain(value: Value) -> Plain:
    if isinstance(value, Block):
        return value.to_plain()
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value


def _merge(into: dict[str, Plain], key: str, value: Plain) -> None:
    known = into.get(key)
    if isinstance(known, dict) and isinstance(value, dict):
        for inner, part in value.items():
            _merge(known, inner, part)
    else:
        into[key] = value
