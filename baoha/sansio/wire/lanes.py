"""
Who gets in when items of unlike size share one bound: small ones do not wait for large ones.

Rules of this file:

1. Each lane is a line of its own for items up to a size, with bytes of its own: whoever comes first
   gets in first, and waits for nobody in another lane but for a free place.
2. Free places go round the lanes, so no lane starves.
3. An item alone in its lane always gets in, however large.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Lane(NamedTuple):
    """Bounds of one lane: the size of an item, and what those inside hold together."""

    item_bytes_max: int
    bytes_max: int
    count_max: int


class _Line(Generic[Item]):
    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.waiting: dict[Item, int] = {}
        self.inside: dict[Item, int] = {}
        self.bytes = 0

    def next(self) -> Item | None:
        """Return the item whose turn it is, if there is room for it."""
        for item, size in self.waiting.items():
            is_alone = not self.inside
            fits = self.bytes + size <= self.lane.bytes_max
            return item if is_alone or (fits and len(self.inside) < self.lane.count_max) else None
        return None


class Lanes(Generic[Item]):
    """
    Items that wait or are inside.

    Args:
        lanes: by ``item_bytes_max``; the last one takes whatever is larger, too.
        count_max: items inside, in all lanes together.
        enter: called with each item that gets in.
    """

    def __init__(
        self, lanes: Sequence[Lane], *, count_max: int, enter: Callable[[Item], None]
    ) -> None:
        self._lines: Final = [_Line[Item](lane) for lane in lanes]
        self._count_max = count_max
        self._enter = enter
        self._turn = 0
        self._where: dict[Item, _Line[Item]] = {}  # of all that wait or are inside
        self._waiting_count = self._inside_count = 0  # in all lanes
        self.is_closed = False  # nobody gets in any more

    def __len__(self) -> int:
        """Return how many are inside or wait."""
        return len(self._where)

    @property
    def inside_bytes(self) -> int:
        """What those inside hold."""
        return sum(line.bytes for line in self._lines)

    def waiting(self) -> list[Item]:
        """Return those that wait."""
        return [item for line in self._lines for item in line.waiting]

    def __contains__(self, item: Item) -> bool:
        """Return whether an item waits or is inside."""
        return item in self._where

    def ask(self, item: Item, size_bytes: int) -> None:
        """
        Let an item in, now or when its turn comes. Every item that asked must leave, and may ask
        again only then.
        """
        for line in self._lines:
            if size_bytes <= line.lane.item_bytes_max:
                break
        self._where[item] = line
        line.waiting[item] = size_bytes
        self._waiting_count += 1
        self._admit()

    def leave(self, item: Item) -> None:
        """Take an item out, wherever it is; one that is nowhere may leave too."""
        line = self._where.pop(item, None)
        if line is None:
            return
        if item in line.inside:
            line.bytes -= line.inside.pop(item)
            self._inside_count -= 1
        else:
            del line.waiting[item]
            self._waiting_count -= 1
        if self._waiting_count:
            self._admit()

    def _admit(self) -> None:
        while self._waiting_count and not self.is_closed and self._inside_count < self._count_max:
            for offset in range(len(self._lines)):
                turn = (self._turn + offset) % len(self._lines)
                line = self._lines[turn]
                if line.waiting and (item := line.next()) is not None:
                    break
            else:
                return
            self._turn = turn + 1
            size = line.waiting.pop(item)
            line.inside[item] = size
            line.bytes += size
            self._waiting_count -= 1
            self._inside_count += 1
            self._enter(item)
