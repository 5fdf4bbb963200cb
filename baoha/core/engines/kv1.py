"""
The plain key-value engine (KV v1): one JSON object per path, no versions.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/kv1.json).
"""

from __future__ import annotations

from baoha.core.framework.engine import EngineContext
from baoha.core.framework.fields import FieldError, to_duration_s
from baoha.core.framework.routes import Call, Route, RouteEngine
from baoha.core.framework.stored_data import decode_any, encode_any
from baoha.core.request import Operation, Response
from baoha.errors import InvalidRequest, NotFound
from baoha.sansio.durations import DurationError


class PlainKVEngine(RouteEngine):
    """One KV v1 mount."""

    def __init__(self, context: EngineContext) -> None:
        super().__init__(
            context,
            [
                Route(
                    r"(?P<path>.*)",
                    {
                        Operation.READ: self._read,
                        Operation.UPDATE: self._write,
                        Operation.DELETE: self._delete,
                        Operation.LIST: self._list,
                        Operation.SCAN: self._scan,
                    },
                    exists=self._exists,
                )
            ],
        )

    async def _exists(self, call: Call) -> bool | None:
        return bool(call.path["path"]) and await call.storage.get(call.path["path"]) is not None

    async def _read(self, call: Call) -> Response:
        path = call.path["path"]
        blob = await call.storage.get(path) if path and not path.endswith("/") else None
        if blob is None:
            raise NotFound
        data = await decode_any(blob)
        # A lease as long as the mount says, where the secret does not say it itself.
        ttl_s = self.context.ttl.default_s
        for name in ("ttl", "lease"):
            try:
                ttl_s = to_duration_s(data[name]) if name in data else ttl_s
            except (FieldError, DurationError):
                continue  # the secret's own value, which need not be a duration
        return Response(data=data, lease_duration=ttl_s)

    async def _write(self, call: Call) -> Response:
        if not call.path["path"]:
            raise InvalidRequest("missing path")
        if not call.request.data:
            raise InvalidRequest("missing data fields")
        stored = await encode_any(dict(call.request.data))
        await call.storage.put(call.path["path"], stored)
        return Response()

    async def _delete(self, call: Call) -> Response:
        if call.path["path"] and not call.path["path"].endswith("/"):
            await call.storage.delete(call.path["path"])
        return Response()

    async def _list(self, call: Call) -> Response:
        return _keys(await call.storage.list(call.path["path"]))

    async def _scan(self, call: Call) -> Response:
        found: list[str] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            for child in await call.storage.list(call.path["path"] + folder):
                (folders if child.endswith("/") else found).append(folder + child)
        return Response(data={"keys": found} if found else {})  # an empty scan is no error


def _keys(keys: list[str]) -> Response:
    if not keys:
        raise NotFound
    return Response(data={"keys": keys})
