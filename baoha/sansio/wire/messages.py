"""
One HTTP request and one HTTP response as values, the same on every path.

The API listener makes an ``HTTPRequest`` from an ASGI scope, a standby sends it over the cluster
channel, the active node answers it with an ``HTTPResponse``: no path has a shape of its own.
Header names are lower case. Bodies are whole and already bounded by the listener.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

# The largest body of a request or an answer: the same whether it is forwarded or not.
BODY_BYTES_MAX: Final = 67_108_864

Headers = tuple[tuple[str, str], ...]

# Never passed from one hop to the next. Source: RFC 9110 section 7.6.1.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# Set by nodes for nodes; dropped when a client sends them. Source: ours.
INTERNAL_PREFIXES = ("x-vault-internal-", "x-baoha-internal-")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerPolicy:
    """
    What the listener that took the request allows. It travels with a forwarded request, so that
    forwarding never bypasses it.
    """

    name: str = ""
    max_request_bytes: int = 33_554_432
    max_request_s: float = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRequest:
    """
    One request. ``path`` is decoded, ``raw_path`` as it came (without the query), ``query`` raw.

    ``headers`` has no hop-by-hop and no internal header any more; it may hold the token, so
    neither headers nor body are part of the representation.
    """

    method: str
    path: str
    raw_path: str
    query: str = ""
    headers: Headers = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    remote_addr: str = ""  # "ip:port" of the client, X-Forwarded-For already considered
    client_certificates: tuple[bytes, ...] = ()  # DER, leaf first
    listener: ListenerPolicy = ListenerPolicy()
    forwarded_by: str = ""  # node id of the standby, "" for a direct request

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None. ``name`` is lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def first_values(self) -> Mapping[str, str]:
        """Return the headers by name, of each the first value: for whoever asks for several."""
        return dict(reversed(self.headers))


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPResponse:
    """One response with its whole body."""

    status: int
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None. ``name`` is lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """
    Return the headers that may travel on, in lower case: no hop-by-hop, no internal ones.

    What ``Connection`` names beyond those stays, as in OpenBao: a standby and the active node are
    one server to the client, and nobody may make a proxy's ``X-Vault-Namespace`` disappear.
    """
    kept = []
    for raw_name, value in headers:
        name = raw_name.decode("latin-1").lower()
        if name not in HOP_BY_HOP and not name.startswith(INTERNAL_PREFIXES):
            kept.append((name, value.decode("latin-1")))
    return tuple(kept)
