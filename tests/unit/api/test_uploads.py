"""Room for request bodies: taken for what has arrived, and whoever has a token finds some."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from baoha import offload
from baoha.api.app import build_app
from baoha.api.uploads import (
    SMALL_BYTES,
    STEP_BYTES,
    STRANGERS_BYTES,
    WAIT_S,
    WAITING_MAX,
    NoRoomError,
    Upload,
    UploadRoom,
)
from baoha.names import TOKEN_HEADER
from baoha.sansio.shares import Claim
from baoha.sansio.wire.messages import HTTPRequest
from tests.support.asgi_client import call, http_scope
from tests.support.fake_node import ACTIVE, STANDBY, FakeNodeView

LARGE = 32 * 1024 * 1024
ROOM = 16 * STEP_BYTES
REQUEST = HTTPRequest(method="PUT", path="/", raw_path="/")
KNOWN = Claim("10.0.0.1", is_known=True)


def make_room(steps: int, claims: Sequence[Claim] = ()) -> UploadRoom:
    """Return a room of so many steps; claims come in this order, then known ones."""
    left = list(claims)

    async def identify(request: HTTPRequest) -> Claim:
        await trio.lowlevel.checkpoint()
        return left.pop(0) if left else KNOWN

    return UploadRoom(identify, steps * STEP_BYTES)


async def test_room_is_given_back_at_the_end_of_the_request() -> None:
    room = make_room(10)

    with room.visit() as upload:
        await upload.grow(3 * STEP_BYTES - 1, REQUEST)
        assert room.taken_bytes == 3 * STEP_BYTES
        upload.complete(20)
        assert room.taken_bytes == 20

    assert room.taken_bytes == 0


async def test_full_room_makes_the_next_one_wait() -> None:
    room = make_room(10)
    entered: list[str] = []

    async def visitor() -> None:
        with room.visit() as upload:
            await upload.grow(6 * STEP_BYTES, REQUEST)
            entered.append("second")

    async with trio.open_nursery() as nursery:
        with room.visit() as upload:
            await upload.grow(6 * STEP_BYTES, REQUEST)
            upload.complete(6 * STEP_BYTES)
            nursery.start_soon(visitor)
            await wait_all_tasks_blocked()
            assert entered == []

    assert entered == ["second"]
    assert room.taken_bytes == 0


async def test_full_room_is_waited_for_so_long(autojump_clock: MockClock) -> None:
    room = make_room(10)

    with room.visit() as first, room.visit() as second:
        await first.grow(10 * STEP_BYTES, REQUEST)
        with pytest.raises(NoRoomError):
            await second.grow(STEP_BYTES, REQUEST)

    assert trio.current_time() == WAIT_S
    assert room.taken_bytes == 0


async def test_room_is_waited_for_by_few_the_next_is_refused_at_once(
    autojump_clock: MockClock,
) -> None:
    room = make_room(1)
    refused_at: list[float] = []

    async def visitor() -> None:
        with room.visit() as upload:
            try:
                await upload.grow(STEP_BYTES, REQUEST)
            except NoRoomError:
                refused_at.append(trio.current_time())

    with room.visit() as upload:
        await upload.grow(STEP_BYTES, REQUEST)
        async with trio.open_nursery() as nursery:
            for _ in range(WAITING_MAX + 3):
                nursery.start_soon(visitor)
    assert sorted(refused_at) == [0.0] * 3 + [WAIT_S] * WAITING_MAX


async def test_body_above_the_room_may_come_alone() -> None:
    room = make_room(2)

    with room.visit() as upload:
        await upload.grow(10 * STEP_BYTES, REQUEST)
        assert room.taken_bytes == 2 * STEP_BYTES


async def _hold(room: UploadRoom, steps: int, ends: list[str], name: str) -> None:
    """Read a body of so many steps, which never ends."""
    with room.visit() as upload:
        try:
            with upload.reading():
                await upload.grow(steps * STEP_BYTES, REQUEST)
                await trio.sleep_forever()
        except NoRoomError:
            ends.append(name)


async def test_strangers_and_then_the_heaviest_address_give_way() -> None:
    other = Claim("10.0.0.2", is_known=True)
    claims = [Claim("10.0.0.3"), Claim("10.0.0.4"), KNOWN, KNOWN, *[other] * 3]
    room = make_room(16, claims)
    ends: list[str] = []
    async with trio.open_nursery() as nursery:
        for name, steps in (("s1", 4), ("s2", 2), ("k1", 5), ("k2", 5)):
            nursery.start_soon(_hold, room, steps, ends, name)
            await wait_all_tasks_blocked()
        assert room.taken_bytes == 16 * STEP_BYTES
        await _grown(room, 2)
        assert ends == ["s1"]
        await _grown(room, 5)
        assert ends == ["s1", "s2"]
        await _grown(room, 7)
        assert ends == ["s1", "s2", "k2"]
        nursery.cancel_scope.cancel()


async def _grown(room: UploadRoom, steps: int) -> None:
    with room.visit() as upload:
        await upload.grow(steps * STEP_BYTES, REQUEST)
        await wait_all_tasks_blocked()


async def test_complete_body_is_never_displaced() -> None:
    room = make_room(1, [Claim("10.0.0.3")])
    with room.visit() as first, room.visit() as second:
        with first.reading():
            await first.grow(STEP_BYTES, REQUEST)
            first.complete(STEP_BYTES)
        with trio.move_on_after(0.05) as waiting:
            await second.grow(STEP_BYTES, REQUEST)
        assert waiting.cancelled_caught


async def test_several_that_all_want_more_end_one_by_one() -> None:
    """No number of half bodies may hold the room and none go on."""
    claims = [Claim(f"10.0.0.{n}", is_known=True) for n in range(8)]
    room = make_room(16, claims)
    done: list[int] = []
    refused: list[int] = []

    async def upload_all(number: int) -> None:
        with room.visit() as upload:
            try:
                with upload.reading():
                    for steps in range(1, 12):
                        await upload.grow(steps * STEP_BYTES, REQUEST)
                        await trio.lowlevel.checkpoint()
                    upload.complete(11 * STEP_BYTES)
                done.append(number)
            except NoRoomError:
                refused.append(number)

    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(upload_all, number)
    assert done
    assert len(done) + len(refused) == 8


# --- through the application --------------------------------------------------------------------

LENGTH = ("content-length", str(LARGE))
FORM = ("content-type", "application/x-www-form-urlencoded")


async def _send_half(app: Any, statuses: list[int], *headers: tuple[str, str], size: int) -> None:
    left = size

    async def receive() -> dict[str, Any]:
        nonlocal left
        if not left:
            await trio.sleep_forever()
        part = min(left, 65_536)
        left -= part
        return {"type": "http.request", "body": b"x" * part, "more_body": True}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(http_scope("POST", "/v1/secret/x", headers), receive, send)


@pytest.mark.parametrize("status", [ACTIVE, STANDBY], ids=["active", "standby"])
@pytest.mark.parametrize("headers", [(LENGTH,), (), (LENGTH, FORM)], ids=["length", "", "form"])
@pytest.mark.parametrize("count", [16, 600])
async def test_stalled_uploads_of_strangers_keep_nobody_out(
    headers: tuple[tuple[str, str], ...], count: int, status: Any
) -> None:
    node = FakeNodeView(status)
    node.known_tokens = {"s.known"}
    app = build_app(node, upload_bytes=ROOM)
    statuses: list[int] = []
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(lambda: _send_half(app, statuses, *headers, size=SMALL_BYTES + 1))
        await wait_all_tasks_blocked()
        body = b'{"k":"' + b"v" * (ROOM // 2) + b'"}'
        answer = await call(app, "POST", "/v1/secret/x", body, [(TOKEN_HEADER, "s.known")])
        assert answer is not None
        assert answer.status < 300
        nursery.cancel_scope.cancel()


async def test_strangers_keep_a_small_share_of_a_full_room(autojump_clock: MockClock) -> None:
    node = FakeNodeView(ACTIVE)
    node.known_tokens = {"s.known"}
    app = build_app(node, upload_bytes=ROOM)
    strangers: list[int] = []
    known: list[int] = []
    token = (TOKEN_HEADER, "s.known")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: _send_half(app, strangers, size=STRANGERS_BYTES))
        await trio.sleep(0.1)
        for _ in range(20):
            nursery.start_soon(lambda: _send_half(app, known, token, size=STEP_BYTES))
        await trio.sleep(WAIT_S + 1)
        assert (strangers, known) == ([], [503] * 5)
        nursery.cancel_scope.cancel()


async def test_one_address_may_fill_the_room_when_nobody_else_comes(
    autojump_clock: MockClock,
) -> None:
    app = build_app(FakeNodeView(ACTIVE), upload_bytes=ROOM)
    statuses: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: _send_half(app, statuses, size=ROOM))
        await trio.sleep(WAIT_S + 1)
        assert statuses == []
        nursery.cancel_scope.cancel()


async def test_stalled_small_upload_ends_at_its_time_limit(autojump_clock: MockClock) -> None:
    statuses: list[int] = []
    await _send_half(build_app(FakeNodeView(ACTIVE)), statuses, size=SMALL_BYTES)
    assert statuses == [408]


def test_upload_that_took_nothing_gives_nothing_back() -> None:
    room = make_room(1)
    with room.visit() as upload:
        assert isinstance(upload, Upload)
        upload.complete(10)
    assert room.taken_bytes == 0


async def test_large_body_that_no_worker_can_put_together_is_refused() -> None:
    app = build_app(FakeNodeView(ACTIVE))
    body = b"x" * (offload.COPIED_INLINE_BYTES_MAX + 1)
    jobs_max = offload.LANES[-1].jobs_max
    hold = threading.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(jobs_max):
            nursery.start_soon(offload.run, lambda pause: hold.wait(), len(body))
        await wait_all_tasks_blocked()

        answer = await call(app, "PUT", "/v1/secret/x", body)
        hold.set()

    assert answer is not None
    assert answer.status == 503
    assert ("retry-after", "1") in answer.headers
