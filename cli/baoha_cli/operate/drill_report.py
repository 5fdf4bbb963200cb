"""
What a drill measured: attempts in, gaps, errors, lost and duplicated writes out.

Rules of this file. Pure. A write counts as applied only when it was acknowledged, as not applied
only when it certainly was not (nothing was sent, or it was redirected), and else as unknown. Times
are seconds from the moment the leader was broken; negative ones are before.

Source: docs/spec/cluster-cli.md sections 0.1 and 3.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from baoha_cli.exits import Verdict
from baoha_cli.output.gotext import plain_table
from baoha_cli.output.junit import JUnitCase

SCHEMA = "baoha.drill/v1"
OK = "ok"
_HEADER = ("NODE", "WRITES", "FAILED", "FIRST", "LAST", "GAP", "LOST", "TWICE", "STALE", "ERRORS")


@dataclass(frozen=True)
class Attempt:
    """
    One write.

    Args:
        began_s, ended_s: when.
        kind: OK, a status such as "503", or an ErrorKind such as "refused".
        number: the counter's value that was written.
        is_unknown: it may have been applied although it failed.
    """

    began_s: float
    ended_s: float
    kind: str
    number: int
    is_unknown: bool = False


@dataclass
class NodeLog:
    """
    Everything that was done through one node; it is the only writer of its key.

    Args:
        label: the node.
        attempts: all writes, in order.
        stale: reads through other nodes that showed less than was acknowledged before.
        reads: such reads that were answered.
        final_number: the counter at the end; None when it could not be read.
        final_version: how many writes the store counted; None when it does not count.
        was_broken: it is the node that was broken, so it may be gone.
    """

    label: str
    attempts: list[Attempt] = field(default_factory=list)
    stale: int = 0
    reads: int = 0
    final_number: int | None = None
    final_version: int | None = None
    was_broken: bool = False

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged."""
        return sum(attempt.kind == OK for attempt in self.attempts)

    @property
    def unknown(self) -> int:
        """How many writes may have been applied although they failed."""
        return sum(attempt.is_unknown for attempt in self.attempts)

    @property
    def errors(self) -> dict[str, int]:
        """Failed writes by kind."""
        return dict(Counter(one.kind for one in self.attempts if one.kind != OK))

    @property
    def lost(self) -> int | None:
        """How many acknowledged writes are gone; None when it cannot be told."""
        if self.final_number is None:
            return None
        last = max((one.number for one in self.attempts if one.kind == OK), default=0)
        if self.final_version is not None and self.final_version < self.acknowledged:
            return self.acknowledged - self.final_version
        return int(self.final_number < last)

    @property
    def duplicated(self) -> int | None:
        """How many writes were applied more than once; None when it cannot be told."""
        if self.final_version is None:
            return None
        return max(self.final_version - self.acknowledged - self.unknown, 0)

    @property
    def first_error_s(self) -> float | None:
        """When the first failed write began."""
        return next((one.began_s for one in self.attempts if one.kind != OK), None)

    @property
    def last_error_s(self) -> float | None:
        """When the last failed write ended."""
        return next((one.ended_s for one in reversed(self.attempts) if one.kind != OK), None)

    @property
    def recovered(self) -> bool:
        """Whether the last write was acknowledged."""
        return bool(self.attempts) and self.attempts[-1].kind == OK

    @property
    def gap_s(self) -> float:
        """The longest time between two acknowledged writes with a failed one in between."""
        return longest_gap_s(self.attempts)

    def as_data(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "node": self.label,
            "broken": self.was_broken,
            "writes": len(self.attempts),
            "acknowledged": self.acknowledged,
            "failed": len(self.attempts) - self.acknowledged,
            "unknown": self.unknown,
            "errors": self.errors,
            "first_error_s": _rounded(self.first_error_s),
            "last_error_s": _rounded(self.last_error_s),
            "gap_s": _rounded(self.gap_s),
            "recovered": self.recovered,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "reads": self.reads,
            "stale_reads": self.stale,
        }


