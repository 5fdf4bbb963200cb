"""
Secrets with many versions, many keys, many parts: what grows is not worked on in the event loop.

Method: values note which thread looks at them.
"""

from __future__ import annotations

import threading
from collections.abc import ItemsView, Iterator
from typing import Any

import pytest

from baoha.core.engines.kv2.records import VERSIONS_MAX, KVConfig, Secret, Version
from baoha.core.engines.kv2.stored_secrets import decode_secret, describe_secret, encode_secret
from baoha.core.framework.fields import ITEMS_MAX, FieldError, to_map
from baoha.core.framework.stored_data import with_values
from baoha.errors import PayloadTooLarge, RequestError
from tests.support.logical import Clock, open_logical

TIME = "2026-01-01T00:00:00Z"


class Watched(dict[Any, Any]):
    """An object that notes in which threads it was read."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.threads: set[int] = set()

    def _note(self) -> None:
        self.threads.add(threading.get_ident())

    def __iter__(self) -> Iterator[Any]:
        self._note()
        return super().__iter__()

    def items(self) -> ItemsView[Any, Any]:  # type: ignore[override]
        self._note()
        return super().items()  # type: ignore[return-value]

    @property
    def was_read_here(self) -> bool:
        assert self.threads
        return threading.get_ident() in self.threads


def with_versions(count: int) -> Secret:
    secret = Secret(created_time=TIME, updated_time=TIME, current_version=count)
    secret.versions = Watched((n, Version(created_time=TIME)) for n in range(1, count + 1))
    return secret


@pytest.mark.parametrize(("count", "is_here"), [(10, True), (VERSIONS_MAX, False)])
async def test_record_of_many_versions_is_made_outside_the_event_loop(
    count: int, is_here: bool
) -> None:
    secret = with_versions(count)
    assert isinstance(secret.versions, Watched)

    blob = await encode_secret(secret)
    assert secret.versions.was_read_here is is_here

    secret.versions.threads.clear()
    assert len((await describe_secret(secret))["versions"]) == count
    assert secret.versions.was_read_here is is_here
    assert (await decode_secret(blob)).to_bytes() == blob


async def test_record_of_many_versions_is_read_outside_the_event_loop() -> None:
    threads: set[int] = set()

    class Blob(bytes):
        __slots__ = ()

        def decode(self, *args: Any) -> str:
            threads.add(threading.get_ident())
            return super().decode(*args)

    blob = Blob(with_versions(VERSIONS_MAX).to_bytes())

    assert len((await decode_secret(blob)).versions) == VERSIONS_MAX
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("wanted", [VERSIONS_MAX + 1, 2**32 - 1])
def test_versions_beyond_the_bound_are_dropped_whatever_is_asked(wanted: int) -> None:
    secret = with_versions(VERSIONS_MAX)
    secret.max_versions = wanted

    _, dropped = secret.add_version(KVConfig(max_versions=wanted), Clock().now)

    assert dropped == [1]
    assert len(secret.versions) == VERSIONS_MAX


async def test_many_values_are_walked_outside_the_event_loop() -> None:
    here = threading.get_ident()

    assert await with_values({"a": 1}, work=threading.get_ident) == here
    assert await with_values(dict.fromkeys(map(str, range(2000)), 1), work=threading.get_ident) != (
        here
    )


@pytest.mark.parametrize("value", [[{}] * 10_001, [[{}] * 9_000] * 2, [[[]] * 100] * 100])
def test_object_in_more_parts_than_any_is_refused(value: list[Any]) -> None:
    with pytest.raises(FieldError, match=f"more than {ITEMS_MAX}"):
        to_map(value)


def test_object_in_parts_is_merged_at_any_depth() -> None:
    assert to_map([{"a": 1}, [{"b": 2}, [[{"a": 3}], None]]]) == {"a": 3, "b": 2}


async def test_secret_that_grew_beyond_any_answer_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("baoha.core.engines.kv2.engine.SECRET_BYTES_MAX", 1000)
    logical = await open_logical()
    await logical.call("POST", "secret/data/a", {"data": {"v": "x" * 600}})

    with pytest.raises(PayloadTooLarge):
        await logical.call("PATCH", "secret/data/a", {"data": {"w": "x" * 600}})

    read = await logical.data("GET", "secret/data/a")
    assert list(read["data"]) == ["v"]
    assert read["metadata"]["version"] == 1


async def test_detailed_listing_larger_than_any_answer_is_not_gathered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("baoha.core.engines.kv2.metadata.ENCODED_BYTES_MAX", 1000)
    logical = await open_logical()
    for number in range(7):
        await logical.call("POST", f"secret/data/f/{number}", {"data": {}})
    assert len((await logical.data("LIST", "secret/detailed-metadata/f"))["key_info"]) == 7
    for number in range(7, 20):
        await logical.call("POST", f"secret/data/f/{number}", {"data": {}})

    with pytest.raises(RequestError) as caught:
        await logical.call("LIST", "secret/detailed-metadata/f")

    assert caught.value.status_hint == 500
