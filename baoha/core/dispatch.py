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

import trio

from baoha.core.access.logins import describe_auth, new_login_template
from baoha.core.access.policies import PolicyStore, put_default_policy
from baoha.core.access.policy_rules import keeps_to
from baoha.core.access.token_entry import USES_SPENT, make_root_token, new_salt, put_salt
from baoha.core.access.tokens import TokenStore
from baoha.core.framework.engine_type import EngineType, EngineTypes
from baoha.core.framework.mount_entry import Table
from baoha.core.framework.routes import error_list
from baoha.core.framework.ttl import SYSTEM_TTLS, TTLs
from baoha.core.keys.barrier import Barrier, BarrierTransaction
from baoha.core.mounts import Mount, MountStore, put_default_mounts
from baoha.core.request import Auth, Caller, Login, Operation, Request, Response
from baoha.core.services import Services, SysHooks
from baoha.errors import (
    BaohaError,
    FencedWrite,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ReadOnly,
    StorageError,
    type_and_place,
)
from baoha.sansio.routing import Match
from baoha.timing import BootClock, boot_time_s

log = logging.getLogger("baoha.core")
T = TypeVar("T")

TICK_S: Final = 10.0  # for one engine
_LISTINGS: Final = frozenset({Operation.LIST, Operation.SCAN})
_WRITES: Final = frozenset({Operation.CREATE, Operation.UPDATE, Operation.PATCH})


class Core:
    """
    The logical server of one node: everything between the API and the barrier.

    Args:
        engine_types: returns the rows of all engines, given what the server's own may use.
        ttl: the lifetimes of mounts that are not tuned.

    Raises:
        ConfigError: two engines have the same name.
    """

    def __init__(
        self,
        barrier: Barrier,
        *,
        engine_types: Callable[[Services], Sequence[EngineType]],
        ttl: TTLs = SYSTEM_TTLS,
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
        self._mounts = MountStore(barrier, now=now, random_bytes=random_bytes, ttl=ttl)
        services = Services(
            barrier=barrier,
            tokens=self._tokens,
            policies=self._policies,
            mounts=self._mounts,
            hooks=sys_hooks,
            ttl=ttl,
        )
        self._mounts.types = EngineTypes(engine_types(services))

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
        await self._mounts.ensure_fresh()
        mounts = {mount.entry.uuid for mount in self._mounts.mounts()}
        return await self._tokens.sweep(mounts=mounts)

    async def tick(self) -> None:
        """
        Let every engine do what time brings; for a background task of active duty.

        An engine that takes too long is cut short, and one that fails holds up no other.

        Raises:
            FencedWrite: the tenure is over, as the store knows.
        """
        await self._mounts.ensure_fresh()
        for mount in self._mounts.mounts():
            await self._tick(mount)

    async def _tick(self, mount: Mount) -> None:
        path = mount.entry.full_path
        if self._mounts.find(mount.entry.uuid) is not mount:
            return  # it was disabled or tuned meanwhile
        try:
            self._mounts.use(mount)
        except InvalidRequest:
            return  # its data is moving
        try:
            with trio.move_on_after(TICK_S) as limit:
                await mount.engine.tick()
            if limit.cancelled_caught:
                log.warning("tick cut short: mount=%s after_s=%g", path, TICK_S)
        except FencedWrite:
            raise
        except ReadOnly:
            log.debug("tick waits: active duty is ending")
        except StorageError as exc:
            log.warning("tick failed: mount=%s cause=%r", path, str(exc))
        except Exception as exc:
            # A fault of one engine ends neither active duty nor the ticks of the others.
            log.error("tick failed: mount=%s error=%s", path, type_and_place(exc))
        finally:
            self._mounts.end_use(mount)

    async def run_background(self) -> None:
        """Run what the kinds of engines have to do for as long as active duty lasts."""
        async with trio.open_nursery() as nursery:
            for row in self._mounts.types:
                if row.background is not None:
                    nursery.start_soon(row.background)

    # --- requests ---------------------------------------------------------------------------

    async def handle(self, request: Request) -> Response:
        """
        Carry out one logical request.

        Raises:
            RequestError: the client's fault, with OpenBao's text.
            StorageError: as the store said; ``outcome`` says whether a write may have landed.
        """
        if self._mounts.is_stale:
            await self._mounts.ensure_fresh()
        request = _normalised(request)
        match = self._mounts.match(request.path)
        if match is not None and _is_listed(
            match.relative_path, match.target.engine.unauthenticated_paths
        ):
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
            response = await match.target.engine.handle(inner)
        finally:
            self._mounts.end_use(match.target)
        if response.login is not None:
            response.auth = await self._log_in(match.target, request, response.login, response)
        response.mount_type = response.mount_type or match.target.entry.type
        return response

    async def _log_in(
        self, mount: Mount, request: Request, login: Login, response: Response
    ) -> Auth:
        """Make the token of a client that an auth method has recognised."""
        if mount.entry.table != Table.AUTH:
            raise TypeError(f"{mount.entry.type} is a secret engine: it logs nobody in")
        grant = new_login_template(
            login, mount.entry, path=request.path, ttl=mount.context.ttl, now=self._now()
        )
        token, entry = await self._tokens.create(grant.entry, ttl_s=grant.ttl_s)
        if self._mounts.find(mount.entry.uuid) is None:
            # Disabled meanwhile: whoever ended its tokens may not have seen this one.
            await self._tokens.revoke(entry.id)
            raise PermissionDenied
        response.warnings += grant.warnings
        return describe_auth(entry, token=token, ttl_s=grant.ttl_s)

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
                raise PermissionDenied(error_list("permission denied"))
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


def _normalised(request: Request) -> Request:
    # Whoever asks for a wrapped answer must not get the secret itself.
    if request.wrap_ttl_s:
        raise InvalidRequest("response wrapping is not supported by this server")
    path = request.path
    if request.operation in _LISTINGS and not path.endswith("/"):
        return replace(request, path=path + "/")
    if request.operation in _WRITES and path.endswith("/"):
        raise InvalidRequest("cannot write to a path ending in '/'")
    return request


def _is_listed(path: str, patterns: Sequence[str]) -> bool:
    for pattern in patterns:
        if path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern:
            return True
    return False


async def _resolve_create(match: Match[Mount] | None, request: Request, caller: Caller) -> Request:
    """Return the request as a CREATE where it is one and the difference matters."""
    if match is None or request.operation is not Operation.UPDATE:
        return request
    engine = match.target.engine
    if not engine.needs_create:
        # The same rule decides about both, so its restrictions make no difference.
        create, _ = caller.acl.decide_path(Operation.CREATE.value, request.path)
        update, _ = caller.acl.decide_path(Operation.UPDATE.value, request.path)
        if create.allowed is update.allowed:
            return request
    inner = replace(request, path=match.relative_path, mount_path=match.mount_path)
    if await engine.exists(inner) is False:
        return replace(request, operation=Operation.CREATE)
    return request


async def _authorise(match: Match[Mount] | None, request: Request, caller: Caller) -> None:
    decision, rule = caller.acl.decide_path(request.operation.value, request.path)
    needs_sudo = match is not None and _is_listed(
        match.relative_path, match.target.engine.sudo_paths
    )
    if (
        not decision.allowed
        or (needs_sudo and not decision.sudo)
        or (rule is not None and not await keeps_to(rule, request.data))
    ):
        raise PermissionDenied(error_list("permission denied"))
