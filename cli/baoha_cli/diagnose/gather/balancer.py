"""
Sampling a load balancer: many connections, and what each one leads to.

Rule of this file: every sample uses connections of its own, so that a balancer that decides per
connection shows all it does; no credentials.

Source: docs/spec/cluster-cli.md sections 6.1 and 6.2 H.
"""

from __future__ import annotations

from typing import Final

import trio

from baoha_cli.client.address import Endpoint
from baoha_cli.client.client import Client
from baoha_cli.client.transport import ConnectionSettings
from baoha_cli.diagnose.evidence import ViaLook
from baoha_cli.survey.ask import (
    BARE,
    HA_STATUS,
    HEALTH,
    LEADER,
    SEAL_STATUS,
    AskOptions,
    Probe,
    ask,
)
from baoha_cli.survey.look import NodeLook

SAMPLES: Final = 20
_AT_ONCE: Final = 5


async def sample(
    transport: ConnectionSettings, endpoint: Endpoint, label: str, options: AskOptions
) -> ViaLook:
    """Look at one load balancer over many connections."""
    looks: list[NodeLook] = []
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def one(number: int) -> None:
        async with limiter, Client(transport) as client:
            looks.append(await _one_connection(client, endpoint, f"{label}#{number}", options))

    async with trio.open_nursery() as nursery:
        for number in range(1, SAMPLES + 1):
            nursery.start_soon(one, number)
    return ViaLook(endpoint, label, tuple(looks))


async def _one_connection(
    client: Client, endpoint: Endpoint, label: str, options: AskOptions
) -> NodeLook:
    """Ask everything in turn: the client keeps its connection, so that one node answers all."""
    seal, _ = await ask(client, endpoint, SEAL_STATUS)
    look = NodeLook(endpoint, label, seal)
    if not look.is_api:
        return look
    leader, _ = await ask(client, endpoint, LEADER)
    health, _ = await ask(client, endpoint, HEALTH)
    look = NodeLook(endpoint, label, seal, leader, health)
    if options.probe is Probe.NONE or look.report.sealed is True:
        return look
    plain, _ = await ask(client, endpoint, HA_STATUS, timeout_s=options.hang_s)
    bare, _ = await ask(client, endpoint, HA_STATUS, headers=BARE, timeout_s=options.hang_s)
    return NodeLook(endpoint, label, seal, leader, health, plain, bare)
