"""
What the server's own engines may use beside their context: the stores of tokens, policies, mounts.

Rule of this file: it is a record. An engine that is not part of the server never gets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from baoha.core.access.policies import PolicyStore
from baoha.core.access.tokens import TokenStore
from baoha.core.framework.ttl import TTLs
from baoha.core.keys.barrier import Barrier
from baoha.core.mounts import MountStore
from baoha.core.view import Member


class SysHooks(Protocol):
    """What ``sys/`` needs of the node."""

    def members(self) -> Sequence[Member]:
        """Return the rows of ``sys/ha-status``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """
    The stores of one node.

    Attributes:
        ttl: the lifetimes of the configuration, for mounts that are not tuned.
    """

    barrier: Barrier
    tokens: TokenStore
    policies: PolicyStore
    mounts: MountStore
    hooks: SysHooks
    ttl: TTLs
