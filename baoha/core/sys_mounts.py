"""
The paths of ``sys/`` that deal with mounts: list, enable, tune, disable, and what the UI may see.

Rule of this file: what a mount is shown to is decided by the token's policies alone; a mount that
the caller may not use and one that is not there are answered alike.

Source: OpenBao 2.7.2 as recorded (features/mounts-auth-audit.json) and measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import trio

from baoha.core.fields import FieldError, Kind, to_bool, to_duration_s, to_strings
from baoha.core.mounts import AUTH_PATH, MountEntry, MountStore, describe_mount
from baoha.core.paths import Call, Handler, Route
from baoha.core.policies import PolicyStore
from baoha.core.request import Operation, Response
from baoha.core.tokens import TokenStore
from baoha.errors import InvalidRequest, PermissionDenied
from baoha.sansio.durations import DurationError
from baoha.sansio.policy import ACL

TTL_SYSTEM_S: Final = 32 * 24 * 3600  # shown where a mount does not say otherwise: 768 h
_LISTS: Final = (
    "audit_non_hmac_request_keys",
    "audit_non_hmac_response_keys",
    "passthrough_request_headers",
    "allowed_response_headers",
)
_VISIBILITIES: Final = frozenset({"", "hidden", "unauth"})
_ENABLE: Final = {
    "type": Kind.STRING,
    "description": Kind.STRING,
    "config": Kind.MAP,
    "options": Kind.PAIRS,
    "local": Kind.BOOL,
    "seal_wrap": Kind.BOOL,
    "external_entropy_access": Kind.BOOL,
    "plugin_name": Kind.STRING,
    "plugin_version": Kind.STRING,
}
_TUNE: Final = {
    "description": Kind.STRING,
    "default_lease_ttl": Kind.STRING,
    "max_lease_ttl": Kind.STRING,
    "options": Kind.PAIRS,
    "listing_visibility": Kind.STRING,
    "force_no_cache": Kind.BOOL,
    **dict.fromkeys(_LISTS, Kind.STRINGS),
}
UNAUTHENTICATED_PATHS: Final = ("internal/ui/mounts", "internal/ui/mounts/*")
SUDO_PATHS: Final = ("auth/*",)


class MountPaths:
    """``mounts``, ``auth`` and ``internal/ui/mounts``."""

    def __init__(self, mounts: MountStore, tokens: TokenStore, policies: PolicyStore) -> None:
        self._mounts = mounts
        self._tokens = tokens
        self._policies = policies

    def routes(self) -> list[Route]:
        """Return the routes, for the engine's table."""
        ui = {Operation.READ: self._ui_mount}
        return [
            *self._table_routes("mounts", self._read_secret_mount),
            *self._table_routes("auth", self._read_auth_mount),
            Route(r"internal/ui/mounts", {Operation.READ: self._ui_mounts}),
            Route(r"internal/ui/mounts/(?P<path>.+)", ui),
        ]

    def _table_routes(self, table: str, read_one: Handler) -> list[Route]:
        read, update, delete = Operation.READ, Operation.UPDATE, Operation.DELETE

        async def list_all(call: Call) -> Response:
            entries = {entry.path: describe_mount(entry) for entry in self._mounts.entries(table)}
            return Response(data=entries, top_level=True)

        async def enable(call: Call) -> Response:
            return await self._enable(call, table)

        async def disable(call: Call) -> Response:
            return await self._disable(call, table)

        async def read_tuning(call: Call) -> Response:
            return self._read_tuning(*_located(call, table))

        async def tune(call: Call) -> Response:
            return await self._tune(call, *_located(call, table))

        one = {read: read_one, update: enable, delete: disable}
        tuning = {read: read_tuning, update: tune}
        return [
            Route(table, {read: list_all}),
            Route(rf"{table}/(?P<path>.+?)/tune", tuning, _TUNE),
            Route(rf"{table}/(?P<path>.+)", one, _ENABLE),
        ]

    # --- one mount --------------------------------------------------------------------------

    async def _read_secret_mount(self, call: Call) -> Response:
        path = _path(call)
        entry = self._mounts.entry("mounts", path)
        if entry is None:
            raise InvalidRequest(f"No secret engine mount at {path}")
        return Response(data=describe_mount(entry), top_level=True)

    async def _read_auth_mount(self, call: Call) -> Response:
        path = _path(call)
        entry = self._mounts.entry("auth", path)
        if entry is None:
            raise InvalidRequest(f"No auth engine at {path}")
        return Response(data=describe_mount(entry), top_level=True)

    async def _enable(self, call: Call, table: str) -> Response:
        fields = call.fields
        config = _enable_config(fields.get("config", {}))
        mount_type, options = fields.get("type", ""), dict(fields.get("options", {}))
        if not mount_type:
            raise InvalidRequest("backend type must be specified as a string")
        if mount_type == "kv-v2":
            mount_type, options["version"] = "kv", "2"
        if mount_type == "kv" and options.get("version", "1") not in ("1", "2"):
            raise InvalidRequest('nil backend of type "kv" returned from factory')
        entry = self._mounts.new_entry(
            table,
            _path(call),
            mount_type,
            description=fields.get("description", ""),
            options=options,
            config=config,
            local=fields.get("local", False),
            seal_wrap=fields.get("seal_wrap", False),
        )
        await self._mounts.mount(entry)
        return Response()

    async def _disable(self, call: Call, table: str) -> Response:
        path = _path(call)
        if table == "auth" and path == "token/":
            raise InvalidRequest("token credential backend cannot be disabled")
        if table == "mounts" and path in ("sys/", "cubbyhole/", "identity/"):
            raise InvalidRequest(f'cannot unmount "{path}"')
        await self._mounts.unmount(table, path)
        return Response()

    # --- tuning -----------------------------------------------------------------------------

    def _read_tuning(self, table: str, path: str) -> Response:
        entry = self._mounts.entry(table, path)
        if entry is None:
            full_path = AUTH_PATH + path if table == "auth" else path
            raise InvalidRequest(f'cannot fetch sysview for path "{full_path}"')
        return Response(data=_describe_tuning(entry), top_level=True)

    async def _tune(self, call: Call, table: str, path: str) -> Response:
        entry = self._mounts.entry(table, path)
        if entry is None:
            raise InvalidRequest(f'tune of path "{path}" failed: no mount entry found')
        fields = call.fields
        config = _tuned_config(fields)

        def change(stored: MountEntry) -> MountEntry:
            merged = stored.config | config
            _require_ttl_order(merged)
            options = stored.options
            if fields.get("options"):
                options = _merge_options(stored, fields["options"])
            description = fields.get("description", stored.description)
            return replace(stored, config=merged, options=options, description=description)

        await self._mounts.tune(entry, change)
        return Response()

    # --- what the UI, and "kv" of the command line, may see ------------------------------------

    async def _ui_mounts(self, call: Call) -> Response:
        acl = await self._optional_acl(call)
        found: dict[str, dict[str, Any]] = {"auth": {}, "secret": {}}
        for table, key in (("mounts", "secret"), ("auth", "auth")):
            for entry in self._mounts.entries(table):
                # A mount costs milliseconds where a token has thousands of rules.
                await trio.lowlevel.checkpoint()
                if acl is not None and acl.grants_below(entry.full_path):
                    found[key][entry.path] = describe_mount(entry)
                elif entry.config.get("listing_visibility") == "unauth":
                    found[key][entry.path] = {
                        "description": entry.description,
                        "options": entry.options,
                        "type": entry.type,
                    }
        return Response(data=found)

    async def _ui_mount(self, call: Call) -> Response:
        acl = await self._optional_acl(call)
        if acl is None:
            raise PermissionDenied
        path = _path(call)
        match = self._mounts.match(path)
        if match is None or not acl.grants_below(match.mount_path):
            raise PermissionDenied(
                "preflight capability check returned 403, please ensure client's policies grant "
                f'access to path "{path}"'
            )
        entry = match.target.entry
        return Response(data=describe_mount(entry) | {"path": entry.path})

    async def _optional_acl(self, call: Call) -> ACL | None:
        token = call.request.token.strip()
        if not token:
            return None
        entry = await self._tokens.find(token)
        if entry is None:
            raise PermissionDenied
        return await self._policies.acl(entry.policies)


