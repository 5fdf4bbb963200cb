"""
What a connection sends next: the queue in front of its one writer task.

Rules of this file: it never waits, and what it says of a message is true. ``begun`` means that a
part of it was handed to the writer, ``complete`` that all of it was; a message that is not complete
cannot have been executed by the peer.

Order: control frames, then small messages in the order they came, then the first parts of large
ones, then one chunk of one large body, the bodies taking turns. So neither a heartbeat nor a small
message waits behind a body, and a body is only cut into chunks when its turn comes: nothing is
copied ahead of time. One large piece goes with every batch, so small messages do not starve it.

Source: ours; docs/spec/libraries.md section 2 for the order and the sizes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from baoha.sansio.wire.frames import (
    ChannelLimits,
    FrameError,
    FrameKind,
    check_size,
    encode_envelope,
    encode_message_start,
)

# A message is small when it takes no more than this part of a chunk.
SMALL_PART: Final = 4


class OutMessage:
    """One request or response on its way out."""

    __slots__ = (
        "_body",
        "begun",
        "complete",
        "credit_bytes",
        "dropped",
        "id",
        "sent_bytes",
        "start",
    )

    def __init__(self, message_id: int, start: bytes, body: memoryview, sent_bytes: int) -> None:
        self.id = message_id
        self.start = start  # the encoded first frame, b"" once it is taken
        self._body = body
        self.sent_bytes = sent_bytes  # of the body, those in ``start`` included
        self.credit_bytes = 0  # what the peer allows beyond
        self.begun = False
        self.complete = False
        self.dropped = False

    @property
    def left_bytes(self) -> int:
        """Bytes of the body that have not been taken and are not in the first frame."""
        return len(self._body) - self.sent_bytes

    def next_chunk(self, bytes_max: int) -> memoryview:
        """Return the next part of the body that credit allows, and count it as taken."""
        count = min(bytes_max, self.credit_bytes, self.left_bytes)
        chunk = self._body[self.sent_bytes : self.sent_bytes + count]
        self.sent_bytes += count
        self.credit_bytes -= count
        return chunk


class Outbox:
    """
    The frames that wait for the writer.

    Args:
        wake: called whenever there may be new work for the writer.

    Attributes:
        taken: called when the last byte of a message has been taken; None calls nobody.
        is_closed: the last frame has been taken; nothing will follow.
    """

    def __init__(self, limits: ChannelLimits, *, wake: Callable[[], object]) -> None:
        self._limits: Final = limits
        self._wake = wake
        self.taken: Callable[[OutMessage], None] | None = None
        self._control: deque[bytes] = deque()
        self._starts: deque[OutMessage] = deque()  # of small messages: all there is of them
        self._large_starts: deque[OutMessage] = deque()
        self._bodies: dict[int, OutMessage] = {}  # begun, more to come; order = turns
        self._last_frame: bytes | None = None
        self.is_closed = False

    @property
    def is_idle(self) -> bool:
        """Nothing can be sent now: all is taken, or waits for credit."""
        if self._control or self._starts or self._large_starts:
            return False
        if any(message.credit_bytes for message in self._bodies.values()):
            return False
        return not (self._last_frame is not None and not self._bodies)

    @property
    def control_frames(self) -> int:
        """Control frames that wait."""
        return len(self._control)

    def control(self, kind: FrameKind, frame_id: int = 0, payload: bytes = b"") -> None:
        """
        Queue a control frame. After ``finish`` it is dropped.

        Raises:
            FrameError: the payload is over the limit, or so many wait that the peer cannot be
                reading: the connection is to be given up.
        """
        if self.is_closed or self._last_frame is not None:
            return
        check_size(len(payload), 0, self._limits)
        if len(self._control) >= self._limits.control_frames_max:
            raise FrameError("the peer does not read: too many control frames wait for it")
        self._control.append(encode_envelope(kind, frame_id, payload))
        self._wake()

    def message(self, kind: FrameKind, message_id: int, head: bytes, body: bytes) -> OutMessage:
        """
        Queue a request or response.

        Raises:
            FrameError: head or body are over the limit. Nothing was queued.
        """
        check_size(len(head), len(body), self._limits)
        view = memoryview(body)
        first = view[: self._limits.chunk_bytes]
        start = encode_envelope(kind, message_id, encode_message_start(head, len(body), first))
        message = OutMessage(message_id, start, view, len(first))
        if self.is_closed or self._last_frame is not None:
            message.dropped = True
            return message
        is_large = len(first) < len(view) or len(start) > self._limits.chunk_bytes // SMALL_PART
        (self._large_starts if is_large else self._starts).append(message)
        self._wake()
        return message

    def credit(self, message_id: int, count_bytes: int) -> None:
        """Let more of a body go. Credit for a message that is gone is ignored."""
        message = self._bodies.get(message_id)
        if message is not None:
            message.credit_bytes += count_bytes
            self._wake()

    def drop(self, message: OutMessage) -> None:
        """Forget what has not been taken of a message."""
        message.dropped = True
        self._bodies.pop(message.id, None)
        self._wake()

    def finish(self, payload: bytes) -> None:
        """Let everything queued go, then a GOODBYE, then nothing more."""
        if self._last_frame is None and not self.is_closed:
            self._last_frame = encode_envelope(FrameKind.GOODBYE, 0, payload)
            self._wake()

    def take(self) -> bytes:
        """Return the next batch for the carrier, b"" when there is nothing to send now."""
        parts: list[bytes] = []
        size = 0
        while self._control and size < self._limits.batch_bytes:
            parts.append(self._control.popleft())
            size += len(parts[-1])
        while self._starts and size < self._limits.batch_bytes:
            parts.append(self._take_start(self._starts))
            size += len(parts[-1])
        has_large = False
        while self._large_starts and (size < self._limits.batch_bytes or not has_large):
            parts.append(self._take_start(self._large_starts))
            size += len(parts[-1])
            has_large = has_large or bool(parts[-1])
        if self._bodies and (size < self._limits.batch_bytes or not has_large):
            parts.append(self._take_chunk())
        waiting = self._control or self._starts or self._large_starts or self._bodies
        if not waiting and self._last_frame is not None:
            parts.append(self._last_frame)
            self._last_frame = None
            self.is_closed = True
        return b"".join(parts)

    def _take_start(self, starts: deque[OutMessage]) -> bytes:
        message = starts.popleft()
        if message.dropped:
            return b""
        start, message.start = message.start, b""
        message.begun = True
        if message.left_bytes:
            self._bodies[message.id] = message
        else:
            self._complete(message)
        return start

    def _take_chunk(self) -> bytes:
        for message in self._bodies.values():
            if message.credit_bytes:
                break
        else:
            return b""
        chunk = message.next_chunk(self._limits.chunk_bytes)
        # To the end of the line, for the next body's turn.
        del self._bodies[message.id]
        if message.left_bytes:
            self._bodies[message.id] = message
        else:
            self._complete(message)
        return encode_envelope(FrameKind.BODY, message.id, chunk)

    def _complete(self, message: OutMessage) -> None:
        message.complete = True
        if self.taken is not None:
            self.taken(message)
