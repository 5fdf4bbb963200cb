"""
One node: the rings of nurseries, and what `api` sees of them.

Read `node`; everything it holds is made there, and ends there.
"""

from __future__ import annotations

from baoha.node.node import Node
from baoha.node.settings import NodeSettings

__all__ = [
    "Node",
    "NodeSettings",
]
