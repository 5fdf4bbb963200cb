"""
Redirects, walked hop by hop.

Rules of this file. Every hop is judged before it is taken, and is a new request without any
credential. A Location is data from a stranger: it is parsed strictly.

Theory of operation. The walk starts with what a standby answers to a request that it must not
forward, and keeps that header on: this is what a client meets when forwarding does not work.

Source: docs/spec/cluster-cli.md sections 6.1 and 6.2 E.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from baoha_cli.client.address import Endpoint, parse_address
from baoha_cli.client.client import Client
from baoha_cli.diagnose.evidence import Chain, ChainEnd, Hop
from baoha_cli.failures import UsageFailed
from baoha_cli.survey.ask import BARE, HANG_S, ask
from baoha_cli.survey.look import NodeLook, Reply
from baoha_cli.text import one_line

HOPS_MAX: Final = 10
_LOCATION_CHARS_MAX: Final = 2048


async def walk(client: Client, node: NodeLook) -> Chain | None:
    """Follow the redirects of one node; None when it sends none."""
    first = node.bare if node.bare.redirects else node.plain
    if not first.redirects:
        return None
    return await walk_from(client, node.endpoint, node.label, first)


async def walk_from(client: Client, start: Endpoint, label: str, first: Reply) -> Chain:
    """Follow the redirects that begin with an answer of ``start``."""
    here, reply = start, first
    hops: list[Hop] = []
    seen = {start.origin.lower()}
    while reply.redirects:
        hops.append(Hop(here.origin, one_line(reply.location)))
        target = read_location(here, reply.location)
        if target is None:
            return Chain(start, label, tuple(hops), ChainEnd.UNUSABLE, reply)
        following, path = target
        if here.scheme == "https" and following.scheme == "http":
            return Chain(start, label, tuple(hops), ChainEnd.DOWNGRADE, reply)
        if following.origin.lower() in seen:
            return Chain(start, label, tuple(hops), ChainEnd.LOOP, reply)
        if len(hops) >= HOPS_MAX:
            return Chain(start, label, tuple(hops), ChainEnd.TOO_LONG, reply)
        seen.add(following.origin.lower())
        here = following
        reply, _ = await ask(client, here, path, headers=BARE, timeout_s=HANG_S, quoted=True)
    end = ChainEnd.UNREACHABLE if reply.kind is not None else ChainEnd.ANSWER
    return Chain(start, label, tuple(hops), end, reply)


def read_location(here: Endpoint, location: str) -> tuple[Endpoint, str] | None:
    """Return where a Location leads and the path to ask for, or None when it is not usable."""
    if not location or len(location) > _LOCATION_CHARS_MAX or not location.isascii():
        return None
    if any(ord(char) <= 32 or ord(char) == 127 for char in location):
        return None
    if location.startswith("/") and not location.startswith("//"):
        return Endpoint(here.scheme, here.host, here.port, name=here.name), location
    try:
        found = parse_address(location.partition("?")[0].partition("#")[0])
        path = urlsplit(location).path
    except (UsageFailed, ValueError):
        return None
    return Endpoint(found.scheme, found.host, found.port), path or "/"
