"""
What happens to the bytes of a request before a parser sees them: a look, a turn, or a refusal.

Rule of this file: a refusal costs a tenth of what the request would, or it would be no help.

Source: ours.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from baoha.api.door import Door, Look, Urgency
from baoha.server.http.refusals import Refusals
from baoha.server.http.turns import Turns

# Enough for a whole plain request.
_PEEK_BYTES: Final = 65_536
# New connections with a request that are let in at a time, in a crowd.
_TAKEN_IN_A_CROWD: Final = 4
_UNSEEN: Final = Look(urgency=Urgency.OTHER)


class Intake:
    """The intake of one listener. ``turns.run`` must be running."""

    def __init__(self, turns: Turns, door: Door | None, refusals: Refusals | None) -> None:
        """Without a ``door`` everybody waits for a turn, and nobody is refused."""
        self.turns = turns
        self._door = door
        self._refusals = refusals

    def look(self, data: bytes) -> Look:
        """Look at the first bytes of a request."""
        return self._door.look(data) if self._door is not None else _UNSEEN

    @property
    def is_crowded(self) -> bool:
        """Whether anybody waits, for a turn or for a place."""
        return self.turns.is_crowded or (self._door is not None and self._door.is_crowded)

    async def takes(self, look: Look, address: str, size_bytes: int, *, is_first: bool) -> bool:
        """
        Wait for a turn to parse what has come. False: the request is refused instead.

        Parsing costs a fraction of a millisecond, a large head tens of them. Many in one round of
        the event loop would stop the clock of the whole node, and with it the renewal of the lock.

        Args:
            size_bytes: of the request so far: its last byte is what makes all of it be parsed.
            is_first: no parser has seen anything of it yet.
        """
        if not is_first or not look.is_refusable:
            return await self.turns.take(look.urgency, address, size_bytes)
        if self.is_in_vain(look, address):
            return False
        if not await self.turns.take(look.urgency, address, size_bytes, expires=True):
            self.press(address)
            return False
        return not self.is_in_vain(look, address)

    def is_in_vain(self, look: Look, address: str) -> bool:
        """Whether a request is refused now."""
        if self._door is None or look.kind is None or not look.is_whole:
            return False
        if self.turns.refuses(look.urgency, address):
            self._door.press(address)
            return True
        return self._door.refuses(look.kind, address)

    def press(self, address: str) -> None:
        """Take note that a client was refused because no turn came."""
        if self._door is not None:
            self._door.press(address)

    def turns_away(self, accepted: socket.socket, address: str, taken: int = 0) -> bool:
        """
        Answer a connection that was just accepted with a refusal, and let it go.

        In a crowd, most new connections have sent their request by the time they are accepted. To
        make a task, a stream and a parser for those that are refused costs ten times the refusal.

        Args:
            accepted: without TLS. It is closed if True is returned, and only then.
            taken: how many were let in just before: they wait for a place, too, and are not seen
                in any queue yet.
        """
        if self._door is None or not self.is_crowded:
            return False
        try:
            data = accepted.recv(_PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False  # nothing yet, or the end: whoever reads it finds out
        look = self.look(data)
        if not self.is_in_vain(look, address):
            if taken < _TAKEN_IN_A_CROWD or not look.is_refusable:
                return False
            self.press(address)
        with contextlib.suppress(OSError):  # a client that has left: nothing is owed to it
            accepted.recv(
                _PEEK_BYTES, socket.MSG_DONTWAIT
            )  # unread input would turn the answer into a reset
            accepted.send(self.refusal(keeps_alive=False), socket.MSG_DONTWAIT)
        accepted.close()
        return True

    def refusal(self, *, keeps_alive: bool) -> bytes:
        """Return the answer to a request that was not taken."""
        assert self._refusals is not None
        return self._refusals.current(keeps_alive=keeps_alive)
