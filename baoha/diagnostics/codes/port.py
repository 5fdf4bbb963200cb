"""
The cluster port (BH-6xx).

Rule of this file: one row for each code, and nothing else. A number and its meaning are for ever.
BH-601 to BH-608 are seen from outside; BH-609 and BH-610 a node says of itself.

Source: docs/spec/cluster-cli.md section 6.2 F; BH-609 and BH-610 are ours.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.code import Area, Code, Seen, Severity

_AREAS: Final = frozenset({Area.ADDRESSES, Area.FORWARDING})

PORT_CLOSED: Final = Code(
    "BH-601",
    Severity.ERROR,
    "the leader's cluster port is closed",
    symptom="connection refused",
    why="Standbys cannot forward.",
    fix="Look at the listener's cluster_address and at the process.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
    may_be_election=True,
)

PORT_SILENT: Final = Code(
    "BH-602",
    Severity.ERROR,
    "the leader's cluster port does not answer",
    symptom="i/o timeout",
    why="Packets are dropped on the way.",
    fix="Firewall, NetworkPolicy, security group: open the port both ways between all nodes.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
    may_be_election=True,
    explains=("BH-206",),
)

PLAIN_HTTP_AT_PORT: Final = Code(
    "BH-603",
    Severity.ERROR,
    "plain HTTP at the cluster address",
    symptom="first record does not look like a TLS handshake",
    why="It is the port of another listener.",
    fix="Correct cluster_addr.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
)

API_AT_PORT: Final = Code(
    "BH-604",
    Severity.ERROR,
    "an HTTPS API at the cluster address",
    symptom="remote error: tls; bad certificate; certificate is valid for X, not fw-...",
    why="It shows an ordinary certificate and knows nothing of the cluster protocol.",
    fix="Use the cluster port.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
)

PORT_OF_STANDBY: Final = Code(
    "BH-605",
    Severity.ERROR,
    "the cluster address leads to a node that is not active",
    symptom="no TLS config found for ALPN",
    why="A shared IP, a virtual IP or a wrong DNS entry leads to another node.",
    fix="Give each node a cluster address of its own.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
    may_be_election=True,
)

TLS_ENDS_BEFORE_PORT: Final = Code(
    "BH-606",
    Severity.ERROR,
    "TLS ends in front of the cluster port",
    symptom="As BH-604.",
    why="Nodes check each other's certificates, which cannot pass through.",
    fix="Pass TCP through, or connect directly.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
)

PATH_BLOCKED: Final = Code(
    "BH-607",
    Severity.ERROR,
    "the path between two nodes is blocked",
    symptom="Fine from CI, broken in production.",
    why="The cluster port is open from here, but the standby cannot use it.",
    fix="Look at the firewall between the nodes.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
    may_be_election=True,
)

PORT_OPEN_TO_CLIENTS: Final = Code(
    "BH-608",
    Severity.INFO,
    "the cluster port can be reached from a client network",
    why="Only nodes need it.",
    fix="Restrict it.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
    on_request=True,
)

CANNOT_LISTEN: Final = Code(
    "BH-609",
    Severity.ERROR,
    "cannot listen on the cluster address",
    symptom="cannot listen on cluster address ..., in the log and in sys/ha-status.",
    why=(
        "Nobody can forward to a node that does not listen: one that stands by is not ready to "
        "take over, and to an active one clients are redirected."
    ),
    fix=(
        "Free the address, or correct the listener's cluster_address; the node tries again by "
        "itself."
    ),
    areas=_AREAS,
    seen_in=frozenset({Seen.SERVER}),
)

CONNECTION_REFUSED_AT_PORT: Final = Code(
    "BH-610",
    Severity.WARNING,
    "a connection to the cluster port was refused",
    symptom="a connection to the cluster address from ... was refused, in sys/ha-status.",
    why=(
        "Whoever connected does not speak the cluster protocol, or does not show the certificate "
        "of this cluster: a port scan, a health check, or a node that is configured wrongly."
    ),
    fix="Look at what connects from that address; let only nodes reach the port.",
    areas=_AREAS,
    seen_in=frozenset({Seen.SERVER}),
)
