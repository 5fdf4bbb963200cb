"""
How much memory the request bodies of all clients may take together.

Rules of this file:

1. Room is taken before bytes are kept, in one step, and given back when the request is answered:
   nobody waits while holding a part of what it needs.
2. Small bodies need no room: their number is bounded by that of connections.

Theory of operation. A body is read before anybody looks at its token, so strangers decide how many
there are: 4,096 connections with 32 MiB each. A body that outgrows ``SMALL_BYTES`` waits for room,
not reading on, so that the client's own network buffers hold the rest; after ``WAIT_S`` it is
refused, and nothing was executed.

Source: ours; OpenBao has no bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

# Sixteen bodies of the default limit (32 MiB) at a time.
ROOM_BYTES: Final = 512 * 1024 * 1024
SMALL_BYTES: Final = 64 * 1024
WAIT_S: Final = 5.0


class NoRoomError(Exception):
    """Too many large bodies at once; nothing was executed."""


class UploadRoom:
    """The room of one process."""

    def __init__(self, bytes_max: int = ROOM_BYTES) -> None:
        self._bytes_max = bytes_max
        self._taken = 0
        self._freed = trio.Event()

    @property
    def taken_bytes(self) -> int:
        """How much is taken now."""
        return self._taken

    @contextmanager
    def visit(self) -> Iterator[Upload]:
        """Hold what one request takes; the end of the block gives it back."""
        upload = Upload(self)
        try:
            yield upload
        finally:
            upload.keep_only(0)

    async def _take(self, size: int) -> int:
        size = min(size, self._bytes_max)  # a limit above the room: one at a time
        with trio.move_on_after(WAIT_S):
            while self._taken + size > self._bytes_max:
                await self._freed.wait()
        if self._taken + size > self._bytes_max:
            raise NoRoomError
        self._taken += size
        return size

    def _give_back(self, size: int) -> None:
        self._taken -= size
        self._freed.set()
        self._freed = trio.Event()


class Upload:
    """The body of one request, and the room that it takes."""

    def __init__(self, room: UploadRoom) -> None:
        self._room = room
        self._size = 0

    async def take(self, size: int) -> None:
        """
        Take room for a body; only once.

        Raises:
            NoRoomError: there was none for ``WAIT_S``.
        """
        assert self._size == 0
        self._size = await self._room._take(size)

    def keep_only(self, size: int) -> None:
        """Give back what is above ``size``."""
        if size < self._size:
            self._room._give_back(self._size - size)
            self._size = size
