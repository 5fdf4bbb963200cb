"""
The frames of the cluster channel: envelopes, and requests and responses inside them.

Rules of this file: what a peer sends either decodes or raises ``FrameError``, and nothing larger
than the limits is ever built in memory. No I/O; the carrier (``cluster.transport``) sends a batch
of envelopes as one message, which is what makes many small requests cheap.

An envelope is ``length (4) kind (1) id (8) payload``, big-endian. A request or a response starts
with a frame that carries ``head length (4) body length (8) head first-part-of-body``; what does not
fit into one chunk follows as BODY frames, as far as the receiver's CREDIT reaches. Heads and
control payloads are MessagePack maps. Compatibility: unknown keys and unknown kinds are ignored, so
a newer node may add both; what changes old ones needs a new protocol number in the hello.

Source: ours; docs/spec/libraries.md section 2 for what batches are worth.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final, NamedTuple, TypeVar

import msgspec

from baoha.errors import ForwardingError
from baoha.sansio.wire.messages import BODY_BYTES_MAX, HTTPRequest, HTTPResponse

PROTOCOL: Final = 1

_ENVELOPE: Final = struct.Struct("!IBQ")
_MESSAGE: Final = struct.Struct("!IQ")
_CREDIT: Final = struct.Struct("!Q")

ENVELOPE_BYTES: Final = _ENVELOPE.size
MESSAGE_HEADER_BYTES: Final = _MESSAGE.size

_PAYLOAD_BYTES_MAX: Final = 0xFFFF_FFFF


class FrameError(ForwardingError):
    """The peer broke the protocol, or something does not fit into a frame."""


class FrameKind(IntEnum):
    """What an envelope is. The direction is the one in which it may be sent."""

    HELLO = 1  # standby: protocol numbers and NodeInfo; the first frame
    WELCOME = 2  # active: the chosen protocol and its limits; its first frame
    HEARTBEAT = 3  # standby: NodeInfo
    ECHO = 4  # active: answer to HEARTBEAT
    REQUEST = 5  # standby
    RESPONSE = 6  # active
    BODY = 7  # both: the next part of the message with this id
    CREDIT = 8  # both: so many more body bytes of this id may be sent
    CANCEL = 9  # standby: nobody waits for this request any more
    NOT_EXECUTED = 10  # active: it was not and will not be executed; payload: why
    UNKNOWN_OUTCOME = 11  # active: it may have been executed; payload: why
    NOTICE = 12  # active: LeaderNotice
    PREPARE = 13  # active: prepare to take over (ids of its own)
    PREPARED = 14  # standby: PrepareReply
    GOODBYE = 15  # active, its last frame: what is unanswered will never be executed; payload: why


class Frame(NamedTuple):
    """One envelope. ``kind`` may be a number that this version does not know."""

    kind: int
    id: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLimits:
    """
    Bounds of one connection.

    Attributes:
        head_bytes_max: head of a request or response, and any control payload.
        body_bytes_max: whole body of a request or response.
        chunk_bytes: part of a body in one frame; at 64 KiB small requests stay quick beside it.
        batch_bytes: envelopes joined into one carrier message stop growing here.
        in_flight_max: requests of one peer that are being received, executed or answered.
        in_flight_bytes_max: heads and bodies of those, in memory at once.
        control_frames_max: control frames waiting for a peer that does not read.
        pending_max: connections without a hello; above it the oldest is closed.
        sessions_max: connections with one, of all standbys together.
        node_sessions_max: those of one standby, which has two while it changes from one to another.
    """

    head_bytes_max: int = 1_048_576
    body_bytes_max: int = BODY_BYTES_MAX
    chunk_bytes: int = 65_536
    batch_bytes: int = 262_144
    in_flight_max: int = 1_024
    in_flight_bytes_max: int = 268_435_456
    control_frames_max: int = 16_384
    pending_max: int = 512
    sessions_max: int = 256
    node_sessions_max: int = 4

    @property
    def payload_bytes_max(self) -> int:
        """Longest payload that a peer may send."""
        return MESSAGE_HEADER_BYTES + self.head_bytes_max + self.chunk_bytes

    @property
    def carrier_bytes_max(self) -> int:
        """Longest batch that a peer may send: a batch that stopped growing plus one frame."""
        return self.batch_bytes + 2 * (ENVELOPE_BYTES + self.payload_bytes_max)


class MessageStart(NamedTuple):
    """The first frame of a request or response: its head, and what it says of the body."""

    head: bytes
    body_bytes: int
    first: bytes


def encode_envelope(kind: int, frame_id: int, payload: bytes | memoryview = b"") -> bytes:
    """
    Return one envelope.

    Raises:
        FrameError: the payload is too long for any frame.
    """
    if len(payload) > _PAYLOAD_BYTES_MAX:
        raise FrameError(f"frame payload of {len(payload)} bytes is too long")
    return b"".join((_ENVELOPE.pack(len(payload), kind, frame_id), payload))


def parse_envelopes(data: bytes, limits: ChannelLimits) -> list[Frame]:
    """
    Take one carrier message apart.

    Raises:
        FrameError: it is cut off, or a payload is longer than the limits allow.
    """
    frames: list[Frame] = []
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < ENVELOPE_BYTES:
            raise FrameError("frame header is cut off")
        length, kind, frame_id = _ENVELOPE.unpack_from(data, offset)
        offset += ENVELOPE_BYTES
        if length > limits.payload_bytes_max:
            raise FrameError(
                f"frame of {length} bytes is above the limit of {limits.payload_bytes_max} bytes"
            )
        if length > end - offset:
            raise FrameError("frame payload is cut off")
        frames.append(Frame(kind, frame_id, data[offset : offset + length]))
        offset += length
    return frames


def encode_message_start(head: bytes, body_bytes: int, first: bytes | memoryview) -> bytes:
    """Return the payload of a REQUEST or RESPONSE frame."""
    return b"".join((_MESSAGE.pack(len(head), body_bytes), head, first))


def parse_message_start(payload: bytes, limits: ChannelLimits) -> MessageStart:
    """
    Take the payload of a REQUEST or RESPONSE frame apart.

    Raises:
        FrameError: it is cut off, contradicts itself, or head or body are above the limits.
    """
    if len(payload) < MESSAGE_HEADER_BYTES:
        raise FrameError("message header is cut off")
    head_bytes, body_bytes = _MESSAGE.unpack_from(payload)
    check_size(head_bytes, body_bytes, limits)
    first_at = MESSAGE_HEADER_BYTES + head_bytes
    if first_at > len(payload):
        raise FrameError("message head is cut off")
    if len(payload) - first_at > body_bytes:
        raise FrameError("message has more body than it announces")
    return MessageStart(payload[MESSAGE_HEADER_BYTES:first_at], body_bytes, payload[first_at:])


def check_size(head_bytes: int, body_bytes: int, limits: ChannelLimits) -> None:
    """
    Check a message against the limits, before sending and after receiving.

    Raises:
        FrameError: head or body are too large.
    """
    if head_bytes > limits.head_bytes_max:
        raise FrameError(
            f"message head of {head_bytes} bytes is above the cluster channel's limit of "
            f"{limits.head_bytes_max} bytes"
        )
    if body_bytes > limits.body_bytes_max:
        raise FrameError(
            f"message body of {body_bytes} bytes is above the cluster channel's limit of "
            f"{limits.body_bytes_max} bytes"
        )


def encode_credit(count_bytes: int) -> bytes:
    """Return the payload of a CREDIT frame."""
    return _CREDIT.pack(count_bytes)


def parse_credit(payload: bytes) -> int:
    """
    Read the payload of a CREDIT frame.

    Raises:
        FrameError: it has the wrong length.
    """
    if len(payload) != _CREDIT.size:
        raise FrameError("credit frame has the wrong length")
    (count_bytes,) = _CREDIT.unpack(payload)
    return int(count_bytes)


def encode_head(message: HTTPRequest | HTTPResponse) -> bytes:
    """
    Return the head of a request or response: everything but the body.

    Raises:
        FrameError: a text in it cannot be encoded.
    """
    names = _REQUEST_FIELDS if isinstance(message, HTTPRequest) else _RESPONSE_FIELDS
    return pack({name: getattr(message, name) for name in names})


# The fields of a head. ``dataclasses.replace`` would cost more than all the rest of a frame.
_REQUEST_FIELDS: Final = tuple(field.name for field in fields(HTTPRequest) if field.name != "body")
_RESPONSE_FIELDS: Final = tuple(
    field.name for field in fields(HTTPResponse) if field.name != "body"
)
_REQUEST_DECODER: Final = msgspec.msgpack.Decoder(HTTPRequest)
_RESPONSE_DECODER: Final = msgspec.msgpack.Decoder(HTTPResponse)

# What msgspec raises on bad input: its own errors, bad UTF-8, and nesting that is too deep.
_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def decode_request(head: bytes, body: bytes) -> HTTPRequest:
    """
    Build a request from its head and its whole body.

    Raises:
        FrameError: the head is not a request's.
    """
    try:
        request = _REQUEST_DECODER.decode(head)
    except _DECODE_ERRORS as exc:
        raise FrameError("request head cannot be decoded") from exc
    return HTTPRequest(body=body, **{name: getattr(request, name) for name in _REQUEST_FIELDS})


def decode_response(head: bytes, body: bytes) -> HTTPResponse:
    """
    Build a response from its head and its whole body.

    Raises:
        FrameError: the head is not a response's.
    """
    try:
        response = _RESPONSE_DECODER.decode(head)
    except _DECODE_ERRORS as exc:
        raise FrameError("response head cannot be decoded") from exc
    return HTTPResponse(body=body, **{name: getattr(response, name) for name in _RESPONSE_FIELDS})


def pack(record: object) -> bytes:
    """
    Encode a dataclass as a MessagePack map.

    Raises:
        FrameError: a value in it cannot be encoded.
    """
    try:
        return msgspec.msgpack.encode(record)
    except (msgspec.MsgspecError, UnicodeError, OverflowError, TypeError) as exc:
        raise FrameError(f"cannot encode {type(record).__name__}") from exc


Record = TypeVar("Record")


def unpack(data: bytes, record_type: type[Record]) -> Record:
    """
    Decode what ``pack`` made; unknown keys are ignored.

    Raises:
        FrameError: it is not such a record.
    """
    try:
        return msgspec.msgpack.decode(data, type=record_type)
    except _DECODE_ERRORS as exc:
        raise FrameError(f"cannot decode {record_type.__name__}") from exc
