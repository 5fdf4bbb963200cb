"""Admission by queueing delay: the pure lanes, and the tasks that wait in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from baoha.api.admission import Admission, NotLetIn, RequestKind
from baoha.sansio.admission import AdmissionLane, AdmissionLimits, ConcurrencyLimit, DelayGuard
from tests.support.held import held

TWO_PLACES = AdmissionLimits(places_min=2, places_max=2)


def lane(limits: AdmissionLimits = TWO_PLACES) -> AdmissionLane[int]:
    return AdmissionLane(limits)


def crowded_lane(waiting: int, *, address: str = "a", now: float = 0.0) -> AdmissionLane[int]:
    """Two run since ``now``, the rest waits."""
    made = lane()
    for number in range(2 + waiting):
        made.enter(number, address, now)
    return made


# --- those who are on their way ---------------------------------------------------------------


def test_lane_newcomers_of_one_moment_are_counted_before_they_are_seen() -> None:
    """Two places, half a second each: 0.3 s of waiting are one request, however many come."""
    made = lane()
    made.limit.typical_s = 0.5
    let_in = 0
    for _ in range(100):
        if not made.refuses("a", 0.0, is_here=False):
            made.announce(0.0)
            let_in += 1
    assert let_in == 2 + 1


def test_lane_announced_who_do_not_come_are_forgotten() -> None:
    made = lane()
    made.limit.typical_s = 0.5
    for _ in range(3):
        made.announce(0.0)
    assert made.refuses("a", 0.1, is_here=False)
    assert not made.refuses("a", 0.3, is_here=False)


def test_lane_announced_who_arrive_are_counted_once() -> None:
    made = lane()
    made.limit.typical_s = 0.5
    for number in range(2):
        made.announce(0.0)
        made.arrive()
        assert made.enter(number, "a", 0.0)
    assert not made.refuses("a", 0.0, is_here=False)  # the first to wait


def test_lane_newcomer_that_is_here_is_not_behind_those_who_are_not() -> None:
    made = lane()
    made.limit.typical_s = 0.5
    for _ in range(100):
        made.announce(0.0)
    assert not made.refuses("a", 0.0)


def test_lane_arrival_without_announcement_is_no_error() -> None:
    made = lane()
    made.arrive()
    assert not made.refuses("a", 0.0)


# --- the limit of concurrency -----------------------------------------------------------------


def grown(limit: ConcurrencyLimit, took_s: float, running: int, *, rounds: int = 4000) -> int:
    for number in range(rounds):
        limit.note(took_s, running, number / 10_000)
    return limit.places


def test_limit_requests_that_do_not_wait_for_each_other_are_let_grow() -> None:
    # A slow disk: each takes 300 ms, however many there are.
    assert grown(ConcurrencyLimit(4, 64), 0.3, 64) >= 63


def test_limit_requests_that_wait_for_each_other_shrinks_to_its_least() -> None:
    limit = ConcurrencyLimit(4, 64)
    grown(limit, 0.002, 1)
    assert grown(limit, 0.2, 32) == 4


def test_limit_idle_lane_learns_nothing() -> None:
    limit = ConcurrencyLimit(4, 64)
    before = limit.places
    assert grown(limit, 0.002, 1) == before


def test_limit_machine_that_became_slower_is_measured_anew() -> None:
    limit = ConcurrencyLimit(4, 64)
    limit.note(0.001, 8, 0.0)
    for number in range(4000):
        limit.note(0.1, 32, 1 + number / 100)
    assert limit.places > 30


# --- the guard --------------------------------------------------------------------------------


def test_guard_short_burst_is_waited_out() -> None:
    guard = DelayGuard(0.3)
    for now in (0.0, 0.1, 0.29):
        guard.observe(0.5, 0.2, now)
    assert not guard.is_shedding


def test_guard_standing_queue_sheds_until_it_was_short_for_an_interval() -> None:
    guard = DelayGuard(0.3)
    guard.observe(0.5, 0.2, 0.0)
    guard.observe(0.5, 0.2, 0.31)
    assert guard.is_shedding
    guard.observe(0.1, 0.2, 0.4)
    guard.observe(0.1, 0.2, 0.6)
    assert guard.is_shedding
    guard.observe(0.1, 0.2, 0.71)
    assert not guard.is_shedding


def test_guard_queue_that_is_short_now_and_then_does_not_shed() -> None:
    guard = DelayGuard(0.3)
    for tenth in range(50):
        guard.observe(0.1 if tenth % 3 == 0 else 0.5, 0.2, tenth / 10)
    assert not guard.is_shedding


# --- lanes ------------------------------------------------------------------------------------


def test_lane_with_places_lets_everybody_in_at_once() -> None:
    made = lane()
    assert made.enter(1, "a", 0.0)
    assert made.enter(2, "a", 0.0)
    assert not made.enter(3, "a", 0.0)
    assert (made.running, made.waiting, made.is_contended) == (2, 1, True)


def test_lane_place_that_comes_free_goes_to_who_has_waited_longest() -> None:
    made = crowded_lane(3)
    assert made.leave(0, 0.1) == [2]
    assert made.leave(1, 0.1) == [3]


def test_lane_places_go_round_the_addresses() -> None:
    made = crowded_lane(5, address="crowd")
    made.enter(100, "single", 0.0)
    served = [made.leave(gone, 0.1)[0] for gone in (0, 1)]
    assert 100 in served


def test_lane_who_returns_goes_first_and_is_never_refused() -> None:
    made = crowded_lane(5)
    made.enter(100, "a", 0.2, returning=True)
    assert made.leave(0, 0.3) == [100]


def test_lane_standing_queue_refuses_newcomers_of_its_address_and_no_other() -> None:
    made = crowded_lane(40)
    running, verdicts = [0, 1], []
    for tenth in range(3, 12):  # ten a second come to their end
        now = tenth / 10
        running += made.leave(running.pop(0), now)
        verdicts.append(made.refuses("a", now))
    assert verdicts[-1]
    assert not made.refuses("b", 1.1)


def test_lane_that_stands_still_refuses_nobody() -> None:
    made = crowded_lane(5)
    assert made.is_stalled(2.0)
    assert not any(made.refuses("a", now) for now in (0.6, 0.9, 1.5, 3.0))
    made.leave(0, 3.0)
    assert not made.is_stalled(3.1)


def test_lane_queue_that_cannot_be_served_in_time_is_not_joined() -> None:
    made = lane()
    for number in range(100):  # each takes 100 ms: twenty a second
        made.enter(number, "a", number / 10)
        made.leave(number, number / 10 + 0.1)
    for number in range(40):
        made.enter(number, "a", 20.0)
    assert made.refuses("a", 20.0)


def test_lane_full_makes_room_at_the_longest_queue() -> None:
    made = lane(AdmissionLimits(places_min=1, places_max=1, waiting_max=4))
    for number in range(5):
        made.enter(number, "crowd", 0.0)
    assert made.refuses("crowd", 0.0)
    assert not made.refuses("single", 0.0)
    made.enter(100, "single", 0.0)
    assert made.displaced() == 4
    assert made.waiting == 4


def test_lane_request_that_runs_for_long_keeps_nobody_out() -> None:
    made = crowded_lane(2)
    assert made.reclaim(0.5) == []
    assert made.reclaim(1.5) == [2, 3]
    assert made.running == 4
    assert made.leave(0, 9.0) == []
    assert made.running == 3


def test_lane_who_leaves_the_queue_is_not_served() -> None:
    made = crowded_lane(2)
    made.withdraw(2, "a", 0.1)
    assert made.leave(0, 0.2) == [3]
    assert made.waiting == 0


def test_lane_quiet_addresses_are_forgotten_in_the_end() -> None:
    made = crowded_lane(1)
    for number in range(5000):
        waiter, address = 1000 + number, f"10.0.{number // 256}.{number % 256}"
        made.enter(waiter, address, 0.0)
        made.withdraw(waiter, address, 0.0)
    assert made.waiting == 1
    assert len(held(made, DelayGuard)) <= 1024 + 1  # and that of the one that waits


class Model:
    """A lane driven by random steps: who is where, beside what the lane says."""

    def __init__(self) -> None:
        self.lane: AdmissionLane[int] = AdmissionLane(
            AdmissionLimits(places_min=2, places_max=4, waiting_max=6, long_max=3)
        )
        self.now = 0.0
        self.inside: set[int] = set()
        self.queued: dict[int, str] = {}
        self.numbers: Iterator[int] = count()

    def served(self, waiters: list[int]) -> None:
        for waiter in waiters:
            assert waiter in self.queued, "only who waits is served"
            del self.queued[waiter]
            self.inside.add(waiter)

    def arrive(self, address: str, *, returning: bool) -> None:
        if not returning and self.lane.refuses(address, self.now):
            return
        waiter = next(self.numbers)
        if self.lane.enter(waiter, address, self.now, returning=returning):
            self.inside.add(waiter)
            return
        self.queued[waiter] = address
        displaced = self.lane.displaced()
        if displaced is not None:
            del self.queued[displaced]

    def leave(self) -> None:
        if self.inside:
            waiter = self.inside.pop()
            self.served(self.lane.leave(waiter, self.now))

    def give_up(self) -> None:
        if self.queued:
            waiter, address = self.queued.popitem()
            self.served(self.lane.withdraw(waiter, address, self.now))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "return", "leave", "give up"]),
        st.sampled_from("abc"),
        st.floats(0, 0.6),
    ),
    max_size=80,
)


@given(STEPS)
def test_lane_any_history_loses_nobody_and_serves_nobody_twice(
    steps: list[tuple[str, str, float]],
) -> None:
    model = Model()
    for step, address, pause in steps:
        model.now += pause
        if step == "leave":
            model.leave()
        elif step == "give up":
            model.give_up()
        else:
            model.arrive(address, returning=step == "return")
        made = model.lane
        assert made.running == len(model.inside)
        assert made.waiting + made.backlog == len(model.queued)
        assert made.waiting <= made.limits.waiting_max
    while model.inside:
        model.leave()
    assert not model.queued, "whoever waits is served when the others have left"


# --- tasks that wait --------------------------------------------------------------------------


async def test_admission_work_of_a_place_is_done_and_the_place_given_back() -> None:
    admission = Admission()

    async def work() -> int:
        assert admission.lanes[RequestKind.READ].running == 1
        return 7

    assert await admission.run(RequestKind.READ, "a", work) == 7
    assert admission.lanes[RequestKind.READ].running == 0


async def test_admission_crowd_is_refused_in_time_and_those_let_in_are_served(
    autojump_clock: MockClock,
) -> None:
    """A hundred times what can be done: everybody has an answer within a second or so."""
    admission = Admission()
    counts: Counter[str] = Counter()
    slowest_s = 0.0

    async def work() -> str:
        await trio.sleep(0.2)
        return "an answer"

    async def one() -> None:
        nonlocal slowest_s
        began = trio.current_time()
        try:
            await admission.run(RequestKind.WRITE, "a", work)
            counts["served"] += 1
        except NotLetIn:
            counts["refused"] += 1
        slowest_s = max(slowest_s, trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(500):
            nursery.start_soon(one)
            await trio.sleep(0.002)
    assert counts["served"] + counts["refused"] == 500
    assert counts["refused"] > 300
    assert counts["served"] >= 20
    assert slowest_s <= 1.0
    assert all(lane.running == lane.waiting == 0 for lane in admission.lanes.values())


async def test_admission_who_was_let_in_before_waits_to_its_own_deadline(
    autojump_clock: MockClock,
) -> None:
    admission = Admission()
    began = trio.current_time()
    waited_s: list[float] = []

    async def returning() -> None:
        waited_s.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(admission.run, RequestKind.STRANGER, "a", trio.sleep_forever)
        await wait_all_tasks_blocked()
        await admission.run(RequestKind.STRANGER, "a", returning, returning_until=began + 8)
        nursery.cancel_scope.cancel()
    assert waited_s[0] > 1.0


@pytest.mark.parametrize("granted", [False, True])
async def test_admission_who_leaves_while_waiting_takes_no_place_along(
    granted: bool, autojump_clock: MockClock
) -> None:
    admission = Admission()
    release = trio.Event()

    async def hold() -> None:
        await release.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(admission.run, RequestKind.STRANGER, "a", hold)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as waiting:
                waiting.start_soon(
                    admission.run, RequestKind.STRANGER, "a", trio.lowlevel.checkpoint
                )
                await wait_all_tasks_blocked()
                if granted:
                    release.set()
                scope.cancel()
        release.set()
    assert admission.lanes[RequestKind.STRANGER].running == 0
    assert admission.lanes[RequestKind.STRANGER].waiting == 0


async def test_admission_lane_that_stands_still_refuses_nobody_until_it_has_for_long(
    autojump_clock: MockClock,
) -> None:
    """A peer that is frozen for two seconds is no overload: whoever came meanwhile is served."""
    admission = Admission()
    thawed = trio.Event()
    counts: Counter[str] = Counter()

    async def one() -> None:
        try:
            await admission.run(RequestKind.WRITE, "a", thawed.wait)
            counts["served"] += 1
        except NotLetIn:
            counts["refused"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(one)
            await trio.sleep(0.033)
        thawed.set()
    assert counts == {"served": 60}


async def test_admission_lane_that_stands_still_for_ever_refuses_in_the_end(
    autojump_clock: MockClock,
) -> None:
    admission = Admission()
    async with trio.open_nursery() as nursery:
        for _ in range(2 + 16):
            nursery.start_soon(admission.run, RequestKind.STRANGER, "a", trio.sleep_forever)
            await trio.sleep(1.1)
        began = trio.current_time()
        with pytest.raises(NotLetIn):
            await admission.run(RequestKind.STRANGER, "a", trio.lowlevel.checkpoint)
        assert trio.current_time() - began == pytest.approx(5.0, abs=0.2)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("result", "typical_s"),
    [("an answer", 0.1), (None, 0.0)],
    ids=["answer counts", "what came to nothing does not"],
)
async def test_admission_time_of_execution_is_learnt_from_answers(
    result: str | None, typical_s: float, autojump_clock: MockClock
) -> None:
    """Whoever was on its way to a node that left tells how long a change of leader takes."""
    admission = Admission()

    async def work() -> str | None:
        await trio.sleep(1.0)
        return result

    await admission.run(RequestKind.WRITE, "a", work)
    assert admission.lanes[RequestKind.WRITE].limit.typical_s == pytest.approx(typical_s)


async def test_admission_node_that_executes_has_changed_meanwhile_teaches_nothing(
    autojump_clock: MockClock,
) -> None:
    admission = Admission()
    admission.executes("https://a:8200")

    async def work() -> str:
        await trio.sleep(1.0)
        return "an answer"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(admission.run, RequestKind.WRITE, "a", work)
        await trio.sleep(0.5)
        admission.executes("https://b:8200")
    assert admission.lanes[RequestKind.WRITE].limit.typical_s == 0.0
    await admission.run(RequestKind.WRITE, "a", work)
    assert admission.lanes[RequestKind.WRITE].limit.typical_s > 0.0


async def test_admission_address_that_asked_for_too_much_parks_only_so_many(
    autojump_clock: MockClock,
) -> None:
    """What waits for the next active node is asked of it at once, and it may be the slower one."""
    admission = Admission()
    least = admission.lanes[RequestKind.READ].limits.places_min
    admission.lanes[RequestKind.READ].limit.places = 64  # many, as long as this node executes
    admission.press("a")
    with ExitStack() as parked:
        for _ in range(least):
            assert not admission.refuses(RequestKind.READ, "a", is_here=False)
            parked.enter_context(admission.parked(RequestKind.READ, "a", is_new=True))
        assert admission.refuses(RequestKind.READ, "a", is_here=False)
        assert admission.refuses(RequestKind.READ, "a")
        with pytest.raises(NotLetIn):
            parked.enter_context(admission.parked(RequestKind.READ, "a", is_new=True))
        # Who was let in before, and whoever pressed nobody, waits all the same.
        parked.enter_context(admission.parked(RequestKind.READ, "a", is_new=False))
        parked.enter_context(admission.parked(RequestKind.READ, "b", is_new=True))
    assert not admission.refuses(RequestKind.READ, "a")
