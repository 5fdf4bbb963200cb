"""
Findings: what is wrong, where, how bad, why it matters and how to mend it.

Rule of this file: a code is for ever. Its number and meaning never change; texts may get better.

Theory of operation. A check makes a Finding with a code and words for this case; the general words
(why, fix) come from the catalogue. `CATALOGUE` is open: another module registers its codes with
`register`, and `baoha explain CODE` finds them.

Source: docs/spec/cluster-cli.md section 6.2.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


class Severity(enum.StrEnum):
    """How bad; the value is the word in JSON."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# Words of people and of tables; a sign of its own, so that colour is never needed.
SEVERITY_WORDS: Final = {Severity.INFO: "INFO", Severity.WARNING: "WARN", Severity.ERROR: "FAIL"}


@dataclass(frozen=True)
class Explanation:
    """
    One code of the catalogue.

    Args:
        code: such as "BH-304".
        severity: usual severity.
        title: a few words.
        why: why it matters.
        fix: what to do.
    """

    code: str
    severity: Severity
    title: str
    why: str
    fix: str


@dataclass(frozen=True)
class Finding:
    """
    One thing found.

    Args:
        code: of the catalogue.
        severity: of this case.
        node: label of the node (or pair, "b -> a") it was found at; "" for the cluster.
        text: what was seen, safe to print.
    """

    code: str
    severity: Severity
    node: str
    text: str

    def as_data(self) -> dict[str, object]:
        """Return the JSON form."""
        known = CATALOGUE.get(self.code)
        return {
            "code": self.code,
            "severity": self.severity.value,
            "node": self.node or None,
            "text": self.text,
            "why": known.why if known else None,
            "fix": known.fix if known else None,
        }


CATALOGUE: Final[dict[str, Explanation]] = {}


def register(explanations: Iterable[Explanation]) -> None:
    """
    Add codes to the catalogue.

    Raises:
        ValueError: a code is already there with another meaning.
    """
    for explanation in explanations:
        known = CATALOGUE.setdefault(explanation.code, explanation)
        if known != explanation:
            raise ValueError(f"{explanation.code} is registered twice")


def worst(findings: Iterable[Finding]) -> Severity | None:
    """Return the highest severity, or None without findings."""
    order = list(Severity)
    return max((item.severity for item in findings), key=order.index, default=None)


register(
    [
        Explanation(
            "BH-301",
            Severity.ERROR,
            "no active node",
            "Every write fails until a node becomes active.",
            "Wait one lock ttl. If it stays: look at the lock holder, the store and the logs.",
        ),
        Explanation(
            "BH-302",
            Severity.ERROR,
            "more than one node says it is active",
            "Two nodes that both write can overwrite each other's changes.",
            "Ask again; if it stays, stop the node with the older active time.",
        ),
        Explanation(
            "BH-304",
            Severity.ERROR,
            "blind standby",
            "Its peers see a leader and this node does not: every request sent to it fails, while "
            "its health check stays green.",
            "Restart the node (or step down the leader), and take it out of the load balancer.",
        ),
        Explanation(
            "BH-305",
            Severity.ERROR,
            "nodes name different leaders",
            "Clients get different answers depending on the node they reach.",
            "Ask again; if it stays, look for a network split and check the store.",
        ),
        Explanation(
            "BH-306",
            Severity.ERROR,
            "the leader that standbys name does not answer",
            "Requests are sent to a node that is gone until its lock expires.",
            "Wait one lock ttl; if it stays, the advertised address is stale or unreachable.",
        ),
        Explanation(
            "BH-311",
            Severity.ERROR,
            "nodes belong to different clusters",
            "A stray node answers with other data.",
            "Take the stray node out of the address list, or rejoin it.",
        ),
        Explanation(
            "BH-315",
            Severity.ERROR,
            "only one unsealed node",
            "If it fails, nobody can take over.",
            "Unseal the others: baoha operator unseal --all",
        ),
        Explanation(
            "BH-316",
            Severity.WARNING,
            "sealed, uninitialised or unreachable node",
            "One node less can take over.",
            "Start and unseal it.",
        ),
        Explanation(
            "BH-401",
            Severity.ERROR,
            "forwarding is off",
            "The standby redirects requests that it should forward. It works only for clients that "
            "can reach the redirect target and follow redirects.",
            "Check cluster_addr of the leader and the path to its cluster port.",
        ),
        Explanation(
            "BH-402",
            Severity.ERROR,
            "forwarded requests hang",
            "The leader is frozen, or packets between the nodes are dropped.",
            "Restart the leader; check the path between the nodes.",
        ),
        Explanation(
            "BH-903",
            Severity.WARNING,
            "different versions",
            "A mixed cluster is fine for the time of an upgrade only.",
            "Finish the upgrade, standbys first.",
        ),
    ]
)
