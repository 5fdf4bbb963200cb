"""
What an engine is: a secret engine or auth method, mounted at a path. One instance per mount.

Rules of this file:

1. An engine gets what it may use in its context and nothing else: its own storage, time,
   randomness, worker threads, lifetimes. It knows neither tokens nor policies nor other mounts.
2. Every default stands in ``Engine``: whatever an engine does not say is said here.

An engine keeps its state in its storage alone; what it caches must be dropped in ``forget``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from baoha.core.framework.ttl import TTLs
from baoha.core.keys.barrier import BarrierView
from baoha.core.request import Login, Request, Response
from baoha.offload import Offload


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """
    What an engine may use.

    Attributes:
        storage: its data, encrypted; nobody else's.
        now: the wall clock, aware.
        random_bytes: of a quality fit for keys; takes how many.
        offload: runs what grows with a client's bytes in worker threads: anything that may take
            more than 10 ms.
        ttl: the lifetimes that the mount is tuned to, else those of the configuration.
    """

    storage: BarrierView
    now: Callable[[], datetime] = field(repr=False)
    random_bytes: Callable[[int], bytes] = field(repr=False)
    offload: Offload = field(repr=False)
    ttl: TTLs


class Engine(ABC):
    """
    The base of all engines.

    Attributes:
        unauthenticated_paths: relative paths that need no token; a trailing "*" matches what begins
            so.
        sudo_paths: relative paths that need the sudo capability as well.
        needs_create: whether a handler treats a create otherwise than an update.
        context: what the engine may use.
    """

    unauthenticated_paths: Sequence[str] = ()
    sudo_paths: Sequence[str] = ()
    needs_create: bool = False

    def __init__(self, context: EngineContext) -> None:
        self.context = context

    @abstractmethod
    async def handle(self, request: Request) -> Response:
        """
        Carry out one request; its path is relative to the mount.

        Raises:
            RequestError: the client's fault; NotFound with no text for a missing thing.
            StorageError: as the store said.
        """

    async def exists(self, request: Request) -> bool | None:
        """Return whether an UPDATE would overwrite something (False: a CREATE; None: no matter)."""
        return None

    async def tick(self) -> None:  # noqa: B027 - nothing to do is the default
        """
        Do what time brings: rotate, tidy up. Called now and then, on the active node only.

        Bounded and restartable: it is cut short after some seconds and when active duty ends, and
        goes on at the next call, perhaps on another node.

        Raises:
            StorageError: as the store said; the next tick tries again.
        """

    async def renew(self, login: Login) -> Login | None:
        """
        Return what a token that was made by a login may live on for; None: no longer at all.

        For auth methods. The lifetimes of what is returned count; policies stay as they are, so a
        method that would give other ones now returns None.

        Args:
            login: as the method returned it.
        """
        return login

    def forget(self) -> None:  # noqa: B027 - nothing cached is the default
        """Drop cached state: another node may have written since."""
