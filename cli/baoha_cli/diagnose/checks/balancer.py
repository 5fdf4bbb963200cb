"""
Checks of load balancers (BH-8xx): what many connections through one led to.

Rule of this file: pure. BH-805 and BH-810 are about nodes that are asked directly, too.

Source: docs/spec/cluster-cli.md section 6.2 H.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baoha.diagnostics.code import Finding
from baoha.diagnostics.codes.balancer import (
    BALANCER_ENDS_TLS,
    BALANCER_REWRITES,
    BALANCER_TO_DEAD_NODE,
    FORWARDED_FOR_REJECTED,
    HEADER_LOST,
    RATE_LIMITED,
    UNKNOWN_HEALTH_STATUS,
    WHERE_BALANCER_LEADS,
)
from baoha_cli.diagnose.evidence import Evidence, ViaLook, origin_of
from baoha_cli.survey.look import NodeLook
from baoha_cli.survey.nodes import SeenRole

_UNKNOWN_TO_BALANCERS: Final = frozenset({472, 473, 474, 530})


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge the nodes, then each load balancer."""
    for node in evidence.nodes:
        yield from _refused(node)
    for via in evidence.vias:
        if via.samples:
            yield from _via(evidence, via)


def share_text(via: ViaLook) -> str:
    """Say where the connections led."""
    roles = {role.value: via.count(role) for role in SeenRole}
    counted = ", ".join(f"{count} {name}" for name, count in roles.items() if count)
    return f"{len(via.samples)} connections: {counted}"


def _refused(node: NodeLook) -> Iterator[Finding]:
    replies = [reply for reply in node.replies if reply.status]
    if any(reply.status == 400 and reply.mentions("x-forwarded-for") for reply in replies):
        text = next(reply.words for reply in replies if reply.mentions("x-forwarded-for"))
        yield FORWARDED_FOR_REJECTED.at(node.label, text)
    limited = [node.seal, node.leader, node.plain, node.bare]
    if any(reply.status == 429 for reply in limited):
        text = "429 where it cannot mean standby: a rate limit"
        yield RATE_LIMITED.at(node.label, text)


def _via(evidence: Evidence, via: ViaLook) -> Iterator[Finding]:
    yield WHERE_BALANCER_LEADS.at(via.label, share_text(via))
    bad = [problem for sample in via.samples if (problem := _problem(sample))]
    if bad:
        listed = ", ".join(sorted(set(bad)))
        text = f"{len(bad)} of {len(via.samples)} connections led to a node that is {listed}"
        yield BALANCER_TO_DEAD_NODE.at(via.label, text)
    for sample in via.samples:
        if any(reply.mentions("x-forwarded-for") for reply in sample.replies if reply.status):
            yield FORWARDED_FOR_REJECTED.at(via.label, sample.seal.words)
            break
    statuses = {sample.health.status for sample in via.samples} & _UNKNOWN_TO_BALANCERS
    statuses |= {node.health.status for node in evidence.nodes} & _UNKNOWN_TO_BALANCERS
    if statuses:
        text = f"sys/health answers {', '.join(map(str, sorted(statuses)))}"
        yield UNKNOWN_HEALTH_STATUS.at(via.label, text)
    standbys = [sample for sample in via.samples if sample.role is SeenRole.STANDBY]
    if any(sample.bare.status == 403 and sample.plain.status == 403 for sample in standbys):
        text = "X-Vault-No-Request-Forwarding is lost on the way, or redirects are followed"
        yield HEADER_LOST.at(via.label, text)
    if any(_is_rewritten(via, sample) for sample in standbys):
        text = f"Location names {via.endpoint.origin}, which no node advertises"
        yield BALANCER_REWRITES.at(via.label, text)
    yield from _ends_tls(evidence, via)


def _problem(sample: NodeLook) -> str:
    """Say why a connection was of no use, "" when it was."""
    if not sample.is_api:
        refused = sample.seal.status in (400, 429)
        return "" if refused else f"dead ({sample.seal.words})"
    if sample.role in (SeenRole.SEALED, SeenRole.UNINITIALIZED):
        return sample.role.value
    return "blind" if sample.knows_no_leader else ""


def _is_rewritten(via: ViaLook, sample: NodeLook) -> bool:
    own = via.endpoint.origin.lower()
    if not sample.bare.redirects or origin_of(sample.report.leader_address) == own:
        return False
    return origin_of(sample.bare.location) == own


def _ends_tls(evidence: Evidence, via: ViaLook) -> Iterator[Finding]:
    look = evidence.tls.get(via.endpoint.origin.lower())
    if look is None or not look.chain:
        return
    own = {
        other.chain[0].fingerprint
        for node in evidence.nodes
        if (other := evidence.tls.get(node.endpoint.origin.lower())) is not None and other.chain
    }
    if own and look.chain[0].fingerprint not in own:
        yield BALANCER_ENDS_TLS.at(via.label, "it shows another certificate than the nodes")
