"""
The paths below ``sys/`` that need a token: policies, mounts, capabilities, keys, cluster members.

Rules of this file: it translates; what a request means is decided in the stores that it calls. The
paths that are answered without dispatch (health, leader, seal, unseal, init, step-down) are the API
layer's.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/06-active.json and its neighbours)
and measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from baoha.core.engines.sys.mounts import SUDO_PATHS, UNAUTHENTICATED_PATHS, MountPaths
from baoha.core.engines.sys.policies import PolicyPaths
from baoha.core.framework.engine import EngineContext
from baoha.core.framework.fields import FieldKind
from baoha.core.framework.routes import Call, Route, RouteEngine
from baoha.core.keys.rotation import key_status, rotate_encryption_key, set_rotation_config
from baoha.core.request import Operation, Response
from baoha.core.services import Services
from baoha.core.view import Member
from baoha.sansio.durations import SECOND_NS, format_timestamp

_ROTATION: Final = {
    "enabled": FieldKind.BOOL,
    "max_operations": FieldKind.INT64,
    "interval": FieldKind.DURATION,
}
# Older forms without a token, switched off in OpenBao too; "rotate/root" has taken their place.
_REPLACED_PATHS: Final = (
    "rekey/init",
    "rekey/update",
    "rekey/verify",
    "generate-root/attempt",
    "generate-root/update",
)


class SysEngine(RouteEngine):
    """The system paths."""

    unauthenticated_paths = (*UNAUTHENTICATED_PATHS, *_REPLACED_PATHS)
    sudo_paths = (*SUDO_PATHS, "rotate", "rotate/keyring")

    def __init__(self, context: EngineContext, services: Services) -> None:
        self._barrier = services.barrier
        self._hooks = services.hooks
        policies = PolicyPaths(services.policies, services.tokens, now=context.now)
        read, update = Operation.READ, Operation.UPDATE
        config = {read: self._read_rotation, update: self._write_rotation}
        super().__init__(
            context,
            [
                Route(r"ha-status", {read: self._ha_status}),
                Route(r"key-status", {read: self._key_status}),
                Route(r"rotate(/keyring)?", {update: self._rotate}),
                Route(r"rotate(/keyring)?/config", config, _ROTATION),
                Route("|".join(_REPLACED_PATHS), {}),
                *policies.routes(),
                *MountPaths(services).routes(),
            ],
        )

    async def _ha_status(self, call: Call) -> Response:
        rows = sorted(self._hooks.members(), key=lambda member: member.api_address)
        return Response(data={"nodes": [describe_member(row) for row in rows]}, top_level=True)

    # --- keys -------------------------------------------------------------------------------

    async def _key_status(self, call: Call) -> Response:
        status = key_status(self._barrier)
        data = {
            "term": status.term,
            "install_time": status.install_time,
            "encryptions": status.encryptions,
        }
        return Response(data=data, top_level=True)

    async def _rotate(self, call: Call) -> Response:
        await rotate_encryption_key(self._barrier)
        return Response()

    async def _read_rotation(self, call: Call) -> Response:
        rules = self._barrier.keyring.rotation
        return Response(
            data={
                "enabled": not rules.disabled,
                "interval": rules.interval_ns // SECOND_NS,
                "max_operations": rules.max_operations,
            }
        )

    async def _write_rotation(self, call: Call) -> Response:
        rules = self._barrier.keyring.rotation
        if "enabled" in call.fields:
            rules = replace(rules, disabled=not call.fields["enabled"])
        if "max_operations" in call.fields:
            rules = replace(rules, max_operations=call.fields["max_operations"])
        if "interval" in call.fields:
            rules = replace(rules, interval_ns=call.fields["interval"] * SECOND_NS)
        await set_rotation_config(self._barrier, rules)
        return Response()


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
