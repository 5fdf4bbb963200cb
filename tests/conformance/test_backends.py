"""Every store against the conformance suites; whole transactions under faults; real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
import trio
import trio.testing

from baoha.errors import FencedWrite, StorageError, StorageUnavailable
from baoha.storage.base import Backend, Batch, Capabilities, Fence, HABackend, StoreLimits
from baoha.storage.exercise import exercise_backend, exercise_ha_backend
from baoha.storage.exercise.data import DATA_PARTS
from baoha.storage.exercise.ha import HA_PARTS
from baoha.storage.faulty import Faults, FaultyStore
from baoha.storage.inmem import EVERYTHING, World
from baoha.storage.lock_rules import LockRow
from baoha.storage.registry import load_type, store_names
from baoha.storage.settings import SettingKind, StoreSetting
from baoha.storage.sqlite import open_backend as open_sqlite
from baoha.timing import boot_time_s

_CHILD = Path(__file__).with_name("sqlite_child.py")


class HandClock:
    """A store's clock that a test moves."""

    def __init__(self) -> None:
        self._now_s = boot_time_s()

    def __call__(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        await trio.lowlevel.checkpoint()


@dataclass
class Store:
    """How to open one kind of store again and again, and how to let its time pass."""

    open: Callable[[], Awaitable[Backend]]
    sleep: Callable[[float], Awaitable[object]]


def inmem_store(path: Path) -> Store:
    clock = HandClock()
    world = World(clock=clock)

    async def open_one() -> Backend:
        await trio.lowlevel.checkpoint()
        return world.open()

    return Store(open_one, clock.sleep)


def sqlite_store(path: Path) -> Store:
    return installed_store("sqlite", path)


def installed_store(name: str, path: Path) -> Store:
    """Return how to open a store as it is installed here, with its defaults, below a folder."""
    clock = HandClock()
    row = load_type(name)
    settings = {setting.key: given(setting, path) for setting in row.settings if needed(setting)}

    async def open_one() -> Backend:
        return await row.open_backend(settings, boot_clock=clock)

    return Store(open_one, clock.sleep)


def needed(setting: StoreSetting) -> bool:
    return setting.default is None


def given(setting: StoreSetting, path: Path) -> str:
    """Return a value for a required key; of a service that is run elsewhere, its variable's."""
    if setting.kind is SettingKind.PATH:
        return str(path / "store")
    return os.environ[f"BAOHA_{setting.env}"]


def behind_faults(inner: Store) -> Store:
    async def open_one() -> Backend:
        return FaultyStore(await inner.open(), Faults(op_timeout_s=10))

    return Store(open_one, inner.sleep)


# A world in memory that many nodes open is what simulations run on; no configuration opens it.
KINDS = [*store_names(), "world"]


@pytest.fixture(params=[*KINDS, *(f"faulty-{kind}" for kind in KINDS)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path) -> Store:
    name = kind.removeprefix("faulty-")
    inner = inmem_store(tmp_path) if name == "world" else installed_store(name, tmp_path)
    return behind_faults(inner) if kind.startswith("faulty") else inner


def declared(kind: str) -> Capabilities:
    name = kind.removeprefix("faulty-")
    return EVERYTHING if name == "world" else load_type(name).capabilities


async def test_store_keeps_the_contract_of_backend(store: Store) -> None:
    report = await exercise_backend(store.open)
    assert len(report.passed) == len(DATA_PARTS)


async def test_store_keeps_the_contract_of_ha_backend_as_far_as_it_declares(
    store: Store, kind: str
) -> None:
    report = await exercise_ha_backend(store.open, sleep=store.sleep)
    assert len(report.passed) + len(report.not_run) == len(HA_PARTS)
    wanted = {
        part.run.__name__: next(
            (need for need in ("ha", *part.needs) if not getattr(declared(kind), need)), None
        )
        for part in HA_PARTS
    }
    assert report.not_run == {name: need for name, need in wanted.items() if need}


async def test_suite_reports_what_an_undeclared_capability_leaves_out() -> None:
    clock = HandClock()
    world = World(clock=clock, capabilities=Capabilities(ha=True, fencing=True))

    async def open_one() -> Backend:
        await trio.lowlevel.checkpoint()
        return world.open()

    report = await exercise_ha_backend(open_one, sleep=clock.sleep)
    assert set(report.not_run.values()) == {"hand_over", "session_lock", "watch"}
    assert "writes_with_a_false_fence_are_refused" in report.passed


# --- the suites can fail ------------------------------------------------------------------------


class ForgetsFence(World):
    def fence_holds(self, fence: Fence) -> bool:
        return True


class ForgetsPhantoms(World):
    def apply(self, batch: Batch) -> None:
        super().apply(Batch(writes=batch.writes, expected=batch.expected, fence=batch.fence))


class ForgetsReads(World):
    def apply(self, batch: Batch) -> None:
        writes, lists = batch.writes, batch.expected_lists
        super().apply(Batch(writes=writes, expected_lists=lists, fence=batch.fence))


class WritesBeforeItChecks(World):
    def apply(self, batch: Batch) -> None:
        super().apply(Batch(writes=batch.writes))
        super().apply(batch)


class ForgetsFolders(World):
    def children(self, prefix: str, after: str = "", limit: int = -1) -> list[str]:
        return [name for name in super().children(prefix, after, limit) if name[-1] != "/"]


class BelievesEverybodyDead(World):
    def is_gone(self, identity: str) -> bool:
        return True


class BelievesNobodyDead(World):
    def is_gone(self, identity: str) -> bool:
        return False


class ForgetsEpochs(World):
    def set_row(self, key: str, row: LockRow, *, announce: bool = True) -> None:
        super().set_row(key, replace(row, epoch=7), announce=announce)


class RefusesAtItsLimit(World):
    def __init__(self) -> None:
        super().__init__(limits=StoreLimits(value_bytes=2_000_000))

    def apply(self, batch: Batch) -> None:
        if any(value and len(value) == self.limits.value_bytes for value in batch.writes.values()):
            raise StorageUnavailable("request is too large")
        super().apply(batch)


class CutsLargeBatches(World):
    def __init__(self) -> None:
        super().__init__(limits=StoreLimits(batch_ops=200))

    def apply(self, batch: Batch) -> None:
        super().apply(replace(batch, writes=dict(list(batch.writes.items())[:150])))


class AnnouncesNothing(World):
    def set_row(self, key: str, row: LockRow, *, announce: bool = True) -> None:
        super().set_row(key, row, announce=False)


@pytest.mark.parametrize(
    "broken",
    [
        ForgetsFence,
        ForgetsPhantoms,
        ForgetsReads,
        WritesBeforeItChecks,
        ForgetsFolders,
        BelievesEverybodyDead,
        BelievesNobodyDead,
        ForgetsEpochs,
        RefusesAtItsLimit,
        CutsLargeBatches,
        AnnouncesNothing,
    ],
)
async def test_suites_find_a_broken_store(
    broken: type[World], autojump_clock: trio.testing.MockClock
) -> None:
    world = broken()

    async def open_one() -> Backend:
        await trio.lowlevel.checkpoint()
        return world.open()

    with pytest.raises(AssertionError) as caught:
        await exercise_backend(open_one)
        await exercise_ha_backend(open_one)
    assert "in part" in caught.value.__notes__[0]


# --- fail everywhere ----------------------------------------------------------------------------


async def kv_write(backend: Backend, fence: Fence, value: bytes) -> None:
    """Do what a KV v2 write does: metadata and a new version, in one transaction."""
    async with backend.transaction(fence=fence) as transaction:
        versions = await transaction.list("kv/versions/")
        count = int(await transaction.get("kv/metadata") or b"0")
        assert count == len(versions)
        transaction.put(f"kv/versions/{count}", value)
        transaction.put("kv/metadata", b"%d" % (count + 1))


@pytest.mark.parametrize("kind", [inmem_store, sqlite_store])
@pytest.mark.parametrize("effect", ["before", "after"])
async def test_kv_write_that_fails_anywhere_is_whole_or_absent(
    kind: Callable[[Path], Store], effect: Literal["before", "after"], tmp_path: Path
) -> None:
    async with aclosing(await kind(tmp_path).open()) as inner:
        assert isinstance(inner, HABackend)
        lock = await inner.open_lock("core/lock", "one")
        fence = await lock.acquire("", ttl_s=60)
        assert fence is not None
        faults = Faults()
        backend = FaultyStore(inner, faults)
        written = failed_after_landing = 0
        for n in range(1, 100):
            faults.fail_nth(n, effect)
            try:
                await kv_write(backend, fence, b"%d" % n)
            except StorageUnavailable as exc:
                versions = await inner.list("kv/versions/")
                if exc.outcome == "not_applied":
                    assert len(versions) == written
                failed_after_landing += len(versions) - written
                written = len(versions)
            else:
                written += 1
                assert await inner.get(f"kv/versions/{written - 1}") == b"%d" % n
            assert int(await inner.get("kv/metadata") or b"0") == written
            if not faults.fired:
                break
        else:
            raise AssertionError("the write makes calls without end")
        assert n == 4  # list, get and apply can fail; the fourth plan met no call
        assert failed_after_landing == (1 if effect == "after" else 0)


@pytest.mark.parametrize("kind", [inmem_store, sqlite_store])
@pytest.mark.parametrize("effect", ["before", "after"])
async def test_tenure_that_fails_anywhere_leaves_a_lock_that_can_be_taken(
    kind: Callable[[Path], Store], effect: Literal["before", "after"], tmp_path: Path
) -> None:
    async with aclosing(await kind(tmp_path).open()) as inner:
        assert isinstance(inner, HABackend)
        faults = Faults()
        one = await FaultyStore(inner, faults).open_lock("core/lock", "one")
        two = await inner.open_lock("core/lock", "two")
        epoch = 0
        for n in range(1, 100):
            faults.fail_nth(n, effect)
            try:
                fence = await one.acquire("1", ttl_s=60)
                assert fence is not None
                await one.renew(fence, ttl_s=60)
                await inner.put("key", b"%d" % n, fence=fence)
                await one.release(fence)
            except StorageUnavailable:
                # The node tries again with its own identity, whatever became of the first attempt.
                fence = await one.acquire("1", ttl_s=60)
                assert fence is not None
                await one.release(fence)
            assert fence.epoch > epoch
            other = await two.acquire("2", ttl_s=60)
            assert other is not None
            assert other.epoch > fence.epoch
            with pytest.raises(FencedWrite):
                await inner.put("key", b"late", fence=fence)
            await two.release(other)
            epoch = other.epoch
            if not faults.fired:
                break
        assert n == 4


# --- processes that die -------------------------------------------------------------------------


def child(path: Path, task: str) -> AbstractAsyncContextManager[trio.Process]:
    return run_child([str(_CHILD), str(path), task])


@asynccontextmanager
async def run_child(arguments: list[str]) -> AsyncIterator[trio.Process]:
    pipe = subprocess.PIPE
    process = await trio.lowlevel.open_process(
        [sys.executable, *arguments], stdin=pipe, stdout=pipe
    )
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            if process.returncode is None:
                process.kill()
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                await pipe.aclose()


class Lines:
    """What a child prints, by whole lines; a line that its end has cut was never said."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        self._stream = process.stdout
        self._cut = b""

    async def read(self, count: int) -> list[str]:
        """Return at least so many lines."""
        lines: list[str] = []
        with trio.fail_after(20):
            while len(lines) < count:
                received = await self._stream.receive_some()
                assert received, "the child ended too early"
                lines += self._whole(received)
        return lines

    async def rest(self) -> list[str]:
        """Return the lines until the child's end."""
        return [line async for received in self._stream for line in self._whole(received)]

    def _whole(self, received: bytes) -> list[str]:
        *whole, self._cut = (self._cut + received).split(b"\n")
        return [line.decode() for line in whole]


async def test_output_of_a_child_is_read_by_whole_lines_however_it_is_cut() -> None:
    text = "one\ntwo\n\nthree"
    send = f"import os, time; [(os.write(1, c.encode()), time.sleep(0.01)) for c in {text!r}]"
    async with run_child(["-c", send]) as process:
        lines = Lines(process)
        assert await lines.read(2) == ["one", "two"]
        assert await lines.rest() == [""]


async def test_sqlite_keeps_every_acknowledged_write_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "baoha.db"
    acknowledged: list[str] = []
    for _ in range(3):
        async with child(path, "write") as process:
            lines = Lines(process)
            acknowledged += await lines.read(300)
            process.kill()
            acknowledged += await lines.rest()
    assert len(acknowledged) >= 900
    async with aclosing(await open_sqlite({"path": str(path)})) as backend:
        for key in acknowledged:
            assert await backend.get(key) == key.encode() * 8


async def test_sqlite_lock_of_a_killed_process_is_evicted_at_once(tmp_path: Path) -> None:
    path = tmp_path / "baoha.db"
    async with aclosing(await open_sqlite({"path": str(path)})) as backend:
        lock = await backend.open_lock("core/lock", "parent")
        async with child(path, "hold") as process:
            epoch = int((await Lines(process).read(1))[0])
            record = await lock.read()
            assert record is not None
            assert (record.epoch, record.value) == (epoch, "child")
            assert record.expires_in_s > 30
            # Stopped is not dead.
            os.kill(process.pid, signal.SIGSTOP)
            assert not await lock.holder_is_gone(record)
            assert await lock.acquire("parent", ttl_s=60, evict=record) is None
            process.kill()
            await process.wait()
            assert await lock.holder_is_gone(record)
            fence = await lock.acquire("parent", ttl_s=60, evict=record)
            assert fence == Fence("core/lock", "parent", epoch + 1)
            with pytest.raises(FencedWrite):
                await backend.put("key", b"", fence=Fence("core/lock", record.identity, epoch))
            await backend.put("key", b"", fence=fence)
    assert sorted(os.listdir(tmp_path)) == ["baoha.db", "baoha.db.ha"]


async def test_sqlite_release_by_another_process_wakes_a_waiting_contender(tmp_path: Path) -> None:
    path = tmp_path / "baoha.db"
    async with aclosing(await open_sqlite({"path": str(path)})) as backend:
        lock = await backend.open_lock("core/lock", "parent")
        async with child(path, "hold") as process:
            await Lines(process).read(1)
            with trio.fail_after(5):
                await lock.wait_change()  # its acquisition was announced
            assert await lock.acquire("parent", ttl_s=60) is None
            assert process.stdin is not None
            await process.stdin.send_all(b"release\n")
            with trio.fail_after(5):
                await lock.wait_change()
            assert await lock.acquire("parent", ttl_s=60) is not None


async def test_sqlite_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "baoha.db"
    async with child(path, "write") as one, child(path, "write") as two:
        acknowledged = await Lines(one).read(100) + await Lines(two).read(100)
    async with aclosing(await open_sqlite({"path": str(path)})) as backend:
        for key in acknowledged:
            assert await backend.get(key) == key.encode() * 8


# --- faults under a virtual clock ---------------------------------------------------------------


async def test_silent_store_ends_a_call_within_its_own_time_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    faults = Faults(op_timeout_s=2)
    backend = FaultyStore(world.open(), faults)
    faults.silent = True
    started = trio.current_time()
    with pytest.raises(StorageUnavailable) as read:
        await backend.get("key")
    with pytest.raises(StorageUnavailable) as write:
        await backend.put("key", b"1")
    assert trio.current_time() - started == 4
    assert (read.value.outcome, write.value.outcome) == ("not_applied", "unknown")
    assert world.data == {}
    faults.heal()
    assert await faults.deliver_abandoned() == 1
    assert world.data == {"key": b"1"}


async def test_late_write_of_a_deposed_node_is_fenced(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    faults = Faults(op_timeout_s=2)
    store = FaultyStore(world.open(), faults)
    one = await store.open_lock("core/lock", "one")
    two = await world.open().open_lock("core/lock", "two")
    fence = await one.acquire("", ttl_s=1)
    faults.silent = True
    with pytest.raises(StorageUnavailable):
        await store.put("key", b"late", fence=fence)
    assert await two.acquire("", ttl_s=6) is not None
    faults.heal()
    assert await faults.deliver_abandoned() == 1
    assert world.data == {}


async def test_healed_store_answers_the_calls_that_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    faults = Faults(latency_s=0.5, reply_latency_s=0.25)
    backend = FaultyStore(World().open(), faults)
    faults.silent = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(backend.put, "key", b"1")
        await trio.sleep(1)
        faults.silent = False
    assert trio.current_time() == 1.25
    assert await backend.get("key") == b"1"


@pytest.mark.parametrize("fault", ["full", "unavailable"])
async def test_full_and_unavailable_stores_refuse_with_a_known_outcome(fault: str) -> None:
    world = World()
    faults = Faults()
    backend = FaultyStore(world.open(), faults)
    setattr(faults, fault, True)
    with pytest.raises(StorageUnavailable) as caught:
        await backend.put("key", b"")
    assert caught.value.outcome == "not_applied"
    assert world.data == {}
    if fault == "full":
        assert await backend.get("key") is None
    else:
        with pytest.raises(StorageError):
            await backend.get("key")


async def test_cancelled_write_that_has_left_still_lands(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    backend = FaultyStore(world.open(), Faults(latency_s=1))
    with trio.move_on_after(0.5):
        await backend.put("key", b"1")
    assert world.data == {"key": b"1"}
