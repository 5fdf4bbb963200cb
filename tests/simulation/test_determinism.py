"""The simulation itself: one seed is one run, and its checkers can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from baoha import names
from baoha.ha.tenure import Tenure
from baoha.storage import lock_rules
from baoha.storage.base import Batch, Fence, LockRecord
from tests.support import scenario
from tests.support.checkers import DataChecker, StoreChecker, Verdict, Violation
from tests.support.seeded import GROUP, Freezer, run_seeded


def trace_of(seed: int) -> list[str]:
    """Play a seed and return everything that happened, with its times."""
    traces: list[list[str]] = []

    async def main(freezer: Freezer) -> None:
        async with trio.open_nursery() as nursery:
            sim = scenario.Simulation(
                freezer, nursery, seed=seed, nodes=3, timing=scenario.HATiming()
            )
            await scenario.Scenario(sim).run()
            traces.append([*sim.trace, str(sim.store_checker.epochs), str(sim.data.acknowledged)])
            freezer.after_step = lambda: None
            freezer.thaw_all()
            nursery.cancel_scope.cancel()

    run_seeded(main, seed)
    return traces[0]


@pytest.mark.simulation
def test_seed_played_twice_gives_the_same_trace() -> None:
    assert trace_of(7) == trace_of(7)


@pytest.mark.simulation
def test_seeds_that_differ_give_different_traces() -> None:
    assert trace_of(7) != trace_of(8)


def test_frozen_group_takes_no_step_and_goes_on_after_the_thaw() -> None:
    steps: list[float] = []

    async def main(freezer: Freezer) -> None:
        async def tick() -> None:
            GROUP.set("node")
            for _ in range(5):
                await trio.sleep(1)
                steps.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            await trio.sleep(2.5)
            freezer.freeze("node")
            await trio.sleep(10)
            freezer.thaw("node")

    run_seeded(main, 1)
    assert steps == [1, 2, 12.5, 13.5, 14.5]


def _any_seed_fails(seeds: range, faults: tuple[str, ...]) -> bool:
    for seed in seeds:
        try:
            scenario.play_seed(seed, faults=faults)
        except Violation:
            return True
    return False


def _gate_without_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe in the tenure until told otherwise, as OpenBao does."""
    monkeypatch.setattr(Tenure, "is_valid", lambda tenure: not tenure.cause)


def _store_without_fences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept every write."""
    monkeypatch.setattr(lock_rules, "fence_holds", lambda *args: True)


def _death_without_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evict a holder that is alive."""
    monkeypatch.setattr("baoha.storage.inmem.World.is_gone", lambda world, identity: True)


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("sabotage", "faults"),
    [
        (_gate_without_clock, ("suspend",)),
        (_store_without_fences, ("store silent",)),
        (_death_without_proof, ("pause", "partition")),
    ],
)
def test_sabotage_of_a_safety_rule_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Callable[[pytest.MonkeyPatch], None],
    faults: tuple[str, ...],
) -> None:
    """
    Goal: the checkers have teeth.

    Method: take one safety rule out, and play some seeds with the faults that the rule is for.
    """
    sabotage(monkeypatch)
    assert _any_seed_fails(range(1, 40), faults)


def test_store_checker_write_of_an_older_epoch_is_a_violation() -> None:
    verdict = Verdict()
    checker = StoreChecker(verdict)

    async def main(freezer: Freezer) -> None:
        for epoch, identity in ((1, "a"), (2, "b")):
            checker.dead.add("a")
            record = LockRecord(identity=identity, value="u", epoch=epoch, expires_in_s=6)
            checker.lock_changed(names.HA_LOCK, record, epoch)
        old = Fence(names.HA_LOCK, "a", 1)
        verdict.enforce()
        checker.applied(Batch(writes={"k": b"v"}, fence=old), old)
        with pytest.raises(Violation, match="epoch 1 landed in epoch 2"):
            verdict.enforce()

    run_seeded(main, 1)


def test_data_checker_lost_stale_and_refused_values_are_violations() -> None:
    checker = DataChecker()
    checker.trying("k", 1, "a")
    checker.acked("k", 1, "a")
    with pytest.raises(Violation, match="after 1 was acknowledged"):
        checker.read("k", 1, 0, None)
    checker.trying("k", 2, "b")
    checker.refused("k", 2, "b")
    with pytest.raises(Violation, match="was refused"):
        checker.read("k", 1, 2, "b")
    with pytest.raises(Violation, match="nobody wrote"):
        checker.read("k", 1, 2, "c")
