"""
The endpoints that every node answers itself, from memory: never forwarded, never blocked.

Rules of this file:

1. Nothing here waits for a lock, a store or another node, except init, unseal and seal, which wait
   for exactly what they do.
2. One request is answered from one ``NodeStatus``.
3. A stranger may ask all of this, so a body is no larger than its endpoint can need; it is judged
   before it is read.

Source: docs/spec/openbao-ha.md sections 5.1, 5.2 and 5.4, and what OpenBao answered
(tests/conformance/test_http_api.py). ``sys/ha/...`` and the two HA fields of ``sys/health`` are
ours (docs/divergence.md).
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from baoha import names
from baoha.api.answers import error_answer, json_answer, no_content
from baoha.api.logical import decode_body, decoded, token_of, wants_help
from baoha.api.operator_input import init_parameters, unseal_input
from baoha.api.paths import API_PREFIX
from baoha.api.query import parse_bool, parse_query
from baoha.api.standby_policy import SEALED_TEXT
from baoha.core.view import LinkState, NodeStatus, NodeView, Role, SealStatus
from baoha.diagnostics.codes.health import SAID_IN_HEALTH
from baoha.errors import InvalidRequest, RequestError
from baoha.sansio.durations import format_timestamp
from baoha.sansio.formats.json_encoder import Fields
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse

# What answers from memory is a plain function: it cannot wait.
Answerer = Callable[[NodeView, HTTPRequest], HTTPResponse]
Handler = Callable[[NodeView, HTTPRequest], Awaitable[HTTPResponse]]

_WRITE: Final = frozenset({"PUT", "POST"})
_SAID_IN_HEALTH: Final = tuple(f"{code} " for code in SAID_IN_HEALTH)
_CODE: Final = re.compile("[+-]?[0-9]{1,18}")
_CODES: Final = range(200, 1000)  # what HTTP allows for a final answer
# A share of a key is 66 characters, and 1,024 are read; there is nothing else of any length.
_BODY_BYTES_MAX: Final = 4 * 1024
# Of what has a body by nature: PGP keys of five shares, certificates of a raft leader.
_BODIES_BYTES_MAX: Final[Mapping[str, int]] = {
    "sys/init": 16 * 1024,
    "sys/storage/raft/join": 16 * 1024,
}
# Answered elsewhere, also to who has no token; none of them has a body that is looked at.
_OTHERS_WITHOUT_TOKEN: Final = ("sys/rekey/", "sys/generate-root/", "sys/internal/ui/mounts")


def body_bytes_max(path: str) -> float:
    """
    Return how large a body an endpoint without a token can need; infinite for all others.

    Args:
        path: without ``/v1/``.
    """
    if path in _METHODS or path.startswith(_OTHERS_WITHOUT_TOKEN):
        return _BODIES_BYTES_MAX.get(path, _BODY_BYTES_MAX)
    return math.inf


async def serve_local(view: NodeView, request: HTTPRequest) -> HTTPResponse | None:
    """
    Answer a request that every node answers itself, whatever its role; None: it is no such request.

    Raises:
        BaohaError: as ``NodeView.initialize``, ``unseal`` and ``seal``.
    """
    path, method = request.path.removeprefix(API_PREFIX), request.method
    if path not in _METHODS or wants_help(request):
        return None
    if method not in _METHODS[path]:
        return error_answer(405)
    answerer = _ANSWERERS.get((path, method))
    if answerer is not None:
        return answerer(view, request)
    return await _HANDLERS[path](view, request)


# --- sys/health ---------------------------------------------------------------------------------


def _health(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    status = view.status()
    try:
        code = _health_code(status, parse_query(request.query))
    except InvalidRequest:
        # HEAD and a bad parameter: OpenBao sends no content type here.
        return HTTPResponse(status=400) if request.method == "HEAD" else error_answer(400)
    body = _health_body(status)
    body |= _store_problems(view)
    answer = json_answer(code, body)
    return answer if request.method == "GET" else replace(answer, body=b"")


def _health_code(status: NodeStatus, query: Mapping[str, list[str]]) -> int:
    codes = {
        name: _code(query[name][0]) if name in query else default
        for name, default in _DEFAULT_CODES.items()
    }
    standby_ok = query.get("standbyok", [""])[0]
    if standby_ok and parse_bool(standby_ok):
        codes["standbycode"] = codes["activecode"]
    if not status.initialized:
        code = codes["uninitcode"]
    elif status.sealed:
        code = codes["sealedcode"]
    elif status.role is Role.ACTIVE:
        code = codes["activecode"]
    elif "haunhealthycode" in query and not _has_usable_leader(status):
        code = codes["haunhealthycode"]
    else:
        code = codes["standbycode"]
    if code not in _CODES:
        raise InvalidRequest
    return code


_DEFAULT_CODES: Final = {
    "activecode": 200,
    "standbycode": 429,
    "sealedcode": 503,
    "uninitcode": 501,
    "haunhealthycode": 474,  # Vault's; used only when the client names the parameter
}


def _code(text: str) -> int:
    if not _CODE.fullmatch(text):
        raise InvalidRequest
    return int(text)


def _health_body(status: NodeStatus) -> Fields:
    performance, recovery = _replication_modes(status)
    body = Fields(
        initialized=status.initialized,
        sealed=status.sealed,
        standby=status.role is not Role.ACTIVE,
        replication_performance_mode=performance,
        replication_dr_mode=recovery,
        server_time_utc=int(datetime.now(UTC).timestamp()),
        version=names.API_VERSION,
    )
    body |= _cluster_fields(status)
    if status.role is Role.STANDBY and not _has_usable_leader(status):
        # OpenBao's body stays as it is while all is well; a blind standby says so.
        body["leader_known"] = _known_leader(status)
        body["ha_connection_healthy"] = False
    return body


def _store_problems(view: NodeView) -> Fields:
    """What keeps this node from its store: while nobody is active, nobody answers ha-status."""
    found = [text for text in view.problems() if text.startswith(_SAID_IN_HEALTH)]
    return Fields(problems=found) if found else Fields()


def _replication_modes(status: NodeStatus) -> tuple[str, str]:
    """Return OpenBao's two mode words; a standby knows them from its channel to the active node."""
    if status.sealed or (status.ha_enabled and status.role is not Role.ACTIVE):
        is_known = not status.sealed and status.link is LinkState.UP
        return ("primary", "disabled") if is_known else ("unknown", "unknown")
    return ("primary" if status.ha_enabled else "disabled"), "disabled"


