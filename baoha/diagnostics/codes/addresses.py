"""
Text of the addresses (BH-1xx).

Rule of this file: one row for each code, and nothing else. A number and its meaning are for ever.
Found by the configuration at the start, and by `baoha diagnose` in files and in what a running
cluster advertises.

Source: docs/spec/cluster-cli.md section 6.2 A; BH-121 is ours.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.code import Area, Code, Seen, Severity

_AREAS: Final = frozenset({Area.ADDRESSES, Area.CONFIG})
# What is seen of nodes, anywhere in the cluster, when an address cannot be used.
_UNREACHABLE_BY_IT: Final = (
    "BH-201",
    "BH-205",
    "BH-206",
    "BH-210",
    "BH-401",
    "BH-405",
    "BH-505",
    "BH-506",
    "BH-601",
    "BH-602",
)

API_ADDR_MISSING: Final = Code(
    "BH-101",
    Severity.ERROR,
    "api_addr is not set",
    symptom="The node does not start, or redirects nowhere.",
    why="Other nodes and clients cannot be told where this node is.",
    fix="Set api_addr on each node, as a full URL.",
    areas=_AREAS,
    seen_in=frozenset({Seen.FILE}),
    explains=("BH-109",),
)

NO_SCHEME: Final = Code(
    "BH-102",
    Severity.ERROR,
    "address without a scheme",
    symptom="Location: localhost:///v1/...; other servers refuse to start.",
    why='In "localhost:8200" the word localhost is read as the scheme, so there is no host.',
    fix="Put https:// (or http://) in front.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK, Seen.FILE}),
    explains=("BH-109",),
    explains_everywhere=_UNREACHABLE_BY_IT,
)

NO_HOST: Final = Code(
    "BH-103",
    Severity.ERROR,
    "address without a host",
    symptom="The cluster address is https://:444.",
    why="Nobody can connect to an empty host.",
    fix="Set the host.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK, Seen.FILE}),
    explains=("BH-109",),
    explains_everywhere=_UNREACHABLE_BY_IT,
)

NO_USABLE_PORT: Final = Code(
    "BH-104",
    Severity.ERROR,
    "no usable port, so that the cluster port is guessed",
    symptom="Standbys dial port 444.",
    why="Without a port, 443 + 1 is taken for the cluster address, even with http://.",
    fix="Write the port in api_addr, or set cluster_addr.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK, Seen.FILE}),
    explains_everywhere=_UNREACHABLE_BY_IT,
)

MORE_THAN_HOST: Final = Code(
    "BH-105",
    Severity.WARNING,
    "path, query, fragment or user-info in an address",
    symptom="404 after a redirect.",
    why="A redirect keeps only scheme and host.",
    fix="Remove them, or route by host name.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK, Seen.FILE}),
)

API_IS_CLUSTER_ADDR: Final = Code(
    "BH-106",
    Severity.ERROR,
    "api_addr and cluster_addr are the same",
    symptom="The node refuses to start.",
    why="Two protocols cannot share one port.",
    fix="Give them different ports.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK, Seen.FILE}),
    explains=("BH-107",),
)

PORTS_MIXED_UP: Final = Code(
    "BH-107",
    Severity.ERROR,
    "the ports of API and cluster are mixed up",
    symptom="first record does not look like a TLS handshake",
    why="Standbys speak the cluster protocol to an API listener, or clients the reverse.",
    fix="Swap the ports.",
    areas=_AREAS,
    seen_in=frozenset({Seen.FILE}),
)

PORT_OF_NO_LISTENER: Final = Code(
    "BH-108",
    Severity.ERROR,
    "the port of cluster_addr fits no listener",
    symptom="connection refused",
    why="Nothing listens where the other nodes are sent, unless a port is mapped on the way.",
    fix="Correct cluster_addr or the listener's cluster_address.",
    areas=_AREAS,
    seen_in=frozenset({Seen.FILE}),
    at_start=Severity.WARNING,
)

CLUSTER_ADDR_DERIVED: Final = Code(
    "BH-109",
    Severity.INFO,
    "cluster_addr is derived",
    symptom="A surprise after a change of the API port.",
    why="It follows api_addr: port + 1.",
    fix="Set cluster_addr.",
    areas=_AREAS,
    seen_in=frozenset({Seen.FILE}),
)

NOT_ROUTABLE: Final = Code(
    "BH-110",
    Severity.ERROR,
    "loopback, wildcard or link-local address advertised",
    symptom="Other nodes talk to themselves.",
    why="The address means another machine on each machine.",
    fix="Advertise an address that can be routed.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK, Seen.FILE}),
    at_start=Severity.WARNING,
)

UNEXPANDED_VARIABLE: Final = Code(
    "BH-111",
    Severity.ERROR,
    "unexpanded variable in an address",
    symptom="HA Cluster https://$(HOSTNAME):8201",
    why="The text was meant to be replaced before the start.",
    fix="Expand it before the start.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK, Seen.FILE}),
    explains=("BH-109",),
    explains_everywhere=_UNREACHABLE_BY_IT,
)

IPV6_FORM: Final = Code(
    "BH-112",
    Severity.ERROR,
    "IPv6 address without brackets, or with a zone",
    symptom="too many colons in address",
    why="The port cannot be told from the address.",
    fix="Write https://[2001:db8::1]:8200.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK, Seen.FILE}),
    explains=("BH-109",),
    explains_everywhere=_UNREACHABLE_BY_IT,
)

SCHEME_MISMATCH: Final = Code(
    "BH-113",
    Severity.ERROR,
    "the scheme of api_addr is not what the listener speaks",
    symptom="redirect would cause protocol downgrade; server gave HTTP response to HTTPS client",
    why="A client that follows the redirect speaks the wrong protocol.",
    fix="Align the scheme with the listener's tls_disable, unless a proxy ends TLS.",
    areas=_AREAS,
    seen_in=frozenset({Seen.FILE}),
    at_start=Severity.WARNING,
)

CLUSTERING_DISABLED: Final = Code(
    "BH-114",
    Severity.WARNING,
    "clustering is disabled",
    symptom="Every request through a standby is a redirect.",
    why="Clients must reach the active node themselves.",
    fix="Remove disable_clustering, or accept redirects knowingly.",
    areas=_AREAS,
    seen_in=frozenset({Seen.FILE}),
)

UNLIKELY_NAME: Final = Code(
    "BH-115",
    Severity.WARNING,
    "the advertised name is unlikely to be in a certificate",
    symptom="TLS fails after a failover in Kubernetes.",
    why="Pod IPs change, and single-label or .local names are rarely in certificates.",
    fix="Use a stable DNS name for each node.",
    areas=_AREAS,
    seen_in=frozenset({Seen.FILE}),
)

TWO_NODES_ONE_ADDRESS: Final = Code(
    "BH-116",
    Severity.ERROR,
    "two nodes have the same api_addr and cluster_addr",
    symptom="local node not active but active cluster node not found, for ever",
    why="A standby takes the leader's address for its own.",
    fix="Give each node addresses of its own.",
    areas=_AREAS,
    seen_in=frozenset({Seen.MEMBERS, Seen.FILE, Seen.SERVER}),
    explains_everywhere=(
        "BH-117",
        "BH-307",
        "BH-502",
    ),
)

SHARED_API_ADDR: Final = Code(
    "BH-117",
    Severity.WARNING,
    "all nodes share one api_addr",
    symptom="Redirect loops behind the load balancer.",
    why="A redirect leads to the load balancer, which may choose a standby again.",
    fix="Use per-node addresses, or a load balancer that leads to the active node only.",
    areas=_AREAS,
    seen_in=frozenset({Seen.MEMBERS, Seen.FILE}),
)

ENVIRONMENT_OVERRIDES: Final = Code(
    "BH-118",
    Severity.INFO,
    "an environment variable overrides the file",
    symptom='"but the file says ..."',
    why="What runs is not what is written down.",
    fix="Remove one of the two.",
    areas=_AREAS,
    seen_in=frozenset({Seen.FILE}),
)

ODD_HOST_NAME: Final = Code(
    "BH-119",
    Severity.WARNING,
    "odd host name",
    symptom="It works in one place and not in another.",
    why="Spaces, upper case, trailing dots and non-ASCII letters are compared differently.",
    fix="Write it in its plain form.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK, Seen.FILE}),
)

HTTP_CLUSTER_ADDR: Final = Code(
    "BH-120",
    Severity.INFO,
    "cluster_addr with http://",
    why="The scheme is ignored: the cluster channel is always TLS.",
    fix="Write https://.",
    areas=_AREAS,
    seen_in=frozenset({Seen.FILE}),
)

SAME_SOCKET: Final = Code(
    "BH-121",
    Severity.ERROR,
    "two listeners want the same socket",
    symptom="address already in use",
    why="The second one cannot be bound.",
    fix="Give every listener and cluster address a socket of its own.",
    areas=_AREAS,
    seen_in=frozenset({Seen.FILE}),
)
