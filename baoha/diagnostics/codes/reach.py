"""
Name and reach, from here (BH-2xx).

Rule of this file: one row for each code, and nothing else. A number and its meaning are for ever.

Source: docs/spec/cluster-cli.md section 6.2 B.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.code import Area, Code, Seen, Severity

_AREAS: Final = frozenset({Area.ADDRESSES, Area.FORWARDING})

NAME_UNKNOWN: Final = Code(
    "BH-201",
    Severity.ERROR,
    "name does not resolve",
    symptom="no such host",
    why="Whoever is sent to this name gets nowhere.",
    fix="Correct the DNS; in Kubernetes: a headless service with publishNotReadyAddresses.",
    areas=_AREAS | {Area.TLS, Area.LB, Area.CLOCK},
    seen_in=frozenset({Seen.LOOK, Seen.NAMES}),
    explains=(
        "BH-205",
        "BH-206",
        "BH-210",
        "BH-505",
    ),
)

ONE_NAME_SEVERAL_NODES: Final = Code(
    "BH-202",
    Severity.WARNING,
    "one name leads to several nodes",
    symptom="The answers change each time.",
    why="An address that is meant to be one node is not one node.",
    fix="Use a name for each node.",
    areas=_AREAS | {Area.TLS, Area.LB, Area.CLOCK},
    seen_in=frozenset({Seen.NAMES}),
)

DEAD_ADDRESS_FAMILY: Final = Code(
    "BH-203",
    Severity.WARNING,
    "one address family does not work, or leads elsewhere",
    symptom="The first connection is slow.",
    why="Clients try the dead path first, and wait.",
    fix="Correct the AAAA or A records, or the routing.",
    areas=_AREAS | {Area.TLS, Area.LB, Area.CLOCK},
    seen_in=frozenset({Seen.NAMES}),
)

NOT_A_NODE: Final = Code(
    "BH-204",
    Severity.ERROR,
    "something else answers at this address",
    symptom="HTML, 404, 502",
    why="This is not an OpenBao, Vault or baoha node: an ingress, or a captive page.",
    fix="Correct the address.",
    areas=_AREAS | {Area.TLS, Area.LB, Area.CLOCK},
    seen_in=frozenset({Seen.LOOK, Seen.ADDRESSES}),
    explains=("BH-312",),
)

CONNECTION_REFUSED: Final = Code(
    "BH-205",
    Severity.ERROR,
    "connection refused",
    symptom="connection refused",
    why="The host is up and the port is closed: no process, or it listens elsewhere.",
    fix="Start the node, or bind the listener to an address that others can reach.",
    areas=_AREAS | {Area.TLS, Area.LB, Area.CLOCK},
    seen_in=frozenset({Seen.LOOK}),
)

NO_ANSWER: Final = Code(
    "BH-206",
    Severity.ERROR,
    "no answer",
    symptom="It hangs.",
    why="Packets are dropped on the way, the address is wrong, or the process is frozen.",
    fix="Open the path: firewall, security group, routing.",
    areas=_AREAS | {Area.TLS, Area.LB, Area.CLOCK},
    seen_in=frozenset({Seen.LOOK}),
)

UNKNOWN_AUTHORITY: Final = Code(
    "BH-207",
    Severity.ERROR,
    "certificate of an unknown authority",
    symptom="x509: certificate signed by unknown authority",
    why="Nothing here trusts the issuer of this certificate.",
    fix="Give the CA with --ca, or let the node send its whole chain.",
    areas=_AREAS | {Area.TLS, Area.LB, Area.CLOCK},
    seen_in=frozenset({Seen.TLS}),
    explains=(
        "BH-210",
        "BH-505",
    ),
)

NAME_NOT_IN_CERTIFICATE: Final = Code(
    "BH-208",
    Severity.ERROR,
    "certificate is not valid for this address",
    symptom="x509: certificate is valid for ..., not ...",
    why="A client that is sent there refuses the connection.",
    fix="Add the host to the certificate, or change api_addr.",
    areas=_AREAS | {Area.TLS, Area.LB, Area.CLOCK},
    seen_in=frozenset({Seen.TLS}),
    explains=(
        "BH-210",
        "BH-505",
    ),
)

TLS_AND_PLAIN_MIXED_UP: Final = Code(
    "BH-209",
    Severity.ERROR,
    "TLS and plain HTTP are mixed up",
    symptom="server gave HTTP response to HTTPS client; wrong version number",
    why="One side speaks TLS and the other does not.",
    fix="Correct the scheme.",
    areas=_AREAS | {Area.TLS, Area.LB, Area.CLOCK},
    seen_in=frozenset({Seen.LOOK, Seen.TLS}),
    explains=(
        "BH-210",
        "BH-505",
    ),
)

LEADER_UNREACHABLE_FROM_HERE: Final = Code(
    "BH-210",
    Severity.WARNING,
    "the leader's API address cannot be reached from here",
    symptom="It works in the private network and not from CI.",
    why="Forwarding works, so nobody notices until a client is redirected.",
    fix="Fine if clients never get redirects; else publish the address.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
)

SLOW_ANSWERS: Final = Code(
    "BH-211",
    Severity.WARNING,
    "slow answers",
    symptom="Time-outs under load.",
    why="Connecting or answering takes longer than --slow.",
    fix="Look at the network and the node.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
)

PROXY_VARIABLE: Final = Code(
    "BH-212",
    Severity.INFO,
    "a proxy variable is set",
    symptom="Another result in CI.",
    why="Other clients use the proxy of the environment; baoha uses --proxy only.",
    fix="Set NO_PROXY for the nodes.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
)
