"""
One stretch of holding the HA lock: its deadline, its renewal, its end.

Rules of this file:

1. The deadline counts from the moment a renewal was *sent*: the store may have started the new
   ttl then, and counting from its reply would overstate it.
2. A tenure ends once, with one recorded cause; the end is published synchronously.
3. Nothing here decides *whether* to lead.
4. Nothing is answered before the lock is held for its whole ttl. It is acquired for a short time
   only, and confirmed when the node is about to serve: whoever freezes in between is soon replaced.

Theory of operation. The duty runs inside ``Tenure.scope``, whose deadline is the lock's expiry
minus a margin. Renewal moves it forward. A silent store, a hung renewal or a suspended process
need nobody to notice them: the deadline passes and the scope ends the duty.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

import trio

from baoha.errors import LockLost, StorageError
from baoha.storage.base import Fence, HALock
from baoha.timing import BootClock, HATiming

log = logging.getLogger("baoha.ha")


class Confirmation:
    """
    Whether the lock is known to be held for its whole ttl, and who waits for that. Given once.
    """

    def __init__(self) -> None:
        self._asked = trio.Event()
        self._given = trio.Event()

    @property
    def is_given(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self._given.is_set()

    def give(self) -> None:
        """Let everybody on who waits; again is no harm."""
        self._given.set()

    async def ask(self) -> None:
        """Have it given soon, unless it was before; returns when it is."""
        self._asked.set()
        await self._given.wait()

    async def wait_asked(self) -> None:
        """Wait until somebody wants it."""
        await self._asked.wait()


class Tenure:
    """
    One tenure. Without an HA lock (``fence`` None) it has no deadline and no epoch.

    Attributes:
        uuid: the leader UUID, new for every tenure.
        scope: what the duty runs in.
        cause: why it ended; "" while it lasts.
        failure: why active duty could not be taken up; None if it could.
        confirmation: that the lock was renewed for its whole ttl (at once without an HA lock).
        is_given_back: the release of the lock is on its way: that it is lost is no news any more.
    """

    def __init__(
        self,
        *,
        uuid: str,
        fence: Fence | None,
        since: datetime,
        boot_clock: BootClock,
        timing: HATiming,
    ) -> None:
        self.uuid = uuid
        self.fence = fence
        self.since = since
        self.scope = trio.CancelScope()
        self.cause = ""
        self.failure: StorageError | None = None
        self.is_given_back = False
        self.confirmation = Confirmation()
        if fence is None:
            self.confirmation.give()
        self.on_end: Callable[[], None] = lambda: None
        self._boot_clock = boot_clock
        self._timing = timing
        self._deadline_boot_s = float("inf")

    @property
    def epoch(self) -> int:
        """The fencing epoch, 0 without an HA lock."""
        return self.fence.epoch if self.fence else 0

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline by the boot-time clock; negative when it has passed."""
        return self._deadline_boot_s - self._boot_clock()

    def is_valid(self) -> bool:
        """Whether this node may still answer from its own state."""
        return not self.cause and self._boot_clock() < self._deadline_boot_s

    def end_if_overdue(self) -> None:
        """End the tenure if its deadline has passed unnoticed: the process was suspended."""
        if not self.cause and self._boot_clock() >= self._deadline_boot_s:
            self.end("the deadline of the HA lock passed while this process was suspended")

    def begin(self, sent_boot_s: float, ttl_s: float) -> None:
        """
        Set the first deadline: a request sent at ``sent_boot_s`` acquired the lock for ``ttl_s``.

        A lock that was acquired for less than the whole ttl is to be confirmed. Nothing is answered
        before, so there is no margin to keep for answers.
        """
        if ttl_s >= self._timing.lock_ttl_s:
            self.extend(sent_boot_s)
        else:
            self._set_deadline(sent_boot_s + ttl_s)

    def extend(self, sent_boot_s: float) -> None:
        """Move the deadline: a request sent at ``sent_boot_s`` got the lock for its whole ttl."""
        self._set_deadline(sent_boot_s + self._timing.lock_ttl_s - self._timing.expiry_margin_s)
        self.confirmation.give()

    def _set_deadline(self, deadline_boot_s: float) -> None:
        self._deadline_boot_s = deadline_boot_s
        self.scope.deadline = trio.current_time() + self.remaining_s

    def finish(self, cause: str) -> None:
        """End the tenure as planned: publish it, but let the scope's tasks end by themselves."""
        if not self.cause:
            self.cause = cause
            self.on_end()

    def end(self, cause: str) -> None:
        """End the tenure at once. The first cause is kept; later ones are its consequences."""
        self.finish(cause)
        self.scope.cancel()


async def run_renewal(
    lock: HALock,
    tenure: Tenure,
    *,
    timing: HATiming,
    boot_clock: BootClock,
    report: Callable[[str], None],
) -> None:
    """
    Renew the HA lock until cancelled, moving the tenure's deadline forward.

    One failed renewal does not end a tenure: it is repeated until the deadline. A refused one does.

    Args:
        timing: uses the renew_... durations, handover_ttl_s and lock_ttl_s.
        report: told why the store does not renew, and "" when it does again.

    Cancellation: safe at every checkpoint; the lock is left as last renewed.
    Owns: nothing. Whoever runs the tenure releases the lock.
    Source: ours; OpenBao lost a lock that had time left (docs/spec/openbao-ha.md section 11.8).
    """
    fence = tenure.fence
    assert fence is not None
    failing = False
    if tenure.confirmation.is_given:
        await trio.sleep(timing.renew_interval_s)
    else:
        # A take-up that lasts longer than this (a slow store) must not lose its lock.
        with trio.move_on_after(timing.handover_ttl_s / 3):
            await tenure.confirmation.wait_asked()
    while not (tenure.cause or tenure.is_given_back):
        sent_boot_s = boot_clock()
        problem = "no answer in time"
        renewed = False
        try:
            with trio.move_on_after(timing.renew_timeout_s):
                await lock.renew(fence, ttl_s=timing.lock_ttl_s)
                renewed = True
        except LockLost as exc:
            if not (tenure.cause or tenure.is_given_back):
                tenure.end(f"lock lost: {exc}")
            return
        except StorageError as exc:
            problem = str(exc)
        if renewed:
            tenure.extend(sent_boot_s)
            if failing:
                log.info("lock renewal works again: epoch=%d", tenure.epoch)
                report("")
            failing = False
            await trio.sleep(timing.renew_interval_s)
            continue
        if not failing:
            log.warning(
                "lock renewal failed, trying until the deadline: remaining_s=%.2f cause=%r",
                tenure.remaining_s,
                problem,
            )
            report(problem)
        failing = True
        await trio.sleep(timing.renew_retry_s)
