"""
What a node does with a request that only the active node may execute: one pure function.

Rules of this file:

1. Nobody is sent to a node that is known to be dead, and never back to this one.
2. While the active node changes, requests wait; they are refused only when waiting has not helped.

| node, leader, link                                | decision                             |
| ------------------------------------------------- | ------------------------------------ |
| sealed or not initialised                         | 503 ``Vault is sealed``              |
| active                                            | serve                                |
| standby; no leader, leader dead, ours or changing | park, then 503                       |
| standby; forwarding off, declined or not possible | 307 (park without an address for it) |
| standby; link connecting or silent                | park, then 503                       |
| standby; link up                                  | forward                              |
| standby; link failed                              | 307: others may reach the leader     |

Source: docs/spec/openbao-ha.md sections 4.3 and 4.4, and ours: OpenBao answers 500 at once where we
park (docs/divergence.md, docs/decisions/006-redirect-only-to-the-living.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from baoha.core.view import Leader, LinkState, NodeStatus, Role

NO_ACTIVE_NODE: Final = "no active Vault instance found"
SEALED_TEXT: Final = "Vault is sealed"
NOT_ACTIVE_TEXT: Final = "node is not active"  # without HA there is nobody else to ask
RETRY_AFTER_S: Final = 1  # seconds; of every answer 503


@dataclass(frozen=True, slots=True)
class Serve:
    """Execute it here."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Send it to the active node over the cluster channel."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer an error; ``retry_after_s`` 0 leaves the header out."""

    status: int
    text: str
    retry_after_s: int = 0


@dataclass(frozen=True, slots=True)
class Park:
    """Wait for a change; ``otherwise`` is the answer when the time is used up."""

    otherwise: Refuse


@dataclass(frozen=True, slots=True)
class Redirect:
    """Answer 307; ``redirect_addr`` is the active node's API address."""

    redirect_addr: str


Decision = Serve | Forward | Park | Redirect | Refuse

_NO_LEADER: Final = Park(Refuse(503, NO_ACTIVE_NODE, RETRY_AFTER_S))


def decide(status: NodeStatus, *, declines_forwarding: bool = False) -> Decision:
    """
    Decide on one request, from one picture of the node.

    Args:
        declines_forwarding: the client asked for a redirect, or the path is never forwarded.
    """
    if status.sealed or not status.initialized:
        return Refuse(503, SEALED_TEXT)
    if status.role is Role.ACTIVE:
        return Serve()
    if not status.ha_enabled:
        return Park(Refuse(503, NOT_ACTIVE_TEXT, RETRY_AFTER_S))
    leader = status.leader
    if leader is None or leader.is_self or leader.is_dead or status.leader_changing:
        return _NO_LEADER
    if declines_forwarding or not status.forwarding_enabled or not leader.cluster_addr:
        return _send_to(leader, status)
    if status.link is LinkState.UP:
        return Forward()
    if status.link is LinkState.FAILED:
        return _send_to(leader, status)
    return _NO_LEADER


def _send_to(leader: Leader, status: NodeStatus) -> Redirect | Park:
    if not leader.redirect_addr or _same_address(leader.redirect_addr, status.api_addr):
        return _NO_LEADER
    return Redirect(leader.redirect_addr)


def _same_address(one: str, other: str) -> bool:
    return one.rstrip("/").lower() == other.rstrip("/").lower()
