"""
What is refused because of its path or a header alone, in any state of the node.

Rule of this file: pure functions of the request; the order of the checks is OpenBao's.

Source: OpenBao 2.7.2 as recorded ("double slash" of
tests/conformance/recordings/01-uninitialised.json, "nonprintable path" of
tests/conformance/recordings/generic-http.json); docs/spec/openbao-ha.md sections 4.1 and 4.7.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import unquote

from baoha import names
from baoha.api.answers import error_answer, page_not_found
from baoha.api.query import is_malformed, joined_values, wanted_listing
from baoha.errors import InvalidRequest
from baoha.sansio.formats.json_decoder import decode_object
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse

API_PREFIX: Final = "/v1/"
# Each costs a microsecond or two in the event loop, and nobody has more than a handful.
QUERY_PARAMETERS_MAX: Final = 1000
_INDEX_CHARS_MAX: Final = 4096  # ours has 100
_UNQUOTED_CHARS_MAX: Final = 1024
_UI_PATHS: Final = frozenset({"/", "/ui", "/robots.txt"})
_UI_PREFIX: Final = "/ui/"
# Where a path that was resolved to one without its last slash gets it back. Source: measured
_FOLDERS: Final = frozenset({"/v1", "/v1/sys"})
_INCONSISTENT_MODES: Final = (None, "fail", "forward-active-node", "await-state")
# Not available inside a namespace. A trailing "/" covers everything below.
_ROOT_ONLY: Final = (
    "sys/generate-root/",
    "sys/health",
    "sys/in-flight-req",
    "sys/init",
    "sys/metrics",
    "sys/pprof/",
    "sys/raw/",
    "sys/rekey/",
    "sys/seal",
    "sys/step-down",
    "sys/storage/",
    "sys/unseal",
)
# What operators, balancers and other nodes steer a cluster by. Everything below ``sys/ha/`` too.
_CONTROL: Final = frozenset(
    {
        "sys/ha-status",
        "sys/health",
        "sys/init",
        "sys/leader",
        "sys/seal",
        "sys/seal-status",
        "sys/step-down",
        "sys/unseal",
    }
)


def decoded_path(raw_path: str) -> str | None:
    """Return a path with its escapes resolved, or None when an escape is malformed."""
    if is_malformed(raw_path):
        return None
    if len(raw_path) <= _UNQUOTED_CHARS_MAX or not raw_path.isascii():
        return unquote(raw_path, errors="replace")
    # Quoted-printable is the same with another sign, and is read in C: a head full of escapes
    # would take several milliseconds, and it takes no token to send one.
    quoted = raw_path.encode().replace(b"=", b"=3D").replace(b"%", b"=")
    return binascii.a2b_qp(quoted).decode(errors="replace")


def is_control(path: str) -> bool:
    """Whether a path (without ``/v1/``) belongs to the control of the cluster, not to its data."""
    return path in _CONTROL or path.startswith("sys/ha/")


def refusal(request: HTTPRequest, given: Mapping[str, str]) -> HTTPResponse | None:
    """
    Return the answer to a request that is wrong whatever the node's state, else None.

    Args:
        given: ``request.first_values()``.
    """
    if request.path in _UI_PATHS or request.path.startswith(_UI_PREFIX):
        return page_not_found()
    if not request.path.startswith(API_PREFIX):
        return error_answer(404)
    raw_path = request.raw_path
    if "//" in raw_path or "/." in raw_path or raw_path in _FOLDERS:
        clean = _clean(raw_path)
        if clean != raw_path and not _is_folder_to_explain(clean, request):
            return _moved(clean, request)
    if "/." in request.path and any(part in (".", "..") for part in request.path.split("/")):
        return error_answer(400, "relative paths not supported")
    if request.query.count("&") >= QUERY_PARAMETERS_MAX:
        return error_answer(400, "too many query parameters")
    has_conditions = names.INDEX_HEADER in given or names.INCONSISTENT_HEADER in given
    if has_conditions and (answer := _consistency_refusal(given)) is not None:
        return answer
    if given.get(names.NAMESPACE_HEADER) and _is_root_only(request.path.removeprefix(API_PREFIX)):
        return error_answer(400, "operation unavailable in namespaces")
    return _listing_refusal(request) if request.query else None


def _clean(raw_path: str) -> str:
    """Resolve empty, "." and ".." segments; an escaped slash is not a separator here."""
    kept: list[str] = []
    segments = raw_path.split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    path = f"/{'/'.join(kept)}"
    return f"{path}/" if kept and (segments[-1] == "" or path in _FOLDERS) else path


def _is_folder_to_explain(clean: str, request: HTTPRequest) -> bool:
    """Return whether only the last slash is missing and help is asked for. Source: measured"""
    if clean != f"{request.raw_path}/":
        return False
    return request.method == "HELP" or bool(joined_values(request.query).get("help"))


def _moved(clean: str, request: HTTPRequest) -> HTTPResponse:
    query = f"?{request.query}" if request.query else ""
    location = ("location", f"{clean}{query}")
    if request.method not in ("GET", "HEAD"):
        return HTTPResponse(status=307, headers=(location,))
    body = f'<a href="{escape(location[1])}">Temporary Redirect</a>.\n\n'
    return HTTPResponse(
        status=307,
        headers=(("content-type", "text/html; charset=utf-8"), location),
        body=body.encode(),
    )


def _consistency_refusal(given: Mapping[str, str]) -> HTTPResponse | None:
    """Check the read-after-write headers; every read is the active node's, so they hold."""
    if index := given.get(names.INDEX_HEADER):
        if len(index) > _INDEX_CHARS_MAX:
            return error_answer(400, 'failed to decode "X-Vault-Index"')
        try:
            decode_object(base64.b64decode(index, validate=True))
        except (binascii.Error, ValueError, InvalidRequest):
            return error_answer(400, 'failed to decode "X-Vault-Index"')
    if given.get(names.INCONSISTENT_HEADER) not in _INCONSISTENT_MODES:
        return error_answer(400, 'unknown value for "X-Vault-Inconsistent" header')
    return None


def _is_root_only(path: str) -> bool:
    return any(path.startswith(root) if root.endswith("/") else path == root for root in _ROOT_ONLY)


def _listing_refusal(request: HTTPRequest) -> HTTPResponse | None:
    """Refuse ``list`` and ``scan`` that are no truth values, or both true: local paths too."""
    if request.method == "GET":
        try:
            wanted_listing(request.query)
        except InvalidRequest:
            return error_answer(400)
    return None
