"""
The catalogue, first part: text of the addresses, name and reach.

Rule of this file: words only; what finds a code stands in the checks of `baoha diagnose`.

Source: docs/spec/cluster-cli.md section 6.2 A and B; BH-121 is ours.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from baoha.diagnostics.code import Severity

E: Final = Severity.ERROR
W: Final = Severity.WARNING
I: Final = Severity.INFO  # noqa: E741 - one letter per severity, as in the tables


class Row(NamedTuple):
    """One code of the catalogue, as written down."""

    code: str
    severity: Severity
    title: str
    symptom: str
    why: str
    fix: str


ROWS: Final = (
    Row(
        "BH-101",
        E,
        "api_addr is not set",
        "The node does not start, or redirects nowhere.",
        "Other nodes and clients cannot be told where this node is.",
        "Set api_addr on each node, as a full URL.",
    ),
    Row(
        "BH-102",
        E,
        "address without a scheme",
        "Location: localhost:///v1/...; other servers refuse to start.",
        'In "localhost:8200" the word localhost is read as the scheme, so there is no host.',
        "Put https:// (or http://) in front.",
    ),
    Row(
        "BH-103",
        E,
        "address without a host",
        "The cluster address is https://:444.",
        "Nobody can connect to an empty host.",
        "Set the host.",
    ),
    Row(
        "BH-104",
        E,
        "no usable port, so that the cluster port is guessed",
        "Standbys dial port 444.",
        "Without a port, 443 + 1 is taken for the cluster address, even with http://.",
        "Write the port in api_addr, or set cluster_addr.",
    ),
    Row(
        "BH-105",
        W,
        "path, query, fragment or user-info in an address",
        "404 after a redirect.",
        "A redirect keeps only scheme and host.",
        "Remove them, or route by host name.",
    ),
    Row(
        "BH-106",
        E,
        "api_addr and cluster_addr are the same",
        "The node refuses to start.",
        "Two protocols cannot share one port.",
        "Give them different ports.",
    ),
    Row(
        "BH-107",
        E,
        "the ports of API and cluster are mixed up",
        "first record does not look like a TLS handshake",
        "Standbys speak the cluster protocol to an API listener, or clients the reverse.",
        "Swap the ports.",
    ),
    Row(
        "BH-108",
        E,
        "the port of cluster_addr fits no listener",
        "connection refused",
        "Nothing listens where the other nodes are sent, unless a port is mapped on the way.",
        "Correct cluster_addr or the listener's cluster_address.",
    ),
    Row(
        "BH-109",
        I,
        "cluster_addr is derived",
        "A surprise after a change of the API port.",
        "It follows api_addr: port + 1.",
        "Set cluster_addr.",
    ),
    Row(
        "BH-110",
        E,
        "loopback, wildcard or link-local address advertised",
        "Other nodes talk to themselves.",
        "The address means another machine on each machine.",
        "Advertise an address that can be routed.",
    ),
    Row(
        "BH-111",
        E,
        "unexpanded variable in an address",
        "HA Cluster https://$(HOSTNAME):8201",
        "The text was meant to be replaced before the start.",
        "Expand it before the start.",
    ),
    Row(
        "BH-112",
        E,
        "IPv6 address without brackets, or with a zone",
        "too many colons in address",
        "The port cannot be told from the address.",
        "Write https://[2001:db8::1]:8200.",
    ),
    Row(
        "BH-113",
        E,
        "the scheme of api_addr is not what the listener speaks",
        "redirect would cause protocol downgrade; server gave HTTP response to HTTPS client",
        "A client that follows the redirect speaks the wrong protocol.",
        "Align the scheme with the listener's tls_disable, unless a proxy ends TLS.",
    ),
    Row(
        "BH-114",
        W,
        "clustering is disabled",
        "Every request through a standby is a redirect.",
        "Clients must reach the active node themselves.",
        "Remove disable_clustering, or accept redirects knowingly.",
    ),
    Row(
        "BH-115",
        W,
        "the advertised name is unlikely to be in a certificate",
        "TLS fails after a failover in Kubernetes.",
        "Pod IPs change, and single-label or .local names are rarely in certificates.",
        "Use a stable DNS name for each node.",
    ),
    Row(
        "BH-116",
        E,
        "two nodes have the same api_addr and cluster_addr",
        "local node not active but active cluster node not found, for ever",
        "A standby takes the leader's address for its own.",
        "Give each node addresses of its own.",
    ),
    Row(
        "BH-117",
        W,
        "all nodes share one api_addr",
        "Redirect loops behind the load balancer.",
        "A redirect leads to the load balancer, which may choose a standby again.",
        "Use per-node addresses, or a load balancer that leads to the active node only.",
    ),
    Row(
        "BH-118",
        I,
        "an environment variable overrides the file",
        '"but the file says ..."',
        "What runs is not what is written down.",
        "Remove one of the two.",
    ),
    Row(
        "BH-119",
        W,
        "odd host name",
        "It works in one place and not in another.",
        "Spaces, upper case, trailing dots and non-ASCII letters are compared differently.",
        "Write it in its plain form.",
    ),
    Row(
        "BH-120",
        I,
        "cluster_addr with http://",
        "",
        "The scheme is ignored: the cluster channel is always TLS.",
        "Write https://.",
    ),
    Row(
        "BH-121",
        E,
        "two listeners want the same socket",
        "address already in use",
        "The second one cannot be bound.",
        "Give every listener and cluster address a socket of its own.",
    ),
    Row(
        "BH-201",
        E,
        "name does not resolve",
        "no such host",
        "Whoever is sent to this name gets nowhere.",
        "Correct the DNS; in Kubernetes: a headless service with publishNotReadyAddresses.",
    ),
    Row(
        "BH-202",
        W,
        "one name leads to several nodes",
        "The answers change each time.",
        "An address that is meant to be one node is not one node.",
        "Use a name for each node.",
    ),
    Row(
        "BH-203",
        W,
        "one address family does not work, or leads elsewhere",
        "The first connection is slow.",
        "Clients try the dead path first, and wait.",
        "Correct the AAAA or A records, or the routing.",
    ),
    Row(
        "BH-204",
        E,
        "something else answers at this address",
        "HTML, 404, 502",
        "This is not an OpenBao, Vault or baoha node: an ingress, or a captive page.",
        "Correct the address.",
    ),
    Row(
        "BH-205",
        E,
        "connection refused",
        "connection refused",
        "The host is up and the port is closed: no process, or it listens elsewhere.",
        "Start the node, or bind the listener to an address that others can reach.",
    ),
    Row(
        "BH-206",
        E,
        "no answer",
        "It hangs.",
        "Packets are dropped on the way, the address is wrong, or the process is frozen.",
        "Open the path: firewall, security group, routing.",
    ),
    Row(
        "BH-207",
        E,
        "certificate of an unknown authority",
        "x509: certificate signed by unknown authority",
        "Nothing here trusts the issuer of this certificate.",
        "Give the CA with --ca, or let the node send its whole chain.",
    ),
    Row(
        "BH-208",
        E,
        "certificate is not valid for this address",
        "x509: certificate is valid for ..., not ...",
        "A client that is sent there refuses the connection.",
        "Add the host to the certificate, or change api_addr.",
    ),
    Row(
        "BH-209",
        E,
        "TLS and plain HTTP are mixed up",
        "server gave HTTP response to HTTPS client; wrong version number",
        "One side speaks TLS and the other does not.",
        "Correct the scheme.",
    ),
    Row(
        "BH-210",
        W,
        "the leader's API address cannot be reached from here",
        "It works in the private network and not from CI.",
        "Forwarding works, so nobody notices until a client is redirected.",
        "Fine if clients never get redirects; else publish the address.",
    ),
    Row(
        "BH-211",
        W,
        "slow answers",
        "Time-outs under load.",
        "Connecting or answering takes longer than --slow.",
        "Look at the network and the node.",
    ),
    Row(
        "BH-212",
        I,
        "a proxy variable is set",
        "Another result in CI.",
        "Other clients use the proxy of the environment; baoha uses --proxy only.",
        "Set NO_PROXY for the nodes.",
    ),
)
