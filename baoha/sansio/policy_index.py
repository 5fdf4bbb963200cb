"""
Which pattern of a policy decides about a path, found without looking at every pattern.

Rules of this file: it knows no rules and no capabilities, only paths, and how patterns rank (see
``policy.py``, "Matching"); what it finds does not depend on the order in which patterns came.

Theory of operation. Patterns without "+" are beginnings of paths: they lie sorted, each knowing the
longest other one that it begins with, and the last one that sorts before a path leads to the one
that matches. Patterns with "+" are a tree of segments: a path goes down the branch of its own
segment and the branch of "+". So the cost follows the patterns that match, not those that exist.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

_WILDCARD: Final = "+"


class Rank(NamedTuple):
    """How patterns that match the same path are compared: the greatest one decides."""

    before_wildcard: int
    is_whole: bool
    fewer_wildcards: int
    length: int
    path: str


@dataclass(frozen=True, slots=True)
class Pattern(Generic[T]):
    """
    A path with wildcards.

    Attributes:
        path: without the "*" that ``is_prefix`` stands for.
        grants: whether it allows anything at all.
    """

    path: str
    is_prefix: bool
    grants: bool
    item: T
    rank: Rank = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", _rank(self.path, is_prefix=self.is_prefix))

    @property
    def has_wildcard(self) -> bool:
        """Whether a segment of it is a wildcard."""
        return self.rank.fewer_wildcards < 0


class PrefixIndex(Generic[T]):
    """Texts, and the longest one that another text begins with."""

    def __init__(self, items: dict[str, T]) -> None:
        self._texts = sorted(items)
        self._items = items
        # For each text the place of the longest other one that it begins with, or -1.
        self._shorter: list[int] = []
        for place, text in enumerate(self._texts):
            shorter = place - 1
            while shorter >= 0 and not text.startswith(self._texts[shorter]):
                shorter = self._shorter[shorter]
            self._shorter.append(shorter)

    def longest(self, text: str) -> T | None:
        """Return the item of the longest text that this one begins with."""
        # Whatever sorts between a text and its continuation begins with that text as well.
        place = bisect_right(self._texts, text) - 1
        while place >= 0 and not text.startswith(self._texts[place]):
            place = self._shorter[place]
        return None if place < 0 else self._items[self._texts[place]]

    def has_below(self, prefix: str) -> bool:
        """Return whether any of the texts begins with a prefix."""
        place = bisect_left(self._texts, prefix)
        return place < len(self._texts) and self._texts[place].startswith(prefix)


@dataclass(slots=True)
class _Node(Generic[T]):
    """
    The patterns that begin with the same segments.

    Attributes:
        end: the one that ends here.
        beginnings: those whose next segment is the last one and may go on, by that segment.
        grants: whether one of them, or of those further down, allows anything.
    """

    children: dict[str, _Node[T]] = field(default_factory=dict)
    end: Pattern[T] | None = None
    beginnings: dict[str, Pattern[T]] = field(default_factory=dict)
    index: PrefixIndex[Pattern[T]] | None = None
    grants: bool = False

    def beginning(self, segment: str) -> Pattern[T] | None:
        if not self.beginnings:
            return None
        if self.index is None:
            self.index = PrefixIndex(self.beginnings)
        return self.index.longest(segment)


class PatternIndex(Generic[T]):
    """Patterns, one for each path and kind, ready to be asked. Immutable."""

    def __init__(self, patterns: list[Pattern[T]]) -> None:
        plain = {pattern.path: pattern for pattern in patterns if not pattern.has_wildcard}
        self._plain = PrefixIndex(plain)
        self._granting = PrefixIndex({path: p for path, p in plain.items() if p.grants})
        self._root: _Node[T] = _Node()
        self._depth = 0
        for pattern in patterns:
            if pattern.has_wildcard:
                self._add(pattern)

    def _add(self, pattern: Pattern[T]) -> None:
        segments = pattern.path.split("/")
        self._depth = max(self._depth, len(segments))
        node = self._root
        node.grants |= pattern.grants
        for segment in segments[:-1] if pattern.is_prefix else segments:
            node = node.children.setdefault(segment, _Node())
            node.grants |= pattern.grants
        if pattern.is_prefix:
            node.beginnings[segments[-1]] = pattern
        else:
            node.end = pattern

    def find(self, path: str) -> T | None:
        """Return the item of the pattern that decides about a path."""
        best = self._plain.longest(path)
        for pattern in self._matching(path):
            if best is None or pattern.rank > best.rank:
                best = pattern
        return None if best is None else best.item

    def _matching(self, path: str) -> Iterator[Pattern[T]]:
        """Yield the patterns with "+" that match; of those that differ in their rest the best."""
        parts = path.split("/", self._depth)
        pending = [(self._root, 0)]
        while pending:
            node, depth = pending.pop()
            if depth == len(parts):
                if node.end is not None:
                    yield node.end
                continue
            if (beginning := node.beginning(parts[depth])) is not None:
                yield beginning
            for segment in {parts[depth], _WILDCARD}:
                if (child := node.children.get(segment)) is not None:
                    pending.append((child, depth + 1))

    def grants_below(self, prefix: str) -> bool:
        """Return whether a pattern that allows anything may match something below a prefix."""
        if self._granting.longest(prefix) is not None or self._granting.has_below(prefix):
            return True
        wanted = prefix.rstrip("/").split("/")
        pending = [(self._root, 0)]
        while pending:
            node, depth = pending.pop()
            if depth == len(wanted):
                if any(pattern.grants for pattern in node.beginnings.values()) or any(
                    child.grants for child in node.children.values()
                ):
                    return True
                continue
            for segment in {wanted[depth], _WILDCARD}:
                beginning = node.beginnings.get(segment)
                if beginning is not None and beginning.grants:
                    return True
                child = node.children.get(segment)
                if child is not None and child.grants:
                    pending.append((child, depth + 1))
        return False


def _rank(path: str, *, is_prefix: bool) -> Rank:
    segments = path.split("/") if _WILDCARD in path else []
    wildcards = segments.count(_WILDCARD)
    first = len(path)
    if wildcards:
        first = sum(len(part) + 1 for part in segments[: segments.index(_WILDCARD)])
    return Rank(first, not is_prefix, -wildcards, len(path), path)
