"""Notes that end by themselves: an example of a secret engine."""

from __future__ import annotations

import json
from datetime import timedelta

from baoha.core.framework.engine import EngineContext
from baoha.core.framework.engine_type import EngineType
from baoha.core.framework.fields import FieldKind
from baoha.core.framework.mount_entry import Table
from baoha.core.framework.routes import Call, Route, RouteEngine
from baoha.core.request import Operation, Response
from baoha.errors import NotFound


class Notes(RouteEngine):
    """One mount: a note is kept for its ttl, else for the mount's."""

    def __init__(self, context: EngineContext) -> None:
        one = {Operation.READ: self.read, Operation.UPDATE: self.write}
        fields = {"text": FieldKind.STRING, "ttl": FieldKind.DURATION}
        super().__init__(context, [Route(r"(?P<name>\w+)", one, fields)])

    async def write(self, call: Call) -> Response:
        lifetime = timedelta(seconds=call.fields.get("ttl", 0) or self.context.ttl.default_s)
        note = {"text": call.fields["text"], "ends": (self.context.now() + lifetime).timestamp()}
        await self.context.storage.put(call.path["name"], json.dumps(note).encode())
        return Response()

    async def read(self, call: Call) -> Response:
        blob = await self.context.storage.get(call.path["name"])
        if blob is None or json.loads(blob)["ends"] <= self.context.now().timestamp():
            raise NotFound
        return Response(data={"text": json.loads(blob)["text"]})

    async def tick(self) -> None:
        for name in await self.context.storage.list(""):
            blob = await self.context.storage.get(name)
            if blob is not None and json.loads(blob)["ends"] <= self.context.now().timestamp():
                await self.context.storage.delete(name)


NOTES = EngineType(
    name="notes",
    table=Table.SECRET,
    summary="Notes that end by themselves.",
    make=lambda entry, context: Notes(context),
)
