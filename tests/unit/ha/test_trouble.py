"""Nodes at odds with their store, keys or surroundings: what must not end the process."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import pytest
import trio

from baoha import names
from baoha.cluster.network import TCPNetwork
from baoha.core.maintenance import INTERVAL_S as MAINTENANCE_INTERVAL_S
from baoha.core.view import Role
from baoha.errors import StorageUnavailable
from baoha.ha.loop import HALoop
from baoha.storage.base import (
    Backend,
    Batch,
    Capabilities,
    Fence,
    HABackend,
    HALock,
    Keys,
    LockRecord,
)
from baoha.storage.faulty import Faults, FaultyBackend
from baoha.storage.inmem import Observer, World
from tests.support.node_lab import Lab, MutinousBackend, lab, step_down, until


async def test_leave_without_ha_goes_on_serving(autojump_clock: object) -> None:
    """Goal: nobody could take over, so a planned end answers what still comes."""
    async with lab() as here:
        node = await here.active("n0", ha=False)
        await node.leave()
        status, _ = await here.call(node, "POST", "secret/data/k", {"data": {"v": "x"}})
        assert status == 200


async def test_seal_without_ha_while_retired_does_not_spin(autojump_clock: object) -> None:
    """Goal: a node that contends no more waits. (The virtual clock cannot jump if it spins.)"""
    async with lab() as here:
        node = await here.active("n0", ha=False)
        loop = node.inspect().loop
        assert isinstance(loop, HALoop)
        await loop.retire(reason="test")
        await trio.sleep(5)
        assert node.status().role is Role.STANDBY


@pytest.mark.parametrize("writes_fail", [False, True])
async def test_node_that_cannot_take_up_duty_leaves_the_lock_to_others(
    autojump_clock: object, writes_fail: bool
) -> None:
    """
    Goal: no tight loop of acquire and give up; whoever can lead gets its turn at once.

    Method: the data store fails for the node that gets the lock first.
    """
    async with lab() as here:
        broken = MutinousBackend(here.world.open("bad"))
        bad = await here.start("bad", data=broken)
        if writes_fail:
            broken.writes_fail = True
        else:
            broken.prefix = names.MOUNTS_PREFIX
        await here.unseal(bad)
        await trio.sleep(10)
        assert bad.status().role is Role.STANDBY
        assert 1 <= len(here.locks.acquired) <= 20
        good = await here.start("good")
        await here.unseal(good)
        await until(good, Role.ACTIVE, 3.0)


async def test_mount_of_an_unknown_type_does_not_end_a_standby(autojump_clock: object) -> None:
    """
    Goal: a node of an older version survives what a newer one has mounted.

    Method: an entry with a type that nobody knows; then the standby is asked to prepare.
    """
    async with lab() as here:
        active = await here.active("n0")
        standby = await here.start("n1")
        await here.unseal(standby)
        await trio.sleep(1)
        entry = {
            "table": "mounts",
            "path": "new/",
            "type": "transit-of-tomorrow",
            "uuid": "00000000-0000-4000-8000-000000000000",
            "accessor": "a",
        }
        await active.inspect().barrier.put(
            names.MOUNTS_PREFIX + entry["uuid"], json.dumps(entry).encode()
        )
        assert await step_down(here, active) == 409
        assert active.status().role is Role.ACTIVE
        assert standby.status().role is Role.STANDBY


@pytest.mark.parametrize("prefix", [names.MOUNTS_PREFIX, names.TOKEN_ID_PREFIX])
async def test_malformed_entry_does_not_end_the_node(autojump_clock: object, prefix: str) -> None:
    """Goal: one entry that nobody can read harms whoever needs it, and no more."""
    async with lab() as here:
        active = await here.active("n0")
        await active.inspect().barrier.put(prefix + "x", b"{}")
        await trio.sleep(2.5 * MAINTENANCE_INTERVAL_S)
        assert active.status().role is Role.ACTIVE
        status, _ = await here.call(active, "POST", "secret/data/k", {"data": {"v": "x"}})
        assert status == 200


@pytest.mark.parametrize("jump_s", [61.0, 3600.0, 86400.0])
async def test_wall_clock_jumps_ahead_and_back_no_token_is_lost(
    autojump_clock: object, jump_s: float
) -> None:
    async with lab() as here:
        node = await here.active("n0")
        made = await here.call(node, "POST", "auth/token/create", {"ttl": "3m"})
        token = json.loads(made[1])["auth"]["client_token"]

        here.wall_jump_s = jump_s
        await trio.sleep(2.5 * MAINTENANCE_INTERVAL_S)
        here.wall_jump_s = 0.0

        assert (await here.call(node, "GET", "auth/token/lookup-self", token=token))[0] == 200


async def test_wall_clock_is_set_for_good_ended_tokens_are_deleted(autojump_clock: object) -> None:
    async with lab() as here:
        node = await here.active("n0")
        await here.call(node, "POST", "auth/token/create", {"ttl": "10m"})
        stored = len(await node.inspect().barrier.list(names.TOKEN_ID_PREFIX))

        here.wall_jump_s = 86400.0
        await trio.sleep(3600 + 3 * MAINTENANCE_INTERVAL_S)

        assert len(await node.inspect().barrier.list(names.TOKEN_ID_PREFIX)) == stored - 1


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "", "a b", "foo_bar"])
async def test_host_name_that_is_none_is_an_os_error(host: str) -> None:
    """Goal: an address that somebody has mistyped is a failed attempt, not the end of a node."""
    network = TCPNetwork()
    with pytest.raises(socket.gaierror), trio.fail_after(5):
        await network.connect(host or "..", 1)

    async def handler(stream: trio.abc.Stream) -> None:
        pytest.fail("connected")

    with pytest.raises(socket.gaierror), trio.fail_after(5):
        await network.serve(handler, host or "..", 0)


async def test_seal_before_the_lock_is_open_is_not_answered_as_done(
    autojump_clock: object,
) -> None:
    """Goal: "sealed" is not claimed, without a token at that, by a node that is not."""

    class NoLocks(HABackend):
        name = "inmem"
        capabilities = Capabilities(ha=True)

        async def open_lock(self, key: str, identity: str) -> HALock:
            await trio.lowlevel.checkpoint()
            raise StorageUnavailable("no answer")

    async with lab() as here:
        node = await here.start("n0", locks=NoLocks())
        await here.unseal(node)
        await trio.sleep(1)
        assert not node.status().sealed
        assert (await here.call(node, "PUT", "sys/seal", token="wrong"))[0] == 500


class StolenLock(Observer):
    """Takes the HA lock away in the moment in which a write below a prefix has landed."""

    def __init__(self, here: Lab, prefix: str) -> None:
        self.here = here
        self.prefix = prefix
        self.landed = 0

    def applied(self, batch: Batch, fence: object) -> None:
        if any(key.startswith(self.prefix) for key in batch.writes):
            self.landed += 1
            world = self.here.world
            row = world.row(names.HA_LOCK)
            world.locks[names.HA_LOCK] = replace(row, identity="thief", epoch=row.epoch + 1)


async def test_write_whose_first_half_has_landed_is_not_called_unexecuted(
    autojump_clock: object,
) -> None:
    """
    Goal: a request that has changed something is not sent round again as if it had not.

    Method: a token with two uses; the lock is lost right after the use was counted.
    """
    async with lab() as here:
        node = await here.active("n0")
        status, text = await here.call(
            node, "POST", "auth/token/create", {"num_uses": 2, "policies": ["root"]}
        )
        assert status == 200
        token = json.loads(text)["auth"]["client_token"]
        thief = StolenLock(here, names.TOKEN_ID_PREFIX)
        here.world.observers.append(thief)
        status, text = await here.call(
            node, "POST", "secret/data/k", {"data": {"v": "x"}}, token=token
        )
        assert thief.landed == 1
        assert status == 503
        assert "unknown" in text


async def test_leave_with_a_wall_clock_that_was_set_back_does_not_wait_for_it(
    autojump_clock: object,
) -> None:
    async with lab() as here:
        node = await here.active("n0")
        await trio.sleep(60)
        here.wall_jump_s = -3600.0
        with trio.fail_after(10):
            await node.leave()
        assert node.status().role is Role.STANDBY


class DeafLock(HALock):
    """A lock whose store cannot announce changes just now."""

    def __init__(self, inner: HALock) -> None:
        self.key, self.identity, self._inner = inner.key, inner.identity, inner

    async def acquire(
        self, value: str, *, ttl_s: float, evict: LockRecord | None = None
    ) -> Fence | None:
        return await self._inner.acquire(value, ttl_s=ttl_s, evict=evict)

    async def renew(self, fence: Fence, *, ttl_s: float) -> None:
        await self._inner.renew(fence, ttl_s=ttl_s)

    async def release(
        self, fence: Fence, *, successor: str | None = None, ttl_s: float = 0.0
    ) -> None:
        await self._inner.release(fence, successor=successor, ttl_s=ttl_s)

    async def read(self) -> LockRecord | None:
        return await self._inner.read()

    async def wait_change(self) -> None:
        await trio.lowlevel.checkpoint()
        raise StorageUnavailable("connection lost")


class DeafBackend(HABackend):
    """Locks of a world, without announcements."""

    name = "inmem"
    capabilities = Capabilities(ha=True, fencing=True, watch=True)

    def __init__(self, world: World) -> None:
        self._inner = world.open("deaf")

    async def open_lock(self, key: str, identity: str) -> HALock:
        return DeafLock(await self._inner.open_lock(key, identity))


async def test_store_that_fails_to_announce_changes_is_polled(autojump_clock: object) -> None:
    async with lab() as here:
        active = await here.active("n0")
        deaf = await here.start("n1", locks=DeafBackend(here.world))
        await here.unseal(deaf)
        await trio.sleep(5)
        assert deaf.status().role is Role.STANDBY
        assert await step_down(here, active) == 204
        await until(deaf, Role.ACTIVE, 1.0)


async def test_lock_is_given_back_although_the_data_store_fails(autojump_clock: object) -> None:
    """Goal: a node whose data store is gone hands the lock to a node whose store is not."""
    async with lab() as here:
        broken = MutinousBackend(here.world.open("bad"))
        bad = await here.start("bad", data=broken)
        await here.unseal(bad)
        await until(bad, Role.ACTIVE)
        broken.writes_fail = True
        status, _ = await here.call(bad, "PUT", "sys/step-down", {"force": True})
        assert status == 204
        assert here.locks.record is None


class SlowReads(FaultyBackend):
    """A data store that holds its next listing of one prefix back, with what it had read."""

    def __init__(self, inner: Backend, prefix: str) -> None:
        super().__init__(inner, Faults())
        self.prefix = prefix
        self.go_on: trio.Event | None = None

    async def list(self, prefix: str) -> Keys:
        found = await super().list(prefix)
        if prefix == self.prefix and self.go_on is not None:
            go_on, self.go_on = self.go_on, None
            await go_on.wait()
        return found


async def test_mounts_that_were_read_too_early_do_not_replace_later_ones(
    autojump_clock: object,
) -> None:
    """
    Goal: a mount does not vanish from memory because an older reading ends after it was made.

    Method: a reading (as of a standby that prepares, and then has to lead at once) is held back.
    """
    async with lab() as here:
        slow = SlowReads(here.world.open("n0"), names.MOUNTS_PREFIX)
        node = await here.start("n0", data=slow)
        await here.unseal(node)
        await until(node, Role.ACTIVE)
        go_on = slow.go_on = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.inspect().core.load)
            await trio.sleep(1)
            status, _ = await here.call(node, "POST", "sys/mounts/new", {"type": "kv"})
            assert status == 204
            go_on.set()
        status, _ = await here.call(node, "POST", "new/k", {"v": "x"})
        assert status == 204
