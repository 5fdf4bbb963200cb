"""
Checks of time, version, health and store (BH-9xx).

Rule of this file: pure. A clock differs only when that is certain; versions are compared by their
numbers, and what cannot be compared is left alone.

Source: docs/spec/cluster-cli.md section 6.2 I.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from baoha.diagnostics.code import Finding, Severity
from baoha.diagnostics.codes.health import (
    CLOCK_HERE_DIFFERS,
    CLOCKS_DIFFER,
    GREEN_BUT_FAILING,
    KNOWN_BUG,
    PRODUCT,
    SAID_IN_HEALTH,
    SLOW_STORE,
    STANDBY_OLDER,
    STORE_DOWN,
    STORE_IN_ERROR_TEXTS,
    VERSIONS_DIFFER,
)
from baoha_cli.diagnose.evidence import Evidence
from baoha_cli.diagnose.gather.clocks import Offset, offset_of
from baoha_cli.survey.look import NodeLook
from baoha_cli.survey.nodes import SeenRole
from baoha_cli.survey.product import Product, product_of
from baoha_cli.text import one_line

SKEW_WARN_S: Final = 1.0
SKEW_FAIL_S: Final = 5.0
_FAST_S: Final = 0.1
_SLOW_S: Final = 1.0
_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.]+))?")
# Exact versions with a bug of HA that a user meets without doing anything unusual.
_KNOWN_BUGS: Final = {
    "2.5.0": "operator raft list-peers names the node itself as leader (openbao#2325)",
}
# Problems that a node tells itself; the words are its own.
_TOLD: Final = {code.id: code for code in SAID_IN_HEALTH}
_STORE_TEXT: Final = re.compile(r"\b(?:user|database|dbname|password|host)=\S", re.IGNORECASE)
_STORE_DOWN: Final = (
    "failed to connect",
    "connection refused",
    "dial tcp",
    "database",
    "storage",
    "store",
    "timeout",
    "i/o",
)


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge one round (clocks: see ``check_clocks``)."""
    yield from _versions(evidence)
    yield from _store(evidence)
    for node in evidence.nodes:
        yield from _health(evidence, node)
        yield from _told(node)
        texts = [error for reply in node.replies for error in reply.errors]
        if any(_STORE_TEXT.search(text) for text in texts):
            text = "an answer without a token names host, user or database of the store"
            yield STORE_IN_ERROR_TEXTS.at(node.label, text)
        if node.is_api:
            yield PRODUCT.at(node.label, product_text(node))


def offsets(evidence: Evidence) -> dict[str, Offset]:
    """Return what is known about each node's clock, by label, from all rounds."""
    found: dict[str, Offset] = {}
    for index, node in enumerate(evidence.nodes):
        known = offset_of([round_[index] for round_ in evidence.rounds])
        if known is not None:
            found[node.label] = known
    return found


def check_clocks(evidence: Evidence) -> Iterator[Finding]:
    """Compare the clocks of the nodes with each other, and with the one here."""
    known = offsets(evidence)
    active = evidence.active
    if active is not None and active.label in known:
        base = active.label
    else:
        base = min(known, key=lambda label: abs(known[label].middle), default="")
    for label, offset in known.items():
        if label == base:
            continue
        ahead = offset.minus(known[base])
        if ahead.at_least > SKEW_WARN_S:
            severity = Severity.ERROR if ahead.at_least > SKEW_FAIL_S else None
            text = f"{ahead.middle:+.1f} s (±{ahead.uncertainty:.1f}) from {base}"
            yield CLOCKS_DIFFER.at(label, text, severity=severity)
    off = [offset for offset in known.values() if offset.at_least > SKEW_WARN_S]
    if known and len(off) == len(known):
        text = f"the clock here is {-off[0].middle:+.1f} s from the nodes'"
        yield CLOCK_HERE_DIFFERS.at("", text)


def product_text(node: NodeLook) -> str:
    """Say what answers, by its own words."""
    report = node.report
    storage = one_line(str(report.seal.get("storage_type") or "unknown store"))
    name = one_line(str(report.seal.get("cluster_name") or "no name"))
    return f"{product_of(node)} {report.version or '?'}, {storage}, cluster {name}"


def version_key(text: str) -> tuple[int, int, int, int, str] | None:
    """Return something to compare versions by; a pre-release comes before its release."""
    match = _VERSION.match(text)
    if match is None:
        return None
    major, minor, patch, extra = match.groups()
    return int(major), int(minor), int(patch), 0 if extra else 1, extra or ""


def _versions(evidence: Evidence) -> Iterator[Finding]:
    versions = {node.report.version for node in evidence.nodes if node.report.version}
    if len(versions) > 1:
        text = "versions " + ", ".join(sorted(one_line(version) for version in versions))
        yield VERSIONS_DIFFER.at("", text)
    active = evidence.active
    ours = version_key(active.report.version) if active is not None else None
    for node in evidence.standbys:
        theirs = version_key(node.report.version)
        if active is not None and ours is not None and theirs is not None and theirs < ours:
            text = f"{node.report.version} is older than {active.report.version} of {active.label}"
            yield STANDBY_OLDER.at(node.label, text)
    for node in evidence.nodes:
        bug = _KNOWN_BUGS.get(node.report.version)
        if bug is not None and product_of(node) not in (Product.BAOHA, Product.VAULT):
            yield KNOWN_BUG.at(node.label, f"{node.report.version}: {bug}")


def _store(evidence: Evidence) -> Iterator[Finding]:
    down = [node for node in evidence.nodes if _lost_its_store(node)]
    if not down:
        return
    labels = ", ".join(node.label for node in down)
    where = "" if len(down) == len(evidence.nodes) else labels
    yield STORE_DOWN.at(where, f"the store cannot be reached by {labels}")


def _lost_its_store(node: NodeLook) -> bool:
    """Tell by three answers: health 500 without words, and a storage error elsewhere."""
    if node.health.status != 500 and node.seal.status != 500:
        return False
    others = [node.seal, node.leader, node.plain]
    return any(reply.status == 500 and reply.mentions(*_STORE_DOWN) for reply in others)


def _told(node: NodeLook) -> Iterator[Finding]:
    """Pass on what a node says of its store."""
    sentences = node.health.body.get("problems")
    for sentence in sentences if isinstance(sentences, list) else ():
        code_id, _, text = str(sentence).partition(" ")
        code = _TOLD.get(code_id)
        if code is not None:
            yield code.at(node.label, one_line(text))


def _health(evidence: Evidence, node: NodeLook) -> Iterator[Finding]:
    green = node.health.status in (200, 429) and node.report.unsealed
    if green and node.plain.status in (500, 502, 503, 504):
        text = f"sys/health answers {node.health.status}, and a request {node.plain.status}"
        text += f" ({node.plain.words})"
        # A standby whose leader answers differently is BH-404.
        leads = node.role is SeenRole.ACTIVE or not node.report.leader_key
        # Without the leader's own answer, nobody can tell the two apart.
        active = evidence.active
        if leads or active is None or (active.plain.was_asked and active.plain.status != 403):
            yield GREEN_BUT_FAILING.at(node.label, text)
    is_slow = node.leader.took_s > _SLOW_S or node.leader.timed_out
    if is_slow and node.health.status and node.health.took_s < _FAST_S:
        text = f"sys/health took {node.health.took_s * 1000:.0f} ms, sys/leader "
        text += "no answer" if node.leader.timed_out else f"{node.leader.took_s:.1f} s"
        yield SLOW_STORE.at(node.label, text)
