"""A node that has to go while somebody asks it in vain to hand over: it hands over in good time."""

from __future__ import annotations

import pytest
import trio

from baoha.core.view import Role
from baoha.node import Node
from tests.support.node_lab import Lab, lab, until

# More than the patience for one of them, and together more than a process has for its end.
VAIN_WISHES = tuple(f"nobody-{number}" for number in range(8))


async def ask(here: Lab, node: Node, to: str | None, answers: list[int]) -> None:
    body = None if to is None else {"to": to}
    status, _ = await here.call(node, "PUT", "sys/step-down", body)
    answers.append(status)


async def ask_later(here: Lab, node: Node, answers: list[int]) -> None:
    await trio.sleep(0.1)
    await ask(here, node, None, answers)


async def hold_up(node: Node, for_s: float) -> None:
    """Keep a request inside a node, so that its drain takes time."""
    with trio.move_on_after(for_s), node.admit():
        await trio.sleep_forever()


async def pair(here: Lab) -> tuple[Node, Node]:
    """Return an active node and a standby that has found it."""
    node = await here.active("n0")
    standby = await here.start("n1")
    await here.unseal(standby)
    await trio.sleep(2)
    return node, standby


@pytest.mark.parametrize("to", [None, "n1"])
async def test_step_down_behind_many_to_nobody_is_done_at_once(
    autojump_clock: object, to: str | None
) -> None:
    """
    Goal: whoever waits for a successor that may be about to connect holds up nobody else.

    Method: many misspelt wishes, then one that can be carried out; the others are told in the end.
    """
    async with lab() as here:
        node, successor = await pair(here)
        vain: list[int] = []
        async with trio.open_nursery() as nursery:
            for name in VAIN_WISHES:
                nursery.start_soon(ask, here, node, name, vain)
            await trio.sleep(0.1)
            began = trio.current_time()
            good: list[int] = []
            await ask(here, node, to, good)
            assert good == [204]
            assert trio.current_time() - began < 0.5
            await until(successor, Role.ACTIVE, 0.5)
        assert len(vain) == len(VAIN_WISHES)
        assert 204 not in vain


async def test_step_downs_to_nobody_wait_side_by_side(autojump_clock: object) -> None:
    async with lab() as here:
        node, _ = await pair(here)
        answers: list[int] = []
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for to in VAIN_WISHES:
                nursery.start_soon(ask, here, node, to, answers)
        assert answers == [409] * len(VAIN_WISHES)
        assert trio.current_time() - began < 4  # one patience, not eight
        assert node.status().role is Role.ACTIVE


@pytest.mark.parametrize("goes", ["leave", "seal"])
async def test_node_that_has_to_go_overtakes_step_downs_to_nobody(
    goes: str, autojump_clock: object
) -> None:
    """
    Goal: whoever misspells a successor, often, does not keep a node from handing over.

    Method: each such wish is waited with for some seconds; a standby may be about to connect.
    """
    async with lab() as here:
        node, successor = await pair(here)
        answers: list[int] = []
        async with trio.open_nursery() as nursery:
            for to in VAIN_WISHES:
                nursery.start_soon(ask, here, node, to, answers)
            await trio.sleep(0.5)
            nursery.start_soon(hold_up, node, 0.3)
            nursery.start_soon(ask_later, here, node, answers)
            began = trio.current_time()
            if goes == "leave":
                await node.leave()
            else:
                await node.seal()
            assert trio.current_time() - began < 1.0
            await until(successor, Role.ACTIVE, 0.5)
        assert len(answers) == len(VAIN_WISHES) + 1
        if goes == "leave":
            # The wish without a name has come true; the others go to the node that leads now.
            assert answers.count(204) == 1


async def test_second_reason_to_go_waits_for_the_first(autojump_clock: object) -> None:
    """Goal: sealing and ending that meet are one hand-over, and neither stops the other's."""
    async with lab() as here:
        node, successor = await pair(here)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.leave)
            await node.seal()
        await until(successor, Role.ACTIVE, 0.5)
        assert node.status().role is Role.SEALED
