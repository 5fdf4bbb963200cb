"""
What happened to every request of a load, and what follows from it.

Rules of this file:

1. Pure: records in, figures out; no I/O, no clock.
2. Only what a client can know counts: it sent, it was answered, it was not.

Theory of operation. Every write has a value of its own and, once acknowledged, the version that the
server gave it. So "lost", "overwritten" and "executed twice" are seen in the stored versions at the
end, and "stale" is a read that began after version N was acknowledged and returned an older one.

The gap of a node is measured twice, because a load samples an outage only when it sends something:
``gap_s`` is the longest time between two successful answers (too long by up to one interval of the
load), ``wait_s`` is the longest that a client waited, from sending a write until this node's first
success for a write sent no earlier (too short by up to one interval).
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

WRITE = "write"
READ = "read"
OK = "ok"


@dataclass(slots=True)
class Record:
    """
    One request.

    Attributes:
        node: index of the node it was sent to.
        outcome: ``ok``, or how it failed.
        value: what was written, or what was read (0: nothing there).
        version: that the write got, or that was read; 0 when there is none.
        acknowledged_before: for a read, the newest version of the key that was acknowledged when
            it was sent.
    """

    operation: str
    node: int
    key: str
    started: float
    ended: float = 0.0
    outcome: str = ""
    value: int = 0
    version: int = 0
    acknowledged_before: int = 0

    @property
    def is_stale(self) -> bool:
        """Return whether a read returned less than what was acknowledged before it was sent."""
        return (
            self.operation == READ
            and self.outcome == OK
            and self.version < self.acknowledged_before
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """
    What the stored versions say about the acknowledged writes. All empty is good.

    Attributes:
        behind: nodes that return an older version than others, some time after the load.
    """

    lost: list[str] = field(default_factory=list)
    overwritten: list[str] = field(default_factory=list)
    executed_twice: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGap:
    """The longest pause of one node in a window, seconds; None: it never answered again."""

    node: int
    gap_s: float | None
    wait_s: float | None


def find_damage(
    records: Iterable[Record], stored: Mapping[str, Mapping[int, int]], kept_versions: int
) -> Damage:
    """
    Compare what was acknowledged with what is there.

    Args:
        stored: by key, the value of each version that can be read.
        kept_versions: how many versions of a key the server keeps.
    """
    damage = Damage()
    for record in records:
        if record.operation != WRITE or record.outcome != OK:
            continue
        versions = stored.get(record.key, {})
        what = f"{record.key} version {record.version} value {record.value}"
        newest = max(versions, default=0)
        if newest < record.version:
            damage.lost.append(what)
        elif record.version in versions:
            if versions[record.version] != record.value:
                damage.overwritten.append(f"{what}, is {versions[record.version]}")
        elif record.version > newest - kept_versions:
            damage.lost.append(what)
    for key, versions in stored.items():
        for value, times in Counter(versions.values()).items():
            if times > 1:
                damage.executed_twice.append(f"{key} value {value}, {times} times")
    return damage


def failures(records: Iterable[Record]) -> Counter[str]:
    """Count the failed requests by kind."""
    return Counter(record.outcome for record in records if record.outcome != OK)


def failures_by_node(records: Iterable[Record]) -> dict[int, Counter[str]]:
    """Count the failed requests by node and kind."""
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for record in records:
        if record.outcome != OK:
            counts[record.node][record.outcome] += 1
    return dict(counts)


def sent_between(records: Iterable[Record], start: float, end: float) -> list[Record]:
    """Return the requests that were sent in a window."""
    return [record for record in records if start <= record.started < end]


def stale_reads(records: Iterable[Record]) -> list[Record]:
    """Return the reads that returned an older version than was acknowledged."""
    return [record for record in records if record.is_stale]


def gaps(
    records: Sequence[Record], nodes: Iterable[int], *, start: float, end: float
) -> list[NodeGap]:
    """Return how long each node answered no write, around an event between start and end."""
    return [_node_gap(records, node, start, end) for node in nodes]


def _node_gap(records: Sequence[Record], node: int, start: float, end: float) -> NodeGap:
    writes = [
        record
        for record in records
        if record.operation == WRITE and record.node == node and record.started >= start
    ]
    good = sorted((record.ended, record.started) for record in writes if record.outcome == OK)
    ends = [ended for ended, _ in good]
    before = [moment for moment in ends if moment <= end]
    after = [moment for moment in ends if moment > end]
    if not before and not after:
        return NodeGap(node=node, gap_s=None, wait_s=None)
    moments = [start, *before, *after[:1]]
    if not after:
        moments.append(end)
    gap_s = max(later - earlier for earlier, later in itertools.pairwise(moments))
    wait_s: float | None = 0.0
    for record in writes:
        if record.started >= end:
            continue
        answered = next((ended for ended, sent in good if sent >= record.started), None)
        if answered is None:
            wait_s = None
            break
        wait_s = max(wait_s or 0.0, answered - record.started)
    return NodeGap(node=node, gap_s=gap_s, wait_s=wait_s)
