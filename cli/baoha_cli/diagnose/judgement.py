"""
The rules by which several symptoms of one fault become one finding; what was not looked for.

Rule of this file: pure. One fault is one finding: what follows from another finding at the same
place is left out, and what explains it is named in it. What explains what, and which evidence shows
a code, stands in its row.

Source: ours; "names the right code, and only that".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from baoha.diagnostics.code import Code, Finding, Seen, worst_first

# Why there is no evidence of a kind, in the order in which that says most.
_WITHOUT: Final[Mapping[Seen, str]] = {
    Seen.VIA: "no --via",
    Seen.MEMBERS: "no token (--token-file)",
    Seen.PROBE: "--no-audit-noise",
    Seen.PROBE_ACTIVE: "--no-audit-noise",
    Seen.FILE: "needs the file: diagnose config",
    Seen.ADDRESSES: "needs more addresses: diagnose addresses",
}


def drop_explained(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what other findings explain, drop repetitions, and order by severity and code."""
    unique: dict[tuple[str, str], Finding] = {}
    for item in findings:
        unique.setdefault((item.code.id, item.node), item)
    listed = list(unique.values())
    kept = [item for item in listed if not any(_explains(other, item) for other in listed)]
    return worst_first(kept)


def lasting(rounds: Sequence[Sequence[Finding]]) -> list[Finding]:
    """
    Return the findings of the last round, without those that an election would explain.

    Args:
        rounds: findings of each round, oldest first. What is transient must be in all of them.
    """
    if not rounds:
        return []
    seen = [{(item.code, item.node) for item in findings} for findings in rounds]
    return [
        item
        for item in rounds[-1]
        if not item.code.may_be_election
        or all((item.code, item.node) in earlier for earlier in seen)
    ]


def why_not_seen(code: Code, *, from_node: bool) -> str:
    """
    Return why a code was not looked for, whose evidence was not gathered.

    Args:
        from_node: whether addresses were judged from the nodes' point of view only.
    """
    if code.is_by_hand:
        return "no probe can see it"
    if from_node and Seen.ADDRESSES in code.seen_in:
        return "--from node"
    return next((_WITHOUT[kind] for kind in _WITHOUT if kind in code.seen_in), "needs the nodes")


def _explains(root: Finding, item: Finding) -> bool:
    if root is item:
        return False
    if item.code.id in root.code.explains_everywhere:
        return True
    # What was recognised as the cause of a finding explains here what it explains by itself.
    causes = (root.code, root.cause) if root.cause is not None else (root.code,)
    if not any(item.code.id in code.explains for code in causes):
        return False
    return bool({root.node, *root.about} & {item.node, *item.about} - {""})
