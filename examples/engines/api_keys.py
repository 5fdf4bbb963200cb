"""Logins with a key that the server made: an example of an auth method."""

from __future__ import annotations

import hashlib
import hmac
import json

from baoha.core.framework.engine import EngineContext
from baoha.core.framework.engine_type import EngineType
from baoha.core.framework.fields import FieldKind
from baoha.core.framework.mount_entry import Table
from baoha.core.framework.routes import Call, Route, RouteEngine
from baoha.core.request import Login, Operation, Response
from baoha.errors import InvalidRequest


class APIKeys(RouteEngine):
    """One mount: users, each with a key, policies, and a lifetime of their tokens."""

    unauthenticated_paths = ("login/*",)

    def __init__(self, context: EngineContext) -> None:
        users = {Operation.UPDATE: self.write_user, Operation.DELETE: self.delete_user}
        settings = {
            "policies": FieldKind.STRINGS,
            "ttl": FieldKind.DURATION,
            "max_ttl": FieldKind.DURATION,
        }
        login = Route(
            r"login/(?P<name>\w+)", {Operation.UPDATE: self.login}, {"key": FieldKind.STRING}
        )
        super().__init__(context, [Route(r"users/(?P<name>\w+)", users, settings), login])

    async def write_user(self, call: Call) -> Response:
        key = self.context.random_bytes(16).hex()
        # The key is random and long: a plain hash of it tells nothing.
        user = {**call.fields, "hash": hashlib.sha256(key.encode()).hexdigest()}
        await self.context.storage.put(call.path["name"], json.dumps(user).encode())
        return Response(data={"key": key})

    async def delete_user(self, call: Call) -> Response:
        await self.context.storage.delete(call.path["name"])
        return Response()

    async def login(self, call: Call) -> Response:
        blob = await self.context.storage.get(call.path["name"])
        given = hashlib.sha256(call.fields.get("key", "").encode()).hexdigest()
        if blob is None or not hmac.compare_digest(given, json.loads(blob)["hash"]):
            raise InvalidRequest("invalid name or key")
        return Response(login=_login(call.path["name"], blob))

    async def renew(self, login: Login) -> Login | None:
        blob = await self.context.storage.get(login.alias)
        return None if blob is None else _login(login.alias, blob)


def _login(name: str, blob: bytes) -> Login:
    user = json.loads(blob)
    return Login(
        policies=tuple(user.get("policies", ())),
        display_name=name,
        alias=name,
        ttl_s=user.get("ttl", 0),
        max_ttl_s=user.get("max_ttl", 0),
    )


API_KEYS = EngineType(
    name="api-keys",
    table=Table.AUTH,
    summary="Logins with a key that the server made.",
    make=lambda entry, context: APIKeys(context),
)
