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

from baoha.asgi import ASGIApp, Message, Receive, Scope, Send
from baoha.errors import type_and_place

logger = logging.getLogger("baoha.server.listener")

# Body messages an app may leave unread before the connection stops reading (each <= 64 KiB).
APP_QUEUE_MESSAGES = 2


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
        self._incoming: set[trio.MemorySendChannel[Message]] = set()

    def disconnect(self) -> None:
        """Tell every running app that its client will send nothing more."""
        for incoming in self._incoming:
            incoming.close()

    def end_within(self, seconds: float) -> None:
        """Cancel what still runs after so many seconds."""
        assert self._nursery is not None
        self._nursery.cancel_scope.deadline = trio.current_time() + seconds

    async def spawn_app(
        self, app: Any, config: Config, scope: Any, send: Callable[..., Awaitable[None]]
    ) -> Callable[..., Awaitable[None]]:
        """Start the app for one request and return the function that passes it messages."""
        incoming, messages = trio.open_memory_channel[Message](APP_QUEUE_MESSAGES)
        scope.setdefault("extensions", {}).update(self._extensions)
        self._incoming.add(incoming)
        assert self._nursery is not None
        self._nursery.start_soon(self._run_app, scope, incoming, messages, send)

        async def put(message: Message) -> None:
            if message["type"] == "http.disconnect":
                incoming.close()
                return
            try:
                await incoming.send(message)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the app has ended, or was told that the client is gone

        return put

    async def _run_app(
        self,
        scope: Scope,
        incoming: trio.MemorySendChannel[Message],
        messages: trio.MemoryReceiveChannel[Message],
        send: Callable[..., Awaitable[None]],
    ) -> None:
        async def receive() -> Message:
            try:
                return await messages.receive()
            except trio.EndOfChannel:
                return {"type": "http.disconnect"}

        app = self._app if scope["type"] == "http" else _refuse_websocket
        try:
            await app(scope, receive, send)
        except Exception as error:
            # One request ends with 500 (hypercorn sends it when nothing was sent yet).
            logger.error(
                "request ended by an error: method=%s error=%s",
                scope.get("method", ""),
                type_and_place(error),
            )
        finally:
            incoming.close()
            messages.close()
            self._incoming.discard(incoming)
        await send(None)


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})
