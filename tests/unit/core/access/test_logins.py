"""Logins: what becomes of what an auth method says, and what ends a token that was made so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from baoha.core.access.token_entry import TokenEntry
from baoha.core.framework.engine import Engine, EngineContext
from baoha.core.framework.engine_type import EngineType
from baoha.core.framework.mount_entry import Table
from baoha.core.framework.ttl import TTLs
from baoha.core.request import Login, Request, Response
from baoha.errors import InvalidRequest, PermissionDenied
from tests.support.logical import Logical, open_logical

BOB = Login(policies=("ci",), display_name="bob", alias="b-1", metadata={"team": "x"})


class Door(Engine):
    """Lets everybody in, as whoever stands in ``answer``; ``renewed`` says what a renewal says."""

    unauthenticated_paths = ("login",)
    answer: Login = BOB
    before_answer: Callable[[], object] | None = None

    def __init__(self, context: EngineContext) -> None:
        super().__init__(context)
        self.asked: list[Login] = []
        self.renewed: Callable[[Login], Login | None] = lambda login: login

    async def handle(self, request: Request) -> Response:
        return Response(login=self.answer)

    async def renew(self, login: Login) -> Login | None:
        self.asked.append(login)
        return self.renewed(login)


class Doors:
    """The row, and the engines that were made."""

    def __init__(self, table: Table = Table.AUTH) -> None:
        self.made: list[Door] = []
        self.row = EngineType(name="door", table=table, summary="", make=self._make)

    def _make(self, entry: object, context: EngineContext) -> Engine:
        self.made.append(Door(context))
        return self.made[-1]


async def open_door(ttl: TTLs | None = None) -> tuple[Logical, Doors]:
    doors = Doors()
    logical = await open_logical(installed=(doors.row,), ttl=ttl or TTLs())
    await logical.call("POST", "sys/auth/d/e", {"type": "door"})
    return logical, doors


async def log_in(logical: Logical) -> str:
    answer = await logical.call("POST", "auth/d/e/login", token="")
    assert answer.auth is not None
    return answer.auth.client_token


async def renewed_s(logical: Logical, token: str, **fields: object) -> int:
    answer = await logical.call("POST", "auth/token/renew-self", fields, token=token)
    assert answer.auth is not None
    return answer.auth.lease_duration


# --- making ---------------------------------------------------------------------------------------


async def test_login_makes_an_orphan_with_the_default_policy() -> None:
    logical, _ = await open_door(TTLs(600, 3600))
    token = await log_in(logical)
    found = await logical.data("GET", "auth/token/lookup-self", token=token)
    assert found["policies"] == ["ci", "default"]
    assert found["display_name"] == "d-e-bob"
    assert found["path"] == "auth/d/e/login"
    assert found["meta"] == {"team": "x"}
    assert (found["orphan"], found["renewable"], found["creation_ttl"]) == (True, True, 600)


@pytest.mark.parametrize("policy", ["root", " ROOT "])
async def test_login_as_root_is_refused(policy: str) -> None:
    logical, doors = await open_door()
    doors.made[-1].answer = replace(BOB, policies=(policy,))
    with pytest.raises(InvalidRequest, match="cannot create root tokens"):
        await log_in(logical)


@pytest.mark.parametrize(
    ("login", "ttl_s"),
    [
        (BOB, 600),
        (replace(BOB, ttl_s=1000), 1000),
        (replace(BOB, ttl_s=9999), 3600),
        (replace(BOB, max_ttl_s=60), 60),
        (replace(BOB, max_ttl_s=9999, ttl_s=9999), 3600),
    ],
)
async def test_lifetime_of_a_login_is_bounded_by_method_and_mount(login: Login, ttl_s: int) -> None:
    logical, doors = await open_door(TTLs(600, 3600))
    doors.made[-1].answer = login
    token = await log_in(logical)
    found = await logical.data("GET", "auth/token/lookup-self", token=token)
    assert found["creation_ttl"] == ttl_s


async def test_lifetime_of_a_login_is_what_the_mount_is_tuned_to() -> None:
    logical, _ = await open_door(TTLs(600, 3600))
    await logical.call("POST", "sys/auth/d/e/tune", {"default_lease_ttl": "90s"})
    token = await log_in(logical)
    found = await logical.data("GET", "auth/token/lookup-self", token=token)
    assert found["creation_ttl"] == 90


async def test_login_of_a_secret_engine_makes_no_token() -> None:
    doors = Doors(Table.SECRET)
    logical = await open_logical(installed=(doors.row,))
    await logical.call("POST", "sys/mounts/d", {"type": "door"})
    with pytest.raises(TypeError, match="logs nobody in"):
        await logical.call("POST", "d/login", token="")


# --- renewing -------------------------------------------------------------------------------------


async def test_renewal_asks_the_method_with_its_own_login() -> None:
    logical, doors = await open_door(TTLs(600, 3600))
    doors.made[-1].answer = replace(BOB, max_ttl_s=1800)
    token = await log_in(logical)
    assert await renewed_s(logical, token) == 600
    (asked,) = doors.made[-1].asked
    assert (asked.alias, asked.display_name, asked.max_ttl_s) == ("b-1", "bob", 1800)
    assert asked.policies == ("ci", "default")


async def test_renewal_gets_what_the_method_says_now() -> None:
    logical, doors = await open_door(TTLs(600, 3600))
    token = await log_in(logical)
    doors.made[-1].renewed = lambda login: replace(login, ttl_s=100)
    assert await renewed_s(logical, token) == 100
    assert await renewed_s(logical, token, increment="200s") == 200


async def test_renewal_never_goes_beyond_the_longest_life() -> None:
    logical, _ = await open_door(TTLs(600, 1000))
    token = await log_in(logical)
    logical.clock.advance(500)
    assert await renewed_s(logical, token) == 500
    logical.clock.advance(501)
    with pytest.raises(PermissionDenied):
        await renewed_s(logical, token)


async def test_renewal_that_the_method_refuses_is_none() -> None:
    logical, doors = await open_door()
    token = await log_in(logical)
    doors.made[-1].renewed = lambda login: None
    with pytest.raises(InvalidRequest, match="does not renew"):
        await renewed_s(logical, token)
    await logical.data("GET", "auth/token/lookup-self", token=token)


# --- ending ---------------------------------------------------------------------------------------


async def is_known(logical: Logical, token: str) -> bool:
    try:
        await logical.call("GET", "auth/token/lookup-self", token=token)
    except PermissionDenied:
        return False
    return True


async def test_disabling_of_the_method_ends_its_logins_and_no_others() -> None:
    logical, _ = await open_door()
    await logical.call("POST", "sys/auth/other", {"type": "door"})
    answer = await logical.call("POST", "auth/other/login", token="")
    assert answer.auth is not None
    mine, other = await log_in(logical), answer.auth.client_token
    made = await logical.token("default")
    await logical.call("DELETE", "sys/auth/d/e")
    assert [await is_known(logical, token) for token in (mine, other, made)] == [False, True, True]


async def test_login_whose_mount_is_gone_ends_with_the_next_sweep() -> None:
    """A disabling was cut short: the mount is gone, the tokens are there."""
    logical, _ = await open_door()
    token = await log_in(logical)
    mounts = logical.mounts
    await mounts.unmount("auth", "d/e/")
    with pytest.raises(InvalidRequest, match="does not renew"):
        await renewed_s(logical, token)
    assert await logical.core.sweep() == 1
    assert not await is_known(logical, token)


async def test_login_during_the_disabling_makes_no_token_that_stays() -> None:
    logical, doors = await open_door()

    class Slow(Door):
        async def handle(self, request: Request) -> Response:
            await logical.call("DELETE", "sys/auth/d/e")
            return Response(login=self.answer)

    mount = logical.mounts.match("auth/d/e/login")
    assert mount is not None
    slow = Slow(mount.target.context)
    doors.made[-1].handle = slow.handle  # type: ignore[method-assign]
    before = await logical.tokens.accessors()
    with pytest.raises(PermissionDenied):
        await log_in(logical)
    assert await logical.tokens.accessors() == before


# --- stored ---------------------------------------------------------------------------------------


async def test_entry_of_a_token_without_login_is_stored_as_ever() -> None:
    entry = TokenEntry(
        id="h", accessor="a", policies=("default",), path="p", display_name="d", creation_time=0
    )
    assert "login" not in json.loads(entry.to_bytes())
    assert TokenEntry.from_bytes(entry.to_bytes()) == entry
