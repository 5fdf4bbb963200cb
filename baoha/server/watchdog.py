"""
Notice when the event loop stands still, and say where.

Rules of this file:

1. The event loop belongs to the HA lock: a turn of it above ``LIMIT_S`` is a bug of ours, wherever
   it comes from. (A process that did not get to run is none, and is told apart.)
2. What is logged are places in the code: no argument, no variable, no secret.

Theory of operation. An instrument of trio notes when a turn begins, and when the loop that waits
for the kernel must be back at the latest. A thread looks at that a few times within the limit. When
the loop is overdue it asks the clocks who had the processor meanwhile:

- the loop's own thread: a turn that computed;
- other threads of the process: the loop waited for the interpreter lock;
- nobody, and the loop's thread sleeps in a call: something blocks in the event loop;
- nobody, and this thread came late as well, or the loop's thread is ready to run: the process was
  stopped, or the machine has no processor for it.

A long call into C holds the interpreter lock against this thread too. It is noticed when the call
ends, most often still inside the turn, and then the stack shows who has made it.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Final

import trio

logger = logging.getLogger("baoha.server.watchdog")

LIMIT_S: Final = 0.25
_LOOKS_A_LIMIT: Final = 5
# One stack in so many seconds; what comes in between is counted.
_LOG_INTERVAL_S: Final = 10.0
_PLACES_MAX: Final = 30
_ENDED_MAX: Final = 100
_THREADS_MAX: Final = 8
# So much processor time, in limits, is long by itself, however much of the time was the machine's:
# of the loop's thread; of others, which also compute where nobody waits for them.
_BUSY_SHARE: Final = 0.4
_OTHERS_SHARE: Final = 0.8
# So little of the others' means that nobody held the interpreter lock.
_IDLE_SHARE: Final = 0.2

COMPUTED: Final = "it computed"
WAITED: Final = "it waited for the interpreter lock, other threads computed"
BLOCKED: Final = "it was blocked in a call"
SQUEEZED: Final = "the process was not running: stopped, or no processor for it"


@dataclass(slots=True)
class LoopRecord:
    """
    What was noticed so far.

    Attributes:
        long_turns: that were the loop's own fault, or of another thread of the process.
        longest_s: the longest of them, as far as it was watched.
        squeezed: how often the process was not running.
    """

    long_turns: int = 0
    longest_s: float = 0.0
    squeezed: int = 0

    def sentence(self) -> str:
        """Return what an operator should know."""
        plural = "" if self.long_turns == 1 else "s"
        return (
            f"loop: {self.long_turns} turn{plural} of the event loop above {LIMIT_S:g}s since the "
            f"start, the longest {self.longest_s:.2f}s; the log shows where"
        )


class _TurnClock(trio.abc.Instrument):
    """
    Notes since when the loop owes the end of a turn, or its return from the kernel.

    Attributes:
        turn: grows with each of both.
        ended: (turn, seconds) of those that were overdue, for the thread to take.
    """

    def __init__(self, limit_s: float) -> None:
        self.turn = 0
        self.since = time.monotonic()
        self.ended: deque[tuple[int, float]] = deque(maxlen=_ENDED_MAX)
        self._limit_s = limit_s

    # Both run in every round of the loop: written out, a call less each.

    def after_io_wait(self, timeout: float) -> None:
        now = time.monotonic()
        if now - self.since > self._limit_s:
            self.ended.append((self.turn, now - self.since))
        self.since = now
        self.turn += 1

    def before_io_wait(self, timeout: float) -> None:
        now = time.monotonic()
        if now - self.since > self._limit_s:
            self.ended.append((self.turn, now - self.since))
        self.since = now + timeout
        self.turn += 1


@dataclass(frozen=True, slots=True)
class _Look:
    """What the clocks said at one moment."""

    at: float
    loop_cpu_s: float
    process_cpu_s: float


class LoopWatchdog:
    """
    Watches the event loop in which ``run`` runs.

    Args:
        limit_s: how long a turn may take.
        on_report: called in the event loop after something was noticed.
    """

    def __init__(
        self, *, limit_s: float = LIMIT_S, on_report: Callable[[LoopRecord], None] | None = None
    ) -> None:
        self.record = LoopRecord()
        self.on_report = on_report
        self._limit_s = limit_s
        self._stop = threading.Event()
        self._noted: dict[int, str] = {}  # the last turn, and why
        self._logged_at: dict[bool, float] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        clock = _TurnClock(self._limit_s)
        thread = threading.Thread(
            target=self._watch,
            args=(clock, threading.get_ident(), threading.get_native_id()),
            kwargs={"token": trio.lowlevel.current_trio_token()},
            name="loop watchdog",
            daemon=True,
        )
        trio.lowlevel.add_instrument(clock)
        thread.start()
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self._stop.set()
            trio.lowlevel.remove_instrument(clock)
            thread.join()

    # --- in the thread ---------------------------------------------------------------------------

    def _watch(
        self, clock: _TurnClock, ident: int, native_id: int, *, token: trio.lowlevel.TrioToken
    ) -> None:
        cpu_clock = time.pthread_getcpuclockid(ident)

        def look() -> _Look:
            return _Look(time.monotonic(), time.clock_gettime(cpu_clock), time.process_time())

        turn = -1
        absent_s = 0.0  # of this turn: how long this thread did not run either
        before = base = look()
        while not self._stop.wait(self._limit_s / _LOOKS_A_LIMIT):
            now = look()
            gap_s = now.at - before.at
            was_absent = gap_s > self._limit_s
            while clock.ended:
                number, late_s = clock.ended.popleft()
                start = base if number == turn else before
                # Had it been blocked as well, that would have been seen while it lasted.
                is_stopped = was_absent or self._noted.get(number) == SQUEEZED
                why = _reason(start, now, self._limit_s, is_stopped=is_stopped)
                self._note(number, late_s, why, None, token)
            since, current = clock.since, clock.turn
            if current != turn:
                # What was seen last is from before it began, or as good as that.
                turn, base, absent_s = current, before, 0.0
            before = now
            if was_absent:
                absent_s += max(0.0, min(gap_s, now.at - since))
            if now.at - since > self._limit_s:
                was_running_s = now.at - since - absent_s
                is_stopped = was_running_s <= self._limit_s or _state(native_id) == "R"
                why = _reason(base, now, self._limit_s, is_stopped=is_stopped)
                self._note(turn, now.at - since, why, ident, token)

    def _note(
        self,
        turn: int,
        late_s: float,
        why: str,
        ident: int | None,
        token: trio.lowlevel.TrioToken,
    ) -> None:
        """Count and log a turn that is overdue, or has ended so (``ident`` None): once."""
        if why != SQUEEZED:
            self.record.longest_s = max(self.record.longest_s, late_s)
        was = self._noted.get(turn)
        if was is not None and (was != SQUEEZED or why == SQUEEZED):
            return
        self._noted = {turn: why}
        if why == SQUEEZED:
            self.record.squeezed += 1
        else:
            self.record.squeezed -= was is not None  # more is known by now
            self.record.long_turns += 1
        now = time.monotonic()
        # A busy machine must not hide a bug.
        is_bug = why != SQUEEZED
        if now - self._logged_at.get(is_bug, -_LOG_INTERVAL_S) >= _LOG_INTERVAL_S:
            self._logged_at[is_bug] = now
            self._log(why, late_s, ident)
        try:
            token.run_sync_soon(self._report)
        except trio.RunFinishedError:
            return  # nobody is left to be told

    def _log(self, why: str, late_s: float, ident: int | None) -> None:
        if why == SQUEEZED:
            logger.warning("the event loop is late: late_s=%.3f why=%r", late_s, why)
            return
        frames = sys._current_frames()
        lines = ["    (it has ended)"] if ident is None else _places(frames[ident], _PLACES_MAX)
        if why == WAITED:
            own = threading.get_ident()
            others = [frame for other, frame in frames.items() if other not in (ident, own)]
            for frame in others[:_THREADS_MAX]:
                lines += ["another thread:", *_places(frame, 3)]
        logger.error(
            "the event loop stands still: late_s=%.3f why=%r\n%s", late_s, why, "\n".join(lines)
        )

    def _report(self) -> None:
        if self.on_report is not None:
            self.on_report(self.record)


def _reason(base: _Look, now: _Look, limit_s: float, *, is_stopped: bool) -> str:
    loop_s = now.loop_cpu_s - base.loop_cpu_s
    others_s = now.process_cpu_s - base.process_cpu_s - loop_s
    if loop_s >= _BUSY_SHARE * limit_s:
        return COMPUTED
    if others_s >= _OTHERS_SHARE * limit_s:
        return WAITED
    return SQUEEZED if is_stopped or others_s >= _IDLE_SHARE * limit_s else BLOCKED


def _state(native_id: int) -> str:
    """Return what the kernel says of a thread: "R" is running or ready to run, "S" sleeps."""
    try:
        with open(f"/proc/self/task/{native_id}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "?"


def _places(frame: FrameType, count_max: int) -> list[str]:
    """Return where a thread is, innermost first."""
    return [
        f"    {place.f_code.co_filename}:{line} {place.f_code.co_name}"
        for (place, line), _ in zip(traceback.walk_stack(frame), range(count_max), strict=False)
    ]
