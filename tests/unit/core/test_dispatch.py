"""Dispatch: who is asked first, what is told to whom, and what another node's writes do."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from baoha.core.request import Operation, Request
from baoha.errors import (
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ReadOnly,
    RequestError,
    StorageError,
    UnsupportedOperation,
)
from baoha.storage.inmem import World
from tests.support.failing import FailingBackend
from tests.support.logical import open_logical, open_sibling

DENIED = "1 error occurred:\n\t* permission denied\n\n"


def in_list(text: str) -> str:
    return f"1 error occurred:\n\t* {text}\n\n"


def no_handler(path: str) -> str:
    return f'no handler for route "{path}". route entry not found.'


@pytest.mark.parametrize(
    ("method", "path", "who", "status", "text"),
    [
        ("GET", "nomount/x", "root", 404, no_handler("nomount/x")),
        ("GET", "nomount/x", "none", 403, "permission denied"),
        ("GET", "nomount/x", "default", 403, DENIED),
        ("GET", "auth/nope/x", "root", 404, no_handler("auth/nope/x")),
        ("GET", "sys/doesnotexist", "root", 404, in_list("unsupported path")),
        ("GET", "sys/doesnotexist", "none", 403, "permission denied"),
        ("LIST", "sys/mounts", "root", 404, in_list("unsupported path")),
        ("POST", "sys/mounts", "root", 405, in_list("unsupported operation")),
        ("GET", "auth/token/create", "root", 405, in_list("unsupported operation")),
        ("GET", "auth/token/zzz", "root", 404, in_list("unsupported path")),
        ("GET", "auth/token", "root", 404, in_list("unsupported path")),
        ("GET", "secret/data/a", "none", 403, "permission denied"),
        ("GET", "secret/data/a", "bad", 403, "permission denied"),
        ("GET", "secret/data/a", "default", 403, DENIED),
        ("POST", "nomount/", "none", 400, "cannot write to a path ending in '/'"),
        ("GET", "sys/rekey/init", "none", 405, "unsupported operation"),
    ],
)
async def test_refusals_are_worded_as_recorded(
    method: str, path: str, who: str, status: int, text: str
) -> None:
    logical = await open_logical()
    token = {"root": logical.root, "none": "", "bad": "s.thisisnotatoken0000000000"}.get(who)
    if token is None:
        token = await logical.token("default")
    with pytest.raises(RequestError) as caught:
        await logical.call(method, path, token=token)
    assert caught.value.status_hint == status
    assert caught.value.errors == (text,)


@pytest.mark.parametrize(
    ("capability", "first", "second"),
    [("create", True, False), ("update", False, True)],
)
async def test_create_and_update_are_told_apart(capability: str, first: bool, second: bool) -> None:
    logical = await open_logical()
    policy = f'path "secret/data/*" {{ capabilities = ["{capability}"] }}'
    await logical.call("PUT", "sys/policies/acl/p", {"policy": policy})
    token = await logical.token("p")

    async def is_allowed(path: str) -> bool:
        try:
            await logical.call("POST", path, {"data": {}}, token=token)
        except PermissionDenied:
            return False
        return True

    assert await is_allowed("secret/data/new") is first
    await logical.call("POST", "secret/data/old", {"data": {}})
    assert await is_allowed("secret/data/old") is second


async def test_require_sudo_root_passes_others_need_the_capability() -> None:
    logical = await open_logical()
    policies = {"plain": '["update"]', "sudo": '["update","sudo"]', "wrong": '["read","sudo"]'}
    for name, capabilities in policies.items():
        text = f'path "sys/step-down" {{ capabilities = {capabilities} }}'
        await logical.call("PUT", f"sys/policies/acl/{name}", {"policy": text})
    path, update = "sys/step-down", Operation.UPDATE
    await logical.core.require_sudo(logical.root, path, update)
    await logical.core.require_sudo(await logical.token("sudo"), path, update)
    for name in ("plain", "wrong"):
        token = await logical.token(name)
        with pytest.raises(PermissionDenied) as caught:
            await logical.core.require_sudo(token, path, update)
        assert caught.value.errors == (DENIED,)
    with pytest.raises(PermissionDenied) as caught:
        await logical.core.require_sudo("", path, update)
    assert caught.value.errors == ("permission denied",)


async def test_require_sudo_counts_a_use() -> None:
    logical = await open_logical()
    token = await logical.token("root", num_uses=1)
    await logical.core.require_sudo(token, "sys/seal", Operation.UPDATE)
    with pytest.raises(PermissionDenied):
        await logical.core.require_sudo(token, "sys/seal", Operation.UPDATE)


async def test_wrapped_answer_asked_for_is_refused_not_given_plain() -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/data/a", {"data": {"k": 1}})
    request = Request(
        id="1",
        operation=Operation.READ,
        path="secret/data/a",
        token=logical.root,
        wrap_ttl_s=60,
    )
    with pytest.raises(InvalidRequest, match="wrapping is not supported"):
        await logical.core.handle(request)


async def test_policy_change_counts_for_the_next_request() -> None:
    logical = await open_logical()
    allow = 'path "secret/data/a" { capabilities = ["read"] }'
    await logical.call("POST", "secret/data/a", {"data": {}})
    await logical.call("PUT", "sys/policies/acl/p", {"policy": allow})
    token = await logical.token("p")
    await logical.call("GET", "secret/data/a", token=token)
    await logical.call("PUT", "sys/policies/acl/p", {"policy": allow.replace("read", "deny")})
    with pytest.raises(PermissionDenied):
        await logical.call("GET", "secret/data/a", token=token)
    await logical.call("PUT", "sys/policies/acl/p", {"policy": allow})
    await logical.call("GET", "secret/data/a", token=token)
    await logical.call("DELETE", "sys/policies/acl/p")
    with pytest.raises(PermissionDenied):
        await logical.call("GET", "secret/data/a", token=token)


async def test_policy_with_an_end_grants_nothing_afterwards() -> None:
    logical = await open_logical()
    text = 'path "secret/*" { capabilities = ["list"] }'
    await logical.call("PUT", "sys/policies/acl/p", {"policy": text, "ttl": "10s"})
    token = await logical.token("p")
    logical.clock.advance(9)
    with pytest.raises(NotFound):
        await logical.call("LIST", "secret/metadata", token=token)
    logical.clock.advance(2)
    with pytest.raises(PermissionDenied):
        await logical.call("LIST", "secret/metadata", token=token)


async def test_unknown_operation_is_refused_like_any_other() -> None:
    logical = await open_logical()
    for operation in (Operation.HEAD, Operation.HELP):
        for path in ("secret/data/a", "secret/zzz", "sys/mounts", "auth/token/create"):
            request = Request(id="1", operation=operation, path=path, token=logical.root)
            with pytest.raises(UnsupportedOperation):
                await logical.core.handle(request)


# --- mounts ---------------------------------------------------------------------------------------


async def test_mount_two_at_once_one_gets_the_path() -> None:
    logical = await open_logical()
    outcomes: list[str] = []

    async def enable(path: str) -> None:
        try:
            await logical.call("POST", f"sys/mounts/{path}", {"type": "kv"})
        except InvalidRequest as exc:
            outcomes.append(exc.errors[0])
        else:
            outcomes.append("mounted")

    async with trio.open_nursery() as nursery:
        for path in ("m", "m/sub", "m", "m/other"):
            nursery.start_soon(enable, path)
    paths = [path for path in await logical.data("GET", "sys/mounts") if path.startswith("m")]
    assert outcomes.count("mounted") == len(paths) == 1 or sorted(paths) == ["m/other/", "m/sub/"]


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("sys/mounts/secret", {"type": "kv"}, "path is already in use at secret/"),
        ("sys/mounts/secret/sub", {"type": "kv"}, "path is already in use at secret/"),
        ("sys/mounts/m", {}, "backend type must be specified as a string"),
        ("sys/mounts/m", {"type": "zzz"}, "plugin not found in the catalog: zzz"),
        ("sys/mounts/m", {"type": "system"}, 'mount type of "system" is not mountable'),
        ("sys/mounts/sys/foo", {"type": "kv"}, 'cannot mount "sys/foo/"'),
        ("sys/mounts/auth", {"type": "kv"}, 'cannot mount "auth/"'),
        ("sys/mounts/cubbyhole/x", {"type": "kv"}, 'cannot mount "cubbyhole/x/"'),
        (
            "sys/mounts/m",
            {"type": "kv", "config": {"default_lease_ttl": "zzz"}},
            'unable to parse default TTL of zzz: time: invalid duration "zzz"',
        ),
        (
            "sys/mounts/m",
            {"type": "kv", "config": {"default_lease_ttl": "2h", "max_lease_ttl": "1h"}},
            "given default lease TTL greater than given max lease TTL",
        ),
        (
            "sys/mounts/m",
            {"type": "kv", "options": {"version": "3"}},
            'nil backend of type "kv" returned from factory',
        ),
        ("sys/auth/x", {"type": "zzz"}, "plugin not found in the catalog: zzz"),
        (
            "sys/mounts/secret/tune",
            {"options": {"version": "1"}},
            "cannot downgrade mount from version 2",
        ),
        (
            "sys/mounts/nope/tune",
            {"description": "x"},
            'tune of path "nope/" failed: no mount entry found',
        ),
        (
            "sys/mounts/secret/tune",
            {"max_lease_ttl": "1s", "default_lease_ttl": "2s"},
            "backend max lease TTL of 1 would be less than backend default lease TTL of 2",
        ),
    ],
)
async def test_mount_refused_nothing_changes(path: str, body: dict[str, Any], text: str) -> None:
    logical = await open_logical()
    before = await logical.data("GET", "sys/mounts")
    with pytest.raises(InvalidRequest) as caught:
        await logical.call("POST", path, body)
    assert caught.value.errors == (text,)
    await logical.core.load()
    assert await logical.data("GET", "sys/mounts") == before


async def test_mount_tune_unmount_and_its_data() -> None:
    world = World()
    logical = await open_logical(world.open())
    before = set(world.data)
    body = {"type": "kv-v2", "description": "d", "config": {"max_lease_ttl": "2h"}}
    await logical.call("POST", "sys/mounts/m", body)
    mount = await logical.data("GET", "sys/mounts/m")
    assert (mount["type"], mount["options"]) == ("kv", {"version": "2"})
    await logical.call("POST", "m/data/a/b", {"data": {"k": 1}})
    await logical.call(
        "POST", "sys/mounts/m/tune", {"default_lease_ttl": "30m", "description": "n"}
    )
    tuned = await logical.data("GET", "sys/mounts/m/tune")
    assert (tuned["default_lease_ttl"], tuned["max_lease_ttl"]) == (1800, 7200)
    assert tuned["description"] == "n"
    assert (await logical.data("GET", "m/data/a/b"))["data"] == {"k": 1}
    await logical.call("DELETE", "sys/mounts/m")
    with pytest.raises(NotFound, match="no handler for route"):
        await logical.call("GET", "m/data/a/b")
    assert set(world.data) == before
    await logical.call("DELETE", "sys/mounts/m")
    for path in ("sys", "cubbyhole"):
        with pytest.raises(InvalidRequest, match="cannot unmount"):
            await logical.call("DELETE", f"sys/mounts/{path}")
    with pytest.raises(InvalidRequest, match="token credential backend cannot be disabled"):
        await logical.call("DELETE", "sys/auth/token")


async def test_mount_unknown_outcome_is_read_from_the_store_before_the_next_request() -> None:
    backend = FailingBackend(World().open())
    logical = await open_logical(backend)
    for fail_at in range(20):
        backend.arm(fail_at, after=True)
        try:
            await logical.call("POST", "sys/mounts/m", {"type": "kv"})
        except StorageError as exc:
            if exc.outcome == "unknown":
                break
    backend.arm(None)
    await logical.call("POST", "m/a", {"v": 1})
    assert (await logical.data("GET", "m/a")) == {"v": 1}


async def test_load_takes_over_what_another_node_wrote() -> None:
    world = World()
    first = await open_logical(world.open())
    second = await open_sibling(first, world.open())
    token = await first.token("default")
    await second.call("GET", "auth/token/lookup-self", token=token)
    await first.call("POST", "sys/mounts/m", {"type": "kv"})
    await first.call("POST", "auth/token/revoke", {"token": token})
    await first.call("PUT", "sys/policies/acl/default", {"policy": 'path "m/*" { policy="read" }'})
    other = await first.token("default")
    await second.core.load()
    with pytest.raises(NotFound):
        await second.call("GET", "m/a", token=other)
    with pytest.raises(PermissionDenied):
        await second.call("GET", "auth/token/lookup-self", token=token)


async def test_write_without_a_tenure_is_refused() -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/data/a", {"data": {"k": 1}})
    logical.barrier.end_writes()
    for call in (
        ("POST", "secret/data/a", {"data": {"k": 2}}),
        ("POST", "auth/token/create", {}),
        ("PUT", "sys/policies/acl/p", {"policy": 'path "a" {}'}),
        ("POST", "sys/mounts/m", {"type": "kv"}),
    ):
        with pytest.raises(ReadOnly):
            await logical.call(*call)
    assert (await logical.data("GET", "secret/data/a"))["data"] == {"k": 1}


async def test_populate_twice_gives_other_secrets() -> None:
    first, second = await open_logical(), await open_logical()
    assert first.root != second.root
    assert len(first.root) == 26
    assert first.root.startswith("s.")
    with pytest.raises(PermissionDenied):
        await first.call("GET", "sys/mounts", token=second.root)
