"""
Work whose cost grows with a client's bytes: done in worker threads, never in the event loop.

Rules of this file:

1. The event loop belongs to the HA lock. What takes more than about 10 ms is done here.
2. Light work never waits behind heavy work: jobs go into lanes by their cost.
3. Every lane is bounded, by jobs and by bytes. What does not fit is refused before anything of it
   was done.
4. Nobody works for a client that has left: a job that waits is not started, one that runs stops at
   its next ``pause``. Its place is free when its thread has really ended, never earlier.

Theory of operation. A thread that computes holds the interpreter lock and gives it away only when
it is asked to, after ``sys.getswitchinterval()``; the event loop waits for so long, once for every
such thread and each time it comes back from the kernel. So there are three threads at most, one for
each lane, and the server shortens the interval (``SWITCH_INTERVAL_S``): with three busy threads the
loop was 29 ms late in the median with Python's own 5 ms, 1 to 3 ms with half a millisecond. One
call into C is not interrupted at all, however long it takes: a function that is run here does large
work piece by piece.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import trio

from baoha.errors import Overloaded

T = TypeVar("T")

# Called between pieces of work; raises when nobody waits for the result any more.
Pause = Callable[[], None]

# What costs no more than this may be done in the event loop.
INLINE_BYTES_MAX: Final = 8 * 1024
COPIED_INLINE_BYTES_MAX: Final = 1024 * 1024
SWITCH_INTERVAL_S: Final = 0.0005


class _Abandoned(Exception):
    """Ends a job whose client has left; nobody sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """
    What a lane takes.

    Attributes:
        cost_bytes_max: the most that one job may cost; what costs more goes to the next lane.
        jobs_max: jobs that wait or run.
        bytes_max: what these may cost together. A single job is taken whatever it costs.
    """

    cost_bytes_max: float
    jobs_max: int
    bytes_max: int


LANES: Final = (
    LaneLimits(cost_bytes_max=64 * 1024, jobs_max=1024, bytes_max=32 * 1024 * 1024),
    LaneLimits(cost_bytes_max=1024 * 1024, jobs_max=256, bytes_max=64 * 1024 * 1024),
    LaneLimits(cost_bytes_max=float("inf"), jobs_max=32, bytes_max=256 * 1024 * 1024),
)


class _Lane:
    """One thread's worth of work, and those who wait for it in the order of their coming."""

    def __init__(self, limits: LaneLimits) -> None:
        self._limits = limits
        self.thread = trio.CapacityLimiter(1)
        self.jobs = 0
        self.cost_bytes = 0

    def enter(self, cost_bytes: int) -> None:
        over = self.cost_bytes + cost_bytes > self._limits.bytes_max
        if self.jobs >= self._limits.jobs_max or (self.jobs and over):
            raise Overloaded
        self.jobs += 1
        self.cost_bytes += cost_bytes

    def leave(self, cost_bytes: int) -> None:
        self.jobs -= 1
        self.cost_bytes -= cost_bytes


class _Place:
    """
    One job's place in a lane, in the form of a limiter for ``trio.to_thread.run_sync``: trio
    releases it when the thread has ended, also if the task has left long before.
    """

    def __init__(self, lane: _Lane, cost_bytes: int) -> None:
        self._lane = lane
        self._cost_bytes = cost_bytes

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        self._lane.enter(self._cost_bytes)
        try:
            await self._lane.thread.acquire_on_behalf_of(borrower)
        except BaseException:
            self._lane.leave(self._cost_bytes)
            raise

    def release_on_behalf_of(self, borrower: object) -> None:
        self._lane.thread.release_on_behalf_of(borrower)
        self._lane.leave(self._cost_bytes)


class Offload:
    """The lanes of one event loop."""

    def __init__(self, limits: tuple[LaneLimits, ...] = LANES) -> None:
        self._lanes = [(lane.cost_bytes_max, _Lane(lane)) for lane in limits]

    async def run(self, function: Callable[[Pause], T], cost_bytes: int) -> T:
        """
        As the function of that name.
        """
        lane = next(lane for cost_bytes_max, lane in self._lanes if cost_bytes <= cost_bytes_max)
        abandoned = threading.Event()

        def pause() -> None:
            if abandoned.is_set():
                raise _Abandoned

        try:
            return await trio.to_thread.run_sync(
                function,
                pause,
                limiter=cast(trio.CapacityLimiter, _Place(lane, cost_bytes)),
                abandon_on_cancel=True,
            )
        finally:
            abandoned.set()

    def load(self) -> list[tuple[int, int]]:
        """Return for each lane, the lightest first, its jobs and what they cost in bytes."""
        return [(lane.jobs, lane.cost_bytes) for _, lane in self._lanes]


_current: trio.lowlevel.RunVar[Offload] = trio.lowlevel.RunVar("baoha.offload")


def current() -> Offload:
    """Return the lanes of the running event loop."""
    try:
        return _current.get()
    except LookupError:
        _current.set(Offload())
        return _current.get()


async def run_if_large(function: Callable[[], T], cost_bytes: int) -> T:
    """
    Run a function that takes little longer than copying its bytes: here, or as ``run`` if they are
    many.
    """
    if cost_bytes <= COPIED_INLINE_BYTES_MAX:
        return function()
    return await run(lambda pause: function(), cost_bytes)


async def run(function: Callable[[Pause], T], cost_bytes: int) -> T:
    """
    Run a function in a worker thread and return what it returns.

    Args:
        function: gets a ``Pause``, to be called about every 10 ms if it may take much longer.
        cost_bytes: about how many bytes it has to look at; chooses the lane.

    Raises:
        Overloaded: its lane is full; the function was not called.

    Cancellation: the function is abandoned. If it has not begun it never does.
    """
    return await current().run(function, cost_bytes)
