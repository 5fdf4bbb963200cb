"""
The paths of ``sys/`` that deal with mounts: list, enable, tune, disable, and what the UI may see.

Rule of this file: what a mount is shown to is decided by the token's policies alone; a mount that
the caller may not use and one that is not there are answered alike.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/mounts-auth-audit.json) and
measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from baoha.core.access.policy_rules import ask_each
from baoha.core.engines.sys.mount_config import (
    LISTS,
    describe_tuning,
    enabled_config,
    tuned_config,
)
from baoha.core.framework.fields import FieldKind
from baoha.core.framework.mount_entry import AUTH_PATH, MountEntry
from baoha.core.framework.routes import Call, Handler, Route
from baoha.core.request import Operation, Response
from baoha.core.services import Services
from baoha.errors import InvalidRequest, PermissionDenied
from baoha.sansio.policy import ACL

_ENABLE: Final = {
    "type": FieldKind.STRING,
    "description": FieldKind.STRING,
    "config": FieldKind.MAP,
    "options": FieldKind.PAIRS,
    "local": FieldKind.BOOL,
    "seal_wrap": FieldKind.BOOL,
    "external_entropy_access": FieldKind.BOOL,
    "plugin_name": FieldKind.STRING,
    "plugin_version": FieldKind.STRING,
}
_TUNE: Final = {
    "description": FieldKind.STRING,
    "default_lease_ttl": FieldKind.STRING,
    "max_lease_ttl": FieldKind.STRING,
    "options": FieldKind.PAIRS,
    "listing_visibility": FieldKind.STRING,
    "token_type": FieldKind.STRING,
    "user_lockout_config": FieldKind.MAP,
    **dict.fromkeys(LISTS, FieldKind.STRINGS),
}
UNAUTHENTICATED_PATHS: Final = ("internal/ui/mounts", "internal/ui/mounts/*")
SUDO_PATHS: Final = ("auth/*",)


class MountPaths:
    """``mounts``, ``auth`` and ``internal/ui/mounts``."""

    def __init__(self, services: Services) -> None:
        self._mounts = services.mounts
        self._tokens = services.tokens
        self._policies = services.policies
        self._ttl = services.ttl

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
            entries = {
                entry.path: self._mounts.describe(entry) for entry in self._mounts.entries(table)
            }
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
        return Response(data=self._mounts.describe(entry), top_level=True)

    async def _read_auth_mount(self, call: Call) -> Response:
        path = _path(call)
        entry = self._mounts.entry("auth", path)
        if entry is None:
            raise InvalidRequest(f"No auth engine at {path}")
        return Response(data=self._mounts.describe(entry), top_level=True)

    async def _enable(self, call: Call, table: str) -> Response:
        fields = call.fields
        config = enabled_config(fields.get("config", {}))
        mount_type, options = self._type_and_options(call, table)
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
        entry = self._mounts.entry(table, path)
        await self._mounts.unmount(table, path)
        if entry is not None and table == "auth":
            # Whoever has logged in there is known to nobody any more.
            await self._tokens.revoke_logins(entry.uuid)
        return Response()

    def _type_and_options(self, call: Call, table: str) -> tuple[str, dict[str, str] | None]:
        fields = call.fields
        asked = fields.get("type", "")
        # Null stays null, nothing is an empty object. Source: measured
        is_null = "options" in call.raw and call.raw["options"] is None
        options: dict[str, str] | None = None if is_null else dict(fields.get("options", {}))
        if not asked:
            raise InvalidRequest("backend type must be specified as a string")
        if asked == "plugin":
            asked = fields.get("plugin_name", "")
            if not asked:
                raise InvalidRequest("plugin_name must be provided for plugin backend")
        name, meant = self._mounts.types.resolve(table, asked)
        if meant:
            options = {**(options or {}), **meant}
        if (found := self._mounts.types.get(table, name)) is not None:
            found.check_options(options or {})
        return name, options

    # --- tuning -----------------------------------------------------------------------------

    def _read_tuning(self, table: str, path: str) -> Response:
        entry = self._mounts.entry(table, path)
        if entry is None:
            full_path = AUTH_PATH + path if table == "auth" else path
            raise InvalidRequest(f'cannot fetch sysview for path "{full_path}"')
        return Response(data=describe_tuning(entry, self._ttl), top_level=True)

    async def _tune(self, call: Call, table: str, path: str) -> Response:
        entry = self._mounts.entry(table, path)
        if entry is None:
            full_path = AUTH_PATH + path if table == "auth" else path
            raise InvalidRequest(f'tune of path "{full_path}" failed: no mount entry found')
        fields = call.fields
        if table == "mounts" and "token_type" in fields:
            raise InvalidRequest("'token_type' can only be modified on auth mounts")
        if fields.get("user_lockout_config"):
            raise InvalidRequest(
                f'tuning of user lockout configuration for auth type "{entry.type}" not allowed'
            )

        def change(stored: MountEntry) -> MountEntry:
            changed = replace(
                stored,
                config=tuned_config(stored.config, fields),
                description=fields.get("description", stored.description),
            )
            if not fields.get("options"):
                return changed
            return self._mounts.with_options(changed, fields["options"])

        before, after = await self._mounts.tune(entry, change)
        return Response(warnings=self._mounts.option_warnings(before, after))

    # --- what the UI, and "kv" of the command line, may see ------------------------------------

    async def _ui_mounts(self, call: Call) -> Response:
        acl = await self._optional_acl(call)
        found: dict[str, dict[str, Any]] = {"auth": {}, "secret": {}}
        entries = [*self._mounts.entries("mounts"), *self._mounts.entries("auth")]
        granted: dict[str, bool] = {}
        if acl is not None:
            granted = await ask_each(acl, acl.grants_below, [entry.full_path for entry in entries])
        for entry in entries:
            key = "secret" if entry.table == "mounts" else "auth"
            if granted.get(entry.full_path):
                found[key][entry.path] = self._mounts.describe(entry)
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
        below = [] if match is None else [match.mount_path]
        is_granted = any((await ask_each(acl, acl.grants_below, below)).values())
        if match is None or not is_granted:
            raise PermissionDenied(
                "preflight capability check returned 403, please ensure client's policies grant "
                f'access to path "{path}"'
            )
        entry = match.target.entry
        return Response(data=self._mounts.describe(entry) | {"path": entry.path})

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
