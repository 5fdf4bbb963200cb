"""The evidence that a lock's holder is dead: both pieces are needed, and nothing else counts."""

from __future__ import annotations

import pytest
import trio

from baoha import names
from baoha.ha.death import PORT_CHECK_S, is_proven_dead
from baoha.ha.leader_picture import CheckDeath
from baoha.storage.base import HALock, LockRecord
from baoha.storage.inmem import World
from tests.support.memory_network import MemoryHub

PORT = 8201
HOLDER_ADDRESS = f"https://holder:{PORT}"
OWN_ADDRESS = "https://me:8200"


class Scene:
    """A holder's lock, its host, and the node that asks."""

    def __init__(self) -> None:
        self.hub = MemoryHub()
        self.world = World()
        # A name exists in the network once somebody has it.
        self.network, self.holder = self.hub.network("me"), self.hub.network("holder")

    async def is_dead(self, address: str | None = HOLDER_ADDRESS) -> bool:
        """Ask for the holder's death."""
        lock: HALock = await self.world.open().open_lock(names.HA_LOCK, "me")
        record = LockRecord(identity="holder", value="u1", epoch=1, expires_in_s=6.0)
        return await is_proven_dead(
            CheckDeath(record, address), lock, network=self.network, own_address=OWN_ADDRESS
        )


async def test_death_session_is_gone_and_port_refuses_is_proven(autojump_clock: object) -> None:
    scene = Scene()
    scene.world.process_died("holder")
    assert await scene.is_dead()


async def test_death_session_is_there_is_not_proven(autojump_clock: object) -> None:
    """Goal: a port that refuses is no evidence alone; it may not be open yet."""
    scene = Scene()
    await scene.world.open().open_lock(names.HA_LOCK, "holder")
    assert not await scene.is_dead()


async def test_death_port_accepts_is_not_proven(autojump_clock: object) -> None:
    scene = Scene()
    scene.world.process_died("holder")

    async def handler(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(scene.holder.serve, handler, "holder", PORT)
        assert not await scene.is_dead()
        nursery.cancel_scope.cancel()


async def test_death_port_is_silent_is_not_proven_and_soon_given_up(autojump_clock: object) -> None:
    """Goal: nobody answers for a lost host, so its death shows by the lock's expiry alone."""
    scene = Scene()
    scene.world.process_died("holder")
    scene.hub.isolate("holder")
    began = trio.current_time()
    assert not await scene.is_dead()
    assert trio.current_time() - began <= PORT_CHECK_S


@pytest.mark.parametrize("address", [None, OWN_ADDRESS])
async def test_death_holder_has_no_port_of_its_own_needs_no_refusal(
    autojump_clock: object, address: str | None
) -> None:
    """Goal: at this node's own address nobody else can listen; without one nobody has."""
    scene = Scene()
    scene.world.process_died("holder")
    scene.hub.isolate("me")
    assert await scene.is_dead(address)


@pytest.mark.parametrize("address", ["https://holder:port", "https://nobody:1", "", "holder"])
async def test_death_address_that_leads_nowhere_is_not_proven(
    autojump_clock: object, address: str
) -> None:
    scene = Scene()
    scene.world.process_died("holder")
    assert not await scene.is_dead(address)
