"""X-Forwarded-For: who counts as the client. Source: OpenBao 2.7.2, measured on its binary."""

from __future__ import annotations

import json
from typing import Any

import pytest

from baoha.asgi import Message, Receive, Scope, Send
from baoha.config.model import ForwardedForConfig
from baoha.errors import ConfigError
from baoha.server.http.forwarded_for import (
    MISSING_HEADER,
    NOT_AUTHORIZED,
    parse_networks,
    with_forwarded_for,
)

PROXY = ("127.0.0.1", 4711)


async def ask(
    *headers: str,
    client: tuple[str, int] | None = PROXY,
    authorized: str = "127.0.0.1",
    **rules: Any,
) -> tuple[Any, str]:
    """Return the client that the app saw, and the text of the refusal."""
    seen: list[Any] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"])

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    settings = ForwardedForConfig(
        authorized_addrs=(authorized,),
        **{"reject_not_present": False, "reject_not_authorized": False, **rules},
    )
    scope: Scope = {
        "type": "http",
        "client": client,
        "headers": [(b"x-forwarded-for", value.encode()) for value in headers],
    }
    await with_forwarded_for(app, settings)(scope, receive, send)
    if not sent:
        return seen[0], ""
    assert sent[0]["status"] == 400
    assert not seen
    return None, json.loads(sent[1]["body"])["errors"][0]


@pytest.mark.parametrize(
    ("headers", "skips", "expected"),
    [
        (["1.2.3.4"], 0, "1.2.3.4"),
        (["1.2.3.4, 5.6.7.8"], 0, "5.6.7.8"),
        (["1.2.3.4, 5.6.7.8"], 1, "1.2.3.4"),
        (["1.2.3.4,5.6.7.8 , 9.9.9.9"], 1, "5.6.7.8"),
        (["1.1.1.1", "2.2.2.2"], 1, "1.1.1.1"),
    ],
)
async def test_forwarded_for_from_proxy_replaces_client(
    headers: list[str], skips: int, expected: str
) -> None:
    client, refusal = await ask(*headers, hop_skips=skips)
    assert (client, refusal) == ((expected, 4711), "")


async def test_forwarded_for_from_stranger_is_ignored() -> None:
    client, _ = await ask("1.2.3.4", client=("10.0.0.1", 1))
    assert client == ("10.0.0.1", 1)


async def test_forwarded_for_from_stranger_refused_when_configured() -> None:
    _, refusal = await ask("1.2.3.4", client=("10.0.0.1", 1), reject_not_authorized=True)
    assert refusal == NOT_AUTHORIZED


async def test_forwarded_for_missing_passes_by_default() -> None:
    client, _ = await ask(reject_not_authorized=True, client=("10.0.0.1", 1))
    assert client == ("10.0.0.1", 1)


async def test_forwarded_for_missing_refused_when_configured() -> None:
    _, refusal = await ask(reject_not_present=True)
    assert refusal == MISSING_HEADER


async def test_forwarded_for_chain_too_short_is_refused() -> None:
    _, refusal = await ask("1.2.3.4", hop_skips=1)
    assert refusal == (
        "malformed x-forwarded-for configuration or request, hops to skip (1) would skip before "
        "earliest chain link (chain length 1)"
    )


async def test_forwarded_for_mapped_ipv4_proxy_is_authorized() -> None:
    client, _ = await ask("1.2.3.4", client=("::ffff:10.1.2.3", 1), authorized="10.0.0.0/8")
    assert client == ("1.2.3.4", 1)


async def test_forwarded_for_unix_peer_is_never_a_proxy() -> None:
    client, _ = await ask("1.2.3.4", client=None)
    assert client is None


def test_networks_wrong_address_is_named() -> None:
    with pytest.raises(ConfigError, match=r"proxy\.example"):
        parse_networks(["proxy.example"])
