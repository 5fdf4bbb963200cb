"""
Conditions on a cluster, for `status --expect` and `wait --for`.

Rule of this file: it is pure. A condition is checked against one report plus what was true at the
start, and the answer says what is missing, and whether it can still come true.

Source: docs/spec/cluster-cli.md section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from baoha_cli.failures import UsageFailed
from baoha_cli.survey.nodes import ClusterReport, Link, NodeReport, SeenRole


@dataclass(frozen=True)
class Condition:
    """A name and, for some, a value: "leader", "leader=a", "nodes=3"."""

    name: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.name}={self.value}" if self.value else self.name


@dataclass(frozen=True)
class ConditionOutcome:
    """
    Whether a condition holds.

    Args:
        holds: it does.
        missing: what is missing; "" when it holds.
        is_final: it can no longer come true.
    """

    holds: bool
    missing: str = ""
    is_final: bool = False


_HOLDS: Final = ConditionOutcome(True)
Check = Callable[[str, ClusterReport, ClusterReport], ConditionOutcome]

# Name: whether it takes a value ("no", "may", "must"), and what it means.
MEANINGS: Final[dict[str, tuple[str, str]]] = {
    "initialized": ("no", "every node is initialised"),
    "unsealed": ("no", "at least one node is unsealed"),
    "all-unsealed": ("no", "every node is unsealed"),
    "active": ("no", "at least one node is active"),
    "standby": ("no", "at least one node is standby"),
    "leader": ("may", "a node is active; with =NODE that one"),
    "leader-changed": ("may", "another node is active than at the start, or than =NODE"),
    "one-leader": ("no", "exactly one node is active, and every unsealed one names it"),
    "forwarding": ("no", "there is one leader and every standby forwards to it"),
    "same-version": ("no", "all nodes report the same version"),
    "version": ("must", "every node reports this version"),
    "nodes": ("must", "this many nodes answer"),
    "ready": (
        "no",
        "every node can serve: it is active, or forwards to the active one",
    ),
}


def parse_condition(text: str) -> Condition:
    """
    Read one condition.

    Raises:
        UsageFailed: unknown, or a value too many or too few.
    """
    name, sign, value = text.strip().partition("=")
    known = MEANINGS.get(name)
    if known is None:
        raise UsageFailed(
            f"condition {text[:80]!a} is not known", hint="one of " + ", ".join(MEANINGS)
        )
    if (
        bool(value) != bool(sign)
        or (sign and known[0] == "no")
        or (not sign and known[0] == "must")
    ):
        raise UsageFailed(f"condition {text[:80]!a} has a value too many or too few")
    if name == "nodes" and not (value.isascii() and value.isdecimal() and len(value) < 6):
        raise UsageFailed(f"condition {text[:80]!a} needs a number")
    return Condition(name, value)


def parse_conditions(texts: Sequence[str]) -> tuple[Condition, ...]:
    """Read conditions given several times or as comma lists."""
    return tuple(
        parse_condition(part) for text in texts for part in text.split(",") if part.strip()
    )


def needs_links(conditions: Sequence[Condition]) -> bool:
    """Return whether a condition needs the forwarding test."""
    return any(condition.name in ("forwarding", "ready") for condition in conditions)


def check(condition: Condition, now: ClusterReport, start: ClusterReport) -> ConditionOutcome:
    """
    Return whether a condition holds.

    Args:
        condition: what to check.
        now: the nodes as they are.
        start: the nodes as they were at first ("leader-changed").
    """
    return _CHECKS[condition.name](condition.value, now, start)


def _every(
    now: ClusterReport, test: Callable[[NodeReport], bool], what: str, *, final: bool = False
) -> ConditionOutcome:
    bad = [node.label for node in now.nodes if not test(node)]
    return ConditionOutcome(False, f"{', '.join(bad)}: {what}", final) if bad else _HOLDS


def _initialized(_: str, now: ClusterReport, __: ClusterReport) -> ConditionOutcome:
    return _every(now, lambda node: node.initialized is True, "not initialised")


def _unsealed(_: str, now: ClusterReport, __: ClusterReport) -> ConditionOutcome:
    return (
        _HOLDS
        if any(node.unsealed for node in now.nodes)
        else ConditionOutcome(False, "none unsealed")
    )


def _all_unsealed(_: str, now: ClusterReport, __: ClusterReport) -> ConditionOutcome:
    return _every(now, lambda node: node.unsealed, "not unsealed")


def _active(_: str, now: ClusterReport, __: ClusterReport) -> ConditionOutcome:
    return _HOLDS if now.actives else ConditionOutcome(False, "no active node")


def _standby(_: str, now: ClusterReport, __: ClusterReport) -> ConditionOutcome:
    if now.standbys:
        return _HOLDS
    without_ha = all(node.ha_enabled is False for node in now.nodes)
    return ConditionOutcome(
        False, "no standby" + (" (HA is off)" if without_ha else ""), without_ha
    )


def _leader(value: str, now: ClusterReport, start: ClusterReport) -> ConditionOutcome:
    if not value:
        return _active(value, now, start)
    if value not in {node.label for node in now.nodes} | {node.endpoint.url for node in now.nodes}:
        return ConditionOutcome(False, f"{value!a} is not one of the nodes asked", True)
    if any(value in (node.label, node.endpoint.url) for node in now.actives):
        return _HOLDS
    return ConditionOutcome(False, f"{value} is not active")


def _leader_changed(value: str, now: ClusterReport, start: ClusterReport) -> ConditionOutcome:
    if not now.actives:
        return ConditionOutcome(False, "no active node")
    names = {name for node in now.actives for name in (node.label, node.endpoint.url)}
    old = {value} if value else {node.label for node in start.actives}
    if value and names & old:
        return ConditionOutcome(False, f"{value} is still active")
    if not value and names & old and not _tenure_changed(now, start):
        return ConditionOutcome(False, f"{now.actives[0].label} is still active")
    return _HOLDS


def _tenure_changed(now: ClusterReport, start: ClusterReport) -> bool:
    before = {node.label: node.active_time for node in start.actives}
    return all(before.get(node.label) != node.active_time for node in now.actives)


def _one_leader(_: str, now: ClusterReport, __: ClusterReport) -> ConditionOutcome:
    if len(now.actives) != 1:
        return ConditionOutcome(False, f"{len(now.actives)} active nodes")
    if now.agrees:
        return _HOLDS
    blind = [node.label for node in now.standbys if now.named_leader(node) is not now.active]
    return ConditionOutcome(False, f"{', '.join(blind)}: names no leader, or another one")


def _forwarding(value: str, now: ClusterReport, start: ClusterReport) -> ConditionOutcome:
    one = _one_leader(value, now, start)
    if not one.holds:
        return one
    bad = [node.label for node in now.standbys if node.link is not Link.FORWARD]
    return ConditionOutcome(False, f"{', '.join(bad)}: does not forward") if bad else _HOLDS


def _same_version(_: str, now: ClusterReport, __: ClusterReport) -> ConditionOutcome:
    versions = {node.version for node in now.nodes}
    if len(versions) == 1 and "" not in versions:
        return _HOLDS
    return ConditionOutcome(
        False, "versions " + ", ".join(sorted(name or "unknown" for name in versions))
    )


def _version(value: str, now: ClusterReport, __: ClusterReport) -> ConditionOutcome:
    return _every(now, lambda node: node.version == value, f"not version {value}")


def _nodes(value: str, now: ClusterReport, __: ClusterReport) -> ConditionOutcome:
    count = sum(node.reachable for node in now.nodes)
    if count == int(value):
        return _HOLDS
    return ConditionOutcome(False, f"{count} nodes answer", int(value) > len(now.nodes))


def _ready(_: str, now: ClusterReport, __: ClusterReport) -> ConditionOutcome:
    return _every(now, lambda node: is_ready(node, now), "not ready")


def is_ready(node: NodeReport, now: ClusterReport) -> bool:
    """Return whether a node can serve clients."""
    if node.role is SeenRole.ACTIVE:
        return True
    if node.role is not SeenRole.STANDBY or not node.leader_key or node.link is not Link.FORWARD:
        return False
    # The forward probe came back from the leader; if it is in the report, it must be well too.
    named = now.named_leader(node)
    return named is None or named.role is SeenRole.ACTIVE


_CHECKS: Final[dict[str, Check]] = {
    "initialized": _initialized,
    "unsealed": _unsealed,
    "all-unsealed": _all_unsealed,
    "active": _active,
    "standby": _standby,
    "leader": _leader,
    "leader-changed": _leader_changed,
    "one-leader": _one_leader,
    "forwarding": _forwarding,
    "same-version": _same_version,
    "version": _version,
    "nodes": _nodes,
    "ready": _ready,
}
assert _CHECKS.keys() == MEANINGS.keys(), "every condition needs its meaning"
