"""Lanes: small items pass large ones, the bounds hold, and everybody gets in at last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from baoha.sansio.wire.lanes import Lane, Lanes

LANES = (Lane(10, 100, 8), Lane(100, 300, 4), Lane(1000, 600, 2))


class Rig:
    def __init__(self, count_max: int = 12) -> None:
        self.entered: list[int] = []
        self.lanes: Lanes[int] = Lanes(LANES, count_max=count_max, enter=self.entered.append)


def test_small_item_passes_large_ones_that_wait() -> None:
    rig = Rig()
    for item in range(5):
        rig.lanes.ask(item, 500)
    rig.lanes.ask(10, 50)
    rig.lanes.ask(11, 5)
    assert rig.entered == [0, 10, 11]
    rig.lanes.leave(0)
    assert rig.entered == [0, 10, 11, 1]


def test_items_of_one_lane_keep_their_order() -> None:
    rig = Rig()
    rig.lanes.ask(0, 400)
    rig.lanes.ask(1, 500)
    rig.lanes.ask(2, 150)
    assert rig.entered == [0]
    rig.lanes.leave(1)
    assert rig.entered == [0, 2]


def test_item_above_everything_gets_in_alone() -> None:
    rig = Rig()
    rig.lanes.ask(0, 10_000)
    rig.lanes.ask(1, 101)
    assert rig.entered == [0]
    rig.lanes.leave(0)
    assert rig.entered == [0, 1]


def test_free_places_go_round_the_lanes() -> None:
    rig = Rig(count_max=1)
    for item, size in enumerate((5, 5, 5, 50, 50, 500)):
        rig.lanes.ask(item, size)
    for _ in range(5):
        rig.lanes.leave(rig.entered[-1])
    assert rig.entered == [0, 3, 5, 1, 4, 2]


def test_count_of_items_leaving_from_anywhere_or_twice_is_right() -> None:
    rig = Rig()
    rig.lanes.ask(0, 500)
    rig.lanes.ask(1, 500)
    rig.lanes.ask(2, 5)
    assert len(rig.lanes) == 3
    rig.lanes.leave(1)
    assert len(rig.lanes) == 2
    for _ in range(2):
        rig.lanes.leave(0)
        assert len(rig.lanes) == 1
    rig.lanes.leave(7)
    assert [item in rig.lanes for item in range(3)] == [False, False, True]


def test_closed_lanes_let_nobody_in() -> None:
    rig = Rig()
    rig.lanes.ask(0, 500)
    rig.lanes.ask(1, 500)
    rig.lanes.is_closed = True
    rig.lanes.leave(0)
    rig.lanes.ask(2, 1)
    assert (rig.entered, rig.lanes.waiting(), len(rig.lanes)) == ([0], [2, 1], 2)


@given(st.lists(st.integers(0, 2000), max_size=60), st.integers(1, 12), st.randoms())
def test_any_order_of_coming_and_going_ends_with_everybody_served(
    sizes: list[int], count_max: int, random: object
) -> None:
    rig = Rig(count_max)
    left: set[int] = set()
    for item, size in enumerate(sizes):
        rig.lanes.ask(item, size)
        inside = [other for other in rig.entered if other not in left]
        assert len(inside) <= count_max
        for lane in LANES:
            mine = [sizes[other] for other in inside if _lane(sizes[other]) is lane]
            assert len(mine) <= lane.count_max
            assert len(mine) <= 1 or sum(mine) <= lane.bytes_max
        if inside and random.random() < 0.4:  # type: ignore[attr-defined]
            leaving = random.choice(inside)  # type: ignore[attr-defined]
            left.add(leaving)
            rig.lanes.leave(leaving)
    while inside := [other for other in rig.entered if other not in left]:
        left.add(inside[0])
        rig.lanes.leave(inside[0])
    assert sorted(rig.entered) == list(range(len(sizes)))
    assert (len(rig.lanes), rig.lanes.inside_bytes) == (0, 0)


def _lane(size: int) -> Lane:
    return next((lane for lane in LANES if size <= lane.item_bytes_max), LANES[-1])
