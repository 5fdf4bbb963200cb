"""The outbox: order, honesty about what was taken, bounds; and the assembly at its other end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.sansio.wire.assembly import Assembly
from baoha.sansio.wire.frames import (
    ChannelLimits,
    Frame,
    FrameError,
    FrameKind,
    encode_credit,
    parse_credit,
    parse_envelopes,
    parse_message_start,
)
from baoha.sansio.wire.outbox import Outbox, OutMessage

LIMITS = ChannelLimits(
    head_bytes_max=100,
    body_bytes_max=10_000,
    chunk_bytes=10,
    batch_bytes=200,
    control_frames_max=5,
    in_flight_bytes_max=1_000,
)


class Rig:
    def __init__(self, limits: ChannelLimits = LIMITS) -> None:
        self.wakes = 0
        self.taken: list[int] = []
        self.limits = limits
        self.outbox = Outbox(limits, wake=self._wake)
        self.outbox.taken = self._take

    def _wake(self) -> None:
        self.wakes += 1

    def _take(self, message: OutMessage) -> None:
        assert message.complete
        self.taken.append(message.id)

    def frames(self) -> list[Frame]:
        """Take one batch."""
        data = self.outbox.take()
        assert len(data) <= self.limits.carrier_bytes_max
        return parse_envelopes(data, self.limits)

    def kinds(self) -> list[tuple[int, int]]:
        return [(frame.kind, frame.id) for frame in self.frames()]


def progress(message: OutMessage) -> str:
    if message.complete:
        return "complete"
    return "begun" if message.begun else "waiting"


def test_small_messages_and_control_are_one_batch_control_first() -> None:
    rig = Rig()
    first = rig.outbox.message(FrameKind.REQUEST, 1, b"h", b"body")
    rig.outbox.message(FrameKind.REQUEST, 2, b"h", b"")
    rig.outbox.control(FrameKind.HEARTBEAT)
    assert progress(first) == "waiting"
    assert rig.kinds() == [(FrameKind.HEARTBEAT, 0), (FrameKind.REQUEST, 1), (FrameKind.REQUEST, 2)]
    assert progress(first) == "complete"
    assert rig.taken == [1, 2]
    assert rig.wakes == 3
    assert rig.outbox.is_idle
    assert rig.outbox.take() == b""


def test_batch_stops_growing_at_its_limit_and_nothing_is_lost() -> None:
    rig = Rig()
    for number in range(50):
        rig.outbox.message(FrameKind.REQUEST, number, b"h" * 20, b"")
    batches = []
    while batch := rig.kinds():
        batches.append(len(batch))
    assert sum(batches) == 50
    assert max(batches) < 10
    assert rig.taken == list(range(50))


def test_large_body_waits_for_credit_and_is_cut_into_chunks() -> None:
    rig = Rig()
    message = rig.outbox.message(FrameKind.REQUEST, 1, b"h", bytes(range(35)))
    (frame,) = rig.frames()
    assert parse_message_start(frame.payload, LIMITS) == (b"h", 35, bytes(range(10)))
    assert progress(message) == "begun"
    assert rig.outbox.is_idle
    rig.outbox.credit(1, 15)
    assert [frame.payload for frame in rig.frames()] == [bytes(range(10, 20))]
    assert [frame.payload for frame in rig.frames()] == [bytes(range(20, 25))]
    assert rig.outbox.take() == b""
    assert progress(message) == "begun"
    rig.outbox.credit(1, 100)
    assert [frame.payload for frame in rig.frames()] == [bytes(range(25, 35))]
    assert progress(message) == "complete"
    assert rig.taken == [1]


def test_large_bodies_take_turns_and_small_frames_overtake_them() -> None:
    rig = Rig()
    for number in (1, 2):
        rig.outbox.message(FrameKind.REQUEST, number, b"h", b"x" * 40)
        rig.outbox.credit(number, 40)
    assert rig.kinds() == [(FrameKind.REQUEST, 1), (FrameKind.REQUEST, 2)]
    for number in (1, 2):
        rig.outbox.credit(number, 40)
    turns = []
    for small in range(10, 16):
        rig.outbox.message(FrameKind.REQUEST, small, b"h", b"")
        kinds = rig.kinds()
        assert kinds[0] == (FrameKind.REQUEST, small)
        turns.append(kinds[1][1])
    assert turns == [1, 2, 1, 2, 1, 2]
    assert {1, 2} <= set(rig.taken)


def test_small_message_passes_the_beginnings_of_large_ones_and_does_not_starve_them() -> None:
    rig = Rig(ChannelLimits(chunk_bytes=1000, batch_bytes=500))
    for number in range(5):
        rig.outbox.message(FrameKind.REQUEST, number, b"h", b"x" * (5000 if number % 2 else 900))
    for small in range(10, 30):
        rig.outbox.message(FrameKind.REQUEST, small, b"h" * 100, b"")
    first, second, *_ = batches = [rig.kinds() for _ in range(7)]
    assert [number for _, number in first] == [10, 11, 12, 13, 0]
    assert [number for _, number in second] == [14, 15, 16, 17, 1]
    sent = [number for batch in batches for _, number in batch]
    assert [number for number in sent if number < 10] == [0, 1, 2, 3, 4]
    assert sorted(rig.taken) == [0, 2, 4, *range(10, 30)]


def test_message_dropped_before_its_turn_is_never_sent() -> None:
    rig = Rig()
    message = rig.outbox.message(FrameKind.REQUEST, 1, b"h", b"x" * 40)
    rig.outbox.drop(message)
    assert rig.outbox.take() == b""
    assert not message.begun


def test_message_dropped_half_way_sends_no_more() -> None:
    rig = Rig()
    message = rig.outbox.message(FrameKind.REQUEST, 1, b"h", b"x" * 40)
    rig.frames()
    rig.outbox.credit(1, 40)
    rig.frames()
    rig.outbox.drop(message)
    rig.outbox.credit(1, 40)
    assert rig.outbox.take() == b""
    assert not message.complete
    assert rig.taken == []


def test_finish_lets_all_bodies_go_then_goodbye_then_nothing() -> None:
    rig = Rig()
    rig.outbox.message(FrameKind.RESPONSE, 1, b"h", b"x" * 25)
    rig.frames()
    rig.outbox.finish(b"bye")
    rig.outbox.control(FrameKind.ECHO)
    late = rig.outbox.message(FrameKind.RESPONSE, 2, b"h", b"")
    assert late.dropped
    assert rig.outbox.take() == b""
    rig.outbox.credit(1, 15)
    assert rig.kinds() == [(FrameKind.BODY, 1)]
    assert rig.kinds() == [(FrameKind.BODY, 1), (FrameKind.GOODBYE, 0)]
    assert rig.outbox.is_closed
    rig.outbox.finish(b"again")
    assert rig.outbox.take() == b""


def test_limits_are_checked_before_anything_is_queued() -> None:
    rig = Rig()
    with pytest.raises(FrameError, match="body of 10001 bytes"):
        rig.outbox.message(FrameKind.REQUEST, 1, b"h", b"x" * 10_001)
    with pytest.raises(FrameError, match="head of 101 bytes"):
        rig.outbox.message(FrameKind.REQUEST, 1, b"h" * 101, b"")
    with pytest.raises(FrameError, match="head of 101 bytes"):
        rig.outbox.control(FrameKind.NOTICE, 0, b"n" * 101)
    assert rig.outbox.take() == b""
    for _ in range(5):
        rig.outbox.control(FrameKind.ECHO)
    assert rig.outbox.control_frames == 5
    with pytest.raises(FrameError, match="does not read"):
        rig.outbox.control(FrameKind.ECHO)


# --- assembly ------------------------------------------------------------------------------------


def test_assembly_first_part_is_all_body_is_complete_at_once() -> None:
    assembly: Assembly[str] = Assembly(budget_bytes=10, grant=lambda _id, _count: None)
    assert assembly.begin(1, "tag", 3, b"abc") == b"abc"
    assert assembly.incomplete == 0
    assert assembly.held_bytes == 0


def test_assembly_budget_used_up_later_bodies_wait_in_order() -> None:
    grants: list[tuple[int, int]] = []
    assembly: Assembly[str] = Assembly(
        budget_bytes=100, grant=lambda message_id, count: grants.append((message_id, count))
    )
    for message_id, size in ((1, 80), (2, 60), (3, 10)):
        assert assembly.begin(message_id, "t", size, b"") is None
    # The third would fit, but it would overtake the second for ever.
    assert grants == [(1, 80)]
    assert assembly.add(1, b"x" * 80) == ("t", b"x" * 80)
    assert grants == [(1, 80)]
    assembly.release(1)
    assert grants == [(1, 80), (2, 60), (3, 10)]
    assembly.release(2)
    assembly.release(3)
    assert assembly.held_bytes == 0


def test_assembly_body_above_the_whole_budget_gets_in_alone() -> None:
    grants: list[int] = []
    assembly: Assembly[str] = Assembly(
        budget_bytes=100, grant=lambda message_id, _count: grants.append(message_id)
    )
    assembly.begin(1, "t", 5_000, b"")
    assembly.begin(2, "t", 1, b"")
    assert grants == [1]
    assembly.release(1)
    assert grants == [1, 2]


def test_assembly_waiting_body_dropped_does_not_block_the_line() -> None:
    grants: list[int] = []
    assembly: Assembly[str] = Assembly(
        budget_bytes=100, grant=lambda message_id, _count: grants.append(message_id)
    )
    for message_id in (1, 2, 3):
        assembly.begin(message_id, "t", 90, b"")
    assembly.release(2)
    assembly.release(1)
    assert grants == [1, 3]


def test_assembly_breach_of_protocol_is_a_frame_error() -> None:
    assembly: Assembly[str] = Assembly(budget_bytes=10, grant=lambda _id, _count: None)
    assembly.begin(1, "t", 10, b"")
    with pytest.raises(FrameError, match="in use"):
        assembly.begin(1, "t", 10, b"")
    with pytest.raises(FrameError, match="not granted"):
        assembly.add(1, b"x" * 11)
    with pytest.raises(FrameError, match="not granted"):
        assembly.add(1, b"")
    assembly.begin(2, "t", 10, b"")
    with pytest.raises(FrameError, match="not granted"):
        assembly.add(2, b"x")
    assert assembly.add(99, b"whatever") is None


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=12),
    st.integers(1, 400),
    st.integers(1, 60),
)
def test_outbox_to_assembly_every_body_arrives_whole_within_the_budget(
    bodies: list[bytes], budget: int, chunk: int
) -> None:
    """Both ends joined, frame by frame: no dead-lock, no mix-up, no more memory than allowed."""
    limits = ChannelLimits(chunk_bytes=chunk, batch_bytes=100, in_flight_bytes_max=budget)
    rig, back = Rig(limits), Rig(limits)
    assembly: Assembly[bytes] = Assembly(
        budget_bytes=budget,
        grant=lambda message_id, count: back.outbox.control(
            FrameKind.CREDIT, message_id, encode_credit(count)
        ),
    )
    arrived: dict[int, bytes] = {}
    for number, body in enumerate(bodies):
        rig.outbox.message(FrameKind.REQUEST, number, b"h", body)
    while frames := rig.frames():
        for frame in frames:
            if frame.kind == FrameKind.REQUEST:
                start = parse_message_start(frame.payload, limits)
                whole = assembly.begin(frame.id, start.head, start.body_bytes, start.first)
            else:
                done = assembly.add(frame.id, frame.payload)
                whole = None if done is None else done[1]
            if whole is not None:
                arrived[frame.id] = whole
                assembly.release(frame.id)
        assert assembly.held_bytes <= max(budget, 300)
        for frame in back.frames():
            rig.outbox.credit(frame.id, parse_credit(frame.payload))
    assert arrived == dict(enumerate(bodies))
    assert sorted(rig.taken) == list(range(len(bodies)))
