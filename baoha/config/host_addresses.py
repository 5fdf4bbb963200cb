"""
The addresses of this host, for address templates; asked only if a template is used.

Rule of this file: it reads /proc/net and asks the kernel by ioctl; it sends nothing.

Source: netdevice(7), proc(5), Linux.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from baoha.config.sockaddr import HostAddress

_SIOCGIFADDR: Final = 0x8915
_IFREQ_NAME_BYTES: Final = 15
_ROUTES: Final = Path("/proc/net/route")
_IPV6: Final = Path("/proc/net/if_inet6")


def read_host_addresses() -> Sequence[HostAddress]:
    """
    Return the first IPv4 address and all IPv6 addresses of every interface.
    """
    routed = _default_route_interfaces()
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:_IFREQ_NAME_BYTES])
            try:
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue  # an interface without an IPv4 address
            ip = ipaddress.IPv4Address(answer[20:24])
            found.append(HostAddress(interface=name, ip=ip, default_route=name in routed))
    for fields in _table(_IPV6, columns=6):
        name = fields[5]
        ip6 = ipaddress.IPv6Address(bytes.fromhex(fields[0]))
        found.append(HostAddress(interface=name, ip=ip6, default_route=name in routed))
    return found


def _default_route_interfaces() -> set[str]:
    return {fields[0] for fields in _table(_ROUTES, columns=8) if fields[1] == fields[7] == "0" * 8}


def _table(path: Path, *, columns: int) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []  # no such protocol on this host
    return [fields for fields in (line.split() for line in lines) if len(fields) >= columns]
