"""
Checks of forwarding (BH-4xx).

Rules of this file. Pure. What a standby answers is the witness; the look at the cluster port from
here (`port`) explains it.

Source: docs/spec/cluster-cli.md sections 6.1 and 6.2 D.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baoha.diagnostics.code import Finding
from baoha.diagnostics.codes.balancer import HEADER_LOST
from baoha.diagnostics.codes.forwarding import (
    FORWARDED_ANSWER_DIFFERS,
    FORWARDING_HANGS,
    FORWARDING_OFF,
    FORWARDING_ONE_WAY,
    FORWARDING_SLOW,
    NO_CLUSTER_ADDRESS,
    PATHS_NEVER_FORWARDED,
    READS_ON_STANDBYS,
)
from baoha.diagnostics.codes.leader import LEADER_GONE
from baoha.diagnostics.codes.port import PORT_SILENT
from baoha_cli.diagnose.checks.port import cause_of, seen_from_here
from baoha_cli.diagnose.evidence import Evidence, PortKind
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.look import NodeLook
from baoha_cli.survey.nodes import SeenRole
from baoha_cli.survey.product import Product, product_of
from baoha_cli.text import one_line

SLOW_S: Final = 0.2
_GONE: Final = frozenset(
    {ErrorKind.REFUSED, ErrorKind.TIMEOUT, ErrorKind.UNREACHABLE, ErrorKind.DNS}
)
_GONE_PORTS: Final = frozenset({PortKind.REFUSED, PortKind.TIMEOUT, PortKind.DNS})
_NO_LEADER: Final = ("active cluster node not found", "no active")


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge one round."""
    for node in evidence.standbys:
        yield from _standby(evidence, node)
    for node in evidence.nodes:
        yield from _facts(evidence, node)
    if not evidence.from_node:
        yield from _other_way(evidence)


def _standby(evidence: Evidence, node: NodeLook) -> Iterator[Finding]:
    report, plain = node.report, node.plain
    leader = evidence.leader_name(node)
    pair = f"{node.label} -> {leader}"
    about = (node.label, leader, report.leader_address, report.leader_cluster_address)
    if not report.leader_key:
        return
    if plain.redirects and not report.leader_cluster_address:
        text = f"{leader} advertises no cluster address, so {node.label} can only redirect"
        yield NO_CLUSTER_ADDRESS.at(leader, text, about=about)
    elif plain.redirects:
        yield _redirecting(evidence, node, pair, about)
    elif plain.timed_out:
        port = evidence.port_of(node)
        cause = PORT_SILENT if port is not None and port.kind is PortKind.TIMEOUT else None
        text = f"{node.label} does not answer a request that it should forward to {leader}"
        detail = seen_from_here(port) if port is not None else ""
        yield FORWARDING_HANGS.at(pair, text, cause=cause, detail=detail, about=about)
    elif plain.status == 403:
        yield from _working(evidence, node, pair, about)
    elif _differs(evidence, node):
        active = evidence.active
        direct = f", and {active.label} answers {active.plain.status}" if active else ""
        text = f"{node.label} answers {plain.status} ({plain.words}){direct}"
        yield FORWARDED_ANSWER_DIFFERS.at(pair, text, about=about)


def _redirecting(evidence: Evidence, node: NodeLook, pair: str, about: tuple[str, ...]) -> Finding:
    """Describe a standby that redirects what it should forward, and what explains it."""
    report = node.report
    port = None if evidence.from_node else evidence.port_of(node)
    cause = cause_of(evidence, port) if port is not None else None
    text = (
        f"forwarding is off: {node.label} answers {node.plain.status} for a request that it "
        "should forward"
    )
    detail = ""
    if _is_leader_gone(evidence, node):
        cause = LEADER_GONE
        detail = f"nothing answers at {one_line(report.leader_address)}, nor at its cluster port"
    elif port is not None:
        leader = evidence.leader_name(node)
        detail = f"{leader} advertises {one_line(report.leader_cluster_address)}; "
        detail += seen_from_here(port)
        if port.kind is PortKind.ACTIVE:
            detail += f", so the path from {node.label} is blocked or it does not forward"
    return FORWARDING_OFF.at(pair, text, cause=cause, detail=detail, about=about)


def _is_leader_gone(evidence: Evidence, node: NodeLook) -> bool:
    """Return whether a leader that was not given answers nowhere; one that was given is BH-306."""
    if evidence.actives or evidence.named_leader(node) is not None:
        return False
    reply = evidence.reach.get(node.report.leader_address)
    port = evidence.port_of(node)
    if reply is None or port is None:
        return False
    return reply.kind in _GONE and port.kind in _GONE_PORTS


def _working(
    evidence: Evidence, node: NodeLook, pair: str, about: tuple[str, ...]
) -> Iterator[Finding]:
    active = evidence.active
    if node.bare.status == 403:
        text = "the probe with X-Vault-No-Request-Forwarding was forwarded all the same"
        yield HEADER_LOST.at(node.label, text, about=about)
    if active is not None and active.plain.status == 403:
        extra_s = node.plain.took_s - active.plain.took_s
        if extra_s > SLOW_S:
            text = f"the way over {node.label} costs {extra_s * 1000:.0f} ms"
            yield FORWARDING_SLOW.at(pair, text, about=about)


def _differs(evidence: Evidence, node: NodeLook) -> bool:
    """Return whether a standby answers what its leader does not."""
    active, plain = evidence.active, node.plain
    if not plain.status or plain.status in (429, 503) or plain.mentions(*_NO_LEADER):
        return False
    if plain.status == 400 and plain.mentions("x-forwarded-for"):
        return False
    return active is not None and active.plain.status == 403


def _facts(evidence: Evidence, node: NodeLook) -> Iterator[Finding]:
    """Say what is true of healthy clusters too; shown on request."""
    if node.role is SeenRole.ACTIVE and node.report.ha_enabled and evidence.standbys:
        text = (
            "sys/storage/raft/snapshot is redirected by standbys, sys/metrics is answered locally"
        )
        yield PATHS_NEVER_FORWARDED.at(node.label, text)
    if node.role is SeenRole.STANDBY and _may_read_locally(node):
        text = f"version {node.report.version} lets standbys serve reads, unless told not to"
        yield READS_ON_STANDBYS.at(node.label, text)


def _may_read_locally(node: NodeLook) -> bool:
    parts = node.report.version.split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return False
    is_raft = node.report.seal.get("storage_type") == "raft"
    since = (2, 5) if is_raft else (2, 7)
    return product_of(node) is not Product.BAOHA and (int(parts[0]), int(parts[1])) >= since


def _other_way(evidence: Evidence) -> Iterator[Finding]:
    """Judge the cluster ports of standbys, which count after the next failover."""
    if evidence.members is None:
        return
    # baoha's standbys close their cluster port; OpenBao's keep it open.
    harmless = {PortKind.LISTENER, PortKind.ACTIVE}
    if any(product_of(node) is Product.BAOHA for node in evidence.nodes):
        harmless.add(PortKind.REFUSED)
    for member in evidence.members.listed:
        port = evidence.ports.get(member.cluster_address)
        if member.is_active or port is None or port.kind in harmless:
            continue
        known = evidence.node_at(member.api_address)
        where = known.label if known else member.name
        text = f"{one_line(member.cluster_address)}: {seen_from_here(port)}"
        yield FORWARDING_ONE_WAY.at(where, text, cause=cause_of(evidence, port))
