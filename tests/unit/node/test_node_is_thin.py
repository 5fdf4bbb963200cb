"""What of a node's own file a request goes through: holding references is all that it does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import trio

from baoha.core.view import Role
from baoha.node import Node, node
from tests.support.node_lab import lab, until

LINES_MAX = 300


@contextmanager
def entered(one: Node) -> Iterator[list[str]]:
    """Lend a list of the functions of the node's file that were entered on behalf of one node."""
    names: list[str] = []

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename == node.__file__:
            whose = frame.f_locals.get("self", one)  # a function without a node may be anybody's
            if whose is one and frame.f_code.co_name not in names:
                names.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        yield names
    finally:
        sys.setprofile(None)


async def test_write_that_was_forwarded_enters_the_active_node_in_three_places(
    autojump_clock: object,
) -> None:
    """Goal: what executes a request is handed to the cluster listener, not relayed by the node."""
    async with lab() as here:
        active = await here.active("n0")
        standby = await here.start("n1")
        await here.unseal(standby)
        await until(standby, Role.STANDBY)
        await trio.sleep(2)
        with entered(active) as names:
            status, _ = await here.call(standby, "POST", "secret/data/a", {"data": {"v": "x"}})
        assert status == 200
        assert sorted(names) == ["admit", "handle", "status"]


async def test_inspection_of_a_node_shows_one_moment(autojump_clock: object) -> None:
    async with lab() as here:
        one = await here.start("n0")
        sealed = one.inspect()
        await here.unseal(one)
        await until(one, Role.ACTIVE)
        active = one.inspect()
        assert (sealed.phase.value, sealed.admitting, sealed.loop) == ("sealed", None, None)
        assert active.phase.value == "active"
        assert active.loop is not None
        assert active.admitting is active.loop.tenure


def test_file_of_the_node_stays_short() -> None:
    with open(node.__file__) as file:
        assert len(file.readlines()) <= LINES_MAX