@dataclass(frozen=True)
class DrillResult:
    """
    One drill.

    Args:
        action: "failover" or "step-down".
        logs: of all nodes.
        old, new: labels of the leaders, "" for none.
        max_gap_s: what is allowed; None is anything.
        took_s: duration of the whole.
    """

    action: str
    logs: tuple[NodeLog, ...]
    old: str
    new: str
    max_gap_s: float | None
    took_s: float

    @property
    def survivors(self) -> tuple[NodeLog, ...]:
        """Nodes that should work at the end: all but one that was broken and stayed away."""
        return tuple(log for log in self.logs if log.recovered or not log.was_broken)

    @property
    def gap_s(self) -> float:
        """The longest gap of a node that survived."""
        return max((log.gap_s for log in self.survivors), default=0.0)

    @property
    def cluster_gap_s(self) -> float:
        """The longest time in which no node acknowledged a write."""
        return longest_gap_s(
            sorted((one for log in self.logs for one in log.attempts), key=lambda one: one.ended_s)
        )

    def problems(self) -> list[tuple[str, str]]:
        """Return what went wrong, as (test name, words)."""
        found = []
        away = [log.label for log in self.survivors if not log.recovered]
        if away:
            found.append(("recovery", f"no write through {', '.join(away)} at the end"))
        if not any(log.errors for log in self.logs) and self.new == self.old:
            found.append(("failover", "nothing happened: no error, and the same leader"))
        if self.max_gap_s is not None and self.gap_s > self.max_gap_s:
            found.append(("gap", f"{self.gap_s:.2f}s is longer than {self.max_gap_s:g}s"))
        for log in self.logs:
            if log.lost:
                found.append(("lost", f"{log.lost} acknowledged writes through {log.label} lost"))
            if log.duplicated:
                found.append(
                    ("duplicated", f"{log.duplicated} writes through {log.label} applied twice")
                )
        return found

    @property
    def verdict(self) -> Verdict:
        """What it means for the exit code."""
        names = [name for name, _ in self.problems()]
        if not names:
            return Verdict.OK
        return Verdict.TIMEOUT if names == ["recovery"] else Verdict.NO

    def as_data(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": SCHEMA,
            "action": self.action,
            "old_leader": self.old or None,
            "new_leader": self.new or None,
            "gap_s": _rounded(self.gap_s),
            "cluster_gap_s": _rounded(self.cluster_gap_s),
            "max_gap_s": self.max_gap_s,
            "took_s": _rounded(self.took_s),
            "problems": [{"test": name, "text": text} for name, text in self.problems()],
            "nodes": [log.as_data() for log in self.logs],
        }

    def junit_cases(self) -> list[JUnitCase]:
        """Return the drill as test cases."""
        problems = self.problems()
        cases = []
        for name in ("failover", "recovery", "gap", "lost", "duplicated"):
            words = "; ".join(text for test, text in problems if test == name)
            body = text_of(self) if words or name == "gap" else ""
            classname = f"baoha.drill.{self.action}"
            took_s = self.gap_s if name == "gap" else 0.0
            cases.append(JUnitCase(classname, name, failure=words, body=body, took_s=took_s))
        return cases


def longest_gap_s(attempts: Sequence[Attempt]) -> float:
    """
    Return the longest time from an acknowledged write to the next one, errors in between.

    Without a next one, up to the end of the last attempt.
    """
    longest = 0.0
    last_good: float | None = None
    failed = False
    for attempt in attempts:
        if attempt.kind != OK:
            failed = True
            if last_good is None:
                last_good = attempt.began_s
            continue
        if failed and last_good is not None:
            longest = max(longest, attempt.ended_s - last_good)
        last_good, failed = attempt.ended_s, False
    if failed and last_good is not None:
        longest = max(longest, attempts[-1].ended_s - last_good)
    return longest


def text_of(result: DrillResult) -> str:
    """Return the result as a table."""
    header = (
        "NODE",
        "WRITES",
        "FAILED",
        "FIRST",
        "LAST",
        "GAP",
        "LOST",
        "TWICE",
        "STALE",
        "ERRORS",
    )
    rows = [header]
    for log in result.logs:
        errors = ", ".join(f"{count} × {kind}" for kind, count in log.errors.items())
        rows.append(
            (
                f"{log.label}{' (broken)' if log.was_broken else ''}",
                str(len(log.attempts)),
                str(len(log.attempts) - log.acknowledged),
                _seconds(log.first_error_s),
                _seconds(log.last_error_s),
                f"{log.gap_s:.2f}s" if log.errors else "0s",
                _count(log.lost),
                _count(log.duplicated),
                str(log.stale),
                errors,
            )
        )
    lines = [plain_table(rows, gap=2)]
    leaders = f"{result.old or 'NONE'} → {result.new or 'NONE'}"
    lines.append(
        f"result  {leaders}, longest gap of a node {result.gap_s:.2f}s, "
        f"{result.cluster_gap_s:.2f}s without a write through any node"
    )
    lines += [f"FAIL {text}" for _, text in result.problems()]
    return "\n".join(line.rstrip() for text in lines for line in text.split("\n"))


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}s"


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
