"""
Single faults, told one by one: what each looks like to clients, and for how long.

Virtual seconds are exact, so the promises of docs/failover.md are asserted as numbers here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from baoha.core.view import Role
from baoha.timing import HATiming
from tests.support.checkers import Violation
from tests.support.seeded import Freezer, run_seeded
from tests.support.simulation import Answer, CallFailed, SimNode, Simulation

pytestmark = pytest.mark.simulation

TIMING = HATiming()
Script = Callable[[Simulation, SimNode, list[SimNode]], Awaitable[None]]


def play(script: Script, *, seed: int = 1, timing: HATiming = TIMING) -> None:
    """Run a script on a healthy three-node cluster: (simulation, active node, standbys)."""

    async def main(freezer: Freezer) -> None:
        async with trio.open_nursery() as nursery:
            sim = Simulation(freezer, nursery, seed=seed, nodes=3, timing=timing)
            sim.verdict.on_violation = nursery.cancel_scope.cancel
            try:
                await sim.start_cluster()
                await until_all_answer(sim)
                active = active_of(sim)
                await script(sim, active, [node for node in sim.nodes if node is not active])
            finally:
                freezer.after_step = lambda: None
                freezer.thaw_all()
            nursery.cancel_scope.cancel()
        sim.verdict.enforce()

    run_seeded(main, seed)


def active_of(sim: Simulation) -> SimNode:
    """Return the one node whose role is active, the stopped ones aside."""
    (active,) = [
        node
        for node in sim.nodes
        if node.node is not None and not node.paused and node.node.status().role is Role.ACTIVE
    ]
    return active


async def write(sim: Simulation, node: SimNode, value: str, key: str = "k") -> Answer:
    return await sim.call(node, "POST", f"/v1/secret/data/{key}", {"data": {"v": value}})


async def read(sim: Simulation, node: SimNode, key: str = "k") -> str:
    answer = await sim.call(node, "GET", f"/v1/secret/data/{key}")
    assert answer.status == 200, answer
    return str(answer.body["data"]["data"]["v"])


def stop_process(sim: Simulation, node: SimNode, how: str) -> None:
    """Stop a process until it is resumed ("pause"), or with its whole host ("suspend")."""
    if how == "pause":
        sim.pause(node)
    else:
        sim.suspend(node, 12)


async def until_all_answer(sim: Simulation) -> None:
    with trio.fail_after(15):
        for node in sim.nodes:
            if not node.paused and node.alive:
                while True:
                    if (await sim.call(node, "GET", "/v1/sys/ha-status")).status == 200:
                        break
                    await trio.sleep(0.01)


async def seconds_until_written(sim: Simulation, node: SimNode) -> float:
    began = trio.current_time()
    with trio.fail_after(60):
        while True:
            try:
                if (await write(sim, node, "after", key="gap")).status == 200:
                    return trio.current_time() - began
            except CallFailed:
                pass
            await trio.sleep(0.01)


def test_crash_of_the_active_node_is_replaced_at_once() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        assert (await write(sim, standbys[0], "before")).status == 200
        sim.crash(active)
        for node in standbys:
            assert await seconds_until_written(sim, node) < 1.0
        assert await read(sim, standbys[1]) == "before"

    play(script)


def test_loss_of_the_active_host_is_waited_for_until_the_ttl() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        await write(sim, standbys[0], "before")
        sim.pause(active)
        sim.hub.isolate(active.name)
        gap_s = await seconds_until_written(sim, standbys[0])
        assert 3.0 < gap_s <= TIMING.lock_ttl_s + 1
        assert await read(sim, standbys[1]) == "before"

    play(script)


@pytest.mark.parametrize("stop", ["pause", "suspend"])
def test_stopped_active_node_answers_nothing_from_the_past(stop: str) -> None:
    """
    Goal: no stale answer after SIGCONT, or after a suspend that trio's clock does not know of.

    Method: requests wait in the stopped node's sockets while another node takes over and writes.
    """

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        await write(sim, standbys[0], "old")
        answers: list[str] = []

        async def reader() -> None:
            answers.append(await read(sim, active))

        stop_process(sim, active, stop)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(reader)
            await seconds_until_written(sim, standbys[0])
            assert (await write(sim, standbys[0], "new")).status == 200
            await trio.sleep(12 - (trio.current_time() % 1))
            sim.resume(active)
        assert answers == ["new"] * 5

    play(script)


def test_stale_answer_is_noticed_when_the_gate_does_not_ask_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: the test above has teeth. Method: take the gate's clock away."""
    from baoha.ha.tenure import Tenure

    monkeypatch.setattr(Tenure, "is_valid", lambda tenure: not tenure.cause)
    monkeypatch.setattr(Tenure, "end_if_overdue", lambda tenure: None)
    with pytest.raises(Violation, match="two nodes would answer"):
        test_stopped_active_node_answers_nothing_from_the_past("suspend")


