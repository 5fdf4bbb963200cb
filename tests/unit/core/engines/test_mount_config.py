"""
What clients send for a mount's settings, and what is kept of it.

Every expectation was measured on OpenBao 2.7.2, but for those that docs/divergence.md names.
"""

from __future__ import annotations

from typing import Any

import pytest

from baoha.core.engines.sys.mount_config import LISTS
from baoha.errors import InvalidRequest
from tests.support.logical import Logical, open_logical

FULL: dict[str, Any] = {
    "default_lease_ttl": 3600,
    "max_lease_ttl": 86400,
    "listing_visibility": "unauth",
    **{name: [name[0]] for name in LISTS},
}
KEPT: dict[str, Any] = {}
REFUSED = None


async def open_mount() -> Logical:
    logical = await open_logical()
    body = {"type": "kv", "description": "d", "config": FULL}
    await logical.call("POST", "sys/mounts/team", body)
    return logical


async def config_of(logical: Logical, table: str = "mounts", path: str = "team/") -> dict[str, Any]:
    config: dict[str, Any] = (await logical.data("GET", f"sys/{table}"))[path]["config"]
    return {name: value for name, value in config.items() if name != "force_no_cache"}


# Fields of a tuning, and what then differs from FULL ("-": it is gone).
TUNINGS: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    *(
        ({name: value}, KEPT)
        for name in ("default_lease_ttl", "max_lease_ttl")
        for value in ("", None)
    ),
    ({"default_lease_ttl": "", "max_lease_ttl": ""}, KEPT),
    ({"default_lease_ttl": "30m", "max_lease_ttl": ""}, {"default_lease_ttl": 1800}),
    ({"default_lease_ttl": "", "max_lease_ttl": "30m"}, REFUSED),
    *(
        ({"default_lease_ttl": value}, {"default_lease_ttl": 0})
        for value in ("system", 0, "0", "0s", False)
    ),
    *(({"max_lease_ttl": value}, {"max_lease_ttl": 0}) for value in ("system", 0, "0s")),
    ({"default_lease_ttl": "1500ms"}, {"default_lease_ttl": 1}),
    ({"default_lease_ttl": "1ns"}, {"default_lease_ttl": 1}),
    ({"default_lease_ttl": "48h"}, REFUSED),
    ({"default_lease_ttl": "2h", "max_lease_ttl": "1h"}, REFUSED),
    *(({"default_lease_ttl": value}, REFUSED) for value in ("x", " ", 1.5, [], {}, "-1s", -1)),
    *(({"listing_visibility": value}, {"listing_visibility": "-"}) for value in ("", None)),
    ({"listing_visibility": "hidden"}, {"listing_visibility": "hidden"}),
    ({"listing_visibility": "x"}, REFUSED),
    *(({name: value}, {name: "-"}) for name in LISTS for value in (None, "", [], {})),
    *(({name: value}, {name: ["x", "y"]}) for name in LISTS for value in ("x, y", ["x ", "y"])),
    ({LISTS[0]: {"a": "b"}}, REFUSED),
    ({"force_no_cache": True}, KEPT),
    ({"zzz": 1}, KEPT),
    ({}, KEPT),
    ({"token_type": None}, REFUSED),
    ({"user_lockout_config": {"lockout_threshold": 3}}, REFUSED),
    ({"user_lockout_config": {}}, KEPT),
]


@pytest.mark.parametrize(("fields", "changes"), TUNINGS)
async def test_tune_what_is_not_given_stays(
    fields: dict[str, Any], changes: dict[str, Any] | None
) -> None:
    logical = await open_mount()
    tuning = logical.call("POST", "sys/mounts/team/tune", fields)
    if changes is REFUSED:
        with pytest.raises(InvalidRequest):
            await tuning
    else:
        await tuning

    expected = FULL | (changes or {})
    kept = {name: value for name, value in expected.items() if value != "-"}
    assert await config_of(logical) == kept


async def test_tune_as_the_command_line_sends_it_changes_what_was_given() -> None:
    logical = await open_mount()
    sent = {"default_lease_ttl": "30m", "max_lease_ttl": "", "options": None}

    await logical.call("POST", "sys/mounts/team/tune", sent)

    assert await config_of(logical) == FULL | {"default_lease_ttl": 1800}


@pytest.mark.parametrize("value", ["", None])
async def test_tune_the_token_method_what_is_not_given_stays(value: Any) -> None:
    logical = await open_logical()
    await logical.call("POST", "sys/auth/token/tune", {"max_lease_ttl": "24h"})

    await logical.call("POST", "sys/auth/token/tune", {"max_lease_ttl": value})

    assert (await config_of(logical, "auth", "token/"))["max_lease_ttl"] == 86400


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"a": ""}, {"c": "d"}),
        ({"a": None}, {"c": "d"}),
        ({"a": "z", "b": ""}, {"a": "z", "c": "d"}),
        ({"e": "f"}, {"a": "b", "c": "d", "e": "f"}),
        ({}, {"a": "b", "c": "d"}),
        (None, {"a": "b", "c": "d"}),
    ],
)
async def test_tune_options_an_empty_one_is_removed(
    asked: dict[str, Any] | None, expected: dict[str, str]
) -> None:
    logical = await open_logical()
    await logical.call("POST", "sys/mounts/m", {"type": "kv", "options": {"a": "b", "c": "d"}})

    await logical.call("POST", "sys/mounts/m/tune", {"options": asked})

    assert (await logical.data("GET", "sys/mounts"))["m/"]["options"] == expected


