"""
Initialise and unseal nodes of the development modes, through their own HTTP API.

Rule of this file: for ``--dev`` and ``--dev-ha`` only. The nodes are on loopback, without TLS, and
whoever runs this sees every secret.

Source: what ``bao server -dev`` sets up: one key share, KV version 2 at ``secret/``.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from baoha import names
from baoha.errors import BaohaError

REQUEST_S = 30.0
READY_S = 30.0
POLL_S = 0.05


class BootstrapError(BaohaError):
    """A development node did not do what was asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevSecrets:
    """What init shows once."""

    unseal_key: str = field(repr=False)
    root_token: str = field(repr=False)


class DevNode:
    """One node, by its address ("127.0.0.1:8200")."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        token: str = "",
    ) -> tuple[int, dict[str, Any]]:
        """
        Send one request and return status and answer.

        Raises:
            OSError: no connection, or it broke.

        Cancellation: the thread that waits is left behind; its request may still be executed.
        """
        return await trio.to_thread.run_sync(
            self._call, method, path, body, token, abandon_on_cancel=True
        )

    async def must(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, token: str = ""
    ) -> dict[str, Any]:
        """
        Send one request that has to succeed.

        Raises:
            BootstrapError: it did not.
        """
        try:
            status, answer = await self.call(method, path, body, token=token)
        except OSError as error:
            raise BootstrapError(f"cannot reach {self.address}: {error}") from error
        if status >= 300:
            errors = "; ".join(str(text) for text in answer.get("errors") or ())
            raise BootstrapError(f"{method} {path} at {self.address}: {status} {errors}")
        return answer

    async def health(self) -> int:
        """Return the status code of ``sys/health``, 0 when nobody answers."""
        try:
            return (await self.call("GET", "sys/health"))[0]
        except OSError:
            return 0

    def _call(
        self, method: str, path: str, body: Mapping[str, object] | None, token: str
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(self.address, timeout=REQUEST_S)
        headers = {names.TOKEN_HEADER: token} if token else {}
        try:
            connection.request(
                method, f"/v1/{path}", None if body is None else json.dumps(body), headers
            )
            response = connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        return response.status, json.loads(content) if content else {}


async def initialize(node: DevNode) -> DevSecrets:
    """Initialise a fresh store with one key share."""
    answer = await node.must("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    return DevSecrets(unseal_key=answer["keys_base64"][0], root_token=answer["root_token"])


async def unseal(node: DevNode, secrets: DevSecrets) -> None:
    """Unseal one node."""
    await node.must("PUT", "sys/unseal", {"key": secrets.unseal_key})


async def wait_active(nodes: Sequence[DevNode]) -> DevNode:
    """
    Return the node that is active, as soon as one is.

    Raises:
        BootstrapError: none within READY_S.
    """
    with trio.move_on_after(READY_S):
        while True:
            for node in nodes:
                if await node.health() == 200:
                    return node
            await trio.sleep(POLL_S)
    raise BootstrapError(f"no node became active within {READY_S:g} s")


async def wait_standby(node: DevNode) -> None:
    """
    Return when a node that was unsealed follows the active one.

    Raises:
        BootstrapError: not within READY_S.
    """
    with trio.move_on_after(READY_S):
        while True:
            if await node.health() in (200, 429, 473):
                return
            await trio.sleep(POLL_S)
    raise BootstrapError(f"{node.address} did not become a standby within {READY_S:g} s")


async def furnish(node: DevNode, secrets: DevSecrets, *, root_token: str) -> DevSecrets:
    """Mount KV version 2 at ``secret/``, and swap the root token for a wanted one."""
    token = secrets.root_token
    mounts = await node.must("GET", "sys/mounts", token=token)
    if "secret/" not in mounts["data"]:
        kv2 = {"type": "kv", "options": {"version": "2"}}
        await node.must("POST", "sys/mounts/secret", kv2, token=token)
    if not root_token or root_token == token:
        return secrets
    await node.must(
        "POST",
        "auth/token/create",
        {"id": root_token, "policies": ["root"], "no_parent": True, "display_name": "root"},
        token=token,
    )
    await node.must("POST", "auth/token/revoke-self", {}, token=token)
    return DevSecrets(unseal_key=secrets.unseal_key, root_token=root_token)
