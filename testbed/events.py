"""
What is done to a cluster under load, and how long to wait until it is well again.

Rules of this file:

1. An event happens to the node that is active at that moment; what is measured is the others, and
   for a step-down all.
2. Every wait is bounded. A node that does not recover is a result: it is reported as one, and
   started again so that the next event finds a whole cluster.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from testbed.clusters import Cluster, LabError, RunningNode
from testbed.http import RequestFailed

# The load goes on for so long after the cluster answers again: late standbys show.
SETTLE_S = 2.0
RECOVERY_S = 45.0
FREEZE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """
    One event as it happened.

    Attributes:
        moment: right before it, on the clock of the records.
        end: when its aftermath was over.
        victim: index of the node it was done to.
        survivors: indexes of the nodes that have to go on answering.
        trouble: what did not go as it should; empty is good.
    """

    event: str
    moment: float
    end: float
    victim: int
    survivors: tuple[int, ...]
    trouble: str = ""


Act = Callable[[Cluster, RunningNode], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Event:
    """A kind of event."""

    name: str
    act: Act
    victim_survives: bool = False


async def step_down(cluster: Cluster, node: RunningNode) -> None:
    """Ask the active node to step down."""
    response = await cluster.step_down(node)
    if response.status != 204:
        raise LabError(f"step-down: {response.status} {response.body.decode(errors='replace')}")


async def terminate(cluster: Cluster, node: RunningNode) -> None:
    """SIGTERM; returns when the process has ended."""
    await node.terminate()


async def kill(cluster: Cluster, node: RunningNode) -> None:
    """SIGKILL."""
    node.send(signal.SIGKILL)
    await node.kill()


async def freeze(cluster: Cluster, node: RunningNode) -> None:
    """SIGSTOP, and SIGCONT after FREEZE_S."""
    node.freeze()
    try:
        await trio.sleep(FREEZE_S)
    finally:
        node.thaw()


EVENTS: Final = {
    event.name: event
    for event in (
        Event("step-down", step_down, victim_survives=True),
        Event("SIGTERM", terminate),
        Event("SIGKILL", kill),
        Event("SIGSTOP", freeze),
    )
}


async def happen(
    cluster: Cluster, event: Event, *, calm_s: float, settle_s: float = SETTLE_S
) -> Happening:
    """
    Let the event happen once; return when every node is back and answers.

    Args:
        calm_s: with load and nothing else, before the event.
        settle_s: the same after the cluster answers again, still part of the aftermath.

    Raises:
        LabError: a node that was started again does not come up.
    """
    victim = await cluster.wait_active()
    await trio.sleep(calm_s)
    moment = trio.current_time()
    trouble = ""
    try:
        await event.act(cluster, victim)
    except LabError as error:
        trouble = error.summary
    others = [node for node in cluster.nodes if node is not victim]
    survivors = cluster.nodes if event.victim_survives else others
    stuck = await _find_stuck(cluster, survivors)
    await trio.sleep(settle_s)
    end = trio.current_time()
    if stuck:
        names = ", ".join(node.name for node in stuck)
        trouble = f"{trouble} {names}: no write within {RECOVERY_S:g} s, restarted".strip()
    for node in stuck:
        await node.kill()
    for node in {victim, *stuck}:
        if not node.is_running:
            await cluster.start_node(node)
        await wait_writable(cluster, node)
    return Happening(
        event=event.name,
        moment=moment,
        end=end,
        victim=victim.index,
        survivors=tuple(node.index for node in survivors),
        trouble=trouble,
    )


async def _find_stuck(cluster: Cluster, nodes: Sequence[RunningNode]) -> list[RunningNode]:
    """Wait until every node writes; return those that do not within RECOVERY_S."""
    stuck: list[RunningNode] = []

    async def watch(node: RunningNode) -> None:
        try:
            await wait_writable(cluster, node)
        except LabError:
            stuck.append(node)

    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(watch, node)
    return stuck


async def wait_writable(cluster: Cluster, node: RunningNode) -> None:
    """
    Return when a write through this node succeeds.

    Raises:
        LabError: it does not, within RECOVERY_S.
    """
    status = "no answer"
    path = f"/v1/secret/data/probe/{node.name}"
    body = {"data": {"probe": node.name}}
    with trio.move_on_after(RECOVERY_S):
        while True:
            try:
                response = await node.call("PUT", path, body, token=cluster.root_token)
                status = response.outcome
            except RequestFailed as error:
                status = error.kind
            if status == "ok":
                return
            await trio.sleep(0.1)
    raise LabError(f"{node} does not write: {status}", node.log_tail())
