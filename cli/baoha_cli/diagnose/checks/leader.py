"""
Checks of who leads (BH-3xx): what the nodes say, side by side.

Rules of this file. Pure. Leaders are compared by their cluster address, since the API address may
be a load balancer's. A node that cannot be asked is no witness: nothing is concluded from it.

Source: docs/spec/cluster-cli.md section 6.2 C.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baoha.diagnostics.code import Finding, Severity
from baoha.diagnostics.codes.leader import (
    BLIND_STANDBY,
    DIFFERENT_CLUSTERS,
    DIFFERENT_LEADERS,
    ELECTION_DURING_LOOK,
    HA_OFF,
    LEADER_GONE,
    LEADER_IS_STANDBY,
    LEADER_KEEPS_CHANGING,
    LEADER_SEALED,
    MEMBERS_NAME_ANOTHER,
    MISSING_MEMBER,
    NO_ACTIVE_NODE,
    NO_QUORUM_RESERVE,
    NODE_SEALED,
    ONLY_ONE_UNSEALED,
    REMOVED_NODE,
    SELF_CONTRADICTION,
    SEVERAL_ACTIVE_NODES,
)
from baoha_cli.client.answer import as_bool
from baoha_cli.diagnose.evidence import Evidence, origin_of
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.look import NodeLook
from baoha_cli.survey.nodes import SeenRole
from baoha_cli.text import one_line

_GONE: Final = frozenset(
    {ErrorKind.REFUSED, ErrorKind.TIMEOUT, ErrorKind.UNREACHABLE, ErrorKind.DNS}
)
_ECHO_S_MAX: Final = 10.0
_CHANGES_MAX: Final = 2
_REMOVED_STATUS: Final = 530


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge one round."""
    unsealed = [node for node in evidence.nodes if node.report.unsealed]
    if len(evidence.actives) > 1:
        names = ", ".join(_since(node) for node in evidence.actives)
        yield SEVERAL_ACTIVE_NODES.at("", f"more than one active node: {names}")
    if evidence.standbys and not evidence.someone_leads and not _store_is_down(evidence):
        count = len(evidence.standbys)
        yield NO_ACTIVE_NODE.at("", f"no active node: {count} unsealed, and none names a leader")
    for node in evidence.standbys:
        yield from _standby(evidence, node)
    for node in evidence.nodes:
        yield from _one(node)
    keys = {node.report.leader_key for node in unsealed if node.report.leader_key}
    if len(keys) > 1:
        named = ", ".join(sorted(one_line(key) for key in keys))
        yield DIFFERENT_LEADERS.at("", f"nodes name different leaders: {named}")
    yield from _identity(unsealed)
    yield from _reserve(evidence, unsealed)
    yield from _members(evidence)


def check_history(evidence: Evidence) -> Iterator[Finding]:
    """Judge what happened from round to round."""
    leaders: list[str] = []
    gaps = 0
    for number in range(len(evidence.rounds)):
        round_ = evidence.at(number)
        active = round_.active
        if active is not None and (not leaders or leaders[-1] != active.label):
            leaders.append(active.label)
        if round_.standbys and not round_.someone_leads:
            gaps += 1
    if len(leaders) - 1 > _CHANGES_MAX:
        text = f"{len(leaders) - 1} changes in {evidence.seen_for_s:.0f}s: {' -> '.join(leaders)}"
        yield LEADER_KEEPS_CHANGING.at("", text)
    elif 0 < gaps < len(evidence.rounds):
        text = f"nobody led in {gaps} of {len(evidence.rounds)} looks"
        yield ELECTION_DURING_LOOK.at("", text)


def _standby(evidence: Evidence, node: NodeLook) -> Iterator[Finding]:
    report = node.report
    if not report.leader_key:
        if evidence.someone_leads:
            text = "blind standby: it knows no leader, and others do"
            yield BLIND_STANDBY.at(node.label, text)
        return
    named = evidence.named_leader(node)
    if origin_of(report.leader_address) == node.endpoint.origin.lower():
        text = "names itself as leader, and says that it is not"
        yield LEADER_IS_STANDBY.at(node.label, text, about=(report.leader_address,))
        return
    if named is None:
        return  # nobody asked it; a standby that cannot forward to it is BH-401
    if len({one.report.leader_key for one in evidence.standbys} - {""}) > 1:
        return  # BH-305
    yield from _wrong_leader(node, named)


