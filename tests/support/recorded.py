"""
Recorded answers of OpenBao: replay the requests, compare the answers.

Rules of this file: whatever changes from run to run is normalised by *kind* (an id stays an id, an
empty string stays empty); lists keep their order; nothing else is forgiven.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baoha.sansio.wire.messages import HTTPResponse

RECORDINGS = Path(__file__).parent.parent / "conformance" / "recordings"

# Compared whenever the recording has them, or we do.
COMPARED_HEADERS = (
    "cache-control",
    "content-type",
    "location",
    "strict-transport-security",
    "x-content-type-options",
    "x-vault-namespace",
)
# Values that differ in every run. What is kept is whether there is one.
_VOLATILE = frozenset(
    {
        "accessor",
        "active_time",
        "client_token",
        "cluster_id",
        "cluster_name",
        "commit_date",
        "created_time",
        "creation_time",
        "deletion_time",
        "encryptions",
        "expiration",
        "expire_time",
        "hostname",
        "id",
        "install_time",
        "issue_time",
        "keys_base64",
        "last_echo",
        "last_renewal",
        "last_renewal_time",
        "migration_id",
        "modified",
        "nonce",
        "request_id",
        "root_token",
        "server_time_utc",
        "storage_type",
        "ttl",
        "updated_time",
        "uuid",
        "version_installed",
    }
)
_NAMED_SECRET = re.compile(r"\{\{(\w+)\}\}")
_ACCESSOR = re.compile(r"\b([a-z_]+)_[0-9a-f]{8}\b")
# The nodes of the recorded clusters, by their addresses.
_ADDRESSES = {
    "http://127.0.0.1:20400": "http://n0:8200",
    "https://127.0.0.1:20401": "https://n0:8201",
    "http://127.0.0.1:20410": "http://n1:8200",
    "https://127.0.0.1:20411": "https://n1:8201",
    "http://127.0.0.1:20420": "http://n2:8200",
    "https://127.0.0.1:20421": "https://n2:8201",
    "http://127.0.0.1:20210": "http://n0:8200",
    "https://127.0.0.1:20211": "https://n0:8201",
}
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its answer."""

    name: str
    state: str
    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    status: int
    answer_headers: Mapping[str, str]
    answer: Any


def load(name: str) -> list[Exchange]:
    """Return the exchanges of a scenario, in order."""
    text = (RECORDINGS / f"{name}.json").read_text()
    for theirs, ours in _ADDRESSES.items():
        text = text.replace(f"{theirs}/", f"{ours}/").replace(f'{theirs}"', f'{ours}"')
    return [_exchange(entry) for entry in json.loads(text) if "request" in entry]


def _exchange(entry: Mapping[str, Any]) -> Exchange:
    request, response = entry["request"], entry["response"]
    return Exchange(
        name=entry["name"],
        state=entry.get("node_state", ""),
        method=request["method"],
        target=request["path"],
        headers=[
            (name, value)
            for name, values in (request.get("headers") or {}).items()
            for value in (values if isinstance(values, list) else [values])
        ],
        body=_body(request.get("body")),
        status=response["status"],
        answer_headers={k.lower(): v for k, v in response.get("headers", {}).items()},
        answer=response.get("body"),
    )


def _body(recorded: Any) -> bytes:
    if recorded is None:
        return b""
    if isinstance(recorded, str):
        return _PLACEHOLDERS.get(recorded, recorded.encode())
    if set(recorded) == {"_base64"}:
        return base64.b64decode(recorded["_base64"])
    return json.dumps(recorded).encode()


def _value(size: int) -> bytes:
    return b'{"data":{"a":"' + b"x" * size + b'"}}'


def _many(keys: int) -> bytes:
    return json.dumps({"data": {f"k{number}": "v" for number in range(keys)}}).encode()


_PLACEHOLDERS = {
    "<600 nested objects>": b'{"data":' + b'{"a":' * 599 + b"{}" + b"}" * 600,
    "<data: 600 keys with string values>": _many(600),
    "<data: 480 keys with string values>": _many(480),
    "<data.a = 'x' * (1 MiB - 2000)>": _value(_MIB - 2000),
    "<data.a = 'x' * 2 MiB>": _value(2 * _MIB),
    "<data.a = 'x' * 20 MiB>": _value(20 * _MIB),
    "<33 MiB body>": b"x" * (33 * _MIB),
    "<33 MiB>": b"x" * (33 * _MIB),
    "<2 MiB>": _value(2 * _MIB),
}


def filled(text: str, secrets: Mapping[str, str]) -> str:
    """Put this run's secrets in the place of their names."""
    return _NAMED_SECRET.sub(lambda match: secrets.get(match[1], f"unknown-{match[1]}"), text)


def learned(exchange: Exchange, answer: HTTPResponse) -> dict[str, str]:
    """Return this run's tokens and accessors, by the names that the recorded answer gives them."""
    return dict(_named_values(exchange.answer, _parsed(answer)))


def _named_values(theirs: Any, ours: Any) -> Iterator[tuple[str, str]]:
    if isinstance(theirs, str) and isinstance(ours, str):
        if (match := _NAMED_SECRET.fullmatch(theirs)) is not None:
            yield match[1], ours
    elif isinstance(theirs, dict) and isinstance(ours, dict):
        for key in theirs.keys() & ours.keys():
            yield from _named_values(theirs[key], ours[key])
    elif isinstance(theirs, list) and isinstance(ours, list):
        for one, other in zip(theirs, ours, strict=False):
            yield from _named_values(one, other)


def differences(exchange: Exchange, answer: HTTPResponse, secrets: Mapping[str, str]) -> list[str]:
    """Return what differs between the recorded answer and ours, one line each."""
    found = []
    if answer.status != exchange.status:
        found.append(f"status {exchange.status} != {answer.status}")
    for name in COMPARED_HEADERS:
        theirs, ours = exchange.answer_headers.get(name), answer.header(name)
        if theirs != ours:
            found.append(f"{name}: {theirs!r} != {ours!r}")
    if ("x-vault-index" in exchange.answer_headers) != (answer.header("x-vault-index") is not None):
        found.append("x-vault-index is only on one side")
    theirs_length = exchange.answer_headers.get("content-length")
    if exchange.method == "HEAD" and theirs_length != answer.header("content-length"):
        found.append(f"content-length {theirs_length} != {answer.header('content-length')}")
    theirs_body = normalised(_filled_value(exchange.answer, secrets))
    ours_body = normalised(_parsed(answer))
    if theirs_body != ours_body:
        found.append(
            f"body\n    {json.dumps(theirs_body)[:1500]}\n    {json.dumps(ours_body)[:1500]}"
        )
    return found


def normalised(value: Any) -> Any:
    """Return a body with what changes from run to run replaced by what it is."""
    if isinstance(value, dict):
        return {
            _ACCESSOR.sub(r"\1_X", key): (_kind(item) if key in _VOLATILE else normalised(item))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [normalised(item) for item in value]
    return value


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"<list of {len(value)}>"
    if isinstance(value, str):
        return "<text>" if value else "<empty>"
    return f"<{type(value).__name__}>"


def _filled_value(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return filled(value, secrets)
    if isinstance(value, list):
        return [_filled_value(item, secrets) for item in value]
    if isinstance(value, dict):
        return {key: _filled_value(item, secrets) for key, item in value.items()}
    return value


def _parsed(answer: HTTPResponse) -> Any:
    if not answer.body:
        return None
    if (answer.header("content-type") or "").startswith("application/json"):
        return json.loads(answer.body)
    return answer.body.decode()
