"""Forwarding over the cluster channel: what arrives, what is bounded, and what errors promise."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from baoha.core.view import LinkState
from baoha.errors import (
    CannotForward,
    ForwardingError,
    ForwardingInterrupted,
    InvalidRequest,
    LeadershipLost,
    NotActive,
    PayloadTooLarge,
)
from baoha.sansio.wire.frames import ChannelLimits
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from tests.support.channel import RecordingActive, echo, open_channel, request, wait_until


async def test_forward_small_request_arrives_whole_and_is_answered(
    autojump_clock: MockClock,
) -> None:
    seen: list[HTTPRequest] = []

    async def answer(received: HTTPRequest) -> HTTPResponse:
        seen.append(received)
        return HTTPResponse(status=418, headers=(("a", "b"), ("a", "c")), body=b"\x00\xff")

    async with open_channel(active=RecordingActive(answer)) as channel:
        sent = request(body=b"hello", method="POST")
        response = await channel.link.forward(sent)
    assert seen == [sent]
    assert response == HTTPResponse(status=418, headers=(("a", "b"), ("a", "c")), body=b"\x00\xff")
    assert channel.hub.streams() == 0
    assert channel.problems == []


async def test_forward_ten_thousand_at_once_each_gets_its_own_answer_within_the_bound(
    autojump_clock: MockClock,
) -> None:
    most_running = 0
    active = RecordingActive()

    async def answer(received: HTTPRequest) -> HTTPResponse:
        nonlocal most_running
        most_running = max(most_running, active.running)
        await trio.sleep(0.001)
        return await echo(received)

    active.answer = answer
    limits = ChannelLimits(in_flight_max=300)
    answered = 0

    async with open_channel(active=active, limits=limits) as channel:

        async def call(number: int) -> None:
            nonlocal answered
            response = await channel.link.forward(request(f"/v1/{number}", b"%d" % number))
            assert response.header("x-path") == f"/v1/{number}"
            assert response.body == b"%d" % number
            answered += 1

        async with trio.open_nursery() as nursery:
            for number in range(10_000):
                nursery.start_soon(call, number)
        assert channel.link.in_flight == 0
    assert answered == len(active.called) == 10_000
    assert most_running == 300


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 131_072, 3_000_001])
async def test_forward_body_around_the_chunk_size_arrives_both_ways(
    autojump_clock: MockClock, size: int
) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    async with open_channel() as channel:
        response = await channel.link.forward(request(body=body, method="PUT"))
    assert response.body == body


async def test_forward_large_bodies_both_ways_small_requests_overtake_them(
    autojump_clock: MockClock,
) -> None:
    done: list[str] = []
    async with open_channel() as channel:

        async def large() -> None:
            body = b"x" * 16_000_000
            response = await channel.link.forward(request("/large", body))
            assert response.body == body
            done.append("large")

        async def small() -> None:
            # The large one is on its way when these start; no time passes while it is.
            while not channel.link.in_flight:
                await trio.lowlevel.checkpoint()
            for _ in range(20):
                await channel.link.forward(request("/small"))
            done.append("small")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(large)
            nursery.start_soon(small)
    assert done == ["small", "large"]


async def test_forward_bodies_above_the_budget_wait_for_each_other_and_all_arrive(
    autojump_clock: MockClock,
) -> None:
    limits = ChannelLimits(in_flight_bytes_max=500_000)
    async with open_channel(limits=limits) as channel:
        results: list[int] = []

        async def call(size: int) -> None:
            response = await channel.link.forward(request(body=b"y" * size))
            results.append(len(response.body))

        async with trio.open_nursery() as nursery:
            for size in (400_000, 2_000_000, 300_000, 450_000, 100_000):
                nursery.start_soon(call, size)
    assert sorted(results) == [100_000, 300_000, 400_000, 450_000, 2_000_000]


async def test_forward_message_over_the_limit_is_too_large_and_the_link_stays_up(
    autojump_clock: MockClock,
) -> None:
    limits = ChannelLimits(body_bytes_max=100_000, head_bytes_max=2_000)
    async with open_channel(limits=limits) as channel:
        with pytest.raises(PayloadTooLarge, match="message body of 100001 bytes is above"):
            await channel.link.forward(request(body=b"z" * 100_001))
        with pytest.raises(PayloadTooLarge, match=r"message head of \d+ bytes is above"):
            await channel.link.forward(request("/" + "p" * 2_000))
        assert (await channel.link.forward(request(body=b"z" * 100_000))).status == 200
    assert len(channel.active.called) == 1


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(("size", "status"), [(99_999, 200), (100_000, 200), (100_001, 500)])
async def test_forward_answer_around_the_limit_is_definite_and_the_link_stays_up(
    size: int, status: int, method: str, autojump_clock: MockClock
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        return HTTPResponse(status=200, body=b"r" * (size if received.path == "/big" else 5))

    limits = ChannelLimits(body_bytes_max=100_000)
    active = RecordingActive(answer)
    async with open_channel(active=active, limits=limits) as channel:
        response = await channel.link.forward(request("/big", method=method))
        assert response.status == status
        if status == 500:
            (text,) = json.loads(response.body)["errors"]
            assert text == (
                "the request was executed, but its answer cannot be sent: message body of 100001 "
                "bytes is above the cluster channel's limit of 100000 bytes"
            )
        assert (await channel.link.forward(request("/small"))).body == b"rrrrr"
    assert active.called == ["/big", "/small"]


@pytest.mark.parametrize("name", ["a" * 3_000, "\ud800"], ids=["large head", "not encodable"])
async def test_forward_answer_whose_head_cannot_be_sent_is_definite(
    name: str, autojump_clock: MockClock
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        return HTTPResponse(status=200, headers=((name, "b"),))

    active = RecordingActive(answer)
    async with open_channel(active=active, limits=ChannelLimits(head_bytes_max=2_000)) as channel:
        assert (await channel.link.forward(request())).status == 500
    assert len(active.called) == 1


@pytest.mark.parametrize("size", [100_000, 300_000, 2_000_000])
async def test_forward_small_requests_pass_large_ones_that_wait_for_room(
    size: int, autojump_clock: MockClock
) -> None:
    released = trio.Event()

    async def answer(received: HTTPRequest) -> HTTPResponse:
        if received.path == "/large":
            await released.wait()
        return await echo(received)

    active = RecordingActive(answer)
    limits = ChannelLimits(in_flight_bytes_max=1_000_000)
    async with open_channel(active=active, limits=limits) as channel:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(channel.link.forward, request("/large", b"x" * size))
            await wait_until(lambda: "/large" in active.called)
            with trio.fail_after(1):
                for _ in range(50):
                    await channel.link.forward(request("/small"))
            assert active.called.count("/large") < 20
            released.set()
    assert active.called.count("/large") == 20


async def test_forward_small_answers_pass_large_ones_that_wait_for_room(
    autojump_clock: MockClock,
) -> None:
    """The budget for answers is the standby's: large ones that wait for it hold up no others."""

    async def answer(received: HTTPRequest) -> HTTPResponse:
        return HTTPResponse(status=200, body=b"x" * int(received.path[1:]))

    done: list[int] = []
    limits = ChannelLimits(in_flight_bytes_max=20_000_000)

    async with open_channel(active=RecordingActive(answer), limits=limits) as channel:

        async def call(size: int) -> None:
            await channel.link.forward(request(f"/{size}"))
            done.append(size)

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(call, 14_000_000)
            while len(channel.active.called) < 2:
                await trio.lowlevel.checkpoint()
            for _ in range(10):
                nursery.start_soon(call, 70_000)
                nursery.start_soon(call, 10)
    assert max(index for index, size in enumerate(done) if size <= 70_000) < len(done) - 1