def _path(call: Call) -> str:
    return call.path["path"].rstrip("/") + "/"


def _located(call: Call, table: str) -> tuple[str, str]:
    """Return table and path; ``mounts/auth/x`` means the auth method at x."""
    path = _path(call)
    if table == "mounts" and path.startswith(AUTH_PATH):
        return "auth", path.removeprefix(AUTH_PATH)
    return table, path


def _enable_config(config: Mapping[str, Any]) -> dict[str, Any]:
    ttls: dict[str, Any] = {}
    for name, label in (("default_lease_ttl", "default"), ("max_lease_ttl", "max")):
        if name in config:
            try:
                ttls[name] = to_duration_s(config[name])
            except (FieldError, DurationError) as exc:
                why = f"unable to parse {label} TTL of {config[name]}: {exc}"
                raise InvalidRequest(why) from exc
    if ttls.get("max_lease_ttl") and ttls.get("default_lease_ttl", 0) > ttls["max_lease_ttl"]:
        raise InvalidRequest("given default lease TTL greater than given max lease TTL")
    return ttls | _other_config(config)


def _tuned_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    ttls: dict[str, Any] = {}
    for name in ("default_lease_ttl", "max_lease_ttl"):
        if name in fields:
            try:
                ttls[name] = 0 if fields[name] == "system" else to_duration_s(fields[name])
            except (FieldError, DurationError) as exc:
                raise InvalidRequest(str(exc)) from exc
    return ttls | _other_config(fields)


