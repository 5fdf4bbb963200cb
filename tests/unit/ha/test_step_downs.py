"""
Step-downs that meet each other or something else, and those that have nothing to do.

The nodes are real ones over one store in memory; requests come directly or through a standby.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import trio

from baoha.core.view import Role
from baoha.node import Node
from baoha.storage.inmem import EVERYTHING, World
from tests.support.node_lab import Lab, lab, until


async def three(here: Lab) -> tuple[Node, list[Node]]:
    """Start a cluster; returns the active node and its standbys, all connected."""
    active = await here.active("n0")
    standbys = [await here.start("n1"), await here.start("n2")]
    for node in standbys:
        await here.unseal(node)
    await trio.sleep(2)
    return active, standbys


async def once_token(here: Lab, node: Node) -> str:
    body = {"num_uses": 1, "policies": ["root"]}
    status, text = await here.call(node, "POST", "auth/token/create", body)
    assert status == 200
    return str(json.loads(text)["auth"]["client_token"])


async def hold_up(node: Node, until_s: float) -> None:
    """Keep a request inside a node, so that its drain takes time."""
    with trio.move_on_after(until_s), node.admit():
        await trio.sleep_forever()


def names_of(name: str, node: Node) -> list[str]:
    return [node.status().node_id, f"http://{name}:8200", f"https://{name}:8201", name]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("through", ["active", "standby", "all"])
@pytest.mark.parametrize("gap_s", [0.0, 0.01, 0.3, 1.2])
async def test_step_downs_that_meet_are_one(
    autojump_clock: object, through: str, force: bool, gap_s: float
) -> None:
    """
    Goal: a second operator, or a retry, does not send active duty round the cluster.

    Method: four requests while the active node drains for 1.5 s, the later ones at any moment.
    """
    async with lab() as here:
        active, standbys = await three(here)
        begun = len(here.locks.acquired)
        nodes = {"active": [active], "standby": standbys, "all": [active, *standbys]}[through]
        answers: list[int] = []

        async def ask(node: Node) -> None:
            body = {"force": force}
            answers.append((await here.call(node, "PUT", "sys/step-down", body))[0])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_up, active, 1.5)
            await trio.sleep(0.01)
            nursery.start_soon(ask, active)
            for number in range(3):
                await trio.sleep(gap_s / 3)
                nursery.start_soon(ask, nodes[number % len(nodes)])
        assert answers == [204] * 4
        await trio.sleep(5)
        assert len(here.locks.acquired) == begun + 2  # passed on, and taken up
        assert active.status().role is Role.STANDBY


@pytest.mark.parametrize("plan", ["leave", "seal"])
async def test_step_down_that_meets_another_plan_is_one_with_it(
    autojump_clock: object, plan: str
) -> None:
    async with lab() as here:
        active, standbys = await three(here)
        begun = len(here.locks.acquired)
        answers: list[int] = []

        async def ask(node: Node) -> None:
            answers.append((await here.call(node, "PUT", "sys/step-down"))[0])

        async def carry_out() -> None:
            await (active.leave() if plan == "leave" else active.seal())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_up, active, 1.0)
            await trio.sleep(0.01)
            nursery.start_soon(carry_out)
            await trio.sleep(0.1)
            nursery.start_soon(ask, standbys[0])
        assert answers == [204]
        await trio.sleep(5)
        assert len(here.locks.acquired) == begun + 2


async def test_step_downs_to_different_nodes_are_carried_out_one_after_the_other(
    autojump_clock: object,
) -> None:
    """Goal: who names a node gets what was asked for, or is told."""
    async with lab() as here:
        active, standbys = await three(here)
        answers: list[tuple[str, int]] = []

        async def ask(to: str) -> None:
            status, _ = await here.call(active, "PUT", "sys/step-down", {"to": to})
            answers.append((to, status))

        async with trio.open_nursery() as nursery:
            for to in ("n1", "n2"):
                nursery.start_soon(ask, to)
        assert sorted(answers) == [("n1", 204), ("n2", 204)]
        last = {"n1": standbys[0], "n2": standbys[1]}[answers[-1][0]]
        await until(last, Role.ACTIVE, 2)


async def test_step_down_after_a_finished_one_is_a_new_one(autojump_clock: object) -> None:
    async with lab() as here:
        active, standbys = await three(here)
        begun = len(here.locks.acquired)
        for through in (standbys[0], standbys[0], active):
            assert (await here.call(through, "PUT", "sys/step-down"))[0] == 204
            await trio.sleep(3)
        assert len(here.locks.acquired) == begun + 6


async def test_refusal_of_a_step_down_answers_those_that_wait_for_the_same(
    autojump_clock: object,
) -> None:
    async with lab() as here:
        active = await here.active("n0")
        began = trio.current_time()
        answers: list[int] = []

        async def ask() -> None:
            answers.append((await here.call(active, "PUT", "sys/step-down"))[0])

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        assert answers == [409] * 3
        assert trio.current_time() - began < 4


@pytest.mark.parametrize("through", [0, 1])
@pytest.mark.parametrize("name", range(4))
async def test_step_down_to_the_active_node_is_done_already(
    autojump_clock: object, name: int, through: int
) -> None:
    async with lab() as here:
        active, standbys = await three(here)
        begun = len(here.locks.acquired)
        began = trio.current_time()
        node = (active, standbys[0])[through]
        to = names_of("n0", active)[name]
        assert (await here.call(node, "PUT", "sys/step-down", {"to": to}))[0] == 204
        assert trio.current_time() - began < 0.1
        assert len(here.locks.acquired) == begun
        assert active.status().role is Role.ACTIVE


async def test_step_down_to_the_active_node_needs_sudo(autojump_clock: object) -> None:
    async with lab() as here:
        active, _ = await three(here)
        body = {"to": "n0"}
        assert (await here.call(active, "PUT", "sys/step-down", body, token="s.none"))[0] == 403


@pytest.mark.parametrize("through", [0, 1])
async def test_step_down_of_a_spent_token_whose_node_lost_its_duty_is_of_unknown_outcome(
    autojump_clock: object, through: int
) -> None:
    """
    Goal: what was allowed is not answered as "permission denied" by the next node.

    Method: the use is counted; while the request waits behind another one, the tenure is lost.
    """
    async with lab() as here:
        active, standbys = await three(here)
        token = await once_token(here, active)
        answers: list[tuple[int, str]] = []

        async def ask() -> None:
            node = (active, standbys[0])[through]
            body = {"to": "nobody"}
            answers.append(await here.call(node, "PUT", "sys/step-down", body, token=token))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            loop = active.inspect().loop
            assert loop is not None
            assert loop.tenure is not None
            loop.tenure.end("lock lost: taken away")
        ((status, text),) = answers
        assert status == 503
        assert "unknown" in text


async def test_step_down_of_a_token_of_one_use_is_done(autojump_clock: object) -> None:
    async with lab() as here:
        active, standbys = await three(here)
        token = await once_token(here, active)
        status, _ = await here.call(standbys[0], "PUT", "sys/step-down", token=token)
        assert status == 204
        await trio.sleep(2)
        status, _ = await here.call(standbys[0], "PUT", "sys/step-down", token=token)
        assert status == 403


async def test_log_of_a_step_down_says_who_asked(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "baoha")
    async with lab() as here:
        active, _ = await three(here)
        body = {"display_name": "ops\nbot", "policies": ["root"]}
        _, text = await here.call(active, "POST", "auth/token/create", body)
        token = json.loads(text)["auth"]["client_token"]
        assert (await here.call(active, "PUT", "sys/step-down", token=token))[0] == 204
    lines = [record.getMessage() for record in caplog.records]
    (begun,) = [line for line in lines if line.startswith("stepping down")]
    assert "token-ops" in begun
    assert " from " in begun
    assert all("\n" not in line for line in lines)
    assert all(token not in line for line in lines)


@pytest.mark.parametrize(
    ("company", "plan", "text"),
    [
        (True, "step-down", "handed over to http://n1:8200: step-down requested by root"),
        (True, "leave", "handed over to http://n1:8200: the node is shutting down"),
        (True, "seal", "handed over to http://n1:8200: the node is being sealed"),
        (False, "step-down", "gave active duty up, to nobody: step-down requested by root"),
        (False, "leave", "gave active duty up, to nobody: the node is shutting down"),
        (False, "seal", "gave active duty up, to nobody: the node is being sealed"),
    ],
)
async def test_log_of_a_change_says_to_whom(
    autojump_clock: object,
    caplog: pytest.LogCaptureFixture,
    company: bool,
    plan: str,
    text: str,
) -> None:
    caplog.set_level(logging.INFO, "baoha")
    async with lab() as here:
        active = await here.active("n0")
        if company:
            await here.unseal(await here.start("n1"))
            await trio.sleep(2)
        if plan == "step-down":
            await here.call(active, "PUT", "sys/step-down", {"force": True})
        elif plan == "leave":
            await active.leave()
        else:
            await active.seal()
    assert text in caplog.text
    assert ("to nobody" in caplog.text) is not company


@pytest.mark.parametrize("to", [None, "http://n2:8200"])
async def test_step_down_on_a_store_that_cannot_pass_the_lock_gives_it_to_whoever_takes_it(
    autojump_clock: object, to: str | None
) -> None:
    """
    Goal: the planned change of leader needs no capability of the store.

    Method: a store that fails loudly when it is asked to pass its lock to a successor.
    """
    async with lab() as here:
        here.world = World(capabilities=replace(EVERYTHING, hand_over=False))
        here.world.observers.append(here.locks)
        active, standbys = await three(here)
        begun = len(here.locks.acquired)
        status, _ = await here.call(active, "PUT", "sys/step-down", {"to": to} if to else None)
        taken = len(here.locks.acquired)
        await trio.sleep(1)
        leaders = [node for node in standbys if node.status().role is Role.ACTIVE]
        assert len(leaders) == 1
        assert active.status().role is Role.STANDBY
        # Nobody can be named to such a store: the answer says whether it was the one asked for.
        is_wanted = to is None or leaders[0].status().api_addr == to
        assert (status, taken) == (204 if is_wanted else 503, begun + 1)
