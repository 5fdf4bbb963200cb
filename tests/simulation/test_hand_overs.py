"""
Hand-overs that lose their successor: at every step, in every way, for every kind of plan.

The promise: a prepared successor that stops at any moment costs two seconds at most (beside the
drain of what runs), no request that was accepted by another node fails, and a step-down is called
done only when the store's record shows that the successor has taken the lock up.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from baoha import names
from baoha.cluster.active_session import ActiveSession
from baoha.sansio.ha_state import Phase
from baoha.storage.base import Batch, Fence, LockRecord
from baoha.storage.inmem import Observer
from tests.simulation.test_rare_moments import drain_slowly, node_of, until_phase
from tests.simulation.test_scenarios import TIMING, active_of, play, until_all_answer, write
from tests.support.channel import call_older
from tests.support.simulation import Answer, CallFailed, SimNode, Simulation

pytestmark = pytest.mark.simulation

FROZEN_COSTS_S = 2.0


Harm = Callable[[Simulation, SimNode], None]


class TakeUp(Observer):
    """
    Follows a successor's way, as the store sees it, and harms it in the very moment of one step.

    Attributes:
        has_acquired: whether it ever held the lock in an epoch of its own.
    """

    def __init__(self, sim: Simulation, successor: SimNode, *, step: str, harm: Harm) -> None:
        self.has_acquired = False
        self._identity = node_of(successor).status().node_id
        self._step = step
        self._harm = lambda: harm(sim, successor)

    def reached(self, step: str) -> None:
        """Do harm if this is the step for it, once."""
        if step == self._step:
            self._step = ""
            self._harm()

    def lock_changed(self, key: str, record: LockRecord | None, epoch: int) -> None:
        if key != names.HA_LOCK or record is None or record.identity != self._identity:
            return
        self.has_acquired |= bool(record.value)
        self.reached("acquired" if record.value else "passed")

    def applied(self, batch: Batch, fence: Fence | None) -> None:
        if fence is not None and fence.identity == self._identity:
            self.reached("advertised")


class Clients:
    """One client on each given node, which writes all the time and counts."""

    def __init__(self, sim: Simulation, nodes: list[SimNode]) -> None:
        self._sim = sim
        self._nodes = nodes
        self.longest_s = dict.fromkeys((node.name for node in nodes), 0.0)
        self.failed: list[str] = []
        self.stop = False

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for node in self._nodes:
                nursery.start_soon(self._write, node)

    async def _write(self, node: SimNode) -> None:
        while not self.stop:
            began = trio.current_time()
            answer = await write(self._sim, node, "x", key=f"client-{node.name}")
            took_s = trio.current_time() - began
            self.longest_s[node.name] = max(self.longest_s[node.name], took_s)
            if answer.status != 200:
                self.failed.append(f"{began:.3f} {node.name}: {answer.status} {answer.body}")
            await trio.sleep(0.005)


def freeze(sim: Simulation, node: SimNode) -> None:
    sim.pause(node)


def kill(sim: Simulation, node: SimNode) -> None:
    sim.crash(node)


def lose_store(sim: Simulation, node: SimNode) -> None:
    node.faults.silent = True


def lose_network(sim: Simulation, node: SimNode) -> None:
    sim.hub.isolate(node.name)


async def ask(sim: Simulation, node: SimNode, path: str, body: object = None) -> Answer | None:
    try:
        return await sim.call(node, "PUT", path, body)
    except CallFailed:
        return None


async def carry_out(plan: str, sim: Simulation, active: SimNode, to: SimNode) -> Answer | None:
    """Do what an operator does; returns the answer, if the plan is one that gets any."""
    if plan == "step-down":
        return await ask(sim, active, "/v1/sys/step-down")
    if plan == "step-down to":
        return await ask(sim, active, "/v1/sys/step-down", {"to": f"http://{to.name}:8200"})
    if plan == "seal":
        return await ask(sim, active, "/v1/sys/seal")
    await node_of(active).leave()
    return None


PLANS = ["step-down", "step-down to", "SIGTERM", "seal"]
# When the lock is confirmed for its whole ttl, it is the active node that stops.
STEPS = ["prepared", "passed", "acquired", "advertised"]


def make_preferred(sim: Simulation, chosen: SimNode) -> None:
    """Let a plan without a name choose this node: the others call themselves older."""
    loop = node_of(active_of(sim)).inspect().loop
    assert loop is not None
    for peer in loop.standbys.connected():
        assert isinstance(peer, ActiveSession)
        if peer.info.node_id != node_of(chosen).status().node_id:
            call_older(peer)


async def play_plan(
    sim: Simulation,
    active: SimNode,
    chosen: SimNode,
    *,
    clients: Clients,
    plan: str,
    step: str,
    harm: Harm,
) -> tuple[Answer | None, TakeUp]:
    """Carry a plan out, harm its successor at one step, and let ten seconds go by."""
    seen = TakeUp(sim, chosen, step=step, harm=harm)
    sim.world.observers.append(seen)
    answers: list[Answer | None] = []

    async def plan_it() -> None:
        answers.append(await carry_out(plan, sim, active, chosen))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(clients.run)
        await trio.sleep(0.1)
        nursery.start_soon(plan_it)
        await until_phase(active, Phase.LEAVING)
        seen.reached("prepared")
        await trio.sleep(10)
        clients.stop = True
    return answers[0], seen


def check_truth(answer: Answer | None, seen: TakeUp) -> None:
    """A step-down is called done if, and only if, its successor has acquired the lock."""
    assert answer is not None
    assert answer.status == (204 if seen.has_acquired else 503), answer
    if answer.status == 503:
        assert "taken it up" in str(answer.body)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("harm", [freeze, kill, lose_store])
def test_successor_that_stops_costs_two_seconds_and_no_request(
    plan: str, step: str, harm: Harm
) -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        chosen, other = standbys
        make_preferred(sim, chosen)
        clients = Clients(sim, [other])
        answer, seen = await play_plan(
            sim, active, chosen, clients=clients, plan=plan, step=step, harm=harm
        )
        assert clients.failed == []
        assert clients.longest_s[other.name] <= FROZEN_COSTS_S
        assert active_of(sim) is not chosen
        if plan.startswith("step-down"):
            check_truth(answer, seen)

    play(script)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("step", STEPS)
def test_successor_without_a_network_is_told_as_it_is_and_found_again(plan: str, step: str) -> None:
    """
    A successor that reaches the store leads, whether others reach it or not: requests wait, or are
    redirected, and none is lost.
    """

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        chosen, other = standbys
        make_preferred(sim, chosen)
        clients = Clients(sim, [other])
        answer, seen = await play_plan(
            sim, active, chosen, clients=clients, plan=plan, step=step, harm=lose_network
        )
        if plan.startswith("step-down"):
            check_truth(answer, seen)
        assert active_of(sim) is chosen
        assert all(": 503" in line or ": 307" in line for line in clients.failed)
        sim.hub.heal()
        if plan == "seal":
            await sim.unseal(active)
        await until_all_answer(sim)

    play(script)


@pytest.mark.parametrize("after_s", [0.05, 0.7, 1.4, 1.95])
@pytest.mark.parametrize("plan", ["step-down", "step-down to"])
def test_successor_that_freezes_during_the_drain_costs_two_seconds_more(
    plan: str, after_s: float
) -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        chosen, other = standbys
        make_preferred(sim, chosen)
        seen = TakeUp(sim, chosen, step="", harm=freeze)
        sim.world.observers.append(seen)
        clients = Clients(sim, [other])
        answers: list[Answer | None] = []

        async def plan_it() -> None:
            answers.append(await carry_out(plan, sim, active, chosen))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_slowly, sim, active)
            await trio.sleep(0.1)
            nursery.start_soon(plan_it)
            await until_phase(active, Phase.LEAVING)
            nursery.start_soon(clients.run)
            await trio.sleep(after_s)
            freeze(sim, chosen)
            await trio.sleep(8)
            clients.stop = True
        assert clients.failed == []
        assert clients.longest_s[other.name] <= TIMING.drain_s + FROZEN_COSTS_S
        (answer,) = answers
        assert answer is not None
        assert not seen.has_acquired
        # Done is only what was asked for: anybody, or the one that was named.
        other_leads = answer.status == 204 and plan == "step-down"
        assert other_leads or answer.status == 503, answer

    play(script)


def test_two_nodes_of_which_the_successor_freezes_go_on_with_the_other() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        chosen, other = standbys
        sim.crash(other)
        await trio.sleep(1)
        clients = Clients(sim, [active])
        answer, seen = await play_plan(
            sim, active, chosen, clients=clients, plan="step-down", step="prepared", harm=freeze
        )
        check_truth(answer, seen)
        assert clients.failed == []
        assert clients.longest_s[active.name] <= FROZEN_COSTS_S
        assert active_of(sim) is active

    play(script)


def test_node_that_was_frozen_in_a_hand_over_is_of_use_again() -> None:
    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        chosen, other = standbys
        make_preferred(sim, chosen)
        clients = Clients(sim, [other])
        await play_plan(
            sim, active, chosen, clients=clients, plan="step-down", step="passed", harm=freeze
        )
        sim.resume(chosen)
        await until_all_answer(sim)
        body = {"to": f"http://{chosen.name}:8200"}
        assert (await sim.call(other, "PUT", "/v1/sys/step-down", body)).status == 204
        await until_all_answer(sim)
        assert active_of(sim) is chosen

    play(script)


class Squeeze:
    """
    Takes a node's CPU time away: it runs for a moment now and then.

    Args:
        stopped_s: it does not run for so long, then for ``running_s``, and so on.
    """

    def __init__(
        self, sim: Simulation, node: SimNode, *, stopped_s: float, running_s: float
    ) -> None:
        self._sim, self._node = sim, node
        self._stopped_s, self._running_s = stopped_s, running_s
        self.is_over = False

    async def run(self) -> None:
        while not self.is_over:
            self._sim.pause(self._node)
            await trio.sleep(self._stopped_s)
            self._sim.resume(self._node)
            await trio.sleep(self._running_s)


@pytest.mark.parametrize("stopped_s", [0.3, 0.7, 1.1])
@pytest.mark.parametrize("plan", ["step-down", "step-down to"])
def test_step_down_to_squeezed_standbys_is_not_refused(plan: str, stopped_s: float) -> None:
    """
    Goal: slowness alone refuses nothing, and fails no request of the node that is well.

    Method: both standbys run for 20 ms at a time, between pauses.
    """

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        clients = Clients(sim, [active])
        squeezes = [Squeeze(sim, node, stopped_s=stopped_s, running_s=0.02) for node in standbys]
        async with trio.open_nursery() as nursery:
            for squeeze in squeezes:
                nursery.start_soon(squeeze.run)
            await trio.sleep(10)
            nursery.start_soon(clients.run)
            answer = await carry_out(plan, sim, active, standbys[0])
            for squeeze in squeezes:
                squeeze.is_over = True
            await trio.sleep(2)
            clients.stop = True
        assert answer is not None
        assert answer.status in (204, 503), answer  # 503: passed on, and not taken up in time
        assert clients.failed == []

    play(script)


@pytest.mark.parametrize("stopped_s", [1.0, 2.0, 3.1, 3.5])
def test_new_leader_without_cpu_time_is_not_called_unreachable(stopped_s: float) -> None:
    """
    Goal: a handshake that runs out of CPU time is no reason to send clients away.

    Method: the new leader's kernel accepts the channel, and its process runs now and then only:
    often enough to renew its lock, too seldom for a first handshake.
    """

    async def script(sim: Simulation, active: SimNode, standbys: list[SimNode]) -> None:
        chosen, third = standbys
        clients = Clients(sim, [third])
        squeeze = Squeeze(sim, chosen, stopped_s=stopped_s, running_s=0.02)
        sim.hub.block(third.name, chosen.name)
        async with trio.open_nursery() as nursery:
            answer = await carry_out("step-down to", sim, active, chosen)
            await until_phase(chosen, Phase.ACTIVE)
            nursery.start_soon(squeeze.run)
            await trio.sleep(0.01)
            sim.hub.unblock(third.name, chosen.name)
            nursery.start_soon(clients.run)
            await trio.sleep(30)
            squeeze.is_over = True
            clients.stop = True
        assert answer is not None
        assert answer.status == 204
        assert not any(": 307" in line for line in clients.failed)
        await until_all_answer(sim)

    play(script)