def test_step_down_under_load_fails_no_request() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        statuses: list[int] = []
        stop = False

        async def client(node: SimNode, number: int) -> None:
            while not stop:
                statuses.append((await write(sim, node, "x", key=f"c{number}")).status)
                await trio.sleep(0.003)

        async with trio.open_nursery() as nursery:
            for number, node in enumerate(sim.nodes * 2):
                nursery.start_soon(client, node, number)
            for _ in range(10):
                await trio.sleep(0.5)
                through = sim.random.choice(sim.nodes)
                answer = await sim.call(through, "PUT", "/v1/sys/step-down")
                assert answer.status == 204, answer
            stop = True
        assert len(statuses) > 1000
        assert set(statuses) == {200}
        assert len(sim.store_checker.epochs) >= 20

    play(script)


def test_step_down_to_a_named_node_makes_it_active() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        for wanted in (standbys[1], standbys[0], active):
            await until_all_answer(sim)
            answer = await sim.call(
                standbys[0], "PUT", "/v1/sys/step-down", {"to": f"http://{wanted.name}:8200"}
            )
            assert answer.status == 204, answer
            await until_all_answer(sim)
            assert active_of(sim) is wanted

    play(script)


def test_step_down_without_a_ready_standby_is_refused_unless_forced() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        for node in standbys:
            sim.crash(node)
        await trio.sleep(1)
        answer = await sim.call(active, "PUT", "/v1/sys/step-down")
        assert answer.status == 409
        assert "no standby is connected" in answer.body["errors"][0]
        assert active_of(sim) is active
        forced = await sim.call(active, "PUT", "/v1/sys/step-down", {"force": True})
        assert forced.status == 204
        # Nobody else is there: after the head start it takes the lock again.
        assert await seconds_until_written(sim, active) < 3

    play(script)


def test_node_that_stepped_down_takes_a_lock_that_its_successor_lets_go_at_once() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        successor, other = standbys
        to = {"to": f"http://{successor.name}:8200"}
        assert (await sim.call(active, "PUT", "/v1/sys/step-down", to)).status == 204
        await until_all_answer(sim)
        sim.crash(other)
        sim.hub.block(active.name, successor.name)
        sim.hub.block(successor.name, active.name)
        await trio.sleep(TIMING.heartbeat_timeout_s + 1)
        assert successor.node is not None
        # Nobody is connected to it: the lock is given back, not passed. Others have had their turn.
        began = trio.current_time()
        await successor.node.leave()
        waited_s = trio.current_time() - began
        assert waited_s + await seconds_until_written(sim, active) < TIMING.handover_wait_s + 0.5

    play(script)


def test_blocked_cluster_port_redirects_once_the_leader_is_known_to_live() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        sim.hub.block(standbys[0].name, active.name)
        sim.hub.block(active.name, standbys[0].name)
        await trio.sleep(20)
        answer = await sim.call(standbys[0], "GET", "/v1/secret/data/k?list=x")
        assert answer.status == 307
        assert answer.headers["location"].startswith(f"http://{active.name}:8200/v1/secret")
        assert standbys[0].node is not None
        assert "BH-401" in standbys[0].node.problems()[0]
        sim.hub.heal()
        await until_all_answer(sim)
        assert standbys[0].node.problems() == ()

    play(script)


def test_silent_store_of_the_active_node_ends_its_tenure_and_another_takes_over() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        await write(sim, active, "before")
        active.faults.silent = True
        gap_s = await seconds_until_written(sim, standbys[0])
        assert gap_s <= TIMING.lock_ttl_s + 1 + TIMING.park_s
        assert active_of(sim) is not active
        active.faults.heal()
        await until_all_answer(sim)
        assert await read(sim, active) == "before"

    play(script)


def test_sealed_active_node_hands_over_first_and_holds_no_key() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        answer = await sim.call(active, "PUT", "/v1/sys/seal")
        assert answer.status == 204, answer
        assert await seconds_until_written(sim, standbys[0]) < 0.1
        assert active.node is not None
        assert active.node.inspect().barrier.sealed
        health = await sim.call(active, "GET", "/v1/sys/health")
        assert health.status == 503
        await sim.unseal(active)
        await until_all_answer(sim)

    play(script)


def test_long_request_delays_a_step_down_by_the_drain_limit_at_most() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        active.faults.latency_s = 1.9  # every store call of the active node is slow

        async def slow() -> None:
            answer = await write(sim, active, "slow")
            assert answer.status in (200, 503)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            await trio.sleep(0.1)
            began = trio.current_time()
            active.faults.latency_s = 0.0
            answer = await sim.call(active, "PUT", "/v1/sys/step-down")
            assert answer.status == 204
            assert trio.current_time() - began <= TIMING.drain_s + 0.5

    play(script)
