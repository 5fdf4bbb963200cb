"""
Evidence: what was seen, in plain records.

Rules of this file. It is pure: nothing here asks anybody. Unknown is None, "" or an empty tuple,
never a guess. Times of day are seconds since the epoch by this machine's clock, durations seconds.

Theory of operation. Nodes are looked at in rounds (an election is over after one or two); names,
ports, certificates, redirect chains and load balancers once. `Evidence.at` gives the evidence as it
was in one round, so that a check never needs to know about rounds.

Source: docs/spec/cluster-cli.md section 6.1.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from baoha_cli.client.address import Endpoint, parse_address
from baoha_cli.failures import ErrorKind, UsageFailed
from baoha_cli.survey.look import NOT_ASKED, NodeLook, Reply
from baoha_cli.survey.nodes import ClusterReport, SeenRole


class PortKind(enum.StrEnum):
    """What answers at a cluster address."""

    ACTIVE = "active"  # the cluster listener of an active node
    LISTENER = "listener"  # a cluster listener, not of the active node
    HTTPS = "https"  # an ordinary TLS server
    PLAIN = "plain"  # no TLS
    REFUSED = "refused"
    TIMEOUT = "timeout"
    DNS = "dns"
    CLOSED = "closed"  # the connection was closed, or an alert we do not know
    INVALID = "invalid"  # the text is not an address


@dataclass(frozen=True)
class PortLook:
    """
    One look at a cluster address.

    Args:
        address: as advertised.
        kind: what answers.
        detail: the words for that.
        names: names in the certificate.
        speaks: ALPN that was agreed, or "".
    """

    address: str
    kind: PortKind
    detail: str = ""
    names: tuple[str, ...] = ()
    speaks: str = ""


@dataclass(frozen=True)
class Certificate:
    """
    What matters about one certificate.

    Args:
        subject, issuer: as text.
        names: DNS names and IP addresses it is for.
        not_before, not_after: seconds since the epoch.
        weakness: such as "RSA 1024 bit key", or "".
        fingerprint: SHA-256 of the whole, in hex.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: float
    not_after: float
    weakness: str = ""
    fingerprint: str = ""

    @property
    def is_self_signed(self) -> bool:
        """Whether it names itself as issuer."""
        return self.subject == self.issuer


@dataclass(frozen=True)
class TlsLook:
    """
    One look at a TLS address.

    Args:
        endpoint: where.
        kind: why there is no certificate; None when there is one.
        error: the words for that.
        chain: as sent, the node's own first.
        verify_code: OpenSSL's number for what is wrong with the chain; 0 is well.
        verify_error: its words.
        version: that was agreed.
        speaks_old: whether a version below 1.2 is accepted too; None when not tried.
        refusal: words of an alert after the handshake, "" without one.
        nameless: fingerprint of the certificate shown without a server name; "" when not tried.
        read_at: time of day here.
    """

    endpoint: Endpoint
    kind: ErrorKind | None = None
    error: str = ""
    chain: tuple[Certificate, ...] = ()
    verify_code: int = 0
    verify_error: str = ""
    version: str = ""
    speaks_old: bool | None = None
    refusal: str = ""
    nameless: str = ""
    read_at: float = 0.0


@dataclass(frozen=True)
class NameLook:
    """
    What a host name leads to.

    Args:
        host: the name.
        addresses: IP addresses, sorted.
        error: "" or why there are none.
        dead: those at which no TCP connection came about, while others worked.
        identities: what answered at each address; equal texts mean the same node.
    """

    host: str
    addresses: tuple[str, ...] = ()
    error: str = ""
    dead: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()


class ChainEnd(enum.StrEnum):
    """Why a chain of redirects was followed no further."""

    ANSWER = "answer"  # an answer that is no redirect
    LOOP = "loop"
    UNUSABLE = "unusable"  # Location cannot be understood
    DOWNGRADE = "downgrade"
    UNREACHABLE = "unreachable"
    TOO_LONG = "too long"


@dataclass(frozen=True)
class Hop:
    """One redirect: who sent it, and where to."""

    origin: str
    location: str


@dataclass(frozen=True)
class Chain:
    """
    Redirects from one node, walked hop by hop without credentials.

    Args:
        start: the address asked first.
        label: its short name.
        hops: all redirects.
        end: why it ended.
        reply: the last answer (or failure).
    """

    start: Endpoint
    label: str
    hops: tuple[Hop, ...]
    end: ChainEnd
    reply: Reply = NOT_ASKED

    @property
    def target(self) -> str:
        """The first Location."""
        return self.hops[0].location if self.hops else ""


@dataclass(frozen=True)
class ViaLook:
    """
    One load balancer.

    Args:
        endpoint: its address.
        label: its short name.
        samples: looks, each over connections of its own.
    """

    endpoint: Endpoint
    label: str
    samples: tuple[NodeLook, ...] = ()

    def count(self, role: SeenRole) -> int:
        """Return how many connections led to a node with that role."""
        return sum(sample.role is role for sample in self.samples)

    @property
    def leads_to_active_only(self) -> bool:
        """Whether every connection led to an active node."""
        return bool(self.samples) and self.count(SeenRole.ACTIVE) == len(self.samples)

    @property
    def is_sticky(self) -> bool:
        """Whether every connection led to a standby: a sticky balancer, for one client."""
        return bool(self.samples) and self.count(SeenRole.STANDBY) == len(self.samples)


