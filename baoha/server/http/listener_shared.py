"""
What the connections of one listener share.

Rule of this file: it is made and owned by the listener; a connection adds and removes itself only.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from baoha.api.door import Door
from baoha.asgi import ASGIApp
from baoha.config.model import ListenerConfig
from baoha.sansio.shares import Shares
from baoha.server.http.arrivals import Arrivals
from baoha.server.http.intake import Intake
from baoha.server.http.limits import ListenerLimits
from baoha.server.http.refusals import Refusals
from baoha.server.http.response_headers import CustomHeaders
from baoha.server.http.turns import Turns

if TYPE_CHECKING:
    from baoha.server.http.connection import Connection

logger = logging.getLogger("baoha.server.listener")


@dataclass(slots=True, kw_only=True, eq=False)
class ListenerShared:
    """What the connections of one listener share. Made and owned by the listener."""

    app: ASGIApp
    extensions: dict[str, Any]  # copied into every request's scope
    listener: ListenerConfig
    limits: ListenerLimits
    http2: bool
    config: Config
    context: WorkerContext
    places: Shares[Connection]  # loose is whoever waits for its client
    open: set[Connection] = field(default_factory=set)
    intake: Intake
    arrivals: Arrivals
    endings: trio.Lock = field(default_factory=trio.Lock)  # of those that ran out of time
    changed: trio.Event = field(default_factory=trio.Event)  # a place may be had; set by anybody

    @property
    def stopping(self) -> bool:
        """Return whether the listener is going down: no connection is kept alive any more."""
        return self.context.terminated.is_set()


def listener_shared(
    app: ASGIApp,
    extensions: dict[str, Any],
    listener: ListenerConfig,
    limits: ListenerLimits,
    *,
    http2: bool,
    door: Door | None,
    headers: CustomHeaders,
) -> ListenerShared:
    """Return what the connections of one listener share, hypercorn's configuration included."""
    config = Config()
    config.include_server_header = False
    config.accesslog = None  # costs 40 % per request, and would show paths; audit is the API's
    config.errorlog = logger
    config.h11_max_incomplete_size = limits.header_bytes_max
    config.h2_max_header_list_size = limits.header_bytes_max
    # Never the reason to close: the default closes a connection after 1,000 requests.
    config.keep_alive_max_requests = 2**62
    intake = _intake(door if not http2 else None, headers, config)
    return ListenerShared(
        app=app,
        extensions=extensions,
        listener=listener,
        limits=limits,
        http2=http2,
        config=config,
        context=WorkerContext(None),
        intake=intake,
        arrivals=Arrivals(intake),
        # No address has a share of its own: whoever comes finds a place while anybody is idle.
        places=Shares(
            listener.connections_max, address_share=0, strangers_share=0, oldest_first=True
        ),
    )


def _intake(door: Door | None, headers: CustomHeaders, config: Config) -> Intake:
    refusals = Refusals(door.refusal, headers, config) if door is not None else None
    return Intake(Turns(), door, refusals)
