"""
The metadata part of the versioned key-value engine: records without data, listings.

Rules of this file: a change of a record is one transaction, and a request that names nothing to
change is none: it needs no check-and-set, creates no record, counts no version; what a client
attached to a secret (``custom_metadata``) is bounded in count and size.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/kv2.json) and measured.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final

from baoha.core.engines.kv2.records import KVConfig, Secret
from baoha.core.engines.kv2.stored_secrets import decode_secret, describe_secret, encode_secret
from baoha.core.framework.fields import FieldError, FieldKind, to_pairs
from baoha.core.framework.routes import Call, Route, error_list
from baoha.core.keys.barrier import BarrierTransaction, BarrierView
from baoha.core.request import Operation, Response
from baoha.errors import InvalidRequest, NotFound, RequestError
from baoha.sansio.durations import SECOND_NS, format_timestamp
from baoha.sansio.formats.json_encoder import ENCODED_BYTES_MAX

# Each conflict means that another write of the same secret landed, so many writers need patience.
ATTEMPTS: Final = 64
_PREFIX: Final = "metadata/"
_DETAILS_BYTES_MIN: Final = 64
_UINT32: Final = 1 << 32
# Source: OpenBao's limits, from its error texts.
_CUSTOM_KEYS_MAX: Final = 64
_CUSTOM_KEY_LENGTH_MAX: Final = 128  # bytes
_CUSTOM_VALUE_LENGTH_MAX: Final = 512  # bytes
_CUSTOM_FAILED: Final = "custom_metadata validation failed: "
_FIELDS: Final = {
    "max_versions": FieldKind.INT,
    "cas_required": FieldKind.BOOL,
    "metadata_cas": FieldKind.INT,
    "metadata_cas_required": FieldKind.BOOL,
    "delete_version_after": FieldKind.DURATION,
    "custom_metadata": FieldKind.MAP,
}
_PAGE: Final = {"after": FieldKind.STRING, "limit": FieldKind.INT}

ReadConfig = Callable[[BarrierView], Awaitable[KVConfig]]


async def read_secret(storage: BarrierView, path: str) -> Secret | None:
    """Return the record of a secret."""
    blob = await storage.get(_PREFIX + path) if path and not path.endswith("/") else None
    return None if blob is None else await decode_secret(blob)


class MetadataPaths:
    """The routes ``metadata/`` and ``detailed-metadata/`` of a KV v2 mount."""

    def __init__(self, *, now: Callable[[], datetime], config: ReadConfig) -> None:
        self._now = now
        self._config = config

    def routes(self) -> list[Route]:
        """Return the routes, for the engine's table."""
        return [
            Route(
                r"metadata/(?P<path>.*)",
                {
                    Operation.READ: self._read,
                    Operation.UPDATE: self._write,
                    Operation.PATCH: self._patch,
                    Operation.DELETE: self._delete,
                    Operation.LIST: self._list,
                    Operation.SCAN: self._scan,
                },
                {**_FIELDS, **_PAGE},
                exists=self._exists,
            ),
            Route(
                r"detailed-metadata/(?P<path>.*)",
                {Operation.LIST: self._list_detailed, Operation.SCAN: self._scan_detailed},
                _PAGE,
            ),
        ]

    # --- one secret -------------------------------------------------------------------------

    async def _exists(self, call: Call) -> bool | None:
        return await read_secret(call.storage, call.path["path"]) is not None

    async def _read(self, call: Call) -> Response:
        secret = await read_secret(call.storage, call.path["path"])
        if secret is None:
            raise NotFound
        return Response(data=await describe_secret(secret))

    async def _write(self, call: Call) -> Response:
        changes = _changes(call)
        if "custom_metadata" in call.fields:
            changes["custom_metadata"] = _custom(call.fields["custom_metadata"])
        if not changes:
            return Response()
        return await self._change(call, lambda secret: changes, may_create=True)

    async def _patch(self, call: Call) -> Response:
        changes = _changes(call)
        if not changes and "custom_metadata" not in call.raw:
            return Response()

        def patched(secret: Secret) -> dict[str, Any]:
            if "custom_metadata" not in call.raw:
                return changes
            patch = call.raw["custom_metadata"]
            if patch is None:
                return changes | {"custom_metadata": None}
            merged = {**(secret.custom_metadata or {}), **call.fields["custom_metadata"]}
            kept = {key: value for key, value in merged.items() if value is not None}
            return changes | {"custom_metadata": _custom(kept)}

        return await self._change(call, patched, may_create=False)

    async def _change(
        self, call: Call, changes: Callable[[Secret], Mapping[str, Any]], *, may_create: bool
    ) -> Response:
        path = call.path["path"]
        config = await self._config(call.storage)

        async def body(transaction: BarrierTransaction) -> Response:
            blob = await transaction.get(_PREFIX + path) if path else None
            if blob is None and not may_create:
                return Response(status=404, raw=b"")
            now = self._now()
            secret = Secret.new(now) if blob is None else await decode_secret(blob)
            cas = call.fields.get("metadata_cas")
            if blob is None and cas:
                raise InvalidRequest("metadata_cas must be 0 when creating new metadata")
            _require_cas(secret, config, cas)
            for name, value in changes(secret).items():
                setattr(secret, name, value)
            secret.metadata_version += 1
            secret.updated_time = format_timestamp(now)
            transaction.put(_PREFIX + path, await encode_secret(secret))
            return Response()

        return await call.storage.run_transaction(body, attempts=ATTEMPTS)

    async def _delete(self, call: Call) -> Response:
        path = call.path["path"]

        async def body(transaction: BarrierTransaction) -> None:
            blob = await transaction.get(_PREFIX + path) if path else None
            if blob is None:
                return
            for number in (await decode_secret(blob)).versions:
                transaction.delete(f"versions/{path}/{number}")
            transaction.delete(_PREFIX + path)

        if not path.endswith("/"):
            await call.storage.run_transaction(body, attempts=ATTEMPTS)
        return Response()

    # --- listings ---------------------------------------------------------------------------

    async def _list(self, call: Call) -> Response:
        return _keys(await self._children(call))

    async def _scan(self, call: Call) -> Response:
        return _tree(await self._descendants(call))

    async def _list_detailed(self, call: Call) -> Response:
        keys = await self._children(call)
        return await self._with_details(call, keys, _keys(keys))

    async def _scan_detailed(self, call: Call) -> Response:
        keys = await self._descendants(call)
        return await self._with_details(call, keys, _tree(keys)) if keys else _tree(keys)

    async def _children(self, call: Call) -> list[str]:
        after, limit = call.fields.get("after", ""), call.fields.get("limit", 0)
        folder = _PREFIX + call.path["path"]
        if after or limit > 0:
            return await call.storage.list_page(folder, after, limit if limit > 0 else -1)
        return await call.storage.list(folder)

    async def _descendants(self, call: Call) -> list[str]:
        # ``after`` and ``limit`` have no effect on a scan. Source: measured
        found: list[str] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            for child in await call.storage.list(_PREFIX + call.path["path"] + folder):
                (folders if child.endswith("/") else found).append(folder + child)
        return found

    async def _with_details(self, call: Call, keys: list[str], response: Response) -> Response:
        details: dict[str, Any] = {}
        size_bytes = 0
        for key in keys:
            secret = await read_secret(call.storage, call.path["path"] + key)
            details[key] = {} if secret is None else await describe_secret(secret)
            # Before it takes memory: each of them is longer than that as JSON.
            size_bytes += _DETAILS_BYTES_MIN * (1 if secret is None else 1 + len(secret.versions))
            if size_bytes > ENCODED_BYTES_MAX:
                raise RequestError(
                    f"the answer is larger than {ENCODED_BYTES_MAX} bytes", status=500
                )
        assert response.data is not None
        response.data["key_info"] = details
        return response


