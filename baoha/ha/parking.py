"""
Where requests wait for a new active node, bounded in count and bytes.

Rule of this file: a place is never waited for; a full lot is an answer (503). When it is full,
strangers and the heaviest address give way (``sansio.shares``): the request in the place that is
taken away gets that answer, too. Nothing of it was executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from baoha.sansio.shares import SHARE, Claim, Shares

# What strangers keep of a full lot: 64 of the default number of places.
STRANGERS_SHARE: Final = 16


class ParkingLot:
    """Parked requests, their bytes, and on whose account they wait."""

    def __init__(self, *, requests_max: int, bytes_max: int) -> None:
        self._requests = _shares(requests_max)
        self._bytes = _shares(bytes_max)

    @property
    def requests(self) -> int:
        """How many are parked."""
        return self._requests.used

    @property
    def bytes(self) -> int:
        """What they hold in memory."""
        return self._bytes.used

    @contextmanager
    def place(self, size_bytes: int, claim: Claim) -> Iterator[trio.CancelScope | None]:
        """
        Take a place for the block; yields None, and takes nothing, when there is none.

        The request waits within the scope; it is cancelled when the place is taken for another.
        """
        place = trio.CancelScope()
        leaving = self._leaving(place, size_bytes, claim)
        if leaving is None:
            yield None
            return
        for other in leaving:
            self._leave(other)
            other.cancel()
        self._requests.enter(place, claim)
        if size_bytes:
            self._bytes.enter(place, claim, size_bytes)
        try:
            yield place
        finally:
            self._leave(place)

    def _leaving(
        self, place: trio.CancelScope, size_bytes: int, claim: Claim
    ) -> set[trio.CancelScope] | None:
        for_place = self._requests.who_gives_way(place, claim)
        for_bytes = self._bytes.who_gives_way(place, claim, size_bytes)
        if for_place is None or for_bytes is None:
            return None
        return {*for_place, *for_bytes}

    def _leave(self, place: trio.CancelScope) -> None:
        self._requests.leave(place)
        self._bytes.leave(place)


def _shares(capacity: int) -> Shares[trio.CancelScope]:
    return Shares(
        capacity,
        address_share=capacity // SHARE,
        strangers_share=capacity // STRANGERS_SHARE,
    )
