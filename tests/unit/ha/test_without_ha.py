"""A node whose store nobody shares; answers as a real OpenBao 2.7.2 without HA gives them."""

from __future__ import annotations

import json

import trio

from baoha.core.view import Role
from baoha.node import Node
from baoha.storage.base import HABackend
from baoha.storage.registry import open_backend
from tests.support.node_lab import Lab, MutinousBackend, lab, until

JUNK = "s.junk"


async def leader_and_step_down(here: Lab, node: Node) -> list[tuple[int, object]]:
    answers = [await here.call(node, "GET", "sys/leader")]
    for method, body, token in (
        ("PUT", None, ""),
        ("POST", {}, JUNK),
        ("PUT", {"force": True}, JUNK),
        ("GET", None, ""),
    ):
        answers.append(await here.call(node, method, "sys/step-down", body, token=token))
    return [(status, json.loads(body) if body else None) for status, body in answers]


ALWAYS = [
    (200, {"ha_enabled": False}),
    (204, None),
    (204, None),
    (204, None),
    (405, {"errors": []}),
]


async def test_leader_and_step_down_without_ha_answer_the_same_in_every_state(
    autojump_clock: object,
) -> None:
    async with lab() as here:
        node = await here.start("n0", ha=False)
        assert await leader_and_step_down(here, node) == ALWAYS, "sealed"
        await here.unseal(node)
        assert await leader_and_step_down(here, node) == ALWAYS, "active"
        assert node.status().role is Role.ACTIVE, "a step-down has no effect"
        assert (await here.call(node, "PUT", "sys/seal"))[0] == 204
        assert await leader_and_step_down(here, node) == ALWAYS, "sealed again"


async def test_unseal_without_ha_answers_when_the_node_serves(autojump_clock: object) -> None:
    async with lab() as here:
        node = await here.start("n0", ha=False)

        await here.unseal(node)

        status, body = await here.call(node, "GET", "sys/health")
        health = json.loads(body)
        assert (status, health["standby"]) == (200, False)
        assert health["replication_performance_mode"] == "disabled"


async def test_unseal_without_ha_store_fails_the_answer_comes_all_the_same(
    autojump_clock: object,
) -> None:
    async with lab() as here:
        store = MutinousBackend(here.world.open("n0"))
        node = await here.start("n0", ha=False, data=store)
        store.prefix = "core/mounts/"
        with trio.fail_after(30):
            await here.unseal(node)
        assert node.status().role is Role.STANDBY
        store.prefix = ""
        await until(node, Role.ACTIVE)


async def test_configured_memory_that_nobody_can_share_has_no_ha() -> None:
    store = await open_backend("inmem", {})
    assert not (isinstance(store, HABackend) and store.capabilities.ha)
