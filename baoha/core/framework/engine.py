"""What dispatch asks of an engine."""

from __future__ import annotations

from typing import Protocol

from baoha.core.keys.barrier import BarrierView
from baoha.core.request import Request, Response


class Engine(Protocol):
    """
    A secret engine or auth method, mounted at a path. One instance per mount.

    ``request.path`` is relative to the mount. An engine keeps its state in ``storage`` alone; what
    it caches must be dropped in ``forget``.
    """

    async def exists(self, request: Request, storage: BarrierView) -> bool | None:
        """Say whether an UPDATE would overwrite something (False: a CREATE; None: do not care)."""

    async def handle(self, request: Request, storage: BarrierView) -> Response:
        """
        Carry out one request.

        Raises:
            RequestError: the client's fault; NotFound with no text for a missing thing.
            StorageError: as the store said.
        """

    def forget(self) -> None:
        """Drop cached state: another node may have written since."""
