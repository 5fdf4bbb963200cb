"""
What was learnt about one node, and about all of them together.

Rule of this file: it is pure; it says what the nodes said of themselves and of each other, not
what is wrong (`baoha_cli.diagnose` does). Unknown is None (or "unknown"), never a guess.

Source: docs/spec/cluster-cli.md sections 3.3 and 6.1.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import cached_property

from baoha_cli.client.address import Endpoint, same_origin
from baoha_cli.failures import ErrorKind


class SeenRole(enum.StrEnum):
    """What a node does."""

    ACTIVE = "active"
    STANDBY = "standby"
    SEALED = "sealed"
    UNINITIALIZED = "uninitialized"
    UNKNOWN = "unknown"


class Link(enum.StrEnum):
    """How a standby passes requests on to the active node."""

    FORWARD = "forward"
    REDIRECT = "redirect"
    HANGS = "hangs"
    NONE = "none"
    UNKNOWN = "unknown"
    SELF = "self"  # the active node needs none


@dataclass(frozen=True)
class NodeReport:
    """
    One node as seen from here, now.

    Args:
        endpoint: the address asked.
        label: its short name.
        error_kind: why it could not be asked, or None.
        error: the words for that.
        seal: body of sys/seal-status.
        leader: body of sys/leader, {} when that failed.
        ha_enabled: None when unknown.
        link: how requests travel on.
        skew_ms: node's clock minus ours; None when unknown.
        skew_uncertainty_ms: half the width of what the clock could be.
        latency_ms: of the first request.
        tls_version: "" without TLS.
    """

    endpoint: Endpoint
    label: str
    error_kind: ErrorKind | None = None
    error: str = ""
    seal: dict[str, object] = field(default_factory=dict)
    leader: dict[str, object] = field(default_factory=dict)
    ha_enabled: bool | None = None
    link: Link = Link.UNKNOWN
    skew_ms: int | None = None
    skew_uncertainty_ms: int | None = None
    latency_ms: int | None = None
    tls_version: str = ""

    @property
    def reachable(self) -> bool:
        """Whether it gave a usable answer."""
        return self.error_kind is None

    @property
    def initialized(self) -> bool | None:
        """Whether its store is initialised."""
        value = self.seal.get("initialized")
        return value if isinstance(value, bool) else None

    @property
    def sealed(self) -> bool | None:
        """Whether it is sealed."""
        value = self.seal.get("sealed")
        return value if isinstance(value, bool) else None

    @property
    def unsealed(self) -> bool:
        """Whether it answers and is certainly unsealed."""
        return self.reachable and self.sealed is False

    @property
    def role(self) -> SeenRole:
        """What it does, by its own words."""
        if not self.reachable or self.sealed is None:
            return SeenRole.UNKNOWN
        if self.initialized is False:
            return SeenRole.UNINITIALIZED
        if self.sealed:
            return SeenRole.SEALED
        if self.leader.get("is_self") is True or self.ha_enabled is False:
            return SeenRole.ACTIVE
        return SeenRole.STANDBY if self.leader else SeenRole.UNKNOWN

    @property
    def leader_address(self) -> str:
        """API address of the leader it names, or ""."""
        return _text(self.leader.get("leader_address"))

    @property
    def leader_cluster_address(self) -> str:
        """Cluster address of the leader it names, or ""."""
        return _text(self.leader.get("leader_cluster_address"))

    @property
    def leader_key(self) -> str:
        """What identifies the leader it names: the API address may be a load balancer's."""
        return self.leader_cluster_address or self.leader_address

    @property
    def active_time(self) -> str:
        """Since when it is active, or ""."""
        value = _text(self.leader.get("active_time"))
        return "" if value.startswith("0001-") else value

    @property
    def version(self) -> str:
        """Version it reports, or ""."""
        return _text(self.seal.get("version"))

    @property
    def cluster_id(self) -> str:
        """Cluster id it reports, or ""."""
        return _text(self.seal.get("cluster_id"))

    def as_data(self) -> dict[str, object]:
        """Return the JSON form."""
        error = None
        if self.error_kind is not None:
            error = {"kind": self.error_kind.value, "detail": self.error}
        return {
            "addr": self.endpoint.url,
            "node": self.label,
            "reachable": self.reachable,
            "error": error,
            "initialized": self.initialized,
            "sealed": self.sealed,
            "role": self.role.value,
            "ha_enabled": self.ha_enabled,
            "is_self": self.role is SeenRole.ACTIVE if self.reachable else None,
            "leader_address": self.leader_address or None,
            "leader_cluster_address": self.leader_cluster_address or None,
            "active_time": self.active_time or None,
            "standby_link": self.link.value,
            "version": self.version or None,
            "cluster_id": self.cluster_id or None,
            "clock_skew_ms": self.skew_ms,
            "clock_uncertainty_ms": self.skew_uncertainty_ms,
            "latency_ms": self.latency_ms,
            "tls_version": self.tls_version or None,
        }


@dataclass(frozen=True)
class ClusterReport:
    """All nodes asked at one time."""

    nodes: tuple[NodeReport, ...]

    def role_count(self, role: SeenRole) -> int:
        """Return how many nodes have a role."""
        return sum(node.role is role for node in self.nodes)

    @cached_property
    def actives(self) -> tuple[NodeReport, ...]:
        """Nodes that say they are active."""
        return tuple(node for node in self.nodes if node.role is SeenRole.ACTIVE)

    @cached_property
    def standbys(self) -> tuple[NodeReport, ...]:
        """Nodes that say they are standby."""
        return tuple(node for node in self.nodes if node.role is SeenRole.STANDBY)

    @property
    def active(self) -> NodeReport | None:
        """The active node when there is exactly one."""
        return self.actives[0] if len(self.actives) == 1 else None

    def leader_label(self, node: NodeReport) -> str:
        """Name the leader that a node sees: a label, an address, or "" for none."""
        if node.role is SeenRole.ACTIVE:
            return node.label
        if not node.leader_key:
            return ""
        named = self.named_leader(node)
        return named.label if named else node.leader_address or node.leader_key

    def named_leader(self, node: NodeReport) -> NodeReport | None:
        """Return the node that another one names as leader, if it is in the report."""
        for other in self.nodes:
            if other.role is SeenRole.ACTIVE and other.leader_key == node.leader_key:
                return other
        for other in self.nodes:
            if node.leader_address and same_origin(other.endpoint, node.leader_address):
                return other
        return None

    @property
    def agrees(self) -> bool:
        """Whether exactly one node is active and every unsealed node names it."""
        active = self.active
        if active is None:
            return False
        return all(self.named_leader(node) is active for node in self.standbys)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
