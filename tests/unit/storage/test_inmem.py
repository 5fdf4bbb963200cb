"""The in-memory store: what is special to it (its contract is in tests/conformance)."""

import pytest
import trio

from baoha.errors import ConfigError, FencedWrite, LockLost, StorageError
from baoha.storage.base import Batch, Capabilities, Fence, LockRecord
from baoha.storage.inmem import EVERYTHING, Observer, World, open_backend


class Recorder(Observer):
    def __init__(self) -> None:
        self.seen: list[object] = []

    def applied(self, batch: Batch, fence: Fence | None) -> None:
        self.seen.append((dict(batch.writes), fence))

    def lock_changed(self, key: str, record: LockRecord | None, epoch: int) -> None:
        self.seen.append((key, record and record.identity, epoch))


async def test_two_backends_of_one_world_share_data() -> None:
    world = World()
    one, two = world.open("one"), world.open("two")
    await one.put("a/b", b"1")
    assert await two.get("a/b") == b"1"
    assert await open_then_get("a/b") is None


async def open_then_get(key: str) -> bytes | None:
    return await (await open_backend({})).get(key)


async def test_open_backend_with_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown key: path"):
        await open_backend({"path": "x"})


async def test_lock_expires_by_the_clock_of_the_world(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    one = await world.open().open_lock("core/lock", "one")
    two = await world.open().open_lock("core/lock", "two")
    fence = await one.acquire("v1", ttl_s=6)
    assert fence == Fence("core/lock", "one", 1)
    await trio.sleep(5.999)
    assert await two.acquire("v2", ttl_s=6) is None
    await trio.sleep(0.001)
    with pytest.raises(LockLost):
        await one.renew(fence, ttl_s=6)
    assert await two.acquire("v2", ttl_s=6) == Fence("core/lock", "two", 2)
    with pytest.raises(FencedWrite):
        await world.open().put("k", b"", fence=fence)


async def test_process_died_lets_a_contender_evict_before_expiry() -> None:
    world = World()
    one = await world.open().open_lock("core/lock", "one")
    two = await world.open().open_lock("core/lock", "two")
    await one.acquire("v1", ttl_s=60)
    record = await two.read()
    assert record is not None
    assert not await two.holder_is_gone(record)
    assert await two.acquire("v2", ttl_s=60, evict=record) is None
    world.process_died("one")
    assert await two.holder_is_gone(record)
    assert await two.acquire("v2", ttl_s=60, evict=record) == Fence("core/lock", "two", 2)


async def test_observers_see_writes_and_lock_changes_in_order() -> None:
    world = World()
    recorder = Recorder()
    world.observers.append(recorder)
    lock = await world.open().open_lock("core/lock", "one")
    fence = await lock.acquire("v", ttl_s=6)
    assert fence is not None
    await world.open().put("k", b"x", fence=fence)
    await lock.renew(fence, ttl_s=6)
    await lock.release(fence, successor="two", ttl_s=6)
    await world.open().delete("k")
    assert recorder.seen == [
        ("core/lock", "one", 1),
        ({"k": b"x"}, fence),
        ("core/lock", "one", 1),
        ("core/lock", "two", 2),
        ({"k": None}, None),
    ]


async def test_a_world_without_watch_never_announces(autojump_clock: trio.abc.Clock) -> None:
    world = World(capabilities=Capabilities(ha=True, fencing=True))
    lock = await world.open().open_lock("core/lock", "one")
    await lock.acquire("v", ttl_s=6)
    with trio.move_on_after(3600) as scope:
        await lock.wait_change()
    assert scope.cancelled_caught
    assert not await lock.holder_is_gone(
        LockRecord(identity="x", value="", epoch=1, expires_in_s=1)
    )
    assert EVERYTHING.watch


@pytest.mark.parametrize("key", ["", "/a", "a/", "a\ud800"])
async def test_a_malformed_key_is_refused(key: str) -> None:
    with pytest.raises(StorageError):
        await World().open().put(key, b"")
