"""
The way of one request: answer it here, execute it, forward it, park it, redirect it, refuse it.

Rules of this file:

1. What to do is decided by ``standby_policy.decide`` from one picture of the node; this file only
   acts, and goes round when the picture has changed.
2. A request goes round only if nothing was executed, or if it is a read. A write whose outcome is
   unknown is answered so, and never repeated.
3. Going round ends: the first wait starts a deadline, and every wait takes a parking place.

Source: DESIGN.md section 4 "A standby that cannot forward now".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import trio

from baoha import names
from baoha.api.answers import (
    RETRY_AFTER_S,
    TOO_LARGE_TEXT,
    error_answer,
    failure_answer,
    no_content,
    redirect,
    redirect_location,
    unforeseen,
    unknown_outcome,
)
from baoha.api.local import serve_local
from baoha.api.logical import decode_body, execute, is_read, token_of
from baoha.api.paths import api_path, refusal
from baoha.api.standby_policy import NO_ACTIVE_NODE, Forward, Park, Redirect, Refuse, Serve, decide
from baoha.core.view import NodeStatus, NodeView
from baoha.errors import (
    BaohaError,
    CannotForward,
    FencedWrite,
    ForwardingInterrupted,
    InvalidRequest,
    LeadershipLost,
    NotActive,
    ReadOnly,
)
from baoha.sansio.messages import HTTPRequest, HTTPResponse

DEFAULT_PARK_S: Final = 5.0
# After a failed attempt the picture may already be the new one, or never change: look again.
RETRY_PAUSE_S: Final = 0.25
_NODE_NAME_MAX: Final = 256  # characters; what is asked for stands in the answer and in the log
_STEP_DOWN: Final = "sys/step-down"
# Streams of a whole store: always the active node's own, never through the channel.
_NEVER_FORWARDED: Final = frozenset(
    {"sys/storage/raft/snapshot", "sys/storage/raft/snapshot-force"}
)
_NOT_EXECUTED: Final = (NotActive, FencedWrite, ReadOnly)
_NOBODY: Final = Refuse(503, NO_ACTIVE_NODE, RETRY_AFTER_S)


def _never() -> bool:
    return False


async def serve_request(
    view: NodeView,
    request: HTTPRequest,
    *,
    park_s: float = DEFAULT_PARK_S,
    is_abandoned: Callable[[], bool] = _never,
) -> HTTPResponse:
    """
    Answer one request of a client.

    Args:
        park_s: seconds to wait in all for an active node.
        is_abandoned: whether the client has left; its request is not executed any more then.

    Cancellation: a read is abandoned; a write may have been executed.
    """
    if (answer := refusal(request)) is not None:
        return answer
    try:
        answer = await serve_local(view, request)
        if answer is None and api_path(request) == _STEP_DOWN and not view.status().ha_enabled:
            answer = await _idle_step_down(request)
    except BaohaError as exc:
        return failure_answer(exc)
    if answer is not None:
        return answer
    return await _Journey(view, request, park_s, is_abandoned).run()


async def _idle_step_down(request: HTTPRequest) -> HTTPResponse:
    """Answer a step-down where there is no HA: no effect, whoever asks. Source: measured"""
    if request.method not in ("PUT", "POST"):
        return error_answer(405)
    await decode_body(request)
    return no_content()


async def serve_forwarded(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    """
    Answer a request that a standby has forwarded. It is executed here or not at all.

    The policy of the listener that took the request holds here too.

    Raises:
        NotActive: nothing was executed; the standby may park the request.
        LeadershipLost: the outcome is unknown.
    """
    if (answer := refusal(request)) is not None:
        return answer
    if len(request.body) > request.listener.max_request_bytes:
        return error_answer(413, TOO_LARGE_TEXT)
    try:
        with trio.fail_after(request.listener.max_request_s):
            return await execute_active(view, request)
    except trio.TooSlowError as exc:
        raise LeadershipLost("the request took too long on the active node") from exc
    except (FencedWrite, ReadOnly) as exc:
        raise NotActive(str(exc)) from exc
    except (NotActive, LeadershipLost):
        raise
    except BaohaError as exc:
        return failure_answer(exc)
    except Exception as exc:
        return unforeseen(request, exc)


async def execute_active(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    """Execute a request on the active node. Raises as ``logical.execute``."""
    if api_path(request) == _STEP_DOWN:
        return await _step_down(view, request)
    return await execute(view, request)


async def _step_down(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    """
    Hand active duty over. Not inside the request gate: its end is what this waits for.

    The body is ours and optional: ``{"to": node id, "force": bool}``.
    """
    if request.method not in ("PUT", "POST"):
        return error_answer(405)
    given = await decode_body(request)
    await view.step_down(
        token=token_of(request),
        to=_successor(given),
        force=_optional(given, "force", bool, "bool") or False,
    )
    return no_content()


def _successor(given: dict[str, Any]) -> str | None:
    to: str | None = _optional(given, "to", str, "string")
    if to is not None and len(to) > _NODE_NAME_MAX:
        raise InvalidRequest("'to' is longer than any node id")
    return to or None


def _optional(given: dict[str, Any], name: str, kind: type, kind_name: str) -> Any:
    value = given.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidRequest(f"'{name}' must be a {kind_name}")
    return value


class _Journey:
    """One request that only the active node may execute, until it has its answer."""

    def __init__(
        self,
        view: NodeView,
        request: HTTPRequest,
        park_s: float,
        is_abandoned: Callable[[], bool],
    ) -> None:
        self._view = view
        self._request = request
        self._park_s = park_s
        self._is_abandoned = is_abandoned
        self._deadline = math.inf
        self._declines_forwarding = (
            bool(request.header(names.NO_FORWARDING_HEADER))
            or api_path(request) in _NEVER_FORWARDED
        )

    async def run(self) -> HTTPResponse:
        while True:
            status = self._view.status()
            decision = decide(status, declines_forwarding=self._declines_forwarding)
            match decision:
                case Refuse():
                    return _refuse(decision)
                case Redirect(redirect_addr):
                    return redirect(redirect_location(redirect_addr, self._request))
                case Park(otherwise):
                    answer = await self._wait(status, math.inf, otherwise)
                case Serve() | Forward():
                    answer = await self._attempt(decision)
                    if answer is None:
                        answer = await self._wait(status, RETRY_PAUSE_S, _NOBODY)
            if answer is not None:
                return answer

    async def _attempt(self, decision: Serve | Forward) -> HTTPResponse | None:
        """Execute or forward once; None: it may go round."""
        try:
            if isinstance(decision, Serve):
                return await execute_active(self._view, self._request)
            return await self._view.forward(self._request)
        except (*_NOT_EXECUTED, CannotForward):
            return None
        except (LeadershipLost, ForwardingInterrupted):
            return None if is_read(self._request) else unknown_outcome()
        except BaohaError as exc:
            return failure_answer(exc)

    async def _wait(
        self, seen: NodeStatus, limit_s: float, otherwise: Refuse
    ) -> HTTPResponse | None:
        """Wait for a change, in the parking lot; None: look again."""
        now = trio.current_time()
        self._deadline = min(self._deadline, now + self._park_s)
        if now >= self._deadline:
            return _refuse(otherwise)
        with self._view.parking(len(self._request.body)) as has_place:
            if not has_place:
                return _refuse(otherwise)
            with trio.move_on_at(min(self._deadline, now + limit_s)):
                await self._view.wait_change(seen)
        if self._is_abandoned():
            return _refuse(otherwise)
        return None


def _refuse(refuse: Refuse) -> HTTPResponse:
    return error_answer(refuse.status, refuse.text, retry_after_s=refuse.retry_after_s)
