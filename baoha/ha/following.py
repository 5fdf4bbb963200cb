"""
Following one leader: what it has advertised, and what is wrong between it and this node.

Rule of this file: a problem is told under one of ``SUBJECTS``, and none of them outlives the leader
that it is about.
"""

from __future__ import annotations

import logging

from baoha import names
from baoha.diagnostics.codes.addresses import TWO_NODES_ONE_ADDRESS
from baoha.diagnostics.codes.forwarding import FORWARDING_OFF
from baoha.errors import BarrierError
from baoha.ha.context import HAContext
from baoha.ha.readiness import refresh_keys
from baoha.sansio.advertisement import Advertisement, decode_advertisement

log = logging.getLogger("baoha.ha")

UNREACHABLE = "forwarding"
SAME_ADDRESS = "same address"
SUBJECTS = (UNREACHABLE, SAME_ADDRESS)


async def read_advertisement(ctx: HAContext, uuid: str) -> Advertisement | None:
    """
    Return what the tenure with this leader UUID advertises; None: nothing yet.

    Raises:
        KeysDoNotFit: this node has to be unsealed anew.
        StorageError: no answer, or what is there is no advertisement.
    """
    path = names.LEADER_PREFIX + uuid
    try:
        entry = await ctx.barrier.get(path)
    except BarrierError:
        # Written under a key that is newer than ours: another node has rotated meanwhile.
        await refresh_keys(ctx)
        entry = await ctx.barrier.get(path)
    return None if entry is None else decode_advertisement(entry)


def check_addresses(ctx: HAContext, leader: Advertisement) -> None:
    """Name two nodes that say they live at the same address."""
    own = ctx.facts
    sentence = ""
    if leader.redirect_addr == own.api_addr:
        sentence = f"the active node has the same api_addr as this node: {own.api_addr}"
    elif leader.cluster_addr and leader.cluster_addr == own.cluster_addr:
        sentence = f"the active node has the same cluster_addr as this node: {own.cluster_addr}"
    if not sentence:
        ctx.problems.clear(SAME_ADDRESS)
    elif ctx.problems.report(SAME_ADDRESS, TWO_NODES_ONE_ADDRESS, sentence):
        log.error("%s %s; give every node an address of its own", TWO_NODES_ONE_ADDRESS, sentence)


def report_unreachable(ctx: HAContext, cluster_addr: str, cause: str) -> None:
    """Say that the leader is alive and cannot be reached."""
    sentence = (
        "forwarding is off: cannot reach the active node's cluster address "
        f"{cluster_addr}: {cause}; clients are redirected"
    )
    if ctx.problems.report(UNREACHABLE, FORWARDING_OFF, sentence):
        log.error("%s %s", FORWARDING_OFF, sentence)


def became_reachable(ctx: HAContext) -> None:
    """Take back that the leader cannot be reached."""
    if ctx.problems.clear(UNREACHABLE):
        log.info("forwarding to the active node works again")


def forget_problems(ctx: HAContext) -> None:
    """Forget what was wrong with a former leader."""
    for subject in SUBJECTS:
        ctx.problems.clear(subject)
