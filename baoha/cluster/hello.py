"""
The first words on a cluster channel, both ways.

Source: ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from baoha.cluster.channel import NodeInfo

RESOURCE = "/baoha/cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The standby: which protocols it speaks, and who it is."""

    protocols: tuple[int, ...]
    node: NodeInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The active node: the protocol that both will use, and what it accepts."""

    protocol: int
    head_bytes_max: int
    body_bytes_max: int
    in_flight_max: int
