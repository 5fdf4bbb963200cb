"""Moments of a tenure in which something else happens too: what must not end or strand a node."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import timedelta

import pytest
import trio

from baoha import names
from baoha.cluster.channel import LeaderNotice, NodeInfo, PrepareReply
from baoha.core.view import LinkState, Role
from baoha.errors import LeadershipLost, StorageUnavailable
from baoha.ha.loop import HALoop
from baoha.node import Node, NodeSettings
from baoha.sansio.patience import PeerPatience
from baoha.storage.base import Backend, Batch, LockRecord
from baoha.storage.faulty import Faults, FaultyBackend, FaultyHABackend, FaultyStore
from baoha.storage.inmem import EVERYTHING, Observer, World
from tests.support.node_lab import EPOCH, MutinousBackend, lab, step_down, until


def loop_of(node: Node) -> HALoop:
    loop = node.inspect().loop
    assert loop is not None
    return loop


class PeerOfTheLastMoment:
    """A standby that is prepared in the very moment in which the active node loses its lock."""

    info = NodeInfo(
        node_id="peer",
        hostname="peer",
        api_addr="http://peer:8200",
        cluster_addr="https://peer:8201",
        version="9.9.9",
        software="baoha 0.1.0",
        ready=True,
    )
    echoed_s_ago = 0.0
    echoed_at_unix_s = 0.0
    patience = PeerPatience()

    def __init__(self, node: Node) -> None:
        self._loop = loop_of(node)

    async def prepare(self) -> PrepareReply:
        assert self._loop.tenure is not None
        self._loop.tenure.end("lock lost: held by somebody else")
        return PrepareReply(ready=True)

    def notify(self, notice: LeaderNotice) -> None:
        """Nobody reads it."""


async def test_tenure_that_ends_while_its_successor_answers_is_not_handed_over(
    autojump_clock: object,
) -> None:
    """Goal: two ends of one tenure in one moment do not end the process."""
    async with lab() as here:
        node = await here.active("n0")
        loop_of(node).standbys.joined(PeerOfTheLastMoment(node))
        # Repeated in the next tenure, which has no standby.
        assert await step_down(here, node) == 409
        assert node.status().role is Role.ACTIVE


async def test_renewal_after_the_lock_was_given_back_is_no_lost_lock(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Goal: a planned end is not taken for a lost lock.

    Method: the store's answer to the release takes longer than the pause between two renewals.
    """
    caplog.set_level(logging.INFO, "baoha")
    faults = Faults()
    async with lab() as here:
        node = await here.start("n0", locks=FaultyHABackend(here.world.open("n0"), faults))
        await here.unseal(node)
        await until(node, Role.ACTIVE)
        await trio.sleep(3.1)
        faults.reply_latency_s = 1.6
        await node.leave()
    assert "gave active duty up, to nobody: the node is shutting down" in caplog.text
    assert "lock lost" not in caplog.text


async def test_node_that_has_always_been_alone_leaves_at_once(autojump_clock: object) -> None:
    """Goal: nobody waits for a standby that there has never been, however young the tenure is."""
    async with lab() as here:
        node = await here.active("n0")
        began = trio.current_time()
        await node.leave()
        assert trio.current_time() - began < 0.1
        assert here.locks.record is None


