"""A virtual clock that does not run ahead of worker threads."""

from __future__ import annotations

import time

import trio
import trio.testing

from baoha import offload


def patient_clock() -> trio.testing.MockClock:
    """
    Return a clock that jumps when every task waits and no worker thread computes.

    Looks inside trio's clock, which has no other place to ask before it jumps.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)
    jump = clock._autojump

    def jump_if_nothing_computes() -> None:
        default = trio.to_thread.current_default_thread_limiter()
        if default.borrowed_tokens or any(jobs for jobs, _ in offload.current().load()):
            time.sleep(0.000_2)  # the thread's turn
        else:
            jump()

    clock._autojump = jump_if_nothing_computes  # type: ignore[method-assign]
    return clock
