"""The upgrade of a KV mount to versions; texts and shapes as a real OpenBao 2.7.2 answers them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from baoha.core.engines.kv2.engine import UPGRADING
from baoha.core.view import Role
from baoha.errors import InvalidRequest, NotFound, StorageError
from baoha.storage.base import Backend, Batch
from baoha.storage.inmem import World
from tests.support.failing import FailingBackend
from tests.support.logical import Logical, open_logical, open_sibling
from tests.support.node_lab import lab, step_down, until

WARNING = (
    "Upgrading mount from version {} to version 0. This mount will be unavailable for a brief "
    "period and will resume service shortly."
)
# Some are named like parts of the layout of KV v2.
NAMES = ("a", "b/c", "b/d/e", "config", "data/x", "metadata/a", "metadata/x", "versions/a/1")


class CountingBackend(FailingBackend):
    """Notes the size of every batch."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.batches: list[Batch] = []

    async def apply(self, batch: Batch) -> None:
        self.batches.append(batch)
        await super().apply(batch)


async def open_kv(
    backend: Backend, names: Sequence[str] = NAMES, *, kind: str = "kv", value: Any = "v"
) -> Logical:
    """Return a server that has secrets of KV v1 at "up/"; each knows its own name."""
    logical = await open_logical(backend)
    await logical.call("POST", "sys/mounts/up", {"type": kind})
    for name in names:
        await logical.call("POST", f"up/{name}", {"name": name, "value": value, "none": None})
    return logical


async def ask_upgrade(logical: Logical) -> list[str]:
    tuning = {"options": {"version": "2"}}
    return (await logical.call("POST", "sys/mounts/up/tune", tuning)).warnings


async def upgraded(logical: Logical) -> None:
    """Run the job until it has nothing to do."""
    await refusal(logical)  # whoever asks makes the server read a stale table anew
    async with trio.open_nursery() as nursery:
        nursery.start_soon(logical.core.run_background)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await refusal(logical) != UPGRADING


async def refusal(logical: Logical, method: str = "GET", path: str = "up/data/a") -> str:
    """Return why a request is refused; "" if it is not."""
    try:
        await logical.call(method, path, {"data": {}, "versions": [1]})
    except InvalidRequest as exc:
        return exc.errors[0]
    except NotFound:
        return ""
    return ""


async def require_upgraded(logical: Logical, names: Sequence[str] = NAMES) -> None:
    """Fail unless every secret has exactly one version, with what was written."""
    for name in names:
        read = await logical.data("GET", f"up/data/{name}")
        assert read["data"] == {"name": name, "value": "v", "none": None}
        assert read["metadata"]["version"] == 1
    assert sorted((await logical.data("SCAN", "up/metadata"))["keys"]) == sorted(names)
    stored = await stored_keys(logical)
    kinds = sorted(key.split("/")[2] for key in stored)
    assert kinds == ["metadata"] * len(names) + ["versions"] * len(names)
    assert len({key.split("/")[1] for key in stored}) == 1, "one folder is left"


async def stored_keys(logical: Logical) -> list[str]:
    found: list[str] = []
    folders = ["logical/"]
    while folders:
        folder = folders.pop()
        for child in await logical.barrier.list(folder):
            (folders if child.endswith("/") else found).append(folder + child)
    return found


@pytest.mark.parametrize("kind", ["kv", "generic"])
async def test_upgrade_secrets_become_first_versions(kind: str) -> None:
    logical = await open_kv(World().open(), kind=kind)
    before = (await logical.data("GET", "sys/mounts"))["up/"]

    assert await ask_upgrade(logical) == [WARNING.format(0)]
    await upgraded(logical)

    await require_upgraded(logical)
    metadata = await logical.data("GET", "up/metadata/a")
    assert (metadata["oldest_version"], metadata["current_metadata_version"]) == (1, 0)
    after = (await logical.data("GET", "sys/mounts"))["up/"]
    assert after == before | {"options": {"version": "2"}}
    await logical.call("POST", "up/data/a", {"data": {}, "options": {"cas": 1}})


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        *((method, "up/data/a", UPGRADING) for method in ("GET", "POST", "PATCH", "DELETE")),
        ("GET", "up/config", UPGRADING),
        ("POST", "up/config", UPGRADING),
        ("GET", "up/metadata/a", UPGRADING),
        ("LIST", "up/metadata", UPGRADING),
        ("LIST", "up/detailed-metadata", UPGRADING),
        ("SCAN", "up/metadata", UPGRADING),
        ("GET", "up/subkeys/a", UPGRADING),
        ("POST", "up/destroy/a", UPGRADING),
        # What no version of the engine knows is answered as ever.
        ("GET", "up/a", ""),
        ("GET", "up/nonsense", ""),
    ],
)
async def test_upgrade_under_way_requests_are_refused(
    method: str, path: str, expected: str
) -> None:
    logical = await open_kv(World().open())
    await ask_upgrade(logical)

    assert await refusal(logical, method, path) == expected