def _cluster_fields(status: NodeStatus) -> Fields:
    if status.sealed:
        return Fields()
    fields = Fields(cluster_name=status.cluster_name, cluster_id=status.cluster_id)
    return Fields((key, value) for key, value in fields.items() if value)


# --- sys/leader ---------------------------------------------------------------------------------


def _leader(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    status = view.status()
    if status.sealed and status.ha_enabled:
        return error_answer(503, SEALED_TEXT)
    return json_answer(200, _leader_body(status))


def _leader_body(status: NodeStatus) -> Fields:
    if not status.ha_enabled:
        return Fields(ha_enabled=False)
    is_self = status.role is Role.ACTIVE
    body = Fields(ha_enabled=True, is_self=is_self)
    if is_self:
        if status.active_since is not None:
            body["active_time"] = format_timestamp(status.active_since)
        body["leader_address"] = status.api_addr
        # As advertised: "" while the cluster port cannot be bound.
        cluster_addr = status.leader.cluster_addr if status.leader else status.cluster_addr
    elif status.leader is not None and _known_leader(status):
        body["leader_address"] = status.leader.redirect_addr
        cluster_addr = status.leader.cluster_addr
    else:
        return body
    if cluster_addr:
        body["leader_cluster_address"] = cluster_addr
    return body


def _known_leader(status: NodeStatus) -> bool:
    leader = status.leader
    return leader is not None and not leader.is_dead and not leader.is_self


def _has_usable_leader(status: NodeStatus) -> bool:
    """Return whether a standby can get a request executed now: by forwarding or a redirect."""
    leader = status.leader
    if leader is None or not _known_leader(status) or status.leader_changing:
        return False
    if status.forwarding_enabled and leader.cluster_addr:
        return status.link is LinkState.UP
    return bool(leader.redirect_addr)


# --- sys/ha/... ---------------------------------------------------------------------------------


def _is_ready(status: NodeStatus) -> bool:
    if status.sealed or status.stopping:
        return False
    if status.role is Role.ACTIVE:
        return not status.store_problem
    # A standby whose own store does not answer still forwards.
    return _has_usable_leader(status)


_QUESTIONS: Final[Mapping[str, Callable[[NodeStatus], bool]]] = {
    "active": lambda status: status.role is Role.ACTIVE,
    "standby": lambda status: status.role is Role.STANDBY,
    "ready": _is_ready,
    "live": lambda status: True,
    "leader": lambda status: (
        not status.sealed and (status.role is Role.ACTIVE or _known_leader(status))
    ),
}


def _ha_question(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    """Answer one question with 200 (yes) or 503 (no), for load balancers and probes."""
    status = view.status()
    question = request.path.removeprefix(f"{API_PREFIX}sys/ha/")
    answer = _QUESTIONS[question](status)
    body = Fields({question: answer}, role=status.role.value)
    if question == "live":
        body["software"] = names.SOFTWARE  # the one answer that other servers do not give
    if status.role is Role.STANDBY:
        body["link"] = status.link.value
    return json_answer(200 if answer else 503, body)


# --- the seal -----------------------------------------------------------------------------------


def _seal_status(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    return json_answer(200, _seal_body(view.seal_status(), view.status()))


def _seal_body(seal: SealStatus, status: NodeStatus) -> Fields:
    body = Fields(
        type=seal.type,
        initialized=seal.initialized,
        sealed=seal.sealed,
        t=seal.threshold,
        n=seal.shares,
        progress=seal.progress,
        nonce=seal.nonce,
        recovery_seal=seal.recovery_seal,
    )
    if seal.recovery_seal_type:
        body["recovery_seal_type"] = seal.recovery_seal_type
    body |= Fields(
        version=names.API_VERSION, commit_date=names.API_COMMIT_DATE, migration=seal.migration
    )
    body |= _cluster_fields(status)
    body["storage_type"] = status.storage_type
    return body


def _initialized(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    return json_answer(200, Fields(initialized=view.status().initialized))


async def _init(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    seal_type = view.seal_status().type
    parameters = await decoded(
        lambda body, pause: init_parameters(body, pause, seal_type=seal_type), request.body
    )
    result = await view.initialize(parameters)
    body = Fields(
        keys=[share.hex() for share in result.shares],
        keys_base64=[_base64(share) for share in result.shares],
    )
    if result.recovery_shares:
        body["recovery_keys"] = [share.hex() for share in result.recovery_shares]
        body["recovery_keys_base64"] = [_base64(share) for share in result.recovery_shares]
    body["root_token"] = result.root_token
    return json_answer(200, body)


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


async def _unseal(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    given = await decoded(unseal_input, request.body)
    if given.migrate:
        raise RequestError("can't perform a seal migration, no migration seal found", status=500)
    seal = await view.unseal(given.share, reset=given.reset)
    return json_answer(200, _seal_body(seal, view.status()))


async def _seal(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    await decode_body(request)
    status = view.status()
    if not status.sealed:
        if status.role is not Role.ACTIVE:
            raise RequestError(
                "vault cannot seal when in standby mode; please restart instead", status=500
            )
        with view.admit():
            await view.require_sudo(token_of(request), "sys/seal")
        await view.seal()
    return no_content()


async def _raft_join(view: NodeView, request: HTTPRequest) -> HTTPResponse:
    await decode_body(request)
    return error_answer(500, "raft backend not in use")


_ANSWERERS: Final[Mapping[tuple[str, str], Answerer]] = {
    ("sys/health", "GET"): _health,
    ("sys/health", "HEAD"): _health,
    ("sys/init", "GET"): _initialized,
    ("sys/leader", "GET"): _leader,
    ("sys/seal-status", "GET"): _seal_status,
    **{
        (f"sys/ha/{question}", method): _ha_question
        for question in _QUESTIONS
        for method in ("GET", "HEAD")
    },
}
_HANDLERS: Final[Mapping[str, Handler]] = {
    "sys/init": _init,
    "sys/seal": _seal,
    "sys/storage/raft/join": _raft_join,
    "sys/unseal": _unseal,
}
_METHODS: Final[Mapping[str, frozenset[str]]] = {
    path: frozenset(method for known, method in _ANSWERERS if known == path)
    | (_WRITE if path in _HANDLERS else frozenset())
    for path in {*_HANDLERS, *(path for path, _ in _ANSWERERS)}
}
# Without ``/v1/``: every node answers requests for them itself, unless for help.
LOCAL_PATHS: Final = _METHODS.keys()
