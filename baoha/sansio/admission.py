"""
Which requests may run, which wait, which are refused: admission by queueing delay, without I/O.

Rules of this file:

1. Refused is whoever came last, before any work was done for it; who was let in once is never
   refused afterwards.
2. Clients are told apart by their address, and each has a queue of its own: a crowd at one address
   costs itself its answers, not the others.
3. Where nothing at all comes to its end (a frozen peer, a silent store), more is not asked than can
   be done: nobody is refused for that, they wait.
4. How many run at a time is measured, not configured: enough to keep the node busy, and no more,
   because what waits here can still be refused and what runs cannot.

Theory of operation. A lane has places; ``ConcurrencyLimit`` says how many. Who finds none waits in
the queue of its address, and places that come free go round the addresses (fair queueing). A queue
in which one waits longer than the target, without a break for a whole interval, *sheds*: from then
on a newcomer is refused who would wait for so long, until the queue has kept below the target for
an interval (``DelayGuard``). A burst that is over soon is waited out; a standing queue, which only
adds delay, is not built up. The target is what is left of ``answer_s`` after the time that
execution takes, so that waiting and executing together keep within it.

The limit follows the idea of TCP Vegas: of the ``n`` requests that run, ``n * (1 - least / taken)``
wait for each other rather than for their own work, where ``least`` is the shortest time of late.
A few of those keep everything busy; more are only a queue in a place where nothing can be refused.

Source: ours. K. Nichols and V. Jacobson, "Controlling Queue Delay" (CoDel, RFC 8289), and RFC 8290
(FQ-CoDel), with the difference that the newest and not the oldest is refused: what has waited is
nearest to its answer. L. Brakmo and L. Peterson, "TCP Vegas".
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

W = TypeVar("W")

# Requests that may wait for each other: fewer, and the limit grows; more, and it shrinks.
_QUEUED_FEW: Final = 2.0
_QUEUED_MANY: Final = 4.0
# The shortest time is forgotten after one to two of these: the machine may have become slower.
_LEAST_WINDOW_S: Final = 10.0
_SMOOTHING: Final = 0.1
# Places after a change of the node that executes, and for how long there are fewer than usual.
_AT_RESTART: Final = 2.0
_RAMP_S: Final = 0.4
# Whoever was announced and has not come by then does not come: it was refused, or lost, on its way.
_COMING_S: Final = 0.25
# Addresses whose guard is kept though nobody waits; above, the one longest quiet is forgotten.
_QUIET_FLOWS_MAX: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """
    The numbers of one lane. Durations are seconds.

    Attributes:
        places_min, places_max: bounds of how many requests run at a time.
        waiting_max: how many may wait.
        answer_s: what waiting and executing may take together before a standing queue sheds.
        interval_s: for how long a queue must stand before it sheds, and be short before it stops.
        wait_max_s: nobody who is new waits longer than this.
        stall_s: without any end of a request for so long, a lane stands still and is not crowded.
        stall_max_s: how long one waits at most in a lane that stands still.
        long_s: a request that has run so long keeps no other out of its place any more.
        long_max: how many such there may be.
    """

    places_min: int = 12
    places_max: int = 64
    waiting_max: int = 1024
    answer_s: float = 0.25
    interval_s: float = 0.2
    wait_max_s: float = 0.3
    stall_s: float = 0.3
    stall_max_s: float = 5.0
    long_s: float = 1.0
    long_max: int = 256


class ConcurrencyLimit:
    """How many requests of a lane may run at a time, from what those before them took."""

    def __init__(self, least: int, most: int) -> None:
        self._bounds = (float(least), float(most))
        self.restarted_at = float("-inf")  # what began before was given to another node
        self._limit = min(max(float(least), 8.0), float(most))
        self.places = int(self._limit)  # the number of places now
        self._least_s = self._least_before_s = float("inf")
        self._window_ends = 0.0
        self.typical_s = 0.0  # smoothed time of execution

    def restart(self, now: float) -> None:
        """
        Begin with few places, and have all after ``_RAMP_S``: who executes is another node from now
        on, which has connections to accept before it can serve everybody.
        """
        self.restarted_at = now
        self._limit = self._floor(now)
        self.places = int(self._limit)
        self._least_s = self._least_before_s = float("inf")

    def _floor(self, now: float) -> float:
        least = self._bounds[0]
        risen = min((now - self.restarted_at) / _RAMP_S, 1.0)
        return min(least, _AT_RESTART + (least - _AT_RESTART) * risen)

    def note(self, took_s: float, running: int, now: float) -> None:
        """
        Take note of a request that has run to its end.

        Args:
            running: how many ran when it ended, itself included.
        """
        self.typical_s += _SMOOTHING * (took_s - self.typical_s)
        if now >= self._window_ends:
            self._least_before_s, self._least_s = self._least_s, took_s
            self._window_ends = now + _LEAST_WINDOW_S
        self._least_s = min(self._least_s, took_s)
        least_s = min(self._least_s, self._least_before_s)
        queued = running * (1 - least_s / took_s) if took_s > 0 else 0.0
        change = 0.0
        if queued > _QUEUED_MANY:
            change = -1.0
        elif queued < _QUEUED_FEW and running >= self._limit / 2:  # an idle lane teaches nothing
            change = 1.0
        floor, ceiling = self._floor(now), self._bounds[1]
        self._limit = min(max(self._limit + change / self._limit, floor), ceiling)
        self.places = int(self._limit)


class DelayGuard:
    """Whether a queue has stood above its target for so long that it sheds."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._above_since: float | None = None
        self._below_since: float | None = None
        self.is_shedding = False

    def observe(self, delay_s: float, target_s: float, now: float) -> None:
        """Take note of how long the head of the queue has waited by now."""
        if delay_s > target_s:
            self._below_since = None
            if self._above_since is None:
                self._above_since = now
            elif now - self._above_since >= self._interval_s:
                self.is_shedding = True
            return
        self._above_since = None
        if self._below_since is None:
            self._below_since = now
        elif now - self._below_since >= self._interval_s:
            self.is_shedding = False


