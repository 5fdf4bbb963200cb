"""
From evidence to a result: which checks apply, what is left after one fault is one finding.

Rules of this file. Pure. A finding that an election would explain counts only when every round
showed it. What was not looked for is said ("skipped"), with the reason.

Source: docs/spec/cluster-cli.md sections 2.3, 3.1 and 6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from baoha.diagnostics.catalogue import ALL, CODES, in_area, matches
from baoha.diagnostics.code import Area, Code, Finding, Seen, Severity
from baoha.diagnostics.codes.leader import NODE_AWAY
from baoha_cli.diagnose.checks import (
    addresses as checks_addresses,
)
from baoha_cli.diagnose.checks import (
    balancer as checks_balancer,
)
from baoha_cli.diagnose.checks import (
    forwarding as checks_forwarding,
)
from baoha_cli.diagnose.checks import (
    health as checks_time,
)
from baoha_cli.diagnose.checks import (
    leader as checks_leader,
)
from baoha_cli.diagnose.checks import (
    port as checks_port,
)
from baoha_cli.diagnose.checks import (
    reach as checks_reach,
)
from baoha_cli.diagnose.checks import (
    redirects as checks_redirects,
)
from baoha_cli.diagnose.checks import (
    tls as checks_tls,
)
from baoha_cli.diagnose.evidence import Evidence
from baoha_cli.diagnose.judgement import lasting, settle, why_not_seen
from baoha_cli.exits import Verdict
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.look import NodeLook
from baoha_cli.survey.nodes import Link, Role
from baoha_cli.survey.round import link_of
from baoha_cli.text import one_line

SCHEMA: Final = "baoha.diagnose/v1"
_ORDER: Final = list(Severity)


@dataclass(frozen=True)
class Choice:
    """
    Which checks are wanted.

    Args:
        area: the command, such as "addresses".
        only: patterns; empty means all of the area.
        skip: patterns.
        facts: also those that are shown on request.
        fail_on: the lowest severity that makes the command fail.
        known: keys of a baseline; they are shown and do not count.
    """

    area: str = ALL
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    facts: bool = False
    fail_on: Severity = Severity.ERROR
    known: frozenset[str] = frozenset()

    @property
    def tries_addresses(self) -> bool:
        """Whether ports, advertised addresses and redirects are tried from here."""
        return self.area not in (Area.TLS, Area.CLOCK)

    def wants(self, code: Code) -> bool:
        """Tell whether a code is looked for and shown."""
        return self.considers(code) and not (self.skip and matches(code, self.skip))

    def considers(self, code: Code) -> bool:
        """Tell whether a code is looked for; what is skipped still explains other things."""
        if self.only and not matches(code, self.only):
            return False
        if code.on_request and not (self.facts or self.only):
            return False
        # A pattern names what is wanted better than the command does.
        return bool(self.only) or in_area(code, self.area)


@dataclass(frozen=True)
class Result:
    """
    What a diagnosis came to.

    Args:
        choice: what was wanted.
        faults: what counts, worst first.
        baselined: found, but known from the baseline.
        checked: codes that were looked for.
        skipped: codes that were not, and why.
        evidence: what it rests on; None for files.
        took_s: duration of the whole.
        nodes_total: nodes, or files.
    """

    choice: Choice
    faults: tuple[Finding, ...]
    baselined: tuple[Finding, ...]
    checked: tuple[str, ...]
    skipped: Mapping[str, str]
    evidence: Evidence | None = None
    took_s: float = 0.0
    nodes_total: int = 0

    def count(self, severity: Severity) -> int:
        """Return how many findings have a severity."""
        return sum(item.severity is severity for item in self.faults)

    @property
    def failing(self) -> tuple[Finding, ...]:
        """Findings that make the command fail."""
        least = _ORDER.index(self.choice.fail_on)
        return tuple(item for item in self.faults if _ORDER.index(item.severity) >= least)

    @property
    def nodes(self) -> tuple[NodeLook, ...]:
        """The nodes as they were last."""
        return self.evidence.nodes if self.evidence is not None else ()

    @property
    def verdict(self) -> Verdict:
        """What it means for the exit code."""
        if self.nodes and not any(node.seal.status for node in self.nodes):
            kinds = {node.seal.kind for node in self.nodes}
            return Verdict.TLS if kinds == {ErrorKind.TLS} else Verdict.UNREACHABLE
        roles = {node.role for node in self.nodes if node.is_api}
        others = [item for item in self.failing if item.code is not NODE_AWAY]
        if roles == {Role.UNINITIALIZED} and not others:
            return Verdict.UNINITIALIZED
        if roles and roles <= {Role.SEALED, Role.UNINITIALIZED} and not others:
            return Verdict.SEALED
        return Verdict.NO if self.failing else Verdict.OK

    @property
    def worst(self) -> Severity | None:
        """The highest severity found."""
        return max((item.severity for item in self.faults), key=_ORDER.index, default=None)

    def as_data(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": SCHEMA,
            "area": self.choice.area,
            "verdict": "ok" if self.verdict is Verdict.OK else self.verdict.name.lower(),
            "fail_on": self.choice.fail_on.value,
            "summary": {
                "checks": len(self.checked),
                "errors": self.count(Severity.ERROR),
                "warnings": self.count(Severity.WARNING),
                "infos": self.count(Severity.INFO),
                "baselined": len(self.baselined),
                "skipped": len(self.skipped),
                "nodes": self.nodes_total,
                "took_s": round(self.took_s, 3),
            },
            "findings": [item.as_data() for item in self.faults],
            "baselined": [item.as_data() for item in self.baselined],
            "checked": list(self.checked),
            "skipped": dict(self.skipped),
            "nodes": [] if self.evidence is None else node_records(self.evidence),
            "balancers": [] if self.evidence is None else via_records(self.evidence),
        }


def evaluate(evidence: Evidence) -> list[Finding]:
    """Return everything that the checks find, transient things only when they last."""
    rounds = [list(_one_round(evidence.at(number))) for number in range(len(evidence.rounds))]
    found = lasting(rounds)
    found += checks_leader.check_history(evidence)
    found += checks_time.check_clocks(evidence)
    return found


def may_be_election(evidence: Evidence) -> bool:
    """Tell whether the last round shows something that should be asked again."""
    if not evidence.rounds:
        return False
    last = settle(_one_round(evidence.at(len(evidence.rounds) - 1)))
    return any(item.code.may_be_election for item in last)


def conclude(
    evidence: Evidence, choice: Choice, *, noise: bool, took_s: float, files: bool = False
) -> Result:
    """
    Choose, settle, compare with the baseline.

    Args:
        noise: whether the probes were sent that the active node may write into its audit log.
        files: whether configuration files are judged as well, elsewhere.
    """
    found = settle(item for item in evaluate(evidence) if choice.considers(item.code))
    there = gathered(evidence, choice, noise=noise, files=files)
    return assemble(
        [item for item in found if choice.wants(item.code)],
        choice,
        skipped(choice, there, from_node=evidence.from_node),
        evidence=evidence,
        took_s=took_s,
        nodes_total=len(evidence.nodes),
    )


def assemble(
    faults: Iterable[Finding],
    choice: Choice,
    not_looked_for: Mapping[str, str],
    *,
    evidence: Evidence | None = None,
    took_s: float = 0.0,
    nodes_total: int = 0,
) -> Result:
    """Return the result, with what the baseline knows set aside."""
    listed = list(faults)
    wanted = (code.id for code in CODES.values() if choice.wants(code))
    looked = [code_id for code_id in wanted if code_id not in not_looked_for]
    return Result(
        choice,
        tuple(item for item in listed if item.key not in choice.known),
        tuple(item for item in listed if item.key in choice.known),
        tuple(looked),
        not_looked_for,
        evidence,
        took_s,
        nodes_total,
    )


def _one_round(evidence: Evidence) -> Iterable[Finding]:
    yield from checks_addresses.check(evidence)
    yield from checks_reach.check(evidence)
    yield from checks_leader.check(evidence)
    yield from checks_forwarding.check(evidence)
    yield from checks_port.check(evidence)
    yield from checks_redirects.check(evidence)
    yield from checks_tls.check(evidence)
    yield from checks_balancer.check(evidence)
    yield from checks_time.check(evidence)


def gathered(evidence: Evidence, choice: Choice, *, noise: bool, files: bool) -> frozenset[Seen]:
    """Return the kinds of evidence that there are."""
    there = {
        Seen.LOOK: True,
        Seen.PROBE: noise,
        Seen.PROBE_ACTIVE: noise,
        Seen.NAMES: True,
        Seen.ADDRESSES: choice.tries_addresses and not evidence.from_node,
        Seen.TLS: True,
        Seen.VIA: bool(evidence.vias),
        Seen.MEMBERS: evidence.members is not None,
        Seen.FILE: files,
    }
    return frozenset(kind for kind, is_there in there.items() if is_there)


def skipped(choice: Choice, there: frozenset[Seen], *, from_node: bool = False) -> dict[str, str]:
    """Return the wanted codes that no evidence can show, by their text, and why there is none."""
    return {
        code.id: why_not_seen(code, from_node=from_node)
        for code in CODES.values()
        if choice.wants(code) and not code.seen_in & there
    }


# --- records of what was seen ---------------------------------------------------------------------


def link_text(node: NodeLook) -> str:
    """Say how a node passes requests on."""
    if node.role is Role.ACTIVE:
        return Link.SELF.value
    if node.role is not Role.STANDBY:
        return Link.UNKNOWN.value
    plain = 0 if node.plain.timed_out else node.plain.status or -1
    return link_of(plain, node.bare.status or -1).value


def node_records(evidence: Evidence) -> list[dict[str, object]]:
    """Return what was seen of each node, for JSON."""
    clocks = checks_time.offsets(evidence)
    records = []
    for node in evidence.nodes:
        record = node.report.as_data()
        clock = clocks.get(node.label)
        record["standby_link"] = link_text(node)
        record["leader_seen"] = evidence.leader_name(node) or None
        record["health_status"] = node.health.status or None
        record["clock_skew_ms"] = None if clock is None else round(clock.middle * 1000)
        record["clock_uncertainty_ms"] = None if clock is None else round(clock.uncertainty * 1000)
        port = evidence.port_of(node)
        record["cluster_port"] = None if port is None else port.kind.value
        look = evidence.tls.get(node.endpoint.origin.lower())
        expires = min((one.not_after for one in look.chain), default=None) if look else None
        record["certificate_expires"] = None if expires is None else checks_tls.date_text(expires)
        record["product"] = checks_time.product_of(node) if node.is_api else None
        records.append(record)
    return records


def via_records(evidence: Evidence) -> list[dict[str, object]]:
    """Return what was seen of each load balancer, for JSON."""
    return [
        {
            "addr": via.endpoint.url,
            "connections": len(via.samples),
            "active": via.count(Role.ACTIVE),
            "standby": via.count(Role.STANDBY),
            "sealed": via.count(Role.SEALED) + via.count(Role.UNINITIALIZED),
            "dead": sum(not sample.is_api for sample in via.samples),
            "summary": one_line(checks_balancer.share_text(via)),
        }
        for via in evidence.vias
    ]
