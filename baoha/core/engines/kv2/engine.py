"""
The versioned key-value engine (KV v2), data part and wiring.

Rules of this file:

1. Every write is one store transaction: the record and the data of a version land together or not
   at all, and a check-and-set holds at the moment of the commit.
2. A read costs two barrier reads: the record, then the data of one version.

``metadata.py`` has the metadata part, ``records.py`` what is stored.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/kv2.json) and measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from baoha.core.engines.kv2.metadata import ATTEMPTS, MetadataPaths, read_secret
from baoha.core.engines.kv2.records import KVConfig, Secret
from baoha.core.engines.kv2.stored_secrets import decode_secret, encode_secret, with_versions
from baoha.core.framework.engine import EngineContext
from baoha.core.framework.fields import FieldError, FieldKind, to_int
from baoha.core.framework.routes import Call, Route, RouteEngine
from baoha.core.framework.stored_data import decode_any, encode_any, with_values
from baoha.core.keys.barrier import BarrierTransaction, BarrierView
from baoha.core.request import Operation, Response
from baoha.errors import InvalidRequest, NotFound, PayloadTooLarge
from baoha.sansio.durations import SECOND_NS, format_timestamp
from baoha.sansio.formats.json_encoder import ENCODED_BYTES_MAX

UPGRADING: Final = (
    "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief "
    "period and will resume service shortly."
)
_UINT32: Final = 1 << 32
# A secret grows patch by patch; one that is larger than an answer may be could not be read.
SECRET_BYTES_MAX: Final = ENCODED_BYTES_MAX
_VERBS: Final = {
    Operation.READ: "get",
    Operation.CREATE: "put",
    Operation.UPDATE: "put",
    Operation.PATCH: "patch",
    Operation.DELETE: "delete",
    Operation.LIST: "list",
    Operation.SCAN: "scan",
}


class KVEngine(RouteEngine):
    """
    One KV v2 mount.

    Args:
        is_upgrading: data of KV v1 is still being moved here; what would use it is refused.
    """

    def __init__(self, context: EngineContext, *, is_upgrading: bool = False) -> None:
        self._now = context.now
        self._config: KVConfig | None = None
        self._generation = 0
        metadata = MetadataPaths(now=context.now, config=self.config)
        routes = [*self._data_routes(), *metadata.routes()]
        if is_upgrading:
            routes = [
                replace(route, handlers=dict.fromkeys(route.handlers, _refuse_upgrading))
                for route in routes
            ]
        super().__init__(context, [*routes, *self._fallbacks()])

    def forget(self) -> None:
        """Drop the cached settings."""
        self._config = None
        self._generation += 1

    def _data_routes(self) -> list[Route]:
        versions = {"versions": FieldKind.INTS}
        return [
            Route(
                r"data/(?P<path>.*)",
                {
                    Operation.READ: self._read,
                    Operation.UPDATE: self._write,
                    Operation.PATCH: self._patch,
                    Operation.DELETE: self._delete_latest,
                },
                {"data": FieldKind.MAP, "options": FieldKind.MAP, "version": FieldKind.INT},
                payload="data",
                exists=self._exists,
            ),
            Route(
                r"subkeys/(?P<path>.*)",
                {Operation.READ: self._subkeys},
                {"version": FieldKind.INT, "depth": FieldKind.INT},
            ),
            Route(r"delete/(?P<path>.*)", {Operation.UPDATE: self._delete}, versions),
            Route(r"undelete/(?P<path>.*)", {Operation.UPDATE: self._undelete}, versions),
            Route(r"destroy/(?P<path>.*)", {Operation.UPDATE: self._destroy}, versions),
            Route(
                r"config",
                {Operation.READ: self._read_config, Operation.UPDATE: self._write_config},
                {
                    "max_versions": FieldKind.INT,
                    "cas_required": FieldKind.BOOL,
                    "metadata_cas_required": FieldKind.BOOL,
                    "delete_version_after": FieldKind.DURATION_SIGNED,
                },
            ),
        ]

    def _fallbacks(self) -> list[Route]:
        root = dict.fromkeys(_VERBS, _refuse_root)
        anywhere = dict.fromkeys(_VERBS, _refuse_path)
        return [
            Route(r"data|metadata", root, takes_any=True),
            Route(r".*", anywhere, takes_any=True),
        ]

    # --- settings ---------------------------------------------------------------------------

    async def config(self, storage: BarrierView) -> KVConfig:
        """Return the settings, from memory where they are known."""
        if self._config is None:
            generation = self._generation
            config = KVConfig.from_bytes(await storage.get("config"))
            if generation != self._generation:
                return config
            self._config = config
        return self._config

    async def _read_config(self, call: Call) -> Response:
        return Response(data=(await self.config(call.storage)).describe())

    async def _write_config(self, call: Call) -> Response:
        changes = dict(call.fields)
        if "max_versions" in changes:
            changes["max_versions"] %= _UINT32
        lifetime_s = changes.pop("delete_version_after", 0)
        # Null is "not set", as some clients send it.
        if call.raw.get("delete_version_after") is not None:
            # Below zero there is one value: never.
            changes["delete_version_after_ns"] = max(-1, lifetime_s) * SECOND_NS

        async def body(transaction: BarrierTransaction) -> None:
            config = KVConfig.from_bytes(await transaction.get("config"))
            transaction.put("config", replace(config, **changes).to_bytes())

        try:
            await call.storage.run_transaction(body)
        finally:
            self.forget()
        return Response()

    # --- reading ----------------------------------------------------------------------------

    async def _exists(self, call: Call) -> bool | None:
        path = call.path["path"]
        return bool(path) and await call.storage.get(f"metadata/{path}") is not None

    async def _read(self, call: Call) -> Response:
        secret, number = await self._find_version(call)
        metadata = secret.describe_version(number)
        if not secret.versions[number].is_readable(self._now()):
            return Response(status=404, data={"data": None, "metadata": metadata})
        data = await _read_data(call.storage, call.path["path"], number)
        return Response(data={"data": data, "metadata": metadata})

    async def _subkeys(self, call: Call) -> Response:
        secret, number = await self._find_version(call)
        metadata = secret.describe_version(number)
        if not secret.versions[number].is_readable(self._now()):
            return Response(status=404, data={"metadata": metadata, "subkeys": None})
        data = await _read_data(call.storage, call.path["path"], number)
        depth = call.fields.get("depth", 0)
        subkeys = await with_values(data, work=lambda: outline(data or {}, depth=depth))
        return Response(data={"metadata": metadata, "subkeys": subkeys})

    async def _find_version(self, call: Call) -> tuple[Secret, int]:
        secret = await read_secret(call.storage, call.path["path"])
        number = max(0, call.fields.get("version", 0))
        if secret is None or (number or secret.current_version) not in secret.versions:
            raise NotFound
        return secret, number or secret.current_version

    # --- writing ----------------------------------------------------------------------------

    async def _write(self, call: Call) -> Response:
        path, payload, cas = call.path["path"], _payload(call), _check_and_set(call)
        config = await self.config(call.storage)
        stored = await encode_any(payload)

        async def body(transaction: BarrierTransaction) -> Response:
            now = self._now()
            blob = await transaction.get(f"metadata/{path}")
            secret = Secret() if blob is None else await decode_secret(blob)
            _require_cas(secret, config, cas)
            return await _put_version(transaction, path, secret, config, stored, now)

        return await call.storage.run_transaction(body, attempts=ATTEMPTS)

    async def _patch(self, call: Call) -> Response:
        path, patch = call.path["path"], _payload(call) or {}
        cas = _check_and_set(call)
        config = await self.config(call.storage)

        async def body(transaction: BarrierTransaction) -> Response:
            now = self._now()
            blob = await transaction.get(f"metadata/{path}") if path else None
            if blob is None:
                return Response(status=404, raw=b"")
            secret = await decode_secret(blob)
            number = secret.current_version
            if number not in secret.versions:
                return Response(status=404, raw=b"")
            _require_cas(secret, config, cas)
            if not secret.versions[number].is_readable(now):
                return Response(status=404, data=secret.describe_version(number))
            old = await transaction.get(f"versions/{path}/{number}")
            data = (await decode_any(old) if old is not None else None) or {}
            patched = await with_values(data, patch, work=lambda: merge_patch(data, patch))
            stored = await encode_any(patched)
            if len(stored) > SECRET_BYTES_MAX:
                raise PayloadTooLarge(f"the secret is larger than {SECRET_BYTES_MAX} bytes")
            return await _put_version(transaction, path, secret, config, stored, now)

        return await call.storage.run_transaction(body, attempts=ATTEMPTS)

    # --- deleting ---------------------------------------------------------------------------

    async def _delete_latest(self, call: Call) -> Response:
        return await self._change_versions(call, None, _mark_deleted)

    async def _delete(self, call: Call) -> Response:
        numbers = _numbers(call, "No version number provided")
        return await self._change_versions(call, numbers, _mark_deleted)

    async def _undelete(self, call: Call) -> Response:
        numbers = _numbers(call, "No version number provided")
        return await self._change_versions(call, numbers, _mark_undeleted)

    async def _destroy(self, call: Call) -> Response:
        numbers = _numbers(call, "no version number provided")
        return await self._change_versions(call, numbers, _mark_destroyed)

    async def _change_versions(
        self,
        call: Call,
        numbers: Iterable[int] | None,
        change: Callable[[Secret, int, datetime], bool],
    ) -> Response:
        """Change some versions (None: the latest) in one transaction; ``change``: drop the data?"""
        path = call.path["path"]
        if not path or path.endswith("/"):
            return Response()  # no secret has such a name

        async def body(transaction: BarrierTransaction) -> None:
            blob = await transaction.get(f"metadata/{path}")
            if blob is None:
                return
            secret = await decode_secret(blob)
            now = self._now()
            wanted = dict.fromkeys((secret.current_version,) if numbers is None else numbers)

            def changing() -> list[int]:
                return [n for n in wanted if n in secret.versions and change(secret, n, now)]

            for number in await with_versions(len(wanted), changing):
                transaction.delete(f"versions/{path}/{number}")
            if (changed := await encode_secret(secret)) != blob:
                transaction.put(f"metadata/{path}", changed)

        await call.storage.run_transaction(body, attempts=ATTEMPTS)
        return Response()


async def _read_data(storage: BarrierView, path: str, number: int) -> Any:
    blob = await storage.get(f"versions/{path}/{number}")
    if blob is None:
        # Between the two reads the version was destroyed or dropped.
        raise NotFound
    return await decode_any(blob)


async def _put_version(
    transaction: BarrierTransaction,
    path: str,
    secret: Secret,
    config: KVConfig,
    stored: bytes,
    now: datetime,
) -> Response:
    _, dropped = secret.add_version(config, now)
    number = secret.current_version
    await transaction.put_large(f"versions/{path}/{number}", stored)
    for old in dropped:
        transaction.delete(f"versions/{path}/{old}")
    transaction.put(f"metadata/{path}", await encode_secret(secret))
    return Response(data=secret.describe_version(number))


def _payload(call: Call) -> Any:
    if "data" not in call.raw:
        raise InvalidRequest("no data provided")
    return None if call.raw["data"] is None else call.fields["data"]


def _check_and_set(call: Call) -> int | None:
    options: Mapping[str, Any] = call.fields.get("options", {})
    if "cas" not in options:
        return None
    try:
        return to_int(options["cas"])
    except FieldError as exc:
        raise InvalidRequest("error parsing check-and-set parameter") from exc


def _require_cas(secret: Secret, config: KVConfig, cas: int | None) -> None:
    if cas is None:
        if secret.cas_required or config.cas_required:
            raise InvalidRequest("check-and-set parameter required for this call")
    elif cas != secret.current_version:
        raise InvalidRequest("check-and-set parameter did not match the current version")


def _numbers(call: Call, missing: str) -> list[int]:
    numbers: list[int] = call.fields.get("versions", [])
    if not numbers:
        raise InvalidRequest(missing)
    return list(dict.fromkeys(numbers))


def _mark_deleted(secret: Secret, number: int, now: datetime) -> bool:
    version = secret.versions[number]
    if version.is_readable(now):
        version.deletion_time = format_timestamp(now)
    return False


def _mark_undeleted(secret: Secret, number: int, now: datetime) -> bool:
    version = secret.versions[number]
    if not version.destroyed:
        version.deletion_time = ""
    return False


def _mark_destroyed(secret: Secret, number: int, now: datetime) -> bool:
    secret.versions[number].destroyed = True
    return True


async def _refuse_upgrading(call: Call) -> Response:
    raise InvalidRequest(UPGRADING)


async def _refuse_root(call: Call) -> Response:
    return Response(
        status=404,
        warnings=["Non-listing operations on the root of a K/V v2 mount are not supported."],
    )


async def _refuse_path(call: Call) -> Response:
    verb = _VERBS[call.request.operation]
    return Response(
        status=404,
        warnings=[
            "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate "
            "API endpoints to use. If using the OpenBao CLI, use "
            f"'bao kv {verb}' for this operation."
        ],
    )


# --- JSON objects: both walks use a list, so that the depth of a document costs no stack ----------


def merge_patch(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the target changed by a JSON merge patch. Source: RFC 7396, section 2."""
    result = dict(target)
    pending: list[tuple[dict[str, Any], Mapping[str, Any]]] = [(result, patch)]
    while pending:
        into, changes = pending.pop()
        for key, value in changes.items():
            if value is None:
                into.pop(key, None)
            elif isinstance(value, Mapping):
                old = into.get(key)
                into[key] = dict(old) if isinstance(old, Mapping) else {}
                pending.append((into[key], value))
            else:
                into[key] = value
    return result


def outline(data: Mapping[str, Any], *, depth: int) -> dict[str, Any]:
    """Return the keys without their values, at most ``depth`` levels of them (0: all)."""
    result: dict[str, Any] = {}
    pending = [(result, data, 1)]
    while pending:
        into, level, number = pending.pop()
        for key, value in level.items():
            into[key] = None
            if isinstance(value, Mapping) and value and number != depth:
                into[key] = {}
                pending.append((into[key], value, number + 1))
    return result
