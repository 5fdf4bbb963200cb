"""
A ``NodeView`` without a node: what it says and does is set by the test.

Rule of this file: it keeps the contract of ``core.view`` (revisions grow, the gate refuses when it
is closed), so that what passes here is not refused by a real node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import trio

from baoha.core.request import Request, Response
from baoha.core.view import (
    InitParameters,
    InitResult,
    Leader,
    LinkState,
    Member,
    NodeStatus,
    Role,
    SealStatus,
)
from baoha.errors import LeadershipLost, NotActive, PermissionDenied
from baoha.sansio.shares import Claim
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse

LEADER = Leader(
    uuid="tenure-1", redirect_addr="http://leader:8200", cluster_addr="https://leader:8201"
)

SEALED = NodeStatus(
    revision=0,
    node_id="node-1",
    initialized=True,
    sealed=True,
    role=Role.SEALED,
    ha_enabled=True,
    api_addr="http://self:8200",
    cluster_addr="https://self:8201",
    storage_type="inmem",
)
ACTIVE = replace(
    SEALED,
    sealed=False,
    role=Role.ACTIVE,
    cluster_name="vault-cluster-1",
    cluster_id="11111111-2222-3333-4444-555555555555",
    epoch=7,
)
STANDBY = replace(ACTIVE, role=Role.STANDBY, epoch=0, leader=LEADER, link=LinkState.UP)
LEADERLESS = replace(STANDBY, leader=None, link=LinkState.NONE)


class FakeTicket:
    """The right to execute, until the test takes it away."""

    def __init__(self, node: FakeNodeView) -> None:
        self._node = node

    def require_valid(self) -> None:
        if not self._node.tenure_is_valid:
            raise LeadershipLost("the tenure is over")


class FakeNodeView:
    """A node made of attributes. ``calls`` lists what was asked of it, in order."""

    def __init__(self, status: NodeStatus = ACTIVE) -> None:
        self._status = status
        self._changed = trio.Event()
        self.seal_state = SealStatus(initialized=status.initialized, sealed=status.sealed)
        self.calls: list[str] = []
        self.gate_is_open = True
        self.inside = 0
        self.tenure_is_valid = True
        self.parking_is_full = False
        self.known_tokens: set[str] = set()
        self.sudo_tokens = {"s.t"}
        self.parked = 0
        self.parked_bytes_max = 0
        self.on_handle: Callable[[Request], Awaitable[Response]] = _answer_nothing
        self.on_forward: Callable[[HTTPRequest], Awaitable[HTTPResponse]] = _answer_ok
        self.requests: list[Request] = []
        self.sentences: tuple[str, ...] = ()
        self.step_downs: list[dict[str, Any]] = []

    def become(self, status: NodeStatus) -> None:
        """Publish a new picture."""
        self._status = replace(status, revision=self._status.revision + 1)
        self._changed.set()
        self._changed = trio.Event()

    def status(self) -> NodeStatus:
        return self._status

    async def wait_change(self, seen: NodeStatus) -> None:
        while self._status.revision == seen.revision:
            await self._changed.wait()

    def recalls(self, token: str) -> bool:
        return not self._status.sealed and token in self.known_tokens

    async def vouches_for(self, token: str) -> bool:
        await trio.lowlevel.checkpoint()
        return not self._status.sealed and token in self.known_tokens

    @contextmanager
    def admit(self) -> Iterator[FakeTicket]:
        if not self.gate_is_open or self._status.role is not Role.ACTIVE:
            raise NotActive("the gate is closed")
        self.inside += 1
        try:
            yield FakeTicket(self)
        finally:
            self.inside -= 1

    async def handle(self, request: Request) -> Response:
        self.calls.append(f"handle {request.operation.value} {request.path}")
        self.requests.append(request)
        return await self.on_handle(request)

    async def require_sudo(self, token: str, path: str) -> str:
        assert self.inside, "outside the gate"
        self.calls.append(f"require_sudo {path}")
        if token not in self.sudo_tokens:
            raise PermissionDenied
        return f"name of {token}"

    async def forward(self, request: HTTPRequest) -> HTTPResponse:
        self.calls.append(f"forward {request.method} {request.path}")
        return await self.on_forward(request)

    @contextmanager
    def parking(self, size_bytes: int, claim: Claim) -> Iterator[trio.CancelScope | None]:
        if self.parking_is_full:
            yield None
            return
        self.parked += 1
        self.parked_bytes_max = max(self.parked_bytes_max, size_bytes)
        try:
            yield trio.CancelScope()
        finally:
            self.parked -= 1

    def seal_status(self) -> SealStatus:
        return self.seal_state

    async def initialize(self, parameters: InitParameters) -> InitResult:
        self.calls.append(f"initialize {parameters.secret_shares}/{parameters.secret_threshold}")
        return InitResult(shares=(b"\x01" * 33, b"\x02" * 33), root_token="s.root")

    async def unseal(self, share: bytes | None, *, reset: bool = False) -> SealStatus:
        self.calls.append(f"unseal reset={reset}")
        progress = 0 if reset else self.seal_state.progress + 1
        self.seal_state = replace(self.seal_state, progress=progress)
        return self.seal_state

    async def seal(self) -> None:
        self.calls.append("seal")

    async def step_down(self, *, to: str | None, force: bool, asked_of: str, by: str) -> None:
        assert not self.inside, "the gate is waited for"
        self.calls.append("step_down")
        if self._status.role is not Role.ACTIVE:
            raise NotActive("not active")
        self.step_downs.append({"to": to, "force": force, "by": by})

    def members(self) -> Sequence[Member]:
        return ()

    def problems(self) -> Sequence[str]:
        return self.sentences


async def _answer_nothing(request: Request) -> Response:
    return Response()


async def _answer_ok(request: HTTPRequest) -> HTTPResponse:
    return HTTPResponse(status=200, headers=(("content-type", "application/json"),), body=b"{}\n")
