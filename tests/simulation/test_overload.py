"""
More is asked of a cluster than it can do: what the offered load costs, and what it must not cost.

The node's work is made by a store that does one thing at a time: a virtual clock has no CPU.
"""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from baoha.core.view import Role
from tests.simulation.test_scenarios import active_of, play, seconds_until_written, write
from tests.support.simulation import CallFailed, SimNode, Simulation

pytestmark = pytest.mark.simulation

# A KV write takes about two of these on the active node.
WORK_S = 0.005
# So the cluster does about 100 writes a second.
CAPACITY = 100


class Load:
    """Open-loop writes through all nodes: sent by the clock, whatever the answers are."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.answers: Counter[str] = Counter()
        self.slowest_s = 0.0

    async def run(self, per_second: int, seconds: float) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(int(per_second * seconds)):
                node = self._sim.nodes[number % len(self._sim.nodes)]
                nursery.start_soon(self._one, node, number)
                await trio.sleep(1 / per_second)

    async def _one(self, node: SimNode, number: int) -> None:
        began = trio.current_time()
        try:
            answer = await write(self._sim, node, str(number), key=f"load/{number}")
        except CallFailed as exc:
            self.answers[f"no answer: {exc}"] += 1
            return
        self.slowest_s = max(self.slowest_s, trio.current_time() - began)
        if answer.status == 503 and "not executed" in str(answer.body):
            self.answers["refused"] += 1
        else:
            self.answers[str(answer.status)] += 1


def slow_down(sim: Simulation, work_s: float) -> None:
    for node in sim.nodes:
        assert node.data is not None
        node.data.work_s = work_s


def active_epochs(sim: Simulation) -> list[int]:
    return [
        node.node.status().epoch
        for node in sim.nodes
        if node.node is not None and node.node.status().role is Role.ACTIVE
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_overload_costs_no_tenure_and_no_time_and_ends_with_the_load(seed: int) -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        slow_down(sim, WORK_S)
        before = active_epochs(sim)
        load = Load(sim)
        await load.run(4 * CAPACITY, 6.0)
        assert set(load.answers) == {"200", "refused"}, load.answers
        assert load.answers["200"] > 0.9 * CAPACITY * 6.0
        assert load.slowest_s <= 1.5
        assert active_epochs(sim) == before
        # As before, at once.
        slow_down(sim, 0.0)
        for node in sim.nodes:
            assert await seconds_until_written(sim, node) < 0.1

    play(script, seed=seed)


@pytest.mark.parametrize("seed", [1, 2])
def test_step_down_in_an_overload_fails_nobody_who_was_let_in(seed: int) -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        slow_down(sim, WORK_S)
        load = Load(sim)
        took_s = 0.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run, 4 * CAPACITY, 6.0)
            await trio.sleep(3.0)
            began = trio.current_time()
            answer = await sim.call(active, "PUT", "/v1/sys/step-down")
            took_s = trio.current_time() - began
        assert answer.status == 204
        assert took_s <= 1.0
        assert active_of(sim) is not active
        assert set(load.answers) == {"200", "refused"}, load.answers
        assert load.slowest_s <= 2.0

    play(script, seed=seed)


def test_overload_from_one_address_leaves_the_others_their_answers() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        slow_down(sim, WORK_S)
        load = Load(sim)
        waits_s: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run, 4 * CAPACITY, 4.0)
            await trio.sleep(1.0)
            for number in range(10):
                began = trio.current_time()
                answer = await sim.call(
                    standbys[0], "GET", "/v1/secret/data/none", client="10.0.0.2"
                )
                assert answer.status == 404, (number, answer)
                waits_s.append(trio.current_time() - began)
                await trio.sleep(0.2)
        assert max(waits_s) <= 1.0

    play(script)
