"""
The engine of a mount whose engine is not installed on this node: it refuses everything.

Rules of this file: one missing package holds up one mount, never the node. The data stays as it is.
"""

from __future__ import annotations

import logging

from baoha.core.framework.engine import Engine, EngineContext
from baoha.core.framework.engine_type import EngineType
from baoha.core.framework.mount_entry import MountEntry, Table
from baoha.core.request import Login, Request, Response
from baoha.errors import RequestError

log = logging.getLogger("baoha.core")


class AbsentEngine(Engine):
    """
    Refuses every request, and renews nothing.

    Args:
        name: the type of the mount.
    """

    def __init__(self, name: str, context: EngineContext) -> None:
        super().__init__(context)
        self._name = name

    async def handle(self, request: Request) -> Response:
        """Raise RequestError (500)."""
        raise RequestError(f'no engine "{self._name}" is installed on this node', status=500)

    async def renew(self, login: Login) -> Login | None:
        """Return None: nobody can say whether the client is still allowed."""
        return None


def absent_type(table: Table, name: str) -> EngineType:
    """Return the row of a type that no row is there for."""

    def make(entry: MountEntry, context: EngineContext) -> Engine:
        log.error("no engine is installed for a mount: type=%s mount=%s", name, entry.full_path)
        return AbsentEngine(name, context)

    return EngineType(name=name, table=table, summary="Not installed.", make=make)
