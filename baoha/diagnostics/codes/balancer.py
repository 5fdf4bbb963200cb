"""
Load balancers (BH-8xx).

Rule of this file: one row for each code, and nothing else. A number and its meaning are for ever.

Source: docs/spec/cluster-cli.md section 6.2 H.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.code import Area, Code, Seen, Severity

_AREAS: Final = frozenset({Area.ADDRESSES, Area.LB})

WHERE_BALANCER_LEADS: Final = Code(
    "BH-801",
    Severity.INFO,
    "where the load balancer leads",
    why="Either to the active node only (sys/health = 200), or to all (?standbyok=true).",
    fix="Choose one knowingly.",
    areas=_AREAS,
    seen_in=frozenset({Seen.VIA}),
    on_request=True,
)

BALANCER_TO_DEAD_NODE: Final = Code(
    "BH-802",
    Severity.ERROR,
    "the load balancer leads to a node that cannot answer",
    symptom="One request in n fails.",
    why="The node is sealed, not initialised, dead or blind.",
    fix="Correct the health check of the load balancer.",
    areas=_AREAS,
    seen_in=frozenset({Seen.VIA}),
)

HEADER_LOST: Final = Code(
    "BH-803",
    Severity.WARNING,
    "X-Vault-No-Request-Forwarding does not arrive",
    symptom="The probe looks wrong.",
    why="Something on the way removes the header.",
    fix="Let the header pass.",
    areas=_AREAS,
    seen_in=frozenset({Seen.PROBE}),
)

UNKNOWN_HEALTH_STATUS: Final = Code(
    "BH-804",
    Severity.WARNING,
    "health answers with a status that load balancers do not know",
    symptom="Probes stop working after an upgrade.",
    why="472, 473, 474 or 530 is not in the list of the health check.",
    fix="Name the statuses in the query (standbycode=..., haunhealthycode=...).",
    areas=_AREAS,
    seen_in=frozenset({Seen.VIA}),
)

FORWARDED_FOR_REJECTED: Final = Code(
    "BH-805",
    Severity.WARNING,
    "X-Forwarded-For rules reject the request",
    symptom="400 from nodes.",
    why="The listener wants a header that direct requests do not have, or from other addresses.",
    fix="Correct x_forwarded_for_authorized_addrs and ..._reject_not_present.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK, Seen.VIA}),
)

BALANCER_REWRITES: Final = Code(
    "BH-806",
    Severity.WARNING,
    "the load balancer follows or rewrites redirects",
    symptom="Location differs from the node's own.",
    why="Clients are led by somebody who does not know the cluster.",
    fix="Switch it off.",
    areas=_AREAS,
    seen_in=frozenset({Seen.VIA}),
)

STICKY_CIRCLE: Final = Code(
    "BH-807",
    Severity.ERROR,
    "sticky load balancer and redirect back to it",
    symptom="An endless loop for one client.",
    why="The client is sent to the load balancer, which chooses the same standby again.",
    fix="As BH-501.",
    areas=_AREAS,
    seen_in=frozenset({Seen.VIA}),
    explains=(
        "BH-501",
        "BH-503",
        "BH-117",
        "BH-509",
    ),
)

BALANCER_ENDS_TLS: Final = Code(
    "BH-808",
    Severity.INFO,
    "the load balancer ends TLS",
    symptom="Login by certificate fails.",
    why="The client's certificate does not reach the node.",
    fix="Pass TLS through, or forward the certificate in a header.",
    areas=_AREAS,
    seen_in=frozenset({Seen.VIA}),
    on_request=True,
)

STANDBYOK_IGNORED: Final = Code(
    "BH-809",
    Severity.WARNING,
    "?standbyok is ignored without a value",
    symptom="?standbyok has no effect.",
    why="With =true it works.",
    fix="Write standbyok=true.",
    areas=_AREAS,
    seen_in=frozenset({Seen.PERSON}),
)

RATE_LIMITED: Final = Code(
    "BH-810",
    Severity.WARNING,
    "429 that does not mean standby",
    symptom="429 puzzles.",
    why="429 is a standby on sys/health, and a rate limit elsewhere.",
    fix="Tell them apart by the body; raise the limit.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
)

LONG_REQUESTS_CUT: Final = Code(
    "BH-811",
    Severity.INFO,
    "long requests may be cut off",
    symptom="Cut-offs.",
    why="The idle time-out of the load balancer must be above max_request_duration.",
    fix="Raise it above max_request_duration (90 s).",
    areas=_AREAS | {Area.CONFIG},
    seen_in=frozenset({Seen.PERSON}),
)