async def test_upgrade_under_way_the_mount_may_be_tuned() -> None:
    logical = await open_kv(World().open())
    await ask_upgrade(logical)

    assert await ask_upgrade(logical) == [], "it has that version already"
    await logical.call("POST", "sys/mounts/up/tune", {"description": "x"})
    await upgraded(logical)

    await require_upgraded(logical)
    assert (await logical.data("GET", "sys/mounts"))["up/"]["description"] == "x"


async def test_upgrade_of_many_keys_transactions_are_bounded() -> None:
    names = [f"f{number % 7}/k{number}" for number in range(350)]
    backend = CountingBackend(World().open())
    logical = await open_kv(backend, names)
    backend.batches.clear()

    await ask_upgrade(logical)
    await upgraded(logical)

    await require_upgraded(logical, names)
    assert max(len(batch.writes) for batch in backend.batches) <= 301
    assert len(backend.batches) < 20, "not one transaction per key either"


async def test_upgrade_of_large_secrets_transactions_are_bounded() -> None:
    backend = CountingBackend(World().open())
    logical = await open_kv(backend, [f"k{number}" for number in range(9)], value="x" * 400_000)
    backend.batches.clear()

    await ask_upgrade(logical)
    await upgraded(logical)

    sizes = [sum(len(value or b"") for value in batch.writes.values()) for batch in backend.batches]
    assert sum(sizes) > 9 * 400_000
    assert max(sizes) < 1_500_000


@pytest.mark.parametrize("after", [False, True])
async def test_upgrade_store_fails_anywhere_nothing_is_lost(
    autojump_clock: object, after: bool
) -> None:
    """Goal: no failure loses or doubles a secret. Method: every call of the job fails once."""
    fail_at = 0
    while True:
        backend = FailingBackend(World().open())
        logical = await open_kv(backend)
        await ask_upgrade(logical)
        backend.arm(fail_at, after=after)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(logical.core.run_background)
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
        reached = backend.calls > fail_at
        backend.arm(None)
        await upgraded(logical)
        await require_upgraded(logical)
        if not reached:
            break
        fail_at += 1
    assert fail_at >= 10, "the sweep met the walk, the moves and the end"


async def test_upgrade_leader_changes_half_way_the_next_one_goes_on() -> None:
    """Method: the first leader's store fails for good after a number of commits."""
    names = [f"k{number:03}" for number in range(250)]
    world = World()
    backend = CountingBackend(world.open())
    first = await open_kv(backend, names)
    await ask_upgrade(first)
    backend.batches.clear()
    with trio.move_on_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.core.run_background)
            while not backend.batches:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert await refusal(first) == UPGRADING, "half-way"

    second = await open_sibling(first, world.open())
    assert await refusal(second) == UPGRADING
    await upgraded(second)

    await require_upgraded(second, names)


async def test_upgrade_a_write_that_is_under_way_is_not_lost() -> None:
    """Method: a write of KV v1 is held in the store while the mount is tuned."""
    backend = SlowBackend(World().open())
    logical = await open_kv(backend)
    async with trio.open_nursery() as nursery:
        backend.hold = b"late"
        nursery.start_soon(logical.call, "POST", "up/late", {"name": "late"})
        await backend.held.wait()
        await ask_upgrade(logical)
        nursery.start_soon(logical.core.run_background)
        await wait_all_tasks_blocked()
        assert await refusal(logical) == UPGRADING
        backend.go_on.set()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert (await logical.data("GET", "up/data/late"))["data"] == {"name": "late"}


