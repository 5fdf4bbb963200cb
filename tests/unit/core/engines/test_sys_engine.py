"""The paths below sys/ that go through dispatch; texts and shapes as OpenBao 2.7.2 answers them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from baoha.core.view import Member
from baoha.errors import InvalidRequest, NotFound, PermissionDenied, RequestError
from baoha.sansio.formats.hcl import parse
from tests.support.logical import Logical, open_logical

READ_A = 'path "a" { capabilities = ["read"] }'


def in_list(text: str) -> str:
    return f"1 error occurred:\n\t* {text}\n\n"


# --- policies -------------------------------------------------------------------------------------


async def test_policy_write_read_list_delete() -> None:
    logical = await open_logical()
    await logical.call("PUT", "sys/policies/acl/UPPER", {"policy": READ_A})
    await logical.call("PUT", "sys/policies/acl/upper", {"policy": READ_A})
    assert await logical.data("GET", "sys/policies/acl/Upper") == {
        "allow_slashes_in_identity_templates": False,
        "allow_wildcards_in_identity_templates": False,
        "cas_required": False,
        "modified": "2026-11-23T12:00:00.25Z",
        "name": "upper",
        "policy": READ_A,
        "version": 2,
    }
    older = await logical.call("GET", "sys/policy/upper")
    assert older.top_level
    assert older.data is not None
    assert older.data["rules"] == READ_A
    await logical.call("PUT", "sys/policies/acl/a/b", {"policy": READ_A})
    names = ["default", "upper", "a/b", "root"]
    assert await logical.data("LIST", "sys/policies/acl") == {"keys": names}
    assert await logical.data("GET", "sys/policy") == {"keys": names, "policies": names}
    await logical.call("DELETE", "sys/policies/acl/upper")
    with pytest.raises(NotFound):
        await logical.call("GET", "sys/policies/acl/upper")
    await logical.call("DELETE", "sys/policies/acl/upper")


async def test_policy_in_base64_and_in_the_older_field() -> None:
    logical = await open_logical()
    encoded = base64.b64encode(READ_A.encode()).decode()
    await logical.call("PUT", "sys/policies/acl/b", {"policy": encoded})
    assert (await logical.data("GET", "sys/policies/acl/b"))["policy"] == READ_A
    older = await logical.call("PUT", "sys/policy/c", {"rules": READ_A})
    assert (older.status, older.warnings) == (
        200,
        ["'rules' is deprecated, please use 'policy' instead"],
    )


@pytest.mark.parametrize(
    ("method", "name", "body", "text"),
    [
        ("PUT", "p", {}, "'policy' parameter not supplied or empty"),
        ("PUT", "root", {"policy": READ_A}, 'cannot update "root" policy'),
        ("PUT", "response-wrapping", {"policy": "x"}, 'cannot update "response-wrapping" policy'),
        ("DELETE", "root", None, 'cannot delete "root" policy'),
        ("DELETE", "default", None, "cannot delete default policy"),
        (
            "PUT",
            "p",
            {"policy": "path {"},
            "failed to parse policy: At 1:8: object expected closing RBRACE got: EOF",
        ),
        (
            "PUT",
            "p",
            {"policy": READ_A, "ttl": "1h", "expiration": "2040-01-01T00:00:00Z"},
            "cannot supply both 'expiration' and 'ttl' for policies",
        ),
        (
            "PUT",
            "p",
            {"policy": READ_A, "expiration": "zz"},
            'Field validation failed: error converting input for field "expiration": could not '
            "parse string as date and time",
        ),
        (
            "PUT",
            "p",
            {"policy": READ_A, "cas": 7},
            "check-and-set parameter 7 did not match the current version 0",
        ),
        (
            "PUT",
            "default",
            {"policy": READ_A, "cas": -1},
            "check-and-set parameter set to -1 on existing entry",
        ),
    ],
)  # fmt: skip
async def test_policy_refusals(
    method: str, name: str, body: dict[str, Any] | None, text: str
) -> None:
    logical = await open_logical()
    with pytest.raises(InvalidRequest) as caught:
        await logical.call(method, f"sys/policies/acl/{name}", body)
    assert caught.value.errors == (text,)


@pytest.mark.parametrize(
    "end",
    [
        {"ttl": 0},
        {"ttl": "500ms"},
        {"ttl": ""},
        {"expiration": 0},
        {"expiration": "2026-11-23T12:00:00Z"},
    ],
)
async def test_policy_that_would_have_ended_is_refused(end: dict[str, Any]) -> None:
    """Goal: no time at all is not taken for "for ever"."""
    logical = await open_logical()
    with pytest.raises(InvalidRequest, match="expiration time has already elapsed"):
        await logical.call("PUT", "sys/policies/acl/p", {"policy": READ_A, **end})


async def test_policy_times_that_are_null_are_none() -> None:
    logical = await open_logical()
    body = {"policy": READ_A, "ttl": None, "expiration": None}
    await logical.call("PUT", "sys/policies/acl/p", body)
    assert "expiration" not in await logical.data("GET", "sys/policies/acl/p")


async def test_policy_cas_required_is_kept() -> None:
    logical = await open_logical()
    await logical.call("PUT", "sys/policies/acl/p", {"policy": READ_A, "cas_required": True})
    with pytest.raises(InvalidRequest, match="check-and-set parameter required for this call"):
        await logical.call("PUT", "sys/policies/acl/p", {"policy": READ_A})
    await logical.call("PUT", "sys/policies/acl/p", {"policy": READ_A, "cas": 1})
    assert (await logical.data("GET", "sys/policies/acl/p"))["cas_required"] is True


# --- capabilities ---------------------------------------------------------------------------------


async def _with_reader() -> tuple[Logical, str]:
    logical = await open_logical()
    text = 'path "secret/data/*" { capabilities = ["read", "list"] }'
    await logical.call("PUT", "sys/policies/acl/reader", {"policy": text})
    return logical, await logical.token("reader")


async def test_capabilities_of_oneself_of_a_token_and_of_an_accessor() -> None:
    logical, reader = await _with_reader()
    accessor = (await logical.data("POST", "auth/token/lookup", {"token": reader}))["accessor"]
    paths = {"paths": ["secret/data/x", "zzz"]}
    expected = {"secret/data/x": ["list", "read"], "zzz": ["deny"]}
    mine = await logical.call("POST", "sys/capabilities-self", paths, token=reader)
    assert (mine.data, mine.top_level) == (expected, True)
    asked = {"token": reader, **paths}
    assert await logical.data("POST", "sys/capabilities", asked) == expected
    asked = {"accessor": accessor, **paths}
    assert await logical.data("POST", "sys/capabilities-accessor", asked) == expected
    one = await logical.data("POST", "sys/capabilities-self", {"path": "x"})
    assert one == {"x": ["root"], "capabilities": ["root"]}


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("capabilities-self", {}, 400, "paths must be supplied"),
        ("capabilities-self", {"paths": ["a", ""]}, 400, in_list("missing path")),
        ("capabilities", {"paths": ["a"]}, 500, in_list("no token found")),
        ("capabilities", {"paths": ["a"], "token": "zzz"}, 400, in_list("invalid token")),
        ("capabilities-accessor", {"paths": ["a"]}, 400, "missing accessor"),
        ("capabilities-accessor", {"accessor": "zz"}, 400, in_list("invalid accessor")),
    ],
)
async def test_capabilities_refusals(
    path: str, body: dict[str, Any], status: int, text: str
) -> None:
    logical = await open_logical()
    with pytest.raises(RequestError) as caught:
        await logical.call("POST", f"sys/{path}", body)
    assert (caught.value.status_hint, caught.value.errors) == (status, (text,))


async def test_resultant_acl_shows_the_rules() -> None:
    logical, reader = await _with_reader()
    shown = await logical.data("GET", "sys/internal/ui/resultant-acl", token=reader)
    assert shown["glob_paths"]["secret/data/"] == {"capabilities": ["list", "read"]}
    assert shown["exact_paths"]["auth/token/lookup-self"] == {"capabilities": ["read"]}
    assert await logical.data("GET", "sys/internal/ui/resultant-acl") == {"root": True}


# --- mounts as the UI and the command line see them -----------------------------------------------


async def test_ui_mount_tells_the_version_to_whoever_has_access() -> None:
    logical, reader = await _with_reader()
    for path in ("secret", "secret/", "secret/data/foo"):
        shown = await logical.data("GET", f"sys/internal/ui/mounts/{path}", token=reader)
        assert (shown["options"], shown["path"]) == ({"version": "2"}, "secret/")
    stranger = await logical.token("default")
    for path in ("secret", "nomount"):
        with pytest.raises(PermissionDenied) as caught:
            await logical.call("GET", f"sys/internal/ui/mounts/{path}", token=stranger)
        assert caught.value.errors == (
            "preflight capability check returned 403, please ensure client's policies grant "
            f'access to path "{path}/"',
        )


@pytest.mark.parametrize("token", ["", "s.bogus"])
async def test_ui_mount_without_a_valid_token_is_refused(token: str) -> None:
    logical = await open_logical()
    with pytest.raises(PermissionDenied) as caught:
        await logical.call("GET", "sys/internal/ui/mounts/secret", token=token)
    assert caught.value.errors == ("permission denied",)


async def test_ui_mounts_lists_by_access_and_by_visibility() -> None:
    logical, reader = await _with_reader()
    shown = await logical.data("GET", "sys/internal/ui/mounts", token=reader)
    assert "secret/" in shown["secret"]
    assert "token/" in shown["auth"]
    nobody = await logical.data("GET", "sys/internal/ui/mounts", token="")
    assert nobody == {"auth": {}, "secret": {}}
    await logical.call("POST", "sys/mounts/secret/tune", {"listing_visibility": "unauth"})
    nobody = await logical.data("GET", "sys/internal/ui/mounts", token="")
    mount = {"description": "", "options": {"version": "2"}, "type": "kv"}
    assert nobody == {"auth": {}, "secret": {"secret/": mount}}


async def test_auth_paths_need_sudo_but_the_list_does_not() -> None:
    logical = await open_logical()
    text = 'path "sys/*" { capabilities = ["create","read","update","delete","list"] }'
    await logical.call("PUT", "sys/policies/acl/p", {"policy": text})
    token = await logical.token("p")
    await logical.call("GET", "sys/auth", token=token)
    await logical.call("GET", "sys/mounts", token=token)
    for method, path in (
        ("GET", "auth/token"),
        ("POST", "auth/x"),
        ("PUT", "rotate"),
        ("PUT", "rotate/keyring"),
    ):
        with pytest.raises(PermissionDenied):
            await logical.call(method, f"sys/{path}", {"type": "zz"}, token=token)
    await logical.call("GET", "sys/rotate/config", token=token)


# --- keys and members -----------------------------------------------------------------------------


async def test_key_status_names_the_term() -> None:
    logical = await open_logical()
    status = await logical.call("GET", "sys/key-status")
    assert status.top_level
    assert status.data is not None
    assert status.data["term"] == 1
    assert status.data["encryptions"] > 0


async def test_rotation_config_defaults() -> None:
    logical = await open_logical()
    assert await logical.data("GET", "sys/rotate/config") == {
        "enabled": True,
        "interval": 0,
        "max_operations": 3865470566,
    }
    with pytest.raises(InvalidRequest, match="int64"):
        await logical.call("POST", "sys/rotate/config", {"max_operations": "x"})


async def test_ha_status_rows_are_sorted_by_address() -> None:
    logical = await open_logical()

    def row(port: int, **fields: Any) -> Member:
        return Member(
            hostname="vm",
            api_address=f"http://127.0.0.1:{port}",
            cluster_address=f"https://127.0.0.1:{port + 1}",
            version="2.7.2",
            **fields,
        )

    echo = datetime(2026, 11, 23, 9, 32, 40, 638_000, tzinfo=UTC)
    logical.hooks.rows = [
        row(8300, active_node=False, last_echo=echo, ready=True, problems=("BH-101 wrong",)),
        row(8200, active_node=True, last_echo=None, node_id="n1", software="baoha 0.1.0"),
    ]
    answer = await logical.call("GET", "sys/ha-status")
    assert answer.top_level
    assert answer.data is not None
    first, second = answer.data["nodes"]
    assert (first["active_node"], first["last_echo"]) == (True, None)
    assert second == {
        "hostname": "vm",
        "api_address": "http://127.0.0.1:8300",
        "cluster_address": "https://127.0.0.1:8301",
        "active_node": False,
        "last_echo": "2026-11-23T09:32:40.638Z",
        "version": "2.7.2",
        "node_id": "",
        "ready": True,
        "software": "",
        "problems": ["BH-101 wrong"],
    }


async def test_unknown_fields_are_named_in_a_warning() -> None:
    logical = await open_logical()
    answer = await logical.call("POST", "auth/token/create", {"zzz": 1, "ttl": "1m"})
    assert answer.warnings == ["Endpoint ignored these unrecognized parameters: [zzz]"]
    answer = await logical.call("POST", "secret/data/x", {"data": {}, "path": "q", "b": 1, "a": 1})
    assert answer.warnings == [
        "Endpoint ignored these unrecognized parameters: [a b]",
        "Endpoint replaced the value of these parameters with the values captured from the "
        "endpoint's path: [path]",
    ]


@pytest.mark.parametrize("path", ["kv/x", "/kv/x", "//kv/x", "///kv/x", " kv/x", " //kv/x "])
async def test_capabilities_of_a_path_leading_slashes_do_not_count(path: str) -> None:
    logical = await open_logical()
    policy = (
        'path "kv/*" { capabilities = ["read"] }\npath "sys/capabilities-self" { policy = "write" }'
    )
    await logical.call("POST", "sys/policies/acl/p", {"policy": policy})
    token = await logical.token("p")

    asked = {"paths": [path, "other"]}
    found = await logical.data("POST", "sys/capabilities-self", asked, token=token)

    assert found == {path.strip(): ["read"], "other": ["deny"]}


# name of a path: its capabilities. Source: the policy "default" of OpenBao 2.7.2.
DEFAULT_GRANTS = {
    "auth/token/lookup-self": ["read"],
    "auth/token/renew-self": ["update"],
    "auth/token/revoke-self": ["update"],
    "sys/capabilities-self": ["update"],
    "identity/entity/id/{{identity.entity.id}}": ["read"],
    "identity/entity/name/{{identity.entity.name}}": ["read"],
    "sys/internal/ui/resultant-acl": ["read"],
    "sys/leases/renew": ["update"],
    "sys/leases/lookup": ["update"],
    "cubbyhole/*": ["create", "read", "update", "delete", "list"],
    "sys/wrapping/wrap": ["update"],
    "sys/wrapping/lookup": ["update"],
    "sys/wrapping/unwrap": ["update"],
    "sys/tools/hash": ["update"],
    "sys/tools/hash/*": ["update"],
    "identity/oidc/provider/+/authorize": ["read", "update"],
}


async def test_default_policy_grants_what_openbaos_grants_in_its_order() -> None:
    logical = await open_logical()
    text = (await logical.data("GET", "sys/policies/acl/default"))["policy"]

    rules = list(parse(text).blocks("path", labels=1))

    found = [(labels[0], block.to_plain()["capabilities"]) for labels, block, _ in rules]
    assert found == list(DEFAULT_GRANTS.items())
