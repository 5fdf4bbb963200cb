"""Frames: what is sent comes back, and garbage is a FrameError and nothing else."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.cluster.channel import Hello, LeaderNotice, NodeInfo, PrepareReply, Welcome
from baoha.sansio.wire.frames import (
    ENVELOPE_BYTES,
    ChannelLimits,
    Frame,
    FrameError,
    decode_request,
    decode_response,
    encode_credit,
    encode_envelope,
    encode_head,
    encode_message_start,
    pack,
    parse_credit,
    parse_envelopes,
    parse_message_start,
    unpack,
)
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse, ListenerPolicy

LIMITS = ChannelLimits()
SMALL = ChannelLimits(head_bytes_max=100, body_bytes_max=200, chunk_bytes=50)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
headers = st.lists(st.tuples(texts, texts), max_size=5).map(tuple)
requests = st.builds(
    HTTPRequest,
    method=texts,
    path=texts,
    raw_path=texts,
    query=texts,
    headers=headers,
    body=st.binary(max_size=100),
    remote_addr=texts,
    client_certificates=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    listener=st.builds(
        ListenerPolicy,
        name=texts,
        max_request_bytes=st.integers(0, 2**62),
        max_request_s=st.floats(0, 1e9),
    ),
    forwarded_by=texts,
)
responses = st.builds(
    HTTPResponse, status=st.integers(100, 599), headers=headers, body=st.binary(max_size=100)
)
frames = st.lists(
    st.builds(Frame, st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=150)),
    max_size=6,
)
records = st.sampled_from(
    [HTTPRequest, HTTPResponse, NodeInfo, LeaderNotice, PrepareReply, Hello, Welcome]
)


@given(frames)
def test_envelopes_joined_come_back(sent: list[Frame]) -> None:
    data = b"".join(encode_envelope(*frame) for frame in sent)
    assert parse_envelopes(data, LIMITS) == sent


@given(frames, st.data())
def test_envelopes_cut_off_are_a_frame_error_or_fewer_whole_frames(
    sent: list[Frame], data: st.DataObject
) -> None:
    joined = b"".join(encode_envelope(*frame) for frame in sent)
    end = data.draw(st.integers(0, len(joined)))
    borders = {0}
    for frame in sent:
        borders.add(max(borders) + ENVELOPE_BYTES + len(frame.payload))
    if end in borders:
        got = parse_envelopes(joined[:end], LIMITS)
        assert got == sent[: len(got)]
    else:
        with pytest.raises(FrameError):
            parse_envelopes(joined[:end], LIMITS)


@given(st.binary(max_size=400))
def test_garbage_is_a_frame_error_everywhere(garbage: bytes) -> None:
    for parse in (
        lambda: parse_envelopes(garbage, SMALL),
        lambda: parse_message_start(garbage, SMALL),
        lambda: parse_credit(garbage),
        lambda: decode_request(garbage, b""),
        lambda: decode_response(garbage, b""),
    ):
        try:
            parse()
        except FrameError:
            continue


msgpack_values: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(records, msgpack_values)
def test_well_formed_msgpack_of_another_shape_is_a_frame_error(
    record: type[object], value: object
) -> None:
    try:
        encoded = msgspec.msgpack.encode(value)
    except UnicodeEncodeError:
        return
    with pytest.raises(FrameError):
        unpack(encoded, record)


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 100_000,
        b"\x81\xa1z" + b"\x91" * 100_000,
        b"\x81\xa6method\xa1\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
)
def test_hostile_msgpack_is_a_frame_error(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode_request(data, b"")


@given(requests)
def test_request_comes_back(request: HTTPRequest) -> None:
    assert decode_request(encode_head(request), request.body) == request


@given(responses)
def test_response_comes_back(response: HTTPResponse) -> None:
    assert decode_response(encode_head(response), response.body) == response


def test_head_carries_no_body() -> None:
    body = b"canary" * 100
    assert b"canary" not in encode_head(HTTPResponse(status=200, body=body))


def test_head_of_a_newer_node_with_unknown_keys_is_read() -> None:
    head = msgspec.msgpack.encode({"status": 204, "trailers": [["a", {"b": 1}]]})
    assert decode_response(head, b"x") == HTTPResponse(status=204, body=b"x")


def test_head_that_brings_a_body_of_its_own_does_not_count() -> None:
    head = msgspec.msgpack.encode({"status": 200, "body": b"smuggled"})
    assert decode_response(head, b"").body == b""


def test_lone_surrogate_cannot_be_encoded() -> None:
    with pytest.raises(FrameError):
        encode_head(HTTPRequest(method="GET", path="\udc80", raw_path="/"))
    with pytest.raises(FrameError):
        pack(LeaderNotice(phase="\ud800"))


@given(st.binary(max_size=100), st.binary(max_size=50), st.integers(0, 150))
def test_message_start_comes_back(head: bytes, first: bytes, more: int) -> None:
    payload = encode_message_start(head, len(first) + more, first)
    assert parse_message_start(payload, SMALL) == (head, len(first) + more, first)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\x00" * 11, "cut off"),
        (struct.pack("!IQ", 101, 0) + b"h" * 101, "head of 101 bytes is above"),
        (struct.pack("!IQ", 0, 201), "body of 201 bytes is above"),
        (struct.pack("!IQ", 5, 0) + b"h" * 4, "head is cut off"),
        (struct.pack("!IQ", 1, 1) + b"hbb", "more body than it announces"),
    ],
)
def test_message_start_wrong_is_named(payload: bytes, text: str) -> None:
    with pytest.raises(FrameError, match=text):
        parse_message_start(payload, SMALL)


def test_payload_at_the_limit_passes_and_one_more_does_not() -> None:
    at_limit = encode_envelope(5, 1, b"p" * SMALL.payload_bytes_max)
    assert len(parse_envelopes(at_limit, SMALL)) == 1
    above = encode_envelope(5, 1, b"p" * (SMALL.payload_bytes_max + 1))
    with pytest.raises(FrameError, match="is above the limit"):
        parse_envelopes(above, SMALL)


@given(st.integers(0, 2**64 - 1))
def test_credit_comes_back(count: int) -> None:
    assert parse_credit(encode_credit(count)) == count
