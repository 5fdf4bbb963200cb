"""Tokens: life, trees, limited uses, and that the store never learns a token."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest
import trio

from baoha.core.access import tokens
from baoha.core.access.token_entry import TokenEntry, hash_accessor, hash_token, random_text
from baoha.errors import InvalidRequest, PermissionDenied, RequestError, StorageError
from baoha.storage.inmem import World
from tests.support.failing import FailingBackend, ToldOfListings
from tests.support.held import held
from tests.support.logical import Logical, open_logical

POLICY = """
path "secret/*" { capabilities = ["read","list","create","update"] }
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/create-orphan" { capabilities = ["update"] }
path "auth/token/revoke-orphan" { capabilities = ["update"] }
"""


async def open_with_policy(world: World | None = None) -> Logical:
    logical = await open_logical((world or World()).open())
    await logical.call("PUT", "sys/policies/acl/tp", {"policy": POLICY})
    return logical


async def is_valid(logical: Logical, token: str) -> bool:
    try:
        await logical.call("GET", "auth/token/lookup-self", token=token)
    except PermissionDenied:
        return False
    return True


async def lookup(logical: Logical, token: str) -> dict[str, Any]:
    return await logical.data("POST", "auth/token/lookup", {"token": token})


# --- what is stored -----------------------------------------------------------------------------


async def test_store_never_holds_a_token() -> None:
    """Neither a key nor a decrypted value contains a token, after all that is done with tokens."""
    logical = await open_with_policy()
    parent = await logical.token("tp", num_uses=0, period="1h")
    child = await logical.token("tp", by=parent)
    chosen = await logical.token("tp", id="chosen-by-the-client")
    await logical.call("POST", "auth/token/renew", {"token": parent})
    secrets = {logical.root, parent, child, chosen}
    folders, seen = [""], 0
    while folders:
        folder = folders.pop()
        for name in await logical.barrier.list(folder):
            if name.endswith("/"):
                folders.append(folder + name)
                continue
            seen += 1
            value = await logical.barrier.get(folder + name)
            assert value is not None
            for secret in secrets:
                assert secret not in folder + name
                assert secret.encode() not in value
    assert seen > 12


def test_hash_depends_on_salt_token_and_kind() -> None:
    names = {
        hash_token(b"1", "s.a"),
        hash_token(b"2", "s.a"),
        hash_token(b"1", "s.b"),
        hash_token(b"1", "a"),
        hash_accessor(b"1", "s.a"),
        hash_accessor(b"1", "a"),
    }
    assert len(names) == 6


def test_random_text_skips_bytes_that_would_favour_some_letters() -> None:
    drawn = iter([bytes([255, 254, 253, 252, 251, 250, 249, 248, 0]), bytes([61] * 9)])
    assert random_text(lambda size: next(drawn)[:size], 9) == "0" + "z" * 8


# --- life ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "s.bogus", "s." + "x" * 10_000, "\ud800", "b.AAAA"])
async def test_unknown_token_is_refused_alike(token: str) -> None:
    logical = await open_logical()
    with pytest.raises(PermissionDenied) as caught:
        await logical.call("GET", "auth/token/lookup-self", token=token)
    assert caught.value.errors == ("permission denied",)


async def test_token_blanks_around_it_do_not_matter() -> None:
    logical = await open_logical()
    assert await is_valid(logical, f" {logical.root} ")


async def test_token_ends_at_its_time_and_not_before() -> None:
    logical = await open_with_policy()
    token = await logical.token("tp", ttl="10s")
    logical.clock.advance(9.9)
    assert await is_valid(logical, token)
    logical.clock.advance(0.1)
    assert not await is_valid(logical, token)


@pytest.mark.parametrize("field", ["ttl", "period", "explicit_max_ttl"])
async def test_token_of_less_than_a_second_ends(field: str) -> None:
    """Goal: a child of the root token that is to end at once does not live for ever."""
    logical = await open_with_policy()
    token = await logical.token("root", **{field: "500ms"})
    logical.clock.advance(1.5)
    assert not await is_valid(logical, token)


async def test_token_of_an_expired_parent_is_dead_at_once() -> None:
    logical = await open_with_policy()
    parent = await logical.token("tp", ttl="10s")
    child = await logical.token("tp", by=parent, ttl="1h")
    assert await is_valid(logical, child)
    logical.clock.advance(11)
    assert not await is_valid(logical, child)


async def test_lookup_shows_what_was_asked_for() -> None:
    logical = await open_with_policy()
    token = await logical.token(
        "tp",
        ttl="1h",
        explicit_max_ttl="2h",
        num_uses=5,
        display_name="a b!",
        meta={"user": "x"},
    )
    found = await lookup(logical, token)
    assert found["policies"] == ["default", "tp"]
    assert found["creation_ttl"] == found["ttl"] == 3600
    assert found["explicit_max_ttl"] == 7200
    assert found["display_name"] == "token-a-b"
    assert found["meta"] == {"user": "x"}
    assert found["num_uses"] == 5
    assert found["expire_time"] == "2026-11-23T13:00:00.25Z"
    assert found["orphan"] is False
    assert found["id"] == token
    by_accessor = await logical.data(
        "POST", "auth/token/lookup-accessor", {"accessor": found["accessor"]}
    )
    assert by_accessor == found | {"id": ""}


async def test_sweep_removes_what_has_ended_and_nothing_else() -> None:
    world = World()
    logical = await open_with_policy(world)
    stays = await logical.token("tp")
    before = set(world.data)
    parent = await logical.token("tp", ttl="10s")
    await logical.token("tp", by=parent, ttl="1h")
    assert await logical.core.sweep() == 0
    logical.clock.advance(11)
    assert await logical.core.sweep() >= 1
    assert set(world.data) == before
    assert await is_valid(logical, stays)


async def test_sweep_pushes_no_token_in_use_out_of_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "_ENTRIES_MAX", 3)
    backend = FailingBackend(World().open())
    logical = await open_logical(backend)
    used = [await logical.token("default") for _ in range(10)]
    for token in used:
        await logical.call("GET", "auth/token/lookup-self", token=token)

        await logical.core.sweep()

        backend.arm(None)
        await logical.call("GET", "auth/token/lookup-self", token=token)
        assert backend.calls == 0, "the token in use is still known"


# --- trees --------------------------------------------------------------------------------------


async def test_revoke_ends_the_whole_tree_and_leaves_no_rest() -> None:
    world = World()
    logical = await open_with_policy(world)
    before = set(world.data)
    parent = await logical.token("tp")
    child = await logical.token("tp", by=parent)
    grandchild = await logical.token("tp", by=child)
    await logical.call("POST", "auth/token/revoke", {"token": parent})
    for token in (parent, child, grandchild):
        assert not await is_valid(logical, token)
    assert set(world.data) == before
    await logical.call("POST", "auth/token/revoke", {"token": parent})


async def test_revoke_cut_short_the_tree_is_dead_nevertheless() -> None:
    """Goal: an ended parent never leaves a living child. Method: fail every later call."""
    for fail_at in range(1, 12):
        backend = FailingBackend(World().open())
        logical = await open_logical(backend)
        await logical.call("PUT", "sys/policies/acl/tp", {"policy": POLICY})
        parent = await logical.token("tp")
        child = await logical.token("tp", by=parent)
        grandchild = await logical.token("tp", by=child)
        backend.arm(fail_at)
        with contextlib.suppress(StorageError):
            await logical.call("POST", "auth/token/revoke", {"token": parent})
        backend.arm(None)
        alive = [await is_valid(logical, token) for token in (parent, child, grandchild)]
        assert alive in ([True] * 3, [False] * 3)
        if alive[0]:
            continue
        await logical.core.sweep()
        left = await logical.barrier.list("sys/token/id/")
        assert len(left) == 1, "the root token alone is left"


async def test_revoke_orphan_children_live_on() -> None:
    logical = await open_with_policy()
    parent = await logical.token("tp")
    child = await logical.token("tp", by=parent)
    grandchild = await logical.token("tp", by=child)
    with pytest.raises(InvalidRequest, match="privileges required to revoke and orphan"):
        await logical.call("POST", "auth/token/revoke-orphan", {"token": parent}, token=child)
    await logical.call("POST", "auth/token/revoke-orphan", {"token": parent})
    assert not await is_valid(logical, parent)
    assert (await lookup(logical, child))["orphan"] is True
    assert (await lookup(logical, grandchild))["orphan"] is False
    with pytest.raises(InvalidRequest, match="token to revoke not found"):
        await logical.call("POST", "auth/token/revoke-orphan", {"token": parent})


async def test_create_under_a_parent_that_is_being_revoked_never_survives() -> None:
    logical = await open_with_policy()
    parent = await logical.token("tp")
    made: list[str] = []

    async def create() -> None:
        with contextlib.suppress(RequestError):
            made.append(await logical.token("tp", by=parent))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(create)
        nursery.start_soon(logical.call, "POST", "auth/token/revoke", {"token": parent})
        for _ in range(5):
            nursery.start_soon(create)
    for token in [parent, *made]:
        assert not await is_valid(logical, token)
    await logical.core.sweep()
    assert len(await logical.barrier.list("sys/token/id/")) == 1


# --- limited uses -------------------------------------------------------------------------------


async def test_limited_token_counts_down_and_ends() -> None:
    logical = await open_with_policy()
    token = await logical.token("tp", num_uses=3)
    shown = [
        (await logical.data("GET", "auth/token/lookup-self", token=token))["num_uses"]
        for _ in range(3)
    ]
    assert shown == [2, 1, -1]
    assert not await is_valid(logical, token)
    assert len(await logical.barrier.list("sys/token/id/")) == 1


async def test_limited_token_many_at_once_no_use_is_spent_twice() -> None:
    logical = await open_with_policy()
    token = await logical.token("tp", num_uses=7)
    served = refused = 0

    async def use() -> None:
        nonlocal served, refused
        if await is_valid(logical, token):
            served += 1
        else:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(25):
            nursery.start_soon(use)
    assert (served, refused) == (7, 18)


async def test_limited_token_a_denied_request_costs_a_use() -> None:
    logical = await open_with_policy()
    token = await logical.token("default", num_uses=2)
    for _ in range(2):
        with pytest.raises(PermissionDenied, match="1 error occurred"):
            await logical.call("GET", "secret/data/a", token=token)
    assert not await is_valid(logical, token)


async def test_limited_token_has_no_children() -> None:
    logical = await open_with_policy()
    token = await logical.token("tp", num_uses=5)
    with pytest.raises(InvalidRequest, match="restricted use token cannot generate child tokens"):
        await logical.token("tp", by=token)


# --- asking for more than one has -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"policies": ["root"]}, "child policies must be subset of parent"),
        ({"policies": ["other"]}, "child policies must be subset of parent"),
        ({"no_parent": True}, "root or sudo privileges required to create orphan token"),
        ({"period": "1h"}, "root or sudo privileges required to create periodic token"),
        ({"id": "xx"}, "root or sudo privileges required to specify token id"),
        ({"num_uses": -1}, "number of uses cannot be negative"),
        ({"ttl": "xyz"}, 'time: invalid duration "xyz"'),
        ({"ttl": "-1s"}, "ttl must be positive"),
        ({"type": "zzz"}, "invalid 'token_type' value"),
        ({"type": "batch"}, "batch tokens are not supported by this server"),
        ({"id": "my.id"}, "custom token ID cannot have a '.' in the value"),
        ({"id": "s.id"}, "custom token ID cannot have the 's.' prefix"),
    ],
)
async def test_create_by_an_ordinary_token_is_bounded(fields: dict[str, Any], text: str) -> None:
    logical = await open_with_policy()
    parent = await logical.token("tp")
    with pytest.raises(InvalidRequest) as caught:
        await logical.call("POST", "auth/token/create", fields, token=parent)
    assert caught.value.errors == (text,)


async def test_create_with_sudo_may_choose_policies_but_not_root() -> None:
    logical = await open_logical()
    await logical.call(
        "PUT",
        "sys/policies/acl/sudo",
        {"policy": 'path "auth/token/*" { capabilities=["update","sudo"] }'},
    )
    parent = await logical.token("sudo")
    child = await logical.token("other", by=parent, period="1h", no_parent=True)
    found = await lookup(logical, child)
    assert found["policies"] == ["default", "other"]
    assert (found["period"], found["orphan"]) == (3600, True)
    with pytest.raises(InvalidRequest, match="may not be created without parent token being root"):
        await logical.token("root", by=parent)


@pytest.mark.parametrize(
    ("fields", "policies"),
    [
        ({}, ["root"]),
        ({"policies": ["root", "default"]}, ["root"]),
        ({"policies": ["DeF ", "Foo", "foo", ""]}, ["def", "default", "foo"]),
        ({"policies": "a,b"}, ["a,b", "default"]),
        ({"policies": ["tp"], "no_default_policy": True}, ["tp"]),
        ({"policies": ["default"], "no_default_policy": True}, []),
    ],
)
async def test_create_policies_are_brought_into_form(
    fields: dict[str, Any], policies: list[str]
) -> None:
    logical = await open_logical()
    response = await logical.call("POST", "auth/token/create", fields)
    assert response.auth is not None
    assert response.auth.policies == policies


async def test_create_without_default_the_child_does_not_gain_it() -> None:
    logical = await open_with_policy()
    parent = await logical.token("tp", no_default_policy=True)
    child = await logical.token("tp", by=parent)
    assert (await lookup(logical, child))["policies"] == ["tp"]
    inherited = await logical.token(by=parent)
    assert (await lookup(logical, inherited))["policies"] == ["tp"]


@pytest.mark.parametrize(
    ("fields", "ttl_s", "warning"),
    [
        ({"ttl": "99999h"}, 2764800, 'TTL of "99999h" exceeded the effective max_ttl of "768h"'),
        (
            {"ttl": "2h", "explicit_max_ttl": "1h"},
            3600,
            'TTL of "2h" exceeded the effective max_ttl of "1h"',
        ),
        (
            {"period": "1000h"},
            2764800,
            'period of "1000h" exceeded the effective max_ttl of "768h"',
        ),
        ({"period": "2h", "ttl": "1h"}, 7200, ""),
        ({"ttl": 60}, 60, ""),
        ({}, 2764800, ""),
    ],
)
async def test_create_ttl_is_capped_with_a_warning(
    fields: dict[str, Any], ttl_s: int, warning: str
) -> None:
    logical = await open_logical()
    asked = {"policies": ["default"], **fields}
    response = await logical.call("POST", "auth/token/create", asked)
    assert response.auth is not None
    assert response.auth.lease_duration == ttl_s
    assert [w.partition(";")[0] for w in response.warnings] == ([warning] if warning else [])


async def test_create_chosen_id_twice_is_refused() -> None:
    logical = await open_logical()
    await logical.token("default", id="mine")
    with pytest.raises(InvalidRequest, match="cannot create a token with a duplicate ID"):
        await logical.token("default", id="mine")


async def test_create_expiring_root_cannot_make_a_lasting_one() -> None:
    logical = await open_logical()
    expiring = await logical.token("root", ttl="1h")
    with pytest.raises(InvalidRequest, match="expiring root tokens cannot create"):
        await logical.token("root", by=expiring)


# --- renewing -----------------------------------------------------------------------------------


async def test_renew_moves_the_end_up_to_the_explicit_maximum() -> None:
    logical = await open_with_policy()
    token = await logical.token("default", ttl="10m", explicit_max_ttl="1h")
    logical.clock.advance(300)
    renewed = await logical.call("POST", "auth/token/renew-self", {"increment": "20m"}, token=token)
    assert renewed.auth is not None
    assert renewed.auth.lease_duration == 1200
    again = await logical.call("POST", "auth/token/renew", {"token": token})
    assert again.auth is not None
    assert again.auth.lease_duration == 1200, "without an increment the last one counts"
    capped = await logical.call("POST", "auth/token/renew", {"token": token, "increment": "2h"})
    assert capped.auth is not None
    assert capped.auth.lease_duration == 3300
    assert capped.warnings == [
        'TTL of "2h" exceeded the effective max_ttl of "55m"; TTL value is capped accordingly'
    ]
    found = await lookup(logical, token)
    assert found["expire_time"] == "2026-11-23T13:00:00.25Z"
    assert found["last_renewal"] == "2026-11-23T12:05:00.25Z"


async def test_renew_periodic_token_for_ever() -> None:
    logical = await open_with_policy()
    token = await logical.token("default", period="30m")
    for _ in range(2000):
        logical.clock.advance(1700)
        renewed = await logical.call("POST", "auth/token/renew-self", token=token)
        assert renewed.auth is not None
        assert renewed.auth.lease_duration == 1800


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (None, "invalid lease ID"),
        ({}, "lease is not renewable"),
        ({"renewable": False, "ttl": "10m"}, "lease is not renewable"),
    ],
)
async def test_renew_what_cannot_be_renewed(fields: dict[str, Any] | None, text: str) -> None:
    logical = await open_logical()
    token = logical.root if fields is None else await logical.token("root", **fields)
    with pytest.raises(InvalidRequest) as caught:
        await logical.call("POST", "auth/token/renew-self", token=token)
    assert caught.value.errors == (text,)


async def test_accessors_are_listed_and_revoke() -> None:
    logical = await open_with_policy()
    token = await logical.token("tp")
    accessor = (await lookup(logical, token))["accessor"]
    keys = (await logical.data("LIST", "auth/token/accessors"))["keys"]
    assert accessor in keys
    assert len(keys) == 2
    with pytest.raises(PermissionDenied):
        await logical.call("LIST", "auth/token/accessors", token=token)
    await logical.call("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    assert not await is_valid(logical, token)
    gone = await logical.call("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    assert gone.warnings == ["No token found with this accessor"]


# --- caches -------------------------------------------------------------------------------------


async def test_cache_what_another_node_revoked_is_gone_after_forget() -> None:
    world = World()
    logical = await open_with_policy(world)
    token = await logical.token("tp")
    assert await is_valid(logical, token)
    for key in [key for key in world.data if key.startswith("sys/token/id/")]:
        await logical.barrier.delete(key)
    assert await is_valid(logical, token), "until then the entry is cached"
    logical.core.forget()
    assert not await is_valid(logical, token)


async def test_cache_unknown_outcome_of_a_revocation_is_not_trusted() -> None:
    backend = FailingBackend(World().open())
    logical = await open_logical(backend)
    token = await logical.token("default")
    assert await is_valid(logical, token)
    backend.arm(1, after=True)  # the commit takes effect, its reply is lost
    with pytest.raises(StorageError):
        await logical.call("POST", "auth/token/revoke", {"token": token})
    backend.arm(None)
    assert not await is_valid(logical, token)


async def test_cached_tokens_are_bounded_by_their_size() -> None:
    logical = await open_logical()
    store = tokens.TokenStore(
        logical.barrier, random_bytes=os.urandom, now=logical.clock, cached_bytes_max=100_000
    )
    kept = []
    for _ in range(3):  # what was dropped counts no more: there is as much room as before
        made = [await logical.token("default", meta={"k": "v" * 30_000}) for _ in range(8)]
        for token in made * 2:
            assert await store.find(token) is not None
            sizes = [len(entry.to_bytes()) for entry in held(store, TokenEntry)]
            assert sum(sizes) <= 100_000
        kept.append(len(sizes))
        for token in made:
            await store.revoke(await store.token_id(token))
        assert not any(entry.parent for entry in held(store, TokenEntry))  # their parent stays
    assert kept == [3 + 1] * 3


async def test_long_lists_of_policies_count_in_the_cache() -> None:
    logical = await open_logical()
    store = logical.policies

    for number in range(60):
        await store.acl([f"{'p' * 500}{number}-{other}" for other in range(500)])

    kept = [text for text in held(store, str) if text.startswith("p" * 500)]
    assert kept
    assert sum(map(len, kept)) <= 64 * 200_000


async def test_tidy_after_a_jump_of_the_wall_clock_keeps_valid_tokens() -> None:
    logical = await open_logical()
    token = await logical.token("default", ttl="1h")

    logical.clock.jump(2 * 3600)
    tidied = await logical.call("POST", "auth/token/tidy")
    logical.clock.jump(-2 * 3600)

    assert tidied.status == 202
    assert "clock has jumped" in tidied.warnings[0]
    assert (await logical.call("GET", "auth/token/lookup-self", token=token)).data


async def test_tidy_with_a_clock_that_jumps_meanwhile_keeps_valid_tokens() -> None:
    store = ToldOfListings(World().open())
    logical = await open_logical(store)
    tokens = [await logical.token("default", ttl="1h") for _ in range(3)]
    listed: list[str] = []

    def jump_once(prefix: str) -> None:
        if not listed:
            logical.clock.jump(2 * 3600)
        listed.append(prefix)

    store.told = jump_once
    await logical.call("POST", "auth/token/tidy")
    store.told = None
    assert listed[0] == "sys/token/id/"
    logical.clock.jump(-2 * 3600)

    for token in tokens:
        assert (await logical.call("GET", "auth/token/lookup-self", token=token)).data


async def test_tidy_after_time_has_passed_removes_ended_tokens() -> None:
    logical = await open_logical()
    await logical.token("default", ttl="1h")
    before = await logical.tokens.accessors()

    logical.clock.advance(2 * 3600)
    await logical.call("POST", "auth/token/tidy")

    assert len(before) - len(await logical.tokens.accessors()) == 1
