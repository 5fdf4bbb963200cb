"""
The standby's channels: the one in use, and those that only finish what they had begun.

Rule of this file: a channel to a node that leaves as planned is not cut while a reply may still
come over it, for ``linger_limit_s`` at most: the request behind it may have been executed. A
channel to a node that is dead, or that is silent when its lock has run out, is cut at once: its
replies are worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from baoha.cluster.channel import StandbyHandler
from baoha.cluster.network import Network
from baoha.cluster.standby_link import StandbyLink
from baoha.core.view import LinkState
from baoha.errors import CannotForward
from baoha.sansio.advertisement import Advertisement
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.timing import HATiming

LINGER_S = 1.0
STALL_S = 0.5  # a time limit that is noticed so late tells that this process did not run


def linger_limit_s(timing: HATiming) -> float:
    """
    Return how long a channel may finish what is under way: a step-down is answered when the
    successor has taken the lock up, or has let it lapse.
    """
    return timing.handover_ttl_s + LINGER_S


class LinkKeeper:
    """
    Follows the active node.

    Attributes:
        current: the channel to it, or None.
        followed: the advertisement that was last turned to; None: none.
    """

    def __init__(self, network: Network, *, timing: HATiming, jitter: Callable[[], float]) -> None:
        self._network = network
        self._timing = timing
        self._jitter = jitter
        self._nursery: trio.Nursery | None = None
        self.current: StandbyLink | None = None
        self.followed: Advertisement | None = None
        self._retirement = _Retirement()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Keep the channels' tasks, until cancelled.

        Owns: every channel, current and retiring.
        """
        async with trio.open_nursery() as nursery:
            # Channels are started from synchronous code (a notice has come, a record was read),
            # so the keeper needs its own nursery at hand.
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
                self.current = None

    def follow(
        self,
        advertisement: Advertisement | None,
        handler: StandbyHandler,
        *,
        linger_s: float | None = None,
    ) -> None:
        """
        Turn to another active node (or to none); the former channel retires. Never waits.

        Args:
            linger_s: how long the former channel may finish what is under way; None: the limit.
        """
        self._retirement.begin(linger_limit_s(self._timing) if linger_s is None else linger_s)
        self._retirement = _Retirement()
        self.followed = advertisement
        self.current = None
        if advertisement is None or self._nursery is None:
            return
        link = StandbyLink(
            self._network, advertisement, handler, timing=self._timing, jitter=self._jitter
        )
        self.current = link
        self._nursery.start_soon(_run_link, link, self._retirement)

    @property
    def state(self) -> LinkState:
        """The state of the current channel; one whose task has not begun yet is connecting."""
        if self.current is None:
            return LinkState.NONE
        state = self.current.state
        return LinkState.CONNECTING if state is LinkState.NONE else state

    async def forward(self, request: HTTPRequest) -> HTTPResponse:
        """
        Send a request over the current channel.

        Raises:
            CannotForward: nothing was executed.
            ForwardingInterrupted: sent, and no reply came.
        """
        if self.current is None:
            raise CannotForward("no active node is known")
        return await self.current.forward(request)


class _Retirement:
    """The end of one channel's use: when, and how long it may finish what is under way."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.linger_s = 0.0

    def begin(self, linger_s: float) -> None:
        self.linger_s = linger_s
        self.begun.set()


async def _run_link(link: StandbyLink, retirement: _Retirement) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await retirement.begun.wait()
        with trio.move_on_after(retirement.linger_s) as limit:
            await link.wait_idle()
        if retirement.linger_s and trio.current_time() - limit.deadline > STALL_S:
            # This process was stopped meanwhile, and the replies may be here: listen first.
            with trio.move_on_after(STALL_S):
                await link.wait_idle()
        nursery.cancel_scope.cancel()
