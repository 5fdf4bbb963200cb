"""
One round of looks with what was concluded from it: all that a table of the cluster shows.

Rule of this file: it concludes nothing itself; `baoha_cli.diagnose.judge` does, and this record is
how its conclusions reach rooms that know no check.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from baoha.diagnostics.code import Finding
from baoha_cli.exits import Verdict
from baoha_cli.survey.look import NodeLook, report_of
from baoha_cli.survey.nodes import ClusterReport


@dataclass(frozen=True)
class Judged:
    """
    A judged round.

    Args:
        looks: the nodes, as asked.
        findings: what is wrong, the worst first.
        verdict: what it means for the exit code.
    """

    looks: tuple[NodeLook, ...]
    findings: tuple[Finding, ...]
    verdict: Verdict

    @cached_property
    def report(self) -> ClusterReport:
        """The nodes as one report."""
        return report_of(self.looks)

    def findings_at(self, label: str) -> list[Finding]:
        """Return the findings at a node; of a pair ("b -> a"), the first is meant."""
        return [item for item in self.findings if item.node.partition(" -> ")[0] == label]

    @property
    def findings_elsewhere(self) -> list[Finding]:
        """Findings about the cluster, or about an address that was not asked."""
        labels = {look.label for look in self.looks}
        return [item for item in self.findings if item.node.partition(" -> ")[0] not in labels]
