"""
The settings of KV v2: durations that are cut, and "not set" in the forms that clients send it.

Every expectation was measured on OpenBao 2.7.2.
"""

from __future__ import annotations

from typing import Any

import pytest

from baoha.errors import InvalidRequest, NotFound, RequestError
from tests.support.logical import Logical, open_logical

START = {
    "max_versions": 5,
    "cas_required": True,
    "metadata_cas_required": False,
    "delete_version_after": "1h",
    "custom_metadata": {"a": "b"},
}
SHOWN = START | {"delete_version_after": "1h0m0s"}
# What is sent, and what a mount and a secret then show; None: refused.
DURATIONS: list[tuple[Any, str | None, str | None]] = [
    *((text, "0s", "0s") for text in ("1ns", "1us", "999ms", "0", "", 0, "-1ns", "-999ms")),
    *((value, "1s", "1s") for value in ("1s", 1, "1", "1.5s", "1500ms")),
    *((value, "-1s", None) for value in ("-1s", -1, "-1", "-1500ms", "-5s")),
    ("1h30m", "1h30m0s", "1h30m0s"),
    ("1d", "24h0m0s", "24h0m0s"),
    ("2562047h", "2562047h0m0s", "2562047h0m0s"),
    (9223372036, "2562047h47m16s", "2562047h47m16s"),
    *((value, None, None) for value in (1.5, "1.5", True, "x", [], {}, "2562048h", 9223372037)),
    *((value, None, None) for value in ("1.5d", "106752d", "d", "xd", "1h1d")),
]


async def metadata(logical: Logical) -> dict[str, Any]:
    return await logical.data("GET", "secret/metadata/n")


@pytest.mark.parametrize(("value", "mount", "secret"), DURATIONS)
async def test_delete_version_after_is_cut_to_whole_seconds(
    value: Any, mount: str | None, secret: str | None
) -> None:
    logical = await open_logical()
    for path, shown in (("secret/config", mount), ("secret/metadata/n", secret)):
        call = logical.call("POST", path, {"delete_version_after": value})
        if shown is None:
            with pytest.raises(InvalidRequest):
                await call
        else:
            await call
            assert (await logical.data("GET", path))["delete_version_after"] == shown


@pytest.mark.parametrize(("value", "mount", "secret"), DURATIONS)
async def test_delete_version_after_below_a_second_hides_nothing(
    value: Any, mount: str | None, secret: str | None
) -> None:
    expires = mount is not None and mount not in ("0s", "-1s")
    logical = await open_logical()
    if mount is not None:
        await logical.call("POST", "secret/config", {"delete_version_after": value})

    written = await logical.data("POST", "secret/data/n", {"data": {"a": 1}})

    assert (written["deletion_time"] != "") == expires
    assert (await logical.data("GET", "secret/data/n"))["data"] == {"a": 1}


# field, value, method: what changes of what is shown (None: refused).
NOT_SET: list[tuple[str, Any, dict[str, Any] | None]] = [
    ("delete_version_after", None, {}),
    ("delete_version_after", "", {"delete_version_after": "0s"}),
    *(("max_versions", value, {"max_versions": 0}) for value in (None, "", 0)),
    *(("cas_required", value, {"cas_required": False}) for value in (None, "", 0, [], {}, False)),
    *(("metadata_cas_required", value, {}) for value in (None, "", 0)),
    *(("custom_metadata", value, {"custom_metadata": None}) for value in (None, {}, [])),
    *((name, [], None) for name in ("delete_version_after", "max_versions")),
    ("custom_metadata", "", None),
]


@pytest.mark.parametrize(("name", "value", "changes"), NOT_SET)
async def test_metadata_written_without_a_value_shows_the_default_or_what_was(
    name: str, value: Any, changes: dict[str, Any] | None
) -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/metadata/n", START)
    call = logical.call("POST", "secret/metadata/n", {name: value})
    if changes is None:
        with pytest.raises(InvalidRequest):
            await call
    else:
        await call

    found = await metadata(logical)

    assert {key: found[key] for key in SHOWN} == SHOWN | (changes or {})
    is_nothing = changes is None or (name, value) == ("delete_version_after", None)
    assert found["current_metadata_version"] == (1 if is_nothing else 2)


@pytest.mark.parametrize(
    ("name", "value", "changes"),
    [case for case in NOT_SET if case[0] != "custom_metadata"],
)
async def test_config_written_without_a_value_shows_the_default_or_what_was(
    name: str, value: Any, changes: dict[str, Any] | None
) -> None:
    logical = await open_logical()
    start = {key: START[key] for key in START if key != "custom_metadata"}
    await logical.call("POST", "secret/config", start)
    call = logical.call("POST", "secret/config", {name: value})
    if changes is None:
        with pytest.raises(InvalidRequest):
            await call
    else:
        await call

    shown = {key: SHOWN[key] for key in start}
    assert await logical.data("GET", "secret/config") == shown | (changes or {})


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"x": 1},
        {"delete_version_after": None},
        *({"metadata_cas": value} for value in (None, "", 0, 1, 7)),
        {"delete_version_after": None, "metadata_cas": 7},
    ],
)
async def test_metadata_nothing_to_change_is_no_write(method: str, body: dict[str, Any]) -> None:
    logical = await open_logical()
    assert (await logical.call(method, "secret/metadata/n", body)).status is None
    with pytest.raises(NotFound):
        await metadata(logical)

    await logical.call("POST", "secret/metadata/n", START | {"metadata_cas_required": True})
    assert (await logical.call(method, "secret/metadata/n", body)).status is None
    assert (await metadata(logical))["current_metadata_version"] == 1


async def test_metadata_created_with_a_version_to_compare_is_refused() -> None:
    logical = await open_logical()
    with pytest.raises(RequestError, match="metadata_cas must be 0 when creating new metadata"):
        await logical.call("POST", "secret/metadata/n", {"max_versions": 3, "metadata_cas": 1})
    with pytest.raises(NotFound):
        await metadata(logical)


async def test_metadata_patch_that_removes_the_last_custom_key_leaves_none() -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/metadata/n", START)

    await logical.call("PATCH", "secret/metadata/n", {"custom_metadata": {"a": None}})

    assert (await metadata(logical))["custom_metadata"] is None


@pytest.mark.parametrize("kind", ["kv", "kv-v2"])
async def test_scan_folders_are_entered_from_the_last_one(kind: str) -> None:
    logical = await open_logical()
    await logical.call("POST", "sys/mounts/m", {"type": kind})
    write, scan = ("m/", "m") if kind == "kv" else ("m/data/", "m/metadata")
    for name in ("z", "a", "d/x", "d/e/y", "d/a", "b/q/r", "b/c", "m/n/o/p", "m/a/b"):
        await logical.call("POST", write + name, {"data": {}})

    keys = (await logical.data("SCAN", scan))["keys"]

    expected = ["a", "z", "m/n/o/p", "m/a/b", "d/a", "d/x", "d/e/y", "b/c", "b/q/r"]
    assert keys == expected
