"""
What came of the requests of a load generator, in figures.

Rule of this file: pure; shots in, figures out; no I/O, no clock.

Theory of operation. A shot belongs to the second in which it was due, and its latency counts from
that moment, whenever it was really sent. A server that is late cannot hide it by being sent less.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.generator import OK, REFUSAL, TIMEOUT, TIMEOUT_UNSENT

PROMPT_S = 1.0
# "As before" allows this much, where twice the usual would be less than what a busy machine adds.
NORMAL_FLOOR_S = 0.02
NORMAL_FACTOR = 2.0
NORMAL_WINDOW_S = 1.0
_TIMEOUTS = (TIMEOUT, TIMEOUT_UNSENT)


@dataclass(frozen=True, slots=True)
class Shot:
    """One request; moments in seconds on the monotonic clock."""

    node: int
    number: int
    is_write: bool
    due: float
    sent: float
    ended: float
    outcome: str

    @property
    def latency_s(self) -> float:
        """From the moment it was due."""
        return self.ended - self.due


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Latencies in milliseconds; None where there was nothing to measure."""

    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """
    A window of shots in figures.

    Attributes:
        prompt_per_s: answers 2xx within 1 s; ``good_per_s`` all of them.
        refusals_per_s: 503 with ``Retry-After``: not executed.
        timeouts: no answer within the client's time-out, also of those that the client never sent.
        errors: everything else, by kind.
    """

    offered_per_s: float
    prompt_per_s: float
    good_per_s: float
    refusals_per_s: float
    timeouts: int
    errors: dict[str, int]
    good: Spread
    refused: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """One second of a load: how many were due in it, and what came of them."""

    second: int
    due: int
    within_1_s: int
    within_3_s: int
    refusals: int
    timeouts: int
    errors: int


def summarize(shots: Sequence[Shot], seconds: float) -> Summary:
    """Return the figures of shots that were due within so many seconds."""
    good = [shot.latency_s for shot in shots if shot.outcome == OK]
    refused = [shot.latency_s for shot in shots if shot.outcome == REFUSAL]
    prompt = sum(latency <= PROMPT_S for latency in good)
    return Summary(
        offered_per_s=len(shots) / seconds,
        prompt_per_s=prompt / seconds,
        good_per_s=len(good) / seconds,
        refusals_per_s=len(refused) / seconds,
        timeouts=sum(shot.outcome in _TIMEOUTS for shot in shots),
        errors=errors(shots),
        good=spread(good),
        refused=spread(refused),
    )


def errors(shots: Iterable[Shot]) -> dict[str, int]:
    """Count what is neither good nor a refusal nor a time-out, by kind."""
    known = (OK, REFUSAL, *_TIMEOUTS)
    return dict(Counter(shot.outcome for shot in shots if shot.outcome not in known))


def spread(latencies_s: Iterable[float]) -> Spread:
    """Return the middle, the 99th of hundred, and the worst."""
    ordered = sorted(latencies_s)
    if not ordered:
        return Spread(p50_ms=None, p99_ms=None, max_ms=None)
    return Spread(
        p50_ms=percentile(ordered, 0.5) * 1000,
        p99_ms=percentile(ordered, 0.99) * 1000,
        max_ms=ordered[-1] * 1000,
    )


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return the smallest value that at least this fraction of the values does not exceed."""
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def due_between(shots: Iterable[Shot], start: float, end: float) -> list[Shot]:
    """Return the shots that were due in a window."""
    return [shot for shot in shots if start <= shot.due < end]


def by_second(shots: Sequence[Shot], start: float, seconds: int) -> list[Second]:
    """Return each second of a window; the first one is number 0."""
    rows: list[list[Shot]] = [[] for _ in range(seconds)]
    for shot in shots:
        place = math.floor(shot.due - start)
        if 0 <= place < seconds:
            rows[place].append(shot)
    return [
        Second(
            second=number,
            due=len(row),
            within_1_s=sum(shot.outcome == OK and shot.latency_s <= 1 for shot in row),
            within_3_s=sum(shot.outcome == OK and shot.latency_s <= 3 for shot in row),
            refusals=sum(shot.outcome == REFUSAL for shot in row),
            timeouts=sum(shot.outcome in _TIMEOUTS for shot in row),
            errors=sum(errors(row).values()),
        )
        for number, row in enumerate(rows)
    ]


def normal_limit_s(unloaded: Sequence[Shot]) -> float:
    """Return the latency that is still as usual."""
    usual = percentile(sorted(shot.latency_s for shot in unloaded), 0.99) if unloaded else 0.0
    return max(NORMAL_FACTOR * usual, NORMAL_FLOOR_S)


def normal_after_s(shots: Sequence[Shot], end: float, limit_s: float) -> float | None:
    """
    Return how long after ``end`` everything was as usual: from then on, for a second, all answers
    were good and 99 of 100 within the limit. None: never.
    """
    later = sorted(due_between(shots, end, math.inf), key=lambda shot: shot.due)
    for first, shot in enumerate(later):
        window = due_between(later[first:], shot.due, shot.due + NORMAL_WINDOW_S)
        if later[-1].due < shot.due + NORMAL_WINDOW_S:
            return None
        if is_normal(window, limit_s):
            return shot.due - end
    return None


def is_normal(shots: Sequence[Shot], limit_s: float) -> bool:
    """Return whether all answers were good, and 99 of 100 within the limit."""
    if not shots or any(shot.outcome != OK for shot in shots):
        return False
    return percentile(sorted(shot.latency_s for shot in shots), 0.99) <= limit_s


def writes_again_s(shots: Iterable[Shot], node: int, moment: float) -> float | None:
    """Return how long after ``moment`` the first write through a node, due since, was answered."""
    ended = [
        shot.ended
        for shot in shots
        if shot.node == node and shot.is_write and shot.due >= moment and shot.outcome == OK
    ]
    return min(ended) - moment if ended else None
