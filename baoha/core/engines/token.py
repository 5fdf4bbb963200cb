"""
The paths below ``auth/token/``: look at tokens, make, renew and end them.

Rules of this file: it decides nothing about validity (``core/access/tokens.py`` does); whoever gets
more than the caller has needs sudo on the path.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/token.json) and measured.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from baoha.core.access.logins import describe_auth, longest_s, recorded_login
from baoha.core.access.token_entry import TokenEntry
from baoha.core.access.token_requests import (
    CREATE_FIELDS,
    ROOT_PATH,
    NewToken,
    TokenRequest,
    capped_ttl,
    new_token_template,
)
from baoha.core.framework.engine import EngineContext
from baoha.core.framework.fields import FieldKind
from baoha.core.framework.routes import Call, Route, RouteEngine, error_list
from baoha.core.framework.ttl import TTLs
from baoha.core.request import Caller, Login, Operation, Response
from baoha.core.services import Services
from baoha.errors import InvalidRequest, NotFound, PermissionDenied
from baoha.sansio.durations import parse_timestamp

_TOKEN = {"token": FieldKind.STRING}
_ACCESSOR = {"accessor": FieldKind.STRING}
_TIDIED: Final = (
    "Tidy operation successfully started. Any information from the operation will be printed to "
    "OpenBao's server logs."
)
_NOT_TIDIED: Final = (
    "Nothing was removed: the server's wall clock has jumped. Try again when it has been steady "
    "for an hour."
)
_INCREMENT = {"increment": FieldKind.DURATION}


class TokenEngine(RouteEngine):
    """The token store's own paths."""

    sudo_paths = ("accessors/",)

    def __init__(self, context: EngineContext, services: Services) -> None:
        self._tokens = services.tokens
        self._policies = services.policies
        self._mounts = services.mounts
        self._ttl = context.ttl
        self._now = context.now
        update, both = Operation.UPDATE, (Operation.READ, Operation.UPDATE)
        super().__init__(
            context,
            [
                Route(r"create", {update: self._create}, CREATE_FIELDS),
                Route(r"create-orphan", {update: self._create_orphan}, CREATE_FIELDS),
                Route(r"lookup", dict.fromkeys(both, self._lookup), _TOKEN),
                Route(r"lookup-self", dict.fromkeys(both, self._lookup_self), _TOKEN),
                Route(r"lookup-accessor", {update: self._lookup_accessor}, _ACCESSOR),
                Route(r"renew", {update: self._renew}, _TOKEN | _INCREMENT),
                Route(r"renew-self", {update: self._renew_self}, _TOKEN | _INCREMENT),
                Route(r"renew-accessor", {update: self._renew_accessor}, _ACCESSOR | _INCREMENT),
                Route(r"revoke", {update: self._revoke}, _TOKEN),
                Route(r"revoke-self", {update: self._revoke_self}),
                Route(r"revoke-orphan", {update: self._revoke_orphan}, _TOKEN),
                Route(r"revoke-accessor", {update: self._revoke_accessor}, _ACCESSOR),
                Route(r"accessors/?", {Operation.LIST: self._accessors}),
                Route(r"tidy", {update: self._tidy}),
            ],
        )

    # --- making -----------------------------------------------------------------------------

    async def _create(self, call: Call) -> Response:
        return await self._make(call, orphan=False)

    async def _create_orphan(self, call: Call) -> Response:
        return await self._make(call, orphan=True)

    async def _make(self, call: Call, *, orphan: bool) -> Response:
        caller = _caller(call)
        parent = await self._tokens.stored(caller.token_id)
        if parent is None:
            raise PermissionDenied
        asked = TokenRequest.from_fields(call.fields)
        full_path = call.request.mount_path + call.request.path
        has_sudo = caller.acl.decide("update", full_path).sudo
        grant = new_token_template(
            asked,
            parent,
            path=full_path,
            has_sudo=has_sudo,
            is_orphan=orphan,
            ttl=self._ttl,
            now=self._now(),
        )
        await self._warn_unknown_policies(grant)
        token, entry = await self._tokens.create(grant.entry, token=asked.id, ttl_s=grant.ttl_s)
        return Response(
            auth=describe_auth(entry, token=token, ttl_s=grant.ttl_s), warnings=grant.warnings
        )

    async def _warn_unknown_policies(self, grant: NewToken) -> None:
        for name in grant.entry.policies:
            if await self._policies.read(name) is None:
                grant.warnings.append(f'Policy "{name}" does not exist')

    # --- looking ----------------------------------------------------------------------------

    async def _lookup(self, call: Call) -> Response:
        token = call.fields.get("token", "")
        if not token:
            return await self._lookup_self(call)
        entry = await self._tokens.find(token)
        if entry is None:
            raise PermissionDenied("bad token")
        return self._described(entry, token)

    async def _lookup_self(self, call: Call) -> Response:
        entry = await self._tokens.stored(_caller(call).token_id)
        if entry is None:
            raise PermissionDenied("bad token")
        return self._described(entry, call.request.token.strip())

    async def _lookup_accessor(self, call: Call) -> Response:
        return self._described(await self._by_accessor(call), "")

    def _described(self, entry: TokenEntry, token: str) -> Response:
        return Response(data=describe_token(entry, token=token, now=self._now()))

    async def _by_accessor(self, call: Call) -> TokenEntry:
        accessor = call.fields.get("accessor", "")
        if not accessor:
            raise InvalidRequest(error_list("missing accessor"))
        entry = await self._tokens.find_accessor(accessor)
        if entry is None:
            raise InvalidRequest(error_list("invalid accessor"))
        return entry

    async def _accessors(self, call: Call) -> Response:
        accessors = await self._tokens.accessors()
        if not accessors:
            raise NotFound
        return Response(data={"keys": accessors})

    # --- renewing ---------------------------------------------------------------------------

    async def _renew(self, call: Call) -> Response:
        token = _required_token(call)
        entry = await self._tokens.find(token)
        if entry is None:
            raise InvalidRequest("token not found")
        return await self._extend(call, entry, token)

    async def _renew_self(self, call: Call) -> Response:
        entry = await self._tokens.stored(_caller(call).token_id)
        if entry is None:
            raise InvalidRequest("token not found")
        return await self._extend(call, entry, call.request.token.strip())

    async def _renew_accessor(self, call: Call) -> Response:
        return await self._extend(call, await self._by_accessor(call), "")

    async def _extend(self, call: Call, entry: TokenEntry, token: str) -> Response:
        if entry.path == ROOT_PATH:
            raise InvalidRequest("invalid lease ID")
        if not entry.renewable or not entry.expire_time:
            raise InvalidRequest("lease is not renewable")
        most_s = self._ttl.max_s
        warnings: list[str] = []
        if entry.login is not None:
            login, ttl = await self._renewed_login(entry)
            wanted_s = call.fields.get("increment", 0) or login.ttl_s or ttl.default_s
            most_s = lifetime_s = longest_s(login, ttl)
        elif entry.period_s:
            # Without an explicit end it may be renewed for ever.
            wanted_s = capped_ttl(entry.period_s, most_s, warnings, what="period")
            lifetime_s = entry.explicit_max_ttl_s
        else:
            wanted_s = call.fields.get("increment", 0) or entry.ttl_s
            lifetime_s = min(entry.explicit_max_ttl_s or most_s, most_s)
        left_s = most_s
        if lifetime_s:
            ends = parse_timestamp(entry.issue_time) + timedelta(seconds=lifetime_s)
            left_s = round((ends - self._now()).total_seconds())
        ttl_s = capped_ttl(wanted_s, left_s, warnings)
        if ttl_s <= 0:
            raise InvalidRequest("past the max TTL, cannot renew")
        renewed = await self._tokens.renew(entry, ttl_s)
        if renewed is None:
            raise InvalidRequest("token not found")
        return Response(auth=describe_auth(renewed, token=token, ttl_s=ttl_s), warnings=warnings)

    async def _renewed_login(self, entry: TokenEntry) -> tuple[Login, TTLs]:
        """Return what the method says of a login now, and the lifetimes of its mount."""
        assert entry.login is not None
        mount = self._mounts.find(entry.login.mount)
        login = None
        if mount is not None:
            login = await mount.engine.renew(recorded_login(entry, mount.entry))
        if mount is None or login is None:
            raise InvalidRequest("the auth method does not renew this token")
        return login, mount.context.ttl

    # --- ending -----------------------------------------------------------------------------

    async def _revoke(self, call: Call) -> Response:
        await self._tokens.revoke(await self._tokens.token_id(_required_token(call)))
        return Response()

    async def _revoke_self(self, call: Call) -> Response:
        await self._tokens.revoke(_caller(call).token_id)
        return Response()

    async def _revoke_orphan(self, call: Call) -> Response:
        token = _required_token(call)
        full_path = call.request.mount_path + call.request.path
        if not _caller(call).acl.decide("update", full_path).sudo:
            raise InvalidRequest("root or sudo privileges required to revoke and orphan")
        if not await self._tokens.revoke_orphan(await self._tokens.token_id(token)):
            raise InvalidRequest("token to revoke not found")
        return Response()

    async def _revoke_accessor(self, call: Call) -> Response:
        accessor = call.fields.get("accessor", "")
        if not accessor:
            raise InvalidRequest(error_list("missing accessor"))
        entry = await self._tokens.find_accessor(accessor)
        if entry is None:
            return Response(status=200, warnings=["No token found with this accessor"])
        await self._tokens.revoke(entry.id)
        return Response()

    async def _tidy(self, call: Call) -> Response:
        removed = await self._tokens.sweep()
        return Response(status=202, warnings=[_TIDIED if removed is not None else _NOT_TIDIED])


