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


@pytest.mark.parametrize("goes", ["leave", "seal"])
async def test_node_that_has_to_go_overtakes_step_downs_to_nobody(
    goes: str, autojump_clock: object
) -> None:
    """
    Goal: whoever misspells a successor, often, does not keep a node from handing over.

    Method: each such wish is waited with for some seconds; a standby may be about to connect.
    """
    async with lab() as here:
        node = await here.active("n0")
        heir = await here.start("n1")
        await here.unseal(heir)
        await trio.sleep(2)
        answers: list[int] = []
        async with trio.open_nursery() as nursery:
            for to in VAIN_WISHES:
                nursery.start_soon(ask, here, node, to, answers)
            await trio.sleep(0.5)
            nursery.start_soon(ask, here, node, None, answers)
            await trio.sleep(0.1)
            began = trio.current_time()
            if goes == "leave":
                await node.leave()
            else:
                await node.seal(token=here.token)
            assert trio.current_time() - began < 1.0
            await until(heir, Role.ACTIVE, 0.5)
        assert len(answers) == len(VAIN_WISHES) + 1
        if goes == "leave":
            # The wish without a name has come true; the others go to the node that leads now.
            assert answers.count(204) == 1


async def test_second_reason_to_go_waits_for_the_first(autojump_clock: object) -> None:
    """Goal: sealing and ending that meet are one hand-over, and neither stops the other's."""
    async with lab() as here:
        node = await here.active("n0")
        heir = await here.start("n1")
        await here.unseal(heir)
        await trio.sleep(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.leave)
            await node.seal(token=here.token)
        await until(heir, Role.ACTIVE, 0.5)
        assert node.status().role is Role.SEALED
