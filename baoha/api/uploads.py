"""
How much memory the request bodies of all clients may take together.

Rules of this file:

1. Room is taken for what has arrived, in steps, and given back when the request is answered. What
   a client announces is no reason to keep others out.
2. Small bodies need no room: their number is bounded by that of connections.
3. When the room is full, strangers and the heaviest address give way (``sansio.shares``): a request
   whose body is not complete is refused, and nothing was executed. A complete body is firm.
4. Those who wait are few, and wait for ``WAIT_S``; the next one is refused at once.

Theory of operation. A body is read before anybody looks at its token, so strangers decide how many
there are: 4,096 connections with 32 MiB each. A body that outgrows what it holds stops reading on,
so that the client's own network buffers hold the rest. Whose it is (``Identify``) is asked only
when it outgrows ``SMALL_BYTES``. Nobody waits for somebody who waits: the oldest upload may always
displace the youngest.

Source: ours; OpenBao has no bound.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

import trio

from baoha.sansio.shares import SHARE, Claim, Shares
from baoha.sansio.wire.messages import HTTPRequest

# Sixteen bodies of the default limit (32 MiB) at a time.
ROOM_BYTES: Final = 512 * 1024 * 1024
SMALL_BYTES: Final = 64 * 1024
STEP_BYTES: Final = 1024 * 1024
# What strangers keep of a full room: no request that needs no token has a larger body.
STRANGERS_BYTES: Final = 1024 * 1024
WAIT_S: Final = 5.0
WAITING_MAX: Final = 64

Identify = Callable[[HTTPRequest], Awaitable[Claim]]


class NoRoomError(Exception):
    """Too many large bodies at once; nothing was executed."""


class UploadRoom:
    """
    The room of one process.

    Args:
        identify: says on whose account a request takes room; its body is not there yet.
    """

    def __init__(self, identify: Identify, bytes_max: int = ROOM_BYTES) -> None:
        self._identify = identify
        self._shares: Shares[Upload] = Shares(
            bytes_max,
            address_share=bytes_max // SHARE,
            strangers_share=min(STRANGERS_BYTES, bytes_max // SHARE),
        )
        self._waiting = 0
        self._freed = trio.Event()

    @property
    def taken_bytes(self) -> int:
        """How much is taken now."""
        return self._shares.used

    def visit(self) -> Upload:
        """Hold what one request takes; the end of its block gives it back."""
        return Upload(self)

    async def _extend(self, upload: Upload, claim: Claim, size: int) -> None:
        if self._try(upload, claim, size):
            return
        if self._waiting >= WAITING_MAX:
            raise NoRoomError
        self._waiting += 1
        try:
            with trio.fail_after(WAIT_S):
                while not self._try(upload, claim, size):
                    await self._freed.wait()
        except trio.TooSlowError:
            raise NoRoomError from None
        finally:
            self._waiting -= 1

    def _try(self, upload: Upload, claim: Claim, size: int) -> bool:
        giving = self._shares.take(upload, claim, size)
        for other in giving or ():
            other._displace()
        return giving is not None

    def _free(self) -> None:
        if self._waiting:
            self._freed.set()
            self._freed = trio.Event()


class Upload:
    """The body of one request, and the room that it takes."""

    def __init__(self, room: UploadRoom) -> None:
        self._room = room
        self._claim: Claim | None = None
        self._reading = trio.CancelScope()
        self._is_displaced = False

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._claim is not None:  # else it has never held anything
            self._room._shares.leave(self)
            self._room._free()

    @contextmanager
    def reading(self, limit_s: float = math.inf) -> Iterator[None]:
        """
        Read the body within this block.

        Args:
            limit_s: how long it may take in all.

        Raises:
            NoRoomError: the room that it had was taken for somebody else.
            trio.TooSlowError: it took longer.
        """
        self._reading.deadline = trio.current_time() + limit_s
        with self._reading:
            yield
        if self._is_displaced:
            raise NoRoomError
        if self._reading.cancelled_caught:
            raise trio.TooSlowError

    async def grow(self, size: int, request: HTTPRequest) -> None:
        """
        Have room for so many bytes in all, before more is read.

        Args:
            request: without its body.

        Raises:
            NoRoomError: there is none, and there was none for ``WAIT_S``.
        """
        room = self._room
        while room._shares.held(self) < min(size, room._shares.capacity):  # above it: one at a time
            if self._claim is None:
                self._claim = await room._identify(request)
            step = min(STEP_BYTES, room._shares.capacity - room._shares.held(self))
            await room._extend(self, self._claim, step)

    def complete(self, size: int) -> None:
        """The body is whole: keep no more than it is, whoever comes."""
        if self._claim is not None and not self._is_displaced:
            self._room._shares.keep_only(self, size)
            self._room._shares.firm(self)
            self._room._free()

    def _displace(self) -> None:
        self._is_displaced = True
        self._reading.cancel()
