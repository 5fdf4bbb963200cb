"""
One HTTP answer, read tolerantly.

Rule of this file: nothing a server sends raises anything but what is documented. Bodies are decoded
only on request, and "not what was expected" is a value (None or {}).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from baoha_cli.client.address import Endpoint
from baoha_cli.failures import ApiFailed
from baoha_cli.text import printable

_ERRORS_SHOWN_MAX: Final = 20


@dataclass(frozen=True)
class TLSPeer:
    """
    Who answered, as seen on the connection.

    Args:
        tls_version: such as "TLSv1.3"; "" without TLS.
        certificate_der: the server's certificate; b"" without TLS.
    """

    tls_version: str = ""
    certificate_der: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Answer:
    """
    One HTTP answer.

    Args:
        endpoint: the address asked.
        method: as sent.
        url: as sent.
        status: HTTP status code.
        headers: names in lower case, in order.
        body: the whole body.
        took_s: from the start of the request to the end of the body.
        peer: see Peer.
    """

    endpoint: Endpoint
    method: str
    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    took_s: float = 0.0
    peer: TLSPeer = field(default_factory=TLSPeer, repr=False)

    def header(self, name: str) -> str:
        """Return the first header of that name (lower case), or ""."""
        return next((value for key, value in self.headers if key == name), "")

    def json(self) -> object:
        """Return the decoded body, or None when it is not JSON."""
        return decode_json(self.body)

    def mapping(self) -> dict[str, object]:
        """Return the decoded body when it is an object, else {}."""
        return as_mapping(self.json())

    def errors(self) -> tuple[str, ...]:
        """Return the server's list of errors, safe to print."""
        listed = as_list(self.mapping().get("errors"))
        texts = [printable(item.rstrip()) for item in listed if isinstance(item, str)]
        return tuple(texts[:_ERRORS_SHOWN_MAX])

    def failure(self) -> ApiFailed:
        """Describe this answer as an error."""
        raw = printable(self.body.decode("utf-8", "replace").strip())
        if self.mapping().get("errors") == []:
            raw = ""
        return ApiFailed(self.status, self.errors(), method=self.method, url=self.url, raw=raw)

    def checked(self, *accepted: int) -> Answer:
        """
        Return itself when the status is 2xx or in ``accepted``.

        Raises:
            ApiFailed: any other status.
        """
        if 200 <= self.status < 300 or self.status in accepted:
            return self
        raise self.failure()

    def of_api(self) -> Answer:
        """
        Return itself unless it is a success that no server of this API would send.

        A login page or a proxy's welcome in front of the server answers 200 to everything.

        Raises:
            ApiFailed: the body is no JSON object.
        """
        if not 200 <= self.status < 300 or self.body.lstrip()[:1] in (b"{", b""):
            return self
        raise self.failure()


def decode_json(body: bytes) -> object:
    """Return the decoded JSON, or None for anything else (NaN and absurd nesting included)."""
    try:
        decoded: object = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return decoded


def as_mapping(value: object) -> dict[str, object]:
    """Return value when it is a dict, else {}."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return value when it is a list, else []."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return value when it is a string, else ""."""
    return value if isinstance(value, str) else ""


def as_int(value: object) -> int | None:
    """Return value when it is an integer (a bool is not), else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_bool(value: object) -> bool | None:
    """Return value when it is a bool, else None."""
    return value if isinstance(value, bool) else None


def _refuse_constant(name: str) -> object:
    raise ValueError(name)
