"""
The judge: from evidence to findings, and from findings to a verdict.

Rules of this file. Pure. There is no other judge: `baoha status` and all that print the cluster
judge one round of looks with the checks that `baoha diagnose` applies to everything it gathers, so
the two never name different faults. A check that lacks its evidence finds nothing.

Theory of operation. `judge_round` is the whole for one round. `evaluate` takes evidence of several
rounds: a finding that an election would explain counts only when every round showed it.
`verdict_of` is the one place that says what findings and nodes come to; a node that cannot serve is
never "ok", whatever the severity of what was found at it.

Source: docs/spec/cluster-cli.md sections 2.3, 3.1 and 6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from baoha.diagnostics.code import Finding, Seen, Severity
from baoha.diagnostics.codes.leader import NODE_SEALED
from baoha_cli.diagnose.checks import (
    addresses,
    balancer,
    forwarding,
    health,
    leader,
    port,
    reach,
    redirects,
    tls,
)
from baoha_cli.diagnose.evidence import Evidence
from baoha_cli.diagnose.judgement import drop_explained, lasting
from baoha_cli.exits import Verdict
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.judged import Judged
from baoha_cli.survey.look import NodeLook
from baoha_cli.survey.nodes import Link, SeenRole

# What one round of looks can show.
_OF_A_ROUND: Final = frozenset({Seen.LOOK, Seen.PROBE})
_NOT_OPEN: Final = frozenset({SeenRole.SEALED, SeenRole.UNINITIALIZED})
# Links over which a request through a standby fails. A redirect is followed by many clients, and
# where it should not be sent, it is an error by itself (BH-401).
_BROKEN_LINKS: Final = frozenset({Link.HANGS, Link.NONE})


def judge_round(looks: Sequence[NodeLook]) -> Judged:
    """Return what one round of looks shows, and what it comes to."""
    evidence = Evidence(rounds=(tuple(looks),))
    found = drop_explained(
        item
        for item in evaluate(evidence)
        if item.code.seen_in & _OF_A_ROUND and not item.code.on_request
    )
    errors = [item for item in found if item.severity is Severity.ERROR]
    return Judged(evidence.nodes, tuple(found), verdict_of(looks, errors))


def evaluate(evidence: Evidence) -> list[Finding]:
    """Return everything that the checks find, transient things only when they last."""
    rounds = [list(_one_round(evidence.at(number))) for number in range(len(evidence.rounds))]
    found = lasting(rounds)
    found += leader.check_history(evidence)
    found += health.check_clocks(evidence)
    return found


def may_be_election(evidence: Evidence) -> bool:
    """Return whether the last round shows something that should be asked again."""
    if not evidence.rounds:
        return False
    last = drop_explained(_one_round(evidence.at(len(evidence.rounds) - 1)))
    return any(item.code.may_be_election for item in last)


def verdict_of(
    looks: Sequence[NodeLook], failing: Iterable[Finding], *, refused: Iterable[str] = ()
) -> Verdict:
    """
    Return what the state of the whole cluster means for the exit code.

    Args:
        looks: the nodes.
        failing: the findings that count.
        refused: labels of nodes that were asked in spite of their certificate: clients refuse it.
    """
    if looks and not any(look.seal.status for look in looks):
        kinds = {look.seal.kind for look in looks}
        return Verdict.TLS if kinds == {ErrorKind.TLS} else Verdict.UNREACHABLE
    roles = {look.role for look in looks if look.is_api}
    others = [item for item in failing if item.code is not NODE_SEALED]
    if roles == {SeenRole.UNINITIALIZED} and not others:
        return Verdict.UNINITIALIZED
    if roles and roles <= _NOT_OPEN and not others:
        return Verdict.SEALED
    unfit = set(refused) | {look.label for look in looks if not can_serve(look)}
    return Verdict.DEGRADED if others or unfit else Verdict.OK


def can_serve(look: NodeLook) -> bool:
    """Return whether a client's request through a node can succeed, as far as was seen."""
    if look.role is SeenRole.ACTIVE:
        return True
    if look.role is not SeenRole.STANDBY or look.knows_no_leader:
        return False
    return look.link not in _BROKEN_LINKS


def _one_round(evidence: Evidence) -> Iterator[Finding]:
    yield from addresses.check(evidence)
    yield from reach.check(evidence)
    yield from leader.check(evidence)
    yield from forwarding.check(evidence)
    yield from port.check(evidence)
    yield from redirects.check(evidence)
    yield from tls.check(evidence)
    yield from balancer.check(evidence)
    yield from health.check(evidence)
