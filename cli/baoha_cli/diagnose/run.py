"""
From evidence to a result: which checks apply, what is left after one fault is one finding.

Rule of this file: pure. What was not looked for is said ("skipped"), with the reason.

Source: docs/spec/cluster-cli.md sections 2.3, 3.1 and 6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from baoha.diagnostics.catalogue import ALL, CODES, in_area, matches
from baoha.diagnostics.code import Area, Code, Finding, Seen, Severity
from baoha_cli.diagnose.checks import balancer, health, tls
from baoha_cli.diagnose.evidence import Evidence
from baoha_cli.diagnose.judge import evaluate, verdict_of
from baoha_cli.diagnose.judgement import drop_explained, why_not_seen
from baoha_cli.exits import Verdict
from baoha_cli.survey.look import NodeLook
from baoha_cli.survey.nodes import SeenRole
from baoha_cli.survey.product import product_of
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

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.area == ALL and not (self.only or self.skip or self.known)

    def wants(self, code: Code) -> bool:
        """Return whether a code is looked for and shown."""
        return self.considers(code) and not (self.skip and matches(code, self.skip))

    def considers(self, code: Code) -> bool:
        """Return whether a code is looked for; what is skipped still explains other things."""
        if self.only and not matches(code, self.only):
            return False
        if code.on_request and not (self.facts or self.only):
            return False
        # A pattern names what is wanted better than the command does.
        return bool(self.only) or in_area(code, self.area)


@dataclass(frozen=True)
class Diagnosis:
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
        refused = () if self.evidence is None else _refused(self.evidence)
        found = verdict_of(self.nodes, self.failing, refused=refused)
        if found is not Verdict.DEGRADED:
            return found
        # Where only some things are looked for, nothing is said about the rest.
        return Verdict.NO if self.failing or self.choice.is_everything else Verdict.OK

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


def conclude(
    evidence: Evidence, choice: Choice, *, noise: bool, took_s: float, files: bool = False
) -> Diagnosis:
    """
    Choose, settle, compare with the baseline.

    Args:
        noise: whether the probes were sent that the active node may write into its audit log.
        files: whether configuration files are judged as well, elsewhere.
    """
    found = drop_explained(item for item in evaluate(evidence) if choice.considers(item.code))
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
) -> Diagnosis:
    """Return the result, with what the baseline knows set aside."""
    listed = list(faults)
    wanted = (code.id for code in CODES.values() if choice.wants(code))
    looked = [code_id for code_id in wanted if code_id not in not_looked_for]
    return Diagnosis(
        choice,
        tuple(item for item in listed if item.key not in choice.known),
        tuple(item for item in listed if item.key in choice.known),
        tuple(looked),
        not_looked_for,
        evidence,
        took_s,
        nodes_total,
    )


def _refused(evidence: Evidence) -> set[str]:
    """Return the labels of nodes whose certificate a client does not accept."""
    looks = {node.label: evidence.tls.get(node.endpoint.origin.lower()) for node in evidence.nodes}
    return {label for label, look in looks.items() if look is not None and look.verify_code}


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


def node_records(evidence: Evidence) -> list[dict[str, object]]:
    """Return what was seen of each node, for JSON."""
    clocks = health.offsets(evidence)
    records = []
    for node in evidence.nodes:
        record = node.report.as_data()
        clock = clocks.get(node.label)
        record["leader_seen"] = evidence.leader_name(node) or None
        record["health_status"] = node.health.status or None
        record["clock_skew_ms"] = None if clock is None else round(clock.middle * 1000)
        record["clock_uncertainty_ms"] = None if clock is None else round(clock.uncertainty * 1000)
        port = evidence.port_of(node)
        record["cluster_port"] = None if port is None else port.kind.value
        look = evidence.tls.get(node.endpoint.origin.lower())
        expires = min((one.not_after for one in look.chain), default=None) if look else None
        record["certificate_expires"] = None if expires is None else tls.date_text(expires)
        record["product"] = product_of(node).value if node.is_api else None
        records.append(record)
    return records


def via_records(evidence: Evidence) -> list[dict[str, object]]:
    """Return what was seen of each load balancer, for JSON."""
    return [
        {
            "addr": via.endpoint.url,
            "connections": len(via.samples),
            "active": via.count(SeenRole.ACTIVE),
            "standby": via.count(SeenRole.STANDBY),
            "sealed": via.count(SeenRole.SEALED) + via.count(SeenRole.UNINITIALIZED),
            "dead": sum(not sample.is_api for sample in via.samples),
            "summary": one_line(balancer.share_text(via)),
        }
        for via in evidence.vias
    ]
