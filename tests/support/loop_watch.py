"""The watchdog of the event loop as an assertion."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
