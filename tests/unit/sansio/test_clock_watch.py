"""The wall clock is believed or not: tables of looks at both clocks."""

from __future__ import annotations

import pytest

from baoha.sansio.clock_watch import JUMP_S, STEADY_S, ClockWatch

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def looks(*steps: tuple[float, float]) -> list[bool]:
    """Return the verdicts after steps of (seconds that pass, jump of the wall clock)."""
    wall_s = boot_s = 1000.0
    watch = ClockWatch(wall_s, boot_s)
    verdicts = []
    for passed_s, jump_s in steps:
        boot_s += passed_s
        wall_s += passed_s + jump_s
        verdicts.append(watch.is_steady(wall_s, boot_s))
    return verdicts


@pytest.mark.parametrize("jump_s", [0.0, 1.0, -1.0, JUMP_S, -JUMP_S])
def test_clock_that_is_set_a_little_is_believed(jump_s: float) -> None:
    assert looks((MINUTE, jump_s), (MINUTE, 0), (MINUTE, jump_s)) == [True, True, True]


def test_clock_that_drifts_is_believed_however_far_it_gets() -> None:
    assert all(looks(*[(MINUTE, 50.0)] * 100))


@pytest.mark.parametrize("jump_s", [MINUTE + 1, -MINUTE - 1, HOUR, -HOUR, DAY, -DAY])
def test_clock_that_jumps_and_comes_back_is_not_believed_in_between(jump_s: float) -> None:
    steps = [(MINUTE, jump_s), (MINUTE, 0), (MINUTE, -jump_s), (MINUTE, 0)]
    assert looks(*steps) == [False, False, True, True]


@pytest.mark.parametrize("jump_s", [2 * MINUTE, -HOUR, DAY])
def test_clock_that_jumps_and_stays_is_believed_after_an_hour(jump_s: float) -> None:
    rounds = int(STEADY_S / MINUTE)
    verdicts = looks((MINUTE, jump_s), *[(MINUTE, 0)] * (rounds + 1))
    assert verdicts == [False] * rounds + [True, True]


def test_clock_that_jumps_again_is_not_believed_for_another_hour() -> None:
    half = STEADY_S / 2
    steps = [(MINUTE, HOUR), (half, 0), (1, DAY), (half, 0), (half - 1, 0), (1, 0)]
    assert looks(*steps) == [False, False, False, False, False, True]


def test_suspended_machine_both_clocks_go_on_and_nothing_jumps() -> None:
    assert looks((DAY, 0.0)) == [True]
