"""
Run the ASGI app for the requests of one connection.

Rule of this file: an app can neither block its connection nor end it. What it does not read is
bounded, what it raises ends its own request.

Theory of operation. hypercorn's own ``TaskGroup`` passes messages through a queue that nobody
closes: an app that answers without reading the body (a redirect) leaves the reader waiting for
room for ever, and the news that the client is gone waits behind it. Here the queue is closed by
whichever side ends first, and "closed" is what the app sees as ``http.disconnect``.

Source: ours; hypercorn 0.18.0 ``trio/task_group.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup

from baoha.asgi import DEPARTURE, ASGIApp, Message, Receive, Scope, Send
from baoha.errors import type_and_place

logger = logging.getLogger("baoha.server.listener")

# Body messages an app may leave unread before the connection stops reading (each <= 64 KiB).
APP_QUEUE_MESSAGES = 2


class _Incoming:
    """What the app of one request has still to receive; ``Departure`` for it."""

    def __init__(self) -> None:
        self._put, self._take = trio.open_memory_channel[Message](APP_QUEUE_MESSAGES)
        self._then: Callable[[], None] | None = None
        self.has_come = False

    def tell(self, then: Callable[[], None]) -> None:
        self._then = then
        if self.has_come:
            then()

    async def put(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self.end()
            return
        try:
            await self._put.send(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the app has ended, or was told that the client is gone

    async def receive(self) -> Message:
        try:
            return await self._take.receive()
        except trio.EndOfChannel:
            return {"type": "http.disconnect"}

    def end(self) -> None:
        """The client sends nothing more."""
        self._put.close()
        if not self.has_come:
            self.has_come = True
            if self._then is not None:
                self._then()

    def close(self) -> None:
        """The app has ended: it is told nothing more."""
        self._then = None
        self._put.close()
        self._take.close()


class AppTasks(TaskGroup):
    """
    Runs the app, one task per request.

    Unlike hypercorn's own: the app's queue never blocks whoever tells it that the client is gone,
    nor the reader once the app has ended, and the queue is closed behind it.
    """

    def __init__(self, app: ASGIApp, extensions: dict[str, Any]) -> None:
        super().__init__()
        self._app = app
        self._extensions = extensions
        self._incoming: set[_Incoming] = set()

    def disconnect(self) -> None:
        """Tell every running app that its client will send nothing more."""
        for incoming in self._incoming:
            incoming.end()

    def end_within(self, seconds: float) -> None:
        """Cancel what still runs after so many seconds."""
        assert self._nursery is not None
        self._nursery.cancel_scope.deadline = trio.current_time() + seconds

    async def spawn_app(
        self, app: Any, config: Config, scope: Any, send: Callable[..., Awaitable[None]]
    ) -> Callable[..., Awaitable[None]]:
        """Start the app for one request and return the function that passes it messages."""
        incoming = _Incoming()
        scope.setdefault("extensions", {}).update(self._extensions)
        scope[DEPARTURE] = incoming
        self._incoming.add(incoming)
        assert self._nursery is not None
        self._nursery.start_soon(self._run_app, scope, incoming, send)
        return incoming.put

    async def _run_app(
        self,
        scope: Scope,
        incoming: _Incoming,
        send: Callable[..., Awaitable[None]],
    ) -> None:
        app = self._app if scope["type"] == "http" else _refuse_websocket
        try:
            await app(scope, incoming.receive, send)
        except Exception as error:
            # One request ends with 500 (hypercorn sends it when nothing was sent yet).
            logger.error(
                "request ended by an error: method=%s error=%s",
                scope.get("method", ""),
                type_and_place(error),
            )
        finally:
            incoming.close()
            self._incoming.discard(incoming)
        await send(None)


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})
