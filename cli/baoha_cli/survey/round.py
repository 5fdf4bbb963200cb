"""
Ask all nodes, at the same time, without a token.

Rules of this file. Every node has its own task and its own time limit: a dead node costs its limit
once, not once per node. No token and no state-changing method is ever used (`discover` is the
exception: it asks sys/ha-status of addresses that were given, with the operator's token).

Theory of operation. sys/seal-status comes first, since it answers in every state; then sys/leader,
sys/health and, on a standby, the two-probe test of forwarding run together. The two probes are
`GET sys/ha-status` plain and with X-Vault-No-Request-Forwarding: 403 and 307 mean "forwards".

Source: docs/spec/cluster-cli.md section 6.1, measured on OpenBao 2.7.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import trio

from baoha_cli.client.address import Endpoint, labels
from baoha_cli.client.answer import Answer, as_bool, as_int
from baoha_cli.client.client import Client
from baoha_cli.failures import ErrorKind, RequestFailed, UsageFailed
from baoha_cli.shell.context import Cli
from baoha_cli.survey.nodes import ClusterReport, Link, NodeReport, Role

SEAL_STATUS: Final = "/v1/sys/seal-status"
LEADER: Final = "/v1/sys/leader"
# The query makes every state answer 200, so that the body is the answer.
HEALTH: Final = "/v1/sys/health"
_HEALTH_QUERY: Final = (
    ("standbyok", "true"),
    ("perfstandbyok", "true"),
    ("sealedcode", "200"),
    ("uninitcode", "200"),
)
PROBE: Final = "/v1/sys/ha-status"
NO_FORWARDING: Final = ("X-Vault-No-Request-Forwarding", "1")
_NODES_MAX: Final = 256


async def survey(
    cli: Cli, *, endpoints: Sequence[Endpoint] | None = None, links: bool = True
) -> ClusterReport:
    """
    Ask the given nodes (those of the command line by default) once.

    Args:
        cli: for transport and addresses.
        endpoints: other addresses.
        links: also test how standbys forward.
    """
    asked = tuple(endpoints or cli.endpoints)
    async with cli.client() as client:
        return await survey_nodes(client, labels(asked), links=links)


async def survey_nodes(
    client: Client, named: Mapping[Endpoint, str], *, links: bool = True
) -> ClusterReport:
    """Ask labelled nodes once, with a client that stays open (for watching)."""
    if len(named) > _NODES_MAX:
        raise UsageFailed(f"{len(named)} nodes are too many (at most {_NODES_MAX})")
    reports: dict[Endpoint, NodeReport] = {}

    async def one(endpoint: Endpoint, label: str) -> None:
        reports[endpoint] = await ask_node(client, endpoint, label, links=links)

    async with trio.open_nursery() as nursery:
        for endpoint, label in named.items():
            nursery.start_soon(one, endpoint, label)
    return ClusterReport(tuple(reports[endpoint] for endpoint in named))


async def ask_node(
    client: Client, endpoint: Endpoint, label: str, *, links: bool = True
) -> NodeReport:
    """Ask one node; a node that cannot be asked is a report too, not an exception."""
    try:
        answer = await client.request(endpoint, "GET", SEAL_STATUS)
    except RequestFailed as failure:
        return NodeReport(endpoint, label, error_kind=failure.kind, error=failure.detail)
    seal = answer.mapping()
    report = NodeReport(
        endpoint,
        label,
        seal=seal,
        latency_ms=round(answer.took_s * 1000),
        tls_version=answer.peer.tls_version,
    )
    if answer.status != 200 or as_bool(seal.get("sealed")) is None:
        error = "; ".join(answer.errors()) or f"status {answer.status}, not a seal status"
        return replace(report, seal={}, error_kind=ErrorKind.HTTP, error=error)
    leader: list[Answer] = []
    health: list[tuple[Answer, float]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_leader, client, endpoint, leader)
        nursery.start_soon(_health, client, endpoint, health)
    report = _with_leader(report, leader)
    report = _with_health(report, health)
    if report.role is Role.ACTIVE:
        return replace(report, link=Link.SELF)
    if links and report.role is Role.STANDBY:
        return replace(report, link=await forwarding_link(client, endpoint))
    return report


async def forwarding_link(client: Client, endpoint: Endpoint) -> Link:
    """Tell how a standby passes requests on, by the two tokenless probes."""
    statuses: dict[str, int] = {}

    async def probe(name: str, headers: Sequence[tuple[str, str]]) -> None:
        try:
            answer = await client.request(endpoint, "GET", PROBE, headers=headers)
        except RequestFailed as failure:
            statuses[name] = 0 if failure.kind is ErrorKind.TIMEOUT else -1
        else:
            statuses[name] = answer.status

    async with trio.open_nursery() as nursery:
        nursery.start_soon(probe, "plain", ())
        nursery.start_soon(probe, "bare", (NO_FORWARDING,))
    return link_of(statuses["plain"], statuses["bare"])


def link_of(plain: int, bare: int) -> Link:
    """
    Read the two-probe table for a standby.

    Args:
        plain: status of the plain probe; 0 is a time-out, -1 no answer.
        bare: status of the probe that must not be forwarded.
    """
    if plain in (307, 308):
        return Link.REDIRECT
    if plain == 403 and bare in (307, 308, 503):
        return Link.FORWARD
    if plain == 0:
        return Link.HANGS
    if plain in (500, 503):
        return Link.NONE
    return Link.UNKNOWN


async def _leader(client: Client, endpoint: Endpoint, into: list[Answer]) -> None:
    try:
        into.append(await client.request(endpoint, "GET", LEADER))
    except RequestFailed:
        return


async def _health(client: Client, endpoint: Endpoint, into: list[tuple[Answer, float]]) -> None:
    try:
        answer = await client.request(endpoint, "GET", HEALTH, query=_HEALTH_QUERY)
    except RequestFailed:
        return
    into.append((answer, datetime.now(UTC).timestamp()))


def _with_leader(report: NodeReport, answers: Sequence[Answer]) -> NodeReport:
    if not answers:
        return report
    answer = answers[0]
    if answer.status == 200:
        leader = answer.mapping()
        return replace(report, leader=leader, ha_enabled=as_bool(leader.get("ha_enabled")))
    if answer.status == 503 and report.sealed:
        # A sealed node of an HA store refuses; without HA it answers {"ha_enabled": false}.
        return replace(report, ha_enabled=True)
    return report


def _with_health(report: NodeReport, answers: Sequence[tuple[Answer, float]]) -> NodeReport:
    if not answers:
        return report
    answer, received_at = answers[0]
    health = answer.mapping()
    report = replace(report, health=health)
    server_s = as_int(health.get("server_time_utc"))
    if server_s is None or not 0 < server_s < 1 << 40:
        return report
    # The server cut its clock to whole seconds, somewhere between sending and receiving.
    middle = received_at - answer.took_s / 2
    return replace(
        report,
        skew_ms=round((server_s + 0.5 - middle) * 1000),
        skew_uncertainty_ms=round((0.5 + answer.took_s / 2) * 1000),
    )
