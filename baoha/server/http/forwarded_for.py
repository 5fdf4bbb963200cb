"""
X-Forwarded-For: who the client is when a proxy stands in front of the listener.

Rule of this file: the header counts only when the peer is one of the configured proxies. From
anybody else it is ignored, or the request is refused, as configured; it is never believed.

Theory of operation. An ASGI wrapper around the app of one listener. All values of the header are
read as one comma-separated chain; the last entry was added by the nearest proxy, ``hop_skips`` of
them are skipped from the right, and the entry found replaces the host in ``scope["client"]``. The
port stays the peer's.

Source: OpenBao 2.7.2, measured on its binary; the texts of the refusals are its own.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence

from baoha.asgi import ASGIApp, Receive, Scope, Send
from baoha.config.model import ForwardedForConfig
from baoha.errors import ConfigError

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MISSING_HEADER = "missing x-forwarded-for header and configured to reject when not present"
NOT_AUTHORIZED = (
    "client address not authorized for x-forwarded-for and configured to reject connection"
)
TOO_MANY_SKIPS = (
    "malformed x-forwarded-for configuration or request, hops to skip ({skips}) would skip "
    "before earliest chain link (chain length {length})"
)


def parse_networks(addresses: Sequence[str]) -> tuple[IPNetwork, ...]:
    """
    Return addresses and CIDR ranges as networks.

    Raises:
        ConfigError: one of them is neither.
    """
    networks = []
    for address in addresses:
        try:
            networks.append(ipaddress.ip_network(address.strip(), strict=False))
        except ValueError as error:
            raise ConfigError(
                f'x_forwarded_for_authorized_addrs: "{address}" is neither an IP address nor a '
                "CIDR range"
            ) from error
    return tuple(networks)


def with_forwarded_for(app: ASGIApp, config: ForwardedForConfig) -> ASGIApp:
    """
    Return the app, seeing the client that the proxies report.

    Raises:
        ConfigError: an address of a proxy is none.
    """
    proxies = parse_networks(config.authorized_addrs)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = _replace_client(scope, config, proxies)
            if refusal is not None:
                await _refuse(send, refusal)
                return
        await app(scope, receive, send)

    return wrapped


def _replace_client(
    scope: Scope, config: ForwardedForConfig, proxies: Sequence[IPNetwork]
) -> str | None:
    values = [
        value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"
    ]
    if not values:
        # Measured: this comes before the question of who asks.
        return MISSING_HEADER if config.reject_not_present else None
    client = scope.get("client")
    if not _is_authorized(client, proxies):
        return NOT_AUTHORIZED if config.reject_not_authorized else None
    chain = [entry.strip() for entry in ",".join(values).split(",")]
    index = len(chain) - 1 - config.hop_skips
    if index < 0:
        return TOO_MANY_SKIPS.format(skips=config.hop_skips, length=len(chain))
    scope["client"] = (chain[index], client[1] if client else 0)
    return None


def _is_authorized(client: Sequence[object] | None, networks: Sequence[IPNetwork]) -> bool:
    if not client:
        return False  # a unix socket has no address
    try:
        address = ipaddress.ip_address(str(client[0]).partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # an IPv4 client on a dual-stack socket
    return any(address in network for network in networks)


async def _refuse(send: Send, text: str) -> None:
    body = json.dumps({"errors": [text]}, separators=(",", ":")).encode() + b"\n"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})
