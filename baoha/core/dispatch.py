"""
Dispatch: authenticate, authorise, route, engine. Knows no HTTP, and not who is active.

Rules of this file:

1. One small method per step; what comes later (namespaces, audit, wrapping, leases) is another
   step, not another branch in these.
2. A token is asked before anything is told: whether a mount exists is answered only to whoever may
   use the path.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/06-active.json and
tests/conformance/recordings/generic-http.json).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

from baoha.core.access.policies import PolicyStore, put_default_policy
from baoha.core.access.policy_rules import keeps_to
from baoha.core.access.token_entry import USES_SPENT, make_root_token, new_salt, put_salt
from baoha.core.access.token_requests import TTLLimits
from baoha.core.access.tokens import TokenStore
from baoha.core.access.ttl import TTL_SYSTEM_S
from baoha.core.engines.kv1 import PlainKVEngine
from baoha.core.engines.kv2.engine import KVEngine
from baoha.core.engines.kv2.upgrade import KVUpgrades
from baoha.core.engines.sys.engine import SysEngine, SysHooks
from baoha.core.engines.token import TokenEngine
from baoha.core.framework.engine import Engine
from baoha.core.framework.routes import PathEngine, wrapped
from baoha.core.keys.barrier import Barrier, BarrierTransaction
from baoha.core.mounts import Mount, MountEntry, MountStore, has_versions, put_default_mounts
from baoha.core.request import Caller, Operation, Request, Response
from baoha.errors import (
    BaohaError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    StorageError,
)
from baoha.sansio.routing import Match
from baoha.timing import BootClock, boot_time_s

log = logging.getLogger("baoha.core")
T = TypeVar("T")

_LISTINGS: Final = frozenset({Operation.LIST, Operation.SCAN})
_WRITES: Final = frozenset({Operation.CREATE, Operation.UPDATE, Operation.PATCH})


class Core:
    """The logical server of one node: everything between the API and the barrier."""

    def __init__(
        self,
        barrier: Barrier,
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
        now: Callable[[], datetime],
        boot_clock: BootClock = boot_time_s,
        sys_hooks: SysHooks,
    ) -> None:
        self._random_bytes = random_bytes
        self._now = now
        self._tokens = TokenStore(
            barrier, random_bytes=random_bytes, now=now, boot_clock=boot_clock
        )
        self._policies = PolicyStore(barrier, now=now)
        self._mounts = MountStore(
            barrier,
            {
                ("mounts", "kv"): self._open_kv,
                ("mounts", "generic"): self._open_kv,
                ("mounts", "system"): lambda entry: self._system,
                ("auth", "token"): lambda entry: self._token_engine,
            },
            random_bytes=random_bytes,
        )
        self._upgrades = KVUpgrades(barrier, self._mounts, now=now)
        self._token_engine: Engine = TokenEngine(
            self._tokens, self._policies, limits=self._token_limits, now=now
        )
        self._system: Engine = SysEngine(
            barrier,
            tokens=self._tokens,
            policies=self._policies,
            mounts=self._mounts,
            hooks=sys_hooks,
        )

    def _token_limits(self) -> TTLLimits:
        entry = self._mounts.entry("auth", "token/")
        config = {} if entry is None else entry.config
        return TTLLimits(
            default_s=config.get("default_lease_ttl") or TTL_SYSTEM_S,
            most_s=config.get("max_lease_ttl") or TTL_SYSTEM_S,
        )

    def _open_kv(self, entry: MountEntry) -> Engine:
        if has_versions(entry):
            return KVEngine(now=self._now, is_upgrading=bool(entry.upgrade_from))
        ttl_s = entry.config.get("default_lease_ttl") or TTL_SYSTEM_S
        return PlainKVEngine(default_ttl_s=ttl_s)

    # --- life -------------------------------------------------------------------------------

    async def populate(self, transaction: BarrierTransaction) -> str:
        """
        Buffer what a new cluster begins with into the transaction of initialisation.

        Args:
            transaction: at the root of the barrier.

        Returns:
            The root token: shown once, kept nowhere.
        """
        now, salt = self._now(), new_salt(self._random_bytes)
        put_salt(transaction, salt)
        put_default_policy(transaction, now=now)
        put_default_mounts(transaction, random_bytes=self._random_bytes)
        return make_root_token(transaction, salt=salt, random_bytes=self._random_bytes, now=now)

    async def load(self) -> None:
        """
        Read the mounts and drop everything else that was cached: on entering duty, and to warm up
        a standby. Costs one read per mount.
        """
        self.forget()
        await self._mounts.load()

    def forget(self) -> None:
        """Drop all caches: another node may have written since."""
        self._tokens.forget()
        self._policies.forget()
        self._mounts.forget()

    def wipe(self) -> None:
        """Drop all that was read from the store: the node is being sealed."""
        self.forget()
        self._policies.wipe()

    async def sweep(self) -> int | None:
        """Remove ended tokens; for a background task of active duty. As ``TokenStore.sweep``."""
        return await self._tokens.sweep()

    async def run_upgrades(self) -> None:
        """Carry out the upgrades of mounts, for as long as active duty lasts."""
        await self._upgrades.run()

    # --- requests ---------------------------------------------------------------------------

    async def handle(self, request: Request) -> Response:
        """
        Carry out one logical request.

        Raises:
            RequestError: the client's fault, with OpenBao's text.
            StorageError: as the store said; ``outcome`` says whether a write may have landed.
        """
        await self._mounts.ensure_fresh()
        _refuse_wrapping(request)
        request = _normalised(request)
        match = self._mounts.match(request.path)
        if match is not None and _needs_no_token(match):
            return await self._execute(match, request)

        async def authorised(caller: Caller) -> Response:
            asked = await _resolve_create(match, replace(request, caller=caller), caller)
            await _authorise(match, asked, caller)
            if match is None:
                raise NotFound(f'no handler for route "{asked.path}". route entry not found.')
            return await self._execute(match, asked)

        return await self._as_caller(request.token, authorised)

    async def _execute(self, match: Match[Mount], request: Request) -> Response:
        inner = replace(request, path=match.relative_path, mount_path=match.mount_path)
        self._mounts.use(match.target)
        try:
            response = await match.target.engine.handle(inner, match.target.storage)
        finally:
            self._mounts.end_use(match.target)
        response.mount_type = response.mount_type or match.target.entry.type
        return response

    async def require_sudo(self, token: str, path: str, operation: Operation) -> str:
        """
        Return who speaks (the token's display name) if it may use a path with sudo.

        Counts a use of a limited token.

        Raises:
            PermissionDenied: it may not.
        """

        async def check(caller: Caller) -> str:
            decision = caller.acl.decide(operation.value, path)
            if not (decision.allowed and decision.sudo):
                raise PermissionDenied(wrapped("permission denied"))
            return caller.display_name

        return await self._as_caller(token, check)

    async def _as_caller(self, token: str, body: Callable[[Caller], Awaitable[T]]) -> T:
        """Run a body for whom a token speaks. A limited token loses a use; the last one ends it."""
        entry = await self._tokens.find(token.strip())
        if entry is not None and entry.num_uses > 0:
            entry = await self._tokens.spend_use(entry)
        if entry is None:
            raise PermissionDenied
        acl = await self._policies.acl(entry.policies)
        caller = Caller(entry.id, entry.accessor, entry.display_name, entry.policies, acl)
        if entry.num_uses != USES_SPENT:
            return await body(caller)
        # A cancelled request leaves the token as it is: used up, and removed by the next sweep.
        failure: BaohaError | None = None
        try:
            result = await body(caller)
        except BaohaError as exc:
            failure = exc
        await self._end_spent(entry.id)
        if failure is not None:
            raise failure
        return result

    async def _end_spent(self, token_id: str) -> None:
        try:
            await self._tokens.revoke(token_id)
        except StorageError as exc:
            log.warning("used up token not removed: cause=%s", exc)


def _refuse_wrapping(request: Request) -> None:
    # Whoever asks for a wrapped answer must not get the secret itself.
    if request.wrap_ttl_s:
        raise InvalidRequest("response wrapping is not supported by this server")


def _normalised(request: Request) -> Request:
    path = request.path
    if request.operation in _LISTINGS and not path.endswith("/"):
        return replace(request, path=path + "/")
    if request.operation in _WRITES and path.endswith("/"):
        raise InvalidRequest("cannot write to a path ending in '/'")
    return request


def _is_listed(path: str, patterns: Sequence[str]) -> bool:
    return any(
        path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern
        for pattern in patterns
    )


def _needs_no_token(match: Match[Mount]) -> bool:
    engine = match.target.engine
    return isinstance(engine, PathEngine) and _is_listed(
        match.relative_path, engine.unauthenticated_paths
    )


async def _resolve_create(match: Match[Mount] | None, request: Request, caller: Caller) -> Request:
    """Return the request as a CREATE where it is one and the difference matters."""
    if match is None or request.operation is not Operation.UPDATE:
        return request
    engine = match.target.engine
    if isinstance(engine, PathEngine) and not engine.needs_create:
        # The same rule decides about both, so its restrictions make no difference.
        verdicts = {
            caller.acl.decide(op.value, request.path).allowed
            for op in (Operation.CREATE, Operation.UPDATE)
        }
        if len(verdicts) == 1:
            return request
    inner = replace(request, path=match.relative_path, mount_path=match.mount_path)
    if await engine.exists(inner, match.target.storage) is False:
        return replace(request, operation=Operation.CREATE)
    return request


async def _authorise(match: Match[Mount] | None, request: Request, caller: Caller) -> None:
    decision, rule = caller.acl.decide_path(request.operation.value, request.path)
    engine = match.target.engine if match is not None else None
    needs_sudo = (
        match is not None
        and isinstance(engine, PathEngine)
        and _is_listed(match.relative_path, engine.sudo_paths)
    )
    if (
        not decision.allowed
        or (needs_sudo and not decision.sudo)
        or (rule is not None and not await keeps_to(rule, request.data))
    ):
        raise PermissionDenied(wrapped("permission denied"))