def _other_config(config: Mapping[str, Any]) -> dict[str, Any]:
    converters: dict[str, Callable[[Any], Any]] = dict.fromkeys(_LISTS, to_strings)
    converters["force_no_cache"] = to_bool
    try:
        found = {
            name: convert(config[name]) for name, convert in converters.items() if name in config
        }
    except FieldError as exc:
        raise InvalidRequest(str(exc)) from exc
    visibility = config.get("listing_visibility", "")
    if visibility not in _VISIBILITIES:
        raise InvalidRequest(f"invalid listing_visibility {visibility}")
    if visibility:
        found["listing_visibility"] = visibility
    return found


def _require_ttl_order(config: Mapping[str, Any]) -> None:
    most, default = config.get("max_lease_ttl", 0), config.get("default_lease_ttl", 0)
    if most and default > most:
        raise InvalidRequest(
            f"backend max lease TTL of {most} would be less than backend default lease TTL of "
            f"{default}"
        )


def _merge_options(stored: MountEntry, asked: Mapping[str, str]) -> dict[str, str]:
    options = dict(stored.options or {})
    old, new = options.get("version", "1"), asked.get("version")
    if stored.type == "kv" and new is not None and new != old:
        if old == "2":
            raise InvalidRequest("cannot downgrade mount from version 2")
        raise InvalidRequest("cannot upgrade a mount to another version on this server")
    return options | dict(asked)


def _describe_tuning(entry: MountEntry) -> dict[str, Any]:
    described: dict[str, Any] = {
        "default_lease_ttl": entry.config.get("default_lease_ttl") or TTL_SYSTEM_S,
        "max_lease_ttl": entry.config.get("max_lease_ttl") or TTL_SYSTEM_S,
        "description": entry.description,
        "force_no_cache": entry.config.get("force_no_cache", False),
    }
    if entry.options:
        described["options"] = entry.options
    if entry.table == "auth":
        described["token_type"] = "default-service"  # noqa: S105 - a kind, not a secret
    shown = ("listing_visibility", *_LISTS)
    return described | {name: entry.config[name] for name in shown if name in entry.config}
