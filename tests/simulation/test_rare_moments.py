"""
Rare moments, told one by one: each was found by asking "what if it happens exactly then?".

Most of them are races between a planned change and something else. ``play`` and its helpers are
those of ``test_scenarios.py``.
"""

from __future__ import annotations

import pytest
import trio

from baoha.cluster.channel import LeaderNotice
from baoha.core.view import Role
from baoha.node import Node
from baoha.sansio.ha_state import Phase
from tests.simulation.test_scenarios import (
    TIMING,
    active_of,
    play,
    seconds_until_written,
    stop_process,
    until_all_answer,
    write,
)
from tests.support.simulation import SimNode, Simulation

pytestmark = pytest.mark.simulation


def node_of(place: SimNode) -> Node:
    """Return the running node of a place."""
    assert place.node is not None
    return place.node


async def until_phase(place: SimNode, phase: Phase) -> None:
    """Wait until a node is in a phase."""
    node = node_of(place)
    with trio.fail_after(30):
        while node.inspect().phase is not phase:
            await node.wait_change(node.status())


async def drain_slowly(sim: Simulation, active: SimNode) -> None:
    """Keep a write inside the active node for longer than the drain limit."""
    active.faults.op_timeout_s = 5.0
    active.faults.latency_s = 3.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, sim, active, "slow", "slow")
        await trio.sleep(0.01)
        active.faults.latency_s = 0.0


def test_successor_that_stops_during_the_drain_gives_the_lock_on() -> None:
    """
    Goal: a lock that is passed to a node which contends no more is not left lying for its ttl.

    Method: the successor has said that it is prepared; while the active node drains, it is stopped.
    """

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        chosen, other = standbys
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_slowly, sim, active)
            await trio.sleep(0.1)
            body = {"to": f"http://{chosen.name}:8200"}
            nursery.start_soon(sim.call, active, "PUT", "/v1/sys/step-down", body)
            await until_phase(active, Phase.LEAVING)
            await node_of(chosen).leave()
            assert await seconds_until_written(sim, other) < TIMING.drain_s + 0.5
        assert active_of(sim) is not chosen

    play(script)


@pytest.mark.parametrize("after_s", [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75])
def test_node_that_is_stopped_while_it_acquires_does_not_become_active(after_s: float) -> None:
    """
    Goal: "leave" at any moment of taking over ends with a node that only forwards.

    Method: a slow store stretches the moments; the node is stopped in each of them.
    """

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        chosen, other = standbys
        chosen.faults.latency_s = chosen.faults.reply_latency_s = 0.1
        answered = trio.Event()

        async def step_down() -> None:
            body = {"to": f"http://{chosen.name}:8200"}
            answer = await sim.call(other, "PUT", "/v1/sys/step-down", body)
            # Stopped before it was ready, the chosen node has given the lock on to another one.
            if answer.status != 204:
                assert answer.status == 503
                assert "taken it up and not kept it" in answer.body["errors"][0]
            answered.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(step_down)
            await until_phase(active, Phase.LEAVING)
            await trio.sleep(after_s)
            await node_of(chosen).leave()
            assert node_of(chosen).status().role is Role.STANDBY
            chosen.faults.heal()
            for _ in range(100):
                await trio.sleep(0.05)
                assert node_of(chosen).status().role is Role.STANDBY
            assert (await write(sim, chosen, "x")).status == 200

    play(script)


def test_forced_step_down_leaves_a_free_lock_to_others_in_every_tenure() -> None:
    """
    Goal: the node that left does not race for the lock, however it had got it.

    Method: nobody is connected, so nobody is prepared; the others see the lock in the store.
    """

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        await trio.sleep(20)
        for node in standbys:
            sim.hub.block(node.name, active.name)
            sim.hub.block(active.name, node.name)
            node.faults.latency_s = 0.05
        await trio.sleep(3)
        answer = await sim.call(active, "PUT", "/v1/sys/step-down", {"force": True})
        assert answer.status == 204
        await trio.sleep(1.0)
        assert active_of(sim) is not active

    play(script)


