"""Following one active node after the other: what becomes of the former channel."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from baoha.core.view import LinkState
from baoha.errors import ForwardingInterrupted
from baoha.ha.links import LinkKeeper
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.timing import HATiming
from tests.support.channel import (
    RecordingActive,
    RecordingStandby,
    advertise,
    open_channel,
    request,
)


async def never(_request: HTTPRequest) -> HTTPResponse:
    await trio.sleep_forever()
    raise AssertionError


async def test_channel_to_a_dead_leader_is_cut_although_the_next_one_is_known_at_once(
    autojump_clock: object,
) -> None:
    """
    Goal: a request that waits for a dead node is not kept by the patience meant for a living one.

    Method: the leader is dropped without patience, and the next one is followed in the same moment.
    """
    async with open_channel(active=RecordingActive(answer=never)) as channel:
        standby = RecordingStandby()
        network = channel.hub.network("standby")
        keeper = LinkKeeper(network, timing=HATiming(), jitter=lambda: 0.5)
        await channel.nursery.start(keeper.run)
        keeper.follow(advertise(), standby)
        await standby.wait_until(lambda: keeper.state is LinkState.UP)
        async with trio.open_nursery() as nursery:
            began = trio.current_time()

            async def ask() -> None:
                with pytest.raises(ForwardingInterrupted):
                    await keeper.forward(request())
                assert trio.current_time() - began < 0.2

            nursery.start_soon(ask)
            await trio.sleep(0.05)
            keeper.follow(None, standby, linger_s=0.0)
            keeper.follow(advertise(host="next"), standby)


async def test_replies_that_came_while_this_process_was_stopped_are_read_before_the_end(
    autojump_clock: MockClock,
) -> None:
    """
    Goal: a standby that wakes up does not call unknown what it has been answered.

    Method: the channel retires, the clock leaps over its last moment, and the answer is there.
    """
    go_on = trio.Event()

    async def answer(received: HTTPRequest) -> HTTPResponse:
        await go_on.wait()
        return HTTPResponse(status=204)

    async with open_channel(active=RecordingActive(answer=answer)) as channel:
        standby = RecordingStandby()
        network = channel.hub.network("standby")
        keeper = LinkKeeper(network, timing=HATiming(), jitter=lambda: 0.5)
        await channel.nursery.start(keeper.run)
        keeper.follow(advertise(), standby)
        await standby.wait_until(lambda: keeper.state is LinkState.UP)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert (await keeper.forward(request())).status == 204

            nursery.start_soon(ask)
            await trio.sleep(0.05)
            keeper.follow(None, standby)
            await trio.sleep(0.05)
            go_on.set()
            autojump_clock.jump(4.0)
