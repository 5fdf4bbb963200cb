"""
The paths below ``sys/`` that need a token: policies, mounts, capabilities, keys, cluster members.

Rules of this file: it translates; what a request means is decided in the stores that it calls. The
paths that are answered without dispatch (health, leader, seal, unseal, init, step-down) are the API
layer's.

Source: OpenBao 2.7.2 as recorded (06-active.json, features/*.json) and measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from baoha.core.barrier import Barrier
from baoha.core.mounts import MountStore
from baoha.core.paths import Call, PathEngine, Route
from baoha.core.policies import PolicyStore
from baoha.core.request import Operation, Response
from baoha.core.tokens import TokenStore
from baoha.core.view import Member
from baoha.sansio.durations import format_timestamp


class SysHooks(Protocol):
    """What ``sys/`` needs of the node."""

    def members(self) -> Sequence[Member]:
        """Return the rows of ``sys/ha-status``."""


class SysEngine(PathEngine):
    """The system paths. One instance per node."""

    def __init__(
        self,
        barrier: Barrier,
        *,
        tokens: TokenStore,
        policies: PolicyStore,
        mounts: MountStore,
        hooks: SysHooks,
    ) -> None:
        self._hooks = hooks
        super().__init__([Route(r"ha-status", {Operation.READ: self._ha_status})])

    async def _ha_status(self, call: Call) -> Response:
        rows = sorted(self._hooks.members(), key=lambda member: member.api_address)
        return Response(data={"nodes": [describe_member(row) for row in rows]}, top_level=True)


def describe_member(member: Member) -> dict[str, Any]:
    """Return one row of ``sys/ha-status``; the last four fields are ours."""
    return {
        "hostname": member.hostname,
        "api_address": member.api_address,
        "cluster_address": member.cluster_address,
        "active_node": member.active_node,
        "last_echo": None if member.last_echo is None else format_timestamp(member.last_echo),
        "version": member.version,
        "node_id": member.node_id,
        "ready": member.ready,
        "software": member.software,
        "problems": list(member.problems),
    }