def _caller(call: Call) -> Caller:
    caller = call.request.caller
    assert caller is not None, "no token path is unauthenticated"
    return caller


def _required_token(call: Call) -> str:
    token: str = call.fields.get("token", "")
    if not token:
        raise InvalidRequest("missing token ID")
    return token


def describe_token(entry: TokenEntry, *, token: str, now: datetime) -> dict[str, Any]:
    """Return the ``data`` object of a lookup."""
    described: dict[str, Any] = {
        "accessor": entry.accessor,
        "creation_time": entry.creation_time,
        "creation_ttl": entry.creation_ttl_s,
        "display_name": entry.display_name,
        "entity_id": "",
        "expire_time": entry.expire_time or None,
        "explicit_max_ttl": entry.explicit_max_ttl_s,
        "id": token,
        "meta": entry.meta,
        "num_uses": entry.num_uses,
        "orphan": not entry.parent,
        "path": entry.path,
        "policies": list(entry.policies),
        "ttl": entry.ttl_left_s(now),
        "type": entry.token_type,
    }
    return described | _lease_part(entry)


def _lease_part(entry: TokenEntry) -> dict[str, Any]:
    if entry.path == ROOT_PATH:
        return {}
    part: dict[str, Any] = {"issue_time": entry.issue_time, "renewable": entry.renewable}
    if entry.period_s:
        part["period"] = entry.period_s
    if entry.role:
        part["role"] = entry.role
    if entry.last_renewal:
        part["last_renewal"] = entry.last_renewal
        part["last_renewal_time"] = int(parse_timestamp(entry.last_renewal).timestamp())
    return part
