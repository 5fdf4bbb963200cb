"""A process without a free descriptor: what must go on, and what must come back by itself."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio
import trio.testing

from baoha.cluster.active_listener import serve_cluster
from baoha.cluster.network import TCPNetwork
from baoha.cluster.standby_link import StandbyLink
from baoha.core.view import LinkState
from baoha.storage.sqlite import open_backend
from baoha.timing import HATiming
from tests.support.channel import IDENTITY, RecordingActive, RecordingStandby, advertise


@contextmanager
def no_descriptor_free() -> Iterator[None]:
    """Use up every descriptor for the time of the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken[0] + 1, 64), hard))
    try:
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


async def test_lock_without_a_free_descriptor_still_changes_hands(tmp_path: Path) -> None:
    """
    Goal: a node that clients have robbed of its descriptors can hand over, and goes on writing.

    Method: two handles on one file; the holder passes the lock while nothing can be opened.
    """
    store = await open_backend({"path": str(tmp_path / "db")})
    try:
        mine, other = [await store.open_lock("core/lock", name) for name in ("a", "b")]
        fence = await mine.acquire("u", ttl_s=60)
        assert fence is not None
        await store.put("k", b"1", fence=fence)
        with no_descriptor_free():
            await mine.renew(fence, ttl_s=60)
            await mine.release(fence, successor="b", ttl_s=60)
        with trio.fail_after(20):
            await other.wait_change()
        taken = await other.acquire("v", ttl_s=60)
        assert taken is not None
        await store.put("k", b"2", fence=taken)
    finally:
        await store.aclose()


def is_up(link: StandbyLink) -> bool:
    return link.state is LinkState.UP


async def test_link_that_begins_without_a_free_descriptor_comes_up_later() -> None:
    """Goal: a standby that is out of descriptors when the leader changes is late, not dead."""
    network, timing = TCPNetwork(), HATiming()
    async with trio.open_nursery() as nursery:
        active = RecordingActive()
        serve = partial(serve_cluster, network, "127.0.0.1", 0, IDENTITY)
        bound = await nursery.start(
            partial(serve, execute=active.execute, standbys=active, timing=timing)
        )
        advertisement = advertise(host=bound[0], port=bound[1])
        link = StandbyLink(network, advertisement, RecordingStandby(), timing=timing)
        with no_descriptor_free():
            nursery.start_soon(link.run)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not is_up(link)
        with trio.fail_after(5):
            while not is_up(link):  # noqa: ASYNC110 - nobody tells us
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
