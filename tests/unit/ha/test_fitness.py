"""Nodes that could not lead: what tells them before, and what becomes of them when it is tried."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import pytest
import trio

from baoha import names
from baoha.cluster.network import TCPNetwork
from baoha.core.maintenance import INTERVAL_S as MAINTENANCE_INTERVAL_S
from baoha.core.view import LinkState, Role
from baoha.errors import (
    BarrierError,
    FencedWrite,
    StorageCorrupt,
    StorageError,
    StorageUnavailable,
    TransactionConflict,
)
from baoha.node import Node
from baoha.storage.base import Backend, Batch, Keys
from baoha.storage.faulty import Faults, FaultyBackend, FaultyHABackend
from tests.support.node_lab import Lab, lab, step_down, until


class RaisingBackend(FaultyBackend):
    """A data store that raises a given error at the calls that touch one prefix."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner, Faults())
        self.prefix = "nothing"
        self.error: Callable[[], StorageError] = StorageError
        self.writes = False
        self.raised = 0

    async def get(self, key: str) -> bytes | None:
        await self._check(key, writes=False)
        return await super().get(key)

    async def list(self, prefix: str) -> Keys:
        await self._check(prefix, writes=False)
        return await super().list(prefix)

    async def apply(self, batch: Batch) -> None:
        for key in batch.writes:
            await self._check(key, writes=True)
        await super().apply(batch)

    async def _check(self, key: str, *, writes: bool) -> None:
        if writes == self.writes and key.startswith(self.prefix):
            await trio.lowlevel.checkpoint()
            self.raised += 1
            raise self.error()


async def nobody(stream: trio.abc.Stream) -> None:
    await trio.aclose_forcefully(stream)


async def with_standby(here: Lab) -> tuple[Node, Node]:
    active = await here.active("n0")
    standby = await here.start("n1")
    await here.unseal(standby)
    await trio.sleep(2)
    return active, standby


# --- what is tried beforehand -------------------------------------------------------------------


async def test_standby_whose_cluster_port_is_taken_is_not_ready_until_it_is_free(
    autojump_clock: object,
) -> None:
    """Goal: active duty does not go to a node that standbys could not reach."""
    async with lab() as here:
        active, standby = await with_standby(here)
        async with trio.open_nursery() as stranger:
            await stranger.start(here.hub.network("n1").serve, nobody, "n1", 8201)
            status, text = await here.call(active, "PUT", "sys/step-down")
            assert status == 409
            assert "BH-609 cannot listen on cluster address n1:8201" in text
            await trio.sleep(6)
            assert any("BH-609" in problem for problem in standby.problems())
            (row,) = [row for row in active.members() if row.node_id == standby.status().node_id]
            assert not row.ready
            assert active.status().role is Role.ACTIVE
            stranger.cancel_scope.cancel()
        await trio.sleep(6)
        assert standby.problems() == ()
        assert await step_down(here, active) == 204
        await until(standby, Role.ACTIVE, 1)


async def test_another_standby_is_taken_for_one_whose_cluster_port_is_taken(
    autojump_clock: object,
) -> None:
    async with lab() as here:
        active, standby = await with_standby(here)
        other = await here.start("n2")
        await here.unseal(other)
        async with trio.open_nursery() as stranger:
            await stranger.start(here.hub.network("n1").serve, nobody, "n1", 8201)
            await trio.sleep(0.1)  # it does not know yet, and is asked
            assert await step_down(here, active) == 204
            await until(other, Role.ACTIVE, 1)
            stranger.cancel_scope.cancel()
        assert standby.status().role is Role.STANDBY


