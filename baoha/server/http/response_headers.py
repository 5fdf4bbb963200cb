"""
``custom_response_headers``: headers that the operator adds to answers, by status.

Rule of this file: a header of the operator replaces ours of the same name; it never adds a second.

Source: OpenBao's listener option: "default" for every answer, "4xx" for a class, "404" for one
status; the more exact one wins.
"""

from __future__ import annotations

from collections.abc import Mapping

from baoha.asgi import ASGIApp, Message, Receive, Scope, Send

# Status key ("default", "4xx", "404") to header name to values.
HeadersByStatus = Mapping[str, Mapping[str, tuple[str, ...]]]
RawHeaders = list[tuple[bytes, bytes]]


class CustomHeaders:
    """An ASGI wrapper; ``configured`` may be replaced while it serves."""

    def __init__(self, app: ASGIApp, configured: HeadersByStatus) -> None:
        self._app = app
        self.configured = configured

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if not self.configured:
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self.merged(message["status"], list(message["headers"]))
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def merged(self, status: int, headers: RawHeaders) -> RawHeaders:
        """Return the headers of an answer with the operator's."""
        chosen: dict[bytes, tuple[str, ...]] = {}
        for key in ("default", f"{status // 100}xx", str(status)):
            for name, values in self.configured.get(key, {}).items():
                chosen[name.lower().encode("latin-1")] = values
        kept = [(name, value) for name, value in headers if name not in chosen]
        added = [
            (name, value.encode("latin-1", "replace"))
            for name, values in chosen.items()
            for value in values
        ]
        return kept + added
