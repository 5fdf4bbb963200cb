"""The app of one request learns that its client has left, without a task of its own for that."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from baoha.api.app import build_app
from baoha.asgi import DEPARTURE, ASGIApp, Departure, Receive, Scope, Send
from baoha.core.request import Request, Response
from baoha.server.http.app_tasks import AppTasks
from tests.support.asgi_client import http_scope
from tests.support.fake_node import ACTIVE, FakeNodeView

TOKEN = [("X-Vault-Token", "s.t")]
BODY = {"type": "http.request", "body": b"", "more_body": False}


async def _leave_after_a_second(app: ASGIApp, method: str, sent: list[Any]) -> None:
    async def send(message: Any) -> None:
        sent.append(message)

    async with AppTasks(app, {}) as tasks:
        put = await tasks.spawn_app(None, cast(Any, None), http_scope(method, "/v1/x", TOKEN), send)
        await put(BODY)
        await trio.sleep(1)
        tasks.disconnect()


async def test_read_client_leaves_is_ended_without_an_answer(autojump_clock: MockClock) -> None:
    node = FakeNodeView(ACTIVE)
    sent: list[Any] = []

    async def handle(request: Request) -> Response:
        await trio.sleep(60)
        raise AssertionError("the read went on")

    node.on_handle = handle

    await _leave_after_a_second(build_app(node), "GET", sent)

    assert sent == [None]  # the end of the app, and nothing before it
    assert trio.current_time() == pytest.approx(1)


async def test_write_client_leaves_is_finished(autojump_clock: MockClock) -> None:
    node = FakeNodeView(ACTIVE)
    sent: list[Any] = []

    async def handle(request: Request) -> Response:
        await trio.sleep(5)
        return Response()

    node.on_handle = handle

    await _leave_after_a_second(build_app(node), "POST", sent)

    assert sent[0]["status"] == 204
    assert trio.current_time() == pytest.approx(5)


async def test_departure_client_has_left_already_is_told_at_once(
    autojump_clock: MockClock,
) -> None:
    told: list[str] = []

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        departure: Departure = scope[DEPARTURE]
        assert not departure.has_come
        await trio.sleep(2)
        assert departure.has_come
        departure.tell(lambda: told.append("left"))

    await _leave_after_a_second(late, "GET", [])

    assert told == ["left"]