async def test_node_that_has_just_left_is_ready_although_it_still_answers_over_its_port(
    autojump_clock: object,
) -> None:
    """Goal: its own listener, which finishes its replies, is no stranger."""
    async with lab() as here:
        active, standby = await with_standby(here)
        frozen = await here.start("n2")
        await here.unseal(frozen)
        await trio.sleep(2)
        here.hub.isolate("n2")
        assert (await here.call(active, "PUT", "sys/step-down", {"to": "n1"}))[0] == 204
        await until(standby, Role.ACTIVE, 1)
        await trio.sleep(0.2)
        assert here.hub.is_listening("n0", 8201)
        assert (await here.call(standby, "PUT", "sys/step-down", {"to": "n0"}))[0] == 204
        await until(active, Role.ACTIVE, 1)


async def test_standby_whose_store_takes_no_writes_is_not_prepared(autojump_clock: object) -> None:
    """Goal: a lock is not passed to a node that could not take it up."""
    async with lab() as here:
        active = await here.active("n0")
        faults = Faults()
        standby = await here.start("n1", locks=FaultyHABackend(here.world.open("n1"), faults))
        await here.unseal(standby)
        await trio.sleep(2)
        faults.full = True
        status, text = await here.call(active, "PUT", "sys/step-down")
        assert status == 409
        assert "disk is full" in text
        assert active.status().role is Role.ACTIVE
        faults.full = False
        assert await step_down(here, active) == 204


async def test_check_of_an_address_tells_taken_from_free_and_never_listens() -> None:
    network = TCPNetwork()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        await network.check("127.0.0.1", port)
    await listeners[0].aclose()
    await network.check("127.0.0.1", port)
    with pytest.raises(ConnectionRefusedError):
        await network.connect("127.0.0.1", port)
    with pytest.raises(socket.gaierror):
        await network.check("no such host", port)


# --- keys that do not fit -----------------------------------------------------------------------


