"""
Who leads (BH-3xx).

Rule of this file: one row for each code, and nothing else. A number and its meaning are for ever.

Source: docs/spec/cluster-cli.md section 6.2 C.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.code import Area, Code, Seen, Severity

_AREAS: Final = frozenset({Area.ADDRESSES, Area.FORWARDING})

NO_ACTIVE_NODE: Final = Code(
    "BH-301",
    Severity.ERROR,
    "no active node",
    symptom="Every write fails.",
    why="Every write fails until a node becomes active.",
    fix="Wait one lock ttl. If it stays: look at the lock holder, the store and the logs.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
    explains_everywhere=("BH-906",),
)

SEVERAL_ACTIVE_NODES: Final = Code(
    "BH-302",
    Severity.ERROR,
    "more than one node says it is active",
    symptom="Lost updates; two nodes labelled active.",
    why="Two nodes that both write can overwrite each other's changes.",
    fix="Ask again; if it stays, stop the node with the older active time.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
    explains_everywhere=("BH-305",),
)

ELECTION_DURING_LOOK: Final = Code(
    "BH-303",
    Severity.WARNING,
    "an election took place during the look",
    symptom="500 for seconds.",
    why="Nobody led for a moment. An error (BH-301) if it stays.",
    fix="Ask again; if it happens often, look for BH-310.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
)

BLIND_STANDBY: Final = Code(
    "BH-304",
    Severity.ERROR,
    "blind standby",
    symptom="Some requests fail with 500, depending on the node.",
    why=(
        "Its peers see a leader and this node does not: every request sent to it fails, while "
        "its health check stays green."
    ),
    fix="Restart the node (or step down the leader), and take it out of the load balancer.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
    explains=("BH-906",),
)

DIFFERENT_LEADERS: Final = Code(
    "BH-305",
    Severity.ERROR,
    "nodes name different leaders",
    symptom="Different answers per node.",
    why="Clients get different answers depending on the node they reach.",
    fix="Ask again; if it stays, look for a network split and check the store.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
    explains_everywhere=("BH-509",),
)

LEADER_GONE: Final = Code(
    "BH-306",
    Severity.ERROR,
    "the leader that standbys name does not answer",
    symptom="307 to nowhere.",
    why="Requests are sent to a node that is gone until its lock expires.",
    fix="Wait one lock ttl; if it stays, the advertised address is stale or unreachable.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
    explains=(
        "BH-205",
        "BH-206",
        "BH-210",
        "BH-505",
        "BH-601",
        "BH-602",
        "BH-906",
    ),
    explains_everywhere=(
        "BH-401",
        "BH-402",
    ),
)

LEADER_IS_STANDBY: Final = Code(
    "BH-307",
    Severity.ERROR,
    "the leader that is named says it is standby",
    symptom="Redirect loop.",
    why="Requests are sent in a circle.",
    fix="Wait one round; if it stays, look at audit devices and storage of that node.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
    explains_everywhere=(
        "BH-401",
        "BH-502",
        "BH-501",
        "BH-906",
    ),
)

LEADER_SEALED: Final = Code(
    "BH-308",
    Severity.ERROR,
    "the leader that is named is sealed",
    symptom="503",
    why="The node still stands in the lock, and can do nothing.",
    fix="Unseal it, or let the lock go.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
    explains=(
        "BH-316",
        "BH-505",
    ),
    explains_everywhere=(
        "BH-401",
        "BH-315",
        "BH-906",
    ),
)

SELF_CONTRADICTION: Final = Code(
    "BH-309",
    Severity.INFO,
    "a node contradicts itself",
    symptom="sys/leader says active and sys/health says standby.",
    why="It is changing its role right now.",
    fix="Ask again.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
)

LEADER_KEEPS_CHANGING: Final = Code(
    "BH-310",
    Severity.WARNING,
    "the leader changes again and again",
    symptom="Short outages again and again.",
    why="Each change costs requests.",
    fix="Look at time-outs of the store, slow disks, slow plug-ins, the network.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
)

DIFFERENT_CLUSTERS: Final = Code(
    "BH-311",
    Severity.ERROR,
    "nodes belong to different clusters",
    symptom="Data differs per node.",
    why="A stray node answers with other data.",
    fix="Take the stray node out of the address list, or rejoin it.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    explains_everywhere=(
        "BH-302",
        "BH-305",
    ),
)

HA_OFF: Final = Code(
    "BH-312",
    Severity.WARNING,
    "high availability is off",
    symptom="No failover.",
    why="Several nodes, and none of them takes over from another.",
    fix="Use a store with HA, and ha_enabled.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    explains_everywhere=(
        "BH-302",
        "BH-315",
    ),
)

REMOVED_NODE: Final = Code(
    "BH-313",
    Severity.ERROR,
    "a node was removed from the cluster",
    symptom="200, but out of the cluster; 530",
    why="It answers with what it knew when it was removed.",
    fix="Let it join again.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
)

MEMBERS_NAME_ANOTHER: Final = Code(
    "BH-314",
    Severity.WARNING,
    "lists of members name another leader than sys/leader",
    symptom="Tools disagree.",
    why="One of the two is stale.",
    fix="Trust sys/leader of the leader; known bug of some versions.",
    areas=_AREAS,
    seen_in=frozenset({Seen.MEMBERS}),
)

ONLY_ONE_UNSEALED: Final = Code(
    "BH-315",
    Severity.ERROR,
    "only one unsealed node",
    symptom="The next failure is an outage.",
    why="If it fails, nobody can take over.",
    fix="Unseal the others: baoha operator unseal --all",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
    explains_everywhere=("BH-316",),
)

NODE_AWAY: Final = Code(
    "BH-316",
    Severity.WARNING,
    "sealed, uninitialised or unreachable node",
    why="One node less can take over.",
    fix="Start and unseal it.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
)

NO_QUORUM_RESERVE: Final = Code(
    "BH-317",
    Severity.WARNING,
    "quorum without reserve",
    why="An even number of voters, or too few, tolerates no failure more than one voter less.",
    fix="Add or remove a voter, so that the number is odd and at least 3.",
    areas=_AREAS,
    seen_in=frozenset({Seen.MEMBERS}),
)

MISSING_MEMBER: Final = Code(
    "BH-318",
    Severity.WARNING,
    "a node is missing from the members",
    symptom="A node is missing from `operator members`.",
    why="It sends no heartbeat to the active node.",
    fix="Look at the node, and at its path to the cluster port.",
    areas=_AREAS,
    seen_in=frozenset({Seen.MEMBERS}),
)
