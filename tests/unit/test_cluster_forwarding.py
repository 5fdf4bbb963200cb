"""Forwarding over the cluster channel: what arrives, in which order, and what errors promise."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from baoha.errors import CannotForward, ForwardingInterrupted, LeadershipLost, NotActive
from baoha.sansio.messages import HTTPRequest, HTTPResponse
from tests.support.channel import RecordingActive, open_channel, request


async def test_forward_small_request_arrives_whole_and_is_answered(
    autojump_clock: trio.testing.MockClock,
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
