"""Token hints: true as far as they go, cheap for the store whatever strangers send."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from baoha.core.access.token_entry import SERVICE_PREFIX, TOKEN_LENGTH, random_text
from baoha.core.access.vouching import (
    KNOWN_S,
    LOOKUPS_MAX,
    STALE_S,
    UNKNOWN_S,
    WAITING_MAX,
    TokenHints,
)
from baoha.core.view import Role
from baoha.node import Node
from baoha.storage.faulty import Faults, FaultyBackend
from baoha.storage.inmem import World
from tests.support.held import held
from tests.support.logical import Logical, open_logical
from tests.support.node_lab import lab, step_down, until


class CountingBackend(FaultyBackend):
    """Counts the reads that are under way at one time."""

    def __init__(self, world: World, faults: Faults) -> None:
        super().__init__(world.open(), faults)
        self.under_way = self.most = self.reads = 0

    async def get(self, key: str) -> bytes | None:
        self.under_way += 1
        self.reads += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().get(key)
        finally:
            self.under_way -= 1


class Hinted:
    """A cluster's core, and the hints of a node over the same store."""

    def __init__(self, logical: Logical, store: CountingBackend, faults: Faults) -> None:
        self.logical = logical
        self.store = store
        self.faults = faults
        self.hints = TokenHints(logical.barrier, random_bytes=os.urandom, now=logical.clock)

    async def ask_all(self, tokens: Sequence[str]) -> list[bool]:
        """Ask for all of them at the same time."""
        answers: dict[int, bool] = {}

        async def ask(index: int, token: str) -> None:
            answers[index] = await self.hints.vouches_for(token)

        async with trio.open_nursery() as nursery:
            for index, token in enumerate(tokens):
                nursery.start_soon(ask, index, token)
        return [answers[index] for index in range(len(tokens))]


async def open_hinted() -> Hinted:
    faults = Faults()
    store = CountingBackend(World(), faults)
    hinted = Hinted(await open_logical(store), store, faults)
    store.reads = store.most = 0
    return hinted


def unknown_tokens(count: int) -> list[str]:
    return [SERVICE_PREFIX + random_text(os.urandom, TOKEN_LENGTH) for _ in range(count)]


async def test_token_of_each_kind_is_known_until_it_ends(autojump_clock: MockClock) -> None:
    hinted = await open_hinted()
    logical = hinted.logical
    parent = await logical.token("default")
    kinds = {
        "root": logical.root,
        "service": parent,
        "child": await logical.token("default", by=logical.root, ttl="1h"),
        "chosen": await logical.token("default", id="chosen-by-the-client"),
        "limited": await logical.token("default", num_uses=1),
    }
    for kind, token in kinds.items():
        assert await hinted.hints.vouches_for(token), kind
        assert await hinted.hints.vouches_for(f" {token} "), kind
    for token in (kinds["service"], kinds["chosen"]):
        await logical.call("POST", "auth/token/revoke", {"token": token})
    logical.clock.advance(3601)
    await trio.sleep(KNOWN_S + 0.1)
    answers = {kind: await hinted.hints.vouches_for(token) for kind, token in kinds.items()}
    assert answers == {
        "root": True,
        "service": False,
        "child": False,
        "chosen": False,
        "limited": True,
    }


async def test_hint_for_limited_token_spends_no_use(autojump_clock: MockClock) -> None:
    hinted = await open_hinted()
    token = await hinted.logical.token("default", num_uses=1)
    for _ in range(3):
        assert await hinted.hints.vouches_for(token)
        await trio.sleep(KNOWN_S + 0.1)
    await hinted.logical.call("GET", "auth/token/lookup-self", token=token)
    await trio.sleep(KNOWN_S + 0.1)
    assert not await hinted.hints.vouches_for(token)


async def test_child_of_ended_parent_is_not_known(autojump_clock: MockClock) -> None:
    hinted = await open_hinted()
    await hinted.logical.call(
        "PUT", "sys/policies/acl/p", {"policy": 'path "*" { capabilities = ["update", "sudo"] }'}
    )
    parent = await hinted.logical.token("p")
    child = await hinted.logical.token("p", by=parent)
    assert await hinted.hints.vouches_for(child)
    await hinted.logical.call("POST", "auth/token/revoke", {"token": parent})
    await trio.sleep(KNOWN_S + 0.1)
    assert not await hinted.hints.vouches_for(child)


@pytest.mark.parametrize(
    "token",
    ["", " ", "x" * 4097, "s.\0", "s.\n" + "a" * 24, "s.é", "s.\ud800", "\x7f"],
    ids=range(8),
)
async def test_text_that_cannot_be_a_token_costs_no_read(token: str) -> None:
    hinted = await open_hinted()
    assert not await hinted.hints.vouches_for(token)
    assert hinted.store.reads == 0


