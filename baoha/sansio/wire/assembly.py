"""
Bodies on their way in: put together from chunks, within one budget of memory.

Rules of this file: nobody may send a byte that was not granted, and a grant covers the rest of a
body as a whole. A body that has a grant can therefore always be completed, whatever the others do:
there is no state in which several half bodies hold the budget and none can go on.

The first part of a body comes with its head and needs no grant. Bodies that do not fit into the
budget now wait in the order in which they came; those of medium size (1 MiB of the default budget)
have a quarter of it for themselves, so that they do not wait for large ones.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Final, Generic, TypeVar

from baoha.sansio.wire.frames import FrameError
from baoha.sansio.wire.lanes import Lane, Lanes

Tag = TypeVar("Tag")

MEDIUM_PART: Final = 256  # of the budget
COUNT_MAX: Final = 2**31  # the number of messages is bounded elsewhere


class _Body(Generic[Tag]):
    __slots__ = ("content", "expected_bytes", "granted_bytes", "received_bytes", "tag")

    def __init__(self, tag: Tag, expected_bytes: int, first: bytes) -> None:
        self.tag = tag
        self.expected_bytes = expected_bytes
        # It grows in place, and gives its content away without a copy: joining would be 20 ms.
        self.content = BytesIO()
        self.content.write(first)
        self.received_bytes = len(first)
        self.granted_bytes = 0


class Assembly(Generic[Tag]):
    """
    The bodies of one connection that are being received.

    Args:
        budget_bytes: memory for bodies beyond their first parts. One body alone always fits.
        grant: called with (id, bytes) when so much more may be sent.
    """

    def __init__(self, *, budget_bytes: int, grant: Callable[[int, int], None]) -> None:
        self._grant = grant
        self._bodies: dict[int, _Body[Tag] | None] = {}  # None: complete, and still holds budget
        quarter = budget_bytes // 4
        self._lanes: Lanes[int] = Lanes(
            (
                Lane(budget_bytes // MEDIUM_PART, quarter, COUNT_MAX),
                Lane(budget_bytes, budget_bytes - quarter, COUNT_MAX),
            ),
            count_max=COUNT_MAX,
            enter=self._begin_to_receive,
        )

    @property
    def held_bytes(self) -> int:
        """Bytes of the budget that are in use."""
        return self._lanes.inside_bytes

    @property
    def incomplete(self) -> int:
        """How many bodies are not complete."""
        return sum(body is not None for body in self._bodies.values())

    def is_known(self, message_id: int) -> bool:
        """Return whether a body with this id is incomplete or still holds budget."""
        return message_id in self._bodies

    def begin(self, message_id: int, tag: Tag, expected_bytes: int, first: bytes) -> bytes | None:
        """
        Note the start of a message; returns its body if that is complete already.

        Raises:
            FrameError: the id is in use.
        """
        if message_id in self._bodies:
            raise FrameError("message id is in use")
        if len(first) == expected_bytes:
            return first
        self._bodies[message_id] = _Body(tag, expected_bytes, first)
        self._lanes.ask(message_id, expected_bytes - len(first))
        return None

    def add(self, message_id: int, chunk: bytes) -> tuple[Tag, bytes] | None:
        """
        Add a chunk; returns tag and body when it was the last one. Unknown ids are ignored: their
        message was dropped while the chunk was under way.

        Raises:
            FrameError: the chunk is empty or was not granted.
        """
        body = self._bodies.get(message_id)
        if body is None:
            return None
        if not chunk or len(chunk) > body.granted_bytes:
            raise FrameError("body chunk was not granted")
        body.granted_bytes -= len(chunk)
        body.received_bytes += len(chunk)
        body.content.write(chunk)
        if body.received_bytes < body.expected_bytes:
            return None
        self._bodies[message_id] = None
        return body.tag, body.content.getvalue()

    def release(self, message_id: int) -> None:
        """Give a message's part of the budget back; an incomplete body is dropped."""
        if message_id in self._bodies:
            del self._bodies[message_id]
            self._lanes.leave(message_id)

    def _begin_to_receive(self, message_id: int) -> None:
        body = self._bodies[message_id]
        assert body is not None  # it waited for this, so it cannot be complete
        body.granted_bytes = body.expected_bytes - body.received_bytes
        self._grant(message_id, body.granted_bytes)
