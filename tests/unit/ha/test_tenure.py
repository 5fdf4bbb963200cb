"""Renewal and deadline: when a tenure ends, and that it ends in time without anybody noticing."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
import trio

from baoha.errors import LockLost, StorageUnavailable
from baoha.ha.tenure import Tenure, run_renewal
from baoha.storage.base import Fence, HALock, LockRecord
from baoha.timing import HATiming

TIMING = HATiming(lock_ttl_s=15, renew_interval_s=5, renew_timeout_s=3, expiry_margin_s=2)


class ScriptedLock(HALock):
    """A lock whose renewals follow a script; other operations are not used here."""

    def __init__(self, script: list[Callable[[], Awaitable[None]]]) -> None:
        self.script = script
        self.renewals = 0

    async def renew(self, fence: Fence, *, ttl_s: float) -> None:
        self.renewals += 1
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        await step()

    async def acquire(
        self, value: str, *, ttl_s: float, evict: LockRecord | None = None
    ) -> Fence | None:
        raise AssertionError

    async def release(
        self, fence: Fence, *, successor: str | None = None, ttl_s: float = 0.0
    ) -> None:
        raise AssertionError

    async def read(self) -> LockRecord | None:
        raise AssertionError

    async def wait_change(self) -> None:
        raise AssertionError


async def fine() -> None:
    await trio.sleep(0.1)


async def hang() -> None:
    await trio.sleep_forever()


async def unavailable() -> None:
    raise StorageUnavailable("connection refused")


async def lost() -> None:
    raise LockLost("held by somebody else")


async def run(
    script: list[Callable[[], Awaitable[None]]],
    limit_s: float,
    reports: list[str] | None = None,
) -> tuple[float, Tenure]:
    """Run a tenure whose duty waits for ever; return when it ended, counted from acquisition."""
    began = trio.current_time()
    tenure = Tenure(
        uuid="u",
        fence=Fence("core/lock", "me", 1),
        since=datetime(2026, 1, 1, tzinfo=UTC),
        boot_clock=trio.current_time,
        timing=TIMING,
    )
    tenure.extend(began)
    with trio.move_on_after(limit_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: run_renewal(
                    ScriptedLock(script),
                    tenure,
                    timing=TIMING,
                    boot_clock=trio.current_time,
                    report=(reports if reports is not None else []).append,
                )
            )
            with tenure.scope:
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()
    return trio.current_time() - began, tenure


async def test_tenure_store_hangs_duty_ends_before_the_lock_expires(autojump_clock: object) -> None:
    # The renewal sent at 5 s succeeds; all later ones hang. The lock expires 15 s after that one.
    ended_s, tenure = await run([fine, hang], 60)
    assert ended_s == pytest.approx(5 + 15 - 2)
    assert not tenure.is_valid()


async def test_tenure_one_failed_renewal_goes_on(autojump_clock: object) -> None:
    ended_s, tenure = await run([unavailable, fine], 60)
    assert ended_s == pytest.approx(60)
    assert tenure.is_valid()


async def test_tenure_renewal_refused_ends_at_once(autojump_clock: object) -> None:
    ended_s, tenure = await run([fine, lost], 60)
    assert ended_s == pytest.approx(5 + 0.1 + 5)
    assert tenure.cause.startswith("lock lost")


async def test_tenure_store_away_shorter_than_the_deadline_survives(autojump_clock: object) -> None:
    reports: list[str] = []
    ended_s, _ = await run([unavailable] * 20 + [fine], 60, reports)
    assert ended_s == pytest.approx(60)
    assert reports == ["connection refused", ""]


async def test_tenure_ended_twice_keeps_the_first_cause(autojump_clock: object) -> None:
    ended: list[str] = []
    tenure = Tenure(
        uuid="u",
        fence=None,
        since=datetime(2026, 1, 1, tzinfo=UTC),
        boot_clock=trio.current_time,
        timing=TIMING,
    )
    tenure.on_end = lambda: ended.append(tenure.cause)
    tenure.end("first")
    tenure.end("second")
    assert ended == ["first"]
