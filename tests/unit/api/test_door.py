"""The first look at a request: what it takes a request for, and what it leaves to the parser."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from baoha.api.admission import Admission, NotLetIn, RequestKind
from baoha.api.door import Door, Look, Urgency
from tests.support.fake_node import ACTIVE, FakeNodeView


def door(admission: Admission | None = None) -> Door:
    node = FakeNodeView(ACTIVE)
    node.known_tokens.add("s.known")
    return Door(node, admission or Admission())


def look(head: str, body: bytes = b"") -> Look:
    return door().look(head.replace("\n", "\r\n").encode() + body)


def request(method: str, path: str, *fields: str) -> str:
    return "\n".join((f"{method} {path} HTTP/1.1", "Host: a", *fields, "", ""))


KNOWN = "X-Vault-Token: s.known"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/sys/health?standbyok=true",
        "/v1/sys/leader",
        "/v1/sys/seal-status",
        "/v1/sys/ha/live",
        "/v1/sys/ha-status",
        "/v1/sys/step-down",
        "/v1/sys/seal",
        "/v1/sys/unseal",
    ],
)
async def test_door_control_is_urgent_and_never_refused(path: str) -> None:
    for method in ("GET", "PUT"):
        assert look(request(method, path)) == Look(urgency=Urgency.CONTROL)


@pytest.mark.parametrize(
    ("head", "kind", "urgency"),
    [
        (request("GET", "/v1/secret/data/x", KNOWN), RequestKind.READ, Urgency.KNOWN),
        (request("LIST", "/v1/secret/x", KNOWN), RequestKind.READ, Urgency.KNOWN),
        (request("GET", "/v1/x", "authorization: Bearer s.known"), RequestKind.READ, Urgency.KNOWN),
        (request("DELETE", "/v1/secret/data/x", KNOWN), RequestKind.WRITE, Urgency.KNOWN),
        (request("GET", "/v1/secret/data/x"), RequestKind.STRANGER, Urgency.OTHER),
    ],
)
async def test_door_plain_request_is_recognised(
    head: str, kind: RequestKind, urgency: Urgency
) -> None:
    assert look(head) == Look(urgency=urgency, kind=kind, is_whole=True, keeps_alive=True)


async def test_door_body_must_be_there_to_the_last_byte() -> None:
    head = request("PUT", "/v1/secret/data/x", KNOWN, "Content-Length: 5")
    assert look(head, b"12345").is_whole
    for body in (b"", b"1234", b"123456"):
        assert not look(head, body).is_whole


@pytest.mark.parametrize(
    "head",
    [
        request("PUT", "/v1/x", KNOWN, "Transfer-Encoding: chunked"),
        request("PUT", "/v1/x", KNOWN, "Content-Length: 0", "Expect: 100-continue"),
        request("GET", "/v1/x", KNOWN, "Upgrade: websocket"),
        request("GET", "/v1/x", KNOWN, "Content-Length: 0", "Content-Length: 0"),
        request("GET", "/v1/x", KNOWN, "Content-Length: +0"),
        request("GET", "/v1/x", "X-Vault-Token: s.nobody-knows-it-yet"),
        request("GET", "/ui/", KNOWN),
        request("BREW", "/v1/x", KNOWN),
        request("GET", "/v1/x", KNOWN).replace("1.1", "1.0"),
        "GET /v1/x HTTP/1.1\nHost: a\n",
        "GET",
        "\n\n",
        "",
    ],
)
async def test_door_what_is_not_plain_is_left_to_the_parser(head: str) -> None:
    seen = look(head)
    assert seen.kind is None or not seen.is_whole


async def test_door_connection_close_is_kept_in_mind() -> None:
    assert not look(request("GET", "/v1/x", KNOWN, "Connection: close")).keeps_alive
    assert look(request("GET", "/v1/x", KNOWN, "Connection: keep-alive")).keeps_alive


PIECES = st.sampled_from(
    [
        b"GET /v1/x HTTP/1.1\r\n", b"PUT /v1/x HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"\r",
        b"Content-Length: 3\r\n", b"Content-Length: 03\r\n", b"content-length:3\r\n", b"abc",
        b"X-Vault-Token: s.known\r\n", b"Transfer-Encoding: chunked\r\n", b" ", b":", b"\x00",
        b"Connection: close\r\n", b" folded\r\n", b"HTTP/1.1", b"\xff",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_door_whole_means_what_the_parser_means(data: bytes) -> None:
    """Whatever is taken for one whole request, the parser takes for one, and for no more."""

    async def main() -> Look:
        return door().look(data)

    seen = trio.run(main)
    if not seen.is_whole or seen.kind is None:
        return
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(data)
    events = []
    try:
        while (event := parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            events.append(type(event))
    except h11.RemoteProtocolError:
        return  # refused by both
    assert events[-1] is h11.EndOfMessage
    assert parser.trailing_data == (b"", False)


async def test_door_without_a_crowd_refuses_nobody() -> None:
    admission = Admission()
    assert not any(
        door(admission).refuses(kind, "a", is_here=here)
        for kind in RequestKind
        for here in (True, False)
    )


async def test_door_crowd_that_takes_long_to_arrive_is_served(
    autojump_clock: MockClock,
) -> None:
    """
    Twelve places, a tenth of a second each: 240 in two seconds. A door that does not see who is on
    the way lets too many in, and a lane that does sees too many behind whoever arrives: once the
    places were empty, all were let in and all were refused.
    """
    admission = Admission()
    entrance = door(admission)
    served = 0

    async def come() -> None:
        nonlocal served
        await trio.sleep(0.1)  # until its turn comes and it is parsed
        with suppress(NotLetIn):
            await admission.run(RequestKind.READ, "a", partial(trio.sleep, 0.1))
            served += 1

    async with trio.open_nursery() as nursery:
        for _ in range(2000):
            for _ in range(4):
                if not entrance.refuses(RequestKind.READ, "a", is_here=False):
                    entrance.announce(RequestKind.READ)
                    nursery.start_soon(come)
            await trio.sleep(0.001)
    assert served > 220


async def test_door_refusal_says_when_to_come_again_and_that_nothing_was_done() -> None:
    refusal = door().refusal
    assert refusal.status == 503
    assert refusal.header("retry-after") == "1"
    assert refusal.header("cache-control") == "no-store"
    assert b"not executed" in refusal.body
