"""The watchdog of the event loop: who made it stand still, and what an operator reads of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from baoha.server.watchdog import BLOCKED, COMPUTED, SQUEEZED, WAITED, LoopRecord, LoopWatchdog

SECRET = "s.this-is-a-token"


@asynccontextmanager
async def watched(limit_s: float = 0.1) -> AsyncIterator[LoopWatchdog]:
    watchdog = LoopWatchdog(limit_s=limit_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(watchdog.run)
        yield watchdog
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - a thread's news has no event
            await trio.sleep(0.01)


def compute(secret: str, seconds: float) -> str:
    ends_at = time.thread_time() + seconds
    while time.thread_time() < ends_at:
        secret = secret[::-1]
    return secret


def block(seconds: float) -> None:
    threading.Event().wait(seconds)


async def test_turn_that_computes_is_logged_once_with_its_place_and_no_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watched() as watchdog:
        compute(SECRET, 0.8)
        await until(lambda: watchdog.record.long_turns > 0)

    (line,) = [r.getMessage() for r in caplog.records if "stands still" in r.getMessage()]
    assert COMPUTED in line
    assert " compute\n" in line
    assert SECRET not in line
    assert watchdog.record.long_turns == 1
    assert watchdog.record.longest_s > 0.1


async def test_call_that_blocks_is_told_from_one_that_computes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watched() as watchdog:
        block(0.8)
        await until(lambda: watchdog.record.long_turns > 0)

    assert BLOCKED in caplog.text
    assert " block\n" in caplog.text


async def test_interpreter_lock_held_by_another_thread_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def hold_the_lock() -> None:
        pow(3, 2_000_000)  # one call into C

    async with watched(limit_s=0.02) as watchdog:
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, hold_the_lock)
                nursery.start_soon(trio.sleep, 0.01)
            if WAITED in caplog.text:
                break

    assert WAITED in caplog.text
    assert watchdog.record.long_turns > 0


async def test_loop_that_waits_for_the_kernel_is_not_overdue() -> None:
    async with watched(limit_s=0.05) as watchdog:
        await trio.sleep(0.5)
        for _ in range(50):
            await trio.sleep(0.001)

    assert watchdog.record.long_turns == 0


async def test_every_long_turn_is_counted_and_told_the_log_is_not_flooded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[int] = []
    async with watched(limit_s=0.02) as watchdog:
        watchdog.on_report = lambda record: told.append(record.long_turns)
        for _ in range(5):
            block(0.2)
            await trio.sleep(0.001)
        await until(lambda: len(told) == 5)

    assert told == [1, 2, 3, 4, 5]
    assert caplog.text.count("stands still") == 1


async def test_end_leaves_neither_thread_nor_instrument() -> None:
    async with watched():
        pass

    assert "loop watchdog" not in {thread.name for thread in threading.enumerate()}
    block(0.2)
    await trio.sleep(0.01)


def test_sentence_names_count_and_longest() -> None:
    assert (
        LoopRecord(long_turns=2, longest_s=1.234)
        .sentence()
        .startswith(
            "loop: 2 turns of the event loop above 0.25s since the start, the longest 1.23s"
        )
    )


STOPPED = """
import logging, sys, trio
from baoha.server.watchdog import LoopWatchdog

async def main():
    watchdog = LoopWatchdog(limit_s=0.1)
    async with trio.open_nursery() as nursery:
        await nursery.start(watchdog.run)
        print("ready", flush=True)
        while not watchdog.record.squeezed and not watchdog.record.long_turns:
            await trio.sleep(0.01)
        print(watchdog.record.squeezed > 0, flush=True)
        nursery.cancel_scope.cancel()

logging.basicConfig(stream=sys.stdout)
trio.run(main)
"""


def test_process_that_was_stopped_is_not_blamed_for_a_long_turn() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "ready\n"
            os.kill(child.pid, signal.SIGSTOP)
            block(1.0)
            os.kill(child.pid, signal.SIGCONT)
            output, _ = child.communicate(timeout=20)
        finally:
            child.kill()

    assert SQUEEZED in output
    assert "True\n" in output


# The turn goes on for a while after the stop, so that it is looked at before and after its end.
STOPPED_IN_A_TURN = """
import logging, os, signal, sys, time, trio
from baoha.server.watchdog import LoopWatchdog

async def main():
    watchdog = LoopWatchdog(limit_s=0.25)
    async with trio.open_nursery() as nursery:
        await nursery.start(watchdog.run)
        await trio.sleep(0.3)
        print("ready", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.15)
        await trio.sleep(0.5)
        print(watchdog.record, flush=True)
        nursery.cancel_scope.cancel()

logging.basicConfig(stream=sys.stdout)
trio.run(main)
"""


def test_process_that_was_stopped_in_the_middle_of_a_turn_is_not_blamed_at_its_end() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED_IN_A_TURN], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "ready\n"
            block(1.0)
            os.kill(child.pid, signal.SIGCONT)
            output, _ = child.communicate(timeout=20)
        finally:
            child.kill()
    assert BLOCKED not in output
    assert "long_turns=0" in output
