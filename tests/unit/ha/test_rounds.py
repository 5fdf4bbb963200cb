"""What a node writes in rounds is not lost with a change; what its lock tells is told on."""

from __future__ import annotations

import json

import pytest
import trio

from baoha import names
from baoha.core.maintenance import FIRST_S as MAINTENANCE_FIRST_S
from baoha.core.maintenance import INTERVAL_S as MAINTENANCE_INTERVAL_S
from baoha.core.view import Role
from baoha.node import Node
from baoha.storage.faulty import Faults, FaultyHABackend
from tests.support.node_lab import Lab, MutinousBackend, lab, step_down, until

WRITES = 30


async def write(here: Lab, node: Node) -> None:
    for index in range(WRITES):
        status, _ = await here.call(node, "POST", f"secret/data/{index}", {"data": {"v": "x"}})
        assert status == 200


async def encryptions(here: Lab, node: Node) -> int:
    _, body = await here.call(node, "GET", "sys/key-status")
    return int(json.loads(body)["data"]["encryptions"])


@pytest.mark.parametrize("reason", ["step-down", "shutdown", "seal"])
async def test_count_of_encryptions_survives_a_planned_change_of_a_young_tenure(
    reason: str, autojump_clock: object
) -> None:
    async with lab() as here:
        first = await here.active("n0")
        second = await here.start("n1")
        await here.unseal(second)
        await trio.sleep(2)
        await write(here, first)
        counted = await encryptions(here, first)
        assert counted >= WRITES
        if reason == "step-down":
            assert await step_down(here, first) == 204
        elif reason == "shutdown":
            await first.leave()
        else:
            await first.seal()
        await until(second, Role.ACTIVE)
        assert await encryptions(here, second) >= counted


async def test_planned_change_does_not_wait_for_a_count_that_cannot_be_stored(
    autojump_clock: object,
) -> None:
    async with lab() as here:
        data = MutinousBackend(here.world.open("n0"))
        first = await here.start("n0", data=data)
        await here.unseal(first)
        await until(first, Role.ACTIVE)
        second = await here.start("n1")
        await here.unseal(second)
        await trio.sleep(2)
        data.writes_fail = True
        assert await step_down(here, first) == 204
        await until(second, Role.ACTIVE)


async def test_first_round_of_a_tenure_comes_soon_and_the_next_ones_at_their_time(
    autojump_clock: object,
) -> None:
    """A crash loses what was counted since the last round, and a tenure may be short."""
    async with lab() as here:
        node = await here.active("n0")
        stored: list[float] = []
        before = here.world.data[names.KEYRING]
        end = trio.current_time() + 2 * MAINTENANCE_INTERVAL_S
        began = trio.current_time()
        while trio.current_time() < end:
            await trio.sleep(0.5)
            if here.world.data[names.KEYRING] != before:
                before = here.world.data[names.KEYRING]
                stored.append(trio.current_time() - began)
        assert stored[0] == pytest.approx(MAINTENANCE_FIRST_S, abs=1)
        assert stored[1] == pytest.approx(MAINTENANCE_FIRST_S + MAINTENANCE_INTERVAL_S, abs=1)
        assert node.status().role is Role.ACTIVE


async def test_problem_of_the_lock_is_told_in_ha_status_and_health_while_it_lasts(
    autojump_clock: object,
) -> None:
    async with lab() as here:
        faults = Faults()
        node = await here.start("n0", locks=FaultyHABackend(here.world.open("n0"), faults))
        await here.unseal(node)
        await until(node, Role.ACTIVE)
        faults.problem = "BH-921 pid 7 (state t) holds the write lock"
        _, body = await here.call(node, "GET", "sys/ha-status")
        assert json.loads(body)["data"]["nodes"][0]["problems"] == [faults.problem]
        status, body = await here.call(node, "GET", "sys/health")
        assert (status, json.loads(body)["problems"]) == (200, [faults.problem])
        faults.problem = ""
        _, body = await here.call(node, "GET", "sys/health")
        assert "problems" not in json.loads(body)
        assert node.problems() == ()


async def test_problem_of_a_standbys_lock_is_told_by_the_active_node(
    autojump_clock: object,
) -> None:
    async with lab() as here:
        active = await here.active("n0")
        faults = Faults(problem="BH-922 the disk is full")
        standby = await here.start("n1", locks=FaultyHABackend(here.world.open("n1"), faults))
        await here.unseal(standby)
        await trio.sleep(3)
        _, body = await here.call(active, "GET", "sys/ha-status")
        told = [row["problems"] for row in json.loads(body)["data"]["nodes"]]
        assert sorted(told) == [[], [faults.problem]]