@dataclass(frozen=True)
class ListedMember:
    """One node in a list of members."""

    name: str
    api_address: str = ""
    cluster_address: str = ""
    is_active: bool | None = None
    is_voter: bool | None = None
    version: str = ""
    echo_age_s: float | None = None


@dataclass(frozen=True)
class Members:
    """
    What only a token opens.

    Args:
        listed: sys/ha-status.
        raft: sys/storage/raft/configuration; empty without raft.
        error: why there is no list.
    """

    listed: tuple[ListedMember, ...] = ()
    raft: tuple[ListedMember, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Evidence:
    """
    Everything that was seen.

    Args:
        rounds: the nodes, once per round; the last one is the latest.
        seen_for_s: from the first round to the last.
        ports: looks at cluster addresses, by address as advertised.
        tls: looks at TLS addresses, by origin.
        names: by host name.
        chains: redirects.
        reach: tokenless sys/health at advertised API addresses that were not given, by address.
        vias: load balancers.
        members: None without a token.
        proxies: variables of the environment that name a proxy.
        from_node: whether addresses were judged from the nodes' point of view only.
        slow_s: what counts as slow.
    """

    rounds: tuple[tuple[NodeLook, ...], ...] = ()
    seen_for_s: float = 0.0
    ports: Mapping[str, PortLook] = field(default_factory=dict)
    tls: Mapping[str, TlsLook] = field(default_factory=dict)
    names: Mapping[str, NameLook] = field(default_factory=dict)
    chains: tuple[Chain, ...] = ()
    reach: Mapping[str, Reply] = field(default_factory=dict)
    vias: tuple[ViaLook, ...] = ()
    members: Members | None = None
    proxies: tuple[str, ...] = ()
    from_node: bool = False
    slow_s: float = 0.5

    @property
    def nodes(self) -> tuple[NodeLook, ...]:
        """The nodes as they were last."""
        return self.rounds[-1] if self.rounds else ()

    def at(self, number: int) -> Evidence:
        """Return the evidence as it was in one round."""
        return replace(self, rounds=(self.rounds[number],))

    @cached_property
    def report(self) -> ClusterReport:
        """All nodes as `baoha status` sees them."""
        return ClusterReport(tuple(node.report for node in self.nodes))

    @cached_property
    def actives(self) -> tuple[NodeLook, ...]:
        """Nodes that say they are active."""
        return tuple(node for node in self.nodes if node.role is SeenRole.ACTIVE)

    @cached_property
    def standbys(self) -> tuple[NodeLook, ...]:
        """Nodes that say they are standby."""
        return tuple(node for node in self.nodes if node.role is SeenRole.STANDBY)

    @property
    def active(self) -> NodeLook | None:
        """The active node when there is exactly one."""
        return self.actives[0] if len(self.actives) == 1 else None

    @property
    def someone_leads(self) -> bool:
        """Whether a node is active, or names somebody who is."""
        return bool(self.actives) or any(node.report.leader_key for node in self.standbys)

    def node_at(self, address: str) -> NodeLook | None:
        """Return the given node that has this API address."""
        wanted = origin_of(address)
        for node in self.nodes:
            if wanted and node.endpoint.origin.lower() == wanted:
                return node
        return None

    def named_leader(self, node: NodeLook) -> NodeLook | None:
        """Return the given node that another one names as leader."""
        report = self.report.named_leader(node.report)
        for other in self.nodes:
            if report is not None and other.endpoint == report.endpoint:
                return other
        return None

    def leader_name(self, node: NodeLook) -> str:
        """Name the leader that a node sees, by label or address."""
        named = self.named_leader(node)
        return named.label if named else node.report.leader_address or node.report.leader_key

    @cached_property
    def cluster_addresses(self) -> tuple[str, ...]:
        """Cluster addresses of leaders, as advertised."""
        found = {
            node.report.leader_cluster_address: None
            for node in (*self.actives, *self.standbys)
            if node.report.leader_cluster_address
        }
        return tuple(found)

    @cached_property
    def leader_addresses(self) -> tuple[str, ...]:
        """API addresses of leaders, as advertised."""
        found = {
            node.report.leader_address: None
            for node in (*self.actives, *self.standbys)
            if node.report.leader_address
        }
        return tuple(found)

    def port_of(self, node: NodeLook) -> PortLook | None:
        """Return the look at the cluster port of the leader that a node names."""
        return self.ports.get(node.report.leader_cluster_address)

    def is_via(self, address: str) -> bool:
        """Return whether an address is one of the load balancers given."""
        wanted = origin_of(address)
        return any(via.endpoint.origin.lower() == wanted for via in self.vias)


def origin_of(address: str) -> str:
    """Return scheme, host and port of an address in lower case, or "" when it is none."""
    try:
        return parse_address(address).origin.lower()
    except UsageFailed:
        return ""
