"""The standby's link on a virtual clock: states, heartbeats, re-dialling, notices, hand-over."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from baoha.cluster.channel import LeaderNotice, PrepareReply
from baoha.cluster.standby_link import StandbyLink
from baoha.core.view import LinkState
from baoha.errors import CannotForward, ForwardingError, StorageUnavailable
from baoha.sansio.advertisement import Advertisement
from baoha.sansio.wire.frames import ChannelLimits
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.timing import HATiming
from tests.support.channel import (
    RecordingActive,
    RecordingStandby,
    advertise,
    node_info,
    open_channel,
    request,
    wait_until,
)
from tests.support.memory_network import MemoryHub


async def test_link_starts_and_stops_states_in_order(autojump_clock: MockClock) -> None:
    async with open_channel(wait_up=False) as channel:
        assert channel.link.state is LinkState.NONE
        with pytest.raises(CannotForward, match="no connection to the active node: dialling"):
            await channel.link.forward(request())
        await channel.wait_state(LinkState.CONNECTING)
        await channel.wait_state(LinkState.UP)
        assert channel.link.last_error == ""
        assert [peer.info for peer in channel.active.peers] == [node_info()]
        channel.stop_link.cancel()
        await channel.wait_state(LinkState.NONE)
        await wait_until(lambda: not channel.active.peers)
    assert channel.hub.streams() == 0


async def test_heartbeats_idle_for_a_minute_link_stays_up_and_peer_is_fresh(
    autojump_clock: MockClock,
) -> None:
    async with open_channel() as channel:
        (peer,) = channel.active.peers
        for _ in range(60):
            await trio.sleep(1)
            assert channel.link.state is LinkState.UP
            assert peer.echoed_s_ago <= 1.001
        channel.standby.name = "renamed"
        await trio.sleep(1.1)
        assert peer.info.node_id == "renamed"
        assert channel.active.peers == [peer]


async def test_active_node_silent_link_is_suspect_then_up_again(autojump_clock: MockClock) -> None:
    async with open_channel() as channel:
        await trio.sleep(1.05)
        silent_since = trio.current_time()
        channel.hub.block("active", "standby")
        await channel.wait_state(LinkState.SUSPECT)
        # Silence counts from the last echo, which came shortly before.
        assert 2.4 <= trio.current_time() - silent_since <= 2.5
        with pytest.raises(CannotForward, match="silent"):
            await channel.link.forward(request())
        assert channel.active.called == []
        channel.hub.heal()
        await channel.wait_state(LinkState.UP)
        assert (await channel.link.forward(request())).status == 200
        assert channel.link.broken_at is None
        assert len(channel.active.peers) == 1


async def test_active_node_silent_for_long_connection_is_given_up_and_dialled_again(
    autojump_clock: MockClock,
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        await trio.sleep_forever()
        raise AssertionError

    async with open_channel(active=RecordingActive(answer)) as channel:
        errors: list[str] = []

        async def call() -> None:
            with pytest.raises(ForwardingError) as caught:
                await channel.link.forward(request())
            errors.append(f"{type(caught.value).__name__}: {caught.value}")

        channel.nursery.start_soon(call)
        await wait_until(lambda: channel.active.running == 1)
        started = trio.current_time()
        channel.hub.isolate("active")
        await channel.wait_state(LinkState.CONNECTING)
        assert trio.current_time() - started == pytest.approx(5, abs=1.1)
        await wait_until(lambda: bool(errors))
        assert errors == [
            "ForwardingInterrupted: no answer came: the active node was silent for 5 s"
        ]
        await channel.wait_state(LinkState.FAILED)
        assert channel.link.last_error == "connecting timed out after 3 s"
        assert channel.link.refused_at is None
        # The active node lets its end go, too: later, for it may be the standby that is slow.
        await trio.sleep(10)
        assert channel.active.running == 0
        assert channel.active.peers == []
        channel.hub.heal()
        await channel.wait_state(LinkState.UP)
        assert channel.link.last_error == ""


async def test_active_process_dies_is_seen_as_refused_at_once(autojump_clock: MockClock) -> None:
    async with open_channel() as channel:
        await trio.sleep(3)
        channel.hub.kill("active")
        died_at = trio.current_time()
        await channel.wait_state(LinkState.FAILED)
        assert trio.current_time() == died_at
        assert channel.link.broken_at == died_at
        assert channel.link.refused_at == died_at
        assert channel.link.last_error == "connection refused"


async def test_dialling_refused_pauses_grow_to_the_maximum(autojump_clock: MockClock) -> None:
    attempts: list[float] = []

    class RefusingNetwork:
        async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
            await trio.lowlevel.checkpoint()
            attempts.append(trio.current_time())
            raise ConnectionRefusedError(111, "Connection refused")

        serve = MemoryHub().network("unused").serve
        check = MemoryHub().network("unused").check

    link = StandbyLink(
        RefusingNetwork(),
        advertise(),
        RecordingStandby(),
        timing=HATiming(reconnect_s=0.05, reconnect_max_s=1.0),
        jitter=lambda: 1.0,
    )
    with trio.move_on_after(5):
        await link.run()
    pauses = [after - before for before, after in itertools.pairwise(attempts)]
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])


async def test_connection_lost_right_after_the_welcome_is_no_busy_loop(
    autojump_clock: MockClock,
) -> None:
    class Hasty(RecordingActive):
        def joined(self, peer: object) -> None:
            channel.hub.kill("active")
            channel.hub.revive("active")

        def left(self, peer: object) -> None:
            self.gone += 1

    async with open_channel(wait_up=False, active=Hasty()) as channel:
        await trio.sleep(10)
    assert channel.active.gone < 5


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"cluster_addr": ""}, "the active node has clustering switched off"),
        ({"cluster_addr": "https://active"}, "is not a URL with host and port"),
        ({"cluster_addr": "https://[::1"}, "is not a URL with host and port"),
        ({"key": None}, "no local cluster key params found"),
        ({"cluster_cert": b""}, "no local cluster cert found"),
        ({"cluster_cert": b"\x30\x00"}, "failed to parse local cluster certificate"),
        ({"cluster_addr": "https://nowhere:8201"}, "cannot resolve 'nowhere'"),
        ({"cluster_addr": "https://active:9"}, "connection refused"),
    ],
)
async def test_advertisement_unusable_link_fails_and_says_why(
    autojump_clock: MockClock, change: dict[str, object], cause: str
) -> None:
    hub = MemoryHub()
    hub.network("active")
    handler = RecordingStandby()
    advertisement: Advertisement = replace(advertise(), **change)  # type: ignore[arg-type]
    link = StandbyLink(hub.network("standby"), advertisement, handler, timing=HATiming())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await handler.wait_until(lambda: link.state is LinkState.FAILED)
        assert cause in link.last_error
        with pytest.raises(CannotForward, match="no connection to the active node"):
            await link.forward(request())
        nursery.cancel_scope.cancel()


async def test_notice_and_prepare_reach_the_standby_and_come_back(
    autojump_clock: MockClock,
) -> None:
    async with open_channel() as channel:
        (peer,) = channel.active.peers
        notice = LeaderNotice(phase="passed", successor="n2", epoch=7)
        peer.notify(notice)
        await channel.standby.wait_until(lambda: bool(channel.standby.notices))
        assert channel.standby.notices == [notice]
        assert await peer.prepare() == PrepareReply(ready=True)
        channel.standby.reply = PrepareReply(ready=False, reason="stopping")
        assert await peer.prepare() == PrepareReply(ready=False, reason="stopping")


async def test_prepare_twice_at_once_second_is_told_and_both_are_answered(
    autojump_clock: MockClock,
) -> None:
    async with open_channel() as channel:
        (peer,) = channel.active.peers
        channel.standby.prepare_gate = trio.Event()
        replies: list[PrepareReply] = []

        async def prepare() -> None:
            replies.append(await peer.prepare())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(prepare)
            nursery.start_soon(prepare)
            await wait_until(lambda: len(replies) == 1)
            channel.standby.prepare_gate.set()
        assert [reply.ready for reply in replies] == [False, True]
        assert replies[0].reason == "already preparing"
        assert channel.standby.prepared == 1


async def test_prepare_standby_store_fails_is_a_reply_not_a_broken_link(
    autojump_clock: MockClock,
) -> None:
    class Failing(RecordingStandby):
        async def prepare(self) -> PrepareReply:
            await trio.lowlevel.checkpoint()
            raise StorageUnavailable("store is silent")

    async with open_channel(standby=Failing()) as channel:
        (peer,) = channel.active.peers
        assert await peer.prepare() == PrepareReply(ready=False, reason="store is silent")
        assert channel.link.state is LinkState.UP


async def test_prepare_channel_breaks_raises_and_later_calls_too(
    autojump_clock: MockClock,
) -> None:
    async with open_channel() as channel:
        (peer,) = channel.active.peers
        channel.standby.prepare_gate = trio.Event()

        async def stop_link() -> None:
            await wait_until(lambda: channel.standby.prepared == 1)
            channel.stop_link.cancel()

        channel.nursery.start_soon(stop_link)
        with pytest.raises(ForwardingError):
            await peer.prepare()
        with pytest.raises(ForwardingError):
            await peer.prepare()
        peer.notify(LeaderNotice(phase="leaving"))


async def test_notice_queued_before_the_listener_stops_still_arrives(
    autojump_clock: MockClock,
) -> None:
    async with open_channel() as channel:
        (peer,) = channel.active.peers
        peer.notify(LeaderNotice(phase="passed", successor="standby", epoch=2))
        channel.stop_listener.cancel()
        await channel.standby.wait_until(lambda: bool(channel.standby.notices))
        await channel.wait_state(LinkState.CONNECTING, LinkState.FAILED)
        assert channel.standby.notices[0].successor == "standby"
        assert channel.link.broken_at is None
        await channel.wait_state(LinkState.FAILED)
        assert channel.link.refused_at is not None


async def test_notice_peer_does_not_read_is_dropped_without_an_error(
    autojump_clock: MockClock,
) -> None:
    limits = ChannelLimits(control_frames_max=50)
    async with open_channel(limits=limits) as channel:
        (peer,) = channel.active.peers
        channel.hub.isolate("standby")
        for number in range(20_000):
            peer.notify(LeaderNotice(phase="leaving", epoch=number))
        await trio.sleep(0.1)
        for number in range(20_000):
            peer.notify(LeaderNotice(phase="leaving", epoch=number))
        await trio.sleep(20)
        assert channel.active.peers == []


async def test_process_was_stopped_for_a_while_link_listens_before_it_judges(
    autojump_clock: MockClock,
) -> None:
    """A clock that leaps without this process running says nothing about the active node."""
    states: list[LinkState] = []
    async with open_channel() as channel:
        await trio.sleep(0.5)
        channel.standby.link_changed = lambda: states.append(  # type: ignore[method-assign]
            channel.link.state
        )
        autojump_clock.jump(7.0)
        await trio.sleep(5)
        assert states == []
        assert channel.link.state is LinkState.UP
