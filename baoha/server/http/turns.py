"""
Turns: how many connections may be attended to in one round of the event loop.

Rules of this file:

1. Whatever the number of clients, a round of the loop stays short; so a renewal, a heartbeat and a
   health check, which need some rounds each, are as quick in a crowd as alone.
2. Who is more urgent goes first, but never all the time: the last kind keeps a share.
3. Among clients of one urgency, addresses take turns.
4. A queue that stands is not joined: ``refuses`` says so before anything is done.

Theory of operation. trio runs everything that is ready once per round, in no order. If a thousand
connections have something to say, a round takes as long as a thousand requests. So a connection
asks for a turn before it parses what it has received (or shakes hands). As long as no more ask
within ``_WINDOW_S`` than a round has room for, nobody waits, and nothing else is done. Beyond, they
queue, and one task hands out turns round by round.
How many is measured: the CPU time of a round is compared with ``ROUND_S``. CPU time, because on a
squeezed machine a round takes long for reasons that fewer turns would not mend.

Source: ours.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from typing import Final

import trio

from baoha.api.door import Urgency
from baoha.sansio.admission import DelayGuard

# Seconds of CPU that a round may take.
ROUND_S: Final = 0.004
# Units of work: one request, or one KiB of it.
_UNIT_BYTES: Final = 1024
_UNIT_MOST_S: Final = 0.001  # to parse, at most
_AT_FIRST: Final = 8
_LEAST: Final = 4
_WINDOW_S: Final = 0.002
_MOST: Final = 64
# Of every so many turns, one is for the least urgent who wait.
_SHARE: Final = 4
# What it costs to find that a turn is not needed.
_REFUSAL_UNITS: Final = 1 / 8
# Seconds after which a turn that can expire does.
WAIT_MAX_S: Final = 0.25
_EXPIRING_MAX: Final = 64  # in one round
# Seconds that a turn may take to come, and for how long it may take longer.
_DELAY_S: Final = 0.1
_INTERVAL_S: Final = 0.2
_GUARDS_MAX: Final = 1024
_SMOOTHING: Final = 0.1
_TURN_MOST_S: Final = 0.05


class Turn(ABC):
    """
    One who waits for a turn, or has had it.

    Attributes:
        units: of work that it is for.
        since: when it began to wait, on trio's clock.
        is_over: no turn comes any more: it has come, was given up, or took too long.
    """

    __slots__ = ("address", "is_over", "since", "units", "urgency")

    def __init__(self, size_bytes: int) -> None:
        """``size_bytes``: what is to be parsed."""
        self.units: float = 1 + size_bytes // _UNIT_BYTES
        self.since = 0.0
        self.is_over = False
        self.urgency = Urgency.OTHER
        self.address = ""

    @abstractmethod
    def come(self) -> bool:
        """Use the turn. False: it was not needed after all."""

    @abstractmethod
    def expire(self) -> None:
        """Take note that no turn came in time; only if it ``expires``."""


class _TaskTurn(Turn):
    """The turn of a task that waits for it."""

    __slots__ = ("ends", "has_come")

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.ends = trio.Event()
        self.has_come = False

    def come(self) -> bool:
        self.has_come = True
        self.ends.set()
        return True

    def expire(self) -> None:
        self.ends.set()


class Turns:
    """
    The turns of one event loop; ``run`` must be running, or whoever queues waits in vain.

    Attributes:
        waiting: how many wait for a turn.
    """

    def __init__(self) -> None:
        self._queues = {urgency: _Queue() for urgency in Urgency}
        self.waiting = 0
        self._taken = 0.0  # units of work, in this round or window
        self._window_ends = -math.inf
        self._allowed = _AT_FIRST
        self._handed_out = 0  # so far, to those who had to wait
        self._turn_s = 0.0  # smoothed: what one of those who wait takes until the next one's turn
        self._work = trio.Event()
        self._expiring: deque[Turn] = deque()  # in the order in which they came
        # Of the queues that were long lately, the oldest first.
        self._guards: OrderedDict[tuple[Urgency, str], DelayGuard] = OrderedDict()

    def refuses(self, urgency: Urgency, address: str) -> bool:
        """Whether a newcomer should not wait for a turn: those before it have for too long."""
        if not self.waiting and (urgency, address) not in self._guards:
            return False  # nobody waits, nor did lately
        now = trio.current_time()
        queue = self._queues[urgency]
        delay_s = queue.delay_s(address, now)
        if queue.length(address) * self._turn_s > WAIT_MAX_S:
            return True  # it would not come in time
        guard = self._guards.get((urgency, address))
        if guard is None:
            if delay_s <= _DELAY_S:
                return False
            guard = self._guards[urgency, address] = DelayGuard(_INTERVAL_S)
            if len(self._guards) > _GUARDS_MAX:
                self._guards.popitem(last=False)
        guard.observe(delay_s, _DELAY_S, now)
        return guard.is_shedding and delay_s > _DELAY_S

    def claim(self, size_bytes: int) -> bool:
        """
        Take a turn at once, if there is one; False: ``queue`` for it.

        Args:
            size_bytes: what is to be parsed.
        """
        if self.waiting:
            return False
        now, units = trio.current_time(), 1 + size_bytes // _UNIT_BYTES
        if now >= self._window_ends:
            self._taken, self._window_ends = 0.0, now + _WINDOW_S
        if not self._has_room(units):
            return False
        self._take(units, now)
        return True

    def queue(self, turn: Turn, urgency: Urgency, address: str, *, expires: bool = False) -> None:
        """
        Have a turn come later.

        Args:
            expires: if it has not come within ``WAIT_MAX_S``, it is given up.
        """
        now = trio.current_time()
        turn.since, turn.urgency, turn.address = now, urgency, address
        self._queues[urgency].add(turn)
        if expires:
            self._expiring.append(turn)
        self.waiting += 1
        self._work.set()

    def withdraw(self, turn: Turn) -> None:
        """Give up a turn, or the place in the queue."""
        if not turn.is_over:
            turn.is_over = True
            self._queues[turn.urgency].remove(turn)
            self.waiting -= 1

    async def take(
        self, urgency: Urgency, address: str, size_bytes: int = 0, *, expires: bool = False
    ) -> bool:
        """
        Return True when it is one's turn: at once, unless this round is full.

        Args:
            size_bytes: what is to be parsed.
            expires: False is returned if none has come within ``WAIT_MAX_S``.

        Cancellation: the turn, or the place in the queue, is given up.
        """
        if self.claim(size_bytes):
            return True
        turn = _TaskTurn(size_bytes)
        self.queue(turn, urgency, address, expires=expires)
        try:
            await turn.ends.wait()
        finally:
            self.withdraw(turn)
        return turn.has_come

    async def run(self) -> None:
        """Hand out turns, round by round, for as long as anybody waits for one. Never returns."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            while self.waiting:
                began, handed_out = time.thread_time(), self._handed_out
                began_at = trio.current_time()
                self._taken = 0.0
                self._expire()
                self._hand_out()
                await trio.lowlevel.checkpoint()
                self._adapt(time.thread_time() - began)
                round_s = trio.current_time() - began_at
                turn_s = round_s / max(self._handed_out - handed_out, 1)
                # A process that was suspended learns nothing from it.
                self._turn_s += _SMOOTHING * (min(turn_s, _TURN_MOST_S) - self._turn_s)

    def _has_room(self, units: float) -> bool:
        # What is larger than a round has one of its own, but for refusals.
        return self._taken < 1 or self._taken + units <= self._allowed

    def _take(self, units: float, now: float) -> None:
        self._taken += units
        if units > self._allowed:
            # Longer than the window is parsed: nobody else finds it open in the same round.
            self._window_ends = max(self._window_ends, now + _WINDOW_S + units * _UNIT_MOST_S)

    def _hand_out(self) -> None:
        while True:
            order = iter(Urgency) if (self._handed_out + 1) % _SHARE else reversed(Urgency)
            queue = next((queue for urgency in order if (queue := self._queues[urgency])), None)
            if queue is None or not self._has_room(queue.first.units):
                return
            turn = queue.take()
            turn.is_over = True
            self.waiting -= 1
            if turn.come():
                self._handed_out += 1
                self._take(turn.units, trio.current_time())
            else:
                self._taken += _REFUSAL_UNITS

    def _expire(self) -> None:
        latest = trio.current_time() - WAIT_MAX_S
        for _ in range(min(len(self._expiring), _EXPIRING_MAX)):
            if not (self._expiring[0].is_over or self._expiring[0].since < latest):
                return
            turn = self._expiring.popleft()
            if not turn.is_over:
                self.withdraw(turn)
                self._taken += _REFUSAL_UNITS
                turn.expire()

    def _adapt(self, took_s: float) -> None:
        if took_s > 2 * ROUND_S:
            self._allowed = max(_LEAST, self._allowed // 2)
        elif took_s > ROUND_S:
            self._allowed = max(_LEAST, self._allowed - 1)
        elif self.waiting:
            self._allowed = min(_MOST, self._allowed + 1)


class _Queue:
    """Those who wait with one urgency; their addresses take turns."""

    def __init__(self) -> None:
        self._flows: OrderedDict[str, deque[Turn]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._flows)

    @property
    def first(self) -> Turn:
        """Whose turn is next."""
        return next(iter(self._flows.values()))[0]

    def delay_s(self, address: str, now: float) -> float:
        flow = self._flows.get(address)
        return now - flow[0].since if flow else 0.0

    def length(self, address: str) -> int:
        return len(self._flows.get(address, ()))

    def add(self, turn: Turn) -> None:
        self._flows.setdefault(turn.address, deque()).append(turn)

    def take(self) -> Turn:
        address, flow = next(iter(self._flows.items()))
        turn = flow.popleft()
        self._flows.move_to_end(address)
        if not flow:
            del self._flows[address]
        return turn

    def remove(self, turn: Turn) -> None:
        flow = self._flows[turn.address]
        flow.remove(turn)
        if not flow:
            del self._flows[turn.address]
