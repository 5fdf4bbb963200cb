"""
The ``{{ GetPrivateIP }}`` of an address: the common templates of go-sockaddr.

Rules of this file: a template either gives exactly one address or is an error (OpenBao accepts one
that gives nothing, and then advertises ``http://:8200``); which addresses this host has is an
argument, so that nothing here needs a network.

Source: documentation of hashicorp/go-sockaddr; docs/spec/openbao-ha.md section 6.1.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from baoha.diagnostics.codes.addresses import UNEXPANDED_VARIABLE
from baoha.errors import ConfigError

TEMPLATE: Final = re.compile(r"\{\{(.{0,200}?)\}\}")
_CALL: Final = re.compile(r'(?P<name>[A-Za-z]{1,40})(?:\s+"(?P<argument>[^"]{1,40})")?')
SUPPORTED: Final = (
    "GetPrivateIP",
    "GetPrivateIPs",
    "GetPublicIP",
    "GetPublicIPs",
    'GetInterfaceIP "name"',
    'GetInterfaceIPs "name"',
    'GetAllInterfaces | include "name" "name" | attr "address"',
)
_ALL_INTERFACES: Final = re.compile(
    r'GetAllInterfaces\s*\|\s*include\s+"name"\s+"(?P<name>[^"]{1,40})"\s*\|\s*attr\s+"address"'
)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAddress:
    """
    One address of this host. ``default_route``: its interface has one.
    """

    interface: str
    ip: IPAddress
    default_route: bool = False


HostAddresses = Callable[[], Sequence[HostAddress]]


def render(text: str, key: str, host_addresses: HostAddresses) -> str:
    """
    Return the text with its templates replaced; without templates the host is not asked.

    Args:
        key: the configuration key, for error texts.

    Raises:
        ConfigError: a template is not supported, or gives no address or more than one.
    """

    def replace(match: re.Match[str]) -> str:
        return _evaluate(match[1].strip(), key, host_addresses)

    return TEMPLATE.sub(replace, text)


def _evaluate(expression: str, key: str, host_addresses: HostAddresses) -> str:
    call = _CALL.fullmatch(expression)
    everything = _ALL_INTERFACES.fullmatch(expression)
    if everything is not None:
        name, argument = "GetInterfaceIP", everything["name"]
    elif call is not None:
        name, argument = call["name"].removesuffix("s"), call["argument"]
    else:
        raise _unsupported(expression, key)
    if name == "GetInterfaceIP" and argument:
        found = [one.ip for one in host_addresses() if one.interface == argument]
    elif name == "GetPrivateIP" and not argument:
        found = [one.ip for one in host_addresses() if one.default_route and one.ip.is_private]
    elif name == "GetPublicIP" and not argument:
        found = [one.ip for one in host_addresses() if one.default_route and one.ip.is_global]
    else:
        raise _unsupported(expression, key)
    return _only_one(found, expression, key, several=expression.split()[0].endswith("IPs"))


def _only_one(found: Sequence[IPAddress], expression: str, key: str, *, several: bool) -> str:
    usable = [ip for ip in found if not ip.is_link_local and not ip.is_loopback] or list(found)
    if not usable:
        raise ConfigError(
            f'{key}: template "{expression}" gives no address on this host',
            code=UNEXPANDED_VARIABLE.id,
        )
    usable.sort(key=lambda ip: (ip.version, int(ip)))
    # The singular templates pick the first address; the plural ones must not have more than one.
    if several and len(usable) > 1:
        listed = " ".join(str(ip) for ip in usable)
        raise ConfigError(
            f'{key}: multiple addresses found ("{listed}"), please configure one',
            code=UNEXPANDED_VARIABLE.id,
        )
    first = usable[0]
    return f"[{first}]" if first.version == 6 else str(first)


def _unsupported(expression: str, key: str) -> ConfigError:
    return ConfigError(
        f'{key}: template "{expression}" is not supported; supported are: {", ".join(SUPPORTED)}',
        code=UNEXPANDED_VARIABLE.id,
    )
