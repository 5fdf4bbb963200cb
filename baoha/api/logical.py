"""
Logical requests: HTTP to ``core.request.Request`` and back, on the active node.

Rules of this file:

1. A body is decoded before the request gate is entered: what a client sends never holds up the end
   of a tenure.
2. The reply leaves only while the tenure that admitted the request is still valid.
3. What is not small is decoded and encoded in a worker thread; what is read here is bounded before
   it is read.

Source: recorded and measured on OpenBao 2.7.2 (tests/conformance/recordings/generic-http.json).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar
from uuid import uuid4

from baoha import names, offload
from baoha.api.answers import JSON_TYPE, error_answer, no_content
from baoha.api.paths import API_PREFIX
from baoha.api.query import joined_values, parse_form, wanted_listing
from baoha.core.request import Auth, Operation, Request, Response
from baoha.core.view import NodeStatus, NodeView
from baoha.errors import InvalidRequest, NotFound, Overloaded, RequestError
from baoha.offload import INLINE_BYTES_MAX, Pause
from baoha.sansio.durations import SECOND_NS, DurationError, parse_duration_ns
from baoha.sansio.envelope import envelope_body
from baoha.sansio.formats.json_decoder import decode_object
from baoha.sansio.formats.json_encoder import ENCODED_BYTES_MAX, Fields, TooLargeError, cost
from baoha.sansio.wire.messages import Headers, HTTPRequest, HTTPResponse

T = TypeVar("T")

_OPERATIONS: Final = {
    "GET": Operation.READ,
    "HEAD": Operation.HEAD,
    "HELP": Operation.HELP,
    "LIST": Operation.LIST,
    "SCAN": Operation.SCAN,
    "POST": Operation.UPDATE,
    "PUT": Operation.UPDATE,
    "PATCH": Operation.PATCH,
    "DELETE": Operation.DELETE,
}
_WITH_BODY: Final = frozenset({Operation.UPDATE, Operation.PATCH})
_MEDIA_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~\w-]+(?:/[!#$%&'*+.^_`|~\w-]+)?", re.ASCII)
_PARAMETER: Final = re.compile(
    r"""\s*+;\s*+[!#$%&'*+.^_`|~\w-]++=(?:[!#$%&'*+.^_`|~\w-]++|"(?:[^"\\]|\\.)*+")""",
    re.ASCII,
)
_PARAMETERS_END: Final = re.compile(r"\s*+;?+\s*+", re.ASCII)
_CONTENT_TYPE_CHARS_MAX: Final = 1024
_EXECUTED: Final = "the request was executed, its answer cannot be shown"
_FORM: Final = "application/x-www-form-urlencoded"
_MERGE_PATCH: Final = "application/merge-patch+json"
# A path of the Enterprise product; clients ask it without a token to tell the products apart.
_REPLICATION_STATUS: Final = "sys/replication/status"
_WRAP_TTL_HEADER: Final = "x-vault-wrap-ttl"
# What proves who somebody is: not for engines to see.
_CREDENTIALS: Final = frozenset({names.TOKEN_HEADER, "authorization", "cookie"})
# Where JSON that was sent as a form is looked for.
_FIRST_BYTES: Final = 1024


