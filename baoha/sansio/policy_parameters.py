"""
What a policy says about the parameters of a request, ready for comparing.

Rules of this file:

1. Comparing costs time for the patterns and for the parameters, and both are a client's to choose:
   ``work`` says beforehand how much it may be, and no call into C looks at more than a piece.
2. Each parameter counts by itself: two spellings of a name are two parameters to an engine.

Source: OpenBao's documentation, "Policies"; corner cases measured on 2.7.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from baoha.sansio.json_encoder import cost

Parameters = Mapping[str, tuple[Any, ...]]

_PIECE_CHARS: Final = 256 * 1024
_PATTERN_COST_BYTES: Final = 32  # what takes as long as one pattern, however short


def _go_on() -> None:
    return


class Restrictions:
    """
    The restrictions of one path, all policies of a token together.

    Args:
        allowed: name to the values it may have (none given: any); empty: no restriction.
        denied: name to the values it may not have (none given: any).
        required: names that must be there.
    """

    def __init__(self, allowed: Parameters, denied: Parameters, required: frozenset[str]) -> None:
        self._required = required
        self._allowed = {name: _Values(values) for name, values in allowed.items()}
        self._denied = {name: _Values(values) for name, values in denied.items()}
        self._name_chars = max(map(len, (*allowed, *denied)), default=0)

    def work(self, data: Mapping[str, Any]) -> int:
        """Return about how many bytes ``permit`` has to look at, at most."""
        return len(data) * _PATTERN_COST_BYTES + sum(
            values.work(value)
            for name, value in data.items()
            for values in self._lists(name)
            if values is not None
        )

    def permit(self, data: Mapping[str, Any], pause: Callable[[], None] = _go_on) -> bool:
        """
        Say whether the parameters of a request keep to the restrictions.

        Args:
            pause: called between pieces of the work; what it raises ends it.
        """
        # A required one must be there as an engine reads it. Source: measured
        if not self._required <= data.keys():
            return False
        if data and "*" in self._denied:
            return False
        for name, value in data.items():
            denied, allowed = self._lists(name)
            if denied is not None and denied.has(value, pause):
                return False
            if self._allowed and (allowed is None or not allowed.has(value, pause)):
                return False
            pause()
        return True

    def _lists(self, name: str) -> tuple[_Values | None, _Values | None]:
        # Lower case is never shorter; to make it of a long name costs its whole length.
        lower = name.lower() if len(name) <= self._name_chars else ""
        return self._denied.get(lower), self._allowed.get(lower, self._allowed.get("*"))


class _Values:
    """The values of one name, by how they are compared."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        texts = [value for value in values if isinstance(value, str)]
        wild = [text for text in texts if len(text) > 1]  # a lone "*" is no wildcard
        heads = [text for text in wild if text.startswith("*")]
        self._is_any = not values
        self._equal = frozenset(
            text for text in texts if len(text) < 2 or not (text[0] == "*" or text[-1] == "*")
        )
        self._equal_chars = max(map(len, self._equal), default=0)
        self._inner = tuple(text[1:-1] for text in heads if text.endswith("*"))
        self._ends = tuple(text[1:] for text in heads if not text.endswith("*"))
        self._starts = tuple(
            text[:-1] for text in wild if text.endswith("*") and not text.startswith("*")
        )
        self._others = [value for value in values if not isinstance(value, str)]
        self._compared_bytes = cost((self._ends, self._starts, self._others))

    def work(self, value: Any) -> int:
        """Return about how many bytes ``has`` has to look at, at most."""
        if self._is_any or not isinstance(value, str):
            return self._compared_bytes
        return self._compared_bytes + len(self._inner) * (len(value) + _PATTERN_COST_BYTES)

    def has(self, value: Any, pause: Callable[[], None]) -> bool:
        """Say whether a request's value is one of these, as OpenBao compares them."""
        if self._is_any:
            return True
        if not isinstance(value, str):
            return any(_equals(value, other) for other in self._others)
        # To look a text up costs its whole length.
        if len(value) <= self._equal_chars and value in self._equal:
            return True
        if value.startswith(self._starts) or value.endswith(self._ends):
            return True
        return any(_contains(value, text, pause) for text in self._inner)


def _contains(value: str, text: str, pause: Callable[[], None]) -> bool:
    for at in range(0, len(value) + 1, _PIECE_CHARS):
        if value.find(text, at, at + _PIECE_CHARS + len(text)) >= 0:
            return True
        pause()
    return False


def _equals(value: Any, pattern: Any) -> bool:
    # Go compares types, too: a number of a request has one that no rule can write, and neither has
    # an object inside an object. Such a rule matches nothing. Source: measured
    if type(value) is not type(pattern):
        return False
    if isinstance(pattern, list):
        return len(value) == len(pattern) and all(map(_equals, value, pattern))
    if isinstance(pattern, dict):
        return value.keys() == pattern.keys() and all(
            not isinstance(inner, dict) and _equals(value[key], inner)
            for key, inner in pattern.items()
        )
    return isinstance(value, str | bool) and bool(value == pattern)


def merge_parameters(ours: Parameters, theirs: Parameters) -> Parameters:
    """Return what two restrictions say together."""
    merged = dict(ours)
    for name, values in theirs.items():
        known = merged.get(name)
        # An empty list stands for every value, so it absorbs the other one.
        merged[name] = (
            values if known is None else () if not known or not values else known + values
        )
    return merged
