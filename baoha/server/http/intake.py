"""
What happens to the bytes of a request before a parser sees them: a look, a turn, or a refusal.

Rule of this file: a refusal costs a tenth of what the request would, or it would be no help.

Source: ours.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from baoha.api.door import Door, Look, Urgency
from baoha.server.http.refusals import Refusals
from baoha.server.http.turns import Turns

# Enough for a whole plain request.
_OPENING_BYTES: Final = 65_536
# Between two batches in a crowd: what comes meanwhile shares the cost of waking up.
CROWD_PAUSE_S: Final = 0.016
_UNSEEN: Final = Look(urgency=Urgency.OTHER)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a new connection had sent by the time it was accepted, and how it looks."""

    data: bytes
    look: Look


NOTHING_YET: Final = Opening(b"", _UNSEEN)


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
        if not self.lets_in(look, address):
            return False
        if not await self.turns.take(look.urgency, address, size_bytes, expires=True):
            self.press(look, address)
            return False
        return self.still_lets_in(look, address)

    def lets_in(self, look: Look, address: str) -> bool:
        """Whether a request may wait for its turn; if not, it is refused now."""
        if self._door is None or look.kind is None or not look.is_whole:
            return True
        if self.turns.refuses(look.urgency, address):
            self._door.press(address)
            return False
        if self._door.refuses(look.kind, address, is_here=False):
            return False
        self._door.announce(look.kind)
        return True

    def still_lets_in(self, look: Look, address: str) -> bool:
        """Whether a request that was let in may go on now that its turn has come."""
        if self._door is None or look.kind is None or not look.is_whole:
            return True
        self._door.arrive(look.kind)
        if self._door.refuses(look.kind, address, is_here=True):
            return False
        self._door.announce(look.kind)
        return True

    def press(self, look: Look, address: str) -> None:
        """Take note that a client that was let in is refused because no turn came."""
        if self._door is not None:
            self._door.press(address)
            if look.kind is not None:
                self._door.arrive(look.kind)

    def open(self, accepted: socket.socket, address: str) -> Opening | None:
        """
        Look at a connection that was just accepted; a refusal answers and closes it.

        Most new connections have sent their request by the time they are accepted, and some have
        left. To make a task, a stream and a parser costs ten times a refusal.

        Args:
            accepted: without TLS.

        Returns:
            What the connection begins with; None: it was refused, or had ended.
        """
        try:
            data = accepted.recv(_OPENING_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            return NOTHING_YET  # or it is lost: whoever reads it finds out
        if not data:
            accepted.close()
            return None
        look = self.look(data)
        if self.lets_in(look, address):
            return Opening(data, look)
        try:  # noqa: SIM105 in the way of every refusal
            accepted.send(self.refusal(keeps_alive=False), socket.MSG_DONTWAIT)
        except OSError:
            pass  # a client that has left: nothing is owed to it
        accepted.close()
        return None

    def refusal(self, *, keeps_alive: bool) -> bytes:
        """Return the answer to a request that was not taken."""
        assert self._refusals is not None
        return self._refusals.current(keeps_alive=keeps_alive)
