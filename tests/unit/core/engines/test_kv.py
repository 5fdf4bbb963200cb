"""KV v2 and v1 through dispatch; texts and shapes as a real OpenBao 2.7.2 answers them."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from baoha.core.engines.kv2.engine import merge_patch, outline
from baoha.errors import InvalidRequest, NotFound, RequestError, StorageError, UnsupportedOperation
from baoha.storage.inmem import World
from tests.support.failing import FailingBackend
from tests.support.logical import Logical, open_logical

CAS_MISMATCH = "check-and-set parameter did not match the current version"


async def test_write_then_read_gives_the_data_and_its_version() -> None:
    logical = await open_logical()
    number = 12345678901234567890
    written = await logical.data("POST", "secret/data/a/b", {"data": {"n": number, "s": "é"}})
    assert written == {
        "created_time": "2026-11-23T12:00:00.25Z",
        "custom_metadata": None,
        "deletion_time": "",
        "destroyed": False,
        "version": 1,
    }
    read = await logical.data("GET", "secret/data/a/b")
    assert read == {"data": {"n": number, "s": "é"}, "metadata": written}
    assert (await logical.data("LIST", "secret/metadata"))["keys"] == ["a/"]
    assert (await logical.data("LIST", "secret/metadata/a"))["keys"] == ["b"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "no data provided"),
        ({"a": "b"}, "no data provided"),
        (
            {"data": "x"},
            "error converting input for field \"data\": '' expected type 'map[string]interface "
            "{}', got unconvertible type 'string'",
        ),
        ({"data": {}, "options": {"cas": "x"}}, "error parsing check-and-set parameter"),
        ({"data": {}, "options": {"cas": 7}}, CAS_MISMATCH),
    ],
)
async def test_write_bad_input_is_refused_and_writes_nothing(
    data: dict[str, Any], text: str
) -> None:
    logical = await open_logical()
    with pytest.raises(InvalidRequest) as caught:
        await logical.call("POST", "secret/data/a", data)
    assert caught.value.errors == (text,)
    with pytest.raises(NotFound):
        await logical.call("GET", "secret/data/a")


async def test_write_many_with_cas_zero_exactly_one_wins() -> None:
    logical = await open_logical()
    outcomes: list[str] = []

    async def write(number: int) -> None:
        body = {"data": {"writer": number}, "options": {"cas": 0}}
        try:
            await logical.call("POST", "secret/data/race", body)
        except InvalidRequest as exc:
            outcomes.append(exc.errors[0])
        else:
            outcomes.append(f"won {number}")

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(write, number)
    winners = [outcome for outcome in outcomes if outcome.startswith("won")]
    assert len(winners) == 1
    assert outcomes.count(CAS_MISMATCH) == 39
    read = await logical.data("GET", "secret/data/race")
    assert f"won {read['data']['writer']}" == winners[0]
    assert read["metadata"]["version"] == 1


async def test_write_many_without_cas_every_one_gets_its_own_version() -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/config", {"max_versions": 100})
    versions: list[int] = []

    async def write(number: int) -> None:
        written = await logical.data("POST", "secret/data/hot", {"data": {"n": number}})
        versions.append(written["version"])

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(write, number)
    assert sorted(versions) == list(range(1, 31))


@pytest.mark.parametrize("after", [False, True])
async def test_write_store_fails_anywhere_whole_or_nothing(after: bool) -> None:
    """Goal: a write is never half there. Method: every call of it fails once."""
    fail_at = 0
    while True:
        backend = FailingBackend(World().open())
        logical = await open_logical(backend)
        await logical.call("POST", "secret/config", {"max_versions": 1})
        await logical.call("POST", "secret/data/a", {"data": {"n": 1}})
        backend.arm(fail_at, after=after)
        failed: StorageError | None = None
        try:
            await logical.call("POST", "secret/data/a", {"data": {"n": 2}})
        except StorageError as exc:
            failed = exc
        reached = backend.calls > fail_at
        backend.arm(None)
        read = await logical.data("GET", "secret/data/a")
        metadata = await logical.data("GET", "secret/metadata/a")
        state = (read["data"]["n"], read["metadata"]["version"], list(metadata["versions"]))
        assert state in ((1, 1, ["1"]), (2, 2, ["2"]))
        written = read["data"]["n"] == 2
        if failed is None:
            assert written
        elif failed.outcome == "not_applied":
            assert not written
        if not reached:
            break
        fail_at += 1
    assert fail_at >= 2, "the sweep met the reads and the commit"


async def test_read_version_by_number() -> None:
    logical = await open_logical()
    for number in (1, 2):
        await logical.call("POST", "secret/data/a", {"data": {"n": number}})
    assert (await logical.data("GET", "secret/data/a?version=1"))["data"] == {"n": 1}
    assert (await logical.data("GET", "secret/data/a?version=0"))["data"] == {"n": 2}
    with pytest.raises(NotFound):
        await logical.call("GET", "secret/data/a?version=99")
    with pytest.raises(InvalidRequest) as caught:
        await logical.call("GET", "secret/data/a?version=x")
    assert caught.value.errors[0].startswith("Field validation failed: error converting")


async def test_max_versions_drops_the_oldest_with_its_data() -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/config", {"max_versions": 2})
    for number in range(4):
        await logical.call("POST", "secret/data/a", {"data": {"n": number}})
    metadata = await logical.data("GET", "secret/metadata/a")
    assert list(metadata["versions"]) == ["3", "4"]
    assert (metadata["oldest_version"], metadata["current_version"]) == (3, 4)
    stored = [key for key in await _keys_below(logical) if "/versions/a/" in key]
    assert [key.rpartition("/")[2] for key in stored] == ["3", "4"]


async def test_delete_of_a_folder_deletes_nothing_and_is_no_error() -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/data/a", {"data": {"n": 1}})
    for path in ("secret/data/a/", "secret/data/"):
        assert (await logical.call("DELETE", path)).data is None
    assert (await logical.data("GET", "secret/data/a"))["data"] == {"n": 1}


async def test_delete_undelete_destroy_a_version() -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/data/a", {"data": {"n": 1}})
    assert (await logical.call("DELETE", "secret/data/a")).data is None
    deleted = await logical.call("GET", "secret/data/a")
    assert deleted.status == 404
    assert deleted.data is not None
    assert deleted.data["data"] is None
    assert deleted.data["metadata"]["deletion_time"] == "2026-11-23T12:00:00.25Z"
    await logical.call("POST", "secret/undelete/a", {"versions": [1]})
    assert (await logical.data("GET", "secret/data/a"))["data"] == {"n": 1}
    await logical.call("POST", "secret/destroy/a", {"versions": "1"})
    await logical.call("POST", "secret/undelete/a", {"versions": [1]})
    destroyed = await logical.call("GET", "secret/data/a")
    assert destroyed.status == 404
    assert destroyed.data is not None
    assert destroyed.data["metadata"]["destroyed"] is True
    assert not [key for key in await _keys_below(logical) if "/versions/" in key]


async def test_delete_version_after_hides_the_data_in_time() -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/metadata/a", {"delete_version_after": "10s"})
    written = await logical.data("POST", "secret/data/a", {"data": {"n": 1}})
    assert written["deletion_time"] == "2026-11-23T12:00:10.25Z"
    logical.clock.advance(9.9)
    assert (await logical.call("GET", "secret/data/a")).status is None
    logical.clock.advance(0.2)
    assert (await logical.call("GET", "secret/data/a")).status == 404


@pytest.mark.parametrize(
    ("config", "secret", "lifetime_s"),
    [("5s", "10s", 5), ("20s", "10s", 10), ("-1s", "10s", 0), ("0s", "10s", 10), ("5s", "0s", 5)],
)
async def test_delete_version_after_the_shorter_one_counts(
    config: str, secret: str, lifetime_s: int
) -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/config", {"delete_version_after": config})
    await logical.call("POST", "secret/metadata/a", {"delete_version_after": secret})
    written = await logical.data("POST", "secret/data/a", {"data": {}})
    expected = f"2026-11-23T12:00:{lifetime_s:02d}.25Z" if lifetime_s else ""
    assert written["deletion_time"] == expected


async def test_patch_merges_and_a_missing_secret_is_an_empty_404() -> None:
    logical = await open_logical()
    missing = await logical.call("PATCH", "secret/data/a", {"data": {"n": 1}})
    assert (missing.status, missing.raw) == (404, b"")
    await logical.call("POST", "secret/data/a", {"data": {"k": "1", "o": {"p": 1, "q": 2}}})
    patch = {"data": {"k": None, "o": {"p": None, "r": {"s": None, "t": 1}}}}
    await logical.call("PATCH", "secret/data/a", patch)
    read = await logical.data("GET", "secret/data/a")
    assert read["data"] == {"o": {"q": 2, "r": {"t": 1}}}
    with pytest.raises(InvalidRequest, match="did not match"):
        await logical.call("PATCH", "secret/data/a", {"data": {}, "options": {"cas": 1}})


async def test_metadata_patch_null_means_default_and_removes_custom_keys() -> None:
    logical = await open_logical()
    body = {
        "max_versions": 7,
        "delete_version_after": "1h",
        "cas_required": True,
        "custom_metadata": {"owner": "me", "n": 1},
    }
    await logical.call("POST", "secret/metadata/a", body)
    patch = {
        "max_versions": None,
        "delete_version_after": None,
        "cas_required": None,
        "custom_metadata": {"owner": None, "x": "y"},
    }
    await logical.call("PATCH", "secret/metadata/a", patch)
    metadata = await logical.data("GET", "secret/metadata/a")
    assert metadata["custom_metadata"] == {"n": "1", "x": "y"}
    assert (metadata["max_versions"], metadata["cas_required"]) == (0, False)
    assert metadata["delete_version_after"] == "1h0m0s"
    assert metadata["current_metadata_version"] == 2
    await logical.call("PATCH", "secret/metadata/a", {"custom_metadata": None})
    assert (await logical.data("GET", "secret/metadata/a"))["custom_metadata"] is None


@pytest.mark.parametrize(
    ("custom", "text"),
    [
        ({str(n): "x" for n in range(70)}, "payload must contain at most 64 keys, provided 70"),
        ({"": "x"}, 'length of key "" is 0 but must be 0 < len(key) <= 128'),
        ({"k": "x" * 600}, 'length of value for key "k" is 600 but must be 0 < len(value) <= 512'),
        ({"a\n": "b"}, 'key "a\\n" (a\n) contains unprintable characters'),
        ({"a": "b\n"}, 'value for key "a" contains unprintable characters'),
    ],
)
async def test_custom_metadata_out_of_bounds_is_refused(custom: dict[str, str], text: str) -> None:
    logical = await open_logical()
    with pytest.raises(InvalidRequest) as caught:
        await logical.call("POST", "secret/metadata/a", {"custom_metadata": custom})
    expected = f"1 error occurred:\n\t* custom_metadata validation failed: {text}\n\n"
    assert caught.value.errors == (expected,)


async def test_metadata_cas_is_checked() -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/metadata/a", {"metadata_cas_required": True})
    with pytest.raises(InvalidRequest, match="required for this call"):
        await logical.call("POST", "secret/metadata/a", {"max_versions": 1})
    with pytest.raises(InvalidRequest, match="does not match the current version"):
        await logical.call("POST", "secret/metadata/a", {"max_versions": 1, "metadata_cas": 3})
    await logical.call("POST", "secret/metadata/a", {"max_versions": 1, "metadata_cas": 1})
    assert (await logical.data("GET", "secret/metadata/a"))["current_metadata_version"] == 2


async def test_metadata_delete_leaves_nothing() -> None:
    logical = await open_logical()
    for _ in range(3):
        await logical.call("POST", "secret/data/a", {"data": {}})
    await logical.call("DELETE", "secret/metadata/a")
    assert await _keys_below(logical) == []
    await logical.call("DELETE", "secret/metadata/a")


async def test_listings_pages_scan_and_details() -> None:
    logical = await open_logical()
    for path in ("a", "b", "d/e/f"):
        await logical.call("POST", f"secret/data/{path}", {"data": {}})
    assert (await logical.data("LIST", "secret/metadata?limit=1"))["keys"] == ["a"]
    assert (await logical.data("LIST", "secret/metadata?after=a"))["keys"] == ["b", "d/"]
    assert (await logical.data("SCAN", "secret/metadata"))["keys"] == ["a", "b", "d/e/f"]
    detailed = await logical.data("LIST", "secret/detailed-metadata")
    assert detailed["key_info"]["d/"] == {}
    assert detailed["key_info"]["a"]["current_version"] == 1
    assert (await logical.data("SCAN", "secret/metadata?limit=1&after=a"))["keys"] == [
        "a",
        "b",
        "d/e/f",
    ]
    assert await logical.data("SCAN", "secret/metadata/none") == {}
    assert await logical.data("SCAN", "secret/detailed-metadata/none") == {}
    with pytest.raises(NotFound):
        await logical.call("LIST", "secret/metadata/none")
    with pytest.raises(UnsupportedOperation):
        await logical.call("LIST", "secret/data")


async def test_answer_with_a_status_of_its_own_has_no_warnings() -> None:
    logical = await open_logical()
    await logical.call("POST", "secret/data/a", {"data": {"k": 1}})
    assert (await logical.call("GET", "secret/data/a?x=1")).warnings != []
    await logical.call("DELETE", "secret/data/a")
    response = await logical.call("GET", "secret/data/a?x=1")
    assert (response.status, response.warnings) == (404, [])


async def test_subkeys_show_no_values() -> None:
    logical = await open_logical()
    data = {"a": {"b": 1, "c": [1], "e": {}}, "d": None}
    await logical.call("POST", "secret/data/p", {"data": data})
    subkeys = (await logical.data("GET", "secret/subkeys/p"))["subkeys"]
    assert subkeys == {"a": {"b": None, "c": None, "e": None}, "d": None}
    subkeys = (await logical.data("GET", "secret/subkeys/p?depth=1"))["subkeys"]
    assert subkeys == {"a": None, "d": None}


@pytest.mark.parametrize(
    ("method", "path", "hint"),
    [
        ("GET", "secret", "'bao kv get'"),
        ("GET", "secret/a", "'bao kv get'"),
        ("POST", "secret/a", "'bao kv put'"),
        ("LIST", "secret/", "'bao kv list'"),
        ("GET", "secret/metadata", "Non-listing operations on the root"),
        ("POST", "secret/data", "Non-listing operations on the root"),
    ],
)
async def test_wrong_path_is_a_404_with_a_hint(method: str, path: str, hint: str) -> None:
    logical = await open_logical()
    response = await logical.call(method, path, {"a": 1})
    assert response.status == 404
    assert hint in response.warnings[0]


async def test_settings_of_another_node_count_after_forget() -> None:
    world = World()
    logical = await open_logical(world.open())
    await logical.call("POST", "secret/data/a", {"data": {}})
    [key] = [key for key in world.data if key.startswith("logical/") and "/metadata/" in key]
    config = key.partition("/metadata/")[0] + "/config"
    await logical.barrier.put(
        config,
        b'{"max_versions":0,"cas_required":true,"metadata_cas_required":false,'
        b'"delete_version_after_ns":0}',
    )
    await logical.call("POST", "secret/data/a", {"data": {}})
    logical.core.forget()
    with pytest.raises(InvalidRequest, match="required for this call"):
        await logical.call("POST", "secret/data/a", {"data": {}})


def test_deep_documents_cost_no_stack() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep or 1}
    assert merge_patch({}, deep).keys() == {"a"}
    assert outline(deep, depth=0).keys() == {"a"}


async def test_plain_kv_reads_what_was_written_and_its_lease() -> None:
    logical = await open_logical()
    await logical.call("POST", "sys/mounts/k1", {"type": "kv"})
    assert (await logical.call("POST", "k1/a", {"v": 1, "ttl": "30m"})).data is None
    read = await logical.call("GET", "k1/a")
    assert (read.data, read.lease_duration) == ({"v": 1, "ttl": "30m"}, 1800)
    await logical.call("POST", "k1/b/c", {"v": 1, "lease": "no duration"})
    assert (await logical.call("GET", "k1/b/c")).lease_duration == 2764800
    assert (await logical.data("LIST", "k1"))["keys"] == ["a", "b/"]
    assert (await logical.data("SCAN", "k1"))["keys"] == ["a", "b/c"]
    assert await logical.data("SCAN", "k1/none") == {}
    await logical.call("DELETE", "k1/a")
    with pytest.raises(NotFound):
        await logical.call("GET", "k1/a")


@pytest.mark.parametrize(
    ("method", "path", "data", "text"),
    [
        ("POST", "k1/a", {}, "missing data fields"),
        ("POST", "k1", {"v": 1}, "missing path"),
        ("POST", "k1/a/", {"v": 1}, "cannot write to a path ending in '/'"),
        ("GET", "k1/x/../a", {}, "relative paths not supported"),
        ("PATCH", "k1/a", {"v": 1}, "1 error occurred:\n\t* unsupported operation\n\n"),
    ],
)
async def test_plain_kv_bad_requests(
    method: str, path: str, data: dict[str, Any], text: str
) -> None:
    logical = await open_logical()
    await logical.call("POST", "sys/mounts/k1", {"type": "kv"})
    with pytest.raises(RequestError) as caught:
        await logical.call(method, path, data)
    assert caught.value.errors == (text,)


async def _keys_below(logical: Logical, folder: str = "logical/") -> list[str]:
    found: list[str] = []
    for child in await logical.barrier.list(folder):
        if child.endswith("/"):
            found += await _keys_below(logical, folder + child)
        else:
            found.append(folder + child)
    return sorted(found)