async def test_standbys_whose_keys_do_not_fit_seal_and_leave_the_lock(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Goal: nodes that cannot lead do not take and drop the lock for ever.

    Method: one bit of the stored keyring is flipped, and the active node dies.
    """
    caplog.set_level(logging.INFO, "baoha")
    async with lab() as here:
        faults = Faults()
        active = await here.start("n0", locks=FaultyHABackend(here.world.open("n0"), faults))
        await here.unseal(active)
        await until(active, Role.ACTIVE)
        standbys = [await here.start(name) for name in ("n1", "n2")]
        for node in standbys:
            await here.unseal(node)
        await trio.sleep(2)
        keyring = bytearray(here.world.data[names.KEYRING])
        keyring[-1] ^= 1
        here.world.data[names.KEYRING] = bytes(keyring)
        taken = len(here.locks.acquired)
        faults.unavailable = True
        here.world.process_died(active.status().node_id)
        here.hub.kill("n0")
        for node in standbys:
            await until(node, Role.SEALED, 10)
        await trio.sleep(20)
        assert here.locks.record is None
        assert len(here.locks.acquired) == taken + 2  # each has tried once
    assert "sealing: what is stored cannot be read" in caplog.text
    assert "exceptions" not in caplog.text


ERRORS = [
    StorageCorrupt("malformed"),
    BarrierError(),
    StorageUnavailable("no answer"),
    StorageUnavailable("no answer", outcome="unknown"),
    TransactionConflict(),
    FencedWrite(),
    StorageError("failed"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("prefix", "writes"),
    [
        (names.KEYRING, False),
        (names.SEAL_CONFIG, False),
        (names.MOUNTS_PREFIX, False),
        (names.CLUSTER_INFO, False),
        (names.LEADER_PREFIX, True),
    ],
)
async def test_take_up_that_meets_an_error_of_the_store_ends_sealed_or_at_rest(
    autojump_clock: object, prefix: str, writes: bool, error: StorageError
) -> None:
    """
    Goal: each error of the store has its end: what no retry helps against seals the node or makes
    it rest, and everything else is tried again and gone when the store is well.
    """
    async with lab() as here:
        data = RaisingBackend(here.world.open("n0"))
        node = await here.start("n0", data=data)
        await here.unseal(node)
        await until(node, Role.ACTIVE)
        other = await here.start("n1")
        await here.unseal(other)
        await trio.sleep(2)
        assert await step_down(here, node) == 204
        await until(other, Role.ACTIVE, 2)
        await trio.sleep(12)
        data.prefix, data.writes, data.error = prefix, writes, lambda: error
        taken = len(here.locks.acquired)
        await other.leave()
        await trio.sleep(30)
        assert data.raised
        no_key = prefix in (names.KEYRING, names.SEAL_CONFIG) and isinstance(error, StorageCorrupt)
        if no_key:
            assert node.status().sealed
            assert len(here.locks.acquired) <= taken + 1
            return
        assert node.status().role is Role.STANDBY
        assert len(here.locks.acquired) - taken <= (4 if isinstance(error, StorageCorrupt) else 60)
        data.prefix = "nothing"
        await until(node, Role.ACTIVE, 12)


async def test_node_without_ha_whose_store_fails_does_not_spin(autojump_clock: object) -> None:
    """Goal: pauses between attempts. (The virtual clock cannot jump while it spins.)"""
    async with lab() as here:
        data = RaisingBackend(here.world.open("n0"))
        node = await here.start("n0", data=data, ha=False)
        data.prefix, data.error = names.MOUNTS_PREFIX, lambda: StorageUnavailable("no answer")
        await here.unseal(node)
        await trio.sleep(10)
        assert 1 < data.raised < 200
        data.prefix = "nothing"
        await until(node, Role.ACTIVE, 1)


async def test_advertisement_that_nobody_can_read_seals_no_standby(autojump_clock: object) -> None:
    async with lab() as here:
        active = await here.active("n0")
        record = here.locks.record
        assert record is not None
        here.world.data[names.LEADER_PREFIX + record.value] = b"garbage"
        standby = await here.start("n1")
        await here.unseal(standby)
        await trio.sleep(5)
        assert standby.status().role is Role.STANDBY
        assert standby.status().link is LinkState.NONE
        assert active.status().role is Role.ACTIVE


# --- fenced writes ------------------------------------------------------------------------------


@pytest.mark.parametrize("job", range(3))
async def test_background_job_that_is_fenced_off_ends_the_tenure(
    autojump_clock: object, job: int
) -> None:
    """
    Goal: the store knows that the tenure is over, and its first sign is enough.

    Method: each job of maintenance is fenced off; nobody asks for anything, and renewals succeed.
    """

    async def fenced() -> None:
        await trio.lowlevel.checkpoint()
        raise FencedWrite

    async with lab() as here:
        node = await here.active("n0")
        epoch = node.status().epoch
        maintenance = node.inspect().maintenance
        jobs = list(maintenance.jobs)
        jobs[job] = fenced
        maintenance.jobs = jobs
        await trio.sleep(MAINTENANCE_INTERVAL_S + 0.5)
        await until(node, Role.ACTIVE, 5)
        assert node.status().epoch > epoch


async def test_stale_advertisement_that_is_fenced_off_ends_the_tenure(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab() as here:
        node = await here.active("n0")
        assert (await here.call(node, "PUT", "sys/step-down", {"force": True}))[0] == 204
        await until(node, Role.ACTIVE, 5)
        await trio.sleep(1)
        barrier, epoch = node.inspect().barrier, node.status().epoch
        await barrier.put(names.LEADER_PREFIX + "old", b"x")

        delete = barrier.delete

        async def fenced_once(path: str) -> None:
            monkeypatch.setattr(barrier, "delete", delete)
            await trio.lowlevel.checkpoint()
            raise FencedWrite

        monkeypatch.setattr(barrier, "delete", fenced_once)
        assert (await here.call(node, "PUT", "sys/step-down", {"force": True}))[0] == 204
        await trio.sleep(3)
        await until(node, Role.ACTIVE, 10)
        assert node.status().epoch == epoch + 2  # of the step-down, and of the fenced tenure