async def test_young_node_waits_for_the_standbys_that_it_knows(autojump_clock: object) -> None:
    """Goal: two planned changes in a row: the second one does not leave without a successor."""
    async with lab() as here:
        first = await here.active("n0")
        second = await here.start("n1")
        await here.unseal(second)
        await trio.sleep(2)
        assert await step_down(here, first) == 204
        await until(second, Role.ACTIVE)
        here.hub.block("n0", "n1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.leave)
            await trio.sleep(1)
            assert second.status().role is Role.ACTIVE
            here.hub.unblock("n0", "n1")
        await until(first, Role.ACTIVE, 0.1)


async def test_seal_whose_caller_runs_out_of_time_still_seals(autojump_clock: object) -> None:
    """
    Goal: a node does not stay unsealed and never contend again.

    Method: the request's time limit passes while a long request holds up the hand-over.
    """
    async with lab() as here:
        node = await here.active("n0")

        async def long_request() -> None:
            with pytest.raises(LeadershipLost), node.admit():
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(long_request)
            await trio.sleep(0.1)
            with trio.move_on_after(0.5) as limit:
                await node.seal()
            assert limit.cancelled_caught
            await until(node, Role.SEALED, 5)
        await here.unseal(node)
        await until(node, Role.ACTIVE, 10)


class StopAt(Observer):
    """Cancels a scope in the moment in which somebody acquires the lock."""

    def __init__(self, identity: str, scope: trio.CancelScope) -> None:
        self._identity = identity
        self._scope = scope

    def lock_changed(self, key: str, record: LockRecord | None, epoch: int) -> None:
        if record is not None and record.identity == self._identity and record.value:
            self._scope.cancel()


async def test_lock_that_a_stopping_node_gets_is_given_on_although_it_ends(
    autojump_clock: object,
) -> None:
    """
    Goal: a lock that was passed to a node which stops is not left lying for its ttl.

    Method: the node's tasks are cancelled in the moment in which it takes the lock up, to give it
    on.
    """
    async with lab() as here:
        active = await here.active("n0")
        async with trio.open_nursery() as inner:
            outer, here.nursery = here.nursery, inner
            stopping = await here.start("n1")
            here.nursery = outer
            await here.unseal(stopping)
            await trio.sleep(1)
            await stopping.leave()
            identity = stopping.status().node_id
            here.world.observers.append(StopAt(identity, inner.cancel_scope))
            tenure = loop_of(active).tenure
            assert tenure is not None
            assert tenure.fence is not None
            lock = active.inspect().lock
            assert lock is not None
            await lock.release(tenure.fence, successor=identity, ttl_s=60)
        record = here.locks.record
        assert record is None or record.identity != identity


class FirstAdvertisementIsLost(FaultyBackend):
    """A data store that fails for the advertisement that follows a late bind."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner, Faults())
        self.fails = False

    async def apply(self, batch: Batch) -> None:
        if self.fails and any(key.startswith(names.LEADER_PREFIX) for key in batch.writes):
            await trio.lowlevel.checkpoint()
            raise StorageUnavailable("no answer")
        await super().apply(batch)


async def test_cluster_address_that_could_not_be_advertised_is_advertised_later(
    autojump_clock: object,
) -> None:
    """
    Goal: a store that fails for a moment does not leave standbys without forwarding for a tenure.

    Method: the cluster port is taken at first; when it is free, the store fails for five seconds.
    """

    async def nobody(stream: trio.abc.Stream) -> None:
        await trio.aclose_forcefully(stream)

    async with lab() as here:
        data = FirstAdvertisementIsLost(here.world.open("n0"))
        active = await here.start("n0", data=data)
        async with trio.open_nursery() as stranger:
            await stranger.start(here.hub.network("n0").serve, nobody, "n0", 8201)
            await here.unseal(active)
            await until(active, Role.ACTIVE)
            standby = await here.start("n1")
            await here.unseal(standby)
            await trio.sleep(2)
            assert "BH-609" in active.problems()[0]
            data.fails = True
            stranger.cancel_scope.cancel()
        await trio.sleep(5)
        data.fails = False
        await trio.sleep(2)
        assert standby.status().link is LinkState.UP
        leader = active.status().leader
        assert leader is not None
        assert leader.cluster_addr == "https://n0:8201"


async def test_slow_answer_of_the_store_is_no_sign_of_life(autojump_clock: object) -> None:
    """
    Goal: no client is sent to a node that has died, although nothing proves its death.

    Method: the store knows no sessions; the standby's reads of the lock take now shorter, now
    longer.
    """
    async with lab() as here:
        here.world = World(capabilities=replace(EVERYTHING, session_lock=False))
        dead, slow = Faults(), Faults()
        active = await here.start("n0", locks=FaultyHABackend(here.world.open("n0"), dead))
        await here.unseal(active)
        await until(active, Role.ACTIVE)
        standby = await here.start("n1", locks=FaultyHABackend(here.world.open("n1"), slow))
        await here.unseal(standby)
        await trio.sleep(3)
        assert standby.status().link is LinkState.UP
        dead.unavailable = True
        here.hub.kill("n0")
        for number in range(80):
            slow.reply_latency_s = 0.3 * (number // 7 % 2)
            await trio.sleep(0.05)
            assert standby.status().link is not LinkState.FAILED


async def test_trouble_with_a_former_leader_is_not_shown_for_ever(autojump_clock: object) -> None:
    """Goal: an active node does not say that it cannot reach the active node."""
    async with lab() as here:
        first = await here.active("n0")
        second = await here.start("n1")
        await here.unseal(second)
        here.hub.block("n1", "n0")
        await trio.sleep(20)
        assert "BH-401" in second.problems()[0]
        status, _ = await here.call(first, "PUT", "sys/step-down", {"force": True})
        assert status == 204
        await until(second, Role.ACTIVE)
        assert second.problems() == ()


async def test_unsealing_that_has_happened_is_not_answered_as_failed(
    autojump_clock: object,
) -> None:
    """Goal: an error means that nothing has changed. Method: the store fails right afterwards."""
    async with lab() as here:
        data = MutinousBackend(here.world.open("n0"))
        node = await here.start("n0", data=data)
        data.prefix = names.CLUSTER_INFO
        body = {"key": here.shares[0].hex()}
        status, text = await here.call(node, "PUT", "sys/unseal", body)
        assert (status, json.loads(text)["sealed"]) == (200, False)
        data.prefix = ""
        await until(node, Role.ACTIVE)
        assert node.status().cluster_name


class FailsAfter(Observer):
    """Lets the reads of a store fail from the moment on in which a token was removed."""

    def __init__(self, data: MutinousBackend) -> None:
        self._data = data

    def applied(self, batch: Batch, fence: object) -> None:
        if any(
            key.startswith(names.TOKEN_ID_PREFIX) for key, blob in batch.writes.items() if not blob
        ):
            self._data.prefix = names.TOKEN_PARENT_PREFIX


async def test_store_that_fails_half_way_leaves_no_error_that_claims_nothing_happened(
    autojump_clock: object,
) -> None:
    """
    Goal: an error that does not speak of an unknown outcome has left nothing behind.

    Method: to revoke a token takes several steps; the store fails after the first one.
    """
    async with lab() as here:
        data = MutinousBackend(here.world.open("n0"))
        node = await here.start("n0", data=data)
        await here.unseal(node)
        await until(node, Role.ACTIVE)
        status, text = await here.call(node, "POST", "auth/token/create", {"policies": ["root"]})
        assert status == 200
        token = json.loads(text)["auth"]["client_token"]
        here.world.observers.append(FailsAfter(data))
        status, text = await here.call(node, "POST", "auth/token/revoke", {"token": token})
        assert data.prefix
        assert status == 503
        assert "unknown" in text


async def test_step_down_that_could_not_give_the_lock_back_is_not_answered_as_done(
    autojump_clock: object,
) -> None:
    """Goal: 204 means that somebody else has the lock. Method: the store of the locks is full."""
    async with lab() as here:
        faults = Faults()
        node = await here.start("n0", locks=FaultyHABackend(here.world.open("n0"), faults))
        await here.unseal(node)
        await until(node, Role.ACTIVE)
        standby = await here.start("n1")
        await here.unseal(standby)
        await trio.sleep(2)
        faults.full = True
        status, text = await here.call(node, "PUT", "sys/step-down")
        assert status == 503
        assert "unknown" in text
        await node.leave()
        faults.full = False
        await until(standby, Role.ACTIVE, 7)


async def test_lone_node_without_clustering_is_back_at_once_after_a_crash(
    autojump_clock: object,
) -> None:
    """
    Goal: the port of the dead that is asked for evidence is not this node's own.

    Method: a process dies, and the next one serves the API at the same address.
    """

    async def serve_api(stream: trio.abc.Stream) -> None:
        await trio.aclose_forcefully(stream)

    async with lab() as here:
        await here.nursery.start(here.hub.network("n0").serve, serve_api, "n0", 8200)

        async def process(faults: Faults) -> Node:
            store = FaultyStore(here.world.open("n0"), faults)
            node = Node(
                NodeSettings(api_addr="http://n0:8200"),
                backend=store,
                ha_backend=store,
                network=here.hub.network("n0"),
                boot_clock=trio.current_time,
                now=lambda: EPOCH + timedelta(seconds=trio.current_time()),
            )
            await here.nursery.start(node.run)
            return node

        await here.start("other")  # initialises
        faults = Faults()
        first = await process(faults)
        await here.unseal(first)
        await until(first, Role.ACTIVE)
        await trio.sleep(2)
        faults.silent = True
        here.world.process_died(first.status().node_id)
        second = await process(Faults())
        await here.unseal(second)
        await until(second, Role.ACTIVE, 0.5)


async def test_fresh_standby_asks_for_both_pieces_of_evidence(autojump_clock: object) -> None:
    """
    Goal: half a proof of death is none, also for a node that has not met the active one yet.

    Method: the store takes the active node for gone, which lives and listens.
    """
    async with lab() as here:
        active = await here.active("n0")
        here.world.process_died(active.status().node_id)
        standby = await here.start("n1")
        await here.unseal(standby)
        await trio.sleep(3)
        assert active.status().role is Role.ACTIVE
        assert standby.status().link is LinkState.UP
