"""
After sealing nothing in the process refers to a key any more, not even garbage.

The collector is switched off meanwhile, so that what only a cycle of references keeps is found too:
such memory is free for nobody's use, and stays as it is.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
import trio.testing

from baoha.core.view import Role
from baoha.node import Node
from baoha.sansio.crypto.barrier_codec import TermCipher
from tests.support.node_lab import Lab, lab, until

KEY_LENGTHS = range(16, 34)
Way = Callable[[Lab, Node], Awaitable[None]]


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def digests(node: Node) -> set[bytes]:
    """Hashes of the node's keys: the test itself must hold none of them."""
    keyring = node.inspect().barrier.keyring
    values = (keyring.root_key, *(key.value for key in keyring.keys))
    return {hashlib.sha256(value).digest() for value in values}


def holders(wanted: set[bytes]) -> list[str]:
    """Return the types of all objects that refer to a key, or that are made of one."""
    found = []
    for holder in gc.get_objects():
        if isinstance(holder, TermCipher):
            found.append(type(holder).__name__)
            continue
        for value in gc.get_referents(holder):
            if type(value) is bytes and len(value) in KEY_LENGTHS and _hash(value) in wanted:
                found.append(type(holder).__name__)
    return found


def _hash(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


async def leave_garbage(here: Lab, node: Node) -> None:
    """Let a decryption fail for a token that is used up: error and frame refer to each other."""
    await here.call(node, "POST", "sys/mounts/kv", {"type": "kv"})
    await here.call(node, "PUT", "kv/x", {"a": "b"})
    key = next(key for key in here.world.data if key.endswith("/x"))
    here.world.data[key] = here.world.data[key][:-1] + b"!"
    _, body = await here.call(
        node, "POST", "auth/token/create", {"policies": ["root"], "num_uses": 1, "ttl": "1h"}
    )
    token = json.loads(body)["auth"]["client_token"]
    status, _ = await here.call(node, "GET", "kv/x", token=token)
    assert status == 503  # whether the use was counted is not known


async def sealed_by_request(here: Lab, node: Node) -> None:
    status, _ = await here.call(node, "PUT", "sys/seal")
    assert status == 204


async def shut_down(here: Lab, node: Node) -> None:
    await node.leave()
    here.nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", [sealed_by_request, shut_down])
async def test_sealed_node_leaves_no_key_behind(
    way: Way, autojump_clock: trio.testing.MockClock
) -> None:
    async with lab() as here:
        node = await here.active("a")
        await leave_garbage(here, node)
        wanted = digests(node)
        assert "TermCipher" in holders(wanted)
        await way(here, node)
    assert node.status().role is Role.SEALED

    assert holders(wanted) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_share_is_forgotten_once_it_was_used(
    fails: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with lab() as here:
        node = await here.start("a")
        share = here.shares[0]
        wanted = {_hash(share)}
        here.shares = ()
        given = bytes([share[0] ^ 1]) + share[1:] if fails else share
        wanted |= {_hash(given)}
        text = given.hex()
        del share, given
        status, _ = await here.call(node, "PUT", "sys/unseal", {"key": text})
        assert status == (400 if fails else 200)
        if not fails:
            await until(node, Role.ACTIVE)
            await sealed_by_request(here, node)

        assert holders(wanted) == []
