"""
Forwarding (BH-4xx).

Rule of this file: one row for each code, and nothing else. A number and its meaning are for ever.

Source: docs/spec/cluster-cli.md section 6.2 D.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.code import Area, Code, Seen, Severity

_AREAS: Final = frozenset({Area.ADDRESSES, Area.FORWARDING})

FORWARDING_OFF: Final = Code(
    "BH-401",
    Severity.ERROR,
    "forwarding is off",
    symptom='"It works", but clients outside fail; errors in the log of the standby.',
    why=(
        "The standby redirects requests that it should forward. It works only for clients that "
        "can reach the redirect target and follow redirects."
    ),
    fix="Check cluster_addr of the leader and the path to its cluster port.",
    areas=_AREAS,
    seen_in=frozenset({Seen.PROBE, Seen.SERVER}),
    may_be_election=True,
)

FORWARDING_HANGS: Final = Code(
    "BH-402",
    Severity.ERROR,
    "forwarded requests hang",
    symptom="Requests hang.",
    why="The leader is frozen, or packets between the nodes are dropped.",
    fix="Restart the leader; check the path between the nodes.",
    areas=_AREAS,
    seen_in=frozenset({Seen.PROBE}),
    may_be_election=True,
    explains=(
        "BH-906",
        "BH-206",
    ),
)

FORWARDING_SLOW: Final = Code(
    "BH-403",
    Severity.WARNING,
    "forwarding is slow",
    symptom="Slow through standbys.",
    why="The way over the standby costs more than 200 ms.",
    fix="Look at the network; send clients to the active node.",
    areas=_AREAS,
    seen_in=frozenset({Seen.PROBE_ACTIVE}),
    may_be_election=True,
)

FORWARDED_ANSWER_DIFFERS: Final = Code(
    "BH-404",
    Severity.WARNING,
    "the forwarded answer differs from the direct one",
    symptom="Odd errors through standbys.",
    why="The standby cannot do what the leader can.",
    fix="Compare versions; read the standby's log.",
    areas=_AREAS,
    seen_in=frozenset({Seen.PROBE_ACTIVE}),
    may_be_election=True,
)

NO_CLUSTER_ADDRESS: Final = Code(
    "BH-405",
    Severity.WARNING,
    "the leader advertises no cluster address",
    symptom="Always 307.",
    why="Without one nothing can be forwarded.",
    fix="Remove disable_clustering; set cluster_addr.",
    areas=_AREAS,
    seen_in=frozenset({Seen.PROBE}),
    may_be_election=True,
)

PATHS_NEVER_FORWARDED: Final = Code(
    "BH-406",
    Severity.INFO,
    "some paths are never forwarded",
    symptom="Backups and metrics fail on standbys.",
    why="sys/storage/raft/snapshot is redirected, sys/metrics and sys/host-info are local.",
    fix="Send these requests to the active node (or to the node they are about).",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    on_request=True,
)

READS_ON_STANDBYS: Final = Code(
    "BH-407",
    Severity.INFO,
    "standbys serve reads themselves",
    symptom="A read right after a write is old.",
    why="The standby may not have seen the write yet.",
    fix="Set disable_standby_reads, or read from the active node.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    on_request=True,
)

FORWARDING_ONE_WAY: Final = Code(
    "BH-408",
    Severity.WARNING,
    "forwarding works one way only",
    symptom="It fails after the next failover.",
    why="The cluster port of a standby is not what it advertises, which nobody notices now.",
    fix="Correct it before it counts; `baoha drill step-down` shows it.",
    areas=_AREAS,
    seen_in=frozenset({Seen.MEMBERS}),
)
