"""The settings of nodes that live in one process, over memory streams."""

from __future__ import annotations

from baoha.node import NodeSettings
from baoha.timing import HATiming


def memory_settings(name: str, *, timing: HATiming | None = None) -> NodeSettings:
    """Return the settings of a node whose host is ``name`` in a ``MemoryHub``."""
    return NodeSettings(
        api_addr=f"http://{name}:8200",
        cluster_addr=f"https://{name}:8201",
        cluster_listen=((name, 8201),),
        timing=timing or HATiming(),
        hostname=name,
    )