def test_notice_of_a_former_leader_that_comes_late_is_ignored() -> None:
    """Goal: requests are not parked for ever by news of yesterday."""

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        standby = standbys[0]
        loop = node_of(standby).inspect().loop
        assert loop is not None
        epoch = node_of(active).status().epoch
        body = {"to": f"http://{standbys[1].name}:8200"}
        assert (await sim.call(active, "PUT", "/v1/sys/step-down", body)).status == 204
        await until_all_answer(sim)
        loop.standby.leader_notice(LeaderNotice(phase="leaving", epoch=epoch))
        began = trio.current_time()
        assert (await write(sim, standby, "x")).status == 200
        assert trio.current_time() - began < 0.1

    play(script)


@pytest.mark.parametrize("seed", range(4))
def test_step_down_whose_last_write_is_fenced_off_is_carried_out_once(seed: int) -> None:
    """
    Goal: what was asked once happens once.

    Method: a write outlives the drain and meets its fence after the lock was passed on, and before
    the store has said so: the tenure ends by that write, not by the hand-over.
    """

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        epochs = len(sim.store_checker.epochs)
        await write(sim, active, "first", "slow")  # caches are warm: a write is a read and a write
        async with trio.open_nursery() as nursery:
            active.faults.op_timeout_s = 5.0
            active.faults.latency_s = 2.3
            nursery.start_soon(write, sim, active, "slow", "slow")
            await trio.sleep(2.31)  # it has read, and its write is on the way
            active.faults.latency_s = 0.0
            active.faults.reply_latency_s = 0.5
            answer = await sim.call(active, "PUT", "/v1/sys/step-down")
            assert answer.status == 204
        active.faults.heal()
        await trio.sleep(2)
        # The lock was passed on, and acquired by the successor.
        assert len(sim.store_checker.epochs) == epochs + 2

    play(script, seed=seed)


@pytest.mark.parametrize("stop", ["pause", "suspend"])
def test_stopped_active_node_does_not_call_itself_active_afterwards(stop: str) -> None:
    """Goal: a load balancer's question that waited in the socket is not answered from the past."""

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await sim.call(active, "GET", "/v1/sys/health")).status)

        stop_process(sim, active, stop)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)
            await seconds_until_written(sim, standbys[0])
            await trio.sleep(4)
            sim.resume(active)
        assert statuses == [429] * 10

    play(script)


def test_sealed_node_that_is_unsealed_while_it_stops_does_not_contend() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        assert (await sim.call(active, "PUT", "/v1/sys/seal")).status == 204
        await until_all_answer_but(sim, active)
        await node_of(active).leave()
        await sim.unseal(active)
        for node in standbys:
            sim.crash(node)
        for _ in range(100):
            await trio.sleep(0.1)
            assert node_of(active).status().role is Role.STANDBY

    play(script)


async def until_all_answer_but(sim: Simulation, left_out: SimNode) -> None:
    for node in sim.nodes:
        if node is not left_out:
            await seconds_until_written(sim, node)


def test_frozen_standby_does_not_delay_a_node_that_becomes_active_again() -> None:
    """
    Goal: the last words to a peer that does not listen hold nobody up.

    Method: step down twice in a row, there and back, while the third node is stopped.
    """

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        chosen, frozen = standbys
        sim.pause(frozen)
        body = {"to": f"http://{chosen.name}:8200"}
        assert (await sim.call(active, "PUT", "/v1/sys/step-down", body)).status == 204
        await seconds_until_written(sim, active)
        body = {"to": f"http://{active.name}:8200"}
        assert (await sim.call(chosen, "PUT", "/v1/sys/step-down", body)).status == 204
        assert await seconds_until_written(sim, chosen) < 0.5
        assert active_of(sim) is active
        sim.resume(frozen)

    play(script)
