"""
How requests travel: plain records, so that reading the command line loads neither ssl nor trio.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from baoha_cli.client.address import Endpoint

# A host that drops packets must not use up the whole time of a request.
CONNECT_TIMEOUT_S: Final = 1.5
# Nor one that accepts connections and says nothing; such a request is tried again. Source: Go
HANDSHAKE_TIMEOUT_S: Final = 10.0
BODY_BYTES_MAX: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class TLSOptions:
    """
    How to verify servers and show who we are; empty strings mean "not given".

    Args:
        ca_cert: PEM file of trusted certificates; replaces the system's.
        ca_path: directory of such files.
        client_cert: PEM file of our certificate; needs ``client_key``.
        client_key: PEM file of its key.
        server_name: name to ask for and verify instead of the address's host.
        skip_verify: accept any certificate.
    """

    ca_cert: str = ""
    ca_path: str = ""
    client_cert: str = ""
    client_key: str = ""
    server_name: str = ""
    skip_verify: bool = False


@dataclass(frozen=True)
class ConnectionSettings:
    """
    How requests travel.

    Args:
        timeout_s: for one whole request, connecting included.
        connect_timeout_s: for name resolution and TCP.
        handshake_timeout_s: for the proxy's tunnel and TLS.
        tls: see TLSOptions.
        proxy: tunnel through this HTTP proxy (CONNECT); None goes direct.
        namespace: sent as X-Vault-Namespace when not empty.
        headers: sent with every request, after our own.
        body_bytes_max: larger answers are refused.
    """

    timeout_s: float = 60.0
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S
    tls: TLSOptions = field(default_factory=TLSOptions)
    proxy: Endpoint | None = None
    namespace: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body_bytes_max: int = BODY_BYTES_MAX
