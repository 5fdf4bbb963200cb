"""
A request as a curl command, for `--output-curl-string`; the token is never in it.

Source: `bao status -output-curl-string` of 2.7.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlencode

from baoha_cli.client.address import Endpoint
from baoha_cli.text import wire_bytes


def curl_command(
    endpoint: Endpoint,
    method: str,
    path: str,
    data: bytes | None,
    query: Sequence[tuple[str, str]],
    headers: Sequence[tuple[str, str]],
    *,
    has_token: bool,
) -> str:
    """Return the command; a token shows as a command substitution that reads it."""
    parts = ["curl"]
    if method != "GET":
        parts.append(f"-X {method}")
    parts.append('-H "X-Vault-Request: true"')
    if has_token:
        parts.append('-H "X-Vault-Token: $(bao print token)"')
    parts += [f"-H {_quoted(f'{name}: {text}')}" for name, text in headers]
    if data is not None:
        parts.append(f"-d {_quoted(data.decode('ascii', 'replace'))}")
    url = f"{endpoint.url}/v1/{quote(wire_bytes(path), safe='/-_.~')}"
    if query:
        url += "?" + urlencode([(wire_bytes(n), wire_bytes(v)) for n, v in query])
    parts.append(f'"{url}"')
    return " ".join(parts)


def _quoted(text: str) -> str:
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"
