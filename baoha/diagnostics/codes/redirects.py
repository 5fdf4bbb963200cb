"""
Redirects (BH-5xx).

Rule of this file: one row for each code, and nothing else. A number and its meaning are for ever.

Source: docs/spec/cluster-cli.md section 6.2 E.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.code import Area, Code, Seen, Severity

_AREAS: Final = frozenset({Area.ADDRESSES, Area.FORWARDING})

REDIRECT_CIRCLE: Final = Code(
    "BH-501",
    Severity.ERROR,
    "redirects lead in a circle",
    symptom="Too many redirects; a loop at login.",
    why="The client gives up after some hops.",
    fix="Use a per-node api_addr; let the load balancer lead to the active node only.",
    areas=_AREAS | {Area.LB},
    seen_in=frozenset({Seen.ADDRESSES}),
    explains=(
        "BH-502",
        "BH-509",
    ),
)

REDIRECT_TO_ITSELF: Final = Code(
    "BH-502",
    Severity.ERROR,
    "a node redirects to itself",
    symptom="A loop on one node.",
    why="It is sent to a node that sends it back to itself.",
    fix="A stale advertisement: wait, then step down.",
    areas=_AREAS | {Area.LB},
    seen_in=frozenset({Seen.ADDRESSES}),
    may_be_election=True,
)

REDIRECT_TO_BALANCER: Final = Code(
    "BH-503",
    Severity.ERROR,
    "redirects lead to the load balancer",
    symptom='Works "sometimes".',
    why="The load balancer may choose a standby again.",
    fix="Use a per-node api_addr; let the load balancer lead to the active node only.",
    areas=_AREAS | {Area.LB},
    seen_in=frozenset({Seen.ADDRESSES}),
    explains=(
        "BH-117",
        "BH-501",
        "BH-509",
    ),
)

REDIRECT_DOWNGRADE: Final = Code(
    "BH-504",
    Severity.ERROR,
    "redirect from https to http",
    symptom="redirect would cause protocol downgrade",
    why="Clients refuse it, since it would show the token to everybody on the way.",
    fix="Correct the scheme of api_addr.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
    explains=("BH-509",),
)

TARGET_UNREACHABLE: Final = Code(
    "BH-505",
    Severity.ERROR,
    "the redirect target cannot be reached from here",
    symptom="Time-out after a redirect.",
    why="A client that follows the redirect gets nowhere.",
    fix="Publish the address, or correct api_addr.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
)

LOCATION_UNUSABLE: Final = Code(
    "BH-506",
    Severity.ERROR,
    "Location is not a usable address",
    symptom="An error of the client library.",
    why="No host, or a strange scheme (localhost:///...).",
    fix="Set api_addr as a full URL.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
    explains=(
        "BH-201",
        "BH-505",
        "BH-210",
    ),
)

PREFIX_LOST: Final = Code(
    "BH-507",
    Severity.WARNING,
    "the path prefix is lost in the redirect",
    symptom="404 behind a proxy that adds a prefix.",
    why="A redirect keeps only scheme and host of api_addr.",
    fix="Route by host name instead.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
)

REDIRECT_TO_OTHER_HOST: Final = Code(
    "BH-508",
    Severity.WARNING,
    "the redirect crosses to another host",
    symptom="403 only through standbys.",
    why="curl, requests and httpx drop `Authorization: Bearer` on the way to another host.",
    fix="Send X-Vault-Token, or make forwarding work.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
    on_request=True,
)

SEVERAL_HOPS: Final = Code(
    "BH-509",
    Severity.INFO,
    "more than one hop",
    symptom="The Go client fails and curl works.",
    why="The Go client follows exactly one redirect.",
    fix="Fewer hops.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
)

REDIRECT_TO_PRIVATE: Final = Code(
    "BH-510",
    Severity.WARNING,
    "the redirect leads from a public name to a private address",
    symptom="The UI or a login by browser fails.",
    why="The browser does not know the host, or is not allowed to go there.",
    fix="Advertise a public api_addr.",
    areas=_AREAS,
    seen_in=frozenset({Seen.ADDRESSES}),
)
