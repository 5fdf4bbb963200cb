"""Room for request bodies: bounded for all clients together, never held half."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from baoha.api.app import build_app
from baoha.api.uploads import ROOM_BYTES, SMALL_BYTES, WAIT_S, NoRoomError, UploadRoom
from tests.support.asgi_client import http_scope
from tests.support.fake_node import ACTIVE, FakeNode

LARGE = 32 * 1024 * 1024


async def test_room_is_given_back_at_the_end_of_the_request() -> None:
    room = UploadRoom(100)

    with room.visit() as upload:
        await upload.take(70)
        assert room.taken_bytes == 70
        upload.keep_only(20)
        assert room.taken_bytes == 20

    assert room.taken_bytes == 0


async def test_full_room_makes_the_next_one_wait() -> None:
    room = UploadRoom(100)
    entered: list[str] = []

    async def visitor() -> None:
        with room.visit() as upload:
            await upload.take(60)
            entered.append("second")

    async with trio.open_nursery() as nursery:
        with room.visit() as upload:
            await upload.take(60)
            nursery.start_soon(visitor)
            await wait_all_tasks_blocked()
            assert entered == []

    assert entered == ["second"]
    assert room.taken_bytes == 0


async def test_full_room_is_waited_for_so_long(autojump_clock: MockClock) -> None:
    room = UploadRoom(100)

    with room.visit() as first, room.visit() as second:
        await first.take(60)
        with pytest.raises(NoRoomError):
            await second.take(60)

    assert trio.current_time() == WAIT_S
    assert room.taken_bytes == 0


async def test_body_above_the_room_may_come_alone() -> None:
    room = UploadRoom(100)

    with room.visit() as upload:
        await upload.take(1000)
        assert room.taken_bytes == 100


async def _send_half(app: Any, statuses: list[int], *headers: tuple[str, str], size: int) -> None:
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await trio.sleep_forever()
        sent = True
        return {"type": "http.request", "body": b"x" * size, "more_body": True}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(http_scope("POST", "/v1/secret/x", headers), receive, send)


@pytest.mark.parametrize("headers", [(("content-length", str(LARGE)),), ()])
async def test_stalled_large_uploads_beyond_the_room_are_refused(
    headers: tuple[tuple[str, str], ...], autojump_clock: MockClock
) -> None:
    app = build_app(FakeNode(ACTIVE))
    statuses: list[int] = []
    small: list[int] = []

    async with trio.open_nursery() as nursery:
        for _ in range(ROOM_BYTES // LARGE + 3):
            nursery.start_soon(lambda: _send_half(app, statuses, *headers, size=SMALL_BYTES + 1))
        await trio.sleep(WAIT_S + 1)
        assert statuses == [503] * 3
        await _send_half(app, small, size=SMALL_BYTES)  # ends at its own time limit

    assert small == [408]
    assert statuses == [503] * 3 + [408] * (ROOM_BYTES // LARGE)
