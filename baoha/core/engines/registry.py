"""
The engines of a server: its own rows, and those of installed packages.

Rules of this file:

1. An engine is in a server by its row, and nothing else knows of it.
2. The server's own engines may close over the services; an installed one gets its context alone.
3. An installed engine is code that the operator installed. Its entry point of the group
   ``baoha.engines`` names an ``EngineType``; nothing is registered at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Final

from baoha.core.engines.kv import kv_types
from baoha.core.engines.sys.engine import SysEngine
from baoha.core.engines.token import TokenEngine
from baoha.core.framework.engine_type import EngineType
from baoha.core.framework.mount_entry import Table
from baoha.core.services import Services
from baoha.errors import ConfigError

GROUP: Final = "baoha.engines"


def engine_types(services: Services) -> Sequence[EngineType]:
    """Return the rows of the server's own engines."""
    return (
        EngineType(
            name="system",
            table=Table.SECRET,
            summary="The paths below sys/.",
            make=lambda entry, context: SysEngine(context, services),
            built_in=True,
        ),
        EngineType(
            name="token",
            table=Table.AUTH,
            summary="Tokens: look at them, make, renew and end them.",
            make=lambda entry, context: TokenEngine(context, services),
            built_in=True,
        ),
        *kv_types(services),
    )


def installed_engine_types() -> Sequence[EngineType]:
    """
    Return the rows of installed packages, in the order of their entry points' names.

    Raises:
        ConfigError: one of them cannot be loaded, or is none.
    """
    rows = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            row = point.load()
        except (ImportError, AttributeError) as exc:
            raise ConfigError(f"cannot load the engine {point.name!r}: {exc}") from exc
        if not isinstance(row, EngineType):
            raise ConfigError(f"cannot use the engine {point.name!r}: {point.value} is no row")
        rows.append(row)
    return rows