class SlowBackend(FailingBackend):
    """Holds the first write after ``hold`` was set."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.hold = b""
        self.held = trio.Event()
        self.go_on = trio.Event()

    async def apply(self, batch: Batch) -> None:
        if self.hold and not self.held.is_set():
            self.held.set()
            await self.go_on.wait()
        await super().apply(batch)


async def test_upgrade_mount_is_removed_meanwhile_nothing_is_left(autojump_clock: object) -> None:
    names = [f"k{number:03}" for number in range(250)]
    backend = CountingBackend(World().open())
    logical = await open_kv(backend, names)
    await ask_upgrade(logical)
    backend.batches.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(logical.core.run_background)
        while not backend.batches:
            await trio.lowlevel.checkpoint()
        await logical.call("DELETE", "sys/mounts/up")
        await trio.sleep(5)
        nursery.cancel_scope.cancel()

    assert await stored_keys(logical) == []


async def test_upgrade_a_secret_that_cannot_be_read_stays_and_the_others_move() -> None:
    world = World()
    logical = await open_kv(world.open(), ("a", "b", "c"))
    spoiled = next(key for key in await stored_keys(logical) if key.endswith("/b"))
    await world.open().put(spoiled, b"\x00\x00\x00\x01\x02junk that nobody encrypted", fence=None)

    await ask_upgrade(logical)
    await upgraded(logical)

    assert (await logical.data("LIST", "up/metadata"))["keys"] == ["a", "c"]
    assert spoiled in await stored_keys(logical)


@pytest.mark.parametrize(
    ("start", "asked", "outcome"),
    [
        *((start, {"version": "2"}, WARNING.format(0)) for start in ({}, {"version": ""}, None)),
        ({}, {"version": 2}, WARNING.format(0)),
        ({}, {"version": "1"}, WARNING.format(0)),
        ({"version": "1"}, {"version": "2"}, WARNING.format(1)),
        ({"version": "1"}, {"version": "1"}, ""),
        ({"version": "2"}, {"version": "2"}, ""),
        ({"a": "b"}, {"x": "y"}, ""),
        ({"version": "2"}, {"version": "1"}, "cannot downgrade mount from version 2"),
        ({"version": "2"}, {"version": "3"}, "invalid version provided: 3"),
        ({"version": "2"}, {"version": ""}, "invalid version provided: 0"),
        *(({}, {"version": text}, "invalid version provided: 0") for text in ("", None, "0")),
        *(
            (
                {"version": "1"},
                {"version": text},
                f'unable to parse options: strconv.ParseInt: parsing "{text}": invalid syntax',
            )
            for text in ("x", " 2", "0x2", "2.0")
        ),
    ],
)
async def test_tune_version_is_changed_or_refused(
    start: dict[str, Any] | None, asked: dict[str, Any], outcome: str
) -> None:
    logical = await open_logical()
    await logical.call("POST", "sys/mounts/up", {"type": "kv", "options": start})
    before = (await logical.data("GET", "sys/mounts"))["up/"]["options"] or {}
    expected = before | {name: str(value) for name, value in asked.items()}
    try:
        response = await logical.call("POST", "sys/mounts/up/tune", {"options": asked})
        found = response.warnings
    except InvalidRequest as exc:
        found, expected = list(exc.errors), before
    assert found == ([outcome] if outcome else [])
    assert ((await logical.data("GET", "sys/mounts"))["up/"]["options"] or {}) == expected


async def test_upgrade_entry_of_an_older_release_is_read() -> None:
    logical = await open_kv(World().open())
    entry = (await logical.barrier.list("core/mounts/"))[0]
    blob = await logical.barrier.get(f"core/mounts/{entry}")
    assert blob is not None
    fields = json.loads(blob)
    del fields["folder"], fields["upgrade_from"]
    await logical.barrier.put(f"core/mounts/{entry}", json.dumps(fields).encode())

    await logical.core.load()

    assert await logical.data("GET", "sys/mounts")


async def test_upgrade_tuning_of_unknown_outcome_is_carried_out() -> None:
    backend = FailingBackend(World().open())
    logical = await open_kv(backend)
    fail_at = 0
    while True:
        backend.arm(fail_at, after=True)
        try:
            await ask_upgrade(logical)
        except StorageError as exc:
            if exc.outcome == "unknown":
                break
        fail_at += 1
    backend.arm(None)

    await upgraded(logical)

    await require_upgraded(logical)


async def test_upgrade_active_node_changes_half_way_the_next_one_goes_on(
    autojump_clock: object,
) -> None:
    """Goal: active duty does the work, whoever has it. Method: a step-down right after tuning."""
    async with lab() as here:
        first = await here.active("n0")
        second = await here.start("n1")
        await here.unseal(second)
        await here.call(first, "POST", "sys/mounts/up", {"type": "kv"})
        for number in range(250):
            await here.call(first, "POST", f"up/k{number:03}", {"number": number})
        await trio.sleep(2)

        status, _ = await here.call(
            first, "POST", "sys/mounts/up/tune", {"options": {"version": "2"}}
        )
        assert status == 200
        assert await step_down(here, first) == 204
        await until(second, Role.ACTIVE)
        await trio.sleep(2)

        for number in range(250):
            status, body = await here.call(second, "GET", f"up/data/k{number:03}")
            assert status == 200, body
            assert json.loads(body)["data"]["data"] == {"number": number}
