"""Lanes for work that grows with a client's bytes: who waits for whom, and who is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from baoha import offload
from baoha.errors import Overloaded
from baoha.offload import LaneLimits, Offload, Pause

LIGHT, HEAVY = 10, 1000
LIMITS = (
    LaneLimits(cost_bytes_max=100, jobs_max=3, bytes_max=100),
    LaneLimits(cost_bytes_max=float("inf"), jobs_max=3, bytes_max=2500),
)


class Work:
    """Jobs that run until they are told to end."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.go = threading.Event()

    def job(self, name: str) -> Callable[[Pause], str]:
        def run(pause: Pause) -> str:
            self.started.append(name)
            try:
                while not self.go.wait(0.001):
                    pause()
            finally:
                self.ended.append(name)
            return name

        return run


@contextmanager
def working() -> Iterator[Work]:
    work = Work()
    try:
        yield work
    finally:
        work.go.set()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - a thread's news has no event
            await trio.sleep(0.001)


async def test_run_returns_the_result_and_raises_the_error_of_the_function() -> None:
    def fail(pause: Pause) -> None:
        raise ZeroDivisionError

    assert await offload.run(lambda pause: threading.get_ident(), 1) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await offload.run(fail, 1)
    assert offload.current().load() == [(0, 0)] * 3


async def test_light_job_does_not_wait_for_heavy_ones() -> None:
    lanes = Offload(LIMITS)
    with working() as work:
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(lanes.run, work.job(f"heavy {number}"), HEAVY)
            await until(lambda: len(work.started) == 1)
            with trio.fail_after(10):
                assert await lanes.run(lambda pause: "light", LIGHT) == "light"
            assert work.ended == []
            work.go.set()


async def test_one_heavy_job_runs_at_a_time_in_the_order_of_coming() -> None:
    lanes = Offload(LIMITS)
    with working() as work:
        async with trio.open_nursery() as nursery:
            for name in "ab":
                nursery.start_soon(lanes.run, work.job(name), HEAVY)
                await trio.testing.wait_all_tasks_blocked()
            await until(lambda: work.started == ["a"])
            assert lanes.load()[1] == (2, 2 * HEAVY)
            work.go.set()
    assert work.started == work.ended == ["a", "b"]
    assert lanes.load() == [(0, 0), (0, 0)]


@pytest.mark.parametrize(("jobs", "cost"), [(3, 1), (2, 50)], ids=["jobs", "bytes"])
async def test_job_that_does_not_fit_is_refused_at_once_and_not_called(
    jobs: int, cost: int
) -> None:
    lanes = Offload(LIMITS)
    called: list[str] = []
    with working() as work:
        async with trio.open_nursery() as nursery:
            for number in range(jobs):
                nursery.start_soon(lanes.run, work.job(str(number)), cost)
            await until(lambda: lanes.load()[0] == (jobs, jobs * cost) and bool(work.started))
            with pytest.raises(Overloaded):
                await lanes.run(lambda pause: called.append("one too many"), 1)
            # Another lane is not full.
            assert len(work.started) == 1
            work.go.set()
    assert called == []
    assert len(work.ended) == jobs


async def test_single_job_is_taken_whatever_it_costs() -> None:
    assert await Offload(LIMITS).run(lambda pause: "done", 10**12) == "done"


async def test_job_that_waits_is_never_started_when_its_client_has_left() -> None:
    lanes = Offload(LIMITS)
    with working() as work:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lanes.run, work.job("first"), HEAVY)
            await until(lambda: work.started == ["first"])
            with trio.move_on_after(0.05):
                await lanes.run(work.job("left"), HEAVY)
            assert lanes.load()[1] == (1, HEAVY)
            work.go.set()
    assert work.started == ["first"]


async def test_job_that_runs_stops_at_its_next_pause_when_its_client_has_left() -> None:
    lanes = Offload(LIMITS)
    with working() as work:
        with trio.move_on_after(0.05):
            await lanes.run(work.job("left"), HEAVY)
        await until(lambda: work.ended == ["left"])
        assert not work.go.is_set()
        await until(lambda: lanes.load()[1] == (0, 0))


async def test_place_of_an_abandoned_job_is_free_only_when_its_thread_has_ended() -> None:
    lanes = Offload(LIMITS)
    release = threading.Event()
    with trio.move_on_after(0.05):
        await lanes.run(lambda pause: release.wait(10), HEAVY)  # knows no pause
    try:
        assert lanes.load()[1] == (1, HEAVY)
        with trio.move_on_after(0.05) as waiting:
            await lanes.run(lambda pause: None, HEAVY)
        assert waiting.cancelled_caught
    finally:
        release.set()
    await until(lambda: lanes.load()[1] == (0, 0))
    assert await lanes.run(lambda pause: "next", HEAVY) == "next"


async def test_what_is_large_is_copied_elsewhere_what_is_small_here() -> None:
    here = threading.get_ident()

    assert await offload.run_if_large(threading.get_ident, 1) == here
    assert await offload.run_if_large(threading.get_ident, 10**8) != here


async def test_virtual_clock_while_a_job_computes_stands_still(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with trio.fail_after(5):
        await offload.run(lambda pause: time.sleep(0.2), 100_000)
        await trio.to_thread.run_sync(time.sleep, 0.2)
        await trio.sleep(1)
