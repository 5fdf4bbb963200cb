"""The watchdog of the event loop as an assertion."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from baoha.offload import SWITCH_INTERVAL_S
from baoha.server.watchdog import LIMIT_S, LoopWatchdog


@asynccontextmanager
async def watched_loop() -> AsyncIterator[LoopWatchdog]:
    """
    Fail if the event loop stood still inside; where is in the captured log.

    A machine that gives the process no processor is no failure: the watchdog tells it apart.
    """
    watchdog = LoopWatchdog()
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as in the server
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(watchdog.run)
            yield watchdog
            # Time for it to look at the last turn.
            await trio.sleep(LIMIT_S / 2)
            nursery.cancel_scope.cancel()
    finally:
        sys.setswitchinterval(interval_s)
    assert watchdog.record.long_turns == 0, watchdog.record.sentence()


class StepClock(trio.abc.Instrument):
    """
    Notes how much processor time the longest step of a task took, from one checkpoint to the next.

    Time in which the thread did not run is not counted: a busy machine makes no step longer.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._began = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._began:
            self.longest_s = max(self.longest_s, time.thread_time() - self._began)


@contextmanager
def step_clock() -> Iterator[StepClock]:
    """Measure the steps inside."""
    clock = StepClock()
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as in the server
    trio.lowlevel.add_instrument(clock)
    try:
        yield clock
    finally:
        trio.lowlevel.remove_instrument(clock)
        sys.setswitchinterval(interval_s)
