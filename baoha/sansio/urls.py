"""
An address as an operator writes it, taken apart without judging it.

Rule of this file: no input raises. What is wrong with an address is for ``address_form.py`` to say;
this file only tells its parts, also those of an address that is no URL at all.

Source: ours; RFC 3986 for what is right.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

PORT_MAX: Final = 65_535
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_AUTHORITY_END: Final = re.compile(r"[/?#]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    The parts of an address.

    Attributes:
        scheme: as written, "" where there is none.
        host: without brackets.
        port_text: what stands behind the last colon; None where there is no colon.
        junk: what follows the closing bracket of an IPv6 address and is no port.
        tail: path, query and fragment, "/" alone left out.
        unbracketed: the host has several colons and no brackets.
    """

    scheme: str
    host: str
    port_text: str | None
    userinfo: bool
    tail: str
    junk: str
    unbracketed: bool

    @property
    def port(self) -> int | None:
        """Return the port; None where there is none or it is no number from 0 to 65535."""
        if self.port_text is None or _PORT.fullmatch(self.port_text) is None:
            return None
        port = int(self.port_text)
        return port if port <= PORT_MAX else None

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """Return the host as an IP address, or None if it is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def default_port(self) -> int:
        """Return the port that counts where none is written."""
        return 80 if self.scheme.lower() == "http" else 443


def split_url(text: str) -> Address:
    """
    Take a URL apart: ``https://host:8200``.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or _SCHEME.fullmatch(scheme) is None:
        scheme, rest = "", text
    end = _AUTHORITY_END.search(rest)
    authority, tail = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    userinfo, at, hostport = authority.rpartition("@")
    return _split(hostport, scheme=scheme, userinfo=bool(at or userinfo), tail=tail)


def split_host_port(text: str) -> Address:
    """
    Take the address of a listener apart: ``host:port``, ``:port``, ``[::1]:port``.
    """
    return _split(text, scheme="", userinfo=False, tail="")


def join_host_port(host: str, port: int) -> str:
    """
    Return ``host:port``, an IPv6 address in brackets.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def next_port(port: int) -> int:
    """
    Return the port that is guessed for the cluster listener; 0 (any free port) stays 0.
    """
    return port + 1 if port else 0


def _split(hostport: str, *, scheme: str, userinfo: bool, tail: str) -> Address:
    host, port_text, junk, unbracketed = hostport, None, "", False
    if hostport.startswith("[") and "]" in hostport:
        host, _, rest = hostport[1:].partition("]")
        if rest.startswith(":"):
            port_text = rest[1:]
        else:
            junk = rest
    elif hostport.count(":") > 1:
        unbracketed = True
    elif ":" in hostport:
        host, _, port_text = hostport.partition(":")
    return Address(
        scheme=scheme,
        host=host,
        port_text=port_text,
        userinfo=userinfo,
        tail="" if tail == "/" else tail,
        junk=junk,
        unbracketed=unbracketed,
    )