async def execute(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    """
    Execute one logical request on this node, which must be active.

    Raises:
        NotActive: nothing was executed.
        LeadershipLost: the tenure ended meanwhile; a write may have landed.
        BaohaError: as ``NodeView.handle``.
    """
    logical = await logical_request(request)
    with view.admit() as ticket:
        response = await view.handle(logical)
        try:
            answer = await _encoded(response, request_id=logical.id, index=_index(view.status()))
        except (Overloaded, TooLargeError) as exc:
            raise _not_answered(exc, is_read=is_read(request)) from exc
        ticket.require_valid()
    return answer


async def _encoded(response: Response, *, request_id: str, index: str) -> HTTPResponse:
    """Return the HTTP form of an answer; of a heavy one, made in a worker thread."""
    encode = partial(http_response, response, request_id=request_id, index=index)
    cost_bytes = cost((response.data, response.warnings))
    if cost_bytes <= INLINE_BYTES_MAX:
        return encode()
    return await offload.run(lambda pause: encode(pause=pause), cost_bytes)


def _not_answered(exc: Overloaded | TooLargeError, *, is_read: bool) -> RequestError:
    """Return the error for an answer that cannot be made, after the request was executed."""
    if isinstance(exc, Overloaded):
        return exc if is_read else RequestError(f"{_EXECUTED}: too much work at once", status=503)
    text = f"the answer is larger than {ENCODED_BYTES_MAX} bytes"
    return RequestError(text if is_read else f"{_EXECUTED}: {text}", status=500)


def is_read(request: HTTPRequest) -> bool:
    """Return whether a request may be executed twice: a read without response wrapping."""
    return request.method in ("GET", "HEAD", "LIST", "SCAN") and not request.header(
        _WRAP_TTL_HEADER
    )


def wants_help(request: HTTPRequest) -> bool:
    """Return whether a request asks for the description of a path instead of the path."""
    return request.method == "HELP" or (
        "help=" in request.query and bool(joined_values(request.query).get("help"))
    )


def token_of(request: HTTPRequest) -> str:
    """Return the client's token, "" when there is none. ``X-Vault-Token`` comes first."""
    for name, value in request.headers:
        if name == names.TOKEN_HEADER:
            if token := value.strip():
                return token
            break
    for name, value in request.headers:
        scheme, _, credentials = value.partition(" ")
        if name == "authorization" and scheme == "Bearer":
            return credentials.strip()
    return ""


async def decode_body(request: HTTPRequest) -> dict[str, Any]:
    """
    Return the JSON object (or form) of a body.

    Raises:
        InvalidRequest: with OpenBao's text.

    Cancellation: as ``decoded``.
    """
    if _is_form(request):
        return await decoded(_decode_form, request.body)
    if len(request.body) <= INLINE_BYTES_MAX:
        return decode_object(request.body)
    return await decoded(_decode_json, request.body)


async def decoded(decode: Callable[[bytes, Pause], T], body: bytes) -> T:
    """
    Decode a body; one that is not small in a worker thread.

    Args:
        decode: calls its second argument between pieces of a large body.

    Raises:
        Overloaded: too many bodies at once.

    Cancellation: the body is not decoded, or no further than the piece at hand.
    """
    if len(body) <= INLINE_BYTES_MAX:
        return decode(body, _go_on)
    return await offload.run(lambda pause: decode(body, pause), len(body))


async def logical_request(request: HTTPRequest) -> Request:
    """
    Return what an HTTP request asks for.

    Raises:
        RequestError: it asks for nothing that can be asked.
    """
    given = request.first_values()
    if given.get(names.NAMESPACE_HEADER, "").strip("/") not in ("", "root"):
        raise NotFound("namespace not found")
    path = request.path.removeprefix(API_PREFIX)
    if path == _REPLICATION_STATUS:
        raise NotFound("unsupported path")
    query = joined_values(request.query) if request.query else {}
    operation = _operation(request, query)
    if operation in (Operation.LIST, Operation.SCAN) and not path.endswith("/"):
        path += "/"
    if operation is Operation.PATCH:
        _require_merge_patch(given.get("content-type", "").strip())
    wrap_ttl = given.get(_WRAP_TTL_HEADER)
    wrap_ttl_s = _wrap_ttl_s(wrap_ttl) if wrap_ttl else 0.0
    token, headers = token_of(request), dict(request.headers)
    for name in _CREDENTIALS:
        headers.pop(name, None)
    data = await decode_body(request) if operation in _WITH_BODY else query
    return Request(
        id=str(uuid4()),
        operation=operation,
        path=path,
        data=data,
        token=token,
        query=query,
        remote_addr=request.remote_addr,
        client_certificates=request.client_certificates,
        wrap_ttl_s=wrap_ttl_s,
        headers=headers,
    )


def http_response(
    response: Response, *, request_id: str, index: str = "", pause: Pause | None = None
) -> HTTPResponse:
    """
    Return the HTTP form of a logical answer.

    Args:
        index: the ``X-Vault-Index`` header of what an engine has answered, "" for none.
        pause: called between pieces of the work.

    Raises:
        TooLargeError: its body would be larger than ``ENCODED_BYTES_MAX``.
    """
    marks: Headers = ((names.INDEX_HEADER, index),) if index else ()
    if response.raw is not None:
        kind = ("content-type", response.raw_content_type)
        return HTTPResponse(
            status=response.status or 200, headers=(kind, *marks), body=response.raw
        )
    is_empty = response.data is None and response.auth is None
    if is_empty and not response.warnings and not response.lease_id:
        if response.status is not None:
            return error_answer(response.status)
        return no_content(marks)
    body = envelope_body(
        request_id=request_id,
        data=response.data,
        lease_id=response.lease_id,
        renewable=response.renewable,
        lease_duration=response.lease_duration,
        warnings=response.warnings,
        auth=_auth_fields(response.auth) if response.auth else None,
        top_level=response.top_level,
        pause=pause,
    )
    return HTTPResponse(status=response.status or 200, headers=(JSON_TYPE, *marks), body=body)


def _operation(request: HTTPRequest, query: dict[str, str]) -> Operation:
    """Return what is asked; ``help``, or a ``list`` or ``scan`` that is obeyed, is no field."""
    if query.pop("help", ""):
        return Operation.HELP
    if request.method == "OPTIONS":
        raise InvalidRequest("cannot handle internal-only request operation")
    operation = _OPERATIONS.get(request.method)
    if operation is None:
        raise RequestError(status=405)
    if operation is not Operation.READ:
        return operation
    listing = wanted_listing(request.query)
    if not listing:
        return Operation.READ
    del query[listing]
    return Operation.SCAN if listing == "scan" else Operation.LIST


def _require_merge_patch(content_type: str) -> None:
    if not content_type:
        raise InvalidRequest("mime: no media type")
    if len(content_type) > _CONTENT_TYPE_CHARS_MAX:
        raise InvalidRequest("mime: invalid media parameter")
    match = _MEDIA_TYPE.match(content_type)
    if match is None or not _has_parameters(content_type, match.end()):
        raise InvalidRequest("mime: invalid media parameter")
    if (media_type := match.group().lower()) != _MERGE_PATCH:
        raise RequestError(
            f"PATCH requires Content-Type of {_MERGE_PATCH}, provided {media_type}", status=415
        )


def _has_parameters(content_type: str, at: int) -> bool:
    """Return whether the rest of a content type is parameters and nothing else."""
    while (parameter := _PARAMETER.match(content_type, at)) is not None:
        at = parameter.end()
    return _PARAMETERS_END.fullmatch(content_type, at) is not None


def _wrap_ttl_s(text: str) -> float:
    try:
        ttl_ns = parse_duration_ns(text)
    except DurationError as exc:
        raise InvalidRequest(f"error parsing X-Vault-Wrap-TTL header: {exc}") from exc
    if ttl_ns < 0:
        raise InvalidRequest(
            "error parsing X-Vault-Wrap-TTL header: requested wrap ttl cannot be negative"
        )
    return ttl_ns / SECOND_NS


def _is_form(request: HTTPRequest) -> bool:
    # Some clients post JSON with their library's default content type.
    if request.body[:_FIRST_BYTES].lstrip()[:1] in (b"{", b"["):
        return False
    content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    return content_type == _FORM


def _go_on() -> None:
    return


def _decode_json(body: bytes, pause: Pause) -> dict[str, Any]:
    return decode_object(body, pause=pause)


def _decode_form(body: bytes, pause: Pause) -> dict[str, Any]:
    return dict(parse_form(body, pause))


def _index(status: NodeStatus) -> str:
    """
    Return the consistency token of an answer: cluster and epoch.

    Every read is the active node's own, so any token is satisfied; clients pass it around unread.
    """
    if not status.ha_enabled or not status.cluster_id:
        return ""
    token = {"cluster": status.cluster_id, "value": str(status.epoch)}
    return base64.b64encode(json.dumps(token, separators=(",", ":")).encode()).decode()


def _auth_fields(auth: Auth) -> Mapping[str, Any]:
    return Fields(
        client_token=auth.client_token,
        accessor=auth.accessor,
        policies=auth.policies,
        token_policies=auth.token_policies,
        metadata=auth.metadata,
        lease_duration=auth.lease_duration,
        renewable=auth.renewable,
        entity_id=auth.entity_id,
        token_type=auth.token_type,
        orphan=auth.orphan,
        mfa_requirement=None,
        num_uses=auth.num_uses,
    )