async def test_known_token_costs_one_look_up_for_a_while(autojump_clock: MockClock) -> None:
    hinted = await open_hinted()
    await hinted.ask_all([hinted.logical.root] * 100)
    first = hinted.store.reads  # the salt and the entry
    assert first <= 2
    await hinted.ask_all([hinted.logical.root] * 100)
    assert hinted.store.reads == first
    await trio.sleep(KNOWN_S + 0.1)
    await hinted.ask_all([hinted.logical.root] * 100)
    assert hinted.store.reads == first + 1


async def test_unknown_token_is_asked_anew_after_a_moment(autojump_clock: MockClock) -> None:
    hinted = await open_hinted()
    assert not await hinted.hints.vouches_for("to-be")
    await hinted.logical.token("default", id="to-be")
    reads = hinted.store.reads
    assert not await hinted.hints.vouches_for("to-be")
    assert hinted.store.reads == reads
    await trio.sleep(UNKNOWN_S + 0.1)
    assert await hinted.hints.vouches_for("to-be")


async def test_flood_of_unknown_tokens_loads_the_store_with_few_reads(
    autojump_clock: MockClock,
) -> None:
    hinted = await open_hinted()
    assert await hinted.hints.vouches_for(hinted.logical.root)
    hinted.faults.latency_s = 0.01
    hinted.store.reads = 0
    answers = await hinted.ask_all(unknown_tokens(1000))
    assert not any(answers)
    assert hinted.store.most <= LOOKUPS_MAX
    assert hinted.store.reads <= LOOKUPS_MAX + WAITING_MAX


async def test_known_token_stays_known_while_the_queue_is_full(autojump_clock: MockClock) -> None:
    hinted = await open_hinted()
    assert await hinted.hints.vouches_for(hinted.logical.root)
    await trio.sleep(KNOWN_S + 0.1)
    hinted.faults.latency_s = 0.1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hinted.ask_all, unknown_tokens(1000))
        await trio.testing.wait_all_tasks_blocked()
        assert await hinted.hints.vouches_for(hinted.logical.root)


async def test_store_that_does_not_answer_leaves_known_tokens_known_for_a_minute(
    autojump_clock: MockClock,
) -> None:
    hinted = await open_hinted()
    assert await hinted.hints.vouches_for(hinted.logical.root)
    other = await hinted.logical.token("default")
    await trio.sleep(KNOWN_S + 0.1)
    for hinted.faults.unavailable in (True, False):
        hinted.faults.silent = not hinted.faults.unavailable
        assert await hinted.hints.vouches_for(hinted.logical.root)
        assert not await hinted.hints.vouches_for(other)
        await trio.sleep(UNKNOWN_S + 0.1)
    await trio.sleep(STALE_S)
    assert not await hinted.hints.vouches_for(hinted.logical.root)


async def test_one_who_asks_and_leaves_does_not_leave_the_others_waiting(
    autojump_clock: MockClock,
) -> None:
    hinted = await open_hinted()
    hinted.faults.latency_s = 0.1
    with trio.CancelScope() as leaving:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hinted.ask_all, [hinted.logical.root])
            await trio.testing.wait_all_tasks_blocked()
            leaving.cancel()
    assert await hinted.hints.vouches_for(hinted.logical.root)


async def test_hints_hold_no_token(autojump_clock: MockClock) -> None:
    hinted = await open_hinted()
    unknown = "".join(string.ascii_lowercase)
    await hinted.ask_all([hinted.logical.root, unknown])
    texts, blobs = held(hinted.hints, str), held(hinted.hints, bytes)
    assert len(blobs) > 2  # the names of the tokens are among them
    for token in (hinted.logical.root, unknown):
        assert not any(token in text for text in texts)
        assert not any(token.encode() in blob for blob in blobs)


# --- nodes --------------------------------------------------------------------------------------


async def vouching(nodes: Sequence[Node], token: str) -> list[bool]:
    return [await node.vouches_for(token) for node in nodes]


async def test_node_vouches_while_it_is_unsealed_active_or_not(autojump_clock: MockClock) -> None:
    async with lab() as here:
        first, second = await here.start("n1"), await here.start("n2")
        nodes = [first, second]
        assert await vouching(nodes, here.token) == [False, False]
        for node in nodes:
            await here.unseal(node)
        await until(first, Role.ACTIVE)
        assert await vouching(nodes, here.token) == [True, True]
        assert await vouching(nodes, unknown_tokens(1)[0]) == [False, False]
        assert (await here.call(first, "PUT", "sys/seal"))[0] == 204
        assert await vouching(nodes, here.token) == [False, True]


async def test_hint_outlives_a_change_of_the_active_node(autojump_clock: MockClock) -> None:
    async with lab() as here:
        first, second = await here.active("n1"), await here.start("n2")
        await here.unseal(second)
        assert await second.vouches_for(here.token)
        await trio.sleep(1)  # until the standby is ready
        assert await step_down(here, first) == 204
        await until(second, Role.ACTIVE)
        assert await vouching([first, second], here.token) == [True, True]