async def test_forward_text_that_cannot_be_encoded_cannot_forward(
    autojump_clock: MockClock,
) -> None:
    async with open_channel() as channel:
        with pytest.raises(CannotForward):
            await channel.link.forward(request("/\udc80"))
    assert channel.active.called == []


async def test_forward_active_node_busy_was_not_executed(autojump_clock: MockClock) -> None:
    """A caller that left frees its place on the standby before the active node has noticed."""
    release = trio.Event()

    async def answer(received: HTTPRequest) -> HTTPResponse:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
            await release.wait()
        return HTTPResponse(status=200)

    limits = ChannelLimits(in_flight_max=2)
    async with open_channel(active=RecordingActive(answer), limits=limits) as channel:
        for _ in range(2):
            with trio.move_on_after(0.01):
                await channel.link.forward(request("/stubborn"))
        with pytest.raises(CannotForward, match="busy"):
            await channel.link.forward(request("/refused"))
        release.set()
        await wait_until(lambda: channel.active.running == 0)
        assert (await channel.link.forward(request("/late"))).status == 200
    assert channel.active.called == ["/stubborn", "/stubborn", "/late"]


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (NotActive("stepping down"), CannotForward, "stepping down"),
        (LeadershipLost("fenced"), ForwardingInterrupted, "fenced"),
    ],
)
async def test_forward_handler_raises_ha_error_outcome_is_kept(
    autojump_clock: MockClock, error: Exception, expected: type[ForwardingError], text: str
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        raise error

    async with open_channel(active=RecordingActive(answer)) as channel:
        with pytest.raises(expected, match=text):
            await channel.link.forward(request())
        assert channel.link.state is LinkState.UP


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("canary-secret"), "is unknown"),
        (InvalidRequest("canary-secret"), "took no effect"),
    ],
)
async def test_forward_handler_fails_answers_500_with_outcome_and_nothing_else_ends(
    autojump_clock: MockClock, error: Exception, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        if received.path == "/bad":
            raise error
        return HTTPResponse(status=200)

    async with open_channel(active=RecordingActive(answer)) as channel:
        response = await channel.link.forward(request("/bad"))
        assert response.status == 500
        (message,) = json.loads(response.body)["errors"]
        assert text in message
        assert "canary-secret" not in message
        assert (await channel.link.forward(request("/good"))).status == 200
    assert "forwarded request failed" in caplog.text
    assert "canary-token" not in caplog.text


async def test_forward_caller_leaves_active_node_stops_working_on_it(
    autojump_clock: MockClock,
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        await trio.sleep_forever()
        raise AssertionError

    async with open_channel(active=RecordingActive(answer)) as channel:
        with trio.move_on_after(1) as scope:
            await channel.link.forward(request())
        assert scope.cancelled_caught
        assert channel.link.in_flight == 0
        with trio.fail_after(1):
            await wait_until(lambda: channel.active.running == 0)
        assert channel.link.state is LinkState.UP


async def test_forward_caller_leaves_during_upload_and_download_link_stays_usable(
    autojump_clock: MockClock,
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        return HTTPResponse(status=200, body=b"d" * 8_000_000)

    async with open_channel(active=RecordingActive(answer)) as channel:
        for pause_steps in range(1, 60):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(
                        channel.link.forward, request(body=b"u" * 2_000_000, method="PUT")
                    )
                    for _ in range(pause_steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        assert channel.link.in_flight == 0
        assert len((await channel.link.forward(request())).body) == 8_000_000
        with trio.fail_after(5):
            await wait_until(lambda: channel.active.running == 0)


async def test_listener_stops_answers_leave_and_the_rest_gets_the_right_error(
    autojump_clock: MockClock,
) -> None:
    """
    Goal: a planned end of duty loses no answer and lies about no outcome.

    Method: one large answer is under way, one request is running, one is half uploaded (it waits
    for credit that never comes) when the listener is cancelled.
    """
    never = trio.Event()
    answered = trio.Event()

    async def answer(received: HTTPRequest) -> HTTPResponse:
        if received.path == "/done":
            answered.set()
            return HTTPResponse(status=200, body=b"a" * 5_000_000)
        await never.wait()
        raise AssertionError

    limits = ChannelLimits(in_flight_bytes_max=700_000)
    outcomes: dict[str, str] = {}
    async with open_channel(active=RecordingActive(answer), active_limits=limits) as channel:

        async def call(path: str, size: int = 0) -> None:
            try:
                response = await channel.link.forward(request(path, b"b" * size))
            except ForwardingError as exc:
                outcomes[path] = type(exc).__name__
            else:
                outcomes[path] = f"{len(response.body)}"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "/running", 600_000)
            await wait_until(lambda: channel.active.running == 1)
            # Does not fit into the active node's budget beside the first.
            nursery.start_soon(call, "/waiting", 300_000)
            nursery.start_soon(call, "/done")
            await answered.wait()
            channel.stop_listener.cancel()
    assert outcomes == {
        "/running": "ForwardingInterrupted",
        "/waiting": "CannotForward",
        "/done": "5000000",
    }
    assert "/waiting" not in channel.active.called
    assert channel.active.gone == 1
    assert channel.link.broken_at is None


async def test_listener_stops_peer_does_not_read_ends_within_cleanup(
    autojump_clock: MockClock,
) -> None:
    async with open_channel() as channel:
        channel.hub.isolate("active")
        await trio.sleep(0.1)
        channel.stop_listener.cancel()
        started = trio.current_time()
        await wait_until(lambda: not channel.active.peers, pause_s=0.01)
        await wait_until(lambda: channel.hub.streams() == 1, pause_s=0.01)
        assert trio.current_time() - started == pytest.approx(2.0, abs=0.1)


async def test_link_stopped_pending_requests_end_at_once_with_the_right_error(
    autojump_clock: MockClock,
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        await trio.sleep_forever()
        raise AssertionError

    limits = ChannelLimits(in_flight_max=2)
    outcomes: dict[str, str] = {}
    async with open_channel(active=RecordingActive(answer), limits=limits) as channel:

        async def call(path: str, size: int) -> None:
            with pytest.raises(ForwardingError) as caught:
                await channel.link.forward(request(path, b"c" * size))
            outcomes[path] = type(caught.value).__name__

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "/running", 10)
            await wait_until(lambda: channel.active.running == 1)
            channel.hub.block("standby", "active")
            nursery.start_soon(call, "/stuck", 4_000_000)
            await trio.sleep(0.1)
            nursery.start_soon(call, "/in line", 10)
            await trio.sleep(0.1)
            stopped_at = trio.current_time()
            channel.stop_link.cancel()
        assert trio.current_time() == stopped_at
        await channel.wait_state(LinkState.NONE)
        with pytest.raises(CannotForward):
            await channel.link.forward(request())
    assert outcomes == {
        "/running": "ForwardingInterrupted",
        "/stuck": "CannotForward",
        "/in line": "CannotForward",
    }
    assert channel.active.called == ["/running"]


async def test_forward_cancelled_at_every_step_leaks_nothing(autojump_clock: MockClock) -> None:
    """Cancel everywhere: at scheduling step 1, 2, ... until a forward finishes untouched."""

    class CancelAt(trio.abc.Instrument):
        def __init__(self, scope: trio.CancelScope, steps: int) -> None:
            self._scope = scope
            self._steps = steps

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self._steps -= 1
            if self._steps == 0:
                self._scope.cancel()

    untouched = 0
    cancelled = 0
    async with open_channel(limits=ChannelLimits(in_flight_max=2)) as channel:
        for step in range(1, 500):
            with trio.CancelScope() as scope:
                instrument = CancelAt(scope, step)
                trio.lowlevel.add_instrument(instrument)
                try:
                    response = await channel.link.forward(request(body=b"e" * 100_000))
                    assert len(response.body) == 100_000
                    untouched += 1
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            cancelled += scope.cancelled_caught
            assert channel.link.in_flight == 0
            if untouched == 5:
                break
        with trio.fail_after(5):
            await wait_until(lambda: channel.active.running == 0)
            assert len((await channel.link.forward(request(body=b"f" * 100_000))).body) == 100_000
        assert channel.link.state is LinkState.UP
    assert cancelled > 10
    assert untouched == 5