def _wrong_leader(node: NodeLook, named: NodeLook) -> Iterator[Finding]:
    """Judge a standby whose leader is among the nodes asked, and may not lead."""
    about = (named.label, node.report.leader_address, node.report.leader_cluster_address)
    if named.seal.kind in _GONE:
        if node.plain.timed_out:
            return  # BH-402: frozen, not gone
        text = f"names {named.label} as leader, which does not answer ({named.seal.error})"
        yield LEADER_GONE.at(node.label, text, about=about)
    elif named.role is SeenRole.SEALED:
        text = f"names {named.label} as leader, which is sealed"
        yield LEADER_SEALED.at(node.label, text, about=about)
    elif named.role is SeenRole.STANDBY:
        text = f"names {named.label} as leader, which says it is standby"
        yield LEADER_IS_STANDBY.at(node.label, text, about=about)


def _one(node: NodeLook) -> Iterator[Finding]:
    standby = as_bool(node.health.body.get("standby"))
    is_self = as_bool(node.report.leader.get("is_self"))
    if standby is not None and is_self is not None and node.report.ha_enabled:
        is_perf = as_bool(node.health.body.get("performance_standby")) is True
        if standby == is_self and not is_perf:
            says = "active and sys/health standby" if is_self else "standby and sys/health active"
            yield SELF_CONTRADICTION.at(node.label, f"sys/leader says {says}")
    removed = as_bool(node.health.body.get("removed_from_cluster"))
    if node.health.status == _REMOVED_STATUS or removed:
        yield REMOVED_NODE.at(node.label, "it was removed from the cluster")


def _identity(unsealed: list[NodeLook]) -> Iterator[Finding]:
    ids = {node.report.cluster_id for node in unsealed if node.report.cluster_id}
    if len(ids) > 1:
        groups = "; ".join(
            f"{one_line(found)[:8]}: {', '.join(_labels(unsealed, found))}" for found in sorted(ids)
        )
        yield DIFFERENT_CLUSTERS.at("", f"{len(ids)} different clusters: {groups}")
    elif len(unsealed) > 1 and all(node.report.ha_enabled is False for node in unsealed):
        text = f"{len(unsealed)} nodes, and each says that HA is off"
        yield HA_OFF.at("", text)


def _labels(nodes: list[NodeLook], cluster_id: str) -> list[str]:
    return [node.label for node in nodes if node.report.cluster_id == cluster_id]


def _reserve(evidence: Evidence, unsealed: list[NodeLook]) -> Iterator[Finding]:
    closed = [
        node for node in evidence.nodes if node.role in (SeenRole.SEALED, SeenRole.UNINITIALIZED)
    ]
    if len(unsealed) == 1 and len(evidence.nodes) == len(closed) + 1 and closed:
        text = f"only {unsealed[0].label} is unsealed: nobody can take over"
        yield ONLY_ONE_UNSEALED.at("", text)
    for node in closed:
        severity = None if unsealed else Severity.ERROR
        yield NODE_SEALED.at(node.label, node.role.value, severity=severity)


def _members(evidence: Evidence) -> Iterator[Finding]:
    members = evidence.members
    if members is None:
        return
    active = evidence.active
    for member in (*members.listed, *members.raft):
        if (
            member.is_active
            and active is not None
            and not _is_same_leader(member.api_address, member.cluster_address, active)
        ):
            text = f"the list of members names {one_line(member.name)} as leader"
            yield MEMBERS_NAME_ANOTHER.at(active.label, text)
    voters = [member for member in members.raft if member.is_voter]
    if members.raft and (len(voters) < 3 or len(voters) % 2 == 0):
        text = f"{len(voters)} voters of {len(members.raft)} members"
        yield NO_QUORUM_RESERVE.at("", text)
    if not members.listed:
        return
    origins = {origin_of(member.api_address): member for member in members.listed}
    for node in evidence.nodes:
        member_or_none = origins.get(node.endpoint.origin.lower())
        if member_or_none is None:
            if node.report.unsealed and _knows_all(evidence):
                yield MISSING_MEMBER.at(node.label, "it is not in the list of members")
        elif (member_or_none.echo_age_s or 0) > _ECHO_S_MAX:
            age_s = member_or_none.echo_age_s or 0
            yield MISSING_MEMBER.at(node.label, f"its last heartbeat was {age_s:.0f}s ago")


def _knows_all(evidence: Evidence) -> bool:
    """Return whether given addresses and advertised ones can be compared at all."""
    listed = evidence.members.listed if evidence.members else ()
    return any(evidence.node_at(member.api_address) is not None for member in listed)


def _is_same_leader(api: str, cluster: str, active: NodeLook) -> bool:
    report = active.report
    if api and origin_of(api) == origin_of(report.leader_address):
        return True
    own = report.leader_cluster_address.partition("://")[2]
    return bool(cluster) and cluster.rpartition("://")[2] == own


def _since(node: NodeLook) -> str:
    since = node.report.active_time
    return f"{node.label} (since {one_line(since)})" if since else node.label


def _store_is_down(evidence: Evidence) -> bool:
    return any(node.health.status == 500 for node in evidence.nodes)
