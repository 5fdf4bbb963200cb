"""
The way of one request: answer it here, execute it, forward it, park it, redirect it, refuse it.

Rules of this file:

1. What to do is decided by ``standby_policy.decide`` from one picture of the node; this file only
   acts, and goes round when the picture has changed.
2. A request goes round only if nothing was executed, or if it is a read. A write whose outcome is
   unknown is answered so, and never repeated.
3. Going round ends: the first wait starts a deadline, and every wait takes a parking place.
4. Execution and forwarding happen in a place of the node's admission, control excepted.

Source: ours; docs/decisions/005-park-and-never-repeat-writes.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import trio

from baoha import names
from baoha.api.admission import HEAVY_BYTES, Admission, NotLetIn, RequestKind
from baoha.api.answers import (
    TOO_LARGE_TEXT,
    error_answer,
    failure_answer,
    no_content,
    overloaded,
    redirect,
    redirect_location,
    unforeseen,
    unknown_outcome,
)
from baoha.api.claims import claim_of
from baoha.api.local import LOCAL_PATHS, serve_local
from baoha.api.logical import decode_body, execute, is_read, token_of
from baoha.api.paths import API_PREFIX, is_control, refusal
from baoha.api.standby_policy import (
    NO_ACTIVE_NODE,
    RETRY_AFTER_S,
    Decision,
    Forward,
    Park,
    Redirect,
    Refuse,
    Serve,
    decide,
)
from baoha.asgi import Departure
from baoha.core.keys.landed_writes import CountedWrites
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
from baoha.sansio.shares import Claim, client_address
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse

DEFAULT_PARK_S: Final = 5.0
# After a failed attempt the picture may already be the new one, or never change: look again.
RETRY_PAUSE_S: Final = 0.25
_NODE_NAME_MAX: Final = 256  # characters; what is asked for stands in the answer and in the log
_STEP_DOWN: Final = "sys/step-down"
_STEP_DOWN_PATH: Final = API_PREFIX + _STEP_DOWN
# Streams of a whole store: always the active node's own, never through the channel.
_NEVER_FORWARDED: Final = frozenset(
    {"sys/storage/raft/snapshot", "sys/storage/raft/snapshot-force"}
)
_NOT_EXECUTED: Final = (NotActive, FencedWrite, ReadOnly)
_NOBODY: Final = Refuse(503, NO_ACTIVE_NODE, RETRY_AFTER_S)


async def serve_request(
    view: NodeView,
    request: HTTPRequest,
    *,
    admission: Admission,
    park_s: float = DEFAULT_PARK_S,
    departure: Departure | None = None,
) -> HTTPResponse:
    """
    Answer one request of a client.

    Args:
        admission: the node's, where the request waits for its place.
        park_s: seconds to wait in all for an active node.
        departure: the client's; once it has left its request is not executed any more.

    Cancellation: a read is abandoned; a write may have been executed.
    """
    given = request.first_values()
    if (answer := refusal(request, given)) is not None:
        return answer
    path = request.path.removeprefix(API_PREFIX)
    if path in LOCAL_PATHS or path == _STEP_DOWN:
        try:
            answer = await serve_local(view, request)
            if path == _STEP_DOWN and not view.status().ha_enabled:
                answer = await _idle_step_down(request)
        except BaohaError as exc:
            return failure_answer(exc)
        if answer is not None:
            return answer
    declines = bool(given.get(names.NO_FORWARDING_HEADER)) or path in _NEVER_FORWARDED
    policy = partial(decide, declines_forwarding=declines)
    return await PendingRequest(view, request, path, policy, admission, park_s, departure).run()


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
    if (answer := refusal(request, request.first_values())) is not None:
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
    if request.path == _STEP_DOWN_PATH:
        return await _step_down(view, request)
    return await execute(view, request)


async def _step_down(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    """
    Hand active duty over. Not inside the request gate: its end is what this waits for.

    The body is ours and optional: ``{"to": node id, "force": bool}``.

    Raises:
        LeadershipLost: active duty ended meanwhile, and a use of the token is spent.
        BaohaError: as ``NodeView.admit``, ``require_sudo`` and ``step_down``.
    """
    if request.method not in ("PUT", "POST"):
        return error_answer(405)
    given = await decode_body(request)
    to, force = _successor(given), _optional(given, "force", bool, "bool") or False
    with CountedWrites() as spent, view.admit():
        who = await view.require_sudo(token_of(request), _STEP_DOWN)
    client = request.remote_addr
    try:
        await view.step_down(
            to=to,
            force=force,
            asked_of=request.header(names.ASKED_OF_HEADER) or "",
            by=f"{who} from {client}" if client else who,
        )
    except NotActive as exc:
        if spent:
            # The next node would refuse what was allowed here.
            raise LeadershipLost("active duty ended before the step-down") from exc
        raise
    return no_content()


def _addressed(view: NodeView, request: HTTPRequest) -> HTTPRequest:
    """
    Note on a step-down who was active when it came: if it waits while another one steps down, it
    is done already, and must not be carried out by the next active node.
    """
    asked_of = (names.ASKED_OF_HEADER, view.status().last_leader_addr)
    return replace(request, headers=(*request.headers, asked_of))


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


class PendingRequest:
    """One request that only the active node may execute, until it has its answer."""

    def __init__(
        self,
        view: NodeView,
        request: HTTPRequest,
        path: str,
        policy: Callable[[NodeStatus], Decision],
        admission: Admission,
        park_s: float,
        departure: Departure | None,
    ) -> None:
        self._view = view
        self._decide = policy
        self._request = _addressed(view, request) if path == _STEP_DOWN else request
        self._admission = admission
        self._park_s = park_s
        self._departure = departure
        self._deadline = math.inf
        self._was_let_in = False
        self._decision: Decision = _NOBODY  # the last one
        self._claim: Claim | None = None
        if is_control(path):
            self._kind = RequestKind.CONTROL
        elif len(request.body) > HEAVY_BYTES:
            self._kind = RequestKind.HEAVY
        else:
            self._kind = RequestKind.READ if is_read(request) else RequestKind.WRITE
        self._address = client_address(request.remote_addr)

    async def run(self) -> HTTPResponse:
        while True:
            status = self._view.status()
            decision = self._decision = self._decide(status)
            try:
                match decision:
                    case Refuse():
                        return _refuse(decision)
                    case Redirect(redirect_addr):
                        return redirect(redirect_location(redirect_addr, self._request))
                    case Park(otherwise):
                        answer = await self._wait(status, math.inf, otherwise)
                    case Serve() | Forward():
                        answer = await self._attempt(status)
                        if answer is None:
                            answer = await self._wait(status, RETRY_PAUSE_S, _NOBODY)
            except NotLetIn:
                return overloaded()
            if answer is not None:
                return answer

    async def _attempt(self, status: NodeStatus) -> HTTPResponse | None:
        """Execute or forward once, in a place of its lane; None: it may go round."""
        token, kind = token_of(self._request), self._kind
        self._admission.executes(status.last_leader_addr)
        if self._admission.lanes[kind].is_contended:
            kind = await self._lane(token)
            self._look_again()
        answer = await self._admission.run(
            kind,
            self._address,
            self._execute,
            returning_until=None if self._deadline == math.inf else self._deadline,
            waited=self._look_again,
        )
        is_done = answer is not None and answer.status < HTTPStatus.BAD_REQUEST
        if is_done and token and not self._view.recalls(token):
            # Known before it matters: in a crowd there is little time to look.
            await self._view.vouches_for(token)
        return answer

    async def _lane(self, token: str) -> RequestKind:
        """Who has no valid token is a stranger as soon as somebody must wait."""
        return self._kind if token and await self._view.vouches_for(token) else RequestKind.STRANGER

    def _look_again(self) -> None:
        """Decide anew: the picture may have changed while the request waited for its place."""
        self._decision = self._decide(self._view.status())

    async def _execute(self) -> HTTPResponse | None:
        self._was_let_in = True
        if self._departure is not None and self._departure.has_come:
            return _refuse(_NOBODY)  # nobody reads it
        try:
            if isinstance(self._decision, Serve):
                return await execute_active(self._view, self._request)
            if isinstance(self._decision, Forward):
                return await self._view.forward(self._request)
        except (*_NOT_EXECUTED, CannotForward):
            return None
        except (LeadershipLost, ForwardingInterrupted):
            return None if is_read(self._request) else unknown_outcome()
        except BaohaError as exc:
            return failure_answer(exc)
        return None

    async def _wait(
        self, seen: NodeStatus, limit_s: float, otherwise: Refuse
    ) -> HTTPResponse | None:
        """Wait for a change, in the parking lot; None: look again."""
        now = trio.current_time()
        self._deadline = min(self._deadline, now + self._park_s)
        if now >= self._deadline:
            return _refuse(otherwise)
        if self._claim is None:
            self._claim = await claim_of(self._view, self._request)
        is_displaced = True
        parked = self._admission.parked(self._kind, self._address, is_new=not self._was_let_in)
        self._was_let_in = True
        with parked, self._view.parking(len(self._request.body), self._claim) as place:
            if place is not None:
                with place:
                    with trio.move_on_at(min(self._deadline, now + limit_s)):
                        await self._change(seen)
                    is_displaced = False
        has_left = self._departure is not None and self._departure.has_come
        return _refuse(otherwise) if is_displaced or has_left else None

    async def _change(self, seen: NodeStatus) -> None:
        """
        Return when there is something else to do than to wait. A change of leader has many steps,
        and whoever leaves the parking lot at each of them only slows it down.
        """
        decision = self._decide(seen)
        while True:
            await self._view.wait_change(seen)
            seen = self._view.status()
            if not isinstance(decision, Park) or self._decide(seen) != decision:
                return


def _refuse(refuse: Refuse) -> HTTPResponse:
    return error_answer(refuse.status, refuse.text, retry_after_s=refuse.retry_after_s)
