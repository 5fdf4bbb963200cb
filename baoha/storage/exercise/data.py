"""
The parts of ``exercise_backend``: one coroutine function for each promise of ``Backend``.

Rule of this file: a part writes below the folder it is given, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from baoha.errors import BaohaError, StorageError, TooLargeForStore, TransactionConflict
from baoha.storage.base import Backend, Batch

# Bytes that text handling, quoting and C strings stumble over.
_VALUES = (b"", b"\0", b"\0after", bytes(range(256)), b"'\"\\%_", "ü".encode("latin-1"))
# Characters that mean something to SQL, to patterns, to URLs, to shells and to sorting.
_NAMES = ("a b", "a%b", "a_b", "a'b", 'a"b', "a\\b", "a*b", "a?b", "a+b", "a:b", "ä", "中", "😀")
_LARGE = 1024 * 1024
# A limit above this is not tried: it would take longer than the rest of the suite.
_TRIED_BYTES_MAX = 32 * 1024 * 1024
_TRIED_OPS_MAX = 10_000


class DataPart(Protocol):
    """One promise: a coroutine function of a store and a folder of its own."""

    __name__: str

    def __call__(self, store: Backend, folder: str) -> Awaitable[None]:
        """Raise AssertionError when the promise is not kept."""


def expect(actual: object, wanted: object, what: str) -> None:
    """
    Compare.

    Raises:
        AssertionError: they differ.
    """
    if actual != wanted:
        raise AssertionError(f"{what}: expected {_short(wanted)}, got {_short(actual)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 400 else f"{text[:400]}... ({len(text)} characters)"


async def expect_raises(
    kind: type[BaohaError], call: Callable[[], Awaitable[object]], what: str
) -> None:
    """
    Call, and demand an error.

    Raises:
        AssertionError: the call succeeded.
    """
    try:
        await call()
    except kind as exc:
        expect(exc.outcome, "not_applied", f"{what}: outcome of {kind.__name__}")
    else:
        raise AssertionError(f"{what}: expected {kind.__name__}")


async def values_are_put_replaced_and_deleted(store: Backend, folder: str) -> None:
    """Get of an absent key is None, put replaces, delete of an absent key succeeds."""
    key = f"{folder}key"
    expect(await store.get(key), None, "get of an absent key")
    await store.delete(key)
    await store.put(key, b"one")
    expect(await store.get(key), b"one", "get after put")
    await store.put(key, b"two")
    expect(await store.get(key), b"two", "get after a second put")
    await store.delete(key)
    expect(await store.get(key), None, "get after delete")
    await store.delete(key)


async def values_come_back_byte_for_byte(store: Backend, folder: str) -> None:
    """Values are bytes: empty, with zeros, not text, and large ones."""
    large = bytes(range(256)) * (_LARGE // 256)
    for index, value in enumerate((*_VALUES, large[: store.limits.value_bytes])):
        await store.put(f"{folder}{index}", value)
        expect(await store.get(f"{folder}{index}"), value, f"value {index}")


async def keys_may_hold_any_character(store: Backend, folder: str) -> None:
    """Characters that mean something to an engine mean nothing in a key or a folder."""
    for name in _NAMES:
        await store.put(folder + name, name.encode())
        await store.put(f"{folder}{name}.d/inner", b"")
    for name in _NAMES:
        expect(await store.get(folder + name), name.encode(), f"get of {name!r}")
        expect(await store.list(f"{folder}{name}.d/"), ["inner"], f"list of {name!r}")
    wanted = sorted([*_NAMES, *(f"{name}.d/" for name in _NAMES)])
    expect(await store.list(folder), wanted, "list of all names")


async def keys_are_case_sensitive(store: Backend, folder: str) -> None:
    """Upper and lower case are different keys."""
    await store.put(f"{folder}Key", b"upper")
    await store.put(f"{folder}key", b"lower")
    expect(await store.get(f"{folder}Key"), b"upper", "get of the upper-case key")
    expect(await store.list(folder), ["Key", "key"], "list")


async def deep_paths_are_listed_level_by_level(store: Backend, folder: str) -> None:
    """A key with many parts shows one folder on each level, and none when it is deleted."""
    parts = [f"level-{index}" for index in range(40)]
    key = folder + "/".join(parts)
    await store.put(key, b"deep")
    prefix = folder
    for part in parts[:-1]:
        expect(await store.list(prefix), [f"{part}/"], f"list of {prefix}")
        prefix += f"{part}/"
    expect(await store.list(prefix), [parts[-1]], "list of the last level")
    await store.delete(key)
    expect(await store.list(folder), [], "list after delete")


async def list_shows_direct_children_once(store: Backend, folder: str) -> None:
    """Children are direct and sorted by code point; a key and a folder may share their name."""
    expect(await store.list(folder), [], "list of an empty folder")
    keys = ["ab", "a/b", "a/c/d", "a", "a-", "a.", "B", "a0", "ab/x", "ab/y/z", "ab/y/zz"]
    for key in keys:
        await store.put(folder + key, b"")
    expect(
        await store.list(folder), sorted(["ab", "a/", "a", "a-", "a.", "B", "a0", "ab/"]), "list"
    )
    expect(await store.list(f"{folder}a/"), ["b", "c/"], "list of a/")
    expect(await store.list(f"{folder}ab/"), ["x", "y/"], "list of ab/")
    await store.delete(f"{folder}a/c/d")
    expect(await store.list(f"{folder}a/"), ["b"], "list after the folder's last key went")
    await store.delete(f"{folder}a/b")
    expect("a/" in await store.list(folder), False, "the empty folder is listed")
    expect("a" in await store.list(folder), True, "the key of the same name is listed")


async def the_root_can_be_listed(store: Backend, folder: str) -> None:
    """The prefix of everything is the empty string."""
    await store.put(f"{folder}key", b"")
    expect("exercise/" in await store.list(""), True, "the folder is in the root")
    page = await store.list_page("", "exercise", 1)
    expect(page, ["exercise/"], "a page of the root")


async def pages_add_up_to_the_list(store: Backend, folder: str) -> None:
    """Pages of any size, each after the last child of the one before, are the whole list."""
    for index in range(12):
        await store.put(f"{folder}{index:02}", b"")
        await store.put(f"{folder}{index:02}/inner", b"")
        await store.put(f"{folder}{index:02}/inner/more", b"")
    everything = await store.list(folder)
    expect(len(everything), 24, "number of children")
    for limit in (1, 2, 3, 5, 23, 24, 25, 1000):
        collected: list[str] = []
        while page := await store.list_page(folder, collected[-1] if collected else "", limit):
            expect(len(page) <= limit, True, f"a page of {limit} is no longer than that")
            collected += page
        expect(collected, everything, f"pages of {limit}")
    expect(await store.list_page(folder, "", -1), everything, "a negative limit")
    expect(await store.list_page(folder, "05", -1), everything[11:], "after a key")
    expect(await store.list_page(folder, "05/", -1), everything[12:], "after a folder")
    expect(await store.list_page(folder, "055", 2), everything[12:14], "after an absent child")
    expect(await store.list_page(folder, "zz", 5), [], "after the last child")


async def a_long_list_is_complete(store: Backend, folder: str) -> None:
    """More children than any page a store may use inside."""
    names = [f"{index:04}" + "/x" * (index % 2) for index in range(600)]
    for start in range(0, len(names), 60):
        await store.apply(Batch(writes={folder + name: b"" for name in names[start : start + 60]}))
    wanted = sorted(name[:5] for name in names)
    expect(await store.list(folder), wanted, "list")
    expect(await store.list_page(folder, wanted[99], 450), wanted[100:550], "a long page")


async def transaction_commits_when_its_block_ends(store: Backend, folder: str) -> None:
    """Its own writes are seen inside, nothing of them outside before the commit, all after it."""
    await store.put(f"{folder}old", b"old")
    async with store.transaction() as transaction:
        transaction.put(f"{folder}new", b"new")
        transaction.delete(f"{folder}old")
        expect(await transaction.get(f"{folder}new"), b"new", "its own put")
        expect(await transaction.get(f"{folder}old"), None, "its own delete")
        expect(await transaction.list(folder), ["new"], "its own list")
        expect(await store.list(folder), ["old"], "the list outside")
    expect(await store.list(folder), ["new"], "the list after the commit")
    expect(await store.get(f"{folder}new"), b"new", "the value after the commit")


async def transaction_writes_nothing_when_its_block_fails(store: Backend, folder: str) -> None:
    """An exception rolls back; an ended transaction refuses to be used."""
    try:
        async with store.transaction() as transaction:
            transaction.put(f"{folder}key", b"")
            raise KeyError("the block fails")
    except KeyError:
        expect(await store.get(f"{folder}key"), None, "the value after the rollback")
    await expect_raises(
        StorageError, lambda: transaction.get(f"{folder}key"), "get in an ended transaction"
    )
    await expect_raises(StorageError, transaction.commit, "commit of an ended transaction")


async def transaction_conflicts_with_what_it_read(store: Backend, folder: str) -> None:
    """A key that was read and then changed, made or removed refuses the whole transaction."""
    changes: tuple[tuple[bytes | None, bytes | None], ...] = (
        (b"old", b"new"),
        (None, b"made"),
        (b"old", None),
        (b"", None),
        (None, b""),
    )
    for before, after in changes:
        await store.apply(Batch(writes={f"{folder}read": before}))

        async def transact(after: bytes | None = after) -> None:
            async with store.transaction() as transaction:
                await transaction.get(f"{folder}read")
                transaction.put(f"{folder}written", b"")
                await store.apply(Batch(writes={f"{folder}read": after}))

        await expect_raises(TransactionConflict, transact, f"{before!r} became {after!r}")
        expect(await store.get(f"{folder}written"), None, "the write of the refused transaction")
        expect(await store.get(f"{folder}read"), after, "the value that was in the way")


async def transaction_conflicts_with_what_it_listed(store: Backend, folder: str) -> None:
    """A child that appeared or vanished in a listed folder refuses the transaction."""
    await store.put(f"{folder}d/one", b"")
    for writes in (
        {f"{folder}d/two": b""},
        {f"{folder}d/two": None},
        {f"{folder}d/sub/deep": b""},
    ):

        async def transact(writes: dict[str, bytes | None] = writes) -> None:  # type: ignore[assignment]
            async with store.transaction() as transaction:
                await transaction.list(f"{folder}d/")
                transaction.put(f"{folder}written", b"")
                await store.apply(Batch(writes=writes))

        await expect_raises(TransactionConflict, transact, f"a phantom: {list(writes)}")
        expect(await store.get(f"{folder}written"), None, "the write of the refused transaction")


async def transaction_ignores_what_it_did_not_read(store: Backend, folder: str) -> None:
    """Changes elsewhere, and blind writes to the same key, are no conflict."""
    async with store.transaction() as transaction:
        await transaction.get(f"{folder}read")
        await transaction.list(f"{folder}d/")
        transaction.put(f"{folder}blind", b"last")
        await store.put(f"{folder}blind", b"first")
        await store.put(f"{folder}elsewhere", b"")
        await store.put(f"{folder}d2/x", b"")
    expect(await store.get(f"{folder}blind"), b"last", "the blind write")


async def batch_is_applied_whole_or_not_at_all(store: Backend, folder: str) -> None:
    """Puts and deletes land together; one failing expectation leaves everything as it was."""
    count = min(100, store.limits.batch_ops or 100)
    await store.apply(Batch(writes={f"{folder}{index}": b"1" for index in range(count)}))
    expect(len(await store.list(folder)), count, "number of keys")
    writes: dict[str, bytes | None] = {f"{folder}{index}": None for index in range(0, count, 2)}
    writes[f"{folder}new"] = b"2"
    last = f"{folder}{count - 1}"
    for expected in ({last: b"2"}, {last: None}, {f"{folder}x": b""}):
        batch = Batch(writes=writes, expected=expected)

        async def apply(batch: Batch = batch) -> None:
            await store.apply(batch)

        await expect_raises(TransactionConflict, apply, f"expected {expected!r}")
    expect(len(await store.list(folder)), count, "number of keys after refused batches")
    expect(await store.get(f"{folder}new"), None, "the put of a refused batch")
    await store.apply(Batch(writes=writes, expected={last: b"1", f"{folder}x": None}))
    wanted = count - len(writes) + 2  # one of the writes is a put
    expect(len(await store.list(folder)), wanted, "number of keys after the batch")
    expect(await store.get(f"{folder}new"), b"2", "the put of the batch")


async def concurrent_transactions_lose_no_update(store: Backend, folder: str) -> None:
    """Read, add, write, by many tasks at once: the sum is right."""
    key = f"{folder}counter"

    async def add_one() -> None:
        # Somebody succeeds in every round, so nobody fails more often than there are tasks.
        for _ in range(100):
            try:
                async with store.transaction() as transaction:
                    count = int(await transaction.get(key) or b"0")
                    transaction.put(key, b"%d" % (count + 1))
            except TransactionConflict:
                continue
            return
        raise AssertionError("a transaction conflicts for ever")

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(add_one)
    expect(await store.get(key), b"12", "the counter")


async def concurrent_writes_all_land(store: Backend, folder: str) -> None:
    """Many tasks write at once; what was acknowledged is read."""

    async def write(index: int) -> None:
        await store.put(f"{folder}{index:02}", b"%d" % index)
        expect(await store.get(f"{folder}{index:02}"), b"%d" % index, "an acknowledged write")

    async with trio.open_nursery() as nursery:
        for index in range(50):
            nursery.start_soon(write, index)
    expect(await store.list(folder), [f"{index:02}" for index in range(50)], "list")


async def a_cancelled_caller_leaves_the_store_usable(store: Backend, folder: str) -> None:
    """A batch whose caller is cancelled has landed whole or not at all."""
    for index in range(10):
        batch = Batch(writes={f"{folder}{index}/a": b"1", f"{folder}{index}/b": b"1"})
        with trio.move_on_after(0.0002 * index):
            await store.apply(batch)
        landed = await store.list(f"{folder}{index}/")
        expect(landed in ([], ["a", "b"]), True, f"{landed} is whole or nothing")
    await store.put(f"{folder}after", b"usable")
    expect(await store.get(f"{folder}after"), b"usable", "a write afterwards")


async def what_is_at_a_limit_is_stored_and_beyond_it_refused(store: Backend, folder: str) -> None:
    """What is declared as a limit is taken; one more is refused, and nothing of it is written."""
    limits = store.limits
    size = limits.value_bytes
    if size is not None and size <= _TRIED_BYTES_MAX:
        await _put_up_to(store, f"{folder}value", b"v" * size, f"{folder}value", b"v" * (size + 1))
    size = limits.key_bytes
    if size is not None and size <= _TRIED_BYTES_MAX:
        longest = folder + "k" * (size - len(folder))
        await _put_up_to(store, longest, b"at", f"{longest}k", b"beyond")
    count = limits.batch_ops
    if count is not None and count <= _TRIED_OPS_MAX:
        keys = [f"{folder}ops/{index:06}" for index in range(count + 1)]
        await _write_up_to(store, [(key, b"1") for key in keys[:-1]], (keys[-1], b"2"))
    size = limits.batch_bytes
    if size is not None and size <= _TRIED_BYTES_MAX:
        await _write_up_to(store, _filled(folder, size, limits.value_bytes or size), None)


async def _put_up_to(store: Backend, key: str, value: bytes, other: str, beyond: bytes) -> None:
    """Put what is at a limit, then what is beyond it."""
    await store.put(key, value)
    expect(await store.get(key), value, "what is at the limit")
    await expect_raises(TooLargeForStore, lambda: store.put(other, beyond), "beyond the limit")
    if other == key:
        expect(await store.get(key), value, "after the refusal")


async def _write_up_to(
    store: Backend, writes: list[tuple[str, bytes]], more: tuple[str, bytes] | None
) -> None:
    """Write a batch at a limit, then one with another write, or (None) one more byte in a key."""

    async def write(batch: list[tuple[str, bytes]]) -> None:
        async with store.transaction() as transaction:
            for key, value in batch:
                transaction.put(key, value)

    (first, value), *rest = writes
    beyond = [*writes, more] if more is not None else [(f"{first}x", value), *rest]
    await expect_raises(TooLargeForStore, lambda: write(beyond), "a batch beyond the limit")
    expect(await store.get(writes[-1][0]), None, "a write of the refused batch")
    await write(writes)
    expect(await store.get(writes[-1][0]), writes[-1][1], "a write of the batch at the limit")


def _filled(folder: str, size: int, value_bytes: int) -> list[tuple[str, bytes]]:
    """Return writes of so many bytes in all, keys included, none above the limit of a value."""
    writes: list[tuple[str, bytes]] = []
    while size > 0:
        key = f"{folder}bytes/{len(writes):06}"
        value = b"b" * min(value_bytes, max(0, size - len(key)))
        writes.append((key, value))
        size -= len(key) + len(value)
    if size < 0:
        # The last key did not fit in whole: the one before makes room for it.
        key, value = writes[-2]
        writes[-2] = (key, value[:size])
    return writes


DATA_PARTS: tuple[DataPart, ...] = (
    values_are_put_replaced_and_deleted,
    values_come_back_byte_for_byte,
    keys_may_hold_any_character,
    keys_are_case_sensitive,
    deep_paths_are_listed_level_by_level,
    list_shows_direct_children_once,
    the_root_can_be_listed,
    pages_add_up_to_the_list,
    a_long_list_is_complete,
    transaction_commits_when_its_block_ends,
    transaction_writes_nothing_when_its_block_fails,
    transaction_conflicts_with_what_it_read,
    transaction_conflicts_with_what_it_listed,
    transaction_ignores_what_it_did_not_read,
    batch_is_applied_whole_or_not_at_all,
    concurrent_transactions_lose_no_update,
    concurrent_writes_all_land,
    a_cancelled_caller_leaves_the_store_usable,
    what_is_at_a_limit_is_stored_and_beyond_it_refused,
)
