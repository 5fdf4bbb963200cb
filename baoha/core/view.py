"""
What the API layer may see of a node. ``api`` and ``ha`` meet here and never import each other.

Rule of this file: ``status()`` comes from memory, is frozen, and is read once per decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from baoha.core.request import Request, Response
from baoha.sansio.shares import Claim
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse


class Role(Enum):
    """The role of a node. ``SEALED`` covers "not initialised": see ``NodeStatus.initialized``."""

    SEALED = "sealed"
    STANDBY = "standby"
    ACTIVE = "active"


class LinkState(Enum):
    """A standby's channel to the active node."""

    NONE = "none"  # no leader known, or this node is active
    CONNECTING = "connecting"  # dialling, and nothing says that it is in vain
    UP = "up"
    SUSPECT = "suspect"  # connected, but silent for longer than heartbeat_timeout
    FAILED = "failed"  # the leader's cluster address cannot be reached; retrying


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """The active node as this node knows it."""

    uuid: str  # of its tenure
    redirect_addr: str  # its api_addr: where clients are sent
    cluster_addr: str  # "" when clustering is off
    is_self: bool = False
    is_dead: bool = False  # known dead: its process is proven gone or its lock has expired


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One frozen picture of a node, taken from memory. ``revision`` grows with every change."""

    revision: int
    node_id: str
    initialized: bool
    sealed: bool
    role: Role
    ha_enabled: bool
    leader: Leader | None = None
    link: LinkState = LinkState.NONE
    # The leader is changing or the link is being (re)built: requests are parked, not redirected.
    leader_changing: bool = False
    forwarding_enabled: bool = True
    api_addr: str = ""
    cluster_addr: str = ""
    cluster_name: str = ""
    cluster_id: str = ""
    storage_type: str = ""
    active_since: datetime | None = None
    store_problem: str = ""  # cause, while the store does not answer; "" when it does
    epoch: int = 0  # of the tenure, 0 when not active
    stopping: bool = False
    last_leader_addr: str = ""  # API address of the last active node that this one knew, or knows


@dataclass(frozen=True, slots=True, kw_only=True)
class SealStatus:
    """The seal part of ``sys/seal-status``."""

    type: str = "shamir"
    initialized: bool = False
    sealed: bool = True
    threshold: int = 0
    shares: int = 0
    progress: int = 0
    nonce: str = ""
    recovery_seal: bool = False
    recovery_seal_type: str = ""
    migration: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InitParameters:
    """The checked input of ``sys/init``."""

    secret_shares: int
    secret_threshold: int
    recovery_shares: int = 0
    recovery_threshold: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InitResult:
    """Everything that init shows once and nobody keeps."""

    shares: tuple[bytes, ...] = field(repr=False)
    root_token: str = field(repr=False)
    recovery_shares: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One row of ``sys/ha-status``."""

    hostname: str
    api_address: str
    cluster_address: str
    active_node: bool
    last_echo: datetime | None  # None for the active node itself
    version: str  # of the API that it speaks
    node_id: str = ""
    ready: bool = False  # it could take over now
    software: str = ""  # "baoha 0.1.0"
    problems: tuple[str, ...] = ()  # sentences; most begin with a diagnostic code


class Ticket(Protocol):
    """The right to execute one request on the active node."""

    def require_valid(self) -> None:
        """
        Raise unless the tenure that admitted the request is still valid by the boot-time clock.

        Called right before a reply leaves: a process that was suspended must not answer from the
        past.

        Raises:
            LeadershipLost: it is not.
        """


class NodeView(Protocol):
    """The node as the API layer sees it."""

    def status(self) -> NodeStatus:
        """Return the current picture, from memory. Never waits, never touches the store."""

    async def wait_change(self, seen: NodeStatus) -> None:
        """Return as soon as ``status().revision`` differs from the one seen."""

    def recalls(self, token: str) -> bool:
        """Whether ``vouches_for`` has found a token valid lately: from memory, as weak a hint."""

    async def vouches_for(self, token: str) -> bool:
        """
        Return whether a token is known and not ended, on any unsealed node: a hint some seconds
        old, to share places out by. It authorises nothing and spends no use; "no" may mean "no time
        to look". A sealed node knows nobody.
        """

    def admit(self) -> AbstractContextManager[Ticket]:
        """
        Enter the request gate, for the time of one execution on the active node.

        Raises:
            NotActive: the gate is closed, or the tenure is no longer valid (nothing was executed).
            LeadershipLost: raised out of the block when the tenure ended while it ran.
        """

    async def handle(self, request: Request) -> Response:
        """Execute one logical request, from token to engine. Only inside ``admit``."""

    async def require_sudo(self, token: str, path: str) -> str:
        """
        Return who speaks (the token's display name) if it may update a path with sudo. Only inside
        ``admit``; counts a use of a limited token.

        Raises:
            PermissionDenied: it may not.
        """

    async def forward(self, request: HTTPRequest) -> HTTPResponse:
        """
        Send a request to the active node over the cluster channel and return its answer.

        Raises:
            CannotForward: nothing was executed.
            ForwardingInterrupted: sent, and no reply came: the outcome is unknown.
        """

    def parking(
        self, size_bytes: int, claim: Claim
    ) -> AbstractContextManager[AbstractContextManager[object] | None]:
        """
        Take a place among the parked requests; yields None when count or bytes are used up.

        The request waits within what is yielded; that wait is cut short, and ends without an error,
        when the place is taken for a request that comes first.
        """

    def seal_status(self) -> SealStatus:
        """Return the seal's state, from memory."""

    async def initialize(self, parameters: InitParameters) -> InitResult:
        """Initialise the store in one transaction; the node stays sealed unless it auto-unseals."""

    async def unseal(self, share: bytes | None, *, reset: bool = False) -> SealStatus:
        """Add one key share (or forget those given so far) and return the state after it."""

    async def seal(self) -> None:
        """Seal this node; the active one hands over first. Whether it may is asked before."""

    async def step_down(self, *, to: str | None, force: bool, asked_of: str, by: str) -> None:
        """
        Hand active duty over, and return when the successor has taken it up. Whether it may is
        asked before, and outside ``admit``, whose end this waits for.

        Nothing is left to do when ``to`` names this node, which is active, or when (without
        ``to``) another node was active when this was asked.

        Args:
            asked_of: API address of the node that was active when the request came, "" if unknown.
            by: who asks, for the log.

        Raises:
            StepDownRefused: no ready standby (and not forced), or ``to`` is not one.
            NotTakenUp: it left, and nothing shows that the successor has taken over.
            NotActive: this node is not active (any more).
        """

    def members(self) -> Sequence[Member]:
        """Return the rows of ``sys/ha-status``: on the active node all, elsewhere what it knows."""

    def problems(self) -> Sequence[str]:
        """Return what this node sees wrong: sentences that begin with a diagnostic code."""