# A field of the config of a new mount, and what is kept (None: refused).
ENABLED: list[tuple[str, Any, dict[str, Any] | None]] = [
    *(("default_lease_ttl", value, {}) for value in (None, "")),
    *(("max_lease_ttl", value, {"max_lease_ttl": 3600}) for value in ("1h", 3600, "3600")),
    ("max_lease_ttl", "system", {}),
    *(("max_lease_ttl", value, REFUSED) for value in ([], {}, True, ["x"], {"a": "b"}, "x", -1)),
    *(("listing_visibility", value, {}) for value in (None, "")),
    *(("listing_visibility", value, REFUSED) for value in ([], {}, True, ["x"], 0, "x")),
    *((name, value, {}) for name in LISTS for value in (None, "", [])),
    *((name, value, {name: ["1", "x"]}) for name in LISTS for value in ("1,x", [1, "x"])),
    *((name, value, REFUSED) for name in LISTS for value in ({}, 0, True, 1.5, [True], {"a": 1})),
    *(("token_type", value, REFUSED) for value in ([], {}, True)),
    ("token_type", "default-service", {}),
    ("unknown", [], {}),
]


@pytest.mark.parametrize(("name", "value", "kept"), ENABLED)
async def test_enable_config_takes_the_types_of_json_as_they_are(
    name: str, value: Any, kept: dict[str, Any] | None
) -> None:
    logical = await open_logical()
    call = logical.call("POST", "sys/mounts/team", {"type": "kv", "config": {name: value}})
    if kept is None:
        with pytest.raises(InvalidRequest):
            await call
        assert "team/" not in await logical.data("GET", "sys/mounts")
    else:
        await call
        default = {"default_lease_ttl": 0, "max_lease_ttl": 0}
        assert await config_of(logical) == default | kept


@pytest.mark.parametrize(
    ("value", "shown"),
    [(True, True), (False, False), (None, False)]
    + [(value, None) for value in (0, 1, "true", "", [], {}, 1.0)],
)
async def test_enable_force_no_cache_is_a_truth_value(value: Any, shown: bool | None) -> None:
    logical = await open_logical()
    body = {"type": "kv", "config": {"force_no_cache": value}}
    if shown is None:
        with pytest.raises(InvalidRequest, match="unable to convert given mount config"):
            await logical.call("POST", "sys/mounts/team", body)
    else:
        await logical.call("POST", "sys/mounts/team", body)
        config = (await logical.data("GET", "sys/mounts"))["team/"]["config"]
        assert config["force_no_cache"] is shown


# --- names of types -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"type": "kv"}, ("kv", {})),
        ({"type": "kv", "options": None}, ("kv", None)),
        ({"type": "kv", "options": {"version": None}}, ("kv", {"version": ""})),
        ({"type": "kv-v1"}, ("kv", {"version": "1"})),
        ({"type": "kv-v2"}, ("kv", {"version": "2"})),
        (
            {"type": "kv-v2", "options": {"version": "1", "a": "b"}},
            ("kv", {"version": "2", "a": "b"}),
        ),
        ({"type": "generic"}, ("generic", {})),
        ({"type": "generic", "options": {"x": "y"}}, ("generic", {"x": "y"})),
        ({"type": "plugin", "plugin_name": "kv"}, ("kv", {})),
        ({"type": "plugin", "plugin_name": "generic"}, ("generic", {})),
        (
            {"type": "kv", "options": {"version": "3"}},
            'nil backend of type "kv" returned from factory',
        ),
        (
            {"type": "generic", "options": {"version": "1"}},
            'secrets engine "generic" does not allow setting a version',
        ),
        ({"type": "plugin"}, "plugin_name must be provided for plugin backend"),
        ({"type": "passthrough"}, "plugin not found in the catalog: passthrough"),
        ({"type": "KV"}, "plugin not found in the catalog: KV"),
        *(
            ({"type": name}, f'mount type of "{name}" is not mountable')
            for name in ("cubbyhole", "identity", "system", "token")
        ),
    ],
)
async def test_enable_every_name_of_a_type(body: dict[str, Any], shown: Any) -> None:
    logical = await open_logical()
    if isinstance(shown, str):
        with pytest.raises(InvalidRequest) as caught:
            await logical.call("POST", "sys/mounts/m", body)
        assert caught.value.errors == (shown,)
        return
    await logical.call("POST", "sys/mounts/m", body)
    mount = (await logical.data("GET", "sys/mounts"))["m/"]
    assert (mount["type"], mount["options"]) == shown
    assert mount["accessor"].startswith(f"{shown[0]}_")
    assert ("deprecation_status" in mount) == (shown[0] != "generic")


@pytest.mark.parametrize("kind", ["generic", "kv-v1", "kv-v2"])
async def test_enable_auth_has_no_secret_engines(kind: str) -> None:
    logical = await open_logical()
    with pytest.raises(InvalidRequest, match=f"plugin not found in the catalog: {kind}"):
        await logical.call("POST", "sys/auth/m", {"type": kind})


async def test_generic_works_as_the_plain_engine() -> None:
    logical = await open_logical()
    await logical.call("POST", "sys/mounts/m", {"type": "generic"})

    await logical.call("POST", "m/a", {"v": 1, "ttl": "1h"})

    read = await logical.call("GET", "m/a")
    assert (read.data, read.lease_duration) == ({"v": 1, "ttl": "1h"}, 3600)
    assert (await logical.data("LIST", "m"))["keys"] == ["a"]
