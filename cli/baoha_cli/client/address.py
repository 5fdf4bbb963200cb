"""
Addresses of nodes: text to Endpoint, strictly.

Rule of this file: an address that could mean two things is refused, with the form that was
probably meant. `localhost:8200` must not be read as the scheme "localhost" (checks BH-102, BH-112).

Source: docs/spec/cluster-cli.md sections 1.1 and 6.2 A; default address as in `bao status -h`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from baoha_cli.failures import UsageFailed

DEFAULT_ADDRESS: Final = "https://127.0.0.1:8200"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_ADDRESS_CHARS_MAX: Final = 2048
_USER: Final = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)?[^/?#]*@")


@dataclass(frozen=True)
class Endpoint:
    """
    One API address.

    Args:
        scheme: "http" or "https".
        host: name or IP address, without brackets.
        port: 1 to 65535.
        prefix: path in front of "/v1", "" or starting with "/" and not ending in one.
        name: what to verify in TLS when it is not the host; "" is the host.
        is_named_by_server: nobody here gave it, so it gets nothing that could be a secret.
    """

    scheme: str
    host: str
    port: int
    prefix: str = ""
    name: str = ""
    is_named_by_server: bool = False

    @property
    def netloc(self) -> str:
        """Host and port as in a URL, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a token is bound to."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def url(self) -> str:
        """The whole address."""
        return self.origin + self.prefix


def parse_address(text: str) -> Endpoint:
    """
    Read one API address.

    Raises:
        UsageFailed: no scheme, no host, a wrong port, or parts that an address must not have.
    """
    text = text.strip()
    # What stands before an "@" may be a password.
    masked = _USER.sub(r"\1***@", text)
    shown = ascii(masked[:200])
    if not text or len(text) > _ADDRESS_CHARS_MAX:
        raise UsageFailed(f"address {shown} is empty or too long")
    if any(ord(char) <= 32 or ord(char) == 127 for char in text):
        raise UsageFailed(f"address {shown} holds a space or a control character")
    if "://" not in text:
        raise UsageFailed(
            f"address {shown} has no scheme", hint=f"write https://{ascii(masked)[1:-1]}"
        )
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError as exc:
        why = f": {exc}" if masked == text else ""  # its words may quote all of it
        raise UsageFailed(f"address {shown} is not a URL{why}", hint=_ipv6_hint(text)) from exc
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise UsageFailed(f'address {shown}: unsupported protocol scheme "{scheme}"')
    if not host:
        raise UsageFailed(f"address {shown} has no host", hint=_ipv6_hint(text))
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageFailed(f"address {shown} must not hold a user, a query or a fragment")
    if port == 0:
        raise UsageFailed(f"address {shown}: port 0 is not a port")
    return Endpoint(scheme, host, port or _DEFAULT_PORTS[scheme], parts.path.rstrip("/"))


def parse_addresses(texts: Iterable[str]) -> tuple[Endpoint, ...]:
    """
    Read addresses given several times or as comma lists; the same one twice counts once.

    Raises:
        UsageFailed: one of them is wrong.
    """
    found: dict[Endpoint, None] = {}
    for text in texts:
        for part in text.split(","):
            if part.strip():
                found.setdefault(parse_address(part))
    return tuple(found)


def labels(endpoints: Iterable[Endpoint]) -> dict[Endpoint, str]:
    """Name each endpoint as shortly as stays unique: host, or host and port."""
    listed = list(endpoints)
    hosts = [endpoint.host for endpoint in listed]
    return {
        endpoint: _short_host(endpoint.host) if hosts.count(endpoint.host) == 1 else endpoint.netloc
        for endpoint in listed
    }


def same_origin(endpoint: Endpoint, text: str) -> bool:
    """Return whether an address that a server advertises is this endpoint's."""
    try:
        other = parse_address(text)
    except UsageFailed:
        return False
    return other.origin.lower() == endpoint.origin.lower()


def _short_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ipv6_hint(text: str) -> str:
    bare = text.split("://", 1)[1].split("/", 1)[0]
    try:
        parsed = ip_address(bare.rsplit(":", 1)[0]) if bare.count(":") > 1 else None
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address):
        return "an IPv6 address needs brackets: https://[2001:db8::1]:8200"
    return ""
