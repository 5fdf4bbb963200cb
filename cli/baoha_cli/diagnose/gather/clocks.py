"""
Clocks: from answers with whole seconds to an interval in which a clock's offset must lie.

Rules of this file. Pure. An offset is an interval, never a number: a difference is reported only
when it is certain, that is when the whole interval says so.

Theory of operation. A server that says second S at some moment between sending (t0) and receiving
(t1) has a clock between S and S + 1 at that moment, so its offset lies between S - t1 and
S + 1 - t0. Every further answer cuts the interval down.

Source: ours; docs/spec/cluster-cli.md section 6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from baoha_cli.client.answer import as_int
from baoha_cli.survey.look import NodeLook, Reply


@dataclass(frozen=True)
class Offset:
    """
    A clock minus ours, in seconds: somewhere from ``low`` to ``high``.
    """

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The best single number."""
        return (self.low + self.high) / 2

    @property
    def uncertainty(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2

    @property
    def at_least(self) -> float:
        """By how much it certainly differs from ours; 0 when it may not."""
        return max(self.low, -self.high, 0.0)

    def minus(self, other: Offset) -> Offset:
        """Return how far this clock is ahead of another."""
        return Offset(self.low - other.high, self.high - other.low)


def offset_of(looks: Sequence[NodeLook]) -> Offset | None:
    """Return what is known about a node's clock from all that it answered, or None."""
    return narrow(found for look in looks for found in _samples(look))


def narrow(samples: Iterable[Offset]) -> Offset | None:
    """Intersect intervals; None when there are none, or when they contradict each other."""
    known: Offset | None = None
    for sample in samples:
        known = (
            sample
            if known is None
            else Offset(max(known.low, sample.low), min(known.high, sample.high))
        )
    return known if known is not None and known.low <= known.high else None


def sample_of(reply: Reply, second: int, *, slack_s: float = 0.0) -> Offset:
    """Return what one answer says; ``slack_s`` is how old the second may have been."""
    return Offset(second - reply.ended_at, second + 1.0 + slack_s - (reply.ended_at - reply.took_s))


def _samples(look: NodeLook) -> Iterable[Offset]:
    second = as_int(look.health.body.get("server_time_utc"))
    if second is not None and 0 < second < 1 << 40 and look.health.ended_at:
        yield sample_of(look.health, second)
        return
    # Servers may keep the text of the Date header for a second.
    for reply in look.replies:
        if reply.date_s is not None and reply.ended_at:
            yield sample_of(reply, reply.date_s, slack_s=1.0)
