"""
How answers are made: JSON bodies, errors by kind, redirects.

Rules of this file:

1. What a store or a bug says goes to the log; a client gets a sentence without addresses, names or
   secrets.
2. An error of which it is unknown whether it took effect says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, urlsplit

from baoha.api.standby_policy import RETRY_AFTER_S
from baoha.errors import (
    BaohaError,
    HAError,
    Overloaded,
    RequestError,
    SealError,
    StorageUnavailable,
    TransactionConflict,
    type_and_place,
)
from baoha.sansio.envelope import error_body
from baoha.sansio.formats.json_encoder import encode
from baoha.sansio.wire.messages import Headers, HTTPRequest, HTTPResponse

log = logging.getLogger("baoha.api")

# Source: OpenBao's default custom response headers, recorded.
DEFAULT_RESPONSE_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {"strict-transport-security": "max-age=31536000; includeSubDomains"}
)
JSON_TYPE: Final = ("content-type", "application/json")
TEXT_TYPE: Final = ("content-type", "text/plain; charset=utf-8")
UNKNOWN_OUTCOME: Final = (
    "the active node was lost while this request was under way: the outcome is unknown, "
    "read before you repeat it"
)
OVERLOADED_TEXT: Final = "this node is overloaded; the request was not executed"
TOO_LARGE_TEXT: Final = "http: request body too large"
_INTERNAL_TEXT: Final = "internal error"

# The characters that Go leaves as they are in a path. Source: net/url as measured (Location).
_PATH_SAFE: Final = "/:;=@&+$,-_.~"


def common_headers(
    response_headers: Mapping[str, str] = DEFAULT_RESPONSE_HEADERS,
) -> Mapping[str, str]:
    """Return what every answer has: ``Cache-Control: no-store``, and those given."""
    return {"cache-control": "no-store"} | {
        name.lower(): value for name, value in response_headers.items()
    }


def json_answer(status: int, body: Any) -> HTTPResponse:
    """Return an answer with a JSON body."""
    return HTTPResponse(status=status, headers=(JSON_TYPE,), body=encode(body))


def no_content(marks: Headers = ()) -> HTTPResponse:
    """Return 204, with some headers more; OpenBao names a content type here too."""
    return HTTPResponse(status=204, headers=(JSON_TYPE, *marks))


def error_answer(status: int, *errors: str, retry_after_s: int = 0) -> HTTPResponse:
    """Return an error; ``retry_after_s`` 0 leaves the header out."""
    headers: Headers = (JSON_TYPE,)
    if retry_after_s:
        headers += (("retry-after", str(retry_after_s)),)
    return HTTPResponse(status=status, headers=headers, body=error_body(*errors))


def overloaded() -> HTTPResponse:
    """Return the answer to a request that was not let in: when to come again."""
    return error_answer(503, OVERLOADED_TEXT, retry_after_s=RETRY_AFTER_S)


def unknown_outcome() -> HTTPResponse:
    """Return the answer to a write that may or may not have landed."""
    return error_answer(503, UNKNOWN_OUTCOME, retry_after_s=RETRY_AFTER_S)


def page_not_found() -> HTTPResponse:
    """Return the 404 of paths that belong to the web interface, which we do not have."""
    return HTTPResponse(
        status=404,
        headers=(TEXT_TYPE, ("x-content-type-options", "nosniff")),
        body=b"404 page not found\n",
    )


def redirect(location: str) -> HTTPResponse:
    """Return a 307 without a body."""
    return HTTPResponse(status=307, headers=(("location", location),))


def redirect_location(redirect_addr: str, request: HTTPRequest) -> str:
    """
    Return where a client is sent: scheme and host of the active node, its own path and query.

    The path is encoded anew from its decoded form, the query stays byte for byte.
    Source: docs/spec/openbao-ha.md section 4.4; a path in the address is dropped.
    """
    if "://" not in redirect_addr:
        redirect_addr = f"https://{redirect_addr}"
    address = urlsplit(redirect_addr)
    path = quote(request.path, safe=_PATH_SAFE)
    query = f"?{request.query}" if request.query else ""
    return f"{address.scheme}://{address.netloc}{path}{query}"


def unforeseen(request: HTTPRequest, exc: Exception) -> HTTPResponse:
    """
    Log an error that nobody foresaw, and return its answer.
    """
    log.error(
        "request failed: method=%s path=%.200r error=%s",
        request.method,
        request.path,
        type_and_place(exc),
    )
    return error_answer(500, _INTERNAL_TEXT)


def failure_answer(exc: BaohaError) -> HTTPResponse:
    """Return the answer to an error of ours that was raised while a request was executed."""
    if isinstance(exc, Overloaded):
        return error_answer(exc.status_hint, *exc.errors, retry_after_s=RETRY_AFTER_S)
    if isinstance(exc, RequestError):
        return error_answer(exc.status_hint, *exc.errors)
    if isinstance(exc, SealError | HAError):
        return error_answer(exc.status_hint, str(exc))
    if isinstance(exc, StorageUnavailable):
        log.error("request failed, the store does not answer: cause=%r", str(exc))
        if exc.outcome == "unknown":
            text = "storage is unavailable; the outcome is unknown, read before you repeat it"
            return error_answer(503, text, retry_after_s=RETRY_AFTER_S)
        return error_answer(exc.status_hint, "storage is unavailable")
    log.error("request failed: kind=%s cause=%r", type(exc).__name__, str(exc))
    if isinstance(exc, TransactionConflict):
        return error_answer(exc.status_hint, "transaction commit failed")
    return error_answer(exc.status_hint, _INTERNAL_TEXT)
