"""
Could this standby lead? What an active node needs and a standby never uses is tried beforehand.

Rule of this file: it tries and tells, and changes nothing: an address is bound and let go without
ever listening, and the write that is asked of the store is one that the store refuses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from baoha.cluster.certificates import TenureIdentity, create_tenure_identity
from baoha.cluster.channel import PrepareReply
from baoha.diagnostics.codes.port import CANNOT_LISTEN
from baoha.errors import KeysDoNotFit, LockLost, StorageCorrupt, StorageError
from baoha.ha.context import HAContext
from baoha.sansio.ha_state import Phase
from baoha.storage.base import Fence

log = logging.getLogger("baoha.ha")

CHECK_INTERVAL_S = 5.0


def listen_subject(address: tuple[str, int]) -> str:
    """Return the name under which trouble with a cluster address is kept."""
    return f"listen {address}"


def listen_problem(address: tuple[str, int], error: OSError) -> str:
    """Return the sentence about a cluster address that cannot be bound (`CANNOT_LISTEN`)."""
    cause = error.strerror or error
    return f"cannot listen on cluster address {address[0]}:{address[1]}: {cause}"


async def refresh_keys(ctx: HAContext) -> None:
    """
    Read the keyring anew.

    Raises:
        KeysDoNotFit: the keys of this node do not lead to it: it has to be unsealed anew.
        StorageUnavailable: no answer.
    """
    try:
        await ctx.duties.reload_keyring()
    except StorageCorrupt as exc:
        raise KeysDoNotFit(str(exc)) from exc


class Readiness:
    """
    What is known of this node's fitness to lead.

    Args:
        is_listening: whether the listener of a former tenure of this node still has the address.
    """

    def __init__(self, ctx: HAContext, *, is_listening: Callable[[], bool]) -> None:
        self._ctx = ctx
        self._is_listening = is_listening
        self._port_problem = ""
        self._identity: TenureIdentity | None = None

    @property
    def is_able(self) -> bool:
        """Whether nothing is known that would keep this node from leading."""
        return not self._port_problem and not self._ctx.publisher.status.store_problem

    async def watch(self) -> None:
        """Look after the cluster address while this node stands by, until cancelled."""
        while True:
            if self._ctx.publisher.phase is Phase.STANDBY:
                await self.check_port()
            await trio.sleep(CHECK_INTERVAL_S)

    async def check_port(self) -> None:
        """Find out whether the cluster address could be bound."""
        ctx = self._ctx
        if not ctx.facts.cluster_addr or ctx.lock is None or self._is_listening():
            return
        unbound = []
        for address in ctx.cluster_listen:
            subject = listen_subject(address)
            try:
                await ctx.network.check(*address)
            except OSError as exc:
                sentence = listen_problem(address, exc)
                unbound.append(sentence)
                if ctx.publisher.phase is Phase.STANDBY and ctx.problems.report(
                    subject, CANNOT_LISTEN, sentence
                ):
                    log.error("%s %s; this node cannot take over", CANNOT_LISTEN, sentence)
            else:
                if ctx.publisher.phase is Phase.STANDBY and ctx.problems.clear(subject):
                    log.info("the cluster address is free: address=%s:%d", *address)
        # With one of several addresses it could be reached.
        all_unbound = bool(unbound) and len(unbound) == len(ctx.cluster_listen)
        self._port_problem = unbound[0] if all_unbound else ""

    async def prepare(self) -> PrepareReply:
        """Get ready to take over within milliseconds: keys, mounts, a fresh certificate."""
        ctx = self._ctx
        await self.check_port()
        if self._port_problem:
            return PrepareReply(ready=False, reason=CANNOT_LISTEN.sentence(self._port_problem))
        try:
            await self._ask_for_write()
            await refresh_keys(ctx)
            await ctx.duties.reload()
        except StorageError as exc:
            return PrepareReply(ready=False, reason=str(exc))
        self._identity = create_tenure_identity(ctx.clocks.now())
        return PrepareReply(ready=True)

    def take_identity(self) -> TenureIdentity:
        """Return a key and certificate that no other tenure has had."""
        identity, self._identity = self._identity, None
        return identity or create_tenure_identity(self._ctx.clocks.now())

    async def _ask_for_write(self) -> None:
        """
        Ask the store to write what it has to refuse: a renewal of a tenure that there never was.

        Raises:
            StorageUnavailable: it takes no writes of this node.
        """
        lock = self._ctx.lock
        if lock is None:
            return
        try:
            never = Fence(lock.key, self._ctx.facts.identity, 0)
            await lock.renew(never, ttl_s=self._ctx.timing.handover_ttl_s)
        except LockLost:
            return
