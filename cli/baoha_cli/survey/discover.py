"""
Find the nodes of a cluster, starting from addresses that were given.

Rule of this file: only sys/ha-status of an address that was given is sent the operator's token.
"""

from __future__ import annotations

from dataclasses import replace

import trio

from baoha_cli.client.address import Endpoint, parse_address
from baoha_cli.client.answer import as_list, as_mapping, as_text
from baoha_cli.failures import ErrorKind, RequestFailed, UsageFailed
from baoha_cli.shell.context import Cli


async def discover(cli: Cli, how: str) -> tuple[Endpoint, ...]:
    """
    Find the cluster's nodes, starting from the addresses given.

    Args:
        cli: for addresses and the token.
        how: "none", "dns" (all addresses of the names) or "ha-status" (needs a token).

    Raises:
        UsageFailed: no such way.
        CommandFailed: nothing was found.
    """
    if how == "none":
        return cli.endpoints
    if how == "dns":
        return await _discover_dns(cli)
    if how == "ha-status":
        return await _discover_ha_status(cli)
    raise UsageFailed(f"--discover: {how[:40]!a} is not none, dns or ha-status")


async def _discover_dns(cli: Cli) -> tuple[Endpoint, ...]:
    found: dict[Endpoint, None] = {}
    for endpoint in cli.endpoints:
        try:
            with trio.fail_after(cli.transport.connect_timeout_s):
                listed = await trio.socket.getaddrinfo(
                    endpoint.host, endpoint.port, type=trio.socket.SOCK_STREAM
                )
        except (OSError, UnicodeError, trio.TooSlowError) as exc:
            raise RequestFailed(
                ErrorKind.DNS, f"cannot resolve {endpoint.host}: no such host"
            ) from exc
        for entry in listed:
            # The certificate is the name's, so the name is verified, not the address.
            found[replace(endpoint, host=str(entry[4][0]), name=endpoint.host)] = None
    return tuple(found)


async def _discover_ha_status(cli: Cli) -> tuple[Endpoint, ...]:
    answer = await cli.call("GET", "sys/ha-status")
    body = answer.mapping()
    listed = as_list(body.get("nodes") or as_mapping(body.get("data")).get("nodes"))
    found: dict[Endpoint, None] = {}
    given = {endpoint.origin for endpoint in cli.endpoints}
    for item in listed:
        text = as_text(as_mapping(item).get("api_address"))
        try:
            endpoint = parse_address(text)
        except UsageFailed:
            cli.out.note(f"warning: a node advertises an unusable api_addr {text[:80]!a}")
            continue
        found[replace(endpoint, is_named_by_server=endpoint.origin not in given)] = None
    # The addresses given stay: a node that is missing in ha-status is what one looks for.
    for endpoint in cli.endpoints:
        found.setdefault(endpoint)
    return tuple(found)
