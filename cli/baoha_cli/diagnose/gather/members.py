"""
The lists of members, which need a token.

Rule of this file: the operator's token is sent to addresses that were given, and to no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from baoha_cli.client.address import Endpoint
from baoha_cli.client.answer import as_bool, as_list, as_mapping, as_text
from baoha_cli.client.client import Client
from baoha_cli.client.token import Token
from baoha_cli.diagnose.evidence import ListedMember, Members
from baoha_cli.survey.ask import HA_STATUS, ask
from baoha_cli.survey.look import Reply

RAFT: Final = "/v1/sys/storage/raft/configuration"


async def look_at_members(client: Client, endpoints: Sequence[Endpoint], token: Token) -> Members:
    """Read the lists of members with a token, through the first address that answers."""
    error = "no node answered"
    for endpoint in endpoints:
        reply, _ = await ask(client, endpoint, HA_STATUS, token=token)
        if reply.status != 200:
            error = reply.words
            continue
        raft, _ = await ask(client, endpoint, RAFT, token=token)
        return Members(_listed(reply), _raft(raft))
    return Members(error=error)


def _listed(reply: Reply) -> tuple[ListedMember, ...]:
    nodes = reply.body.get("nodes") or as_mapping(reply.body.get("data")).get("nodes")
    found = []
    for item in map(as_mapping, as_list(nodes)):
        echo = _timestamp(as_text(item.get("last_echo")))
        api = as_text(item.get("api_address"))
        found.append(
            ListedMember(
                name=as_text(item.get("hostname")) or api,
                api_address=api,
                cluster_address=as_text(item.get("cluster_address")),
                is_active=as_bool(item.get("active_node")),
                version=as_text(item.get("version")),
                echo_age_s=None if echo is None else _now_of(reply) - echo,
            )
        )
    return tuple(found)


def _raft(reply: Reply) -> tuple[ListedMember, ...]:
    config = as_mapping(as_mapping(reply.body.get("data")).get("config"))
    return tuple(
        ListedMember(
            name=as_text(item.get("node_id")),
            cluster_address=as_text(item.get("address")),
            is_active=as_bool(item.get("leader")),
            is_voter=as_bool(item.get("voter")),
        )
        for item in map(as_mapping, as_list(config.get("servers")))
    )


def _now_of(reply: Reply) -> float:
    """Return the server's time of day, since the echo is by the servers' clocks."""
    return reply.ended_at if reply.date_s is None else float(reply.date_s)


def _timestamp(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
