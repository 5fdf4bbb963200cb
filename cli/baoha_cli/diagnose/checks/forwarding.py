"""
Checks of forwarding and of the cluster port (BH-4xx, BH-6xx).

Rules of this file. Pure. What a standby answers is the witness; the look at the cluster port from
here explains it, and is a finding of its own only when there is no such witness. A port that is
closed from here while forwarding works is a firewall that does its work.

Source: docs/spec/cluster-cli.md sections 6.1, 6.2 D and F.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baoha.diagnostics.code import Severity
from baoha_cli.diagnose.evidence import Evidence, PortKind, PortLook
from baoha_cli.diagnose.judgement import Fault, fault
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.look import NodeLook
from baoha_cli.survey.nodes import Role
from baoha_cli.survey.product import Product, product_of
from baoha_cli.text import one_line

SLOW_S: Final = 0.2
_CAUSES: Final = {
    PortKind.REFUSED: "BH-601",
    PortKind.TIMEOUT: "BH-602",
    PortKind.PLAIN: "BH-603",
    PortKind.HTTPS: "BH-604",
    PortKind.LISTENER: "BH-605",
    PortKind.ACTIVE: "BH-607",
    PortKind.CLOSED: "BH-606",
    PortKind.DNS: "BH-201",
}
_GONE: Final = frozenset(
    {ErrorKind.REFUSED, ErrorKind.TIMEOUT, ErrorKind.UNREACHABLE, ErrorKind.DNS}
)
_GONE_PORTS: Final = frozenset({PortKind.REFUSED, PortKind.TIMEOUT, PortKind.DNS})
_NO_LEADER: Final = ("active cluster node not found", "no active")


def check(evidence: Evidence) -> Iterator[Fault]:
    """Judge one round."""
    for node in evidence.standbys:
        yield from _standby(evidence, node)
    for node in evidence.nodes:
        yield from _facts(evidence, node)
    if not evidence.from_node:
        yield from _ports(evidence)
        yield from _other_way(evidence)


def _standby(evidence: Evidence, node: NodeLook) -> Iterator[Fault]:
    report, plain = node.report, node.plain
    leader = evidence.leader_name(node)
    pair = f"{node.label} -> {leader}"
    about = (node.label, leader, report.leader_address, report.leader_cluster_address)
    if not report.leader_key:
        return
    if plain.redirects and not report.leader_cluster_address:
        text = f"{leader} advertises no cluster address, so {node.label} can only redirect"
        yield fault("BH-405", leader, text, about=about)
    elif plain.redirects:
        yield _redirecting(evidence, node, pair, about)
    elif plain.timed_out:
        port = evidence.port_of(node)
        cause = "BH-602" if port is not None and port.kind is PortKind.TIMEOUT else ""
        text = f"{node.label} does not answer a request that it should forward to {leader}"
        detail = _seen_from_here(port)
        yield fault("BH-402", pair, text, cause=cause, detail=detail, about=about)
    elif plain.status == 403:
        yield from _working(evidence, node, pair, about)
    elif _differs(evidence, node):
        active = evidence.active
        direct = f", and {active.label} answers {active.plain.status}" if active else ""
        text = f"{node.label} answers {plain.status} ({plain.words}){direct}"
        yield fault("BH-404", pair, text, about=about)


def _redirecting(evidence: Evidence, node: NodeLook, pair: str, about: tuple[str, ...]) -> Fault:
    """Describe a standby that redirects what it should forward, and what explains it."""
    report = node.report
    port = None if evidence.from_node else evidence.port_of(node)
    cause = _CAUSES.get(port.kind, "") if port is not None else ""
    if port is not None and port.kind in (PortKind.PLAIN, PortKind.HTTPS):
        cause = _wrong_port(evidence, port)
    text = (
        f"forwarding is off: {node.label} answers {node.plain.status} for a request that it "
        "should forward"
    )
    detail = ""
    if _is_leader_gone(evidence, node):
        cause = "BH-306"
        detail = f"nothing answers at {one_line(report.leader_address)}, nor at its cluster port"
    elif port is not None:
        leader = evidence.leader_name(node)
        detail = f"{leader} advertises {one_line(report.leader_cluster_address)}; "
        detail += _seen_from_here(port)
        if port.kind is PortKind.ACTIVE:
            detail += f", so the path from {node.label} is blocked or it does not forward"
    return fault("BH-401", pair, text, cause=cause, detail=detail, about=about)


def _is_leader_gone(evidence: Evidence, node: NodeLook) -> bool:
    """Return whether a leader that was not given answers nowhere; one that was given is BH-306."""
    if evidence.actives or evidence.named_leader(node) is not None:
        return False
    reply = evidence.reach.get(node.report.leader_address)
    port = evidence.port_of(node)
    if reply is None or port is None:
        return False
    return reply.kind in _GONE and port.kind in _GONE_PORTS


def _wrong_port(evidence: Evidence, port: PortLook) -> str:
    """Tell an API at the cluster address from something that ends TLS in front of it."""
    if port.kind is PortKind.PLAIN:
        return "BH-603"
    reply = evidence.reach.get(port.address)
    is_api = reply is not None and "sealed" in reply.body
    return "BH-604" if is_api or reply is None else "BH-606"


def _seen_from_here(port: PortLook | None) -> str:
    if port is None:
        return ""
    words = {
        PortKind.ACTIVE: "from here its cluster port is open",
        PortKind.LISTENER: f"from here it is {port.detail}",
        PortKind.PLAIN: "something speaks plain HTTP there",
        PortKind.HTTPS: f"an HTTPS server is there, with {port.detail}",
        PortKind.INVALID: port.detail,
        PortKind.CLOSED: f"the TLS handshake fails: {port.detail}",
    }
    return words.get(port.kind, f"{port.detail} from here")


def _working(
    evidence: Evidence, node: NodeLook, pair: str, about: tuple[str, ...]
) -> Iterator[Fault]:
    active = evidence.active
    if node.bare.status == 403:
        text = "the probe with X-Vault-No-Request-Forwarding was forwarded all the same"
        yield fault("BH-803", node.label, text, about=about)
    if active is not None and active.plain.status == 403:
        extra_s = node.plain.took_s - active.plain.took_s
        if extra_s > SLOW_S:
            text = f"the way over {node.label} costs {extra_s * 1000:.0f} ms"
            yield fault("BH-403", pair, text, about=about)


def _differs(evidence: Evidence, node: NodeLook) -> bool:
    """Tell whether a standby answers what its leader does not."""
    active, plain = evidence.active, node.plain
    if not plain.status or plain.status in (429, 503) or plain.mentions(*_NO_LEADER):
        return False
    if plain.status == 400 and plain.mentions("x-forwarded-for"):
        return False
    return active is not None and active.plain.status == 403


def _facts(evidence: Evidence, node: NodeLook) -> Iterator[Fault]:
    """Say what is true of healthy clusters too; shown on request."""
    if node.role is Role.ACTIVE and node.report.ha_enabled and evidence.standbys:
        text = (
            "sys/storage/raft/snapshot is redirected by standbys, sys/metrics is answered locally"
        )
        yield fault("BH-406", node.label, text)
    if node.role is Role.STANDBY and _may_read_locally(node):
        text = f"version {node.report.version} lets standbys serve reads, unless told not to"
        yield fault("BH-407", node.label, text)


def _may_read_locally(node: NodeLook) -> bool:
    parts = node.report.version.split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return False
    is_raft = node.report.seal.get("storage_type") == "raft"
    return product_of(node) is not Product.BAOHA and (int(parts[0]), int(parts[1])) >= (
        (2, 5) if is_raft else (2, 7)
    )


def _ports(evidence: Evidence) -> Iterator[Fault]:
    for address in evidence.cluster_addresses:
        port = evidence.ports.get(address)
        if port is None:
            continue
        witnesses = [
            node for node in evidence.standbys if node.report.leader_cluster_address == address
        ]
        leader = evidence.leader_name(next(iter((*witnesses, *evidence.actives))))
        about = (leader, address)
        if port.kind is PortKind.ACTIVE:
            text = f"{address} can be reached from here"
            yield fault("BH-608", leader, text, about=about)
            continue
        if any(node.plain.status or node.plain.timed_out for node in witnesses):
            continue  # they say it better
        code = _CAUSES.get(port.kind, "")
        if port.kind in (PortKind.PLAIN, PortKind.HTTPS):
            code = _wrong_port(evidence, port)
        if code and code != "BH-201":
            # Without a standby to ask, a firewall between here and the node looks the same.
            is_sure = code not in ("BH-601", "BH-602")
            text = f"{one_line(address)}: {_seen_from_here(port)}"
            severity = None if is_sure else Severity.WARNING
            yield fault(code, leader, text, severity=severity, about=about)


def _other_way(evidence: Evidence) -> Iterator[Fault]:
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
        text = f"{one_line(member.cluster_address)}: {_seen_from_here(port)}"
        yield fault("BH-408", where, text, cause=_CAUSES.get(port.kind, ""))
