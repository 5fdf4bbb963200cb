"""
Asking nodes over HTTP: tokenless GET requests, all nodes at the same time.

Rules of this file. No token is sent (`members` is the exception: with the operator's token, to
addresses that were given). GET only. A failure is a Reply too, never an exception.

Theory of operation. sys/seal-status comes first, since it answers in every state. When it did, the
rest follows at once: sys/leader, sys/health, and the two probes `GET sys/ha-status`, plain and with
X-Vault-No-Request-Forwarding. The probes have a shorter limit: a request that hangs is an answer.

Source: docs/spec/cluster-cli.md section 6.1, measured on OpenBao 2.7.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import trio

from baoha_cli.client.address import Endpoint
from baoha_cli.client.answer import Answer
from baoha_cli.client.client import Client
from baoha_cli.client.token import Token
from baoha_cli.client.transport import Transport
from baoha_cli.failures import RequestFailed
from baoha_cli.survey.look import NOT_ASKED, NodeLook, Reply
from baoha_cli.text import one_line

SEAL_STATUS: Final = "/v1/sys/seal-status"
LEADER: Final = "/v1/sys/leader"
HEALTH: Final = "/v1/sys/health"
HA_STATUS: Final = "/v1/sys/ha-status"
BARE: Final = (("X-Vault-No-Request-Forwarding", "1"),)
# A forwarded request that takes longer hangs, for our purpose.
HANG_S: Final = 2.0
_FEATURES: Final = frozenset({"x-baoha-node", "x-vault-hostname", "x-vault-raft-node-id", "server"})
_ERROR_CHARS_MAX: Final = 300


@dataclass(frozen=True)
class ProbeOptions:
    """
    What to ask.

    Args:
        noise: also the probes that the active node may write into its audit log.
        hang_s: limit of those probes.
    """

    noise: bool = True
    hang_s: float = HANG_S


def for_given(transport: Transport) -> Transport:
    """
    Return how to ask addresses that were given.

    A wrong certificate is evidence as well, so any is accepted, as long as nothing is sent that
    could be stolen: the operator's own headers may be secrets.
    """
    if transport.headers:
        return transport
    return replace(transport, tls=replace(transport.tls, skip_verify=True))


def for_strangers(transport: Transport) -> Transport:
    """Return how to ask addresses that servers name: without anything of the operator's."""
    tls = replace(transport.tls, skip_verify=True, client_cert="", client_key="")
    return replace(transport, tls=tls, headers=(), namespace="")


def time_of_day() -> float:
    """Return seconds since the epoch."""
    return datetime.now(UTC).timestamp()


async def ask(
    client: Client,
    endpoint: Endpoint,
    path: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    query: Sequence[tuple[str, str]] = (),
    token: Token | None = None,
    timeout_s: float | None = None,
    quoted: bool = False,
) -> tuple[Reply, Answer | None]:
    """Send one GET; a failure is a Reply without status."""
    try:
        answer = await client.request(
            endpoint,
            "GET",
            path,
            headers=headers,
            query=query,
            token=token,
            timeout_s=timeout_s,
            quoted=quoted,
        )
    except RequestFailed as failure:
        reply = Reply(kind=failure.kind, error=one_line(failure.detail), ended_at=time_of_day())
        return reply, None
    return reply_of(answer, time_of_day()), answer


def reply_of(answer: Answer, ended_at: float) -> Reply:
    """Boil an HTTP answer down."""
    errors = [one_line(text, chars_max=_ERROR_CHARS_MAX) for text in answer.errors()]
    return Reply(
        status=answer.status,
        location=answer.header("location"),
        media_type=answer.header("content-type").partition(";")[0].strip().lower(),
        body=answer.mapping(),
        errors=tuple(errors),
        took_s=answer.took_s,
        ended_at=ended_at,
        date_s=_date(answer.header("date")),
        features=frozenset(name for name, _ in answer.headers if name in _FEATURES),
    )


async def look_at_nodes(
    client: Client, named: Mapping[Endpoint, str], options: ProbeOptions
) -> tuple[NodeLook, ...]:
    """Look at all nodes once, at the same time."""
    looks: dict[Endpoint, NodeLook] = {}

    async def one(endpoint: Endpoint, label: str) -> None:
        looks[endpoint] = await look_at_node(client, endpoint, label, options)

    async with trio.open_nursery() as nursery:
        for endpoint, label in named.items():
            nursery.start_soon(one, endpoint, label)
    return tuple(looks[endpoint] for endpoint in named)


async def look_at_node(
    client: Client, endpoint: Endpoint, label: str, options: ProbeOptions
) -> NodeLook:
    """Look at one node once."""
    seal, answer = await ask(client, endpoint, SEAL_STATUS)
    look = NodeLook(endpoint, label, seal)
    if answer is None:
        return look
    look = replace(look, tls_version=answer.peer.tls_version)
    if not look.is_api and seal.status != 500 and seal.status != 400:
        return look
    wanted: list[tuple[str, str, Sequence[tuple[str, str]], float | None]] = [
        ("leader", LEADER, (), None),
        ("health", HEALTH, (), None),
    ]
    if options.noise and look.report.sealed is not True:
        wanted.append(("plain", HA_STATUS, (), options.hang_s))
        wanted.append(("bare", HA_STATUS, BARE, options.hang_s))
    replies: dict[str, Reply] = {}

    async def one(
        name: str, path: str, headers: Sequence[tuple[str, str]], limit_s: float | None
    ) -> None:
        replies[name], _ = await ask(client, endpoint, path, headers=headers, timeout_s=limit_s)

    async with trio.open_nursery() as nursery:
        for name, path, headers, limit_s in wanted:
            nursery.start_soon(one, name, path, headers, limit_s)
    return replace(
        look,
        leader=replies["leader"],
        health=replies["health"],
        plain=replies.get("plain", NOT_ASKED),
        bare=replies.get("bare", NOT_ASKED),
    )


def _date(text: str) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp()) if text else None
    except (ValueError, OverflowError):
        return None
