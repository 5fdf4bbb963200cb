"""
Asking nodes over HTTP: tokenless GET requests, all nodes at the same time.

Rules of this file. This is the only way in which nodes are looked at. No token is sent (`members`
is the exception: with the operator's token, to addresses that were given). GET only. Every node has
its own task and its own time limits: a dead node costs its limit once, not once per node. A failure
is a Reply too, never an exception.

Theory of operation. sys/seal-status comes first, since it answers in every state. When it did,
sys/leader and sys/health follow, then the two probes `GET sys/ha-status`, plain and with
X-Vault-No-Request-Forwarding: for a standby, 403 and 307 mean "forwards". The probes have a shorter
limit: a request that hangs is an answer. sys/ha/live tells whether the server is baoha; others know
no such path, and a standby of theirs answers it without asking the active node.

Source: docs/spec/cluster-cli.md section 6.1, measured on OpenBao 2.7.2.
"""

from __future__ import annotations

import enum
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
from baoha_cli.client.transport import ConnectionSettings
from baoha_cli.failures import RequestFailed, UsageFailed
from baoha_cli.survey.look import NOT_ASKED, NodeLook, Reply
from baoha_cli.survey.nodes import SeenRole
from baoha_cli.text import one_line

SEAL_STATUS: Final = "/v1/sys/seal-status"
LEADER: Final = "/v1/sys/leader"
HEALTH: Final = "/v1/sys/health"
HA_STATUS: Final = "/v1/sys/ha-status"
LIVE: Final = "/v1/sys/ha/live"
BARE: Final = (("X-Vault-No-Request-Forwarding", "1"),)
# A forwarded request that takes longer hangs, for our purpose.
HANG_S: Final = 2.0
_ERROR_CHARS_MAX: Final = 300
_NODES_MAX: Final = 256


class Probe(enum.Enum):
    """Who gets the two probes of forwarding; the active node may write them into its audit log."""

    NONE = "none"
    STANDBYS = "standbys"  # the active node itself is not probed
    ALL = "all"


@dataclass(frozen=True)
class AskOptions:
    """
    What to ask.

    Args:
        probe: who gets the probes.
        product: also whether the server is baoha; the active node is asked that when it is probed.
        hang_s: limit of the probes, in seconds.
    """

    probe: Probe = Probe.STANDBYS
    product: bool = True
    hang_s: float = HANG_S


# Who is there and who leads, and nothing else: for loops that ask many times.
ROLES_ONLY: Final = AskOptions(Probe.NONE, product=False)


def for_given(transport: ConnectionSettings) -> ConnectionSettings:
    """
    Return how to ask addresses that were given.

    A wrong certificate is evidence as well, so any is accepted, as long as nothing is sent that
    could be stolen: the operator's own headers may be secrets.
    """
    if transport.headers:
        return transport
    return replace(transport, tls=replace(transport.tls, skip_verify=True))


def for_strangers(transport: ConnectionSettings) -> ConnectionSettings:
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
    )


async def look_at_nodes(
    client: Client,
    named: Mapping[Endpoint, str],
    options: AskOptions,
    *,
    before: Sequence[NodeLook] = (),
) -> tuple[NodeLook, ...]:
    """
    Look at all nodes once, at the same time.

    Args:
        client: stays open.
        named: addresses and labels.
        options: what to ask.
        before: an earlier round: which product a server is is asked once in a run.

    Raises:
        UsageFailed: there are too many nodes.
    """
    if len(named) > _NODES_MAX:
        raise UsageFailed(f"{len(named)} nodes are too many (at most {_NODES_MAX})")
    known = {look.endpoint: look.live for look in before}
    looks: dict[Endpoint, NodeLook] = {}

    async def one(endpoint: Endpoint, label: str) -> None:
        live = known.get(endpoint, NOT_ASKED)
        looks[endpoint] = await look_at_node(client, endpoint, label, options, live=live)

    async with trio.open_nursery() as nursery:
        for endpoint, label in named.items():
            nursery.start_soon(one, endpoint, label)
    return tuple(looks[endpoint] for endpoint in named)


async def look_at_node(
    client: Client,
    endpoint: Endpoint,
    label: str,
    options: AskOptions,
    *,
    live: Reply = NOT_ASKED,
) -> NodeLook:
    """Look at one node once; ``live`` is what it answered before to sys/ha/live."""
    seal, answer = await ask(client, endpoint, SEAL_STATUS)
    look = NodeLook(endpoint, label, seal, live=live)
    if answer is None:
        return look
    look = replace(look, tls_version=answer.peer.tls_version)
    if not look.is_api and seal.status != 500 and seal.status != 400:
        return look
    state = [_Question("leader", LEADER), _Question("health", HEALTH)]
    if options.probe is Probe.ALL:
        probed = look.report.sealed is not True
        return await _ask_all(client, look, [*state, *_further(look, options, probed=probed)])
    look = await _ask_all(client, look, state)
    if look.role in (SeenRole.ACTIVE, SeenRole.UNKNOWN):
        return look
    probed = options.probe is Probe.STANDBYS and look.role is SeenRole.STANDBY
    return await _ask_all(client, look, _further(look, options, probed=probed))


@dataclass(frozen=True)
class _Question:
    """One request: the field of the look that takes its answer, path, headers, limit in seconds."""

    field: str
    path: str
    headers: Sequence[tuple[str, str]] = ()
    limit_s: float | None = None


def _further(look: NodeLook, options: AskOptions, *, probed: bool) -> list[_Question]:
    """Return the probes, if the node gets them, and the question which product it is."""
    limit_s = options.hang_s
    asked = []
    if probed:
        asked.append(_Question("plain", HA_STATUS, (), limit_s))
        asked.append(_Question("bare", HA_STATUS, BARE, limit_s))
    if options.product and not look.live.status:
        asked.append(_Question("live", LIVE, BARE, limit_s))
    return asked


async def _ask_all(client: Client, look: NodeLook, questions: Sequence[_Question]) -> NodeLook:
    """Ask at the same time, and put the answers into the look."""
    replies: dict[str, Reply] = {}

    async def one(asked: _Question) -> None:
        replies[asked.field], _ = await ask(
            client, look.endpoint, asked.path, headers=asked.headers, timeout_s=asked.limit_s
        )

    async with trio.open_nursery() as nursery:
        for asked in questions:
            nursery.start_soon(one, asked)
    return replace(
        look,
        leader=replies.get("leader", look.leader),
        health=replies.get("health", look.health),
        plain=replies.get("plain", look.plain),
        bare=replies.get("bare", look.bare),
        live=replies.get("live", look.live),
    )


def _date(text: str) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp()) if text else None
    except (ValueError, OverflowError):
        return None