@dataclass(slots=True)
class _Flow(Generic[W]):
    """The queue of one address."""

    guard: DelayGuard
    waiting: deque[tuple[float, W]] = field(default_factory=deque)  # since when, who

    def delay_s(self, now: float) -> float:
        return now - self.waiting[0][0] if self.waiting else 0.0


class AdmissionLane(Generic[W]):
    """
    The places of one kind of requests, and the queues before them.

    A waiter is whatever the caller identifies one by (hashable, compared by identity). Who is
    handed a place by ``leave``, ``withdraw`` or ``reclaim`` holds it, and must leave.
    """

    def __init__(self, limits: AdmissionLimits) -> None:
        self.limits = limits
        self.limit = ConcurrencyLimit(limits.places_min, limits.places_max)
        self._queued: OrderedDict[str, _Flow[W]] = OrderedDict()  # next to be served first
        self._quiet: OrderedDict[str, _Flow[W]] = OrderedDict()  # longest quiet first
        self._returning: deque[W] = deque()
        self._coming: deque[float] = deque()  # until when those who were announced are expected
        self._running: OrderedDict[W, float] = OrderedDict()  # since when, oldest first
        self._long: set[W] = set()
        self._progress_at = 0.0  # the last end of a request, or the begin after idleness
        self.waiting = 0
        self.parked = 0  # let in, and without an active node; set by the caller
        self.refused = 0  # so far

    @property
    def running(self) -> int:
        """How many run now."""
        return len(self._running) + len(self._long)

    @property
    def is_contended(self) -> bool:
        """Whether a newcomer would have to wait: for others, or with them for an active node."""
        return is_any_contended((self,))

    @property
    def target_s(self) -> float:
        """How long a newcomer may have to wait while its queue sheds."""
        return max(self.limits.answer_s - self.limit.typical_s, self.limits.answer_s / 4)

    @property
    def backlog(self) -> int:
        """How many were let in and wait for an active node, or for a place at the new one."""
        return len(self._returning) + self.parked

    def refuses(self, address: str, now: float, *, is_here: bool = True) -> bool:
        """
        Whether a newcomer from an address is refused now; counted, if so.

        Each look moves the guard of the address's queue, also where the queue is empty.

        Args:
            is_here: it is to ``enter`` now; those who are on their way come after it. Else it would
                come after them. Were they counted both times, a crowd on its way would be refused
                as a whole as it arrives, while nobody runs and the next crowd is let in.
        """
        coming = 0 if is_here else self._count_coming(now)
        flow = self._queued.get(address) or self._quiet.get(address)
        free = self.limit.places - len(self._running)
        if flow is None and coming < free and not (self.waiting or self._returning or self.parked):
            return False  # there is a place, whoever else comes
        is_shed = self._is_full_for(flow)
        if not self.is_stalled(now):
            delay_s, limit_s = self._delay_s(flow, coming, now), self.limits.wait_max_s
            if flow is not None:
                flow.guard.observe(delay_s, self.target_s, now)
                limit_s = self.target_s if flow.guard.is_shedding else limit_s
            is_shed = is_shed or delay_s > limit_s
        self.refused += is_shed
        return is_shed

    def announce(self, now: float) -> None:
        """Take note of one who was not refused and is on its way to ``enter``, in a fraction of a
        second: those who come together would not see each other in any queue."""
        self._coming.append(now + _COMING_S)

    def arrive(self) -> None:
        """Take note that one of those who were announced is here, or will not come."""
        if self._coming:
            self._coming.popleft()

    def is_stalled(self, now: float) -> bool:
        """Whether those that run stand still, all of them."""
        return (
            len(self._running) >= self.limit.places
            and now - self._progress_at >= self.limits.stall_s
        )

    def enter(self, waiter: W, address: str, now: float, *, returning: bool = False) -> bool:
        """
        Take a place (True), or the last place in a queue (False). Ask ``refuses`` before.

        Args:
            returning: it was let in before: it waits ahead of all who were not.
        """
        if not self._running:
            self._progress_at = now
        if not (self.waiting or self._returning) and self._has_place(now):
            self._running[waiter] = now
            return True
        if returning:
            self._returning.append(waiter)
            return False
        flow = self._queued.get(address)
        if flow is None:
            flow = self._quiet.pop(address, None) or _Flow(DelayGuard(self.limits.interval_s))
            self._queued[address] = flow
        flow.waiting.append((now, waiter))
        self.waiting += 1
        return False

    def displaced(self) -> W | None:
        """Take the youngest of the longest queue out if too many wait; it is refused."""
        if self.waiting <= self.limits.waiting_max:
            return None
        address = max(self._queued, key=lambda key: len(self._queued[key].waiting))
        _, waiter = self._queued[address].waiting.pop()
        self._taken_from(address)
        self.refused += 1
        return waiter

    def leave(self, waiter: W, now: float, *, counts: bool = True) -> list[W]:
        """
        Give a place back; returns who is handed one now.

        Args:
            counts: whether the time it took says something about the lane.
        """
        self._progress_at = now
        since = self._running.pop(waiter, None)
        if since is None:
            self._long.discard(waiter)
        elif counts and since >= self.limit.restarted_at:
            self.limit.note(now - since, len(self._running) + 1, now)
        return self.reclaim(now)

    def withdraw(self, waiter: W, address: str, now: float) -> list[W]:
        """Take a waiter out of its queue, if it is in one; returns who is handed a place."""
        if waiter in self._returning:
            self._returning.remove(waiter)
        elif (flow := self._queued.get(address)) is not None:
            for entry in flow.waiting:
                if entry[1] is waiter:
                    flow.waiting.remove(entry)
                    self._taken_from(address)
                    break
        return self.reclaim(now)

    def reclaim(self, now: float) -> list[W]:
        """Hand out the places that are free, those of long runners included."""
        served: list[W] = []
        while (self._returning or self.waiting) and self._has_place(now):
            waiter = self._returning.popleft() if self._returning else self._next()
            self._running[waiter] = now
            served.append(waiter)
        return served

    def _count_coming(self, now: float) -> int:
        while self._coming and self._coming[0] < now:
            self._coming.popleft()
        return len(self._coming)

    def _delay_s(self, flow: _Flow[W] | None, coming: int, now: float) -> float:
        """
        How long the head of a queue has waited, or a newcomer would behind so many others who are
        ``coming`` (Little's law).
        """
        free = 0 if self.is_contended else self.limit.places - len(self._running)
        if coming < free:
            return 0.0
        waiting = len(flow.waiting) if flow is not None else 0
        turns = (waiting + 1) * max(len(self._queued), 1) + coming - free
        expected_s = (turns + self.backlog) * self.limit.typical_s / self.limit.places
        return max(flow.delay_s(now) if flow is not None else 0.0, expected_s)

    def _next(self) -> W:
        """Take the head of the next queue, and put that queue behind the others."""
        address, flow = next(iter(self._queued.items()))
        _, waiter = flow.waiting.popleft()
        self._queued.move_to_end(address)
        self._taken_from(address)
        return waiter

    def _taken_from(self, address: str) -> None:
        self.waiting -= 1
        if self._queued[address].waiting:
            return
        self._quiet[address] = self._queued.pop(address)
        if len(self._quiet) > _QUIET_FLOWS_MAX:
            self._quiet.popitem(last=False)

    def _is_full_for(self, flow: _Flow[W] | None) -> bool:
        """Whether a newcomer finds the queues full, and its own is as long as any."""
        if self.waiting < self.limits.waiting_max:
            return False
        own = len(flow.waiting) if flow is not None else 0
        return own + 1 >= max(len(other.waiting) for other in self._queued.values())

    def _has_place(self, now: float) -> bool:
        if len(self._running) < self.limit.places:
            return True
        oldest, since = next(iter(self._running.items()))
        if now - since < self.limits.long_s or len(self._long) >= self.limits.long_max:
            return False
        del self._running[oldest]
        self._long.add(oldest)
        return True


def is_any_contended(lanes: Iterable[AdmissionLane[W]]) -> bool:
    """Whether in any of some lanes a newcomer would have to wait. Asked with every request."""
    for lane in lanes:
        if lane.waiting or lane._returning or lane.parked:
            return True
        if len(lane._running) >= lane.limit.places:
            return True
    return False
