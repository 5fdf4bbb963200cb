"""
The ASGI types and the scope keys that the listener and the API agree on.

Rule of this file: types and names only, nothing that runs.
Source: ASGI 3.0, HTTP connection scope; the extension keys are ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# scope["extensions"][LISTENER_EXTENSION] is the ListenerPolicy of the listener that took the
# request.
LISTENER_EXTENSION: Final = "baoha.listener"
# scope["extensions"][TLS_EXTENSION]["client_cert_chain"] is a tuple of DER certificates, leaf
# first, empty when the client showed none. Absent without TLS. (The ASGI draft has PEM texts
# there; the cluster channel carries DER.)
TLS_EXTENSION: Final = "tls"
# scope[DEPARTURE] is the ``Departure`` of the client. Absent where the listener is not ours.
DEPARTURE: Final = "baoha.departure"


class Departure(Protocol):
    """
    That a client has left: what ``http.disconnect`` says, without a task that waits to receive it.
    """

    @property
    def has_come(self) -> bool:
        """Whether the client has left."""

    def tell(self, then: Callable[[], None]) -> None:
        """Call back when it leaves: at once if it has left. The last one given is called."""
