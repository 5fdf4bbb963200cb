"""
The paths of ``sys/`` that deal with policies, and with what they allow.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/policy-capabilities.json) and
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from baoha.core.access.policies import PolicyStore, describe_policy
from baoha.core.access.policy_rules import ask_each, described_acl
from baoha.core.access.token_entry import TokenEntry
from baoha.core.access.tokens import TokenStore
from baoha.core.framework.fields import FieldKind
from baoha.core.framework.routes import Call, Route, error_list
from baoha.core.request import Operation, Response
from baoha.errors import InvalidRequest, NotFound, RequestError
from baoha.sansio.policy import ACL

_WRITE_FIELDS: Final = {
    "policy": FieldKind.STRING,
    "cas": FieldKind.INT,
    "cas_required": FieldKind.BOOL,
    "ttl": FieldKind.DURATION,
    "expiration": FieldKind.TIME,
}
_PATH_CHARS_MAX: Final = 64 * 1024  # no request could have a longer one
_PATHS: Final = {"path": FieldKind.STRINGS, "paths": FieldKind.STRINGS}


class PolicyPaths:
    """``policies/acl``, its older form ``policy``, and the questions about capabilities."""

    def __init__(
        self, policies: PolicyStore, tokens: TokenStore, *, now: Callable[[], datetime]
    ) -> None:
        self._policies = policies
        self._tokens = tokens
        self._now = now

    def routes(self) -> list[Route]:
        """Return the routes, for the engine's table."""
        read, update, delete = Operation.READ, Operation.UPDATE, Operation.DELETE
        older = {"rules": FieldKind.STRING}
        return [
            Route(r"policies/acl/?", {Operation.LIST: self._list}),
            Route(
                r"policies/acl/(?P<name>.+)",
                {read: self._read, update: self._write, delete: self._delete},
                _WRITE_FIELDS,
            ),
            Route(r"policy/?", {Operation.LIST: self._list_older, read: self._list_older}),
            Route(
                r"policy/(?P<name>.+)",
                {read: self._read_older, update: self._write_older, delete: self._delete},
                _WRITE_FIELDS | older,
            ),
            Route(
                r"capabilities-self",
                {update: self._of_caller},
                _PATHS | {"token": FieldKind.STRING},
            ),
            Route(r"capabilities", {update: self._of_token}, _PATHS | {"token": FieldKind.STRING}),
            Route(
                r"capabilities-accessor",
                {update: self._of_accessor},
                _PATHS | {"accessor": FieldKind.STRING},
            ),
            Route(r"internal/ui/resultant-acl", {read: self._resultant}),
        ]

    # --- policies ---------------------------------------------------------------------------

    async def _list(self, call: Call) -> Response:
        return Response(data={"keys": await self._policies.names()})

    async def _list_older(self, call: Call) -> Response:
        names = await self._policies.names()
        return Response(data={"keys": names, "policies": names}, top_level=True)

    async def _read(self, call: Call) -> Response:
        return Response(data=await self._describe(call, "policy"))

    async def _read_older(self, call: Call) -> Response:
        return Response(data=await self._describe(call, "rules"), top_level=True)

    async def _describe(self, call: Call, text_key: str) -> dict[str, Any]:
        policy = await self._policies.read(_name(call))
        if policy is None:
            raise NotFound
        return describe_policy(policy, text_key=text_key)

    async def _write(self, call: Call) -> Response:
        return await self._store(call, call.fields.get("policy", ""))

    async def _write_older(self, call: Call) -> Response:
        text = call.fields.get("policy", "")
        if text or not call.fields.get("rules"):
            return await self._store(call, text)
        response = await self._store(call, call.fields["rules"])
        response.warnings.append("'rules' is deprecated, please use 'policy' instead")
        response.status = 200
        return response

    async def _store(self, call: Call, text: str) -> Response:
        if not text:
            raise InvalidRequest("'policy' parameter not supplied or empty")
        fields = call.fields
        # A time that is null is as good as not there; 0 is a time, too.
        has_ttl, has_end = (call.raw.get(name) is not None for name in ("ttl", "expiration"))
        if has_ttl and has_end:
            raise InvalidRequest("cannot supply both 'expiration' and 'ttl' for policies")
        now = self._now()
        expiration: datetime | None = fields.get("expiration")
        if has_ttl:
            expiration = now + timedelta(seconds=fields["ttl"])
        if expiration is not None and expiration <= now:
            raise InvalidRequest("refusing to update policy as expiration time has already elapsed")
        await self._policies.write(
            _name(call),
            text,
            cas=fields.get("cas"),
            cas_required=fields.get("cas_required"),
            expiration=expiration,
        )
        return Response()

    async def _delete(self, call: Call) -> Response:
        await self._policies.delete(_name(call))
        return Response()

    # --- capabilities -----------------------------------------------------------------------

    async def _of_caller(self, call: Call) -> Response:
        assert call.request.caller is not None
        return await _capabilities(call.request.caller.acl, _paths(call))

    async def _of_token(self, call: Call) -> Response:
        token = call.fields.get("token", "")
        if not token:
            raise RequestError(error_list("no token found"), status=500)
        paths = _paths(call)
        entry = await self._tokens.find(token)
        if entry is None:
            raise InvalidRequest(error_list("invalid token"))
        return await self._of_entry(entry, paths)

    async def _of_accessor(self, call: Call) -> Response:
        accessor = call.fields.get("accessor", "")
        if not accessor:
            raise InvalidRequest("missing accessor")
        entry = await self._tokens.find_accessor(accessor)
        if entry is None:
            raise InvalidRequest(error_list("invalid accessor"))
        return await self._of_entry(entry, _paths(call))

    async def _of_entry(self, entry: TokenEntry, paths: Sequence[str]) -> Response:
        return await _capabilities(await self._policies.acl(entry.policies), paths)

    async def _resultant(self, call: Call) -> Response:
        assert call.request.caller is not None
        return Response(data=await described_acl(call.request.caller.acl))


def _name(call: Call) -> str:
    return call.path["name"].lower()


def _paths(call: Call) -> list[str]:
    paths: list[str] = call.fields.get("paths") or call.fields.get("path") or []
    if not paths:
        raise InvalidRequest("paths must be supplied")
    if any(len(path) > _PATH_CHARS_MAX for path in paths):
        raise InvalidRequest(error_list(f"path is longer than {_PATH_CHARS_MAX} characters"))
    if "" in paths:
        raise InvalidRequest(error_list("missing path"))
    return paths


async def _capabilities(acl: ACL, paths: Sequence[str]) -> Response:
    found: dict[str, Any] = dict(await ask_each(acl, acl.capabilities, paths))
    if len(paths) == 1:
        found["capabilities"] = found[paths[0]]
    return Response(data=found, top_level=True)
