"""
Certificates and TLS (BH-7xx).

Rule of this file: one row for each code, and nothing else. A number and its meaning are for ever.

Source: docs/spec/cluster-cli.md section 6.2 G.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.code import Area, Code, Seen, Severity

_AREAS: Final = frozenset({Area.TLS})

CERTIFICATE_EXPIRED: Final = Code(
    "BH-701",
    Severity.ERROR,
    "certificate has expired",
    symptom="Outage; the standby does not take over.",
    why="Every client refuses the connection.",
    fix="Renew it, then SIGHUP.",
    areas=_AREAS | {Area.CONFIG},
    seen_in=frozenset({Seen.TLS, Seen.FILE}),
    explains=(
        "BH-207",
        "BH-210",
        "BH-505",
        "BH-702",
        "BH-707",
    ),
)

CERTIFICATE_EXPIRES_SOON: Final = Code(
    "BH-702",
    Severity.WARNING,
    "certificate expires soon",
    why="30 days are a warning, 7 days an error.",
    fix="Renew it, then SIGHUP.",
    areas=_AREAS | {Area.CONFIG},
    seen_in=frozenset({Seen.TLS, Seen.FILE}),
)

CERTIFICATE_NOT_YET_VALID: Final = Code(
    "BH-703",
    Severity.ERROR,
    "certificate is not yet valid",
    symptom="x509: certificate is not yet valid",
    why="A clock is wrong: where it was issued, or here.",
    fix="Correct the time (NTP).",
    areas=_AREAS | {Area.CLOCK},
    seen_in=frozenset({Seen.TLS, Seen.FILE}),
    explains=(
        "BH-207",
        "BH-210",
        "BH-505",
        "BH-707",
    ),
)

HOST_MISSING_IN_CERTIFICATE: Final = Code(
    "BH-704",
    Severity.ERROR,
    "host is missing in the certificate",
    symptom="x509: certificate is valid for ..., not ...",
    why="Clients refuse the connection.",
    fix="Issue it again with all names and addresses.",
    areas=_AREAS,
    seen_in=frozenset({Seen.TLS}),
    explains=(
        "BH-208",
        "BH-210",
        "BH-505",
    ),
)

CHAIN_INCOMPLETE: Final = Code(
    "BH-705",
    Severity.WARNING,
    "certificate chain is incomplete or out of order",
    symptom="It works in browsers only.",
    why="Clients do not look for missing certificates.",
    fix="Send the full chain, the node's own certificate first.",
    areas=_AREAS,
    seen_in=frozenset({Seen.TLS}),
    explains=("BH-207",),
)

WEAK_TLS: Final = Code(
    "BH-706",
    Severity.WARNING,
    "old TLS version, weak key or hash",
    why="It can be broken.",
    fix="Allow TLS 1.2 and newer only; use RSA 2048 or ECDSA, SHA-256.",
    areas=_AREAS,
    seen_in=frozenset({Seen.TLS}),
)

CERTIFICATE_UNLIKE_PEERS: Final = Code(
    "BH-707",
    Severity.WARNING,
    "one node shows another certificate than its peers",
    symptom="One node differs.",
    why="Another issuer, or an older certificate: the reload was missed.",
    fix="SIGHUP or restart the node.",
    areas=_AREAS,
    seen_in=frozenset({Seen.TLS}),
)

CERTIFICATE_BY_SERVER_NAME: Final = Code(
    "BH-708",
    Severity.WARNING,
    "the certificate depends on the name asked for (SNI)",
    symptom="It fails with the IP address and works with the name.",
    why="Clients that use the IP address, or send no name, get another certificate.",
    fix="Use the name, or --tls-server-name.",
    areas=_AREAS,
    seen_in=frozenset({Seen.TLS}),
)

CLIENT_CERTIFICATE_REQUIRED: Final = Code(
    "BH-709",
    Severity.INFO,
    "a client certificate is required",
    symptom="400, or the handshake fails.",
    why="The listener lets in only clients with a certificate.",
    fix="Give --client-cert and --client-key.",
    areas=_AREAS,
    seen_in=frozenset({Seen.TLS}),
)

TLS_OFF: Final = Code(
    "BH-710",
    Severity.WARNING,
    "TLS is off on an address that is not loopback",
    why="Tokens and secrets travel in plain text.",
    fix="Turn TLS on.",
    areas=_AREAS,
    seen_in=frozenset({Seen.TLS}),
)
