"""
What a standby says of the active node when the channel does not come up: clients are sent elsewhere
only for reasons that load cannot make.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from baoha.cluster.dial_attempts import WHOLE_ATTEMPTS
from baoha.cluster.standby_link import StandbyLink
from baoha.core.view import LinkState
from baoha.timing import HATiming
from tests.support.channel import ACTIVE_PORT, RecordingStandby, advertise, open_channel
from tests.support.memory_network import MemoryHub

TIMING = HATiming()


class StateLog(RecordingStandby):
    """Remembers each state of its link, and when it came."""

    def watch(self, link: StandbyLink) -> None:
        self.link = link
        self.states: list[tuple[float, LinkState]] = []

    def link_changed(self) -> None:
        self.states.append((trio.current_time(), self.link.state))
        super().link_changed()

    def failed_after_s(self) -> float | None:
        """Return when FAILED was said first, None if never."""
        times = [at for at, state in self.states if state is LinkState.FAILED]
        return times[0] if times else None


Handler = Callable[[trio.abc.Stream], Awaitable[None]]


async def silent(stream: trio.abc.Stream) -> None:
    """A process that accepts and does nothing: frozen, or without CPU time."""
    await trio.sleep_forever()


async def hang_up(stream: trio.abc.Stream) -> None:
    """A process that ends every connection."""
    await trio.aclose_forcefully(stream)


async def watch_link(handler: Handler | None, limit_s: float, *, blocked: bool = False) -> StateLog:
    """Dial a port that behaves as ``handler`` for so long; None: nobody listens."""
    hub = MemoryHub()
    log = StateLog()
    hub.network("active")
    link = StandbyLink(hub.network("standby"), advertise(), log, timing=TIMING, jitter=lambda: 0.5)
    log.watch(link)
    if blocked:
        hub.block("standby", "active")
    async with trio.open_nursery() as nursery:
        if handler is not None:
            await nursery.start(hub.network("active").serve, handler, "active", ACTIVE_PORT)
        nursery.start_soon(link.run)
        await trio.sleep(limit_s)
        nursery.cancel_scope.cancel()
    return log


async def test_port_that_refuses_is_unreachable_at_once(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    assert (await watch_link(None, 1)).failed_after_s() == began


@pytest.mark.parametrize(
    ("handler", "blocked", "least_s", "most_s"),
    [
        # Several attempts that end at once still last longer than one handshake.
        (hang_up, False, TIMING.handshake_s, 2 * TIMING.handshake_s),
        # The kernel does not even connect: that is no matter of CPU time.
        (hang_up, True, WHOLE_ATTEMPTS * TIMING.handshake_s, 4 * TIMING.handshake_s),
        # Connected and silent: the last one had twice as long as the first.
        (silent, False, (1 + 1 + 2) * TIMING.handshake_s, 5 * TIMING.handshake_s),
    ],
)
async def test_port_that_gives_nothing_is_unreachable_after_several_whole_attempts(
    autojump_clock: MockClock, handler: Handler, blocked: bool, least_s: float, most_s: float
) -> None:
    began = trio.current_time()
    failed_at = (await watch_link(handler, 60, blocked=blocked)).failed_after_s()
    assert failed_at is not None
    assert least_s <= failed_at - began <= most_s


@pytest.mark.parametrize("latency_s", [0.0, 0.3, 0.7, 0.9])
async def test_slow_handshake_is_waited_for_and_never_called_unreachable(
    autojump_clock: MockClock, latency_s: float
) -> None:
    log = StateLog()
    async with open_channel(
        hub=MemoryHub(latency_s=latency_s), standby=log, wait_up=False
    ) as channel:
        log.watch(channel.link)
        await channel.wait_state(LinkState.UP)
        await trio.sleep(60)
        assert channel.link.state is LinkState.UP
    assert log.failed_after_s() is None


async def test_process_that_does_not_run_during_its_handshakes_blames_nobody(
    autojump_clock: MockClock,
) -> None:
    """
    Goal: own delay is no verdict about the peer.

    Method: the clock leaps over whole handshakes, several times, as for a process without CPU time.
    """
    log = StateLog()
    async with open_channel(hub=MemoryHub(latency_s=0.2), standby=log, wait_up=False) as channel:
        log.watch(channel.link)
        for _ in range(2 * WHOLE_ATTEMPTS):
            await trio.sleep(0.25)
            autojump_clock.jump(7.0)
        await channel.wait_state(LinkState.UP)
    assert log.failed_after_s() is None


async def test_echoes_that_come_late_stretch_what_counts_as_silence(
    autojump_clock: MockClock,
) -> None:
    """
    Goal: a peer that was slow for a while is given more time before it is suspect.

    Method: every echo takes 1.6 s, which is learned; then the way is blocked.
    """
    log = StateLog()
    async with open_channel(hub=MemoryHub(latency_s=0.8), standby=log, wait_up=False) as channel:
        log.watch(channel.link)
        await channel.wait_state(LinkState.UP)
        await trio.sleep(60)
        channel.hub.isolate("active")
        began = trio.current_time()
        await channel.wait_state(LinkState.SUSPECT)
        assert trio.current_time() - began > TIMING.heartbeat_timeout_s + 1.0 - TIMING.heartbeat_s
    states = [state for _, state in log.states]
    assert all(one is not other for one, other in itertools.pairwise(states))