def _keys(keys: list[str]) -> Response:
    if not keys:
        raise NotFound
    return Response(data={"keys": keys})


def _tree(keys: list[str]) -> Response:
    """Return the answer to a scan: an empty one is no error, unlike a listing. Source: measured"""
    return Response(data={"keys": keys} if keys else {})


def _changes(call: Call) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name in ("cas_required", "metadata_cas_required"):
        if name in call.fields:
            changes[name] = call.fields[name]
    if "max_versions" in call.fields:
        changes["max_versions"] = call.fields["max_versions"] % _UINT32
    # Null is "not set", as some clients send it. Source: measured
    if call.raw.get("delete_version_after") is not None:
        changes["delete_version_after_ns"] = call.fields["delete_version_after"] * SECOND_NS
    return changes


def _require_cas(secret: Secret, config: KVConfig, cas: int | None) -> None:
    if cas is None:
        if secret.metadata_cas_required or config.metadata_cas_required:
            raise InvalidRequest("metadata check-and-set parameter required for this call")
    elif cas != secret.metadata_version:
        raise InvalidRequest("metadata check-and-set parameter does not match the current version")


def _custom(value: Mapping[str, Any]) -> dict[str, str] | None:
    try:
        pairs = to_pairs({key: _plain(item) for key, item in value.items()})
    except FieldError as exc:
        raise InvalidRequest(f"{_CUSTOM_FAILED}{exc}") from exc
    problem = _custom_problem(pairs)
    if problem:
        raise InvalidRequest(error_list(_CUSTOM_FAILED + problem))
    return pairs or None  # an empty one is shown as none


def _plain(item: Any) -> Any:
    if isinstance(item, list | Mapping):
        kind = "[]interface {}" if isinstance(item, list) else "map[string]interface {}"
        raise FieldError(f"'' expected type 'string', got unconvertible type '{kind}'")
    return item


def _custom_problem(pairs: Mapping[str, str]) -> str:
    if len(pairs) > _CUSTOM_KEYS_MAX:
        return f"payload must contain at most {_CUSTOM_KEYS_MAX} keys, provided {len(pairs)}"
    for key, value in pairs.items():
        length = len(key.encode("utf-8", "surrogatepass"))
        if not 0 < length <= _CUSTOM_KEY_LENGTH_MAX:
            return (
                f'length of key "{key}" is {length} but must be 0 < len(key) '
                f"<= {_CUSTOM_KEY_LENGTH_MAX}"
            )
        length = len(value.encode("utf-8", "surrogatepass"))
        if not 0 < length <= _CUSTOM_VALUE_LENGTH_MAX:
            return (
                f'length of value for key "{key}" is {length} but must be 0 < len(value) '
                f"<= {_CUSTOM_VALUE_LENGTH_MAX}"
            )
        if not key.isprintable():
            return f"key {_quoted(key)} ({key}) contains unprintable characters"
        if not value.isprintable():
            return f'value for key "{key}" contains unprintable characters'
    return ""


def _quoted(text: str) -> str:
    return '"' + text.encode("unicode_escape").decode() + '"'
